"""What rounding does to results: the same runs in other batches, with and without near ties decided in float64.

    python benchmarks/rounding.py                  some 20 minutes on 2 cores
    python benchmarks/rounding.py --docs 60

The demo model in float32, at several `max_rows`, so in other batches, against a run in float64. Counted are the
documents whose sequences are not all those of the float64 run, token for token; seconds are those of generation. Then
every readout with more than one likely token is read again, to see how far rounding reaches. The last line of stdout is
one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import torch
from process_runs import Call, essence, make_calls

from eager_lmeval.lm import EagerLM

STRATEGIES = ("parallel", "init", "adapt", "eager")
MARGINS = ("none", "auto")
READ_AGAIN_DOCS = 60
WIDE = 50.0
"""A margin in which all lies but what has next to no alternative."""


def grown(lm: EagerLM, docs: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was grown of each document, and what is reported of the pool."""
    torch.manual_seed(1234)
    (by_document,) = make_calls(lm, [Call(docs, gen_kwargs=options | {"max_gen_toks": 120})])
    return essence(by_document), lm.get_model_info()["eager"]["pools"][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=240, help="demo problems (default 240)")
    parser.add_argument("--max_sequences", type=int, default=16, help="M (default 16)")
    parser.add_argument("--threshold", type=float, default=0.5, help="nats (default 0.5)")
    parser.add_argument("--max_rows", type=int, nargs="+", default=[16, 64], help="(default 16 64)")
    args = parser.parse_args()
    exact, rounding = (EagerLM(pretrained="demo", dtype=dtype) for dtype in ("float64", "float32"))
    found = []
    print(f"{'strategy':<10}{'rows':>6}{'tokens':>10}{'differ':>9}{'differ, decided':>17}{'read again':>12}{'time':>7}")
    for strategy in STRATEGIES:
        options = {
            "strategy": strategy,
            "branching": "top2",
            "max_sequences": args.max_sequences,
            "entropy_threshold": args.threshold,
        }
        expected, _ = grown(exact, args.docs, options)
        for rows in args.max_rows:
            row: dict[str, Any] = {"strategy": strategy, "max_rows": rows}
            for margin in MARGINS:
                made, pool = grown(rounding, args.docs, options | {"max_rows": rows, "tie_margin": margin})
                row[margin] = {
                    "differ": sum(made[document] != expected[document] for document in expected),
                    "tokens": pool["tokens"],
                    "seconds": pool["seconds"],
                    **pool["engine"]["near_ties"],
                }
            found.append(row)
            none, auto = row["none"], row["auto"]
            print(
                f"{strategy:<10}{rows:>6}{auto['tokens']:>10}{none['differ']:>9}{auto['differ']:>17}"
                f"{auto['read_again']:>12}{auto['seconds'] / none['seconds']:>7.2f}",
                flush=True,
            )
    differ = {margin: sum(row[margin]["differ"] for row in found) for margin in MARGINS}
    ratio = statistics.median(row["auto"]["seconds"] / row["none"]["seconds"] for row in found)
    tokens = sum(row["auto"]["tokens"] for row in found)
    print(
        f"{len(found)} runs, {tokens} tokens: {differ['none']} documents differ as rounding has it, {differ['auto']} "
        f"with near ties decided; time {ratio:.2f} (median)"
    )
    everything = options | {"strategy": "init"}
    _, pool = grown(rounding, min(args.docs, READ_AGAIN_DOCS), everything | {"tie_margin": WIDE})
    reach = pool["engine"]["near_ties"]
    print(
        f"rounding changed log-probabilities and entropies by {reach['largest_rounding_nats']:.1e} nats at most, in "
        f"{reach['read_again']} readouts with a choice"
    )
    print(json.dumps({"runs": found, "differ": differ, "time_ratio": ratio, "reach": reach}))


if __name__ == "__main__":
    main()
