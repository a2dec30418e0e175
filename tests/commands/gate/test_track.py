"""`eager-lmeval track` on files of made-up runs: the history's file, what is judged, and what is shown."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from run_files import OPTIONS
from tracked import BASE, DOCUMENTS, TOKENS, Tracked, broken, mended, noisy

from eager_lmeval.commands.gate.history import read_history, run_id
from eager_lmeval.runs.run import find_run


@pytest.fixture
def track(tmp_path: Path) -> Tracked:
    return Tracked(tmp_path)


def test_a_run_is_one_line_and_adding_it_again_changes_nothing(track: Tracked) -> None:
    folder = track.add()
    once = track.history.read_bytes()
    assert track("add", folder) == 0
    assert track.history.read_bytes() == once
    assert once.count(b"\n") == 1
    (entry,) = read_history(track.history).entries
    assert (entry.commit, entry.seed, entry.date) == ("c1", 1, "1970-01-02T00:00:00+00:00")
    assert entry.tasks["toy_task"].values["pass@max"] == BASE.tolist()


def test_two_branches_of_a_history_merge_in_git_without_a_conflict(track: Tracked) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *identity, *words], cwd=track.folder, check=True, capture_output=True)

    (track.folder / ".gitattributes").write_text("history.jsonl merge=union\n")
    track.blessed()
    git("init")
    git("add", ".gitattributes", "history.jsonl")
    git("commit", "-m", "one")
    git("checkout", "-b", "side")
    track.add(noisy(3, 1))
    git("commit", "-am", "two")
    git("checkout", "main")
    track.add(noisy(3, 2))
    git("commit", "-am", "three")
    git("merge", "side", "-m", "four")
    assert [entry.commit for entry in read_history(track.history).entries] == ["c1", "c2", "c3"]


DAMAGE = {
    "cut short": lambda line: line[: len(line) // 2],
    "no JSON": lambda line: b"run 7 was good",
    "an unknown field": lambda line: line.replace(b'"kind"', b'"extra": 1, "kind"', 1),
    "a column cut": lambda line: line.replace(b'"ids":[0,', b'"ids":[', 1),
    "a score that is no number": lambda line: line.replace(b'"pass@max":[', b'"pass@max":["x",', 1),
    "another format": lambda line: line.replace(b'"format":1', b'"format":9', 1),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_line_is_named_and_nothing_is_judged(
    kind: str, track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    track.blessed()
    track.add()
    lines = track.history.read_bytes().splitlines()
    lines[2] = DAMAGE[kind](lines[2])
    track.history.write_bytes(b"\n".join(lines) + b"\n")
    assert track("check") == 2
    said = capsys.readouterr().err
    assert f"{track.history}:3" in said
    assert "add its run again" in said


def test_a_run_with_two_contents_and_a_mark_of_no_run_are_refused(
    track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    track.add()
    text = track.history.read_text()
    track.history.write_text(text + text.replace('"c1"', '"c9"'))
    assert track("check") == 2
    assert "stands in another line with other content" in capsys.readouterr().err
    mark = '{"kind":"bless","format":1,"runs":["0123456789ab"],"date":"2026","reason":""}\n'
    track.history.write_text(text + mark)
    assert track("check") == 2
    assert "names run 0123456789ab, which the file lacks" in capsys.readouterr().err


def test_a_last_line_without_its_end_is_not_joined_to_the_next(track: Tracked) -> None:
    track.add()
    track.history.write_bytes(track.history.read_bytes().rstrip(b"\n"))
    track.add()
    assert len(read_history(track.history).entries) == 2


def test_without_a_baseline_and_for_the_baseline_itself_there_is_nothing_to_judge(
    track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track("check") == 2
    folder = track.add()
    assert track("check") == 2
    assert "has no baseline" in capsys.readouterr().err
    track("bless", folder)
    assert track("check") == 2
    assert "is the baseline itself" in capsys.readouterr().err


def test_a_change_in_either_direction_is_found_without_any_limit(track: Tracked) -> None:
    track.blessed()
    track.add(noisy(4, 1))
    assert track.checked()[0] == 0
    track.add(broken(40))
    status, found = track.checked()
    assert (status, found["verdict"]) == (1, "regression")
    track.add(mended(40))
    status, found = track.checked()
    assert (status, found["verdict"]) == (4, "improvement")
    assert [flip["fixed"] for flip in found["flips"]] == [True] * 40
    track.add(tokens=(1.5 * TOKENS).tolist())
    assert track.checked()[0] == 1


def test_a_limit_says_how_much_worse_its_metric_may_get_and_not_how_much_better(track: Tracked) -> None:
    track.blessed()
    track.add(broken(12))
    assert track.checked()[0] == 1
    assert track.checked("--max-drop", "pass@max=0.15")[0] == 0
    assert track.checked("--max-drop", "pass@max=0.001")[0] == 1
    track.add(mended(40))
    assert track.checked("--max-drop", "pass@max=0.15")[0] == 4


def test_tasks_too_small_to_show_a_change_show_it_together(track: Tracked) -> None:
    """Each of eight tasks loses 3 of 20 documents, which Holm over the tasks keeps from being shown in any of them."""
    tasks = [f"task{number}" for number in range(8)]
    few = {"tokens": [100.0] * 20, "tasks": tasks}
    track.blessed(scores=[1.0] * 20, **few)
    track.add([0.0] * 3 + [1.0] * 17, **few)
    status, found = track.checked()
    shown = [line["message"] for line in found["findings"] if line["verdict"] == "regression"]
    assert status == 1
    assert len(shown) == 1
    assert shown[0].startswith("all tasks: pass@max moved by -0.15 on 160 documents")


DIFFERENT: dict[str, dict[str, Any]] = {
    "the prompts are others in": {"questions": [f"Add 1 to {number}." for number in range(DOCUMENTS)]},
    "task version is 1.0 in the baseline and 2.0": {"version": 2.0},
    "temperature is 0.8 in the baseline and 0.1": {"options": {**OPTIONS, "temperature": 0.1}},
}


@pytest.mark.parametrize("said", DIFFERENT)
def test_a_run_made_otherwise_is_refused_and_counts_in_no_trend(
    said: str, track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    track.blessed()
    track.add(broken(40), **DIFFERENT[said])
    assert track("check") == 2
    assert said in capsys.readouterr().err
    status, found = track.checked("--allow-different")
    assert status == 1
    assert said in " ".join(found["notes"])
    assert track("page", "-o", track.folder / "page.html") == 0
    assert ">different<" in (track.folder / "page.html").read_text()


def test_a_run_in_quarantine_counts_nowhere_until_it_is_released(
    track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    track.blessed()
    track.add(noisy(4, 1))
    bad = track.add(broken(60))
    assert track("quarantine", bad, "--reason", " ") == 2
    assert track("quarantine", bad, "--reason", "the disk was full") == 0
    assert track.checked()[0] == 0
    assert track("bless", bad) == 2
    assert "is in quarantine: the disk was full" in capsys.readouterr().err
    assert track("release", bad) == 0
    assert track.checked()[0] == 1


def test_runs_are_named_by_the_beginning_of_their_ids(track: Tracked, capsys: pytest.CaptureFixture[str]) -> None:
    track.add()
    (entry,) = read_history(track.history).entries
    assert track("bless", entry.run[:6]) == 0
    assert track("bless", "nothing") == 2
    assert "has no run 'nothing'" in capsys.readouterr().err


def test_repeats_of_a_commit_are_averaged_and_settle_what_one_run_cannot(
    track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice is taken: as many repeats as it names turn an inconclusive limit into a pass."""
    limit = ("--max-drop", "pass@max=0.05")
    track.blessed(scores=noisy(30, 100), commit="old", seed=1)
    track.add(noisy(30, 400), commit="new", seed=1)
    assert track("check", *limit, "--repeat", "9") == 3
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("repeats:")]
    needed = int(line.split("0.05: ")[1].split()[0])
    assert 1 < needed < 9
    assert f"with --seed {', '.join(str(seed) for seed in range(2, 2 + needed))}, settle it" in line
    tokens = needed * 2 * sum(float(f"{value:.6g}") for value in TOKENS)
    assert f"about {tokens:,.0f} tokens" in line
    old = [track.add(noisy(30, 101 + n), commit="old", seed=2 + n) for n in range(needed)]
    track("bless", track.folder / "run1", *old)
    for n in range(needed):
        track.add(noisy(30, 401 + n), commit="new", seed=2 + n)
    status, found = track.checked(*limit)
    assert status == 0
    assert [len(found[side]["runs"]) for side in ("baseline", "candidate")] == [1 + needed] * 2


def test_a_repeat_with_the_same_seed_counts_once_and_the_newest_of_them(track: Tracked) -> None:
    track.blessed(commit="old")
    track.add(noisy(30, 1), commit="new", seed=1)
    track.add(noisy(30, 2), commit="new", seed=2)
    again = [track.add(noisy(30, 2), commit="new", seed=2), track.add(noisy(30, 1), commit="new", seed=1)]
    _, found = track.checked()
    assert found["candidate"]["runs"] == [run_id(find_run(folder)[0]) for folder in again]


def test_too_few_documents_are_said_to_be_beyond_any_number_of_repeats(
    track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"scores": [1.0, 0.0] * 10, "tokens": [10.0] * 20}
    track.blessed(**few)
    track.add(**few)
    assert track("check", "--max-drop", "pass@max=0.02", "--repeat", "5") == 3
    assert "no number of repeats settles it on 20 documents" in capsys.readouterr().out


def test_a_slow_decline_that_no_single_run_shows_is_a_regression(track: Tracked) -> None:
    track.blessed()
    for run in range(24):
        track.add(broken(run // 5))
    status, found = track.checked()
    assert status == 1
    (line,) = [line for line in found["findings"] if "falls over 25 runs" in line["message"]]
    assert line["verdict"] == "regression"
    assert "worse than chance explains" not in json.dumps(found)


def test_a_step_is_put_at_its_commit_with_an_interval(track: Tracked) -> None:
    track.blessed()
    for run in range(9):
        track.add(noisy(3, run))
    for run in range(4):
        track.add(broken(40 + run))
    status, found = track.checked()
    assert status == 1
    (step,) = [step for step in found["steps"] if step["metric"] == "pass@max"]
    assert step["commit"] == "c11"
    assert step["low"] <= step["at"] == 10 <= step["high"] <= 11


def test_the_summary_for_a_pull_request_has_the_flipped_documents_with_their_questions(track: Tracked) -> None:
    track.blessed()
    folder = track.add(broken(30), questions=None)
    report = track.folder / "summary.md"
    assert track("check", "--markdown", report) == 1
    text = report.read_text()
    first = int(np.flatnonzero(BASE)[0])
    assert text.startswith("### eager-lmeval track\n\n**REGRESSION")
    assert "<summary>broken: 30</summary>" in text
    assert f"| toy\\_task | {first} | What is {first} plus 1? |" in text
    assert "and 10 more" in text
    for file in folder.glob("*.json*"):
        file.unlink()
    assert track("check", "--markdown", report) == 1
    assert "the samples are not at hand" in report.read_text()


def test_findings_are_junit_cases_and_the_verdict_is_a_badge(track: Tracked) -> None:
    track.blessed()
    track.add(broken(40))
    files = {name: track.folder / name for name in ("gate.xml", "badge.svg")}
    assert track("check", "--max-drop", "tokens=5%", "--junit", files["gate.xml"], "--badge", files["badge.svg"]) == 2
    words = ("--max-increase", "tokens=5%", "--junit", files["gate.xml"], "--badge", files["badge.svg"])
    assert track("check", *words) == 1
    suite = ET.parse(files["gate.xml"]).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert "toy_task: regression" in ET.parse(files["badge.svg"]).getroot().attrib["aria-label"]


def test_two_files_in_one_place_are_refused_before_anything_is_judged(
    track: Tracked, capsys: pytest.CaptureFixture[str]
) -> None:
    track.blessed()
    track.add(broken(30))
    file = track.folder / "gate.xml"
    assert track("check", "--junit", file, "--badge", file) == 2
    assert "--junit and --badge would both write" in capsys.readouterr().err
    assert not file.exists()


def test_the_page_marks_runs_and_links_to_reports_but_to_no_script(track: Tracked) -> None:
    track.blessed()
    folder = track.run(noisy(5, 1))
    assert track("add", folder, "--report", "https://example.invalid/report.html") == 0
    folder = track.run(noisy(5, 2))
    assert track("add", folder, "--report", "javascript:alert(1)") == 0
    assert track("quarantine", folder, "--reason", "<b>bad</b> disk") == 0
    page = track.folder / "trend.html"
    assert track("page", "-o", page) == 0
    text = page.read_text()
    assert 'href="https://example.invalid/report.html"' in text
    assert "javascript:" not in text
    assert "&lt;b&gt;bad&lt;/b&gt; disk" in text
    for kind in ("blessed", "counted", "quarantined"):
        assert f"point k-{kind}" in text
        assert f"<td>{kind}</td>" in text
