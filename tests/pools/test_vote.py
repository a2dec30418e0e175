"""A response by vote: who wins, and that nothing but texts and weights is asked."""

from __future__ import annotations

import pytest

from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree
from eager_lmeval.pools.vote import elect
from eager_lmeval.verify import get_verifier


def tree_of(*answers: tuple[str, float]) -> Tree:
    """One root a pair of text and weight; a text that begins with … was cut off inside its thinking part."""
    sequences = [
        Sequence((place,), [1], weight=weight, finish="stop", text=text, answer_at=None if text[0] == "…" else 0)
        for place, (text, weight) in enumerate(answers)
    ]
    return Tree(Prompt(0, "task", "context", [5]), sequences)


def winner(tree: Tree, verifier: str = "math") -> int | None:
    return elect(tree, tree.to_record(), get_verifier(verifier))


def test_equal_answers_vote_together_and_the_first_sequence_of_the_heaviest_class_wins():
    tree = tree_of((r"\boxed{3}", 0.4), (r"\boxed{\frac{1}{2}}", 0.25), ("no answer", 9.0), (r"\boxed{0.5}", 0.25))
    assert winner(tree) == 1


def test_of_tied_classes_the_earliest_wins():
    assert winner(tree_of(("no answer", 1.0), (r"\boxed{7}", 0.5), (r"\boxed{8}", 0.5))) == 1


def test_a_sequence_that_was_cut_off_while_it_thought_does_not_vote():
    assert winner(tree_of((r"… so \boxed{7}", 0.9), (r"\boxed{8}", 0.1))) == 1


@pytest.mark.parametrize("answers", [("what?", "well"), ("… so 7", "… so 7")])
def test_without_an_answer_nobody_wins(answers):
    assert winner(tree_of(*((answer, 0.5) for answer in answers))) is None


@pytest.mark.parametrize(
    ("name", "texts", "label"),
    [
        ("math", [r"\boxed{2}", r"\boxed{\frac{4}{2}}", "?", None, r"\boxed{3}"], "2"),
        ("choice", ["The answer is (B).", r"\boxed{B}", "?", None, "(C)"], "B"),
        ("exact", ["two", " two ", "", None, "three"], "two"),
    ],
)
def test_without_a_label_answers_fall_into_the_same_classes_and_none_is_correct(name, texts, label):
    verifier = get_verifier(name)
    classes = [[graded.answer_class for graded in verifier.grade(texts, given)] for given in (label, None)]
    assert classes[0] == classes[1] == [0, 0, None, None, 1]
    assert not any(graded.correct for graded in verifier.grade(texts, None))
