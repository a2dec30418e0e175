"""Whether two runs may be compared, and in what they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_files import OPTIONS, TASK, write_run

from eager_lmeval.runs.conditions import Difference, Side, compared, ranked
from eager_lmeval.runs.documents import columns
from eager_lmeval.runs.run import find_run

SCORES = [1.0, 0.0, 1.0]
RACE = {**OPTIONS, "strategy": "consistency", "branching": "none"}


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """A run, by its name and in what it differs from others."""

    def side(name: str, **more: Any) -> Side:
        run, _ = find_run(write_run(tmp_path / name, {"pass@max": SCORES}, **more))
        return Side(f"the {name}", run, columns(run, TASK))

    return side


def with_options(**more: Any) -> dict[str, Any]:
    return {"options": {**OPTIONS, **more}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (with_options(max_sequences=8), "max_sequences is 4 in the baseline and 8 in the candidate"),
        (with_options(branch_window=9), "branch_window is not recorded in the baseline and 9 in the candidate"),
        (with_options(tie_margin=0.5), "tie_margin is not recorded in the baseline and 0.5 in the candidate"),
        (with_options(branching="systematic"), "branching is 'top2' in the baseline and 'systematic' in the candidate"),
        ({"version": 2.0}, "task version is 1.0 in the baseline and 2.0 in the candidate"),
        ({"questions": ["?"] * 3}, "the prompts of 3 of 3 shared documents are others in the candidate"),
        ({"eager": False}, "the candidate was not made with --model eager, the baseline was"),
    ],
)
def test_what_differs_beside_the_model_is_refused_and_named(made: Any, changed: dict[str, Any], said: str) -> None:
    (difference,) = compared(TASK, made("baseline"), made("candidate", **changed))
    assert difference.text.startswith(f"{TASK}: {said}")
    assert difference.refused


@pytest.mark.parametrize("changed", [{"seed": 2}, {"max_rows": 8}, {"branching": "top2"}])
def test_seed_and_batch_may_differ_and_a_run_older_than_the_branchings_was_the_paper_s(
    made: Any, changed: dict[str, Any]
) -> None:
    assert compared(TASK, made("baseline"), made("candidate", **with_options(**changed))) == []


def test_the_branching_of_independent_samples_is_no_difference(made: Any) -> None:
    old, new = with_options(strategy="parallel"), with_options(strategy="parallel", branching="systematic")
    assert compared(TASK, made("old", **old), made("new", **new)) == []


def test_an_option_that_one_release_lacks_is_a_note_while_it_has_its_default(made: Any) -> None:
    baseline, default = made("baseline"), made("default", **with_options(tie_margin="auto"))
    for pair in ((baseline, default), (default, baseline)):
        (difference,) = compared(TASK, *pair)
        assert difference == Difference(difference.text, refused=False)
        assert "tie_margin is" in difference.text


def test_consistency_up_to_0_1_was_no_race_and_is_compared_with_none(made: Any) -> None:
    rounds = made("baseline", options={**RACE, "round_sequences": None})
    race = made("candidate", options={**RACE, "first_lanes": 8, "settled_at": 0.95})
    found = compared(TASK, rounds, race)
    assert f"{TASK}: strategy is 'rounds' in the baseline and 'consistency' in the candidate" in [
        difference.text for difference in found if difference.refused
    ]
    assert compared(TASK, race, race) == compared(TASK, rounds, rounds) == []


def test_a_ranking_is_of_the_same_documents_drawn_in_the_same_way_by_any_method(made: Any) -> None:
    assert ranked(TASK, made("a"), made("b", **with_options(strategy="parallel", max_sequences=8))) == []
    (drawn,) = ranked(TASK, made("a"), made("c", **with_options(temperature=0.1)))
    (asked, shared) = ranked(TASK, made("a"), made("d", version=2.0, first_document=2))
    assert [one.text.partition(": ")[2] for one in (drawn, asked, shared)] == [
        "temperature is 0.8 in the a and 0.1 in the c",
        "task version is 1.0 in the a and 2.0 in the d",
        "the a and the d have only 1 documents in common",
    ]
