"""How many more runs would settle what a check could not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eager_lmeval.commands.gate.history import Entry
from eager_lmeval.commands.gate.limits import Asked
from eager_lmeval.commands.gate.pairing import TaskPair
from eager_lmeval.commands.gate.verdict import Check, Verdict
from eager_lmeval.scores.paired import spread_allowed

__all__ = ["repeats"]


def repeats(
    checks: Sequence[Check],
    pairs: Sequence[TaskPair],
    baselines: Sequence[Entry],
    candidates: Sequence[Entry],
    most: int,
    asked: Asked,
) -> list[str]:
    """For each inconclusive limit, the runs that would settle it, a line each."""
    by_name = {(pair.task, metric.name): metric for pair in pairs for metric in pair.metrics}
    unclear = [check for check in checks if check.verdict is Verdict.INCONCLUSIVE]
    if not unclear:
        return ["no verdict is inconclusive: no repeat is needed"]
    used = {entry.seed for entry in (*baselines, *candidates)}
    seeds = [seed for seed in range(1, most + len(used) + 1) if seed not in used][:most]
    cost = baselines[-1].tokens + candidates[-1].tokens
    lines = []
    for check in unclear:
        pairs_of = by_name[check.task, check.limit.metric].pairs
        relative = check.limit.relative
        sign = 1 if check.limit.direction == "increase" else -1
        factor = 1 + sign * check.limit.amount if relative else 1.0
        distance = check.limit.amount * (check.baseline if relative else 1.0)
        delta = pairs_of.candidate - factor * pairs_of.baseline
        allowed = spread_allowed(delta, pairs_of.bounded, distance, 1 - asked.confidence, asked.power)
        now = 1 / len(baselines) + 1 / len(candidates)
        shrunk = [(1 / (len(baselines) + m) + 1 / (len(candidates) + m)) / now for m in range(1, most + 1)]
        needed = next((m for m, share in enumerate(shrunk, 1) if share <= allowed), None)
        what = f"{check.task}: {check.limit}"
        if allowed <= 0:
            lines.append(f"{what}: no number of repeats settles it on {check.documents:,} documents; take more of them")
        elif needed is None:
            lines.append(f"{what}: {most} more runs a side are too few, even if nothing changed")
        else:
            named = ", ".join(map(str, seeds[:needed]))
            tokens = "an unknown number of tokens" if math.isnan(cost) else f"about {needed * cost:,.0f} tokens"
            lines.append(
                f"{what}: {needed} more {'run' if needed == 1 else 'runs'} a side, with --seed {named}, settle it with "
                f"power {asked.power:g} if nothing changed: {tokens}"
            )
    return lines
