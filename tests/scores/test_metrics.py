"""Estimators over one document's sequences (SPEC 8)."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_lmeval.scores.metrics import (
    Vote,
    consensus,
    consensus_at_k,
    is_tied,
    pass_at_k,
    pass_at_max,
    pass_rate,
    share,
)

RIGHT, WRONG, NONE = Vote("a", True), Vote("b", False), Vote(None, False)


def ballots(least: int = 0) -> st.SearchStrategy[list[Vote]]:
    """Votes in which a class is right as a whole or wrong as a whole."""
    answers = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=least, max_size=9)
    return answers.map(lambda given: [Vote(answer, answer in ("a", "d")) for answer in given])


def test_without_sequences_nothing_is_defined_and_without_votes_the_consensus_is_0():
    assert math.isnan(pass_at_max([]))
    assert math.isnan(pass_rate([]))
    assert math.isnan(consensus_at_k([], 1))
    assert math.isnan(share([]))
    assert consensus([NONE, NONE]) == 0.0
    assert pass_rate([NONE, NONE]) == 0.0


@given(n=st.integers(1, 8), c=st.integers(0, 8), k=st.integers(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_member_and_undefined_for_too_few(n: int, c: int, k: int):
    c = min(c, n)
    subsets = list(combinations([place < c for place in range(n)], k))
    if not subsets:
        assert math.isnan(pass_at_k(n, c, k))
    else:
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(ballots(1))
def test_pass_at_1_is_the_pass_rate_and_pass_at_n_is_pass_at_max(votes: list[Vote]):
    correct = sum(vote.correct for vote in votes)
    assert pass_at_k(len(votes), correct, 1) == pytest.approx(pass_rate(votes))
    assert pass_at_k(len(votes), correct, len(votes)) == pytest.approx(pass_at_max(votes))


@given(ballots(1), st.integers(1, 9))
def test_consensus_at_k_looks_at_the_first_k_alone(votes: list[Vote], k: int):
    if k > len(votes):
        assert math.isnan(consensus_at_k(votes, k))
    else:
        assert consensus_at_k(votes, k) == consensus(votes[:k])


@given(ballots())
def test_ties_score_the_share_of_tied_classes_that_is_correct_or_as_the_first_of_them(votes: list[Vote]):
    counts = {vote.answer: sum(other.answer == vote.answer for other in votes) for vote in votes if vote.answer}
    top = [answer for answer in counts if counts[answer] == max(counts.values())]
    if top:
        assert consensus(votes) == pytest.approx(sum(answer in ("a", "d") for answer in top) / len(top))
        assert consensus(votes, "first") == float(top[0] in ("a", "d"))
    assert is_tied(votes) == (len(top) > 1)


@given(ballots(1))
def test_equal_weights_change_nothing(votes: list[Vote]):
    weighted = [vote._replace(weight=1 / len(votes)) for vote in votes]
    assert pass_rate(weighted) == pytest.approx(pass_rate(votes))
    assert consensus(weighted) == consensus(votes)


def test_weights_decide_the_vote_and_the_rate():
    votes = [Vote("a", True, 0.6), Vote("b", False, 0.2), Vote("b", False, 0.2)]
    assert (pass_rate(votes), consensus(votes)) == (pytest.approx(0.6), 1.0)
    assert consensus([vote._replace(weight=1.0) for vote in votes]) == 0.0


def test_what_weighs_nothing_has_no_vote():
    weightless = [Vote(None, False, 1.0), Vote("a", True, 0.0), Vote("b", False, 0.0)]
    assert (consensus(weightless), is_tied(weightless)) == (0.0, False)
    assert consensus([*weightless, Vote("b", False, 1e-9)]) == 0.0


def test_weights_that_are_equal_up_to_rounding_tie():
    assert is_tied([Vote("a", True, 0.1 + 0.2), Vote("b", False, 0.3)])


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_impossible_counts_are_an_error_that_shows_them(n: int, c: int, k: int):
    with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
        pass_at_k(n, c, k)
