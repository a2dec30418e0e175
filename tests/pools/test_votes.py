"""What votes decide is decided without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from eager_lmeval.errors import UsageError
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.record import settings
from eager_lmeval.verify import get_verifier

RACE = {"strategy": "consistency", "first_lanes": 2, "settled_at": 0.8}
LABELS = ("10", "36", "62", "88", "114", "140")


@pytest.fixture(scope="module")
def demo() -> EagerLM:
    torch.manual_seed(1234)
    return EagerLM(pretrained="demo", dtype="float32")


def generate(lm: EagerLM, labels: Sequence[str], repeats: int = 4, **given: Any) -> list[str]:
    """Responses to three sums and three searches whose documents say that these are the right answers."""
    options = {"max_sequences": 4, "entropy_threshold": 0.5, "temperature": 0.9, "max_gen_toks": 96, "verifier": "math"}
    requests = []
    for number, label in enumerate(labels):
        doc = {"answer": label, "eager": {"label": label, "verifier": "math"}}
        question = f"Add {30 + number} and 25." if number % 2 else f"Solve {20 + number}*x=5 mod 29."
        context = f"<|user|>{question}<|assistant|>"
        requests.append(Instance("generate_until", doc, (context, options | given), 0, ("some_task", number, repeats)))
    return lm.generate_until([request for request in requests for _ in range(repeats)], disable_tqdm=True)


def test_scrambled_labels_change_nothing(demo):
    trees = [
        [response.tree for response in generate(demo, labels, **RACE)]
        for labels in (LABELS, LABELS[::-1], ["wrong"] * 6)
    ]
    assert trees[0] == trees[1] == trees[2]
    assert {tree["settled"] for tree in trees[0]} == {True, False}, "there was something to decide"
    assert not any(tree["labels_used"] for tree in trees[0])


def test_the_verifier_is_asked_for_classes_and_never_shown_a_label(demo, monkeypatch):
    shown = []
    verifier = get_verifier("math")
    grade = type(verifier).grade

    def watched(self: Any, texts: Sequence[str | None], label: str | None) -> Any:
        shown.append(label)
        return grade(self, texts, label)

    monkeypatch.setattr(type(verifier), "grade", watched)
    generate(demo, LABELS, **RACE)
    assert len(shown) > 6
    assert set(shown) == {None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "consistency", "verifier": None}, "strategy=consistency needs a verifier"),
        ({"strategy": "consistency", "verifier": "code"}, "strategy=consistency cannot be had with verifier=code"),
        ({"strategy": "consistency", "settled_at": 0.5}, "settled_at=0.5 is not accepted"),
        ({"strategy": "consistency", "settled_at": 1}, "settled_at=1 is not accepted"),
        ({"strategy": "consistency", "first_lanes": 0}, "first_lanes=0 is not accepted"),
        ({"strategy": "consistency", "branching": "systematic"}, "branching=systematic does not go with strategy=cons"),
        ({"strategy": "consistency", "fan_out": 2}, "fan_out=2 does not go with strategy=consistency"),
        ({"strategy": "consistency", "preset": "paper"}, "preset=paper does not go with strategy=consistency"),
    ],
)
def test_a_vote_that_cannot_be_held_is_one_line(demo, given, said):
    instance = Instance("generate_until", {}, ("<|user|>Add 1+2.<|assistant|>", given), 0, ("some_task", 0, 1))
    with pytest.raises(UsageError, match=said) as caught:
        demo.generate_until([instance], disable_tqdm=True)
    assert "\n" not in str(caught.value)


def test_a_race_says_beside_what_it_spent_what_all_sequences_would_have_cost(demo):
    trees = [response.tree for response in generate(demo, LABELS, **RACE)][::4]
    pool = demo.get_model_info()["eager"]["pools"][-1]
    lanes = [[sequence["num_tokens"] for sequence in tree["sequences"][:2]] for tree in trees]
    assert pool["race"]["parallel_tokens"] == pytest.approx(sum(4 * sum(of) / 2 for of in lanes))
    assert pool["race"]["settled"] == pytest.approx(sum(tree["settled"] for tree in trees) / 6)
    share = pool["tokens"] / pool["race"]["parallel_tokens"]
    assert settings(pool).endswith(f"settled {pool['race']['settled']:.0%}, {share:.0%} of the tokens of 4")


def test_a_task_that_reads_several_texts_gets_none_that_was_cut(demo):
    responses = generate(demo, LABELS, 12, **RACE)
    cut_anywhere = False
    for place in range(0, len(responses), 12):
        sequences = responses[place].tree["sequences"]
        ended = {sequence["text"] for sequence in sequences if sequence["finish"] != "cut"}
        cut_anywhere |= len(ended) < len({sequence["text"] for sequence in sequences})
        assert set(map(str, responses[place : place + 12])) == ended
    assert cut_anywhere
