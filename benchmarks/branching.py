"""Branching beside independent samples on the demo task: scores, tokens and time, over several seeds.

    python benchmarks/branching.py                              M 8, 16, 32, five seeds; 20 CPU minutes
    python benchmarks/branching.py --keep runs.jsonl            the same, and what FILE holds is not run again
    python benchmarks/branching.py --designs top2 fan_out=2,entropy_threshold=1 --max_sequences 8
    python benchmarks/branching.py --pretrained FOLDER --task questions --max_sequences 8 --seeds 2

The runs are the harness's own: `eager_demo` on the demo model (temperature 0.8, θ 0.5 where a design names none), or 60
short word problems (`questions/`, temperature 0.7) on a model of yours. Those of one M and seed
follow one another, in the other order at every second seed, so that what else a machine does is spread over both. A
document's value is its mean over the seeds; differences are paired by document, their intervals a 95 % bootstrap over
documents. Seconds are CPU seconds of `generate_until`; of each seed the ratio to `parallel`, and of these the median.
"time/tokens" is the ratio of the two ratios: 1 where time falls as tokens do.

`--plot FILE` draws the designs that have a name against their tokens. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from eager_lmeval import paths
from eager_lmeval.commands.curve import CurvePoint, save_curve
from eager_lmeval.lm import EagerLM
from eager_lmeval.scores.stats import bootstrap_interval

BASE = "parallel"
METRICS = ("pass@max", "cons_w@max", "pass_rate_w")


class Timed(EagerLM):
    """Counts the CPU seconds of generation."""

    seconds = 0.0

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        started = time.process_time()
        responses = super().generate_until(requests, disable_tqdm=True)
        self.seconds = time.process_time() - started
        return responses


def options_of(design: str) -> dict[str, Any]:
    """`parallel`, `consistency`, `eager`, a branching, or options of `init` with systematic branching."""
    if design == BASE:
        return {"strategy": BASE}
    if design in ("eager", "adapt"):
        return {"strategy": design, "branching": "top2"}
    if design == "consistency":
        return {"strategy": design, "branching": "systematic"}
    if design in ("top2", "systematic"):
        return {"strategy": "init", "branching": design}
    given = dict(part.split("=", 1) for part in design.split(","))
    return {"strategy": "init", "branching": "systematic"} | given


def run(
    lm: Timed, manager: TaskManager, task: str, design: str, most: int, seed: int, limit: int | None
) -> dict[str, Any]:
    """One evaluation: the metrics by document, in the task's order, and what they cost."""
    results = simple_evaluate(
        lm,
        tasks=[task],
        gen_kwargs={"max_sequences": most, "seed": seed, **options_of(design)},
        task_manager=manager,
        limit=limit,
        bootstrap_iters=0,
        verbosity="ERROR",
    )
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return {
        "design": design,
        "M": most,
        "seed": seed,
        "tokens": results["config"]["eager"]["pools"][-1]["tokens"],
        "seconds": lm.seconds,
        **{metric: [sample[metric] for sample in samples] for metric in METRICS},
    }


def compare(runs: Sequence[dict[str, Any]], design: str, most: int) -> dict[str, Any]:
    """A design beside `parallel` at one M, over the seeds that both have."""
    own, base = ({one["seed"]: one for one in runs if (one["design"], one["M"]) == (d, most)} for d in (design, BASE))
    seeds = sorted(own.keys() & base.keys())
    row: dict[str, Any] = {"design": design, "M": most, "seeds": len(seeds)}
    row["tokens"] = statistics.fmean(own[seed]["tokens"] for seed in seeds)
    row["tokens_ratio"] = row["tokens"] / statistics.fmean(base[seed]["tokens"] for seed in seeds)
    row["seconds"] = statistics.fmean(own[seed]["seconds"] for seed in seeds)
    row["seconds_ratio"] = statistics.median(own[seed]["seconds"] / base[seed]["seconds"] for seed in seeds)
    row["time_per_token"] = row["seconds_ratio"] / row["tokens_ratio"]
    for metric in METRICS:
        baseline, candidate = (np.mean([of[seed][metric] for seed in seeds], axis=0) for of in (base, own))
        differences = candidate - baseline
        low, high = bootstrap_interval(differences.tolist())
        row[metric] = {"mean": candidate.mean(), "difference": differences.mean(), "interval": [low, high]}
    return row


def table(rows: Iterable[dict[str, Any]]) -> str:
    head = f"{'design':<34}{'M':>4}{'seeds':>6}{'tokens':>10}{'ratio':>7}{'CPU s':>8}{'ratio':>7}{'time/tokens':>12}"
    lines = [head + "".join(f"  {metric + ', difference':<31}" for metric in METRICS)]
    for row in rows:
        line = f"{row['design']:<34}{row['M']:>4}{row['seeds']:>6}{row['tokens']:>10,.0f}{row['tokens_ratio']:>7.3f}"
        line += f"{row['seconds']:>8.1f}{row['seconds_ratio']:>7.3f}{row['time_per_token']:>12.2f}"
        for metric in METRICS:
            low, high = row[metric]["interval"]
            text = f"{row[metric]['mean']:.3f} {row[metric]['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
            line += f"  {text:<31}"
        lines.append(line)
    return "\n".join(lines)


def point_of(row: dict[str, Any]) -> CurvePoint:
    options = options_of(row["design"])
    scores = (row[metric]["mean"] for metric in METRICS)
    labels_used = options["strategy"] == "eager"
    return CurvePoint(options["strategy"], options.get("branching", ""), row["M"], row["tokens"], *scores, labels_used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", default="demo", help="(default: the demo model)")
    parser.add_argument("--task", default="eager_demo", help="eager_demo or questions (default eager_demo)")
    parser.add_argument("--designs", nargs="+", default=["systematic"], help="beside parallel (default: systematic)")
    parser.add_argument("--max_sequences", type=int, nargs="+", default=[8, 16, 32], metavar="M")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N documents")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="a line a finished run; those in it are not run again"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = args.keep.read_text(encoding="utf-8").splitlines() if args.keep and args.keep.exists() else []
    runs = {(one["design"], one["M"], one["seed"]): one for one in map(json.loads, kept)}
    lm = Timed(pretrained=args.pretrained)
    manager = TaskManager(
        include_path=[str(paths.tasks_dir()), str(Path(__file__).parent / "questions")], include_defaults=False
    )
    designs = [BASE, *(design for design in args.designs if design != BASE)]
    for most in args.max_sequences:
        for seed in range(args.seeds):
            for design in designs if seed % 2 == 0 else designs[::-1]:
                if (design, most, seed) in runs:
                    continue
                found = run(lm, manager, args.task, design, most, seed, args.limit)
                runs[design, most, seed] = found
                if args.keep:
                    with args.keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
    rows = [compare(list(runs.values()), design, most) for most in args.max_sequences for design in designs]
    print(table(rows))
    if args.plot:
        named = [row for row in rows if "=" not in row["design"]]
        save_curve([point_of(row) for row in named], f"{args.task}, means over the seeds", args.plot)
    print(json.dumps({"task": args.task, "limit": args.limit, "rows": rows}))


if __name__ == "__main__":
    main()
