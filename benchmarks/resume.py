"""Runs killed with SIGKILL at random moments and resumed to the end, against an undisturbed run.

    python benchmarks/resume.py                 20 kills: 1 and 2 processes, all strategies; some 15 minutes on 2 cores
    python benchmarks/resume.py --kills 4

Each run is killed, all its processes at once, at a random moment after its first journaled prompt, in stage 1 or 2;
then it is resumed, by another number of processes as often as not, until it ends. Asserted for each: the result is that
of an undisturbed run, token for token; no prompt was finished twice; every line of the journal but a torn last one can
be read. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from process_runs import Call, Plan, essence, journal_lines, kill_when, pools, results, run

STRATEGIES = ("parallel", "init", "adapt", "eager")


def plan_of(folder: Path, strategy: str, docs: int, journal: Path | None) -> Plan:
    gen_kwargs = {
        "strategy": strategy,
        "branching": "top2",
        "max_sequences": 8,
        "entropy_threshold": 1.6,
        "max_gen_toks": 120,
        "max_rows": 16,
    }
    call = Call(docs, gen_kwargs=gen_kwargs)
    return Plan(str(folder), [call], {"journal": str(journal)} if journal else {})


def finished_parts(journal: Path) -> tuple[Counter[tuple[str, str]], int]:
    """How often each part of each prompt stands in the journal, and the number of torn lines."""
    found: Counter[tuple[str, str]] = Counter()
    torn = 0
    for path in journal.glob("*.jsonl"):
        lines = path.read_bytes().split(b"\n")
        torn += bool(lines.pop())
        for record in map(json.loads, lines):
            found.update([(record["key"], record["part"])] if "key" in record else [])
    return found, torn


def one_kill(folder: Path, strategy: str, processes: int, docs: int, choose: random.Random) -> dict[str, Any]:
    """Kills a run, resumes it, checks it. Where there is a stage 2, the moment is in either stage as often as not."""
    journal = folder / "journal"
    undisturbed = plan_of(folder.parent / f"undisturbed_{strategy}", strategy, docs, None)
    expected = essence(results(undisturbed, 1)[0])
    killed = plan_of(folder / "killed", strategy, docs, journal)
    grants = len(pools(undisturbed)[0]["ledger"]["grants"])
    first, last = (docs + 1, docs + grants) if grants > 1 and choose.random() < 0.5 else (1, docs)
    records = choose.randint(first, last - 1)
    in_time = kill_when(killed, processes, records, delay_s=choose.uniform(0, 0.3))
    held = journal_lines(killed)
    after_kill, torn = finished_parts(journal)
    resuming = choose.choice((1, 2))
    resumed = plan_of(folder / "resumed", strategy, docs, journal)
    assert run(resumed, resuming) == [0] * resuming, f"the resumed run failed; see {folder}"
    parts, _ = finished_parts(journal)
    assert essence(results(resumed, resuming)[0]) == expected, f"the resumed run gives other results; see {folder}"
    assert set(parts.values()) == {1}, f"a finished prompt was generated again; see {folder}"
    assert after_kill.keys() <= parts.keys()
    (reported,) = pools(resumed)
    return {
        "strategy": strategy,
        "processes": processes,
        "resumed_by": resuming,
        "killed_in_time": in_time,
        "records_at_kill": held,
        "stage": 1 + (held > docs),
        "torn_lines": torn,
        "prompts_reused": reported["journal"]["prompts_reused"],
        "tokens_reused": reported["journal"]["tokens_reused"],
        "tokens": reported["tokens"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="runs to kill (default 20)")
    parser.add_argument("--docs", type=int, default=24, help="demo problems a run (default 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    args = parser.parse_args()
    choose = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="eager_resume_"))
    started = time.perf_counter()
    for strategy in STRATEGIES:
        undisturbed = plan_of(folder / f"undisturbed_{strategy}", strategy, args.docs, None)
        assert run(undisturbed, 1) == [0], f"the undisturbed run failed; see {folder}"

    columns = f"{'stage':>7}{'records':>9}{'torn':>6}{'reused':>8}{'tokens saved':>14}"
    print(f"{'strategy':<10}{'killed':>8}{'resumed':>9}{columns}")
    rows = []
    for number in range(args.kills):
        strategy, processes = STRATEGIES[number % 4], 1 + number // 4 % 2
        row = one_kill(folder / f"kill{number}", strategy, processes, args.docs, choose)
        rows.append(row)
        saved = f"{row['tokens_reused']} of {row['tokens']}"
        print(
            f"{strategy:<10}{processes:>8}{row['resumed_by']:>9}{row['stage']:>7}{row['records_at_kill']:>9}"
            f"{row['torn_lines']:>6}{row['prompts_reused']:>8}{saved:>14}",
            flush=True,
        )
    shutil.rmtree(folder)
    share = statistics.mean(row["tokens_reused"] / row["tokens"] for row in rows)
    print(f"all {len(rows)} resumed runs equal the undisturbed ones; on average {share:.0%} of the tokens were saved")
    print(json.dumps({"kills": rows, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
