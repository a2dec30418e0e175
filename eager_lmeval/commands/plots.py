"""Plots as SVG elements that take their colours from the page, so that one drawing serves light and dark.

Drawn here because a plotting library would not pay for itself: the smallest that does both, Observable Plot with d3,
adds 0.49 MB of script to every page, which is itself 0.1 MB for a small run; it has no mark for a tree over token
positions; and `sweep` writes the scatter plot as a file where there is no browser.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Point", "TrendPoint", "histogram", "scatter", "trend"]

WIDTH, HEIGHT = 460, 268
LEFT, RIGHT, TOP, BOTTOM = 48, 22, 32, 40
NAMES = 12
"""Height of the strip between a scatter plot and its tick labels, for names below points that lie on the axis."""
GAP = 14
"""Distance between points of equal cost in a scatter plot, so that each can be seen and named."""
BINS = 24
_TREND_LABELS = 7
"""Commits that have room below a plot over runs."""
_COLOURS = {"parallel": "#6b6f76", "init": "#1f5fbf", "adapt": "#17703a", "eager": "#b3461e", "consistency": "#7a3ea8"}
_ALONE = (
    "<style>text{font:11px sans-serif;fill:#5d646d}.grid line{stroke:#d9dce0}"
    + "".join(f".s-{name} circle,.s-{name} line{{stroke:{colour};fill:{colour}}}" for name, colour in _COLOURS.items())
    + ".hollow circle{fill:#fff}</style>"
    + "".join(
        f'<g class="s-{name}"><circle cx="{x}" cy="6" r="4"/><text x="{x + 8}" y="10">{name}</text></g>'
        for x, name in zip(range(100, 460, 72), _COLOURS, strict=False)
    )
)


class Point(NamedTuple):
    """A run in the trade-off plot; ``name`` is what its row in the table is called."""

    x: float
    y: float
    low: float
    high: float
    name: str
    strategy: str
    hollow: bool
    """Drawn hollow: made with labels."""


def scatter(points: Sequence[Point], x_title: str, y_title: str, *, alone: bool = False) -> str:
    """Points with vertical intervals; both axes show the range of the data, so neither need begin at 0.

    ``x`` is a count. Points of nearly equal ``x`` are drawn side by side, around where they belong; a point whose
    interval is NaN (one document) has none. ``alone`` gives it colours of its own, for a file outside the page.
    """
    known = sorted((point for point in points if not math.isnan(point.x + point.y)), key=lambda point: point.x)
    if not known:
        return ""
    known = [point if point.low <= point.high else point._replace(low=point.y, high=point.y) for point in known]
    x_ticks = _ticks(min(point.x for point in known), max(point.x for point in known), whole=True)
    y_ticks = _ticks(min(point.low for point in known), max(point.high for point in known))
    x_scale, y_scale = _scales(x_ticks, y_ticks, NAMES)
    parts = [_axes(x_ticks, y_ticks, x_title, y_title, NAMES)]
    for place, (x, point) in enumerate(zip(_apart([x_scale(point.x) for point in known]), known, strict=True)):
        y, top, bottom = y_scale(point.y), y_scale(point.high), y_scale(point.low)
        kind = f"point s-{escape(point.strategy)}" + (" hollow" if point.hollow else "")
        text = f"{point.name} {point.strategy}: {y_title} {point.y:.3f}, {x_title} {point.x:,.0f}"
        name_at = (
            max(bottom, y + 5) + 12 if place % 2 else min(top, y - 5) - 4
        )  # neighbours are named at different ends
        parts.append(
            f'<g class="{kind}"><title>{escape(text)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{x:.1f}" y="{name_at:.1f}" text-anchor="middle">{escape(point.name)}</text></g>'
        )
    return _svg(f"{y_title} against {x_title}", [_ALONE, *parts] if alone else parts)


class TrendPoint(NamedTuple):
    """A run in a plot over runs."""

    y: float
    low: float
    high: float
    label: str
    """What stands below it on the axis, where there is room."""
    title: str
    """What it says when it is pointed at."""
    kind: str
    """`counted`, `blessed`, `quarantined` or `different`."""


def trend(points: Sequence[TrendPoint], y_title: str, cut: tuple[int, int, int] | None = None) -> str:
    """Runs in their order with vertical intervals; ``cut`` is the place of a step's first run and of its interval."""
    places = [(place, point) for place, point in enumerate(points) if not math.isnan(point.y)]
    if not places:
        return ""
    known = [(place, p if p.low <= p.high else p._replace(low=p.y, high=p.y)) for place, p in places]
    y_ticks = _ticks(min(point.low for _, point in known), max(point.high for _, point in known))
    x_scale, y_scale = _scales([-0.5, max(1, len(points)) - 0.5], y_ticks)
    base, every = HEIGHT - BOTTOM, math.ceil(len(points) / _TREND_LABELS)
    lines = _y_axis(y_ticks, y_scale) + [
        f'<text x="{x_scale(place):.1f}" y="{base + 15}" text-anchor="middle">{escape(point.label)}</text>'
        for place, point in enumerate(points)
        if place % every == 0
    ]
    lines += _titles("commit", y_title)
    parts = [f'<g class="grid">{"".join(lines)}</g>']
    if cut:
        at, low, high = (x_scale(place - 0.5) for place in cut)
        parts.append(
            f'<g class="cut"><rect x="{low - 2:.1f}" y="{TOP}" width="{high - low + 4:.1f}" height="{base - TOP}"/>'
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{base}"/></g>'
        )
    for place, point in known:
        x, y = x_scale(place), y_scale(point.y)
        parts.append(
            f'<g class="point k-{escape(point.kind)}"><title>{escape(point.title)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y_scale(point.low):.1f}" y2="{y_scale(point.high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
        )
    return _svg(f"{y_title} over runs", parts)


def histogram(values: Sequence[int], x_title: str, y_title: str) -> str:
    """Counts of whole numbers; a bin is one number where there are few."""
    if not values:
        return ""
    size = max(1, math.ceil((max(values) + 1) / BINS))
    counts = [0] * (max(values) // size + 1)
    for value in values:
        counts[value // size] += 1
    x_ticks, y_ticks = _ticks(0, len(counts) * size, whole=True), _ticks(0, max(counts), whole=True)
    x_scale, y_scale = _scales(x_ticks, y_ticks, x_low=-0.5)  # a bar of one number stands around it
    parts = [_axes(x_ticks, y_ticks, x_title, y_title, x_low=-0.5)]
    for place, count in enumerate(counts):
        low, high = place * size, (place + 1) * size - 1
        named = f"{low}" if size == 1 else f"{low} to {high}"
        x, y = x_scale(low - 0.5), y_scale(count)
        parts.append(
            f'<rect class="bar" x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(1.0, x_scale(high + 0.5) - x - 1):.1f}" '
            f'height="{y_scale(0) - y:.1f}"><title>{named}: {count}</title></rect>'
        )
    return _svg(f"{y_title} by {x_title}", parts)


class _Scale(NamedTuple):
    start: float
    step: float

    def __call__(self, value: float) -> float:
        return self.start + self.step * value


def _apart(places: Sequence[float]) -> list[float]:
    """Ascending places across the plot, moved as little as leaves ``GAP`` between neighbours; less where many stand."""
    gap = min(GAP, (WIDTH - LEFT - RIGHT) / (2 * len(places)))

    def begin(group: Sequence[float]) -> float:
        """Where a group that stands around its mean begins, inside the plot."""
        width = gap * (len(group) - 1)
        return max(LEFT, min(statistics.fmean(group) - width / 2, WIDTH - GAP / 2 - width))

    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and begin(groups[-2]) + gap * len(groups[-2]) > begin(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    return [begin(group) + gap * number for group in groups for number in range(len(group))]


def _scales(
    x_ticks: Sequence[float], y_ticks: Sequence[float], strip: int = 0, x_low: float | None = None
) -> tuple[_Scale, _Scale]:
    """The plot shows ``x_low``, of itself the first tick, to the last tick."""
    base = HEIGHT - BOTTOM - strip
    x_low = x_ticks[0] if x_low is None else x_low
    x_step = (WIDTH - LEFT - RIGHT) / (x_ticks[-1] - x_low)
    y_step = -(base - TOP) / (y_ticks[-1] - y_ticks[0])
    return _Scale(LEFT - x_step * x_low, x_step), _Scale(base - y_step * y_ticks[0], y_step)


def _ticks(low: float, high: float, about: int = 5, whole: bool = False) -> list[float]:
    """Round numbers that cover the range, two at least; ``whole`` ones for counts."""
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    steps = [factor * magnitude for factor in (1, 2, 2.5, 5, 10)]
    if whole:
        steps = [max(1.0, step) for step in steps if step != 2.5]
    step = next(step for step in steps if span / step <= about)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(step * place, 10) for place in range(first, last + 1)]


def _axes(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_title: str,
    y_title: str,
    strip: int = 0,
    x_low: float | None = None,
) -> str:
    x_scale, y_scale = _scales(x_ticks, y_ticks, strip, x_low)
    base = HEIGHT - BOTTOM
    texts = [
        f'<text x="{x_scale(tick):.1f}" y="{base + 15}" text-anchor="middle">{_short(tick)}</text>' for tick in x_ticks
    ]
    return f'<g class="grid">{"".join([*_y_axis(y_ticks, y_scale), *texts, *_titles(x_title, y_title)])}</g>'


def _y_axis(ticks: Sequence[float], scale: _Scale) -> list[str]:
    return [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{scale(tick):.1f}" y2="{scale(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{scale(tick) + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        for tick in ticks
    ]


def _titles(x_title: str, y_title: str) -> list[str]:
    return [
        f'<text class="axis" x="{(LEFT + WIDTH) // 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>',
        f'<text class="axis" x="4" y="10">{escape(y_title)}</text>',
    ]


def _short(value: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            divisor = 1e3 if letter == "k" else limit
            return f"{value / divisor:g}{letter}"
    return f"{value:g}"


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
