"""What the results file says of a pool, and what a document's tree says of the run that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.thinking import Thinking
from eager_lmeval.pools.requests import Pool
from eager_lmeval.pools.result import PoolResult

__all__ = ["Spent", "pool_record", "settings", "tree_context"]


class Spent(NamedTuple):
    """What a rank spent on a pool, and what it has to tell of it."""

    seconds: float
    stats: EngineCounts
    devices: int
    """That its engine holds."""
    empty_votes: int
    """Its documents of which no sequence had an answer to vote for."""


def pool_record(
    pool: Pool,
    result: PoolResult,
    ranks: Sequence[Spent],
    thinking: Thinking | None,
    journaled: bool,
) -> dict[str, Any]:
    """Plain JSON data. ``ranks``: what each rank spent on the pool."""
    totals = result.totals
    seconds = max(spent.seconds for spent in ranks)
    decoded = totals.tokens - totals.tokens_reused
    return {
        "task": pool.task,
        "options": pool.options.model_dump(mode="json"),
        "thinking_ends_with": thinking.end if thinking else None,
        "labels_used": result.labels_used,
        "ledger": result.ledger.to_record(),
        "sequences": totals.sequences,
        "branches": totals.branches,
        "shortened_prompts": pool.shortened_prompts,
        "tokens": totals.tokens,
        "tokens_independent": totals.tokens_independent,
        "prefill_tokens": totals.prefill_tokens,
        "seconds": seconds,
        "device_seconds": sum(spent.seconds * spent.devices for spent in ranks),
        "tokens_per_second": decoded / seconds if seconds else None,
        "processes": len(ranks),
        "journal": (
            {"prompts_reused": result.prompts_reused, "tokens_reused": totals.tokens_reused} if journaled else None
        ),
        "race": result.race and result.race._asdict(),
        "empty_votes": sum(spent.empty_votes for spent in ranks) if pool.options.respond == "vote" else None,
        "engine": sum((spent.stats for spent in ranks), EngineCounts()).to_record(),
    }


def tree_context(pool: Pool, result: PoolResult, place: int) -> dict[str, Any]:
    """What the record of the tree at a place in the result says of the run that it comes from."""
    options = pool.options
    return {
        "task": pool.task,
        "strategy": options.strategy,
        "branching": options.branching,
        "max_sequences": options.max_sequences,
        "entropy_threshold": options.entropy_threshold,
        "temperature": options.temperature,
        "seed": options.seed,
        "labels_used": result.labels_used,
        **result.standings[place]._asdict(),
    }


def settings(record: Mapping[str, Any]) -> str:
    """How a pool's figures were made, in a line for the reader of the table; ``record`` is its `pool_record`."""
    options = record["options"]
    labels = "used" if record["labels_used"] else "not used"
    tree = options["strategy"] not in ("parallel", "consistency")
    branching = f" {options['branching']}" if tree else ""
    threshold = f", θ = {options['entropy_threshold']:g}" if tree else ""
    return (
        f"{record['task']}: {options['strategy']}{branching}, M = {options['max_sequences']}{threshold}, "
        f"T = {options['temperature']:g}, seed {options['seed']}, labels {labels}{_saved(record)}"
    )


def _saved(record: Mapping[str, Any]) -> str:
    """What a race came to, beside all M sequences."""
    if not (race := record["race"]):
        return ""
    share = record["tokens"] / race["parallel_tokens"]
    most = record["options"]["max_sequences"]
    return f"; settled {race['settled']:.0%}, {share:.0%} of the tokens of {most}"
