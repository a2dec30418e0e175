"""`eager-lmeval report` on files of made-up runs: what it reads and what it writes."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_files import OPTIONS, samples_file, tree_record, write_run
from shown_run import HOSTILE, records, write_shown_run

from eager_lmeval.commands.cli import main
from eager_lmeval.commands.report.content import read_runs
from eager_lmeval.scores.scoring import score


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
    program = "import sys; from eager_lmeval.commands.cli import main; sys.exit(main())"
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
    monkeypatch.setattr(
        "eager_lmeval.commands.report.trees.get_verifier", lambda name: pytest.fail(f"asked for {name}")
    )
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
