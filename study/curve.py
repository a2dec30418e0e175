"""What sequences bring against what they cost, as a PNG: pass@max and the weighted vote over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tables import Design

_MARKERS = {"parallel": "o", "init": "o", "adapt": "^", "eager": "s"}
_COLOURS = {"top2": "#b3461e", "systematic": "#1f5fbf"}


def save_curve(designs: Sequence[Design], path: Path) -> None:
    """Writes the picture; designs that differ in M alone are joined by a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, heading, score in ((left, "pass@max", "pass@max"), (right, "weighted vote", "cons_w@max")):
        for kind in dict.fromkeys(design.kind for design in designs):
            own = sorted((d for d in designs if d.kind == kind), key=lambda d: d.tokens)
            strategy, _, branching = kind.partition(" ")
            colour, reads_labels = _COLOURS.get(branching, "#6b6f76"), strategy == "eager"
            axis.plot(
                [design.tokens for design in own],
                [design.mean(score) for design in own],
                color=colour,
                marker=_MARKERS[strategy],
                markerfacecolor="white" if reads_labels else colour,
                linestyle=":" if reads_labels else "-",
                label=f"{', '.join(kind.split())}{' (labels used)' if reads_labels else ''}",
            )
            for design in own:
                axis.annotate(
                    str(design.options["max_sequences"]),
                    (design.tokens, design.mean(score)),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=colour,
                )
        axis.set_title(heading)
        axis.set_xlabel("tokens decoded (numbers: M)")
        axis.xaxis.set_major_formatter(lambda tokens, _: f"{tokens / 1000:g}k")
        axis.grid(alpha=0.3)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=120)
