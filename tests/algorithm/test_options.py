"""Which branching a run has that names none."""

from __future__ import annotations

from eager_lmeval.algorithm.options import resolve


def test_generation_kwargs_of_other_models_that_ask_for_nothing_are_accepted() -> None:
    neutral = {"num_beams": 1, "repetition_penalty": 1.0, "presence_penalty": "0", "skip_special_tokens": True}
    assert resolve(neutral) == resolve({})
    assert resolve({"do_sample": True, "temperature": 0}).greedy


def test_copies_are_dealt_without_bias_unless_the_paper_s_branching_is_named_or_preset() -> None:
    assert resolve({}).branching == resolve({"preset": "default"}).branching == "systematic"
    assert resolve({"preset": "paper"}).branching == resolve({"preset": "reference"}).branching == "top2"
    assert resolve({"branching": "top2", "count": "active"}).count == "active"
