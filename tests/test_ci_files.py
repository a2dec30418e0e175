"""The workflow, the action and the citation fit their schemas, and the action's steps do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import light_harness
import pytest
import yaml
from pages import PAGES, ROOT, blocks

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOW = ROOT / ".github/workflows/ci.yml"
SHOWN = [block for page in PAGES for block in blocks(page) if "\njobs:" in block.text]


def check(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-workflows", ".github/workflows/nightly.yml"),
        ("github-actions", "action.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_a_file_that_others_read_fits_its_schema(schema: str, file: str) -> None:
    check(schema, ROOT / file)


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_a_workflow_that_is_shown_fits_the_schema_and_gives_inputs_that_the_action_has(
    block: Any, tmp_path: Path
) -> None:
    shown = tmp_path / "shown.yml"
    shown.write_text(block.text, encoding="utf-8")
    check("github-workflows", shown)
    check_uses_of_the_action(shown)


def test_the_projects_own_workflow_gives_inputs_that_the_action_has() -> None:
    check_uses_of_the_action(WORKFLOW)


def check_uses_of_the_action(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    given = [
        step.get("with", {}) for job in jobs.values() for step in job["steps"] if step.get("uses", "").startswith("./")
    ]
    assert given, "no step uses the action"
    required = {name for name, described in ACTION["inputs"].items() if described.get("required")}
    for inputs in given:
        assert required <= set(inputs) <= set(ACTION["inputs"])


def test_the_python_versions_that_are_tested_are_those_that_are_claimed() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    claimed = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    assert jobs["pinned"]["strategy"]["matrix"]["python"] == claimed


def test_the_oldest_harness_that_is_accepted_is_the_one_that_is_tested_and_told() -> None:
    (oldest,) = re.findall(r'"lm_eval\[hf\]>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    assert jobs["versions"]["strategy"]["matrix"]["lm_eval"][0] == oldest
    for page in ("README.md", "docs/index.md"):
        assert f"lm_eval {oldest} or newer" in (ROOT / page).read_text(encoding="utf-8"), page


class Ended(NamedTuple):
    status: int
    outputs: dict[str, str]
    summary: str
    log: str


def run_action(folder: Path, **inputs: str) -> Ended:
    """Runs the action's steps in ``folder`` as a runner does, with the Python that is there; `gh` writes to a file,
    and the harness knows our tasks alone."""
    values = {name: described.get("default", "") for name, described in ACTION["inputs"].items()}
    values |= {"commit": "c0ffee1", "token": "none"}  # a runner's own
    values |= {name.replace("_", "-"): value for name, value in inputs.items()} | {"python-version": ""}
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    harness = f'exec "{sys.executable}" -m {light_harness.MODULE} "$@"'
    for name, script in (("gh", 'echo "$@" >> gh.log\ncat "$5" >> gh.log'), ("lm_eval", harness)):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    environment = light_harness.environment(ROOT) | {name: str(path) for name, path in files.items()}
    environment["PATH"] = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])

    def outputs() -> dict[str, str]:
        written = files["GITHUB_OUTPUT"].read_text() if files["GITHUB_OUTPUT"].exists() else ""
        return dict(line.split("=", 1) for line in written.splitlines())

    status, log = 0, ""
    for step in ACTION["runs"]["steps"]:
        wanted = re.fullmatch(r"inputs\.([\w-]+) != ''", step.get("if", ""))
        if wanted and not values[wanted[1]]:
            continue
        assert "${{" not in step["run"], "what a user gives reaches a script as an environment variable alone"
        own = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: values[m[1]], v) for name, v in step["env"].items()
        }
        own = {
            name: re.sub(r"\$\{\{ steps\.gate\.outputs\.(\w+) \}\}", lambda m: outputs()[m[1]], v)
            for name, v in own.items()
        }
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(shell, cwd=folder, env=environment | own, capture_output=True, text=True, check=False)
        status, log = done.returncode, log + done.stdout + done.stderr
        if status:
            break
    summary = files["GITHUB_STEP_SUMMARY"].read_text() if files["GITHUB_STEP_SUMMARY"].exists() else ""
    return Ended(status, outputs(), summary, log)


def test_the_actions_steps_run_the_task_and_end_with_the_gates_status(tmp_path: Path) -> None:
    config = str(ROOT / "configs/ci.yaml")
    made = run_action(tmp_path, config=config, baseline="nothing", output="baseline", run_args="--limit 6")
    assert (made.status, made.outputs) == (2, {"status": "2"}), f"there is no baseline yet: {made.log}"

    same = run_action(
        tmp_path, config=config, baseline="baseline", output="same", run_args="--limit 6", max_increase="tokens=10%"
    )
    assert (same.status, same.outputs["status"]) == (0, "0"), same.log
    assert "tokens" in same.summary
    assert json.loads((tmp_path / "same/gate.json").read_text())["verdict"] == "pass"
    assert (tmp_path / "same/gate.xml").is_file()
    assert (tmp_path / "same/report.html").is_file()

    unclear = {"run_args": "--limit 6\n--seed 7", "max_drop": "pass@max=0.01\ncons@max=0.01", "inconclusive": "pass"}
    forgiven = run_action(tmp_path, config=config, baseline="baseline", output="other", **unclear)
    assert (forgiven.status, forgiven.outputs["status"]) == (0, "3"), forgiven.log
    assert "::warning::" in forgiven.log


@pytest.mark.slow("three evaluations; a history is judged by the same commands without an action, too")
def test_with_a_history_the_action_adds_checks_comments_and_fails_for_the_right_reason(tmp_path: Path) -> None:
    given = {"config": str(ROOT / "configs/ci.yaml"), "history": "history.jsonl", "run_args": "--limit 12"}
    first = run_action(tmp_path, output="first", **given)
    assert (first.status, first.outputs["status"]) == (2, "2"), f"nothing is blessed yet: {first.log}"
    assert "has no baseline" in first.log
    bless = [sys.executable, "-m", "eager_lmeval.commands.cli", "track", "bless", "first", "--history", "history.jsonl"]
    subprocess.run(bless, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)

    same = run_action(tmp_path, output="same", comment="7", **given)
    assert (same.status, same.outputs["status"]) == (0, "0"), same.log
    commented = (tmp_path / "gh.log").read_text()
    assert commented.startswith("pr comment 7 --body-file same/gate.md\n### eager-lmeval track\n\n**PASS")
    for name in ("gate.json", "gate.xml", "badge.svg", "trend.html", "report.html"):
        assert (tmp_path / "same" / name).is_file(), name
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 3  # two runs and a mark

    short = given | {"run_args": "--limit 12\n--gen_kwargs max_gen_toks=4"}
    refused = run_action(tmp_path, output="short", comment="7", **short)
    assert (refused.status, refused.outputs["status"]) == (2, "2"), refused.log
    assert "max_gen_toks is 120 in the baseline and 4 in the candidate" in refused.log


def test_the_action_refuses_both_a_baseline_and_a_history_and_neither(tmp_path: Path) -> None:
    (judge,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "gate"]
    for given in ({"BASELINE": "a", "HISTORY": "b"}, {}):
        output = tmp_path / "output"
        environment = os.environ | dict.fromkeys(judge["env"], "") | {"GITHUB_OUTPUT": str(output)} | given
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", judge["run"]]
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.stdout.startswith("::error::Give either"), done
        assert output.read_text().endswith("status=2\n")


def test_the_step_that_keeps_the_history_pushes_the_line_that_the_run_added(tmp_path: Path) -> None:
    """The last step of the workflow in docs/ci.md, against a repository beside it that has moved on meanwhile."""
    (block,) = [block for block in SHOWN if "history.jsonl" in block.text]
    keep = yaml.safe_load(block.text)["jobs"]["gate"]["steps"][-1]["run"]
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.invalid"}
    environment = os.environ | identity | {name.replace("AUTHOR", "COMMITTER"): v for name, v in identity.items()}

    def shell(script: str, folder: Path) -> str:
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shell("git init --quiet --bare --initial-branch main origin.git && git clone --quiet origin.git ours", tmp_path)
    first = "echo 'history.jsonl merge=union' > .gitattributes && echo first > history.jsonl && git add -A"
    shell(f"{first} && git commit --quiet -m first && git push --quiet origin HEAD:main", tmp_path / "ours")
    shell("git clone --quiet origin.git theirs", tmp_path)
    shell("echo theirs >> history.jsonl && git commit --quiet -am theirs && git push --quiet", tmp_path / "theirs")
    shell("echo ours >> history.jsonl", tmp_path / "ours")
    shell(keep, tmp_path / "ours")
    kept = shell("git show main:history.jsonl", tmp_path / "origin.git").split()
    assert (kept[0], set(kept)) == ("first", {"first", "ours", "theirs"})
