"""`eager-lmeval demo`: an evaluation a strategy on one model, one table of what they wrote, and pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import light_harness

from eager_lmeval.commands.demo import DESIGNS


def test_the_demo_prints_a_line_and_a_row_a_strategy_and_keeps_the_results_and_a_log(tmp_path: Path):
    code = "import light_harness as light; light.lighten(); from eager_lmeval.commands.cli import main; exit(main())"
    command = [sys.executable, "-c", code, "demo", "--limit", "4", "--max_sequences", "4", "--output_path", tmp_path]
    done = subprocess.run(command, env=light_harness.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == "", "what libraries say is in the log"
    assert sum("tokens in" in line for line in done.stdout.splitlines()) == len(DESIGNS)
    log = (tmp_path / "lm_eval.log").read_text(encoding="utf-8")
    assert log.count("$ lm_eval run --model eager") == len(DESIGNS)
    lines = [line.split() for line in done.stdout[done.stdout.rindex("branching") :].splitlines()]
    rows = {(words[1], words[2]): words[-1] for words in lines if words and words[0] in ("4", "16")}
    assert list(rows) == [(design["strategy"], design.get("branching", "–")) for design in DESIGNS]
    assert [words[1] for words in lines if words and words[0] == "16"] == ["consistency"], "a race of 4 cuts nothing"
    assert "of the tokens of 16" in done.stdout
    assert {design for design, labels_used in rows.items() if labels_used == "yes"} == {("eager", "top2")}
    assert len(list(tmp_path.rglob("samples_eager_demo_*.jsonl"))) == len(DESIGNS)
    for picture in done.stdout.splitlines()[-1].partition(": ")[2].split(", "):
        drawn = ET.fromstring(Path(picture).read_text(encoding="utf-8"))
        assert len(drawn.findall(".//{http://www.w3.org/2000/svg}g[@class]")) >= len(DESIGNS)
