"""What rounding does to results: the same seeds in batches of other sizes, in several dtypes.

    python benchmarks/rounding.py                  some 20 minutes on one core
    python benchmarks/rounding.py --docs 20 --seeds 1

The demo model at two `max_rows`. Counted are the sequences of the first that are not in the second, token for token,
and those of the first that are not in a run in float64. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import torch
from process_runs import Call, make_calls

from eager_lmeval.lm import EagerLM

RUNS: dict[str, dict[str, Any]] = {
    "parallel": {"strategy": "parallel"},
    "init systematic": {"strategy": "init", "branching": "systematic"},
    "init top2": {"strategy": "init", "branching": "top2"},
}


def grown(lm: EagerLM, docs: int, options: dict[str, Any]) -> dict[Any, Any]:
    """Tokens by document and path."""
    torch.manual_seed(options["seed"])
    (by_document,) = make_calls(lm, [Call(docs, gen_kwargs={"max_gen_toks": 120, "entropy_threshold": 0.5} | options)])
    return {
        (document, *sequence["path"]): sequence["token_ids"]
        for document, made in by_document.items()
        for sequence in made["tree"]["sequences"]
    }


def differing(some: dict[Any, Any], others: dict[Any, Any]) -> int:
    return sum(tokens != others.get(path) for path, tokens in some.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=60, help="demo problems (default 60)")
    parser.add_argument("--seeds", type=int, default=4, help="(default 4)")
    parser.add_argument("--max_sequences", type=int, default=16, help="M (default 16)")
    parser.add_argument("--max_rows", type=int, nargs=2, default=[16, 64], help="(default 16 64)")
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32", "bfloat16"])
    args = parser.parse_args()
    models = {dtype: EagerLM(pretrained="demo", dtype=dtype) for dtype in dict.fromkeys(["float64", *args.dtypes])}
    found: list[dict[str, Any]] = []
    print(f"{'run':<18}{'dtype':<10}{'sequences':>10}{'tokens':>10}{'other rows':>12}{'than float64':>14}")
    for run, given in RUNS.items():
        counts: dict[str, Counter[str]] = {dtype: Counter() for dtype in args.dtypes}
        for seed in range(1, args.seeds + 1):
            options = given | {"seed": seed, "max_sequences": args.max_sequences}
            exact = grown(models["float64"], args.docs, options)
            for dtype, count in counts.items():
                one, other = (grown(models[dtype], args.docs, options | {"max_rows": rows}) for rows in args.max_rows)
                count["sequences"] += len(one)
                count["tokens"] += sum(map(len, one.values()))
                count["other_rows"] += differing(one, other)
                count["than_float64"] += differing(one, exact)
        for dtype, count in counts.items():
            found.append({"run": run, "dtype": dtype, **count})
            print(
                f"{run:<18}{dtype:<10}{count['sequences']:>10}{count['tokens']:>10}{count['other_rows']:>12}"
                f"{count['than_float64']:>14}",
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
