"""A task of one's own that includes `eager_common`: what is missing in it is said before anything is generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from pages import ROOT, blocks

from eager_lmeval import paths
from eager_lmeval.errors import UsageError
from eager_lmeval.lm import EagerLM


class Model(LM):
    """Answers every problem with a box, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.asked += len(requests)
        return ["\\boxed{2}"] * len(requests)

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def evaluate(folder: Path, columns: list[dict[str, Any]], model: LM, **more: Any) -> dict[str, Any]:
    """Runs a task whose documents bring ``columns``."""
    problems = [{"question": "1+1", "answer": "2", **column} for column in columns]
    (folder / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    (folder / "own.yaml").write_text(
        f"include: {paths.tasks_dir()}/eager_common/_template_yaml\n"
        f"task: own\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/problems.jsonl}}}}\n"
        "test_split: test\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
    )
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results: dict[str, Any] = simple_evaluate(model, tasks=["own"], task_manager=manager, bootstrap_iters=0, **more)
    return results


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([{}, {}], ["document 0", "no column 'eager'", "process_docs", '"verifier": "math"']),
        ([{"eager": {"label": "2", "verifier": "mth"}}], ["document 0", "'mth' is not known", "did you mean 'math'?"]),
        (
            [{"eager": {"label": "2", "verifier": "math"}}, {"eager": {"label": None, "verifier": "math"}}],
            ["document 1", "holds no label"],
        ),
        ([{"eager": {"label": "2"}}], ["document 0", "holds no verifier", "or the task's metadata"]),
    ],
)
def test_what_could_not_be_graded_is_an_error_before_anything_is_generated(
    columns: list[dict[str, Any]], said: list[str], tmp_path: Path
) -> None:
    model = Model()
    with pytest.raises(UsageError, match="task 'own', ") as caught:
        evaluate(tmp_path, columns, model)
    assert model.asked == 0
    for part in said:
        assert part in str(caught.value)


def test_a_column_with_a_label_and_a_verifier_is_all_that_is_needed(tmp_path: Path) -> None:
    model = Model()
    scores = evaluate(tmp_path, [{"eager": {"label": "2", "verifier": "math"}}] * 3, model)["configs"]["own"]["figures"]
    assert (model.asked, scores["pass@max,none"], scores["scored,none"]) == (3, 1.0, 3)


@pytest.mark.parametrize("given", [{"verifier": "math"}, {"label": "answer"}])
def test_options_of_a_run_that_are_named_as_in_metadata_leave_a_column_as_it_is(
    given: dict[str, str], tmp_path: Path
) -> None:
    """The harness adds ``--model_args`` to every task's metadata: `respond=vote,verifier=math` comes by here."""
    column = {"eager": {"label": "2", "verifier": "exact"}}
    evaluate(tmp_path, [column], Model())
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False, metadata=given)
    results = simple_evaluate(Model(), tasks=["own"], task_manager=manager, bootstrap_iters=0)
    assert results["samples"]["own"][0]["doc"]["eager"] == column["eager"]


def test_predictions_alone_need_no_column(tmp_path: Path) -> None:
    model = Model()
    evaluate(tmp_path, [{}], model, predict_only=True)
    assert model.asked == 1


def test_its_trees_are_read_whole_whatever_its_documents_carry(tmp_path: Path) -> None:
    lm = EagerLM(pretrained="demo", max_sequences=3)
    evaluate(tmp_path, [{}], lm, predict_only=True, gen_kwargs="max_gen_toks=8")
    assert lm.get_model_info()["eager"]["pools"][0]["options"]["max_sequences"] == 3


def test_the_task_of_the_documentation_runs_as_it_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my_tasks"
    folder.mkdir()
    shown = {block.language: block.text for block in blocks(ROOT / "docs/tasks.md")}
    (folder / "my_task.yaml").write_text(shown["yaml"])
    (folder / "problems.jsonl").write_text(shown["json"])
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = simple_evaluate(Model(), tasks=["my_task"], task_manager=manager, bootstrap_iters=0)
    assert results["configs"]["my_task"]["figures"]["scored,none"] == 1
    (sample,) = results["samples"]["my_task"]
    assert sample["arguments"][0][0] == "<|user|>Add 17+25.<|assistant|>"
