"""`EagerLM` as one of several processes, without a launcher that would clean up after them.

    python processes.py PLAN.json     one rank, by the environment variables that torchrun sets

A plan names the model's arguments and a list of calls. Each rank gets the documents that the harness would give it,
padding included, and writes what it returned for them. `launch` starts all ranks of a plan.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

TASK = "some_task"


@dataclass
class Call:
    """One `generate_until` over the demo problems ``first`` … ``first + docs − 1`` of each task."""

    docs: int = 8
    first: int = 0
    repeats: int = 1
    tasks: tuple[str, ...] = (TASK,)
    gen_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Plan:
    out: str
    calls: list[Call] = field(default_factory=lambda: [Call()])
    model_args: dict[str, Any] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    """Seconds that a rank, by its number, sleeps in the middle of its first prompt."""
    failing: list[int] = field(default_factory=list)
    """Ranks that raise an error in the middle of their first prompt."""
    killed: list[int] = field(default_factory=list)
    """Ranks that end by SIGKILL there."""
    absent: list[int] = field(default_factory=list)
    """Ranks that come to the barrier after the calls without having made any."""
    dtype: str = "float64"
    """In which results are equal whatever the batch is."""
    collective_timeout_s: float = 60.0
    silence_s: float = 60.0
    steps_before_it: int = 20


def problems(first: int, count: int) -> list[dict[str, Any]]:
    from eager_lmeval import paths

    lines = (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[first : first + count]]


def instances(call: Call, rank: int, ranks: int) -> list[Any]:
    """What the harness would give this rank: every ``ranks``-th document of each task, clones, padding."""
    from lm_eval.api.instance import Instance

    gen_kwargs = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 60, "until": []} | call.gen_kwargs
    requests = []
    padding = 0
    for task in call.tasks:
        docs = list(enumerate(problems(call.first, call.docs)))
        for doc_id, doc in docs[rank::ranks]:
            column = {"label": doc["answer"], "verifier": "math", "entropy_threshold": 0.3}
            context = f"<|user|>{doc['question']}<|assistant|>"
            metadata = (task, doc_id, call.repeats)
            requests.append(
                Instance("generate_until", doc | {"eager": column}, (context, dict(gen_kwargs)), 0, metadata)
            )
        padding += len(docs[0::ranks]) - len(docs[rank::ranks])
    requests += [requests[-1]] * padding if requests else []
    return [request for request in requests for _ in range(call.repeats)]


def make_calls(lm: Any, calls: list[Call]) -> list[dict[str, Any]]:
    """By call: the responses and the tree of each document of this rank, keyed by task and document.

    Responses are handed out as the harness does it, and the barrier that follows is the harness's.
    """
    made = []
    for call in calls:
        requests = instances(call, lm.rank, lm.world_size)
        by_document: dict[str, Any] = {}
        for request, response in zip(requests, lm.generate_until(requests), strict=True):
            request.resps.append(response)
        lm.barrier()
        for request in requests:
            by_document[f"{request.task_name} {request.doc_id}"] = {
                "texts": [str(response) for response in request.resps],
                "tree": request.resps[0].tree,
            }
        made.append(by_document)
    return made


def main(plan: Plan) -> None:
    import torch

    from eager_lmeval.engine.transformers.runner import ModelRunner
    from eager_lmeval.lm import EagerLM
    from eager_lmeval.processes import ranks

    torch.manual_seed(1234)
    ranks.COLLECTIVE_TIMEOUT = timedelta(seconds=plan.collective_timeout_s)
    ranks.CHECK_INTERVAL_S = ranks.PULSE_INTERVAL_S = 0.1
    ranks.SILENCE_S = plan.silence_s
    lm = EagerLM(**{"pretrained": "demo", "dtype": plan.dtype} | plan.model_args)
    decode, steps = ModelRunner.decode, 0

    def disturbed(self: ModelRunner, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == plan.steps_before_it:
            if lm.rank in plan.failing:
                raise RuntimeError(f"the device of rank {lm.rank} fell off")
            if lm.rank in plan.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(plan.slow.get(str(lm.rank), 0.0))
        return decode(self, *arguments)

    ModelRunner.decode = disturbed
    made = make_calls(lm, plan.calls) if lm.rank not in plan.absent else []
    lm.barrier()
    written = {"calls": made, "pools": lm._eager.pools, "rank": lm.rank, "steps": steps}
    Path(plan.out, f"rank{lm.rank}.json").write_text(json.dumps(written), encoding="utf-8")


@contextmanager
def launched(plan: Plan, ranks: int) -> Iterator[list[subprocess.Popen[str]]]:
    """All ranks of a plan as processes; each writes its output to ``plan.out``. None is left behind."""
    out = Path(plan.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(json.dumps(plan, default=vars), encoding="utf-8")
    processes = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        for rank in range(ranks):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
            several = {name: str(value) for name, value in world.items()} if ranks > 1 else {}
            with (out / f"rank{rank}.log").open("w", encoding="utf-8") as output:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, __file__, str(out / "plan.json")],
                        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | several,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(plan: Plan, ranks: int, timeout_s: float = 180) -> list[int]:
    """Exit statuses of the ranks, once all have ended by themselves. Raises TimeoutExpired when one hangs."""
    with launched(plan, ranks) as processes:
        end = time.monotonic() + timeout_s
        return [process.wait(end - time.monotonic()) for process in processes]


def kill_when(plan: Plan, ranks: int, records: int, delay_s: float = 0.0, timeout_s: float = 180) -> bool:
    """Kills all ranks at once when the journal has that many lines; False if the run ended before."""
    with launched(plan, ranks) as processes:
        end = time.monotonic() + timeout_s
        while journal_lines(plan) < records and time.monotonic() < end:
            if all(process.poll() is not None for process in processes):
                return False
            time.sleep(0.01)
        time.sleep(delay_s)
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGKILL)
        return bool(running)


def journal_lines(plan: Plan) -> int:
    folder = Path(plan.model_args["journal"])
    return sum(path.read_bytes().count(b"\n") - 1 for path in folder.glob("*.jsonl"))


def log_of(plan: Plan, rank: int) -> str:
    return Path(plan.out, f"rank{rank}.log").read_text(encoding="utf-8")


def results(plan: Plan, ranks: int) -> list[dict[str, Any]]:
    """By call, all ranks' documents together. A document that two ranks answered is an error."""
    merged: list[dict[str, Any]] = [{} for _ in plan.calls]
    for rank in range(ranks):
        written = json.loads(Path(plan.out, f"rank{rank}.json").read_text(encoding="utf-8"))
        for call, by_document in zip(merged, written["calls"], strict=True):
            assert not call.keys() & by_document.keys()
            call.update(by_document)
    return merged


def pools(plan: Plan, rank: int = 0) -> list[dict[str, Any]]:
    """What a rank reports of the pools."""
    reported: list[dict[str, Any]] = json.loads(Path(plan.out, f"rank{rank}.json").read_text(encoding="utf-8"))["pools"]
    return reported


def essence(by_document: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for any number of processes: everything but the last digits of floats and the journal."""
    return {
        document: {
            "texts": answered["texts"],
            "tokens": answered["tree"]["tokens"],
            "prefill_tokens": answered["tree"]["prefill_tokens"],
            "sequences": [
                (tuple(s["path"]), s["token_ids"], s["text"], s["finish"], s["branch_at"], s["num_tokens"])
                for s in answered["tree"]["sequences"]
            ],
        }
        for document, answered in by_document.items()
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    calls = [Call(**call | {"tasks": tuple(call["tasks"])}) for call in given.pop("calls")]
    main(Plan(**given, calls=calls))
