"""A document's right answer as a text."""

import pytest

from eager_lmeval.pools.labels import render_label
from eager_lmeval.verify import get_verifier

CHOICE = {"answer": "B", "options": ["neon", "argon — noble"]}


@pytest.mark.parametrize("label", ["key", "of.key"])
def test_a_label_with_parts_reaches_the_verifier_as_the_json_that_it_reads(label):
    rendered = render_label({"key": CHOICE, "of": {"key": CHOICE}}, label)
    (graded,) = get_verifier("choice").grade(["The answer is argon — noble."], rendered)
    assert graded.correct
