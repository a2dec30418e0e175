"""Beside `hf` and `generate`, and the strategies beside `parallel`: parts `generate`, `hf`, `strategies`, `memory`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence as Seq
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from throughput_models import random_model
from throughput_pools import DrawnLengths, parallel, prompts_of
from throughput_step import step_of
from throughput_table import Table, spent
from transformers import LogitsProcessor, LogitsProcessorList

from eager_lmeval import paths
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.lm import EagerLM

ROOT = Path(__file__).parents[1]


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
import throughput_beside as t
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
