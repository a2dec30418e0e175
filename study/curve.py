"""What sequences bring against what they cost, as a PNG: pass@max and the weighted vote over tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CurvePoint", "can_draw", "save_curve"]

_MARKERS = {"parallel": "o", "init": "o", "adapt": "^", "eager": "s", "consistency": "D"}
_COLOURS = {"": "#6b6f76", "top2": "#b3461e", "systematic": "#1f5fbf", "none": "#17703a"}
"""By branching, which `parallel` has not."""


class CurvePoint(NamedTuple):
    """A run: one strategy and branching at one M."""

    strategy: str
    branching: str
    """Empty for `parallel`."""
    max_sequences: int
    tokens: float
    pass_at_max: float
    vote: float
    """Weighted."""
    rate: float
    """Weighted; not drawn."""
    labels_used: bool
    sequences: int = 0
    seconds: float = math.nan

    @property
    def name(self) -> str:
        name = f"{self.strategy}, {self.branching}" if self.branching else self.strategy
        return f"{name} (labels used)" if self.labels_used else name


def can_draw() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def save_curve(points: Sequence[CurvePoint], title: str, path: Path) -> None:
    """Writes the picture; runs that differ in M alone are joined by a line. UsageError where it cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    axes: tuple[Axes, Axes] = figure.subplots(1, 2)
    for axis, heading, values in (
        (axes[0], "pass@max", [point.pass_at_max for point in points]),
        (axes[1], "weighted vote (cons_w@max)", [point.vote for point in points]),
    ):
        for name in dict.fromkeys(point.name for point in points):
            own = sorted(
                (point.tokens, value, point) for point, value in zip(points, values, strict=True) if point.name == name
            )
            first = own[0][2]
            colour, marker = _COLOURS[first.branching], _MARKERS[first.strategy]
            axis.plot(
                [tokens for tokens, _, _ in own],
                [value for _, value, _ in own],
                color=colour,
                marker=marker,
                markerfacecolor="white" if first.labels_used else colour,
                linestyle=":" if first.labels_used else "-",
                label=name,
            )
            for tokens, value, point in own:
                axis.annotate(
                    str(point.max_sequences),
                    (tokens, value),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    color=colour,
                )
        axis.set_title(heading)
        axis.set_xlabel("tokens decoded (numbers: M)")
        axis.xaxis.set_major_formatter(lambda tokens, _: f"{tokens / 1000:g}k")
        axis.grid(alpha=0.3)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
