"""`eager-lmeval leaderboard` on files of made-up runs: ranks, ties, what is refused, and the formats."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import OPTIONS, results_file, write_run

from eager_lmeval.commands.cli import main

DOCUMENTS = 200


def made(folder: Path, name: str, share: float, **options: Any) -> Path:
    """A run of a model that solves the first ``share`` of the documents' samples."""
    rng = np.random.default_rng(5)
    hardness = rng.random(DOCUMENTS)
    scores = np.clip(np.round(4 * (share + 0.5 - hardness)) / 4, 0, 1)
    return write_run(
        folder / name,
        {
            "pass_rate_w": scores.tolist(),
            "cons_w@max": (scores > 0.5).astype(float).tolist(),
            "tokens": [100.0] * DOCUMENTS,
        },
        model=name,
        **options,
    )


def board(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, str]]:
    assert main(["leaderboard", *map(str, arguments), "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_rows_are_ranked_and_those_that_the_documents_cannot_tell_apart_share_their_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [made(tmp_path, "low", 0.2), made(tmp_path, "best", 0.7), made(tmp_path, "near", 0.6995)]
    rows = board(capsys, *runs)
    assert [row["model"] for row in rows] == ["best", "near", "low"]
    assert [(row["rank_best"], row["rank_worst"]) for row in rows] == [("1", "2"), ("1", "2"), ("3", "3")]
    assert [row["ties_with_best"] for row in rows] == ["True", "True", "False"]
    assert all(row["tokens_per_document"] == "100" for row in rows)


def test_a_row_has_its_average_its_interval_and_its_vote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = board(capsys, write_run(tmp_path / "a", {"pass_rate_w": [1.0, 0.0], "cons_w@max": [1.0, 1.0]}))
    assert (float(row["avg"]), float(row["vote"]), row["tokens_per_document"]) == (0.5, 1.0, "")
    assert float(row["half_width"]) == pytest.approx(1.959964 * 0.5, rel=1e-5)


def test_seeds_of_one_model_are_one_row_and_a_seed_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(seed: int, score: float, stamp: str) -> Path:
        values = {"pass_rate_w": [score, score], "cons_w@max": [1.0, 0.0]}
        folder = write_run(tmp_path / stamp, values, options={**OPTIONS, "seed": seed}, stamp=stamp)
        (file,) = folder.glob("*/results_*.json")
        file.write_text(file.read_text().replace('"model_args": {}', f'"model_args": {{}}, "torch_seed": {seed}'))
        return folder

    runs = [run(1, 0.0, "2026-01-01T00-00-00"), run(1, 1.0, "2026-01-02T00-00-00"), run(2, 0.5, "2026-01-03T00-00-00")]
    (row,) = board(capsys, *runs)
    assert (row["seeds"], float(row["avg"])) == ("2", 0.75)


def test_rows_made_with_labels_stand_apart_and_have_no_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made(tmp_path, "fair", 0.3), made(tmp_path, "told", 0.9, labels_used=True)]
    rows = board(capsys, *runs)
    assert [(row["model"], row["rank_best"], row["labels_used"]) for row in rows] == [
        ("fair", "1", "False"),
        ("told", "", "True"),
    ]
    assert main(["leaderboard", *map(str, runs)]) == 0
    shown = capsys.readouterr().out
    assert shown.index("fair") < shown.index("upper bound") < shown.index("told")


DIFFERENT: dict[str, dict[str, Any]] = {
    "task version is 1.0 in one and 2.0 in the marked row": {"version": 2.0},
    "temperature is 0.8 in one and 0.1 in the marked row": {"options": {**OPTIONS, "temperature": 0.1}},
    "the prompts of 200 of 200 shared documents are others in the marked row than in one": {
        "questions": [f"Add 1 to {number}." for number in range(DOCUMENTS)]
    },
    "one and the marked row have only 197 documents in common": {"first_document": 3},
}


@pytest.mark.parametrize("said", DIFFERENT)
def test_runs_made_otherwise_are_refused_or_marked_in_the_table(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made(tmp_path, "one", 0.5)), str(made(tmp_path, "two", 0.6, **DIFFERENT[said]))]
    assert main(["leaderboard", *runs]) == 2
    assert said in capsys.readouterr().err
    assert main(["leaderboard", *runs, "--allow-different", "--format", "markdown"]) == 0
    table = capsys.readouterr().out
    assert "two \\[1\\]" in table
    assert said in table.replace("\\", "")


def test_a_chat_template_of_its_own_is_remarked_once_and_not_as_other_prompts_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = DIFFERENT["the prompts of 200 of 200 shared documents are others in the marked row than in one"]
    runs = [made(tmp_path, "one", 0.5), made(tmp_path, "two", 0.6, **questions)]
    for run, template in zip(runs, ("a", "b"), strict=True):
        results = json.loads(results_file(run).read_text())
        results_file(run).write_text(json.dumps(results | {"chat_template_sha": template}))
    assert main(["leaderboard", *map(str, runs)]) == 0
    table = capsys.readouterr().out
    assert "prompts differ by it" in table
    assert "shared documents" not in table


def test_strategies_may_be_compared_without_a_remark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parallel = {**OPTIONS, "strategy": "parallel", "branching": "systematic"}
    runs = [made(tmp_path, "a", 0.5), made(tmp_path, "b", 0.6, options=parallel)]
    found = [(row["method"], row["remarks"]) for row in board(capsys, *runs)]
    assert found == [("parallel", ""), ("init top2 θ=0.5", "")]


def test_a_row_without_one_of_the_tasks_is_not_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made(tmp_path, "one", 0.5), made(tmp_path, "other", 0.6, task="another_task")]
    assert {row["rank_best"] for row in board(capsys, *runs)} == {""}


def test_a_model_without_trees_is_ranked_by_the_metric_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "a", {"exact_match": [1.0, 0.0, 1.0]}, eager=False)
    assert main(["leaderboard", str(run)]) == 2
    assert "--metric, such as exact_match" in capsys.readouterr().err
    (row,) = board(capsys, run, "--metric", "exact_match")
    assert (float(row["exact_match"]), row["n"]) == (pytest.approx(2 / 3, rel=1e-5), "")


def test_names_that_mean_something_to_a_format_are_only_text_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made(tmp_path, "toy", 0.5, model_name="=1+1|<b>&_50%")
    shown = {}
    for name in ("markdown", "csv", "latex", "html"):
        output = tmp_path / f"board.{name}"
        assert main(["leaderboard", str(run), "--format", name, "-o", str(output)]) == 0
        shown[name] = output.read_text(encoding="utf-8")
    assert "=1+1\\|\\<b\\>\\&\\_50%" in shown["markdown"]
    assert ",'=1+1|<b>&_50%," in shown["csv"]
    assert r"=1+1|<b>\&\_50\%" in shown["latex"]
    assert "=1+1|&lt;b&gt;&amp;_50%" in shown["html"]
    assert "<script" not in shown["html"]
