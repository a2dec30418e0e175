"""What the engine costs: an engine step over a bare forward pass, and `parallel` over the harness's `hf` with repeats.

    python benchmarks/step.py                 both measurements on the demo model
    python benchmarks/step.py --skip_wall     the first alone

Runs alternate, medians and their ratio are printed; the last line of stdout is one JSON document. One or two threads
per core in use elsewhere distort both sides alike; `--threads 1` is the steadier choice on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from eager_lmeval import paths
from eager_lmeval.algorithm.growth import Growth, Run
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.text import TextStopper
from eager_lmeval.engine.thinking import find_thinking
from eager_lmeval.engine.transformers.cache import SlotCache
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.decoding import FLOAT32_MARGIN


class OneRun:
    """A source of a single run."""

    def __init__(self, run: Run) -> None:
        self._runs = [run]

    def next_run(self) -> Run | None:
        return self._runs.pop() if self._runs else None

    def finished(self, growth: Growth) -> Run | None:
        return None


def engine_step_s(lm: EagerLM, rows: int, prompt_tokens: int, new_tokens: int) -> list[float]:
    """Seconds of each step of `rows` roots of one prompt decoding `new_tokens` tokens each; no EOS, no stop strings."""
    prompt = Prompt(0, "step", "step", [10] * prompt_tokens, 0, new_tokens)
    marks: list[float] = []
    stopper = TextStopper(lm.tokenizer, (), (), find_thinking(lm.tokenizer, "auto"))
    engine = Engine(
        lm._decoding.runner,
        stopper,
        Sampling(temperature=0.8, tie_margin=FLOAT32_MARGIN),
        0,
        rows,
        lambda engine: marks.append(time.perf_counter()),
    )
    engine.run(OneRun(Run(prompt, roots=rows)))
    return [later - earlier for earlier, later in pairwise(marks)]


def forward_s(lm: EagerLM, rows: int, prompt_tokens: int, new_tokens: int) -> list[float]:
    """Seconds of a bare `model.forward` of the same rows and lengths, over the same slots, token by token."""
    runner, cache = lm._decoding.runner, SlotCache(lm.model.config.num_hidden_layers)
    prefix = runner.prefill([[10] * prompt_tokens])[0]
    cache.reserve(rows, prompt_tokens + new_tokens, prefix.snapshot)
    ids = torch.full((rows, 1), 10)
    seconds = []
    with torch.inference_mode():
        for length in range(prompt_tokens, prompt_tokens + new_tokens - 2):
            positions = torch.full((rows,), length)
            mask = runner._mask(positions, length + 1)
            cache.span(0, positions, length + 1)
            started = time.perf_counter()
            lm.model(
                input_ids=ids,
                position_ids=positions[:, None],
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            seconds.append(time.perf_counter() - started)
    return seconds


def wall_s(lm: HFLM, questions: list[str], repeats: int, **options: Any) -> float:
    """Seconds for `repeats` samples of each question through the harness's interface."""
    gen_kwargs = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 120, "until": []} | options
    instances = [
        Instance("generate_until", {}, (f"<|user|>{question}<|assistant|>", gen_kwargs), 0, ("eager_demo", i, repeats))
        for i, question in enumerate(questions)
    ]
    clones = [instance for instance in instances for _ in range(repeats)]
    started = time.perf_counter()
    lm.generate_until(clones, disable_tqdm=True)
    return time.perf_counter() - started


def alternate(runs: int, first: Callable[[], float], second: Callable[[], float]) -> dict[str, float]:
    pairs = [(first(), second()) for _ in range(runs)]
    return {
        "first": statistics.median(a for a, _ in pairs),
        "second": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=5, help="pairs of alternating runs (default 5)")
    parser.add_argument("--problems", type=int, default=32, help="demo problems for the wall time (default 32)")
    parser.add_argument("--repeats", type=int, default=16, help="samples a problem (default 16)")
    parser.add_argument("--skip_wall", action="store_true", help="only the step, not the wall time against hf")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    ours = EagerLM(pretrained="demo", strategy="parallel", max_sequences=args.repeats)
    result: dict[str, Any] = {"threads": args.threads, "step": {}}
    print(f"an engine step over a bare forward pass: demo model, 30 + 64 tokens, {args.threads} threads")
    print(f"{'rows':>6} {'step ms':>9} {'forward ms':>11} {'ratio':>6}")
    for rows in (16, 64, 128):
        figures = alternate(
            args.runs,
            lambda rows=rows: 1e3 * statistics.median(engine_step_s(ours, rows, 30, 64)),
            lambda rows=rows: 1e3 * statistics.median(forward_s(ours, rows, 30, 64)),
        )
        print(f"{rows:>6} {figures['first']:>9.2f} {figures['second']:>11.2f} {figures['ratio']:>6.2f}", flush=True)
        result["step"][rows] = figures

    if not args.skip_wall:
        theirs = HFLM(pretrained=str(paths.demo_model_dir()), device="cpu", batch_size=64)
        with open(paths.tasks_dir() / "eager_demo" / "problems.jsonl", encoding="utf-8") as lines:
            questions = [json.loads(line)["question"] for line in lines][: args.problems]
        print(f"\nwall time, {args.problems} problems x {args.repeats} samples, 64 rows or batch_size=64")
        figures = alternate(
            max(2, args.runs // 2),
            lambda: wall_s(ours, questions, args.repeats),
            lambda: wall_s(theirs, questions, args.repeats),
        )
        print(f"eager, strategy=parallel {figures['first']:.1f} s, hf with repeats {figures['second']:.1f} s, ", end="")
        print(f"ratio {figures['ratio']:.2f}")
        result["wall"] = figures
    print(json.dumps(result))


if __name__ == "__main__":
    main()
