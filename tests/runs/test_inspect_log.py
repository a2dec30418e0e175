"""Logs of Inspect are read as runs: by `compare`, `track`, `leaderboard` and `report`, and back from our own export."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from run_files import tree_record, write_run

from eager_lmeval.commands.cli import main
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.documents import columns
from eager_lmeval.runs.run import find_run, find_runs

NAME = "2026-01-02T03-04-05+00-00_sums_abc"


def sample(number: int, epoch: int, value: Any, scorer: str = "match") -> dict[str, Any]:
    scores = None if value is None else {scorer: {"value": value, "answer": "5"}}
    message = {"role": "assistant", "content": [{"type": "text", "text": f"answer {epoch}"}]}
    return {
        "id": f"sum-{number}",
        "epoch": epoch,
        "input": [{"role": "user", "content": f"What is {number} plus 1?"}],
        "target": str(number + 1),
        "scores": scores,
        "output": {"choices": [{"message": message}], "usage": {"output_tokens": 7}},
    }


def header(**more: Any) -> dict[str, Any]:
    about = {"task": "sums", "model": "openai/some", "created": "2026-01-02T03:04:05+00:00"}
    return {"version": 2, "status": "success", "eval": about, **more}


def write_eval(folder: Path, samples: Sequence[dict[str, Any]], **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{NAME}.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        archive.writestr("header.json", json.dumps(header(**more)))
    return path


def write_json(folder: Path, samples: Sequence[dict[str, Any]], **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(header(**more) | {"samples": list(samples)}, indent=2))
    return path


@pytest.mark.parametrize("write", [write_eval, write_json])
def test_a_document_is_its_epochs_mean_and_what_has_no_score_is_unscored(tmp_path: Path, write: Any) -> None:
    values = [["C", "I"], ["C", None], [None, None], [1, True]]
    write(
        tmp_path, [sample(number, place + 1, v) for number, pair in enumerate(values) for place, v in enumerate(pair)]
    )
    (run,) = find_runs(tmp_path)
    assert (run.model, run.tasks, run.documents("sums")) == ("openai/some", ["sums"], 4)
    found = columns(run, "sums")
    scores = list(found.values["match"].values())
    assert scores[:2] == [0.5, 0.5]
    assert math.isnan(scores[2])
    assert scores[3] == 1
    assert list(found.values["unscored"].values()) == [0, 0, 1, 0]
    assert list(found.values["tokens"].values()) == [14] * 4
    assert list(found.doubts["match"].values()) == [(0.5, 1.0), (0.0, 1.0)]
    assert next(iter(found.spreads["match"].values())) == 0.25, "1/2 a draw, so 1/4 of the mean of two"


def test_the_commands_read_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_eval(tmp_path / "a", [sample(number, 1, "C") for number in range(60)])
    bad = write_json(tmp_path / "b", [sample(number, 1, "CI"[number % 2]) for number in range(60)])
    assert main(["compare", str(good), str(bad), "--max-drop", "match=0.1"]) == 1
    assert main(["leaderboard", str(good), "--metric", "match"]) == 0
    assert main(["report", str(bad), "--format", "markdown"]) == 0
    history = ["--history", str(tmp_path / "history.jsonl")]
    assert main(["track", "add", str(good), *history]) == 0
    printed = capsys.readouterr().out
    assert "REGRESSION" in printed
    assert "| 0.500 " in printed


def test_our_own_export_comes_back_to_the_last_digit(tmp_path: Path) -> None:
    trees = [tree_record(texts) for texts in (("\\boxed{1}", "\\boxed{9}", "\\boxed{1}"), ("\\boxed{2}",) * 3)]
    rates = [2 / 3, 1.0]
    run = write_run(tmp_path / "run", {"pass_rate": rates}, records=[trees[0], trees[1]])
    assert main(["export", str(run), "--format", "inspect", "-o", str(tmp_path / "log.json")]) == 0
    log, _ = find_run(tmp_path / "log.json")
    assert list(columns(log, log.tasks[0]).values["eager"].values()) == rates


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cut short"),
        (lambda path: write_json(path.parent, [sample(0, 1, "C")], version=9), "format 9, and this release reads 2"),
        (lambda path: write_json(path.parent, [sample(0, 1, None)]), "holds no scores"),
        (lambda path: write_json(path.parent, []), "holds no scores"),
        (lambda path: write_json(path.parent, [{"id": 1}]), "epoch: field required"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, change: Any, said: str) -> None:
    path = write_json(tmp_path, [sample(0, 1, "C")])
    change(path)
    with pytest.raises(UsageError, match=said) as raised:
        find_run(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("keep", [30, 300])
def test_a_cut_archive_is_one_line(tmp_path: Path, keep: int) -> None:
    path = write_eval(tmp_path, [sample(0, 1, "C")])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match="cut short"):
        find_run(path)
