"""Keys of a journal outlive a release."""

from __future__ import annotations

from typing import Any

import pytest

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.journal.identity import prompt_key

PROMPT = Prompt(0, "some_task", "Q", [1, 2], max_new_tokens=9)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"strategy": "init", "branching": "top2", "entropy_threshold": 1.5}, "e42e4433c26e41175817c724e04224dd"),
        ({"strategy": "init", "branching": "systematic"}, "fa298c246e647ba8dcd6b97d148e96e8"),
        ({"strategy": "parallel", "max_sequences": 3, "temperature": 0.7}, "5a223e5bf703bf64607f1559499c475e"),
    ],
)
def test_journals_that_version_0_1_0_wrote_go_on_serving(options: dict[str, Any], key: str) -> None:
    """The keys are those that 0.1.0 itself makes."""
    assert prompt_key({"name": "a model"}, PROMPT, resolve(options | {"seed": 3}), [7, 5], None) == key
