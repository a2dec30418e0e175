"""Exports for others' readers: scores come back to the last digit, and what labels made is refused or marked."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from run_files import OPTIONS, tree_record, write_run

from eager_lmeval.commands.cli import main
from eager_lmeval.runs.run import find_run

READERS = Path(__file__).resolve().parents[2] / ".venv-exports" / "bin"
"""Made by `make test-exports`: the formats' own readers, which need another Python than the lowest of ours."""
METRICS = {"pass@max": [1.0, 0.0, 1.0], "cons_w@max": [1.0, 0.0, 1 / 3], "tokens": [18.0, 9.0, 34.0]}


def made(folder: Path, **more: Any) -> Path:
    records = [
        tree_record(["\\boxed{1}", "\\boxed{2}"], {1: (0, 7)}),
        tree_record(["\\boxed{3}"]),
        tree_record(["<think>a</think>\\boxed{3}", "<think>b"], finish="length"),
    ]
    return write_run(folder, METRICS, records=records, **more)


def test_the_hubs_library_reads_the_score_to_the_last_digit(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    output = tmp_path / "toy.yaml"
    assert main(["export", str(folder), "--format", "hf", "-o", str(output), "--dataset", "org/toy"]) == 0
    (entry,) = parse_eval_result_entries(yaml.safe_load(output.read_text(encoding="utf-8")))
    assert entry.value == find_run(folder)[0].value("toy_task", "cons_w@max")
    assert (entry.dataset_id, entry.task_id) == ("org/toy", "toy_task")
    assert "k=4" in (entry.notes or "")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dataset", "org/toy"], "was made with labels, an upper bound"),
        (["--dataset", "org/toy", "--metric", "acc"], "was made with labels"),
    ],
)
def test_what_was_made_with_labels_is_no_result_of_the_hub(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "run", labels_used=True, options={**OPTIONS, "strategy": "eager"})
    assert main(["export", str(folder), "--format", "hf", "-o", str(tmp_path / "x.yaml"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.yaml").exists()


def test_a_task_without_a_dataset_of_the_hub_or_the_metric_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "run")
    command = ["export", str(folder), "--format", "hf", "-o", str(tmp_path / "x.yaml")]
    assert main(command) == 2
    assert "give --dataset" in capsys.readouterr().err
    assert main([*command, "--dataset", "a/b", "--metric", "acc"]) == 2
    assert "it has pass@max, cons_w@max" in capsys.readouterr().err


def exported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, dict[str, Any], Path]:
    assert main(["export", str(folder), "--format", "eee", "-o", str(tmp_path / "records")]) == 0
    file = Path(capsys.readouterr().out.strip())
    record = json.loads(file.read_text(encoding="utf-8"))
    return file, record, tmp_path / "records" / record["detailed_evaluation_results"]["file_path"]


def test_a_record_of_every_eval_ever_has_the_scores_and_every_sequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "run")
    run, _ = find_run(folder)
    file, record, samples = exported(folder, tmp_path, capsys)
    scores = {one["metric_config"]["metric_id"]: one["score_details"]["score"] for one in record["evaluation_results"]}
    assert scores == {name: run.value("toy_task", name) for name in ("pass@max", "cons_w@max")}
    detail = record["detailed_evaluation_results"]
    assert detail["checksum"] == hashlib.sha256(samples.read_bytes()).hexdigest()
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert [len(row["output"]["raw"]) for row in rows] == [2, 1, 2]
    assert [row["evaluation"]["score"] for row in rows] == METRICS["cons_w@max"]
    assert {row["evaluation_result_id"] for row in rows} == {"toy_task/cons_w@max/none"}
    assert file.stem in samples.name


def test_labels_are_marked_in_the_records_that_may_hold_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "run", labels_used=True, options={**OPTIONS, "strategy": "eager"})
    _, record, _ = exported(folder, tmp_path, capsys)
    assert all("upper bound" in one["score_details"]["details"]["labels"] for one in record["evaluation_results"])
    assert main(["export", str(folder), "--format", "inspect", "-o", str(tmp_path / "log.json")]) == 0
    log = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    assert "upper bound" in log["eval"]["metadata"]["labels"]


def test_a_log_of_inspect_has_a_sequence_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "run")
    assert main(["export", str(folder), "--format", "inspect", "-o", str(tmp_path / "log.json")]) == 0
    log = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    assert [(sample["id"], sample["epoch"]) for sample in log["samples"]] == [(0, 1), (0, 2), (1, 1), (2, 1), (2, 2)]
    assert log["eval"]["task"] == "toy_task"
    assert log["eval"]["dataset"] == {"name": "toy_task", "samples": 3, "sample_ids": [0, 1, 2]}
    (scores,) = log["results"]["scores"]
    run, _ = find_run(folder)
    assert scores["metrics"]["cons_w@max"]["value"] == run.value("toy_task", "cons_w@max")
    made(tmp_path / "run", task="another", stamp="2026-02-02T03-04-05.000001")
    assert main(["export", str(tmp_path / "run"), "--format", "inspect", "-o", str(tmp_path / "x.json")]) == 2
    assert "holds one task of one run" in capsys.readouterr().err


@pytest.mark.skipif(not READERS.exists(), reason="make test-exports installs the formats' own readers")
def test_their_own_readers_find_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "run")
    file, _, samples = exported(folder, tmp_path, capsys)
    names = [str(path.relative_to(tmp_path / "records")) for path in (file, samples)]
    command = [READERS / "every_eval_ever", "validate", *names]
    done = subprocess.run(command, cwd=tmp_path / "records", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed, 0 warning-only, 0 failed" in done.stdout
    log = tmp_path / "log.json"
    main(["export", str(folder), "--format", "inspect", "-o", str(log)])
    script = (
        "import sys; from inspect_ai.log import read_eval_log; log = read_eval_log(sys.argv[1]); "
        "print(log.status, len(log.samples), repr(log.results.scores[0].metrics['cons_w@max'].value))"
    )
    read = subprocess.run([READERS / "python", "-c", script, log], capture_output=True, text=True, check=True)
    value = find_run(folder)[0].value("toy_task", "cons_w@max")
    assert read.stdout.split() == ["success", "5", repr(value)]
