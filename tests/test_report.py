"""`eager-lmeval report` on files of made-up runs: what it reads, and what the page does in a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find_chromium
from run_files import OPTIONS, samples_file, tree_record, write_run

from eager_lmeval.cli import main
from eager_lmeval.report.content import read_runs
from eager_lmeval.scoring import score

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>&lt;b&gt; \" ' `${1}` -->"
LEDGER = {
    "max_sequences": 4,
    "prompts": 4,
    "used": 10,
    "surplus": 6,
    "eligible": 2,
    "grants": {"0": 2},
    "granted": 2,
    "spent": 2,
    "left": 4,
    "unbounded": False,
}


def thought(text: str, answer: object) -> str:
    return f"<think>{text}</think>\\boxed{{{answer}}}"


def records() -> list[dict[str, Any]]:
    """Document 0 branches twice, is right and was granted 2; 1 fails; 2 is truncated; 3 is hostile."""
    first = [thought("one step", 1), thought("one leap", 2), thought("one leaf", 1), thought("new", 1), "x", "y"]
    saturated = tree_record(first, {1: (0, 11), 2: (1, 14)})
    return [
        saturated,
        tree_record([thought("no", 9), thought("never", 9), thought("never", 8)]),
        tree_record([thought("long", 3)], finish="length"),
        tree_record([thought(HOSTILE, HOSTILE)]),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("runs") / "init",
        {"pass@max": [1.0, 0.0, 1.0, 0.0], "tokens": [60.0, 40.0, 20.0, 90.0], "sequences": [6.0, 3.0, 1.0, 1.0]},
        records=records(),
        questions=["Count to one.", "Count to two.", "Count to three.", HOSTILE],
        ledger=LEDGER,
        model_name=HOSTILE,
    )


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    target = folder.parent / "report.html"
    assert main(["report", str(folder), "-o", str(target)]) == 0
    return target


def test_documents_carry_their_verdicts_grants_and_filters(folder: Path) -> None:
    (scored,) = read_runs([folder])
    found = [(listed.document.num_correct, listed.grant, *listed.flags) for listed in scored.documents]
    assert found == [
        (3, 2, False, True, False, True),
        (0, 0, True, False, False, False),
        (1, 0, False, False, True, False),
        (0, 0, True, False, False, False),
    ]
    assert scored.metrics["pass@max"].mean == 0.5
    assert scored.totals == {"tokens": 210, "sequences": 11}


def test_each_text_stands_in_the_page_once_and_is_rebuilt_from_its_parent(folder: Path) -> None:
    (scored,) = read_runs([folder])
    texts: list[str] = []
    for shown in scored.documents[0].document.sequences:
        before = "" if shown["parent"] is None else texts[shown["parent"]][: shown["cut"]]
        texts.append(before + shown["text"])
    assert texts == [sequence["text"] for sequence in records()[0]["sequences"]]
    assert scored.documents[0].document.sequences[1]["text"].startswith("leap")
    assert scored.documents[0].document.sequences[1]["taken"] == ord(texts[1][11])
    assert scored.documents[0].document.sequences[1]["notTaken"] == ord(texts[0][11])
    assert scored.documents[0].document.sequences[2]["notTaken"] == ord(texts[1][14])


def links_in(page: str) -> set[str]:
    found: set[str] = set()

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.update(str(value) for name, value in attrs if name in ("src", "href", "action", "data"))

    Links().feed(page)
    return found


def test_the_page_needs_no_network_and_names_no_other_file(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text
    assert links_in(text) == {"#overview", "#budget", "#documents"}
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_hostile_text_stands_in_the_file_only_packed_or_escaped(page: Path) -> None:
    text = page.read_text()
    assert "window.hacked = 1</script>" not in text
    packed = re.search(r'id="d-0-3">([^<]*)<', text)
    assert packed
    assert json.loads(zlib.decompress(base64.b64decode(packed[1])))["question"] == HOSTILE


def test_markdown_is_printed_with_intervals_and_the_ledger(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| 0.500 \\[0.000, 1.000\\] | 210 | 11 |" in printed
    assert "4 documents, 2 failing, 1 saturated, 1 truncated" in printed
    assert "10 used in stage 1, 6 saved; 2 prompts eligible, 1 granted 2, 2 spent, 4 left" in printed
    assert "<script>" not in printed


def test_a_run_with_labels_is_called_an_upper_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, {"pass@max": [1.0]}, labels_used=True, options={**OPTIONS, "strategy": "eager"})
    main(["report", str(run), "--format", "markdown"])
    assert "upper bound" in capsys.readouterr().out
    main(["report", str(run), "-o", str(tmp_path / "page.html")])
    assert "upper bound" in (tmp_path / "page.html").read_text()


def test_a_run_of_one_document_is_shown_without_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, {"pass@max": [1.0], "tokens": [60.0]}, records=records()[:1])
    assert main(["report", str(run), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| 1.000 | 60 |" in printed
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<circle" in page
    assert "nan" not in re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL).lower()


def test_a_reader_that_has_gone_ends_no_report_with_an_error(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "import sys; from eager_lmeval.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "report", folder, "--format", "markdown"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_task_without_trees_is_shown_by_its_responses(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"exact_match": [1.0, 0.0]})
    (scored,) = read_runs([run])
    assert [listed.flags.failing for listed in scored.documents] == [False, True]


@pytest.mark.parametrize("truncated_votes", [False, True])
def test_verdicts_follow_the_rules_that_the_run_was_scored_with(truncated_votes: bool, tmp_path: Path) -> None:
    tree = tree_record(["<think>so \\boxed{1}, or", "<think>hm"], finish="length")
    tree["scoring"] = {"ks": [], "tie": "mean", "truncated_votes": truncated_votes}
    for sequence in tree["sequences"]:
        sequence["answer_at"] = None
    values = score({"eager": {"label": "1", "verifier": "math"}}, tree)
    (scored,) = read_runs([write_run(tmp_path, {"pass@max": [values["pass@max"]]}, records=[tree])])
    (listed,) = scored.documents
    assert listed.document.num_correct == values["pass_rate"] * 2 == int(truncated_votes)
    assert listed.flags.failing == (not truncated_votes)


def test_verdicts_of_the_verifier_exact_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"pass@max": [1.0]}, records=[tree_record(["<think>?</think>1", "<think>?</think>2"])])
    samples_file(run).write_text(samples_file(run).read_text().replace('"verifier": "math"', '"verifier": "exact"'))
    (scored,) = read_runs([run])
    assert [shown["correct"] for shown in scored.documents[0].document.sequences] == [True, False]


def test_a_verifier_that_may_run_code_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, {"pass@max": [1.0, 0.0]}, records=records()[:2])
    samples_file(run).write_text(samples_file(run).read_text().replace('"verifier": "math"', '"verifier": "code"'))
    monkeypatch.setattr("eager_lmeval.report.trees.get_verifier", lambda name: pytest.fail(f"asked for {name}"))
    (scored,) = read_runs([run])
    assert [listed.document.num_correct for listed in scored.documents] == [None, None]
    assert [listed.flags.failing for listed in scored.documents] == [False, True]


def test_unreadable_runs_give_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", {"pass@max": [1.0, 0.0]})
    text = samples_file(run).read_text()
    samples_file(run).write_text(text[:-40])
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 2
    assert "cut short" in capsys.readouterr().err
    samples_file(run).unlink()
    assert main(["report", str(run)]) == 2
    assert "--log_samples" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_report_imports_no_torch(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from eager_lmeval.cli import main; main(['report', *sys.argv[1:]]); "
        "print(sorted({'torch', 'transformers', 'lm_eval', 'scipy.stats'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, folder, "-o", tmp_path / "page.html"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1] == "[]"


# ---- in a browser -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("there is no Chromium here, and none could be installed from Debian's packages")
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
