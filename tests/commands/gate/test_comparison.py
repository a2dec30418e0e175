"""Where `eager-lmeval compare` puts what it found; whatever becomes of it, the exit status is the verdict's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_files import write_run

from eager_lmeval.commands.cli import main

SAME, WORSE = [1.0, 0.0] * 100, [0.0] * 200


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    return write_run(tmp_path / "baseline", {"pass@max": SAME})


@pytest.fixture
def regression(tmp_path: Path) -> Path:
    return write_run(tmp_path / "worse", {"pass@max": WORSE})


def compare(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


@pytest.mark.parametrize("printed", [[], ["--json", "-"], ["--markdown", "-"], ["--junit", "-"]])
def test_a_reader_that_has_gone_changes_no_status(printed: list[str], baseline: Path, regression: Path) -> None:
    program = "import sys; from eager_lmeval.commands.cli import main; sys.exit(main())"
    for candidate, status in ((baseline, 0), (regression, 1)):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-c", program, "compare", baseline, candidate, "--max-drop", "pass@max=0.2"]
        done = subprocess.run([*command, *printed], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (status, "")


def test_a_summary_page_that_cannot_be_written_is_said_and_changes_no_status(
    baseline: Path,
    regression: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "missing" / "summary.md"))
    assert compare(baseline, regression, "--max-drop", "pass@max=0.2") == 1
    printed = capsys.readouterr()
    assert "REGRESSION" in printed.out
    (line,) = printed.err.splitlines()
    assert "missing/summary.md: No such file or directory" in line


@pytest.mark.parametrize("place", ["-", "found.txt"])
def test_two_outputs_in_one_place_are_refused(
    place: str, baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place if place == "-" else tmp_path / place
    assert compare(baseline, baseline, "--markdown", path, "--json", path) == 2
    assert "--markdown and --json would both" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["abc", "95", "nan"])
def test_a_confidence_that_is_none_is_answered_with_what_is_accepted(
    text: str, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        compare(baseline, baseline, "--confidence", text)
    assert ended.value.code == 2
    assert f"{text!r} is not accepted: give a number between 0.5 and 1" in capsys.readouterr().err


def test_the_example_in_the_help_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare("--help")
    assert "--max-increase tokens=10%\n" in capsys.readouterr().out
