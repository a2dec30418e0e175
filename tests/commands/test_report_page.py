"""The page of `eager-lmeval report` in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from run_files import tree_record, write_run
from shown_run import HOSTILE, thought, write_shown_run

from eager_lmeval.commands.cli import main


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two runs: the second fixes document 1, breaks 2, and has no 3."""
    folder = tmp_path_factory.mktemp("page")
    first = write_shown_run(folder / "init")
    right = [tree_record([thought("so", number + 1)]) for number in range(2)]
    second = write_run(
        folder / "again",
        {"pass@max": [1.0, 1.0, 0.0]},
        records=[*right, tree_record([thought("so", 9)])],
        model="other",
    )
    assert main(["report", str(first), str(second), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Iterator[Browser]:
    chromium.size(1400)
    chromium.open(page)
    yield chromium
    assert chromium.errors == []
    assert chromium.value("window.hacked") is None


def listed(browser: Browser) -> list[int]:
    return [
        int(name) for name in browser.value("[...document.querySelectorAll('#list [data-id]')].map(r => r.dataset.id)")
    ]


def open_document(browser: Browser, doc_id: int) -> str:
    browser.value(f"document.querySelector('#list [data-id=\"{doc_id}\"]').click()")
    browser.wait(f"document.querySelector('#document .facts')?.textContent.startsWith('Document {doc_id} ')")
    browser.wait("document.querySelector('#document .course') !== null")
    return str(browser.value("document.querySelector('#document').innerText"))


def show_beside(browser: Browser, run: int) -> None:
    browser.value(f"document.querySelector('#with').value = '{run}'")
    browser.value("document.querySelector('#with').dispatchEvent(new Event('change'))")


def labels(browser: Browser, selector: str) -> list[str]:
    found = browser.value(f"[...document.querySelectorAll('{selector}')].map((one) => one.getAttribute('aria-label'))")
    return [str(label) for label in found]


def test_the_list_shows_all_documents_by_their_questions_and_the_plots_are_drawn(opened: Browser) -> None:
    assert listed(opened) == [0, 1, 2, 3]
    assert opened.value("document.querySelector('#list .snippet').textContent") == "Count to one."
    assert opened.value("document.querySelectorAll('svg.plot').length") == 5


def test_the_first_failing_document_is_open(opened: Browser) -> None:
    opened.wait("document.querySelector('#document h3') !== null")
    assert opened.value("document.querySelector('#document h3').textContent") == "Count to two."
    assert opened.value("document.querySelector('#list [aria-current]').dataset.id") == "1"


def test_the_tokens_are_seen_without_scrolling(opened: Browser) -> None:
    heading = "[...document.querySelectorAll('#overview th')].find((one) => one.textContent === 'tokens')"
    assert opened.value(f"{heading}.getBoundingClientRect().right") < 1400
    assert opened.value("document.querySelector('#overview .scroll').scrollLeft") == 0


def test_the_picture_has_a_line_a_sequence_and_its_splits_in_words(opened: Browser) -> None:
    text = open_document(opened, 0)
    assert "100 tokens decoded, 125 had nothing been shared: 20 % saved" in text
    assert sorted(labels(opened, ".course"))[:3] == [
        "sequence 0: right, answer 1, 32 tokens",
        "sequence 1: wrong, answer 2, 32 tokens, left sequence 0 at token 11",
        "sequence 2: right, answer 1, 32 tokens, left sequence 1 at token 14",
    ]
    first, second = labels(opened, ".split")
    assert first.startswith("split of sequence 0 at token 11, H 1.50 nats, θ 0.50: step</think>")
    assert "leap</think>" in first
    assert "p 0.368" in first
    assert second.startswith("split of sequence 1 at token 14")
    assert opened.value("document.querySelectorAll('.split.decisive').length") == 1  # the second: leap or leaf
    assert opened.value("document.querySelector('.late') !== null")
    assert "stage 2: granted budget" in text


def test_a_split_tells_on_focus_what_was_taken_and_what_was_not(opened: Browser) -> None:
    open_document(opened, 0)
    assert opened.value("document.querySelector('.tip').hidden")
    opened.value("document.querySelector('.split').focus()")
    tip = opened.value("document.querySelector('.tip').innerText")
    assert "token 11 · H 1.50 nats, θ 0.50" in tip
    assert "…<think>one" in tip
    assert "step</think>" in tip
    assert "leap</think>" in tip
    opened.value("document.querySelector('.split').blur()")
    assert opened.value("document.querySelector('.tip').hidden")


def test_a_line_shows_its_text_shaded_by_entropy(opened: Browser) -> None:
    open_document(opened, 0)
    opened.value(
        "document.querySelector('.course[data-place=\"2\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert opened.value("document.querySelector('.sequence h5').innerText") == "Sequence 2 ✓ right answer 1"
    assert opened.value("document.querySelector('.text').textContent") == thought("one leaf", 1)
    assert opened.value("document.querySelector('.text .answer').textContent").startswith("\\")
    # One-character tokens of entropy (7·i mod 11)/5: the fork's own entropy, 1.5 nats, stands behind its mark.
    assert opened.value("document.querySelector('.text .own-start').nextElementSibling.className") == "e5"
    shades = opened.value("[...document.querySelectorAll('.text span')].map((one) => one.className.slice(0, 2))")
    assert {"e0", "e4", "e5"} <= set(shades)
    assert "θ = 0.50" in opened.value("document.querySelector('.scale').innerText")


def test_votes_are_counted_by_answer(opened: Browser) -> None:
    open_document(opened, 0)
    opened.value("document.querySelector('.votes').open = true")
    votes = opened.value(
        "[...document.querySelectorAll('.votes tbody tr')].map(r => r.innerText.replaceAll('\\t', ' '))"
    )
    # A quarter for each of four roots: two thirds of the first, whose tree has three sequences, and all of another.
    assert votes[0].startswith("1 3 0.4167 ✓ right")


@pytest.mark.parametrize(
    ("name", "left"), [("failing", [1, 3]), ("saturated", [0]), ("truncated", [2]), ("granted", [0])]
)
def test_filters_leave_what_they_name(name: str, left: list[int], opened: Browser) -> None:
    opened.value(f"document.querySelector('input[name={name}]').click()")
    assert listed(opened) == left


def test_search_finds_prompts_labels_and_answers(opened: Browser) -> None:
    for words, found in (("count THREE", [2]), ("hacked", [3]), ("nowhere", [])):
        opened.value(
            f"document.querySelector('#search').value = '{words}'; "
            "document.querySelector('#search').dispatchEvent(new Event('input'))"
        )
        assert listed(opened) == found


def test_hostile_text_stays_text(opened: Browser) -> None:
    assert HOSTILE in open_document(opened, 3)
    assert opened.value("document.querySelector('#document .text').textContent") == thought(HOSTILE, HOSTILE)
    assert opened.value("document.querySelectorAll('#document img, #document script').length") == 0
    assert HOSTILE in opened.value("document.querySelector('td.model').textContent")


def test_the_policy_stops_a_script_even_if_one_got_in(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    chromium.value("new Promise((done) => setTimeout(done, 100))")
    assert chromium.value("window.hacked") is None
    assert any("Content Security Policy" in error for error in chromium.errors)


def test_the_keyboard_suffices(opened: Browser) -> None:
    opened.press("/")
    assert opened.value("document.activeElement.id") == "search"
    opened.value("document.querySelector('#list button').focus()")
    opened.press("ArrowDown")
    opened.press("ArrowDown")
    assert opened.value("document.activeElement.dataset.id") == "2"
    opened.press("Enter")
    opened.wait("document.querySelector('#document h3')?.textContent === 'Count to three.'")
    opened.press("Tab")
    assert opened.value("document.activeElement.closest('#document') !== null")
    open_document(opened, 0)
    opened.value("document.querySelector('.course').focus()")
    opened.press("ArrowRight")
    assert opened.value("document.activeElement.matches('.split')")
    opened.press("ArrowDown")
    assert opened.value("document.activeElement.dataset.place") == "1"
    opened.press("Enter")
    assert opened.value("document.querySelector('.sequence h5').innerText").startswith("Sequence 1")


def test_two_runs_stand_beside_each_other_and_flipped_documents_are_next(opened: Browser) -> None:
    show_beside(opened, 1)
    assert "1 fixed, 1 broken, 1 same, 1 not in both" in opened.value("document.querySelector('#comparison').innerText")
    opened.wait("document.querySelectorAll('#document .view .course').length === 4")
    assert "fixed: pass@max is better in #2 init" in opened.value("document.querySelector('#document').innerText")
    opened.value("document.activeElement.blur()")
    opened.press("f")
    opened.wait("document.querySelector('#document h3').textContent === 'Count to three.'")
    opened.press("f")
    opened.wait("document.querySelector('#document h3').textContent === 'Count to two.'")
    opened.value("document.querySelector('input[name=flipped]').click()")
    assert listed(opened) == [1, 2]


def test_a_link_opens_its_document_in_its_run_beside_the_other(opened: Browser, page: Path) -> None:
    open_document(opened, 2)
    link = opened.value("document.querySelector('#document a').getAttribute('href')")
    assert link == "#run=1&document=2"
    opened.call("Page.navigate", url="about:blank")
    opened.call("Page.navigate", url=f"{page.as_uri()}#run=2&document=1&with=1")
    opened.wait("document.querySelectorAll('#document .view').length === 2")
    assert opened.value("document.querySelector('#run').value") == "1"
    assert opened.value("document.querySelector('#list [aria-current]').dataset.id") == "1"


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_anyone_out(scheme: str, width: int, opened: Browser) -> None:
    opened.size(width, scheme=scheme)
    show_beside(opened, 1)
    open_document(opened, 0)
    opened.value("for (const part of document.querySelectorAll('details')) part.open = true")
    assert opened.violations() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(scheme: str, opened: Browser) -> None:
    opened.size(400, scheme=scheme)
    open_document(opened, 0)
    opened.value("for (const part of document.querySelectorAll('details')) part.open = true")
    assert opened.value("document.documentElement.scrollWidth") <= 400
    dark = opened.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert dark == (scheme == "dark")


def test_a_phone_shows_the_first_score_at_once_and_the_run_s_name_always(opened: Browser) -> None:
    opened.size(400)
    cells = "[...document.querySelector('#overview tbody tr').children]"
    assert opened.value(f"{cells}[1].getBoundingClientRect().right") <= 400
    assert opened.value(f"{cells}[1].innerText.split('\\n')[0]") == "0.500"
    opened.value("document.querySelector('#overview .scroll').scrollLeft = 10000")
    assert opened.value(f"{cells}[1].getBoundingClientRect().left") < 0
    assert opened.value(f"{cells}[0].getBoundingClientRect().left") >= 0
    assert opened.value(f"{cells}[0].innerText").startswith("#1")


def raced() -> dict[str, Any]:
    """Two first lanes that agree, and two more that were cut when they had."""
    record = tree_record(
        [thought("so", 1), thought("as so", 1), thought("lo", 7), "<think>what"], strategy="consistency"
    )
    record |= {"rate_roots": 2, "settled": True, "settled_time": 34}
    for sequence, (start, finish) in zip(
        record["sequences"], [(0, "stop"), (0, "stop"), (5, "stop"), (23, "cut")], strict=True
    ):
        sequence |= {"start": start, "finish": finish, "copies": 1}
    record["sequences"][3]["answer_at"] = None
    return record


def test_a_race_has_a_lane_from_its_start_on_and_the_moment_when_the_vote_was_settled(
    chromium: Browser, tmp_path: Path
) -> None:
    records = [raced(), *[tree_record([thought("so", 1)])] * 3]
    run = write_run(tmp_path / "race", {"pass@max": [1.0] * 4}, records=records, questions=["one", "two", "3", "4"])
    assert main(["report", str(run), "-o", str(tmp_path / "report.html")]) == 0
    chromium.size(1400)
    chromium.open(tmp_path / "report.html")
    text = open_document(chromium, 0)
    assert "vote settled at 34 tokens · 1 cut" in text
    assert labels(chromium, ".course")[2:] == [
        "sequence 2: wrong, answer 7, 26 tokens, from 5 on",
        "sequence 3: cut when the vote was settled, 11 tokens, from 23 on",
    ]
    lanes = chromium.value("[...document.querySelectorAll('path.lane')].map((one) => one.getBBox().x)")
    assert lanes[0] == lanes[1] < lanes[2] < lanes[3]
    settled = chromium.value("document.querySelector('line.settled').getBBox().x")
    assert settled > lanes[3]
    assert chromium.errors == []
