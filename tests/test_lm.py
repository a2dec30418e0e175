"""`eager` as the harness's model: what it returns for ordinary tasks, for repeats, and what it says of itself."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from local_tasks import write_tasks
from sqlitedict import SqliteDict

from eager_lmeval import paths
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.response import Response

QUESTION = "<|user|>Add 37+25.<|assistant|>"
SAMPLING = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 60, "entropy_threshold": 0.3, "max_sequences": 4}


@pytest.fixture(scope="module")
def demo() -> EagerLM:
    return EagerLM(pretrained="demo", max_length=8192)


@pytest.fixture(scope="module")
def hf() -> HFLM:
    return HFLM(pretrained=str(paths.demo_model_dir()), device="cpu", max_length=8192)


@pytest.fixture(scope="module")
def task_manager(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    return TaskManager(include_path=str(write_tasks(tmp_path_factory.mktemp("tasks"))), include_defaults=False)


@pytest.fixture(scope="module")
def demo_tasks() -> TaskManager:
    return TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False)


def instance(
    context: str = QUESTION, doc: dict[str, Any] | None = None, repeats: int = 1, doc_id: int = 0, **gen_kwargs: Any
) -> Instance:
    return Instance(
        "generate_until",
        doc or {"answer": "62", "eager": {}},
        (context, SAMPLING | gen_kwargs),
        0,
        ("some_task", doc_id, repeats),
    )


def evaluate(lm: Any, task: str, manager: TaskManager, **arguments: Any) -> dict[str, Any]:
    return simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0, **arguments)


def test_under_mixed_precision_tokens_are_those_of_plain_passes_under_it():
    lm = EagerLM(pretrained="demo", dtype="float32", mixed_precision_dtype="bfloat16")
    (response,) = lm.generate_until([instance(temperature=0.0, max_sequences=1, max_gen_toks=12)], disable_tqdm=True)
    tokens = response.tree["sequences"][0]["token_ids"]
    ids = lm.tok_encode(QUESTION)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for token in tokens:
            assert int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)
    assert tokens


def test_parallelize_gives_the_same_sequences(demo):
    """Without a GPU accelerate offloads the model and brings each module where it runs, as over several GPUs."""
    lm = EagerLM(pretrained="demo", max_length=8192, parallelize=True)
    assert hasattr(lm.model, "hf_device_map")
    requests = [instance(f"<|user|>Add {number}+25.<|assistant|>", doc_id=number) for number in (37, 8)]
    spread, plain = (model.generate_until(requests, disable_tqdm=True) for model in (lm, demo))
    assert [[s["token_ids"] for s in response.tree["sequences"]] for response in spread] == [
        [s["token_ids"] for s in response.tree["sequences"]] for response in plain
    ]


def test_a_generate_until_task_of_the_harness_gives_what_hf_gives_at_temperature_0(demo, hf, task_manager):
    ours = evaluate(demo, "local_gsm8k", task_manager, gen_kwargs="max_gen_toks=40,max_sequences=1", limit=3)
    theirs = evaluate(hf, "local_gsm8k", task_manager, gen_kwargs="max_gen_toks=40", limit=3)
    texts = [
        [str(sample["resps"][0][0]) for sample in sorted(result["samples"]["local_gsm8k"], key=lambda s: s["doc_id"])]
        for result in (ours, theirs)
    ]
    assert texts[0] == texts[1]
    assert any(texts[0])
    assert ours["results"] == theirs["results"]


def test_a_loglikelihood_task_gives_what_hf_gives(demo, hf, task_manager):
    ours, theirs = (evaluate(lm, "local_arc_easy", task_manager) for lm in (demo, hf))
    assert ours["results"] == theirs["results"]


def test_a_task_with_repeats_runs_unchanged_and_prefills_each_document_once(demo, task_manager):
    result = evaluate(demo, "local_gsm8k_cot_self_consistency", task_manager, gen_kwargs="max_gen_toks=24", limit=2)
    for sample in result["samples"]["local_gsm8k_cot_self_consistency"]:
        texts, tree = sample["resps"][0], sample["resps"][0][0].tree
        assert len(texts) == 64
        assert tree["max_sequences"] == 64
        assert tree["prefill_tokens"] == tree["prompt_tokens"]
        dealt: Counter[str] = Counter()
        for sequence in tree["sequences"]:
            dealt[sequence["text"]] += sequence["copies"]
        assert Counter(map(str, texts)) == dealt
    assert {"exact_match,maj@64", "exact_match,maj@8", "exact_match,score-first"} <= set(
        result["results"]["local_gsm8k_cot_self_consistency"]
    )


def test_padding_is_answered_without_new_work(demo):
    request = instance()
    alone = demo.generate_until([request], disable_tqdm=True)
    padded = demo.generate_until([request, request, request], disable_tqdm=True)
    assert [response.tree for response in padded] == [alone[0].tree] * 3
    assert demo.get_model_info()["eager"]["pools"][-1]["ledger"]["prompts"] == 1


def test_results_do_not_depend_on_the_order_of_requests_or_on_max_rows(demo):
    requests = [instance(f"<|user|>Add {a}+{7 * a}.<|assistant|>", doc_id=a) for a in range(11, 21)]
    first = demo.generate_until(requests, disable_tqdm=True)
    for rows, order in ((4, requests[::-1]), (16, requests[3:] + requests[:3])):
        for request in requests:
            request.args[1]["max_rows"] = rows
        again = demo.generate_until(order, disable_tqdm=True)
        by_id = {request.doc_id: response.tree["sequences"] for request, response in zip(order, again, strict=True)}
        for request, response in zip(requests, first, strict=True):
            ours, theirs = response.tree["sequences"], by_id[request.doc_id]
            assert [s["path"] for s in ours] == [s["path"] for s in theirs]
            assert [s["token_ids"] for s in ours] == [s["token_ids"] for s in theirs]


def test_gen_kwargs_win_over_model_args_over_the_document_over_the_preset(demo):
    lm = EagerLM(pretrained="demo", entropy_threshold=0.7, max_sequences=3, branch_window=9, preset="reference")
    doc = {"answer": "62", "eager": {"label": "62", "verifier": "math", "entropy_threshold": 0.9, "count": "active"}}
    request = Instance("generate_until", doc, (QUESTION, {"max_sequences": 2}), 0, ("some_task", 0, 1))
    lm.generate_until([request], disable_tqdm=True)
    options = lm.get_model_info()["eager"]["pools"][-1]["options"]
    assert options["max_sequences"] == 2
    assert options["entropy_threshold"] == 0.7
    assert options["branch_window"] == 9
    assert options["count"] == "active"
    assert options["dynamic_percentile"] == 99.0
    assert options["entropy_top_k"] == 20


def test_documents_with_different_options_never_share_a_budget(demo):
    requests = [
        instance(doc={"answer": "62", "eager": {"branching": "top2", "branch_window": window}}, doc_id=place)
        for place, window in enumerate((5, 5, 50))
    ]
    before = len(demo.get_model_info()["eager"]["pools"])
    demo.generate_until(requests, disable_tqdm=True)
    pools = demo.get_model_info()["eager"]["pools"][before:]
    assert [pool["ledger"]["prompts"] for pool in pools] == [2, 1]


@pytest.mark.parametrize("label", ["answer", "parts.0.value", "{{answer}}", "{{ question.split('+')[0] | int + 25 }}"])
def test_strategy_eager_works_on_any_task_with_a_typed_label_and_verifier(demo, label):
    doc = {"question": "37+25", "answer": "62", "parts": [{"value": "62"}]}
    demo.generate_until([instance(doc=doc, strategy="eager", label=label, verifier="math")], disable_tqdm=True)
    assert demo.get_model_info()["eager"]["pools"][-1]["labels_used"] is True


def test_the_seed_comes_from_the_harness_unless_it_is_given(demo, demo_tasks):
    evaluate(demo, "eager_demo", demo_tasks, limit=2, torch_random_seed=77, gen_kwargs="max_sequences=2")
    assert demo.get_model_info()["eager"]["pools"][-1]["options"]["seed"] == 77
    demo.generate_until([instance(seed=5)], disable_tqdm=True)
    assert demo.get_model_info()["eager"]["pools"][-1]["options"]["seed"] == 5


def test_a_stop_string_ends_a_sequence_and_is_cut_off(demo):
    whole = demo.generate_until([instance(temperature=0, do_sample=False, max_sequences=1)], disable_tqdm=True)[0]
    answer = whole.split("</think>")[1]
    stop = answer[2:5]
    cut = demo.generate_until(
        [instance(temperature=0, do_sample=False, max_sequences=1, until=[stop])], disable_tqdm=True
    )[0]
    assert cut == whole[: whole.index("</think>") + len("</think>") + answer.index(stop)]


def test_a_special_token_among_the_stop_strings_ends_a_sequence(demo):
    (user,) = demo.tokenizer.encode("<|user|>")
    assert user not in demo._eager.decoding.eos_ids(resolve({}))
    assert user in demo._eager.decoding.eos_ids(resolve({"until": ["<|user|>"]}))


def test_a_given_end_of_thinking_marker_takes_the_thinking_part_off_the_response(demo):
    whole = demo.generate_until([instance()], disable_tqdm=True)[0]
    stripped = demo.generate_until([instance(think_end_token="</think>")], disable_tqdm=True)[0]
    assert stripped == whole.split("</think>")[1].lstrip()
    cut_off = demo.generate_until([instance(think_end_token="</think>", max_gen_toks=3)], disable_tqdm=True)[0]
    assert cut_off == ""
    assert cut_off.tree["sequences"][0]["finish"] == "length"
    assert cut_off.tree["sequences"][0]["answer_at"] is None


def test_a_response_is_a_string_that_pickles_with_its_tree(demo):
    response = demo.generate_until([instance()], disable_tqdm=True)[0]
    again = pickle.loads(pickle.dumps(response))
    assert isinstance(response, str)
    assert (again, again.tree) == (str(response), response.tree)
    assert response == response.tree["sequences"][0]["text"]
    assert json.loads(str(response.tree)) == response.tree
    assert Response(62) == "62", "the harness casts its targets to the type of the response"


def test_every_number_of_the_table_can_be_computed_again_from_the_samples(demo, demo_tasks, tmp_path):
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(tmp_path))
    result = evaluate(
        demo,
        "eager_demo",
        demo_tasks,
        limit=12,
        evaluation_tracker=tracker,
        gen_kwargs="strategy=eager,max_sequences=4",
    )
    samples = result.pop("samples")
    tracker.save_results_aggregated(results=result, samples=samples)
    tracker.save_results_samples(task_name="eager_demo", samples=samples["eager_demo"])
    lines = next(Path(tmp_path).rglob("samples_eager_demo_*.jsonl")).read_text(encoding="utf-8").splitlines()

    rows = []
    for sample in map(json.loads, lines):
        tree = json.loads(sample["tree"])
        assert sample["filtered_resps"][0] in [sequence["text"] for sequence in tree["sequences"]]
        assert "tree" not in sample["metrics"]
        correct, votes = [], Counter()
        for sequence in tree["sequences"]:
            text = "" if sequence["answer_at"] is None else sequence["text"][sequence["answer_at"] :]
            boxed = text.rpartition("\\boxed{")[2].partition("}")[0] if "\\boxed{" in text else None
            correct.append(boxed == sample["doc"]["answer"])
            if boxed:
                votes[boxed] += 1
        tied = [answer for answer, count in votes.items() if count == max(votes.values())]
        rows.append(
            {
                "pass@max": float(any(correct)),
                "pass_rate": sum(correct) / len(correct),
                "cons@max": sum(answer == sample["doc"]["answer"] for answer in tied) / len(tied) if tied else 0.0,
                "tokens": sum(len(sequence["token_ids"]) for sequence in tree["sequences"]),
                "sequences": len(tree["sequences"]),
                "branches": sum(sequence["branch_at"] is not None for sequence in tree["sequences"]),
                "labels_used": 1.0,
            }
        )
    table = result["configs"]["eager_demo"]["figures"]
    for metric in rows[0]:
        values = [row[metric] for row in rows]
        expected = {"labels_used": max(values)}.get(
            metric, sum(values) if metric in ("tokens", "sequences", "branches") else sum(values) / len(values)
        )
        assert table[f"{metric},oracle"] == pytest.approx(expected), metric
    ledger = result["config"]["eager"]["pools"][-1]["ledger"] if "eager" in result["config"] else None
    ledger = ledger or demo.get_model_info()["eager"]["pools"][-1]["ledger"]
    assert sum(row["sequences"] for row in rows) == ledger["used"] + ledger["spent"]


def test_another_model_of_the_harness_is_scored_by_its_single_text(hf, demo_tasks):
    result = evaluate(hf, "eager_demo", demo_tasks, limit=2)
    assert result["results"]["eager_demo"]["sequences,none"] == 2


def test_use_cache_never_answers_for_other_options_or_other_repeats(tmp_path):
    """The harness would read: a request without `do_sample` is no random one to it."""

    def texts(**model_args: Any) -> list[str]:
        lm = EagerLM(pretrained="demo", **model_args)
        request = instance("<|user|>Solve 18*x=7 mod 23.<|assistant|>", repeats=3, do_sample=None)
        return [str(text) for text in CachingLM(lm, str(tmp_path / "cache.db")).generate_until([request] * 3)]

    first = texts(seed=1)
    assert len(set(first)) == 3
    assert texts(seed=1) == first
    assert texts(seed=2) != first
    assert texts(seed=1, strategy="parallel") != first
    with SqliteDict(str(tmp_path / "cache.db")) as kept:
        assert len(kept) == 0, "nothing is written that would never be found"


def test_use_cache_still_holds_loglikelihoods(demo, task_manager, tmp_path, monkeypatch):
    fresh = evaluate(demo, "local_arc_easy", task_manager, use_cache=str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "_loglikelihood_tokens", None)  # calling it would fail
    cached = evaluate(demo, "local_arc_easy", task_manager, use_cache=str(tmp_path / "cache"))
    assert cached["results"] == fresh["results"]
