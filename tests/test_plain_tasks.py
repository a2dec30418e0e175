"""Tasks that know nothing of trees, as the harness has hundreds: what their figures say, and what is paid for them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from local_tasks import write_tasks

from eager_lmeval import paths
from eager_lmeval.commands.cli import main
from eager_lmeval.errors import UsageError
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.response import Response
from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.scoring import records, score

BOXED = {"function": "regex", "regex_pattern": r"boxed\{(-?\d+)\}"}
SUMS = {
    "task": "sums",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "<|user|>{{question}}<|assistant|>",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"do_sample": True, "temperature": 0.8, "max_gen_toks": 100, "until": []},
    "filter_list": [
        {"name": "none", "filter": [BOXED, {"function": "take_first"}]},
        {"name": "majority", "filter": [BOXED, {"function": "majority_vote"}, {"function": "take_first"}]},
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
"""A task in the harness's own means, on a few of the demo model's problems."""


pytestmark = pytest.mark.usefixtures("our_tasks_alone")


def write_task(folder: Path, docs: int = 12, **more: Any) -> Path:
    lines = (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()[:docs]
    (folder / "problems.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = SUMS | {"dataset_kwargs": {"data_files": {"test": str(folder / "problems.jsonl")}}} | more
    (folder / "sums.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder


def lm_eval_run(folder: Path, gen_kwargs: str, *more: str, model_args: str = "entropy_threshold=0.5") -> None:
    """What `lm_eval run` does, in this process."""
    from lm_eval._cli.harness import HarnessCLI

    command = ["run", "--model", "eager", "--model_args", f"pretrained=demo,{model_args}", "--tasks", "sums"]
    command += ["--include_path", str(folder), "--gen_kwargs", gen_kwargs]
    command += ["--output_path", str(folder / "out"), "--log_samples", *more]
    cli = HarnessCLI()
    cli.execute(cli._parser.parse_args(command))


def read_results(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(next((folder / "out").rglob("results_*.json")).read_text(encoding="utf-8"))
    return results


def read_samples(folder: Path) -> list[dict[str, Any]]:
    lines = next((folder / "out").rglob("samples_sums_*.jsonl")).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def figures(results: Mapping[str, Any]) -> set[str]:
    return {name for name in results["results"]["sums"] if name.startswith("exact_match,")}


def filters_of_table(printed: str) -> set[str]:
    rows = [line.split("|")[1:] for line in printed.splitlines() if line.startswith("|")]
    return {row[2].strip() for row in rows[2:]}


def test_cached_requests_are_those_of_the_same_options(tmp_path, monkeypatch):
    """The harness's key leaves generation options out: the second run would be made with the first one's."""
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    for folder, temperature in (("a", 0.5), ("b", 0.9), ("c", 0.5)):
        (tmp_path / folder).mkdir()
        options = f"do_sample=True,temperature={temperature}"
        lm_eval_run(write_task(tmp_path / folder, docs=2, repeats=2), options, "--cache_requests", "true")
        (pool,) = read_results(tmp_path / folder)["config"]["eager"]["pools"]
        assert pool["options"]["temperature"] == temperature
    assert len(list(tmp_path.glob("requests-sums-*.pickle"))) == 2, "the third run found the first one's"


def test_figures_made_with_labels_say_so_wherever_they_are_read(tmp_path, capsys, caplog):
    write_task(tmp_path, repeats=6)
    with caplog.at_level("WARNING", logger="lm_eval"):
        lm_eval_run(tmp_path, "strategy=eager,label=answer,verifier=math")
    assert filters_of_table(capsys.readouterr().out) == {"oracle", "oracle:majority"}
    assert figures(read_results(tmp_path)) == {"exact_match,oracle", "exact_match,oracle:majority"}
    assert {sample["filter"] for sample in read_samples(tmp_path)} == {"oracle", "oracle:majority"}
    assert "task 'sums' was made with labels" in caplog.records[-1].message


def test_figures_made_without_labels_stand_under_the_task_s_own_filters(tmp_path, capsys, caplog):
    write_task(tmp_path, repeats=6)
    with caplog.at_level("WARNING", logger="lm_eval"):
        lm_eval_run(tmp_path, "strategy=adapt")
    assert filters_of_table(capsys.readouterr().out) == {"none", "majority"}
    assert figures(read_results(tmp_path)) == {"exact_match,none", "exact_match,majority"}
    assert "made with labels" not in caplog.text


def test_compare_pairs_figures_made_with_labels_with_those_made_without(tmp_path, capsys):
    for name, gen_kwargs in (("without", "strategy=init"), ("with", "strategy=eager,label=answer,verifier=math")):
        (tmp_path / name).mkdir()
        lm_eval_run(write_task(tmp_path / name, docs=4, repeats=3), gen_kwargs)
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "without"), str(tmp_path / "with"), "--allow-different"]) == 0
    printed = capsys.readouterr().out
    assert "exact_match,majority" in printed
    assert "the candidate was made with labels" in " ".join(printed.split())


def requests_of(kind: str, *arguments: Any, **options: Any) -> list[Instance]:
    doc = {"question": "Add 2+3.", "answer": "5"}
    return [Instance(kind, doc, (*arguments, *([options] if options else [])), 0, ("mixed", 0, 1))]


def test_loglikelihoods_of_a_task_whose_texts_were_made_with_labels_say_so_and_what_does_not_is_refused():
    """A task such as SQuAD 2 asks for both, and the harness reads them under one filter's name."""
    labelled = {"strategy": "eager", "label": "answer", "verifier": "math", "max_gen_toks": 4}
    texts = requests_of("generate_until", "<|user|>Add 2+3.<|assistant|>", **labelled)
    scores = requests_of("loglikelihood", "<|user|>Add 2+3.<|assistant|>", "5")
    lm = EagerLM(pretrained="demo")
    lm.generate_until(texts, disable_tqdm=True)
    lm.loglikelihood(scores, disable_tqdm=True)
    for request in (*texts, *scores):
        request.filtered_resps["none"] = "something"
        assert list(request.filtered_resps) == ["oracle"]
    lm.get_model_info()
    texts[0].filtered_resps = {"none": "something"}
    with pytest.raises(UsageError, match=r"task 'mixed' was made with labels.*its figures are not given out"):
        lm.get_model_info()
    lm = EagerLM(pretrained="demo")
    lm.loglikelihood(scores, disable_tqdm=True)
    with pytest.raises(UsageError, match="task 'mixed': strategy=eager"):
        lm.generate_until(texts, disable_tqdm=True)


def plain(lm: EagerLM, repeats: int = 1, docs: int = 8, **options: Any) -> tuple[list[list[Any]], dict[str, Any]]:
    """The responses by document that a task without trees gets, and what the results file says of its pool."""
    lines = (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()[:docs]
    gen_kwargs = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 60, "entropy_threshold": 0.3} | options
    requests = []
    for number, doc in enumerate(map(json.loads, lines)):
        context = f"<|user|>{doc['question']}<|assistant|>"
        requests.append(Instance("generate_until", doc, (context, gen_kwargs), 0, ("plain", number, repeats)))
    clones = [request for request in requests for _ in range(repeats)]
    texts = lm.generate_until(clones, disable_tqdm=True)
    return [texts[place : place + repeats] for place in range(0, len(texts), repeats)], lm._eager.pools[-1]


@pytest.fixture(scope="module")
def demo() -> EagerLM:
    return EagerLM(pretrained="demo", max_length=1024)


def test_no_more_sequences_are_paid_for_than_texts_are_read_and_a_warning_says_so_once(demo, caplog):
    with caplog.at_level("WARNING", logger="lm_eval"):
        texts, pool = plain(demo, max_sequences=8)
    assert [len(of_document) for of_document in texts] == [1] * 8
    assert (pool["sequences"], pool["options"]["max_sequences"]) == (8, 1)
    assert caplog.text.count("max_sequences=8 is lowered to 1") == 1
    caplog.clear()
    with caplog.at_level("WARNING", logger="lm_eval"):
        alone, _ = plain(demo, max_sequences=1)
    assert alone == texts
    assert "max_sequences" not in caplog.text


def test_an_impossible_number_of_sequences_is_refused_though_it_would_be_lowered(demo):
    with pytest.raises(UsageError, match="max_sequences=0"):
        plain(demo, max_sequences=0)


@pytest.mark.parametrize("strategy", ["adapt", "eager"])
def test_of_a_task_with_repeats_every_sequence_becomes_a_text(demo, caplog, strategy):
    labels = {"label": "answer", "verifier": "math"} if strategy == "eager" else {}
    with caplog.at_level("WARNING", logger="lm_eval"):
        texts, pool = plain(demo, repeats=4, docs=16, entropy_threshold=2.2, strategy=strategy, **labels)
    ledger = pool["ledger"]
    assert ledger["surplus"] > 0
    assert (ledger["spent"] > 0) == (strategy == "eager")
    for of_document in texts:
        sequences = of_document[0].tree["sequences"]
        assert sum(s["copies"] for s in sequences) >= len(of_document) == 4
        if len(sequences) == 1 or pool["ledger"]["spent"] == 0:  # a first tree alone: its copies are the texts
            assert Counter(map(str, of_document)) == sum(
                (Counter({s["text"]: s["copies"]}) for s in sequences), Counter()
            )
    assert ("strategy=adapt does what init does" in caplog.text) == (strategy == "adapt")


def test_texts_of_repeats_are_right_as_often_as_independent_samples(demo):
    """avg@8 over 48 documents: within 4 standard errors of the difference, which documents and draws make."""
    right = {}
    lines = (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()[:48]
    answers = [f"boxed{{{json.loads(line)['answer']}}}" for line in lines]
    for strategy in ("init", "parallel"):
        texts, _ = plain(demo, repeats=8, docs=48, strategy=strategy)
        right[strategy] = [
            fmean(answer in text for text in of_document) for answer, of_document in zip(answers, texts, strict=True)
        ]
    differences = [ours - theirs for ours, theirs in zip(right["init"], right["parallel"], strict=True)]
    assert abs(fmean(differences)) < 4 * stdev(differences) / sqrt(len(differences))
    assert 0.2 < fmean(right["parallel"]) < 0.8


def test_a_task_with_repeats_is_told_that_forks_are_no_independent_samples(demo, caplog):
    with caplog.at_level("WARNING", logger="lm_eval"):
        plain(demo, repeats=3, branching="top2")
        assert "no estimate of independent samples" in caplog.text
        caplog.clear()
        plain(demo, repeats=3)
        plain(demo, repeats=3, strategy="parallel")
    assert "no estimate of independent samples" not in caplog.text


class InDollars(EagerLM):
    """Writes an answer as the grader of Hendrycks' MATH wants it."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts: list[Any] = super().generate_until(requests, disable_tqdm)
        return [Response(re.sub(r"(?s).*\\boxed\{(.*)\}", r"$\1$", text), text.tree) for text in texts]


@pytest.mark.parametrize(
    ("task", "model", "filter_name"),
    [("local_gsm8k_demo", EagerLM, "flexible-extract"), ("local_math500_demo", InDollars, "none")],
)
def test_by_vote_the_harness_s_own_metric_is_our_weighted_consensus(tmp_path, task, model, filter_name):
    manager = TaskManager(
        include_path=str(write_tasks(tmp_path, [task.removeprefix("local_")])), include_defaults=False
    )
    lm = model(pretrained="demo", respond="vote", verifier="math", max_sequences=8, entropy_threshold=0.5)
    result = simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0)
    (pool,) = lm.get_model_info()["eager"]["pools"]
    ours, theirs = [], []
    for sample in result["samples"][task]:
        if sample["filter"] == filter_name:
            label = re.search(r"-?\d+\D*$", str(sample["target"])).group().rstrip("}$")
            (record,) = records(sample["resps"], Rules(tie="first"))
            values = score({"eager": {"label": label, "verifier": "math"}}, record)
            if values["no_answer_rate"] < 1:  # the harness grades numbers within a thought that was cut off
                ours.append(values["cons_w@max"])
                theirs.append(sample["exact_match"])
    assert ours == theirs
    assert 0 < sum(ours) < len(ours) == 24 - pool["empty_votes"]
    assert pool["sequences"] > 24
    assert result["results"][task][f"exact_match,{filter_name}"] * 24 >= sum(theirs)


def test_the_vote_of_a_task_with_repeats_is_said_to_leave_its_filters_nothing_to_choose(demo, caplog):
    with caplog.at_level("WARNING", logger="lm_eval"):
        texts, _ = plain(demo, repeats=3, respond="vote", verifier="math")
    assert all(len(set(of_document)) == 1 for of_document in texts)
    assert "respond=vote makes the 3 texts that the task reads of a document one and the same" in caplog.text


def test_documents_without_an_answer_to_vote_for_are_counted_and_warned_about(demo, caplog):
    with caplog.at_level("WARNING", logger="lm_eval"):
        texts, pool = plain(demo, respond="vote", verifier="math", max_gen_toks=3, max_sequences=2)
    assert pool["empty_votes"] == len(texts) == 8
    assert "in 8 of 8 documents no sequence has an answer" in caplog.text
    assert all(text == text.tree["sequences"][0]["text"] for (text,) in texts)
