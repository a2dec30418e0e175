"""The study's tables, from its cells: means over seeds, paired by document, and differences at equal tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from cells import Cell
from marks import markdown
from numpy.typing import NDArray

from eager_lmeval.scores.stats import percentile_interval, resampled_means

Values = NDArray[np.float64]
HEADLINES = ("pass@max", "cons_w@max", "pass_rate_w")
NAMES = {"pass@max": "pass@max", "cons_w@max": "vote", "pass_rate_w": "rate"}


class Design:
    """Cells that differ in the seed alone."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.cells = sorted(cells, key=lambda cell: cell.options["seed"])
        self.options = self.cells[0].options
        self.seeds = [cell.options["seed"] for cell in self.cells]

    def document_means(self, score: str, seeds: Iterable[int] | None = None) -> Values:
        """Means over the seeds. (documents,)"""
        wanted = set(self.seeds if seeds is None else seeds)
        return np.mean([cell.scores[score] for cell in self.cells if cell.options["seed"] in wanted], axis=0)

    def mean(self, score: str) -> float:
        return float(self.document_means(score).mean())

    @property
    def tokens(self) -> float:
        """Tokens of a run, mean over the seeds."""
        return float(self.document_means("tokens").sum())

    @property
    def sequences(self) -> float:
        return float(self.document_means("sequences").sum())

    @property
    def kind(self) -> str:
        """Its strategy and, but for `parallel`, its branching."""
        strategy = str(self.options["strategy"])
        return strategy if strategy == "parallel" else f"{strategy} {self.options['branching']}"

    @property
    def name(self) -> str:
        """As the tables call it."""
        return ", ".join(f"`{word}`" for word in self.kind.split())


def designs(cells: Iterable[Cell], by: Callable[[Cell], Any] | None = None) -> list[Design]:
    """Cells put together that have all options but the seed in common, in the order in which they come."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        key = tuple((name, value) for name, value in cell.options.items() if name != "seed")
        groups.setdefault((key, by(cell)) if by else key, []).append(cell)
    return [Design(group) for group in groups.values()]


class Baseline:
    """Independent samples at every M, and between two M on the line that joins them."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.at = {design.options["max_sequences"]: design for design in designs(cells)}

    def of_equal(self, cost: str, design: Design, score: str) -> tuple[float, Values]:
        """The M whose ``cost`` (`tokens` or `sequences`) is the design's, which need not be whole, and the documents'
        scores there, over the design's seeds."""
        wanted = getattr(design, cost)
        spent = {most: getattr(own, cost) for most, own in sorted(self.at.items())}
        few = max((most for most in spent if spent[most] <= wanted), default=min(spent))
        many = few + 1 if few + 1 in spent else few
        part = 0.0 if many == few else min(1.0, max(0.0, (wanted - spent[few]) / (spent[many] - spent[few])))
        low, high = (self.at[most].document_means(score, design.seeds) for most in (few, many))
        return few + part, (1 - part) * low + part * high


def paired(candidate: Values, baseline: Values) -> str:
    """Mean difference with its 95 % interval over documents, each of which is a mean over the seeds."""
    differences = candidate - baseline
    low, high = percentile_interval(resampled_means(np.sort(differences)), 0.95)
    return f"{signed(float(differences.mean()))} [{signed(low)}, {signed(high)}]"


def signed(value: float) -> str:
    """Three digits behind the point, with a true minus and without the zero in front."""
    text = f"{abs(value):.3f}".removeprefix("0")
    return text if text in (".000",) else f"{'−' if value < 0 else '+'}{text}"


def plain(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"


IN_SHORT = ("init systematic", "init top2", "eager systematic", "adapt systematic")
Model = tuple[str, Iterable[Cell], Baseline, Sequence[int]]
"""What a table calls it, its trees and its `parallel`, and the M that are shown."""


def summary(models: Iterable[Model]) -> str:
    """Some designs on several models, beside `parallel` of equal M and tokens."""
    score = HEADLINES[0]
    rows: dict[str, list[list[str]]] = {kind: [] for kind in IN_SHORT}
    for model, trees, baseline, shown in models:
        for design in designs(trees):
            most = design.options["max_sequences"]
            if design.kind not in rows or most not in shown:
                continue
            base, means = baseline.at[most], design.document_means(score)
            row = [design.name, f"{model}, {most}", percent(design.tokens / base.tokens)]
            row.append(paired(means, base.document_means(score, design.seeds)))
            row.append(paired(means, baseline.of_equal("tokens", design, score)[1]))
            rows[design.kind].append(row)
    head = ["design", "model, M", "tokens", "pass@max, equal M", "pass@max, equal tokens"]
    return markdown(head, [row for kind in rows.values() for row in kind])


def curves(trees: Iterable[Cell], baseline: Baseline) -> str:
    """Every design beside `parallel` at its M, which is at most as many sequences, and at as many tokens."""
    head = ["design", "θ", "M", "tokens", "sequences", *(NAMES[score] for score in HEADLINES)]
    for at in ("of M", "of equal tokens", "of equal sequences"):
        head += [f"{NAMES[score]} − `parallel` {at}" for score in HEADLINES[:2]]
    rows = []
    for design in sorted(designs(trees), key=lambda design: design.options["max_sequences"]):
        most = design.options["max_sequences"]
        base = baseline.at[most]
        threshold = "" if design.options["branching"] == "none" else f"{design.options['entropy_threshold']:g}"
        row = [design.name, threshold, str(most), percent(design.tokens / base.tokens)]
        row += [f"{design.sequences:,.0f}", *(plain(design.mean(score)) for score in HEADLINES)]
        for score in HEADLINES[:2]:
            row.append(paired(design.document_means(score), base.document_means(score, design.seeds)))
        for cost in ("tokens", "sequences"):
            for score in HEADLINES[:2]:
                row.append(paired(design.document_means(score), baseline.of_equal(cost, design, score)[1]))
        rows.append(row)
    return markdown(head, rows)


def parallel_curve(baseline: Baseline, shown: Sequence[int]) -> str:
    rows = [
        [str(most), f"{(design := baseline.at[most]).tokens:,.0f}", *(plain(design.mean(score)) for score in HEADLINES)]
        for most in shown
    ]
    return markdown(["M", "tokens", *(NAMES[score] for score in HEADLINES)], rows)


def rates(cells: Iterable[Cell], baseline: Baseline) -> str:
    """How far a design's rates are from that of the most independent samples there are, over all their seeds."""
    most = max(baseline.at)
    truth = baseline.at[most].document_means("pass_rate")
    head = ["design", "M", f"weighted rate − rate of {most} samples", f"plain rate − rate of {most} samples"]
    rows = [
        [
            design.name,
            str(design.options["max_sequences"]),
            *(paired(design.document_means(score), truth) for score in ("pass_rate_w", "pass_rate")),
        ]
        for design in designs(cells)
    ]
    return markdown(head, rows)


def by_option(cells: Iterable[Cell], baseline: Baseline, named: Mapping[str, str]) -> str:
    """An ablation: the options that vary and what the page calls them, then costs, scores and differences to `parallel`
    of as many tokens."""
    head = [*named.values(), "tokens", "sequences", *(NAMES[score] for score in HEADLINES)]
    head += [f"{NAMES[score]} − `parallel` of equal tokens" for score in HEADLINES[:2]]
    rows = []
    for design in designs(cells):
        row = [_shown(design.options[option]) for option in named]
        row += [f"{design.tokens:,.0f}", f"{design.sequences:,.0f}"]
        row += [plain(design.mean(score)) for score in HEADLINES]
        for score in HEADLINES[:2]:
            row.append(paired(design.document_means(score), baseline.of_equal("tokens", design, score)[1]))
        rows.append(row)
    return markdown(head, rows)


PAPER = {"pass@max": "p@k", "cons_w@max": "c@max", "pass_rate_w": "PR"}


def grid(cells: Iterable[Cell]) -> str:
    """The paper's appendix: a row a method and θ, its columns for every temperature."""
    found = {(d.name, d.options["entropy_threshold"], d.options["temperature"]): d for d in designs(cells)}
    temperatures = sorted({temperature for _, _, temperature in found})
    head = ["method", "θ", *(f"T {t:g} {name}" for t in temperatures for name in (*PAPER.values(), "#T", "#S"))]
    rows = []
    for name, threshold in dict.fromkeys((name, threshold) for name, threshold, _ in found):
        row = [name, "" if name == "`parallel`" else f"{threshold:g}"]
        for temperature in temperatures:
            design = found[name, threshold, temperature]
            row += [*(plain(design.mean(score)) for score in PAPER)]
            row += [f"{design.tokens:,.0f}", f"{design.sequences:,.0f}"]
        rows.append(row)
    return markdown(head, rows)


def claims(cells: Iterable[Cell], branching: str) -> str:
    """What the paper says of its methods, at every temperature and θ: `init` and `eager` beside as many independent
    samples, `adapt` beside `init`."""
    found = {
        (d.options["strategy"], d.options["entropy_threshold"], d.options["temperature"]): d
        for d in designs(cells)
        if d.options["strategy"] == "parallel" or d.options["branching"] == branching
    }
    bases = {temperature: d for (strategy, _, temperature), d in found.items() if strategy == "parallel"}
    head = ["T", "θ", "`init`: tokens", "pass@max − `parallel`", "rate − `parallel`"]
    head += ["`eager`: tokens", "pass@max − `parallel`", "`adapt`: tokens", "pass@max − `init`"]
    rows = []
    for temperature, base in sorted(bases.items()):
        for threshold in sorted({theta for strategy, theta, _ in found if strategy != "parallel"}):
            init, eager, adapt = (found[name, threshold, temperature] for name in ("init", "eager", "adapt"))
            row = [f"{temperature:g}", f"{threshold:g}", percent(init.tokens / base.tokens)]
            row += [difference(init, base, score) for score in ("pass@max", "pass_rate_w")]
            row += [percent(eager.tokens / base.tokens), difference(eager, base, "pass@max")]
            row += [percent(adapt.tokens / base.tokens), difference(adapt, init, "pass@max")]
            rows.append(row)
    return markdown(head, rows)


def difference(candidate: Design, baseline: Design, score: str) -> str:
    return paired(candidate.document_means(score), baseline.document_means(score))


def percent(ratio: float) -> str:
    """Of a ratio, what is more or less than 1."""
    return f"{ratio - 1:+.1%}".replace("-", "−")


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
