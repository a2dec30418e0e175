"""Answers without a verdict are not wrong: where they could move what a gate says, that is inconclusive."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from run_files import write_run
from tracked import BASE, TOKENS, Tracked

from eager_lmeval.commands.cli import main

NAN = math.nan
LIMIT = ("--max-drop", "pass@max=0.05")


def scored(scores: Sequence[float], unscored: int) -> dict[str, Sequence[float]]:
    """The columns of a run whose verifier came to no verdict on the first documents."""
    rest = list(scores)[unscored:]
    return {
        "pass@max": [NAN] * unscored + rest,
        "pass@max_if_right": [1.0] * unscored + rest,
        "unscored": [1.0] * unscored + [0.0] * len(rest),
        "tokens": list(TOKENS),
    }


def runs(folder: Path, baseline: Mapping[str, Sequence[float]], candidate: Mapping[str, Sequence[float]]) -> list[str]:
    return [str(write_run(folder / name, of)) for name, of in (("baseline", baseline), ("candidate", candidate))]


def compared(paths: list[str], file: Path, *more: str) -> tuple[int, dict[str, object]]:
    status = main(["compare", *paths, *more, "--json", str(file)])
    return status, json.loads(file.read_text())


def test_a_pass_that_unscored_documents_could_undo_is_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = compared(runs(tmp_path / "few", scored(BASE, 0), scored(BASE, 1)), tmp_path / "a.json", *LIMIT)
    assert status == 0, "one of 200 moves nothing"
    capsys.readouterr()
    paths = runs(tmp_path / "many", scored(BASE, 0), scored(BASE, 40))
    status, found = compared(paths, tmp_path / "b.json", *LIMIT)
    assert status == 3
    printed = capsys.readouterr().out
    assert "40 documents hang on answers without a verdict" in printed
    assert "unscored" in found["tasks"]["toy_task"]["metrics"], "and they are counted apart"  # type: ignore[index]


def test_a_regression_stands_where_the_unscored_cannot_undo_it(tmp_path: Path) -> None:
    worse = [0.0] * 150 + list(BASE)[150:]
    assert compared(runs(tmp_path, scored(BASE, 0), scored(worse, 3)), tmp_path / "a.json", *LIMIT)[0] == 1


def test_a_run_in_which_all_is_scored_has_no_line_for_it(tmp_path: Path) -> None:
    _, found = compared(runs(tmp_path, scored(BASE, 0), scored(BASE, 0)), tmp_path / "a.json")
    assert list(found["tasks"]["toy_task"]["metrics"]) == ["pass@max", "tokens"]  # type: ignore[index]


def test_a_history_keeps_what_hangs_on_them(tmp_path: Path) -> None:
    track = Tracked(tmp_path)
    for place, columns in enumerate((scored(BASE, 0), scored(BASE, 40))):
        folder = write_run(tmp_path / f"run{place}", columns, stamp=f"2026-01-0{place + 1}T00-00-00.000001")
        file = next(folder.rglob("results_*.json"))
        file.write_text(json.dumps(json.loads(file.read_text()) | {"date": 86400.0 * (place + 1)}))
        assert track("add", folder) == 0
        if not place:
            assert track("bless", folder) == 0
    status, found = track.checked(*LIMIT)
    assert status == 1, "so many without a verdict is worse than chance explains"
    (check,) = found["checks"]
    assert check["verdict"] == "inconclusive"
    assert any("unscored moved by" in line["message"] for line in found["findings"] if line["verdict"] == "regression")
    assert not any(flip["metric"] != "pass@max" for flip in found["flips"])


def test_a_leaderboard_tells_no_rows_apart_that_the_unscored_could_turn_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(name: str, rate: float, unscored: int) -> str:
        count = 400
        right = int(rate * (count - unscored))
        values = [NAN] * unscored + [1.0] * right + [0.0] * (count - unscored - right)
        best = [1.0] * unscored + values[unscored:]
        columns = {"pass_rate_w": values, "pass_rate_w_if_right": best, "cons_w@max": values}
        return str(write_run(tmp_path / name, columns, model=name))

    def ties(*paths: str) -> list[str]:
        assert main(["leaderboard", *paths, "--format", "csv"]) == 0
        return [line.split(",")[0] + "-" + line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]]

    assert ties(made("high", 0.8, 0), made("low", 0.7, 0)) == ["1-1", "2-2"]
    assert ties(made("high", 0.8, 0), made("doubtful", 0.7, 120)) == ["1-2", "1-2"]
    assert main(["leaderboard", str(tmp_path / "doubtful")]) == 0
    assert "49.0 if all answers without a verdict are wrong, 79.0 if all are right" in capsys.readouterr().out


def test_a_report_counts_them_and_shows_the_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, scored([1.0, 0.0] * 100, 50))
    assert main(["report", str(run), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert "without verdict 0.375 to 0.625" in printed
    assert "| n | unscored |" in printed
