"""The page of `eager-lmeval track page` in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from tracked import Tracked, broken, noisy

RUNS = 12
_CONTRAST = """
(selector, property) => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const linear = (part) => part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4;
  const light = (colour) => numbers(colour).map(linear).reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = light(getComputedStyle(document.querySelector('figure')).backgroundColor);
  return Math.min(...[...document.querySelectorAll(selector)].map((one) => {
    const [low, high] = [behind, light(getComputedStyle(one)[property])].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""
"""The least contrast ratio of some marks to the plot behind them, by the definition of WCAG 2.2."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a history with a run of each kind and a step before the last three."""
    track = Tracked(tmp_path_factory.mktemp("trend"))
    track.blessed()
    assert track("quarantine", track.add(broken(100)), "--reason", "a broken disk") == 0
    track.add(noisy(3, 99), version=2.0)
    for run in range(RUNS - 6):
        track.add(noisy(3, run))
    for run in range(3):
        track.add(broken(40 + run))
    assert track("page", "-o", track.folder / "trend.html") == 0
    return track.folder / "trend.html"


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Iterator[Browser]:
    chromium.size(1400)
    chromium.open(page, ready=f"location.href === '{page.as_uri()}' && document.readyState === 'complete'")
    yield chromium
    assert chromium.errors == []


def test_a_plot_has_a_mark_a_run_a_step_and_names_on_its_axes(opened: Browser) -> None:
    plots = "document.querySelectorAll('svg.plot')"
    assert opened.value(f"{plots}.length") == 1  # the tokens, the same in every run, have none
    assert opened.value(f"{plots}[0].querySelectorAll('.point').length") == RUNS
    assert opened.value(f"[...{plots}[0].querySelectorAll('.axis')].map((one) => one.textContent)") == [
        "commit",
        "pass@max",
    ]
    assert "tokens" in opened.value("document.querySelector('#trends').innerText")
    step = opened.value("document.querySelector('.cut line').getBoundingClientRect().x")
    places = opened.value(
        "[...document.querySelectorAll('.point circle')].map((one) => one.getBoundingClientRect().right)"
    )
    assert sum(place > step for place in places) == 3


def test_the_table_says_why_a_run_counts_nowhere_and_in_what_it_differs(opened: Browser) -> None:
    rows = opened.value("[...document.querySelectorAll('tbody tr')].map((row) => row.innerText.replaceAll('\\t', ' '))")
    assert len(rows) == RUNS
    assert "quarantined a broken disk" in rows[-2]
    assert "different toy_task: task version is 1.0 in the baseline and 2.0 in this run" in rows[-3]
    assert "blessed" in rows[-1]


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anyone_out_in_either_theme(scheme: str, width: int, opened: Browser) -> None:
    opened.size(width, scheme=scheme)
    assert opened.violations() == []
    assert opened.value("document.documentElement.scrollWidth") <= width
    assert opened.value(f"({_CONTRAST})('.plot text', 'fill')") >= 4.5
    assert opened.value(f"({_CONTRAST})('.point circle, .point line, .cut line', 'stroke')") >= 3
    dark = opened.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert dark == (scheme == "dark")
