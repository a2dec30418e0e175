"""Texts of a document for a task with repeats: as often as they have copies, in a random order."""

from __future__ import annotations

from collections import Counter
from functools import partial
from statistics import fmean

import pytest

from eager_lmeval.algorithm.streams import shuffled
from eager_lmeval.pools.response import deal


def dealt(copies: list[int], count: int, context: str = "") -> list[str]:
    order = partial(shuffled, seed=1, task="toy", context=context)
    return deal([chr(97 + place) for place in range(len(copies))], copies, count, order)


def test_each_text_comes_as_often_as_it_has_copies() -> None:
    assert Counter(dealt([3, 1], 4)) == {"a": 3, "b": 1}
    assert Counter(dealt([5, 0, 3], 8)) == {"a": 5, "c": 3}


@pytest.mark.parametrize(("copies", "count"), [([1, 1, 1], 8), ([3, 1], 6), ([4, 4], 3)])
def test_where_the_copies_sum_to_something_else_each_comes_its_share_rounded_down_or_up(
    copies: list[int], count: int
) -> None:
    found = Counter(dealt(copies, count))
    assert found.total() == count
    for place, number in enumerate(copies):
        each = [count // sum(copies) * number, -(-count // sum(copies)) * number]
        assert each[0] <= found[chr(97 + place)] <= each[1]


def test_the_first_k_are_a_random_k() -> None:
    """Of 400 documents whose first sequence has 6 of 8 copies, it is 75 % of the first two texts: 4 standard errors."""
    shares = [dealt([6, 2], 8, context=str(number))[:2].count("a") / 2 for number in range(400)]
    assert fmean(shares) == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 2 * 6 / 7 / 400) ** 0.5)


def test_the_order_is_the_same_in_every_run_and_another_for_another_document() -> None:
    assert dealt([4, 4], 8) == dealt([4, 4], 8)
    assert len({tuple(dealt([4, 4], 8, context=str(number))) for number in range(20)}) > 10
