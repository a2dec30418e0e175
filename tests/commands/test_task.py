"""`eager-lmeval task`: a YAML without Python and absolute paths, which the harness runs as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from local_tasks import HARNESS_TASKS, write_tasks

from eager_lmeval import paths
from eager_lmeval.commands.cli import main

PROBLEMS = [{"Question": "1 + 1", "Answer": 2, "Letter": "B"}, {"Question": "2 + 3", "Answer": 5, "Letter": "A"}]


class Two(LM):
    """Answers everything with a boxed 2."""

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return ["\\boxed{2}"] * len(requests)

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with problems in `mine/problems.jsonl`."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine" / "problems.jsonl", PROBLEMS)
    return tmp_path


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def scores(include_path: Path, task: str) -> dict[str, Any]:
    manager = TaskManager(include_path=str(include_path), include_defaults=False)
    results: dict[str, Any] = simple_evaluate(Two(), tasks=[task], task_manager=manager, bootstrap_iters=0)
    return results["results"][task]  # type: ignore[no-any-return]  # the harness is untyped


def of_problems(*more: str) -> int:
    return main(["task", "mine/problems.jsonl", "--question", "Question", "--label", "Answer", *more])


def test_a_file_of_problems_becomes_a_task_that_runs_from_any_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of_problems("--verifier", "math") == 0
    said = capsys.readouterr().out
    assert "mine/problems.yaml: task problems, 2 documents, verifier math" in said
    assert "  1 + 1\n" in said
    assert "Its label: 2\n" in said
    assert "--include_path mine --tasks problems --apply_chat_template" in said
    text = (folder / "mine" / "problems.yaml").read_text(encoding="utf-8")
    assert str(folder) not in text, "it can be committed"
    assert sorted(path.name for path in (folder / "mine").iterdir()) == ["problems.jsonl", "problems.yaml"]
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for place in (folder, elsewhere, folder / "mine"):
        monkeypatch.chdir(place)
        assert scores(folder / "mine", "problems")["pass@max,none"] == 0.5


def test_what_is_asked_ends_in_a_place_for_the_answer_unless_the_prompt_is_given_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_problems() == 0
    assert "within \\boxed{}." in capsys.readouterr().out
    assert (
        main(["task", "mine/problems.jsonl", "--question", "Q: {{Question}}", "--label", "Answer", "--name", "q"]) == 0
    )
    said = capsys.readouterr().out
    assert "  Q: 1 + 1\nIts label" in said
    assert "--apply_chat_template" not in said


def test_letters_are_compared_as_letters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "mine/problems.jsonl", "--question", "Question", "--label", "Letter"]) == 0
    assert "verifier choice" in capsys.readouterr().out


def test_a_task_of_the_harness_keeps_its_documents_prompt_and_functions(
    folder: Path, capsys: pytest.CaptureFixture[str], our_tasks_alone: None
) -> None:
    write_tasks(folder, ["math500_demo", "gsm8k_demo"])
    with (paths.tasks_dir() / "eager_demo" / "problems.jsonl").open(encoding="utf-8") as lines:
        first = json.loads(next(lines))
    for task, label in (("local_math500_demo", first["answer"]), ("local_gsm8k_demo", "So it is.")):
        assert main(["task", task, "--include_path", str(folder)]) == 0
        said = capsys.readouterr().out
        assert f"  <|user|>{first['question']}<|assistant|>\n" in said
        assert f"Its label: {label}\n" in said
        written = (folder / f"{task}_eager.yaml").read_text(encoding="utf-8")
        assert "exact_match" not in written, "its metrics are those of the vote and the tree"
        assert set(scores(folder, f"{task}_eager")) >= {"pass@max,none", "cons_w@max,none"}
    config = yaml.load((folder / "local_math500_demo_eager.yaml").read_text(encoding="utf-8"), Functions)
    assert config["process_docs"] == "lm_eval.tasks.hendrycks_math.utils.process_docs"


class Functions(yaml.SafeLoader):
    """Takes `!function` as the name behind it."""


Functions.add_constructor("!function", lambda loader, node: str(node.value))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine/problems.jsonl", "--label", "Answer"], "give --question: mine/problems.jsonl has the columns Question"),
        (["mine/problems.jsonl", "--question", "Question", "--label", "Anser"], "columns are Question, Answer, Letter"),
        (["mine/problems.jsonl", "--question", "Question", "--label", "{{1 +}}"], "cannot be rendered"),
        (["mine/none.jsonl", "--question", "Q", "--label", "A"], "mine/none.jsonl does not exist"),
        (
            ["mine/problems.jsonl", "--question", "Question", "--label", "Answer", "--verifier", "choice"],
            "no label can be read; the first: verifier=choice: the label '2'",
        ),
        (["mine/problems.jsonl", "--question", "Question", "--label", "Answer", "--verifier", "mth"], "'math'"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[1:]),
)
def test_what_cannot_be_a_task_is_one_line_and_leaves_no_file(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert [path.name for path in (folder / "mine").iterdir()] == ["problems.jsonl"]


def test_a_yaml_that_is_there_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine" / "problems.yaml").write_text("task: precious\n", encoding="utf-8")
    assert of_problems() == 2
    assert "mine/problems.yaml exists" in capsys.readouterr().err
    assert (folder / "mine" / "problems.yaml").read_text(encoding="utf-8") == "task: precious\n"


def test_labels_that_cannot_be_read_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "mine" / "problems.jsonl", [*PROBLEMS, {"Question": "?", "Answer": None, "Letter": "?"}])
    arguments = ["--question", "Question", "--label", "Letter", "--verifier", "choice"]
    assert main(["task", "mine/problems.jsonl", *arguments]) == 0
    assert (
        "1 labels cannot be read, and their documents will be unscored: 2, verifier=choice" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [("humaneval_instruct", "humaneval", "runs programs"), ("leaderboard", "leaderboard", "is a group of tasks")],
)
def test_tasks_of_programs_and_groups_are_refused(
    name: str, folder: str, said: str, capsys: pytest.CaptureFixture[str], our_tasks_alone: None
) -> None:
    assert main(["task", name, "--include_path", str(HARNESS_TASKS / folder)]) == 2
    assert said in capsys.readouterr().err
