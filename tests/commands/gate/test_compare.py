"""`eager-lmeval compare` on files of made-up runs: what it pairs, refuses, writes and returns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from run_files import OPTIONS, results_file, samples_file, write_run

from eager_lmeval.commands.cli import main

RNG = np.random.default_rng(3)
BASE = (RNG.random(200) < 0.6).astype(float).tolist()
TOKENS = RNG.lognormal(6, 0.5, 200).tolist()


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    return write_run(tmp_path / "baseline", {"pass@max": BASE, "tokens": TOKENS})


def candidate(tmp_path: Path, broken: int = 0, cost: float = 1.0) -> Path:
    """A run that gets ``broken`` of the baseline's right answers wrong."""
    right = [place for place, value in enumerate(BASE) if value]
    wrong = set(right[:broken])
    scores = [0.0 if place in wrong else value for place, value in enumerate(BASE)]
    return write_run(tmp_path / "candidate", {"pass@max": scores, "tokens": [cost * tokens for tokens in TOKENS]})


def compare(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


def test_a_run_without_change_passes(baseline: Path, tmp_path: Path) -> None:
    assert compare(baseline, candidate(tmp_path), "--max-drop", "pass@max=0.05", "--max-increase", "tokens=10%") == 0


def test_a_large_drop_is_a_regression(baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(baseline, candidate(tmp_path, broken=40), "--max-drop", "pass@max=0.05") == 1
    assert "REGRESSION" in capsys.readouterr().out


def test_a_rise_in_cost_is_a_regression(baseline: Path, tmp_path: Path) -> None:
    assert compare(baseline, candidate(tmp_path, cost=1.3), "--max-increase", "tokens=10%") == 1


def test_too_few_documents_are_inconclusive_and_the_message_says_how_many_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"pass@max": [1.0, 0.0] * 10}
    runs = [write_run(tmp_path / name, few) for name in ("a", "b")]
    assert compare(*runs, "--max-drop", "pass@max=0.02", "--json", "-") == 3
    (check,) = json.loads(capsys.readouterr().out)["checks"]
    assert check["documents_needed"] > 100
    assert f"about {check['documents_needed']:,} documents would do" in check["message"]
    many = {"pass@max": [1.0, 0.0] * check["documents_needed"]}
    assert compare(*(write_run(tmp_path / name, many) for name in ("c", "d")), "--max-drop", "pass@max=0.02") == 0


def test_without_a_limit_nothing_is_judged(baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(baseline, candidate(tmp_path, broken=40)) == 0
    assert "nothing is judged" in capsys.readouterr().out


def test_documents_without_a_partner_are_refused_or_listed_and_left_out(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_run(tmp_path / "other", {"pass@max": BASE}, first_document=3)
    assert compare(baseline, other) == 2
    assert "toy_task: 3 documents only in the candidate (doc_id 200, 201, 202)" in capsys.readouterr().err
    assert compare(baseline, other, "--allow-different", "--json", "-") == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"].values()
    assert (task["documents"], task["only_baseline"], task["only_candidate"]) == (197, [0, 1, 2], [200, 201, 202])


def test_different_options_are_refused_unless_allowed(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_run(tmp_path / "other", {"pass@max": BASE}, options={**OPTIONS, "max_sequences": 8})
    said = "max_sequences is 4 in the baseline and 8 in the candidate"
    assert compare(baseline, other) == 2
    assert said in capsys.readouterr().err
    assert compare(baseline, other, "--allow-different") == 0
    assert said in capsys.readouterr().out


def test_a_candidate_of_a_few_documents_is_no_pass(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", {"pass@max": [1.0] * 20})
    limited = write_run(tmp_path / "limited", {"pass@max": [1.0] * 5})
    assert compare(whole, limited, "--max-drop", "pass@max=0.5") == 2


def test_a_refusal_says_which_run_was_taken(baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(baseline, {"pass@max": BASE}, stamp="2026-02-02T03-04-05.000001", version=2.0)
    assert compare(baseline, candidate(tmp_path)) == 2
    assert "the newest is taken, results_2026-02-02" in capsys.readouterr().err


def test_a_run_compared_with_itself_is_noted(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(baseline, results_file(baseline))
    assert "baseline and candidate are the same run" in capsys.readouterr().out
    compare(baseline, candidate(tmp_path))
    assert "the same run" not in capsys.readouterr().out


def test_a_result_made_with_labels_says_that_it_is_an_upper_bound(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(baseline, write_run(tmp_path / "other", {"pass@max": BASE}, labels_used=True), "--markdown", "-")
    assert "upper bound" in capsys.readouterr().out


def test_an_undefined_value_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defined = write_run(tmp_path / "a", {"pass@4": [1.0, 1.0, 0.0, 0.0]})
    partly = write_run(tmp_path / "b", {"pass@4": [1.0, float("nan"), 0.0, 1.0]})
    compare(defined, partly, "--json", "-")
    found = json.loads(capsys.readouterr().out)["tasks"]["toy_task"]["metrics"]["pass@4"]
    assert (found["documents"], found["undefined"], found["difference"]) == (3, 1, pytest.approx(1 / 3))


def test_junit_has_a_case_a_limit_with_failures_and_errors(baseline: Path, tmp_path: Path) -> None:
    limits = ["--max-drop", "pass@max=0.05", "--max-drop", "pass@max=0.2", "--max-increase", "tokens=10%"]
    compare(baseline, candidate(tmp_path, broken=40), *limits, "--junit", tmp_path / "gate.xml")
    (suite,) = ET.parse(tmp_path / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["error"], ["system-out"]]


def test_markdown_is_appended_to_the_step_summary(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    compare(baseline, candidate(tmp_path), "--max-drop", "pass@max=0.05")
    assert summary.read_text().startswith("before\n### eager-lmeval compare\n\nPASS")


def test_a_metric_of_that_name_must_exist(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(baseline, baseline, "--max-drop", "pass@mx=0.1") == 2
    assert "did you mean 'pass@max'?" in capsys.readouterr().err


def test_a_run_without_samples_says_what_to_run(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples_file(baseline).unlink()
    assert compare(baseline, baseline) == 2
    assert "--log_samples" in capsys.readouterr().err


def test_a_wrong_folder_is_named(tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert compare(tmp_path / "empty", baseline) == 2
    assert "holds no results_*.json" in capsys.readouterr().err
    assert compare(tmp_path / "missing", baseline) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_folder_of_two_models_is_refused(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(baseline, {"pass@max": BASE}, model="another")
    assert compare(baseline, baseline) == 2
    assert "several models (another, toy)" in capsys.readouterr().err


def test_of_several_runs_of_a_model_the_newest_is_taken_and_named(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(baseline, {"pass@max": [0.0] * 200}, stamp="2026-02-02T03-04-05.000001")
    assert compare(baseline, candidate(tmp_path)) == 0
    assert "the newest is taken, results_2026-02-02" in capsys.readouterr().out


def test_nothing_heavy_is_imported_for_help_and_no_torch_for_a_comparison(baseline: Path) -> None:
    code = (
        "import sys; from eager_lmeval.commands.cli import _parser, main; _parser(); "
        "heavy = {'torch', 'transformers', 'lm_eval', 'numpy', 'scipy', 'pydantic', 'jinja2', 'rich'}; "
        "print(sorted(heavy & set(sys.modules))); main(['compare', *sys.argv[1:]]); "
        "print(sorted({'torch', 'transformers', 'lm_eval', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, baseline, baseline], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("[]", "[]")
