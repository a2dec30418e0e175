"""Several processes give what one gives, wait for the slow ones, and end together. Real processes, over gloo."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import light_harness
import pytest
import torch
from process_runs import Call, Plan, essence, log_of, make_calls, pools, results, run
from slow_race import tick_by_tick
from tiers import ALL

from eager_lmeval import paths
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.requests import Request, one_order
from eager_lmeval.verify import get_verifier

STRATEGIES = ("parallel", "init", "adapt", "eager")
SLOW_S = 8.0
TIMEOUT_S = 3.0
PROCESSES = (2, 3) if ALL else (2,)
numbers_of_processes = pytest.mark.parametrize(
    "ranks", [2, pytest.param(3, marks=pytest.mark.slow("three processes for what two show"))]
)


@dataclass
class Runs:
    """The same calls by one, two and three processes."""

    calls: list[Call]
    plans: dict[int, Plan]
    alone: list[dict[str, Any]]
    alone_pools: list[dict[str, Any]]


@pytest.fixture(scope="module")
def demo() -> EagerLM:
    torch.manual_seed(1234)
    return EagerLM(pretrained="demo", dtype="float64")


def threshold_that_leaves_a_surplus(lm: EagerLM) -> float:
    """Nats; the first of some at which adapt and eager both have something to grant to more than one prompt."""
    for threshold in (1.8, 1.4, 1.0, 0.6, 2.2):
        for strategy in ("adapt", "eager"):
            make_calls(lm, [Call(7, gen_kwargs=gated(strategy, threshold))])
        if all(len(pool["ledger"]["grants"]) > 1 for pool in lm._eager.pools[-2:]):
            return threshold
    raise AssertionError("the demo model never leaves a surplus to share; take other problems")


def gated(strategy: str, threshold: float) -> dict[str, Any]:
    return {"strategy": strategy, "branching": "top2", "max_sequences": 4, "entropy_threshold": threshold}


@pytest.fixture(scope="module")
def runs(demo: EagerLM, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    threshold = threshold_that_leaves_a_surplus(demo)
    calls = [Call(7, gen_kwargs=gated(strategy, threshold)) for strategy in STRATEGIES]
    calls.append(Call(7, gen_kwargs=gated("adapt", threshold) | {"preset": "reference", "max_rows": 5}))
    calls.append(Call(5, repeats=3))
    calls.append(Call(7, gen_kwargs=gated("eager", threshold) | {"branching": "systematic", "max_rows": 3}))
    race = {"strategy": "consistency", "verifier": "math", "max_sequences": 8, "first_lanes": 2, "max_rows": 5}
    calls.append(Call(7, gen_kwargs=race))
    calls.append(Call(2, tasks=("one", "another"), gen_kwargs=gated("adapt", threshold)))
    demo._eager.pools.clear()
    alone = make_calls(demo, calls)
    plans = {}
    for ranks in PROCESSES:
        plans[ranks] = Plan(str(tmp_path_factory.mktemp(f"{ranks}_processes")), calls)
        if ranks == 2:
            plans[ranks].slow = {"1": SLOW_S}
            plans[ranks].collective_timeout_s = TIMEOUT_S
        assert run(plans[ranks], ranks) == [0] * ranks, log_of(plans[ranks], 0)
    return Runs(calls, plans, alone, list(demo._eager.pools))


@numbers_of_processes
@pytest.mark.parametrize(
    "call",
    range(9),
    ids=[*STRATEGIES, "reference", "repeats", "systematic", "consistency", "fewer documents than processes"],
)
def test_every_sequence_is_the_one_that_one_process_makes(runs, ranks, call):
    several = essence(results(runs.plans[ranks], ranks)[call])
    assert several == essence(runs.alone[call])
    assert len(several) == runs.calls[call].docs * len(runs.calls[call].tasks)


@numbers_of_processes
def test_the_ledger_and_the_costs_are_those_of_one_process(runs, ranks):
    reported = pools(runs.plans[ranks])
    assert len(reported) == len(runs.alone_pools) == 10
    for several, alone in zip(reported, runs.alone_pools, strict=True):
        for figure in ("task", "options", "ledger", "sequences", "branches", "tokens", "prefill_tokens", "labels_used"):
            assert several[figure] == alone[figure]
        assert several["processes"] == ranks
    granted = {pool["options"]["strategy"]: pool["ledger"]["granted"] for pool in reported[:4]}
    assert granted["adapt"] > 0
    assert granted["eager"] > 0


@numbers_of_processes
def test_padding_adds_no_response_to_a_document(runs, ranks):
    assert all(len(answered["texts"]) == 3 for answered in results(runs.plans[ranks], ranks)[5].values())
    assert 5 % ranks, "there was padding"


def test_ranks_wait_for_a_slow_one_longer_than_any_collective_may_take(runs):
    """The two processes of `runs`: one slept in its first prompt, for longer than the group's timeout."""
    assert SLOW_S > 2 * TIMEOUT_S
    fast, slow = (
        json.loads(Path(runs.plans[2].out, f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)
    )
    assert slow["steps"] >= runs.plans[2].steps_before_it, "the slow rank was in the middle of its work"
    slowest = [max(pool["seconds"] for pool in reported["pools"]) for reported in (fast, slow)]
    assert slowest[0] == slowest[1] > SLOW_S


def test_a_rank_that_fails_ends_the_others_with_its_error(tmp_path):
    plan = Plan(str(tmp_path), [Call(6, gen_kwargs={"max_gen_toks": 100})], failing=[1])
    assert all(run(plan, 2)), "no rank hangs, and none says that all went well"
    assert "RuntimeError: the device of rank 1 fell off" in log_of(plan, 1)
    assert log_of(plan, 0).splitlines()[-1] == (
        "eager_lmeval: rank 0 ends because another rank has failed: rank 1: RuntimeError: the device of rank 1 fell off"
    )


def test_a_rank_that_is_killed_is_missed_by_the_others(tmp_path):
    """Nothing cleans up after it: the others notice by themselves."""
    plan = Plan(str(tmp_path), [Call(6, gen_kwargs={"max_gen_toks": 100})], killed=[1], silence_s=5.0)
    assert run(plan, 2) == [1, -signal.SIGKILL]
    assert log_of(plan, 0).splitlines()[-1] == (
        "eager_lmeval: rank 0 ends: rank 1 has not been heard of for 5 s: it was killed, or its machine is gone"
    )


@pytest.mark.slow("test_ranks shows it on threads")
def test_a_rank_without_requests_ends_the_run_in_one_line(tmp_path):
    plan = Plan(str(tmp_path), absent=[1])
    assert all(run(plan, 2))
    for rank in (0, 1):
        assert "start fewer processes" in log_of(plan, rank).splitlines()[-1]


def test_requests_come_in_the_order_of_one_process():
    def request(task: str, doc_id: int, rank: int) -> Request:
        return Request(task, doc_id, 1, f"{task} {doc_id}", {}, {}, rank)

    alone = [request("b", doc, 0) for doc in range(5)] + [request("a", doc, 0) for doc in range(3)]
    by_rank = [[request("b", doc, r) for doc in range(5) if doc % 2 == r] for r in (0, 1)]
    for rank in (0, 1):
        by_rank[rank] += [request("a", doc, rank) for doc in range(3) if doc % 2 == rank]
    assert [request.context for request in one_order(by_rank)] == [request.context for request in alone]
    assert one_order([alone[::-1]]) == alone[::-1], "one process keeps its order"


def harness(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`lm_eval run` of the demo task under torchrun."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("-m", light_harness.MODULE, "run", "--model", "eager", "--tasks", "eager_demo"),
        *("--include_path", str(paths.tasks_dir()), *arguments),
    ]
    environment = light_harness.environment() | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow("two starts of the harness, for a line")
def test_more_processes_than_documents_end_with_what_to_do(tmp_path):
    done = harness(2, "--model_args", "pretrained=demo", "--limit", "1")
    assert done.returncode != 0
    assert (
        "rank 1 of 2 got no document: a task has fewer documents than there are processes; start fewer" in done.stderr
    )


def test_the_harness_runs_over_two_processes_and_reports_once(demo, tmp_path):
    limit = ["--limit", "5", "--log_samples", "--seed", "1234"]
    options = {"strategy": "adapt", "max_sequences": "4"}
    arguments = ",".join(["pretrained=demo,dtype=float64", *(f"{name}={value}" for name, value in options.items())])
    done = harness(2, "--model_args", arguments, "--output_path", str(tmp_path), *limit)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.rstrip().splitlines()[-1].startswith("eager_demo: adapt systematic, M = 4, "), "below the table"
    (results_file,) = tmp_path.rglob("results_*.json")
    (samples_file,) = tmp_path.rglob("samples_*.jsonl")
    (pool,) = json.loads(results_file.read_text(encoding="utf-8"))["config"]["eager"]["pools"]
    assert pool["processes"] == 2
    assert pool["ledger"]["prompts"] == 5
    (configured,) = json.loads(results_file.read_text(encoding="utf-8"))["configs"].values()
    assert configured["figures"]["scored,none"] == 5, "documents of both processes are summed up"

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    alone = simple_evaluate(
        EagerLM(pretrained="demo", dtype="float64", strategy="adapt", max_sequences=4),
        tasks=["eager_demo"],
        task_manager=TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False),
        limit=5,
        bootstrap_iters=0,
    )
    expected = {sample["doc_id"]: json.loads(str(sample["tree"])) for sample in alone["samples"]["eager_demo"]}
    lines = [json.loads(line) for line in samples_file.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["doc_id"] for line in lines) == [0, 1, 2, 3, 4]
    for line in lines:
        tree = json.loads(line["tree"])
        assert len(line["resps"][0]) == 1, "padding added a response"
        ours, theirs = (
            [(s["path"], s["token_ids"], s["text"]) for s in one["sequences"]]
            for one in (tree, expected[line["doc_id"]])
        )
        assert ours == theirs


def random_races() -> list[Call]:
    """Ten pools of twenty races each, over 8, 64 and 256 rows."""
    choose = random.Random(7)
    return [
        Call(
            20,
            gen_kwargs={
                **{
                    "strategy": "consistency",
                    "verifier": "math",
                    "seed": number,
                    "max_sequences": choose.randint(4, 16),
                },
                **{"first_lanes": choose.randint(1, 8), "settled_at": choose.choice([0.8, 0.95])},
                "max_rows": (8, 64, 256)[number % 3],
            },
        )
        for number in range(10)
    ]


@pytest.fixture(scope="module")
def races_by_rule(demo: EagerLM) -> list[dict[str, Any]]:
    """What the rule makes of all M answers of each document: tokens of what ended and of what was cut."""
    verifier, found = get_verifier("math"), []
    for call in random_races():
        (made,) = make_calls(demo, [Call(20, gen_kwargs=call.gen_kwargs | {"strategy": "parallel", "max_rows": 256})])
        rules = [call.gen_kwargs[name] for name in ("first_lanes", "max_sequences", "settled_at")]
        found.append({})
        for document, answered in made.items():
            sequences = answered["tree"]["sequences"]
            texts = [sequence["text"][sequence["answer_at"] :] for sequence in sequences]
            classes = [grade.answer_class for grade in verifier.grade(texts, None)]
            race = tick_by_tick([sequence["num_tokens"] for sequence in sequences], classes, *rules)
            found[-1][document] = {
                root: (sequences[root]["token_ids"][:tokens], root in race.cut)
                for root, tokens in sorted((race.ended | race.cut).items())
            }
    return found


@pytest.mark.slow("600 races, on six processes in all")
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_200_random_races_are_those_of_the_rule_on_any_number_of_processes(races_by_rule, tmp_path, ranks):
    plan = Plan(str(tmp_path), random_races())
    assert run(plan, ranks) == [0] * ranks, log_of(plan, 0)
    for made, expected in zip(results(plan, ranks), races_by_rule, strict=True):
        raced = {
            document: {
                sequence["path"][0]: (sequence["token_ids"], sequence["finish"] == "cut")
                for sequence in answered["tree"]["sequences"]
            }
            for document, answered in made.items()
        }
        assert raced == expected
