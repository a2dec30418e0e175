"""Draws the study's questions for the real model from reasoning-gym, and chooses those that it sometimes answers.

    python -m venv build/gym && build/gym/bin/pip install reasoning-gym==0.1.25
    build/gym/bin/python study/make_questions.py draw
    lm_eval run --config study/configs/real/screening.yaml
    python study/make_questions.py choose build/study/screening

`draw` writes `questions/candidates.jsonl`: of each kind the first questions that differ, the same in every run. The
screening takes 8 independent samples of each, with a seed that the study does not use. `choose` notes how many were
right and writes `questions/questions.jsonl`: of each kind the first that were right at least once and not always.

reasoning-gym pins versions that this project's own environment cannot have, hence the environment of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

VERSION = "0.1.25"
SEED = 16
"""Of reasoning-gym's generators; their question number i comes from the seed SEED + i."""
CANDIDATES, CHOSEN = 84, 34
"""The most a kind."""
KINDS: Mapping[str, Mapping[str, Any]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    "simple_equations": {
        "min_terms": 2,
        "max_terms": 2,
        "min_value": 1,
        "max_value": 20,
        "operators": ("+", "-"),
        "operators_weights": [0.5, 0.5],
    },
    "lcm": {"max_value": 12},
    "gcd": {"max_value": 30},
    "aiw": {},
}
"""The generators and their settings where these are not the defaults."""
_CUT = {"gcd": " Give only the GCD as your final answer."}
"""What a question says about the answer's form where a worked answer is wanted."""
FOLDER = Path(__file__).parent / "questions"


def draw(kind: str) -> list[dict[str, str]]:
    """The first CANDIDATES questions of a kind that differ; of `aiw` those about sisters, the shortest."""
    import reasoning_gym  # type: ignore[import-not-found]  # in an environment of its own

    found: dict[str, str] = {}
    for item in reasoning_gym.create_dataset(kind, seed=SEED, size=1000, **KINDS[kind]):
        question = item["question"].removesuffix(_CUT.get(kind, ""))
        if kind != "aiw" or "sisters" in question:
            found.setdefault(question, item["answer"])
        if len(found) == CANDIDATES:
            break
    return [{"kind": kind, "question": question, "answer": answer} for question, answer in found.items()]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def choose(screening: Path) -> None:
    """Reads the newest samples below the folder; each document's `pass_rate` is over 8 samples."""
    files = sorted(screening.rglob("samples_study_candidates_*.jsonl"), key=lambda file: file.name)
    if not files:
        raise SystemExit(f"no samples of study_candidates below {screening}; run the screening first (--help)")
    samples = [json.loads(line) for line in files[-1].read_text(encoding="utf-8").splitlines()]
    rates = {sample["doc"]["question"]: sample["pass_rate"] for sample in samples}
    candidates = [json.loads(line) for line in (FOLDER / "candidates.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in candidates:
        row["right_of_8"] = round(8 * rates[row["question"]])
    write(FOLDER / "candidates.jsonl", candidates)
    chosen = []
    for kind in KINDS:
        sometimes = [row for row in candidates if row["kind"] == kind and 0 < row["right_of_8"] < 8]
        print(f"{kind}: {len(sometimes)} of {sum(row['kind'] == kind for row in candidates)} sometimes right")
        chosen += sometimes[:CHOSEN]
    write(FOLDER / "questions.jsonl", ({key: row[key] for key in ("kind", "question", "answer")} for row in chosen))
    print(f"Written: {FOLDER / 'questions.jsonl'}, {len(chosen)} questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("draw", help="write the candidates; needs reasoning-gym")
    commands.add_parser("choose", help="write the questions").add_argument("screening", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.command == "draw":
        write(FOLDER / "candidates.jsonl", (row for kind in KINDS for row in draw(kind)))
    else:
        choose(args.screening)


if __name__ == "__main__":
    main()
