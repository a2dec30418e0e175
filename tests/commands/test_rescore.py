"""`eager-lmeval rescore`: the numbers of a run made anew from its samples file alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from eager_lmeval import paths
from eager_lmeval.commands.cli import main
from eager_lmeval.lm import EagerLM
from eager_lmeval.runs.run import find_run
from eager_lmeval.scores import scoring
from eager_lmeval.scores.rules import Rules
from eager_lmeval.verify import Graded

FIRST, SECOND = "2026-01-01T10-00-00.000001", "2026-01-02T10-00-00.000001"


LINE = b'{"doc_id": 0, "doc": %s, "filtered_resps": ["5"], "filter": "none", "metrics": [], "doc_hash": "5"}'


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with labels."""
    return evaluate(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with --predict_only."""
    return evaluate(tmp_path_factory.mktemp("predicted"), predict_only=True)


def evaluate(folder: Path, **more: Any) -> Path:
    """Runs `eager_demo`; returns the folder of the files as the harness's command line leaves them."""
    tracker = EvaluationTracker(output_path=str(folder))
    manager = TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False)
    demo = EagerLM(pretrained="demo", strategy="eager", max_sequences=4)
    result = simple_evaluate(
        demo,
        tasks=["eager_demo"],
        task_manager=manager,
        limit=10,
        evaluation_tracker=tracker,
        bootstrap_iters=100,
        **more,
    )
    samples = result.pop("samples")
    tracker.save_results_aggregated(results=result, samples=samples)
    tracker.save_results_samples(task_name="eager_demo", samples=samples["eager_demo"])
    return next(folder.rglob("results_*.json")).parent


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def equal(first: Any, second: Any) -> bool:
    """To the last digit; NaN equals NaN."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


class OnlyOdd:
    """A grader with a mistake: calls every odd answer right."""

    name = "math"

    def grade(self, texts: Sequence[str | None], label: str) -> list[Graded]:
        answers = [(text or "").rpartition("boxed{")[2].partition("}")[0] for text in texts]
        return [Graded(answer[-1:] in tuple("13579"), answer or None, len(answer)) for answer in answers]


def test_unchanged_graders_give_every_number_to_the_last_digit(logged: Path, tmp_path: Path, capsys):
    assert main(["rescore", str(only(logged, "samples_*.jsonl")), "-o", str(tmp_path)]) == 0
    assert "eager_demo: 10 documents graded again, 0 changed" in capsys.readouterr().out
    before, after = load(only(logged, "results_*.json")), load(only(tmp_path, "results_rescored_*.json"))
    assert len(before["configs"]["eager_demo"]["figures"]) > 25
    assert equal(before["results"], after["results"])
    unchanged = set(before) - {"results", "group_subtasks"}
    assert all(equal(before[key], after[key]) for key in unchanged)
    assert after["rescored"]["results"] == only(logged, "results_*.json").name
    lines = [
        path.read_text(encoding="utf-8").splitlines() for path in (*logged.glob("s*.jsonl"), *tmp_path.glob("s*.jsonl"))
    ]
    assert all(equal(json.loads(old), json.loads(new)) for old, new in zip(*lines, strict=True))


def test_a_run_that_only_predicted_is_graded_as_the_run_that_graded_at_once(
    logged: Path, predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["rescore", str(only(predicted, "samples_*.jsonl")), "-o", str(tmp_path)]) == 0
    assert "eager_demo: 10 documents graded, which the run had left ungraded" in capsys.readouterr().out
    graded, rescored = load(only(logged, "results_*.json")), load(only(tmp_path, "results_rescored_*.json"))
    assert len(graded["configs"]["eager_demo"]["figures"]) > 25
    for key in ("results", "higher_is_better", "n-samples"):
        assert equal(graded[key], rescored[key])
    assert equal(*(found["configs"]["eager_demo"]["figures"] for found in (graded, rescored)))
    values = [
        {name: sample[name] for name in sample["metrics"]}
        for folder in (logged, tmp_path)
        for sample in map(json.loads, only(folder, "samples_*.jsonl").read_text(encoding="utf-8").splitlines())
    ]
    assert equal(values[:10], values[10:])


def test_a_run_that_only_predicted_is_shown_without_scores_and_not_compared(
    logged: Path, predicted: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["report", str(predicted), "--format", "markdown"]) == 0
    assert "bypass" not in capsys.readouterr().out
    assert main(["compare", str(logged), str(predicted)]) == 2
    assert "run with --predict_only, which graded nothing" in capsys.readouterr().err


def test_rescored_samples_can_be_rescored(logged: Path, tmp_path: Path):
    main(["rescore", str(only(logged, "samples_*.jsonl")), "-o", str(tmp_path / "once")])
    main(["rescore", str(only(tmp_path / "once", "samples_*.jsonl")), "-o", str(tmp_path / "twice")])
    once, twice = (load(only(tmp_path / name, "results_*.json")) for name in ("once", "twice"))
    assert equal(once["results"], twice["results"])
    assert twice["rescored"]["results"] == only(tmp_path / "once", "results_*.json").name


def test_another_grader_gives_other_numbers_and_says_which(
    logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scoring, "get_verifier", lambda name: OnlyOdd())
    main(["rescore", str(only(logged, "samples_*.jsonl")), "-o", str(tmp_path)])
    printed = capsys.readouterr().out
    after = load(only(tmp_path, "results_*.json"))["configs"]["eager_demo"]["figures"]
    samples = [json.loads(line) for line in only(tmp_path, "samples_*.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = []
    for sample in samples:
        sequences = json.loads(sample["tree"])["sequences"]
        odd = [s["text"].rpartition("boxed{")[2].partition("}")[0][-1:] in tuple("13579") for s in sequences]
        rates.append(sum(odd) / len(odd))
    assert [sample["pass_rate"] for sample in samples] == pytest.approx(rates)
    assert after["pass_rate,oracle"] == pytest.approx(sum(rates) / 10)
    assert "pass_rate,oracle: " in printed
    assert f"-> {after['pass_rate,oracle']:.4f}" in printed
    assert "tokens,oracle" not in printed


def test_samples_without_their_results_file_are_enough(
    logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    alone = tmp_path / "mine.jsonl"
    alone.write_text(only(logged, "samples_*.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    main(["rescore", str(alone)])
    before, after = load(only(logged, "results_*.json")), load(only(tmp_path, "results_rescored_*.json"))
    ours = {key: value for key, value in after["results"]["mine"].items() if "," in key}
    assert equal(ours, {key: value for key, value in before["results"]["eager_demo"].items() if "," in key})
    assert equal(after["configs"]["mine"]["figures"], before["configs"]["eager_demo"]["figures"])
    assert after["higher_is_better"]["mine"] == before["higher_is_better"]["eager_demo"]
    capsys.readouterr()
    assert main(["report", "--format", "markdown", str(tmp_path)]) == 0
    assert "mine" in capsys.readouterr().out


@pytest.fixture
def two_runs(logged: Path, tmp_path: Path) -> Path:
    """A folder of two runs of one task, with results that name their runs."""
    folder = tmp_path / "two"
    folder.mkdir()
    for stamp, limit in ((FIRST, 10), (SECOND, 4)):
        lines = only(logged, "samples_*.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"samples_eager_demo_{stamp}.jsonl").write_text("".join(lines[:limit]), encoding="utf-8")
        results = load(only(logged, "results_*.json")) | {
            "system_instruction": stamp,
            "n-samples": {"eager_demo": {"original": 10, "effective": limit}},
        }
        (folder / f"results_{stamp}.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def test_runs_of_one_folder_stay_apart_under_their_own_dates(two_runs: Path):
    assert main(["rescore", *map(str, two_runs.glob("samples_*.jsonl"))]) == 0
    for stamp, limit in ((FIRST, 10), (SECOND, 4)):
        results = load(two_runs / f"results_rescored_{stamp}.json")
        assert results["system_instruction"] == stamp
        assert results["results"]["eager_demo"]["sample_len"] == limit
        samples = (two_runs / f"samples_eager_demo_rescored_{stamp}.jsonl").read_text(encoding="utf-8")
        assert len(samples.splitlines()) == limit
    assert find_run(two_runs)[0].results_file.name == f"results_rescored_{SECOND}.json"


def test_a_glob_over_everything_rescores_the_originals_and_says_what_it_left_out(
    two_runs: Path, capsys: pytest.CaptureFixture[str]
):
    for _ in range(2):
        capsys.readouterr()
        assert main(["rescore", *map(str, sorted(two_runs.glob("samples_*.jsonl")))]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("replaced ") == 2
    left_out = [line for line in printed.err.splitlines() if line.startswith("note: left out")]
    assert [line.partition(",")[0].rpartition("/")[2] for line in left_out] == [
        f"samples_eager_demo_rescored_{stamp}.jsonl" for stamp in (FIRST, SECOND)
    ]
    assert len(list(two_runs.iterdir())) == 8


def test_tasks_of_a_run_may_be_rescored_one_after_another(two_runs: Path):
    first = two_runs / f"samples_eager_demo_{FIRST}.jsonl"
    other = first.rename(two_runs / f"samples_other_{FIRST}.jsonl")
    again = first.with_name(f"samples_again_{FIRST}.jsonl")
    again.write_bytes(other.read_bytes())
    for path in (other, again):
        assert main(["rescore", str(path)]) == 0
    results = load(two_runs / f"results_rescored_{FIRST}.json")
    assert set(results["results"]) == set(results["configs"]) == set(results["rescored"]["tasks"]) == {"other", "again"}


def test_runs_that_would_be_written_to_one_file_are_refused(
    two_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    name = f"samples_eager_demo_{FIRST}.jsonl"
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / name).write_bytes((two_runs / name).read_bytes())
    assert main(["rescore", str(two_runs / name), str(copy / name), "-o", str(tmp_path / "out")]) == 2
    assert "hold runs of the same date" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_neither_torch_nor_the_harness_is_loaded(logged: Path, tmp_path: Path):
    script = (
        "import sys; from eager_lmeval.commands.cli import main; "
        "main(['rescore', sys.argv[1], '-o', sys.argv[2]]); "
        "print({'torch', 'transformers', 'datasets', 'lm_eval'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, str(only(logged, "samples_*.jsonl")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_model_without_trees_is_rescored_from_its_texts(tmp_path: Path):
    doc = {"eager": {"label": "62", "verifier": "math"}}
    trees = scoring.records([["\\boxed{62}", "\\boxed{7}"], ["\\boxed{62}"]], Rules(ks=(2,)))
    path = tmp_path / "samples_mine_2026-01-01T10-00-00.000001.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, tree in enumerate(trees):
            values = scoring.score(doc, tree)
            sample = {"doc_id": number, "doc": doc, "filtered_resps": [str(tree)], "filter": "none", "doc_hash": "x"}
            file.write(json.dumps({**sample, "metrics": list(values), **values}) + "\n")
    main(["rescore", str(path)])
    found = load(only(tmp_path, "results_rescored_*.json"))
    assert found["rescored"]["tasks"]["mine"]["documents_changed"] == 0
    table = found["configs"]["mine"]["figures"]
    assert math.isnan(table["tokens,none"])
    assert (table["pass_rate,none"], table["pass@2,none"], table["scored@2,none"]) == (0.75, 1.0, 1)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that says why; the status of wrong usage is 2."""
    capsys.readouterr()
    assert main(["rescore", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eager-lmeval rescore: ")
    return line


def first_sample(logged: Path) -> dict[str, Any]:
    sample: dict[str, Any] = json.loads(only(logged, "samples_*.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return sample


def test_a_failure_leaves_no_folder_behind(two_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good, bad = (two_runs / f"samples_eager_demo_{stamp}.jsonl" for stamp in (FIRST, SECOND))
    bad.write_bytes(bad.read_bytes()[:-20])
    assert "cut short" in refused(capsys, bad, "-o", tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()
    assert "cut short" in refused(capsys, good, bad, "-o", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"results_rescored_{FIRST}.json",
        f"samples_eager_demo_rescored_{FIRST}.jsonl",
    ]


def test_programs_are_run_only_on_confirmation(logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sample = first_sample(logged)
    sample["doc"]["eager"]["verifier"] = "code"
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(sample) + "\n", encoding="utf-8")
    assert "confirm_run_unsafe_code" in refused(capsys, path)


def test_a_document_without_a_verifier_is_refused(logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sample = first_sample(logged)
    del sample["doc"]["eager"]["verifier"]
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(sample) + "\n", encoding="utf-8")
    assert "a label, a verifier and trees" in refused(capsys, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LINE % b'{"question": "?"}', "no sample of a task"),
        (LINE % b'{"eager": {"label": "5"}}', "no sample of a task"),
        (LINE % b'{"eager": {"label": "5", "verifier": ["math"]}}', "no sample of a task"),
    ],
)
def test_a_sample_that_nothing_can_be_graded_of_is_one_line_of_error(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    assert said in refused(capsys, path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_samples_file_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results = tmp_path / f"results_{FIRST}.json"
    results.write_text("{}")
    out = tmp_path / "missing" / "samples.jsonl"
    assert "does not exist" in refused(capsys, out)
    assert "is a folder" in refused(capsys, tmp_path)
    assert "give the samples_*.jsonl beside it" in refused(capsys, results, "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [results]


def test_an_error_leaves_an_earlier_rescoring_as_it_was(two_runs: Path, capsys: pytest.CaptureFixture[str]):
    path = two_runs / f"samples_eager_demo_{FIRST}.jsonl"
    main(["rescore", str(path)])
    before = {file: file.read_bytes() for file in two_runs.iterdir() if file != path}
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut short" in refused(capsys, path)
    assert {file: file.read_bytes() for file in two_runs.iterdir() if file != path} == before
