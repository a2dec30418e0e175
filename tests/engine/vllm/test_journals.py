"""One journal folder serves both engines, and neither takes the other's records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from process_runs import Call, instances

from eager_lmeval.journal.journal import Journal
from eager_lmeval.lm import EagerLM
from eager_lmeval.lm_vllm import EagerVLLM
from eager_lmeval.pools.model import Given

OPTIONS = {"strategy": "init", "max_sequences": 3, "max_gen_toks": 20}


def answered(lm: Any, docs: int) -> list[list[list[int]]]:
    """The tokens of each document's sequences."""
    trees = [response.tree for response in lm.generate_until(instances(Call(docs, gen_kwargs=OPTIONS), 0, 1), True)]
    return [[sequence["token_ids"] for sequence in tree["sequences"]] for tree in trees]


def reused(lm: Any) -> int:
    """Prompts of the last pool that came from the journal."""
    return int(lm._eager.pools[-1]["journal"]["prompts_reused"])


def test_journals_of_the_two_engines_are_kept_apart(
    served: EagerVLLM, plain: EagerLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lm in (plain, served):
        monkeypatch.setattr(lm._eager, "given", Given({}, Journal(tmp_path)))
    expected = answered(plain, docs=3)
    assert answered(served, docs=3) == expected
    assert reused(served) == 0
    assert answered(served, docs=5)[:3] == expected
    assert reused(served) == 3
    assert answered(plain, docs=5)[:3] == expected
    assert reused(plain) == 3
