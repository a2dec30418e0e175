#!/usr/bin/env python
"""Thirty real runs of the demo model in a git history, three deliberate regressions among them, each judged by `track`.

    python scripts/track_history.py out/track        # runs (those that are there are kept), verdicts and pages

The exit status is 1 where a run is judged otherwise than its story says. A step of the story is one commit; what it
does to the run is done by this script, since the repository that it makes has nothing else to change. The worse
checkpoint is one of the demo model's training, made here on the first run, which takes minutes:

    python scripts/train_demo_model.py --stop-after STEP --checkpoint-dir out/track/training --model-dir out/track/worse
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
MAX_SEQUENCES = 4
CHECKPOINT = 700
"""Of the worse checkpoint: the step of the demo model's training."""
FALSE_ALARMS = 0.3
"""What the job accepts, in the mean, over all of its looks; what 0.95 would have said stands beside the verdicts."""


class Step(NamedTuple):
    """A run of the history."""

    seed: int
    kind: str = "unchanged"
    """`unchanged`, `checkpoint`, `extractor` or `template`."""


STORY = [
    *(Step(seed) for seed in range(101, 115)),
    *(Step(seed, "checkpoint") for seed in range(115, 118)),
    *(Step(seed) for seed in range(118, 122)),
    *(Step(seed, "extractor") for seed in range(122, 124)),
    *(Step(seed) for seed in range(124, 128)),
    Step(128, "template"),
    *(Step(seed) for seed in range(129, 131)),
]
REPEATS = 3
"""The first runs are of one commit: what is blessed is their mean."""
CONFIDENCE = 1 - FALSE_ALARMS / len(STORY)
EXPECTED = {"unchanged": 0, "checkpoint": 1, "extractor": 4, "template": 2}
"""The exit statuses of `track check`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the repository, the runs, the history and the page")
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="the worse checkpoint (default: made here)")
    args = parser.parse_args()
    folder: Path = args.output.resolve()
    make_runs(folder, args.checkpoint.resolve() if args.checkpoint else worse_checkpoint(folder))
    return judge_all(folder)


def judge_all(folder: Path) -> int:
    """Adds run after run and judges each; those that a regression spoilt go into quarantine once it is mended."""
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
        if step.kind in ("checkpoint", "extractor"):
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


def make_runs(folder: Path, checkpoint: Path) -> None:
    """One run of the harness a step, at a commit of its own; a run whose folder is there is not made again."""
    repository = folder / "repository"
    if not repository.exists():
        repository.mkdir(parents=True)
        git(repository, "init", "--quiet")
    template = changed_template(folder / "tasks")
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
    words += ["--model_args", f"pretrained={model},strategy=init,branching=top2,max_sequences={MAX_SEQUENCES}"]
    words += ["--output_path", str(output), "--log_samples"]
    cli = HarnessCLI()
    cli.execute(cli._parser.parse_args(words[1:]))


def git(repository: Path, *words: str) -> None:
    identity = ["-c", "user.name=history", "-c", "user.email=history@example.invalid"]
    subprocess.run(["git", "-C", str(repository), *identity, *words], check=True)


def worse_checkpoint(folder: Path) -> Path:
    """The demo model as its training had it at step CHECKPOINT."""
    model, training = folder / "worse", folder / "training"
    if not (model / "tokenizer.json").exists():  # what is saved last
        command = [sys.executable, str(Path(__file__).with_name("train_demo_model.py"))]
        command += ["--stop-after", str(CHECKPOINT), "--checkpoint-dir", str(training), "--model-dir", str(model)]
        subprocess.run(command, check=True)
    return model


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
