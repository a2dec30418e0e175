"""Every task end to end on invented problems in the published layout, loaded as its YAML says.

The working directory holds folders named like the datasets on the hub, so ``dataset_path`` leads there unchanged.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

from eager_lmeval import paths
from eager_lmeval.lm import EagerLM

HUB = Path(__file__).parent / "fixtures" / "hub"
STANDARD_KEYS = {"do_sample", "temperature", "top_p", "max_gen_toks", "until"}
MATH = ["eager_aime24", "eager_aime25", "eager_hmmt_feb25", "eager_math500", "eager_gsm8k"]
REASONING = ["eager_aime24", "eager_aime25", "eager_hmmt_feb25", "eager_gpqa_diamond", "eager_humaneval_plus"]
TASKS = sorted({*MATH, *REASONING})

PUBLISHED = {
    "eager_aime24": {"ID": "string", "Problem": "string", "Solution": "string", "Answer": "int64"},
    "eager_aime25": {"problem": "string", "answer": "string", "id": "string"},
    "eager_hmmt_feb25": {"problem_idx": "int64", "problem": "string", "answer": "string", "problem_type": ["string"]},
    "eager_gpqa_diamond": {"question": "string", "answer": "string"},
    "eager_math500": {
        **dict.fromkeys(("problem", "solution", "answer", "subject", "unique_id"), "string"),
        "level": "int64",
    },
    "eager_gsm8k": {"question": "string", "answer": "string"},
    "eager_humaneval_plus": dict.fromkeys(("task_id", "prompt", "canonical_solution", "entry_point", "test"), "string"),
}


class AnswerSheet(LM):
    """Answers each document with the text that ``write`` makes of it, behind a thought about something else."""

    def __init__(self, write: Any) -> None:
        super().__init__()
        self._write = write

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return [f"Is it \\boxed{{-1}}?</think>{self._write(request.doc)}" for request in requests]

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def right(doc: dict[str, Any]) -> str:
    """What a careful human would write, not what the label says."""
    if "canonical_solution" in doc:
        return f"Here it is:\n```python\n{doc['prompt']}{doc['canonical_solution']}```\nThat is all."
    if "Answer" in doc:
        return f"So the answer is \\boxed{{{doc['Answer']}}}."
    return f"So \\boxed{{{doc['answer'].rpartition('#### ')[2]}}}."


def wrong(doc: dict[str, Any]) -> str:
    if "canonical_solution" in doc:
        return f"```python\ndef {doc['entry_point']}(x):\n    return 'no'\n```"
    return "\\boxed{B}" if doc["answer" if "answer" in doc else "Answer"] == "A" else "\\boxed{A}"


@pytest.fixture(scope="module", autouse=True)
def _hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HUB)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False)


def evaluate(model: Any, tasks: Sequence[str], manager: TaskManager, **more: Any) -> dict[str, Any]:
    settings = {"task_manager": manager, "bootstrap_iters": 0, "confirm_run_unsafe_code": True} | more
    result: dict[str, Any] = simple_evaluate(model, tasks=list(tasks), **settings)
    return result


@pytest.fixture(scope="module")
def oracle(manager: TaskManager) -> dict[str, Any]:
    """Both groups with the demo model and strategy `eager`; the harness runs groups that share tasks one by one."""
    demo = EagerLM(pretrained="demo", strategy="eager", max_sequences=3, entropy_threshold=0.5)
    runs = [
        evaluate(demo, [group], manager, gen_kwargs="max_gen_toks=24") for group in ("eager_reasoning", "eager_math")
    ]
    return runs[0] | {
        part: runs[0][part] | runs[1][part] for part in ("results", "configs", "groups", "samples", "group_subtasks")
    }


def test_all_tasks_and_groups_are_there_and_pass_the_harness_s_validation(
    capsys: pytest.CaptureFixture[str], our_tasks_alone: None
):
    from lm_eval._cli.harness import HarnessCLI

    cli = HarnessCLI()
    names = ",".join([*TASKS, "eager_demo", "eager_math", "eager_reasoning"])
    cli.execute(cli._parser.parse_args(["validate", "--tasks", names, "--include_path", str(paths.tasks_dir())]))
    assert "All tasks found and valid" in capsys.readouterr().out


def test_task_files_hold_standard_generation_arguments_alone_and_a_version(manager: TaskManager):
    for name, task in manager.load([*TASKS, "eager_demo"])["tasks"].items():
        assert set(task.config.generation_kwargs) <= STANDARD_KEYS, name
        assert task.config.generation_kwargs["until"] == [], "a stop string could fire in the thinking part"
        assert task.VERSION == 1.0, name
    for name in [*TASKS, "eager_demo"]:
        folder = paths.tasks_dir() / name
        own = yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8").replace("!function", ""), yaml.SafeLoader)
        assert own["include"] == "../eager_common/_template_yaml"
        readme = (folder / "README.md").read_text(encoding="utf-8")
        assert "Licence of the data" in readme
        assert "Prompt" in readme


def test_problems_load_in_the_published_layout_and_gain_the_column_eager(manager: TaskManager):
    for name, task in manager.load(TASKS)["tasks"].items():
        features = {
            column: [kind.feature.dtype] if isinstance(kind, datasets.List) else kind.dtype
            for column, kind in task.eval_docs.features.items()
            if column != "eager"
        }
        assert features == PUBLISHED[name], name
        for doc in task.eval_docs:
            assert {"label", "verifier"} <= set(doc["eager"]), name
            assert isinstance(doc["eager"]["label"], str)


def test_prompts_hold_the_problem_and_ask_for_the_box(manager: TaskManager):
    for name, task in manager.load(TASKS)["tasks"].items():
        doc = task.eval_docs[0]
        prompt = task.doc_to_text(doc)
        problem = next(doc[column] for column in ("problem", "Problem", "question", "prompt") if column in doc)
        assert problem in prompt
        assert ("```python" if name == "eager_humaneval_plus" else "\\boxed{}") in prompt


def test_right_answers_of_any_model_are_right(manager: TaskManager):
    result = evaluate(AnswerSheet(right), TASKS, manager)
    for name in TASKS:
        scores = result["configs"][name]["figures"]
        assert scores["pass@max,none"] == scores["cons@max,none"] == scores["pass_rate_w,none"] == 1.0, name
        assert scores["scored,none"] == len(result["samples"][name])
        assert scores["no_answer_rate,none"] == 0.0
        assert scores["strategy,none"] == "none"


def test_wrong_answers_are_wrong_and_are_answers(manager: TaskManager):
    result = evaluate(AnswerSheet(wrong), TASKS, manager)
    for name in TASKS:
        scores = result["configs"][name]["figures"]
        assert (scores["pass@max,none"], scores["no_answer_rate,none"]) == (0.0, 0.0), name


def test_an_option_given_as_its_text_is_its_letter(manager: TaskManager):
    texts = {"A stone ": "20 m/s", "Which of": "neon", "A cell w": "prokaryotic"}
    result = evaluate(
        AnswerSheet(lambda doc: f"\\boxed{{{texts[doc['question'][:8]]}}}"), ["eager_gpqa_diamond"], manager
    )
    assert result["results"]["eager_gpqa_diamond"]["pass@max,none"] == 1.0


def test_a_bare_completion_of_a_function_is_run_behind_its_prompt(manager: TaskManager):
    result = evaluate(AnswerSheet(lambda doc: doc["canonical_solution"]), ["eager_humaneval_plus"], manager)
    assert result["results"]["eager_humaneval_plus"]["pass@max,none"] == 1.0


def test_programs_are_run_only_on_confirmation(manager: TaskManager):
    with pytest.raises(ValueError, match="unsafe"):
        evaluate(AnswerSheet(right), ["eager_humaneval_plus"], manager, confirm_run_unsafe_code=False)


def test_the_demo_model_runs_every_task_with_labels(oracle: dict[str, Any]):
    for name in TASKS:
        scores = oracle["configs"][name]["figures"]
        assert scores["strategy,oracle"] == "eager"
        assert scores["labels_used,oracle"] == 1.0
        assert scores["max_sequences,oracle"] == 3
        assert scores["entropy_threshold,oracle"] == 0.5
        assert scores["temperature,oracle"] == 0.6
        assert scores["scored,oracle"] == len(oracle["samples"][name])
        assert scores["mean_sequences,oracle"] >= 1
        assert 0 < scores["mean_tokens,oracle"] <= 24 * 9
        for sample in oracle["samples"][name]:
            assert len(json.loads(str(sample["tree"]))["sequences"]) == sample["sequences"]


def test_groups_give_every_task_the_same_weight(oracle: dict[str, Any]):
    for group, members in (("eager_math", MATH), ("eager_reasoning", REASONING)):
        for metric in ("pass@max", "cons_w@max", "pass_rate_w"):
            expected = sum(oracle["results"][name][f"{metric},oracle"] for name in members) / len(members)
            assert oracle["groups"][group][f"{metric},oracle"] == pytest.approx(expected)


def test_the_printed_table_says_oracle_on_every_line_and_nowhere_in_a_run_without_labels(
    oracle: dict[str, Any], manager: TaskManager
):
    def cells(result: dict[str, Any], column: str) -> set[str]:
        lines = [line.split("|")[1:] for line in make_table(result, column).splitlines() if line.startswith("|")]
        return {line[[cell.strip() for cell in lines[0]].index("Filter")].strip() for line in lines[2:]} - {""}

    for column in ("results", "groups"):
        assert cells(oracle, column) == {"oracle"}
    demo = EagerLM(pretrained="demo", strategy="init", max_sequences=2)
    assert cells(evaluate(demo, ["eager_aime24"], manager, gen_kwargs="max_gen_toks=8"), "results") == {"none"}


def test_hf_and_dummy_run_every_task_with_one_sample_a_document(manager: TaskManager):
    hf = HFLM(pretrained=str(paths.demo_model_dir()), device="cpu", max_length=2048, batch_size=4)
    for model, kwargs in ((hf, "max_gen_toks=8"), ("dummy", None)):
        result = evaluate(model, TASKS, manager, gen_kwargs=kwargs, limit=2)
        for name in TASKS:
            scores = result["configs"][name]["figures"]
            assert scores["scored,none"] == scores["sequences,none"] == 2
            assert scores["pass_rate,none"] == scores["pass@max,none"]
            assert "pass@4,none" not in scores, "no document has so many"


def test_the_ks_of_a_task_can_be_given_on_the_command_line():
    with_ks = TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False, metadata={"ks": [1]})
    scores = evaluate(AnswerSheet(right), ["eager_aime24"], with_ks)["configs"]["eager_aime24"]["figures"]
    assert (scores["pass@1,none"], scores["cons@1,none"], scores["scored@1,none"]) == (1.0, 1.0, 3)
    assert "pass@4,none" not in scores


def test_predict_only_leaves_the_scoring_out(manager: TaskManager):
    result = evaluate(AnswerSheet(right), ["eager_aime24"], manager, predict_only=True)
    assert set(result["results"]["eager_aime24"]) == {
        "name",
        "alias",
        "sample_len",
        "bypass,none",
        "bypass_stderr,none",
    }


def test_task_files_reach_the_package_through_its_task_class_alone() -> None:
    used = {
        node.module
        for file in paths.tasks_dir().rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eager_lmeval")
    }
    assert used == {"eager_lmeval.task"}
