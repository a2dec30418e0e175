"""The page of `eager-lmeval report` in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_chromium
from debian import MAY_INSTALL
from shown_run import HOSTILE, thought, write_shown_run

from eager_lmeval.commands.cli import main


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    assert main(["report", str(write_shown_run(folder / "init")), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip(f"there is no Chromium here; with {MAY_INSTALL}=1 root has it installed from Debian's packages")
    browser = Browser(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


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
    browser.wait(f"document.querySelector('#document h3')?.textContent === 'Document {doc_id}'")
    return str(browser.value("document.querySelector('#document').innerText"))


def test_the_list_shows_all_documents_and_the_plots_are_drawn(opened: Browser) -> None:
    assert listed(opened) == [0, 1, 2, 3]
    assert opened.value("document.querySelectorAll('svg.plot').length") == 4


def test_a_tree_unfolds_with_forks_answers_verdicts_and_votes(opened: Browser) -> None:
    text = open_document(opened, 0)
    assert "at token 11, entropy 1.500: …<think>one leap" in text
    assert f"taken {ord('l')}, not taken {ord('s')}" in text
    assert "at token 14, entropy 1.500: …<think>one leaf" in text
    assert "✓ right" in text
    assert "✗ wrong" in text
    votes = opened.value(
        "[...document.querySelectorAll('#votes tbody tr')].map(r => r.innerText.replaceAll('\\t', ' '))"
    )
    assert votes[0].startswith("1 3 0.5000 ✓ right")
    assert opened.value("document.querySelectorAll('.tree > li').length") == 4  # roots
    assert opened.value("document.querySelector('.tree > li > ul > li > ul > li') !== null")
    opened.value("document.querySelector('.tree details').open = true")
    opened.wait("document.querySelector('.tree pre')?.textContent.startsWith('<think>one step</think>')")
    assert opened.value("document.querySelector('.tree pre .answer').textContent") == "\\boxed{1}"


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
    opened.value("document.querySelector('.tree details').open = true")
    opened.wait("document.querySelector('.tree pre') !== null")
    assert opened.value("document.querySelector('.tree pre').textContent") == thought(HOSTILE, HOSTILE)
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
    opened.wait("document.querySelector('#document h3')?.textContent === 'Document 2'")
    opened.press("Tab")
    assert opened.value("document.activeElement.closest('#document') !== null")


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
