"""`eager-lmeval demo`: the harness's own command once a strategy, one table of what it wrote, and one picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eager_lmeval.commands.curve import CurvePoint, save_curve
from eager_lmeval.commands.demo import DESIGNS
from eager_lmeval.errors import UsageError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow  # five evaluations through the harness's command line
def test_the_demo_prints_a_line_and_a_row_a_strategy_and_keeps_the_results_and_a_log(tmp_path: Path):
    command = [sys.executable, "-m", "eager_lmeval.commands.cli", "demo", "--limit", "4", "--max_sequences", "4"]
    done = subprocess.run([*command, "--output_path", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sum("tokens in" in line for line in done.stdout.splitlines()) == len(DESIGNS)
    log = (tmp_path / "lm_eval.log").read_text(encoding="utf-8")
    tables = log.split("|eager_demo|")[1:]
    assert len(tables) == len(DESIGNS)
    assert all("\neager_demo: " in table for table in tables), "how it was made stands below each table"
    assert "Stderr" not in done.stdout, "the harness's tables are in the log"
    lines = [line.split() for line in done.stdout[done.stdout.rindex("branching") :].splitlines()]
    rows = {(words[1], words[2]): words[-1] for words in lines if words and words[0] == "4"}
    assert list(rows) == [(design.strategy, design.branching or "–") for design in DESIGNS]
    assert {design for design, labels_used in rows.items() if labels_used == "yes"} == {("eager", "top2")}
    for design in DESIGNS:
        assert len(list((tmp_path / f"{design.folder}_M4").rglob("samples_eager_demo_*.jsonl"))) == 1
    picture = Path(done.stdout.splitlines()[-1].rpartition(": ")[2])
    assert picture.read_bytes().startswith(PNG)


def points() -> list[CurvePoint]:
    return [
        CurvePoint("parallel", "", 4, 50_000, 0.8, 0.6, 0.5, False),
        CurvePoint("parallel", "", 8, 100_000, 0.9, 0.7, 0.5, False),
        CurvePoint("eager", "top2", 8, 100_000, 0.9, 0.7, 0.5, True),
    ]


def test_the_picture_is_a_png_whose_lines_join_the_runs_that_differ_in_m_alone(tmp_path: Path):
    save_curve(points(), "a title", tmp_path / "new" / "curve.png")
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(PNG)
    assert [point.name for point in points()] == ["parallel", "parallel", "eager, top2 (labels used)"]


def test_a_picture_that_cannot_be_written_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write"):
        save_curve(points(), "a title", tmp_path / "file" / "curve.png")
