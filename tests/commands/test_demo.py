"""`eager-lmeval demo`: the harness's own command once a strategy, and one table of what it wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eager_lmeval.commands.demo import STRATEGIES


@pytest.mark.slow  # four evaluations through the harness's command line
def test_the_demo_prints_a_line_and_a_row_a_strategy_and_keeps_the_results_and_a_log(tmp_path: Path):
    command = [sys.executable, "-m", "eager_lmeval.commands.cli", "demo", "--limit", "4", "--max_sequences", "4"]
    done = subprocess.run([*command, "--output_path", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(STRATEGIES)]] == list(STRATEGIES)
    assert (tmp_path / "lm_eval.log").read_text(encoding="utf-8").count("|eager_demo|") == len(STRATEGIES)
    table = done.stdout[done.stdout.index("eager_demo at M = 4") :]
    rows = {line.split()[0]: line for line in table.splitlines() if line.split() and line.split()[0] in STRATEGIES}
    assert set(rows) == set(STRATEGIES)
    assert "yes" in rows["eager"]
    assert not any("yes" in rows[strategy] for strategy in STRATEGIES if strategy != "eager")
    assert "Stderr" not in done.stdout, "the harness's tables are in the log"
    for strategy in STRATEGIES:
        assert len(list((tmp_path / strategy).rglob("samples_eager_demo_*.jsonl"))) == 1
