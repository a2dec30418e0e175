"""What eager-vllm's own Python costs a step, without a model: milliseconds of CPU time, by rows and by what rows do.

    python benchmarks/vllm_host.py

    loop, …        `engine/vllm/loop.py` over a server that answers at once: rows that report at their end, rows of a
                   race that report at intervals, rows that end where they may split (systematic), and rows behind an
                   open gate, which report log-probabilities token by token (top2)
    draws          the processor in vLLM's worker, with logits of 64 tokens and top_p: the tensor work is the CPU's
    draws, alone   the same without tensor work

Runs where vLLM is installed. The median of the steps; the last line of stdout is one JSON document.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from typing import Any

sys.path.pop(0)  # this script's folder, in which vllm.py would be taken for the package
os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm import draws
from eager_lmeval.engine.vllm.draws import DrawRequest, EagerDraws
from eager_lmeval.engine.vllm.loop import Engine
from eager_lmeval.engine.vllm.reading import Reported
from eager_lmeval.engine.vllm.server import Answer
from eager_lmeval.pools.run import grow_pool

VOCAB, TOKENS, SEQUENCES = 64, 120, 16
SAMPLING = Sampling(0.6, top_p=0.95)
SURE = [-0.01] + [-9.0 - 0.1 * rank for rank in range(19)]


class AtOnce:
    """Implements `engine.vllm.server.Server`: each request has one more token a step, and no model makes it."""

    vocabulary = VOCAB
    signal = -1
    tokens = math.inf
    recomputed_tokens = 0

    def __init__(self) -> None:
        self.running: dict[str, dict[str, Any]] = {}
        self.number = 0

    def decode(self, prefix: Any, order: DrawRequest, age: int, room: int, reads: bool, interval: Any = None) -> str:
        return self._add(room=room, reads=reads, interval=interval, whole=not reads and interval is None)

    def ask(self, prefix: Any, order: DrawRequest, age: int, reads: bool) -> str:
        return self._add(room=1, reads=True, interval=None, whole=False)

    def _add(self, **request: Any) -> str:
        self.number += 1
        self.running[f"{self.number}"] = {**request, "made": 0, "told": 0}
        return f"{self.number}"

    def abort(self, requests: list[str]) -> None:
        for name in requests:
            self.running.pop(name, None)

    def step(self) -> list[Answer]:
        answers = []
        for name, request in list(self.running.items()):
            request["made"] += 1
            ended = request["made"] == request["room"]
            due = request["made"] == 1 or (request["made"] - request["told"]) >= (request["interval"] or 1)
            if ended or (due and not request["whole"]):
                fresh = request["made"] - request["told"]
                reported = [Reported([5, *range(20)], [-3.0, *SURE])] * fresh if request["reads"] else []
                answers.append(Answer(name, [5] * fresh, reported, ended, 0))
                request["told"] = request["made"]
            if ended:
                del self.running[name]
        return answers


def loop_ms(rows: int, **given: Any) -> float:
    """A step of the loop, without the server's own time."""
    spent: list[float] = []
    server = AtOnce()
    inner = server.step

    class Timed(Engine):
        def _step(self) -> None:
            begun = time.process_time()
            super()._step()
            if self.in_use >= 0.9 * rows:
                spent.append(time.process_time() - begun - taken[-1])

    taken: list[float] = []

    def timed_step() -> list[Answer]:
        begun = time.process_time()
        answers = inner()
        taken.append(time.process_time() - begun)
        return answers

    server.step = timed_step  # type: ignore[method-assign]  # of this object alone
    options = resolve(
        {"temperature": 0.6, "top_p": 0.95, "max_gen_toks": TOKENS, "max_sequences": SEQUENCES, "verifier": "exact"}
        | given
    )
    pool = [
        Prompt(n, "host", f"{n}", [1] * 200, n, TOKENS)
        for n in range(rows if given["strategy"] == "init" else rows // SEQUENCES)
    ]
    room = 2 * rows if given.get("branching") == "top2" else rows  # behind a gate it is kept for forks that never come
    engine = Timed(server, stopper(), SAMPLING, 0, room)  # type: ignore[arg-type]  # the server's public face
    grow_pool(pool, options, engine, classify=lambda texts: [None for _ in texts])
    return 1000 * statistics.median(spent)


def stopper() -> Any:
    from transformers import AutoTokenizer

    from eager_lmeval import paths
    from eager_lmeval.engine.text import TextStopper

    return TextStopper(AutoTokenizer.from_pretrained(str(paths.demo_model_dir())), set(), (), None)


def draws_ms(rows: int, tensors: bool) -> float:
    processor = EagerDraws(None, torch.device("cpu"), False)
    orders = [DrawRequest(row, 4, SAMPLING) for row in range(rows)]
    added = [
        (row, SamplingParams(temperature=0.0, extra_args=order.extra_args()), [0] * 4, [])
        for row, order in enumerate(orders)
    ]
    processor.update_state(BatchUpdate(batch_size=rows, removed=(), added=added, moved=[]))
    logits = torch.randn((rows, VOCAB))
    spent = []
    work, draws.leave_drawn = draws.leave_drawn, draws.leave_drawn if tensors else lambda *orders: None
    for _ in range(30):
        seen = logits.clone()
        begun = time.process_time()
        processor.apply(seen)
        spent.append(time.process_time() - begun)
    draws.leave_drawn = work
    return 1000 * statistics.median(spent)


def main() -> None:
    found: dict[str, dict[int, float]] = {}
    for rows in (64, 256, 1024):
        for name, given in {
            "loop, parallel": {"strategy": "parallel"},
            "loop, race": {"strategy": "consistency", "first_lanes": SEQUENCES},
            "loop, systematic": {"strategy": "init", "entropy_threshold": 2.9, "max_sequences": 2},
            "loop, top2": {"strategy": "init", "branching": "top2", "entropy_threshold": 2.9, "max_sequences": 2},
        }.items():
            found.setdefault(name, {})[rows] = loop_ms(rows, **given)
        for name, tensors in (("draws", True), ("draws, alone", False)):
            found.setdefault(name, {})[rows] = draws_ms(rows, tensors)
    for name, by_rows in found.items():
        print(f"{name:<30}" + "".join(f"{rows:>6} rows {ms:8.3f} ms" for rows, ms in by_rows.items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
