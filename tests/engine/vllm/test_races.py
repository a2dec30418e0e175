"""Races in the loop over vLLM: what the rule says, however late and unevenly requests report what they decoded."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scripted import EOS, PromptScript, ScriptedRunner, sampling_of, scripted_engine, scripted_stopper
from scripted_pools import prompts_of
from slow_race import tick_by_tick

from eager_lmeval.algorithm.options import Options, resolve
from eager_lmeval.algorithm.streams import uniforms
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.vllm import loop, requests
from eager_lmeval.engine.vllm.draws import DrawRequest
from eager_lmeval.engine.vllm.server import Answer
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

MODEL = PromptScript(eos_bias=1.0)


@dataclass
class Request:
    """One that is being decoded."""

    prefix: list[int]
    key: int
    prompt_tokens: int
    room: int
    interval: int
    tokens: list[int] = field(default_factory=list)
    reported: int = 0

    @property
    def ended(self) -> bool:
        return self.tokens[-1:] == [EOS] or len(self.tokens) == self.room


class ScriptedServer:
    """Implements `engine.vllm.server.Server` on a scripted model. In a step a request may stand still, as one that
    waits for memory does."""

    vocabulary = 24
    signal = -1
    tokens = math.inf
    recomputed_tokens = 0

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.running: dict[str, Request] = {}
        self.decoded = 0
        self._sampling = sampling
        self._chance = random.Random(seed)
        self._number = 0

    def decode(
        self, prefix: list[int], order: DrawRequest, age: int, room: int, reads: bool, interval: int | None = None
    ) -> str:
        assert not reads, "a race reads no log-probabilities"
        self._number += 1
        self.running[str(self._number)] = Request(list(prefix), order.key, order.prompt_tokens, room, interval or room)
        return str(self._number)

    def abort(self, requests: list[str]) -> None:
        for request in requests:
            del self.running[request]

    def step(self) -> list[Answer]:
        answers = []
        for name, request in list(self.running.items()):
            if self._chance.random() < 0.2:
                continue
            request.tokens.append(self._draw(request))
            self.decoded += 1
            first, silent = not request.reported, len(request.tokens) - request.reported
            if request.ended or first or silent >= request.interval:
                answers.append(Answer(name, request.tokens[request.reported :], [], request.ended, int(first)))
                request.reported = len(request.tokens)
            if request.ended:
                del self.running[name]
        return answers

    def _draw(self, request: Request) -> int:
        prompt, generated = request.prefix[: request.prompt_tokens], [*request.prefix[request.prompt_tokens :]]
        generated += request.tokens
        logits = torch.tensor(np.asarray(MODEL(prompt, generated)), dtype=torch.float64)[None]
        draw = uniforms(np.array([request.key], dtype=np.uint64), np.array([len(generated)], dtype=np.uint64))
        return read(logits, torch.from_numpy(draw), self._sampling)[0].token


def classify(texts: Sequence[str | None]) -> list[int | None]:
    """Two answers, one of which wins two times of three, by the last token but one; short texts have none."""
    tokens = [[] if text is None else text.split() for text in texts]
    return [int(int(ids[-2]) % 3 == 1) if len(ids) > 1 else None for ids in tokens]


def random_race(seed: int) -> Options:
    choose = random.Random(seed)
    return resolve(
        {
            **{"strategy": "consistency", "verifier": "exact", "temperature": 0.8, "max_gen_toks": 40, "seed": seed},
            "max_sequences": choose.randint(1, 24),
            "first_lanes": choose.randint(1, 10),
            "settled_at": choose.choice([0.7, 0.9, 0.95]),
        }
    )


def grow(options: Options, slots: int, seed: int) -> tuple[PoolResult, Any, ScriptedServer]:
    server = ScriptedServer(sampling_of(options), seed)
    engine = loop.Engine(server, scripted_stopper(), sampling_of(options), options.seed, slots)
    result = grow_pool(prompts_of(options, 3), options, engine, classify=classify)
    assert not server.running, "no request is left behind"
    return result, engine, server


@pytest.mark.parametrize(
    "seeds",
    [range(6), pytest.param(range(6, 206), marks=pytest.mark.slow("200 seeds take minutes"))],
    ids=["some", "200 times 3 races"],
)
@pytest.mark.parametrize("interval", [1, 7])
def test_races_are_those_of_the_rule_however_requests_report(
    seeds: range, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "report_interval", lambda most: interval)
    for seed in seeds:
        options = random_race(seed)
        whole = resolve(options.model_dump() | {"strategy": "parallel"})
        every = grow_pool(prompts_of(options, 3), whole, scripted_engine(ScriptedRunner(MODEL), whole)).trees
        for slots in (8, 64, 256):
            result, engine, server = grow(options, slots, seed)
            for tree, all_of in zip(result.trees, every, strict=True):
                lengths = [len(sequence.tokens) for sequence in all_of.sequences]
                answers = classify([sequence.answer for sequence in all_of.sequences])
                rule = options.first_lanes, options.max_sequences, options.settled_at
                ended, cut, settled = tick_by_tick(lengths, answers, *rule)
                assert [sequence.path[0] for sequence in tree.sequences] == sorted(ended | cut)
                for sequence in tree.sequences:
                    (root,) = sequence.path
                    assert sequence.tokens == all_of.sequences[root].tokens[: (ended | cut)[root]]
                    assert (sequence.finish == "cut") == (root in cut)
                assert tree.settled_time == settled
            kept = sum(tree.tokens for tree in result.trees)
            assert server.decoded - kept <= engine.stats.wasted_tokens <= (server.decoded - kept) * 2 + 40
