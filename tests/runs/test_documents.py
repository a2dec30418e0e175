"""A run's documents: what they are paired by, and how their sequences are graded again."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_files import TASK, samples_file, tree_record, write_run

from eager_lmeval.runs.documents import Document, columns, documents
from eager_lmeval.runs.run import find_run
from eager_lmeval.scores.scoring import score


def read(folder: Path) -> list[Document]:
    return list(documents(find_run(folder)[0], TASK))


def correct(document: Document) -> list[bool | None]:
    return [grade and grade.correct for grade in document.grades]


def replace(folder: Path, old: str, new: str) -> None:
    samples_file(folder).write_text(samples_file(folder).read_text().replace(old, new))


def test_documents_are_keyed_by_hash_and_not_by_their_place(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        run = write_run(tmp_path / name, {"pass@max": [1.0, 0.0, 1.0]})
        if found:
            lines = samples_file(run).read_text().splitlines(keepends=True)
            samples_file(run).write_text("".join(reversed(lines)))
        found.append(columns(find_run(run)[0], TASK))
    assert found[0] == found[1]
    assert [document.doc_id for document in read(tmp_path / "b")] == [2, 1, 0]


@pytest.mark.parametrize("truncated_votes", [False, True])
def test_verdicts_follow_the_rules_that_the_run_was_scored_with(truncated_votes: bool, tmp_path: Path) -> None:
    tree = tree_record(["<think>so \\boxed{1}, or", "<think>hm"], finish="length")
    tree["scoring"] = {"ks": [], "tie": "mean", "truncated_votes": truncated_votes}
    for sequence in tree["sequences"]:
        sequence["answer_at"] = None
    values = score({"eager": {"label": "1", "verifier": "math"}}, tree)
    (document,) = read(write_run(tmp_path, {"pass@max": [values["pass@max"]]}, records=[tree]))
    assert correct(document) == [truncated_votes, False]
    assert values["pass_rate"] * 2 == int(truncated_votes)


def test_a_verifier_that_may_run_code_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, {"pass@max": [1.0]}, records=[tree_record(["<think>?</think>1", "<think>?</think>2"])])
    replace(run, '"verifier": "math"', '"verifier": "exact"')
    assert correct(read(run)[0]) == [True, False]
    replace(run, '"verifier": "exact"', '"verifier": "code"')
    monkeypatch.setattr("eager_lmeval.runs.documents.get_verifier", lambda name: pytest.fail(f"asked for {name}"))
    assert correct(read(run)[0]) == [None, None]
