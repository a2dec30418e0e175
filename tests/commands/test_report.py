"""`eager-lmeval report` on files of made-up runs: what it reads and what it writes."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from run_files import OPTIONS, samples_file, tree_record, write_run
from shown_run import HOSTILE, records, thought, write_shown_run

from eager_lmeval.commands.cli import main
from eager_lmeval.commands.report.content import on_shared_documents, read_runs
from eager_lmeval.commands.report.packing import Packer, unpack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shown_run(tmp_path_factory.mktemp("runs") / "init")


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


def shown(folder: Path, place: int, packer: Packer | None = None) -> dict[str, Any]:
    """What the page draws of a document."""
    (scored,) = read_runs([folder], packer or Packer())
    packed = scored.documents[place].document.packed
    assert packed is not None
    details: dict[str, Any] = unpack(packed)
    return details


def test_each_text_stands_in_the_page_once_and_is_rebuilt_from_its_parent(folder: Path) -> None:
    texts: list[str] = []
    for one in shown(folder, 0)["sequences"]:
        before = "" if one["parent"] is None else texts[one["parent"]][: one["cut"]]
        texts.append(before + one["text"])
    assert texts == [sequence["text"] for sequence in records()[0]["sequences"]]


def test_a_fork_is_told_in_words_the_token_first(folder: Path) -> None:
    _, first, second, *_ = shown(folder, 0)["sequences"]
    assert first["fork"]["before"] == "<think>one "
    assert first["fork"]["took"] == ["l", "eap</think>\\boxed{2}"]
    assert first["fork"]["wentOn"] == ["s", "tep</think>\\boxed{1}"]
    assert first["fork"]["p"] == pytest.approx(math.exp(-1), abs=1e-5)
    assert second["fork"]["wentOn"][0] == "p"


def test_of_a_record_without_characters_a_fork_begins_where_the_texts_differ(tmp_path: Path) -> None:
    record = tree_record(["so it is", "so is it"], {1: (0, 3)})
    record["sequences"][1]["token_ids"][0] = 999  # another token that begins with the same character
    for sequence in record["sequences"]:
        del sequence["token_chars"]
    run = write_run(tmp_path, {"pass@max": [0.0]}, records=[record])
    fork = shown(run, 0)["sequences"][1]["fork"]
    assert (fork["before"], fork["took"], fork["wentOn"]) == ("so i", ["", "s it"], ["", "t is"])


def test_a_page_that_would_grow_too_big_keeps_the_ends_of_texts(tmp_path: Path) -> None:
    long = [thought("step " * 1000, 1), thought("step " * 1000 + "back", 2)]
    run = write_run(tmp_path, {"pass@max": [1.0] * 3}, records=[tree_record(long, {1: (0, 5007)})] * 3)
    one = len(str(read_runs([run], Packer())[0].documents[0].document.packed))
    packer = Packer(most=one + one // 2)
    assert "shortened" not in shown(run, 0, packer)
    assert packer.shortened == 2
    last = shown(run, 2, Packer(most=0))
    assert last["shortened"]
    assert last["sequences"][0]["text"].endswith("\\boxed{1}")
    assert len(last["sequences"][0]["text"]) <= 600
    assert last["sequences"][1]["fork"]["before"].endswith("step ")


def test_runs_of_different_documents_are_shown_where_they_overlap_and_the_plot_says_so(tmp_path: Path) -> None:
    left = write_run(tmp_path / "left", {"pass@max": [1.0, 1.0, 0.0], "tokens": [10.0] * 3}, records=records()[:3])
    right = write_run(
        tmp_path / "right", {"pass@max": [0.0, 1.0], "tokens": [10.0] * 2}, records=records()[:2], first_document=2
    )
    apart = write_run(tmp_path / "apart", {"pass@max": [1.0], "tokens": [9.0]}, records=records()[:1], first_document=9)
    (kept, other), unequal = on_shared_documents(read_runs([left, right]))
    assert unequal
    assert [listed.document.doc_id for listed in kept] == [listed.document.doc_id for listed in other] == [2]
    assert main(["report", str(left), str(right), "-o", str(tmp_path / "page.html")]) == 0
    assert "on the 1 documents that all of them have" in (tmp_path / "page.html").read_text()
    assert main(["report", str(left), str(apart), "-o", str(tmp_path / "page.html")]) == 0
    assert "No document is in all runs" in (tmp_path / "page.html").read_text()
    assert main(["report", str(left), str(left), "-o", str(tmp_path / "page.html")]) == 0
    assert "different documents" not in (tmp_path / "page.html").read_text()


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
    assert unpack(packed[1])["prompt"] == HOSTILE


def test_of_a_run_without_trees_nothing_is_said_that_only_trees_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, {"exact_match": [1.0, 0.0]}, eager=False)
    assert main(["report", str(tmp_path), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert "2 documents, 1 failing\n" in printed
    assert "truncated" not in printed


def test_markdown_is_printed_with_intervals_and_the_ledger(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| 0.500 \\[0.061, 0.939\\] ≤ 0.566 | 4 | 210 | 11 |" in printed
    assert "4 documents, 2 failing, 1 saturated, 1 truncated" in printed
    assert "10 used in stage 1, 6 saved; 2 prompts eligible, 1 granted 2, 2 spent, 4 left" in printed
    assert "<script>" not in printed


def test_hostile_names_stay_text_in_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"model_name": f"{HOSTILE}\x1b[2J\r\n| *a* | $b$ ~~c~~ [d](e) &amp; `f`"}
    run = write_run(tmp_path, {"pass@max": [1.0]}, records=records()[3:], **names)
    assert main(["report", str(run), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").parse(printed)
    (row,) = [token for token in rendered if token.type == "inline" and "window.hacked" in token.content]
    assert [child.type for child in row.children or []] == ["text"]
    assert row.children
    assert row.children[0].content == re.sub("[\x1b\r\n]", " ", names["model_name"])
    assert "\x1b" not in printed


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
    assert "| 1.000 | 1 | 60 |" in printed
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<circle" in page
    assert "nan" not in re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL).lower()


def test_a_reader_that_has_gone_ends_no_report_with_an_error(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "import sys; from eager_lmeval.commands.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "report", folder, "--format", "markdown"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_task_without_trees_is_shown_by_its_responses(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"exact_match": [1.0, 0.0]})
    (scored,) = read_runs([run])
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
        "import sys; from eager_lmeval.commands.cli import main; main(['report', *sys.argv[1:]]); "
        "print(sorted({'torch', 'transformers', 'lm_eval', 'scipy.stats'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, folder, "-o", tmp_path / "page.html"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1] == "[]"


def test_the_script_that_takes_pictures_says_what_to_install_and_installs_nothing(page: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "screenshot_report.py"
    for name in ("apt-get", "sudo"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho called > {tmp_path}/called\n")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, script, page, tmp_path / "picture.png"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "install chromium" in done.stderr
    assert not (tmp_path / "called").exists()


def test_consistency_of_release_0_1_is_called_rounds_and_keeps_its_grants(tmp_path: Path) -> None:
    options = {**OPTIONS, "strategy": "consistency", "branching": "none"}
    record = {**records()[0], "strategy": "consistency", "rounds": 2}
    granted = {"eligible": 1, "surplus": 3, "grants": {"0": 2}, "granted": 2, "spent": 2, "left": 1}
    run = write_run(tmp_path, {"pass@max": [1.0]}, records=[record], options=options, ledger=granted)
    (scored,) = read_runs([run])
    assert (scored.method, scored.documents[0].grant) == ("rounds", 2)
