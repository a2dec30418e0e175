"""Limits that make no sense are refused, and what a check says is true of every verdict it can have."""

from __future__ import annotations

import numpy as np
import pytest

from eager_lmeval.commands.gate.limits import parse_limit
from eager_lmeval.commands.gate.pairing import Metric, TaskPair
from eager_lmeval.commands.gate.verdict import Check, Verdict, decide
from eager_lmeval.errors import UsageError
from eager_lmeval.scores.paired import Pairs

SHARES = [1.0, 0.0, 1.0, 1.0] * 10
COSTS = [float(number) for number in range(200, 240)]


def check(
    limit: str, baseline: list[float], candidate: list[float] | None = None, *, higher_is_better: bool | None = None
) -> Check:
    """The check of ``--max-drop M=…`` or ``--max-increase M=…`` on one metric of one task."""
    option, _, text = limit.partition(" ")
    parsed = parse_limit(text, "drop" if option == "--max-drop" else "increase")
    pairs = Pairs(np.array(baseline), np.array(baseline if candidate is None else candidate))
    task = TaskPair("toy", len(baseline), [Metric(parsed.metric, pairs, 0, higher_is_better)])
    (found,) = decide([task], [parsed], confidence=0.95, power=0.8)
    return found


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        ("--max-drop pass@max=5", "did you mean pass@max=0.05 or pass@max=5%"),
        ("--max-drop pass@max=95", "did you mean pass@max=0.95 or pass@max=95%"),
        ("--max-drop pass@max=1", "lie between 0 and 1"),
        ("--max-drop pass@max=500", "give an amount below 1"),
        ("--max-increase tie_rate=1", "lie between 0 and 1"),
        ("--max-drop pass@max=100%", "nothing drops by more than 100%"),
    ],
)
def test_a_limit_that_nothing_could_exceed_is_refused(limit: str, hint: str) -> None:
    with pytest.raises(UsageError, match="could never be exceeded") as caught:
        check(limit, SHARES)
    assert hint in str(caught.value)
    assert limit in str(caught.value)


@pytest.mark.parametrize(
    "limit", ["--max-increase tokens=5", "--max-increase tokens=150%", "--max-increase branches=2"]
)
def test_costs_may_rise_by_any_amount(limit: str) -> None:
    assert check(limit, COSTS).verdict is Verdict.PASS
    assert check(limit, SHARES).verdict is Verdict.PASS  # as few branches as that


@pytest.mark.parametrize(
    ("limit", "better", "hint"),
    [
        ("--max-increase pass@max=0.3", True, "higher is better for pass@max; did you mean --max-drop"),
        ("--max-drop tie_rate=0.3", False, "lower is better for tie_rate; did you mean --max-increase"),
    ],
)
def test_a_limit_on_an_improvement_is_refused(limit: str, better: bool, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        check(limit, SHARES, higher_is_better=better)
    assert check(limit, SHARES, higher_is_better=None).verdict is Verdict.PASS


def test_a_percentage_of_a_negative_mean_is_refused() -> None:
    with pytest.raises(UsageError, match="negative"):
        check("--max-drop loglikelihood=10%", [-2.0, -3.0, -4.0])


def test_a_pass_that_the_baseline_leaves_no_room_to_fail_says_so() -> None:
    poor = [1.0, *[0.0] * 199]
    assert check("--max-drop pass@max=0.1", poor).message.endswith(
        "a baseline of 0.005 cannot drop by more than the limit"
    )
    assert "cannot drop" not in check("--max-drop pass@max=0.25", SHARES).message


def test_one_document_is_called_one_document() -> None:
    found = check("--max-increase tokens=10%", [10.0], [90.0])
    assert found.message.endswith(
        "it moved by +800% on 1 document: one document says nothing about others; compare more"
    )


def test_a_percentage_of_a_baseline_of_0_is_inconclusive_and_asks_for_an_amount() -> None:
    found = check("--max-increase tie_rate=10%", [0.0] * 40)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.message == (
        "toy: tie_rate may rise by 10%; it moved by +0 on 40 documents: "
        "no percentage of a baseline of 0 allows anything; give the limit as an amount"
    )


def test_a_limit_of_0_is_said_never_to_hold() -> None:
    assert "can be shown to be exceeded and never to hold" in check("--max-drop pass@max=0", SHARES).message


@pytest.mark.parametrize("limit", ["--max-drop pass@max=0.4", "--max-drop pass@max=40%", "--max-increase tokens=40%"])
def test_what_did_not_move_moved_by_plus_0(limit: str) -> None:
    found = check(limit, SHARES)
    assert "moved by +0" in found.message
    assert str(found.observed) == "0.0"


def test_a_movement_is_that_of_the_metric_and_a_worsening_counts_upwards() -> None:
    fallen = [0.0] * 20 + SHARES[20:]
    found = check("--max-drop pass@max=20%", SHARES, fallen)
    assert (found.moved, found.observed) == (-15 / 40, 0.5)
    assert "moved by -50% on 40 documents: beyond the limit" in found.message
