"""The files of a run: which is the newest, and what stands in them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from run_files import results_file, write_run

from eager_lmeval.errors import UsageError
from eager_lmeval.runs.run import Run, RunName, find_run, iter_samples, results_files

OLD, NEW = "2026-01-02T03-04-05.000001", "2026-01-03T03-04-05.000001"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (f"results_{OLD}.json", RunName(None, OLD, False)),
        (f"results_rescored_{OLD}.json", RunName(None, OLD, True)),
        (f"samples_my_task_{OLD}.jsonl", RunName("my_task", OLD, False)),
        (f"samples_my_task_rescored_{OLD}.jsonl", RunName("my_task", OLD, True)),
        (f"my_results_{OLD}.json", RunName(None, OLD, False)),
        ("samples_mine.jsonl", None),
    ],
)
def test_a_name_says_task_date_and_whether_it_was_rescored(name: str, read: RunName | None) -> None:
    assert RunName.read(Path(name)) == read


def test_a_run_is_newer_than_an_older_run_that_was_rescored(tmp_path: Path) -> None:
    write_run(tmp_path, {"acc": [1.0]}, stamp=OLD)
    old = results_file(tmp_path)
    shutil.copy(old, old.with_name(f"results_rescored_{OLD}.json"))
    assert find_run(tmp_path)[0].results_file.name == f"results_rescored_{OLD}.json"
    write_run(tmp_path, {"acc": [1.0]}, stamp=NEW)
    assert find_run(tmp_path)[0].results_file.name == f"results_{NEW}.json"
    assert results_files(tmp_path)[0].name == f"results_{OLD}.json"


def test_a_value_is_found_under_the_filter_that_the_task_has(tmp_path: Path) -> None:
    write_run(tmp_path, {"acc": [1.0, 0.0]})
    file = results_file(tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["results"]["toy_task"] = {"alias": "toy", "acc,oracle": 0.5, "acc_stderr,oracle": "N/A"}
    file.write_text(json.dumps(content), encoding="utf-8")
    run, _ = find_run(tmp_path)
    assert run.value("toy_task", "acc") == 0.5
    assert math.isnan(run.value("toy_task", "acc_stderr"))
    assert run.values("toy_task") == {("acc", "oracle"): 0.5}


@pytest.mark.parametrize("listed", ["eager_demo", "eager_math::eager_demo"])
def test_the_pools_of_a_task_are_found_where_the_harness_lists_it_below_its_group(listed: str) -> None:
    pools = [{"task": task, "options": {"strategy": "init"}} for task in ("eager_demo", "eager_gsm8k")]
    run = Run(Path("results.json"), {"results": {listed: {}}, "config": {"eager": {"pools": pools}}})
    assert run.pools(listed) == pools[:1]


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no results_\*\.json"):
        results_files(tmp_path)


def test_a_run_whose_output_path_named_a_file_is_found_with_its_samples(tmp_path: Path) -> None:
    """The harness then puts the date behind that name, and the samples beside it under their own."""
    folder = write_run(tmp_path, {"pass@max": [1.0, 0.0]})
    results = next(folder.rglob("results_*.json"))
    results.rename(results.with_name(results.name.replace("results_", "my_results_")))
    for asked in (results.with_name("my_results.json"), results.parent, tmp_path):
        run, remark = find_run(asked)
        assert remark is None
        assert run.results_file.name.startswith("my_results_2026")
        assert len(list(iter_samples(run, "toy_task"))) == 2
