"""Two error bars in every table: of documents like these, and of these documents alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from run_files import OPTIONS, write_run

from eager_lmeval.commands.cli import main
from eager_lmeval.scores.figures import metrics
from eager_lmeval.scores.rules import PLAIN
from eager_lmeval.scores.stats import standard_error
from eager_lmeval.task import EagerTask

RATES = [1.0, 0.5, 0.25, 0.75, 0.5, 0.0] * 10
SPREADS = [rate * (1 - rate) / 7 for rate in RATES]
"""Of eight draws each."""
OVER_DOCUMENTS = 100 * 1.959964 * standard_error(RATES)
EXACT = 1.959964 * math.sqrt(sum(SPREADS)) / 60


def drawn(folder: Path, **more: object) -> Path:
    values = {"pass_rate_w": RATES, "pass_rate_w_stderr_sampling": SPREADS, "cons_w@max": [1.0] * 60}
    return write_run(folder, values, **more)  # type: ignore[arg-type]


def test_the_leaderboard_has_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = write_run(tmp_path / "tree", {"pass_rate_w": RATES, "cons_w@max": [1.0] * 60}, model="tree")
    assert main(["leaderboard", str(drawn(tmp_path / "drawn")), str(tree)]) == 0
    printed = capsys.readouterr().out
    over_documents = f"50.0 ± {OVER_DOCUMENTS:.1f}"
    assert f"{over_documents} (± {100 * EXACT:.1f})" in printed
    assert f"{over_documents} (≤ {OVER_DOCUMENTS:.1f})" in printed, "one tree does not tell"


def test_several_seeds_tell_how_much_a_tree_varies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [[0.0, 1.0] * 30, [1.0, 1.0] * 30]
    for seed, rates in enumerate(seeds):
        folder = write_run(
            tmp_path / str(seed), {"pass_rate_w": rates, "cons_w@max": rates}, options={**OPTIONS, "seed": seed}
        )
        (file,) = folder.glob("*/results_*.json")
        file.write_text(file.read_text().replace('"model_args": {}', f'"model_args": {{}}, "torch_seed": {seed}'))
    assert main(["leaderboard", str(tmp_path)]) == 0
    # of 30 documents the two seeds differ by 1, a variance of 1/2 a run and of 1/4 of their mean
    assert f"(± {100 * 1.959964 * math.sqrt(30 / 4) / 60:.1f})" in capsys.readouterr().out


def test_the_report_has_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(drawn(tmp_path)), "--format", "markdown"]) == 0
    assert f"\\] ± {EXACT:.3f} |" in capsys.readouterr().out


def test_compare_has_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(drawn(tmp_path / name)) for name in ("a", "b")]
    assert main(["compare", *runs, "--markdown", "-"]) == 0
    assert f"| ± {math.sqrt(2) * EXACT:.3f} |" in capsys.readouterr().out, "the variances of both runs add up"


def test_a_table_of_few_documents_has_the_bound_where_these_do_not_tell() -> None:
    task = EagerTask.__new__(EagerTask)
    task._figures, task._listed, task._variant = {}, [], "none"
    task._metrics = table = metrics(PLAIN)
    draws = [(1.0, 0.0), (0.75, 0.0625), (0.5, 1 / 12), (1.0, 0.0), (1.0, 0.0), (0.0, 0.0)]
    documents = [
        {"pass_rate": rate, "pass_rate_stderr": rate, "pass_rate_stderr_sampling": spread} for rate, spread in draws
    ]
    error = task._aggregate(table["pass_rate_stderr"], documents)
    assert task._aggregate(table["pass_rate_stderr_sampling"], documents) == error > 0


def test_seconds_of_devices_are_shown_and_a_price_turns_them_into_money(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = drawn(tmp_path)
    (file,) = folder.glob("*/results_*.json")
    file.write_text(file.read_text().replace('"seconds": 1.0', '"seconds": 90.0, "device_seconds": 360.0'))
    assert main(["leaderboard", str(folder), "--price-per-hour", "3", "--format", "markdown"]) == 0
    assert "| 6 | 0.005 |" in capsys.readouterr().out, "360 s of 60 documents, 1/10 of an hour for 3"
    assert main(["report", str(folder), "--price-per-hour", "3", "--format", "markdown"]) == 0
    assert "| 90.0 | 360.0 | 0.3 |" in capsys.readouterr().out
    assert main(["report", str(folder), "--price-per-hour", "3", "-o", str(tmp_path / "page.html")]) == 0
    assert "360.0 of devices, cost 0.3" in (tmp_path / "page.html").read_text(encoding="utf-8")
