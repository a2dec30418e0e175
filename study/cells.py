"""What the study keeps of a sweep's cells: options, costs, and each document's scores. A few bytes a number."""

from __future__ import annotations

import gzip
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from eager_lmeval.runs.run import find_runs, iter_samples
from eager_lmeval.runs.samples import Sample
from eager_lmeval.scores.metrics import Vote, consensus, pass_at_max, pass_rate
from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.scoring import answer_text, verifier_of

SCORES = ("pass@max", "cons@max", "cons_w@max", "pass_rate", "pass_rate_w", "tokens", "sequences")
OPTIONS = ("strategy", "branching", "max_sequences", "temperature", "entropy_threshold", "fan_out", "preset", "signal")
MORE_OPTIONS = ("round_sequences", "seed")


@dataclass(frozen=True)
class Cell:
    """One run of one task."""

    study: str
    """The sweep that it belongs to."""
    options: Mapping[str, Any]
    reuse: int
    """Documents that another cell's journal had."""
    scores: Mapping[str, list[float]] = field(repr=False)
    """By metric, one value a document in the task's order; a score that is not defined is NaN."""
    branched_at: list[float] = field(default_factory=list, repr=False)
    """Of each branch, its place as a share of its sequence's tokens."""
    peaks: list[float] = field(default_factory=list, repr=False)
    """Of `parallel`, a document with right and wrong sequences each: the chance that of a wrong and a right one the
    wrong one has the higher largest entropy; a half if entropy peaks tell nothing."""


def collect(folder: Path, study: str) -> Iterator[Cell]:
    """The finished cells below a sweep's folder. Of `parallel` the first M sequences stand for every smaller M, which
    is what that M would have drawn: sequence i of a document depends on the seed and i alone (SPEC 4)."""
    for run in find_runs(folder):
        for task in run.tasks:
            (pool,) = run.pools(task)
            options = {name: pool["options"].get(name) for name in (*OPTIONS, *MORE_OPTIONS)}
            samples = sorted(iter_samples(run, task), key=lambda sample: sample.logged["doc_id"])
            drawn = [_drawn(sample) for sample in samples] if options["strategy"] == "parallel" else None
            reuse = (pool["journal"] or {}).get("prompts_reused", 0)
            yield Cell(
                study,
                options,
                reuse,
                {name: [float(sample.values[name]) for sample in samples] for name in SCORES},
                [place for sample in samples for place in _branches(sample)],
                [] if drawn is None else [peak for own in drawn if (peak := _peaks(own)) is not None],
            )
            if drawn is not None:
                for most in range(1, options["max_sequences"]):
                    yield Cell(study, options | {"max_sequences": most}, len(samples), _first(drawn, most))


class Drawn(NamedTuple):
    """A document's independent samples, in their order."""

    votes: list[Vote]
    tokens: list[int]
    peaks: list[float]
    """The largest entropy of each, in nats."""


def _drawn(sample: Sample) -> Drawn:
    assert sample.tree is not None
    rules = Rules.read(sample.tree["scoring"])
    sequences = sample.tree["sequences"]
    texts = [answer_text(sequence, rules) for sequence in sequences]
    graded = verifier_of(sample.logged["doc"]).grade(texts, str(sample.column["label"]))
    votes = [Vote(grade.answer_class, grade.correct) for grade in graded]
    peaks = [max(sequence["entropies"], default=0.0) for sequence in sequences]
    return Drawn(votes, [sequence["num_tokens"] or 0 for sequence in sequences], peaks)


def _peaks(drawn: Drawn) -> float | None:
    """See `Cell.peaks`; None for a document whose sequences are all right or all wrong."""
    right, wrong = (
        [peak for peak, vote in zip(drawn.peaks, drawn.votes, strict=True) if vote.correct == which]
        for which in (True, False)
    )
    if not right or not wrong:
        return None
    higher = [(w > r) + (w == r) / 2 for w in wrong for r in right]
    return statistics.fmean(higher)


def _first(drawn: Sequence[Drawn], most: int) -> dict[str, list[float]]:
    """The documents' scores of their first sequences alone."""
    rates = [pass_rate(own.votes[:most]) for own in drawn]
    votes = [consensus(own.votes[:most]) for own in drawn]
    return {
        "pass@max": [pass_at_max(own.votes[:most]) for own in drawn],
        "cons@max": votes,
        "cons_w@max": votes,
        "pass_rate": rates,
        "pass_rate_w": rates,
        "tokens": [float(sum(own.tokens[:most])) for own in drawn],
        "sequences": [float(most)] * len(drawn),
    }


def _branches(sample: Sample) -> Iterator[float]:
    assert sample.tree is not None
    for sequence in sample.tree["sequences"]:
        if (place := sequence.get("branch_at")) is not None and (length := sequence.get("num_tokens")):
            yield round(place / length, 3)


def save(cells: Iterable[Cell], path: Path) -> None:
    """A line a cell, compressed; the same bytes for the same cells."""
    lines = [json.dumps(_compact(asdict(cell)), separators=(",", ":"), allow_nan=False) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def load(path: Path) -> list[Cell]:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    cells = []
    for line in lines:
        fields = json.loads(line)
        scores = fields.pop("scores").items()
        known = {name: [math.nan if value is None else value for value in values] for name, values in scores}
        cells.append(Cell(**fields, scores=known))
    return cells


def _compact(value: Any) -> Any:
    """Numbers to five digits behind the point, and whole ones without a point; None for NaN."""
    if isinstance(value, Mapping):
        return {name: _compact(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_compact(one) for one in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else round(value, 5)
    return value
