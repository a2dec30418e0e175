#!/usr/bin/env python
"""Thirty real runs of the demo model in a git history, three deliberate regressions among them, each judged by `track`.

    python scripts/track_history.py out/track        # runs (those that are there are kept), verdicts and pages

The exit status is 1 where a run is judged otherwise than its story says. A step of the story is one commit; what it
does to the run is done by this script, since the repository that it makes has nothing else to change. The history is
judged at the confidence that a job should have which looks thirty times; what 0.95 would have said stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eager_lmeval import paths

TASK = "eager_demo"
LIMIT, MAX_SEQUENCES = 60, 4
NOISE = 0.7
"""Of the worse checkpoint: normal noise in each weight matrix, as a share of the matrix's own standard deviation."""


class Step(NamedTuple):
    """A run of the history."""

    seed: int
    kind: str = "unchanged"
    """`unchanged`, `checkpoint`, `extractor` or `template`."""


STORY = [
    *(Step(seed) for seed in range(1, 15)),
    *(Step(seed, "checkpoint") for seed in range(15, 18)),
    *(Step(seed) for seed in range(18, 22)),
    *(Step(seed, "extractor") for seed in range(22, 24)),
    *(Step(seed) for seed in range(24, 28)),
    Step(28, "template"),
    *(Step(seed) for seed in range(29, 31)),
]
REPEATS = 3
"""The first runs are of one commit: what is blessed is their mean."""


CONFIDENCE = 0.99
EXPECTED = {"unchanged": 0, "checkpoint": 1, "extractor": 4, "template": 2}
"""The exit statuses of `track check`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the repository, the runs, the history and the page")
    folder: Path = parser.parse_args().output.resolve()
    make_runs(folder)
    return judge_all(folder)


def judge_all(folder: Path) -> int:
    """Adds run after run and judges each; runs that a regression spoilt go into quarantine once it is over."""
    history = folder / "history.jsonl"
    history.unlink(missing_ok=True)
    spoilt: list[str] = []
    wrong = 0
    for number, step in enumerate(STORY, 1):
        run = str(folder / "runs" / f"{number:02d}")
        if spoilt and step.kind == "unchanged":
            track(history, "page", "-o", str(folder / f"trend_{number - 1}.html"))
            track(history, "quarantine", *spoilt, "--reason", f"{STORY[number - 2].kind} broken, since mended")
            spoilt = []
        track(history, "add", run)
        if number == REPEATS:
            track(history, "bless", *(str(folder / "runs" / f"{one:02d}") for one in range(1, REPEATS + 1)))
        if number <= REPEATS:
            continue
        status, said = track(history, "check", "--confidence", str(CONFIDENCE))
        usual, _ = track(history, "check")
        wrong += status != EXPECTED[step.kind]
        print(
            f"{number:2d}  {step.kind:<10}  seed {step.seed:2d}  status {status} (at 0.95: {usual})  {said}", flush=True
        )
        if status in (1, 4):
            spoilt.append(run)
    track(history, "page", "-o", str(folder / "trend.html"))
    print(f"{wrong} of {len(STORY) - REPEATS} runs were judged otherwise than their story says")
    return int(wrong > 0)


def track(history: Path, action: str, *words: str) -> tuple[int, str]:
    """The exit status, and the last line of what was printed."""
    command = [sys.executable, "-m", "eager_lmeval.commands.cli", "track", action, "--history", str(history), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, next((line for line in reversed(said) if line), "")


def make_runs(folder: Path) -> None:
    """One run of the harness a step, at a commit of its own; a run whose folder is there is not made again."""
    repository = folder / "repository"
    if not repository.exists():
        repository.mkdir(parents=True)
        git(repository, "init", "--quiet")
    checkpoint, template = worse_checkpoint(folder / "worse"), changed_template(folder / "tasks")
    for number, step in enumerate(STORY, 1):
        output = folder / "runs" / f"{number:02d}"
        if list(output.glob("*/results_*.json")):
            continue
        if number == 1 or number > REPEATS:
            git(repository, "commit", "--quiet", "--allow-empty", "--message", f"Run {number}: {step.kind}")
        model = str(checkpoint) if step.kind == "checkpoint" else "demo"
        tasks = template if step.kind == "template" else paths.tasks_dir()
        os.chdir(repository)  # whose commit the harness notes
        with broken_extractor() if step.kind == "extractor" else contextlib.nullcontext():
            evaluate(model, tasks, step.seed, output)


def evaluate(model: str, tasks: Path, seed: int, output: Path) -> None:
    """As the command line of the harness would, in this process, which has imported everything once."""
    from lm_eval._cli import HarnessCLI

    words = ["lm_eval", "run", "--model", "eager", "--include_path", str(tasks), "--tasks", TASK, "--seed", str(seed)]
    words += ["--model_args", f"pretrained={model},strategy=init,max_sequences={MAX_SEQUENCES}"]
    words += ["--limit", str(LIMIT), "--output_path", str(output), "--log_samples"]
    cli = HarnessCLI()
    cli.execute(cli._parser.parse_args(words[1:]))


def git(repository: Path, *words: str) -> None:
    identity = ["-c", "user.name=history", "-c", "user.email=history@example.invalid"]
    subprocess.run(["git", "-C", str(repository), *identity, *words], check=True)


def worse_checkpoint(folder: Path) -> Path:
    """The demo model with noise in its matrices: what a training step too far leaves."""
    import torch
    from safetensors.torch import load_file, save_file

    if not folder.exists():
        shutil.copytree(paths.demo_model_dir(), folder)
        weights, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(11)
        for name, value in weights.items():
            if value.ndim == 2 and "embed" not in name:
                weights[name] = value + NOISE * value.std() * torch.randn(value.shape, generator=generator)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def changed_template(folder: Path) -> Path:
    """The task files with another prompt and the same version, as an edit that nobody thought to announce."""
    if not folder.exists():
        shutil.copytree(paths.tasks_dir(), folder)
        file = folder / TASK / f"{TASK}.yaml"
        file.write_text(file.read_text().replace("<|user|>{{question}}", "<|user|>Question: {{question}}"))
    return folder


@contextlib.contextmanager
def broken_extractor() -> Iterator[None]:
    """Grading that takes a label found anywhere in the text, the thought included, for an answer."""
    from eager_lmeval.scores import scoring
    from eager_lmeval.verify import Graded
    from eager_lmeval.verify.math import MathVerifier

    answer_text, grade = scoring.answer_text, MathVerifier.grade

    def grade_anywhere(self: MathVerifier, texts: list[str | None], label: str | None) -> list[Graded]:
        found = grade(self, texts, label)
        hits = [label is not None and text is not None and label in text for text in texts]
        return [graded._replace(correct=hit or graded.correct) for graded, hit in zip(found, hits, strict=True)]

    scoring.answer_text, MathVerifier.grade = (lambda sequence, rules: sequence["text"]), grade_anywhere
    try:
        yield
    finally:
        scoring.answer_text, MathVerifier.grade = answer_text, grade


if __name__ == "__main__":
    sys.exit(main())
