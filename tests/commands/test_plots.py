"""The report's plots: where points, names and ticks stand."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_lmeval.commands.plots import GAP, WIDTH, Point, histogram, scatter

SVG = "{http://www.w3.org/2000/svg}"


def point(x: float, y: float = 0.5, half: float = 0.1) -> Point:
    return Point(x, y, y - half, y + half, "#1", "init", hollow=False)


def centres(plot: str) -> list[float]:
    return [float(circle.attrib["cx"]) for circle in ET.fromstring(plot).iter(f"{SVG}circle")]


def tick_labels(plot: str) -> list[str]:
    (grid,) = (group for group in ET.fromstring(plot).iter(f"{SVG}g") if group.get("class") == "grid")
    return [text.text or "" for text in grid.iter(f"{SVG}text") if text.get("class") != "axis"]


@given(st.lists(st.integers(50, 90), min_size=1, max_size=40))
def test_points_of_equal_cost_stand_side_by_side_inside_the_plot(costs: list[int]) -> None:
    places = centres(scatter([point(cost) for cost in costs], "sequences", "pass@max"))
    assert len(places) == len(costs)
    least = GAP if len(costs) <= 13 else 4
    assert all(after - before >= least - 0.11 for before, after in itertools.pairwise(places))
    assert places[0] > 0
    assert places[-1] < WIDTH


def test_points_that_are_apart_stand_where_they_belong() -> None:
    places = centres(scatter([point(cost) for cost in (0, 250, 1000)], "tokens", "pass@max"))
    assert (places[1] - places[0]) / (places[2] - places[0]) == pytest.approx(0.25, abs=1e-3)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_counts_have_whole_ticks(values: list[int]) -> None:
    for label in tick_labels(histogram(values, "sequences of a prompt", "prompts")):
        assert float(label).is_integer()


def test_a_count_of_12_is_drawn_with_whole_ticks() -> None:
    assert "12.5" not in tick_labels(histogram([1] * 12, "sequences of a prompt", "prompts"))


def test_names_do_not_cover_tick_labels() -> None:
    plot = scatter([point(cost, 0.5, 0.5) for cost in (56, 80)], "sequences", "pass@max")
    texts = list(ET.fromstring(plot).iter(f"{SVG}text"))
    names = [float(text.attrib["y"]) for text in texts if (text.text or "").startswith("#")]
    ticks = max(float(text.attrib["y"]) for text in texts if text.text == "80")
    assert max(names) <= ticks - 11  # the height of a line


def test_a_point_without_an_interval_is_a_point() -> None:
    plot = scatter([Point(60, 1.0, math.nan, math.nan, "#1", "init", hollow=False)], "tokens", "pass@max")
    assert len(centres(plot)) == 1
    assert "nan" not in plot


def test_bars_do_not_cover_the_labels_of_the_axes() -> None:
    plot = ET.fromstring(histogram([0] * 9 + [1, 2, 8], "sequences of a prompt", "prompts"))
    left = min(float(bar.attrib["x"]) for bar in plot.iter(f"{SVG}rect"))
    labels = [text for text in plot.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert labels
    assert left >= max(float(text.attrib["x"]) for text in labels)
