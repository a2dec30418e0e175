"""What the race would have cost on recorded answers, and what it would have voted: one JSON line a file.

python study/replay.py FILE… [--lanes 8] [--settled-at .95] [--max-sequences 64] [--seeds 8] [--json KEPT]

A file (.gz or not) has a JSON line a question, {"question": …, "samples": [{"answer", "correct", "tokens"}]}, equal
strings being one vote; or it is the samples file of a run with ``strategy=parallel``, whose answers are graded again.
Samples without a length are left out, and questions with fewer than M of the others. ``tokens`` and ``time`` are ratios
to M answers at once. --json keeps the lines for the table of study/RESULTS.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eager_lmeval.algorithm.race import RaceSettings
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.documents import Document, Key
from eager_lmeval.runs.samples import Sample, read_samples
from eager_lmeval.scores.replay import Recorded, replay


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--settled-at", type=float, default=0.95)
    parser.add_argument("--max-sequences", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=8, help="random orders of each question's answers")
    parser.add_argument("--json", type=Path, metavar="KEPT")
    args = parser.parse_args(given)
    settings = RaceSettings(args.lanes, args.max_sequences, args.settled_at)
    lines = []
    for file in args.files:
        try:
            questions = list(read(file))
        except (UsageError, OSError, ValueError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 1
        found = replay(questions, settings, args.seeds)
        if not found.questions:
            print(f"{file}: no question has {args.max_sequences} answers with lengths", file=sys.stderr)
            return 1
        if left_out := len(questions) - found.questions:
            print(f"{file}: {left_out} questions with fewer answers are left out", file=sys.stderr)
        lines.append({"file": file.name} | found._asdict())
        print(json.dumps(lines[-1]), flush=True)
    if args.json is not None:
        document = {"lanes": args.lanes, "settled_at": args.settled_at, "max_sequences": args.max_sequences}
        args.json.write_text(json.dumps(document | {"rows": lines}, indent=1) + "\n", encoding="utf-8")
    return 0


def read(file: Path) -> Iterator[list[Recorded]]:
    """The answers of each question. UsageError, OSError or ValueError for a file that is neither kind."""
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        first = json.loads(lines.readline())
        if "samples" not in first:
            yield from map(sampled, read_samples(file, None))
            return
        yield answers(first)
        yield from (answers(json.loads(line)) for line in lines)


def answers(question: Mapping[str, Any]) -> list[Recorded]:
    return [
        Recorded(one["answer"], one["correct"], one["tokens"])
        for one in question["samples"]
        if one["tokens"] is not None
    ]


def sampled(sample: Sample) -> list[Recorded]:
    """The answers of a document that was sampled independently. UsageError where they were not, or are not graded."""
    document = Document(sample, Key(sample.logged["doc_hash"], 0))
    if document.tree is None or document.tree.get("strategy") != "parallel":
        raise UsageError(f"{sample.where}: answers to race again are those of a run with strategy=parallel")
    found = []
    for sequence, grade in zip(document.tree["sequences"], document.grades, strict=True):
        if grade is None:
            raise UsageError(f"{sample.where}: its answers cannot be graded, which a race of them needs")
        found.append(Recorded(grade.answer_class, grade.correct, sequence.get("num_tokens") or 0))
    return found


if __name__ == "__main__":
    sys.exit(main())
