"""Rows of several length classes in one forward pass, and models that cannot do that."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tiny_models import tiny_model
from transformers import AutoModelForCausalLM, DiffLlamaConfig, DogeConfig, FalconConfig, PreTrainedModel

from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.engine import runner as runners
from eager_lmeval.engine.runner import Slot
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.transformers.attention import PassCache
from eager_lmeval.engine.transformers.runner import ModelRunner

LENGTHS = [2, 3, 7, 12, 14, 30]
"""Of rows that stand on slots of four classes, where the shortest class ends at 4 positions."""


def decoded(model: PreTrainedModel) -> list[Readout]:
    """One step of rows that hold so many positions."""
    runner = ModelRunner(model)
    prefixes = runner.prefill([[1 + length] * length for length in LENGTHS])
    runner.reserve([length + 1 for length in LENGTHS], len(LENGTHS))
    places: Counter[int] = Counter()
    for length, prefix in zip(LENGTHS, prefixes, strict=True):
        of_class = runners.length_class(length + 1)
        runner.restore(Slot(of_class, places[of_class]), 1, prefix.snapshot)
        places[of_class] += 1
    return runner.decode([5] * len(LENGTHS), LENGTHS, [], np.full(len(LENGTHS), 0.4), Sampling(), len(LENGTHS))


@pytest.fixture
def short_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "SHORT", 4)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each decoding forward pass of the tiny llama."""
    rows: list[int] = []
    model = tiny_model("llama")
    forward = model.forward

    def counting(*args: object, **kwargs: object) -> object:
        if kwargs["input_ids"].shape[1] == 1:  # type: ignore[attr-defined]
            rows.append(len(kwargs["input_ids"]))  # type: ignore[arg-type]
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counting)
    return rows


@pytest.mark.usefixtures("short_classes")
def test_rows_of_all_classes_take_one_forward_pass(passes: list[int]) -> None:
    decoded(tiny_model("llama"))
    assert passes == [6]


@pytest.mark.usefixtures("short_classes")
def test_rows_take_a_forward_pass_a_class_where_attention_cannot_tell_them_apart(
    monkeypatch: pytest.MonkeyPatch, passes: list[int]
) -> None:
    monkeypatch.setattr(tiny_model("llama").config, "_attn_implementation", "eager")
    decoded(tiny_model("llama"))
    assert passes == [2, 1, 2, 1]


@pytest.mark.parametrize("model", ["llama", "mistral, all sliding", "gemma3, full and sliding"])
def test_classes_show_in_no_readout(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    in_one_class = decoded(tiny_model(model))
    monkeypatch.setattr(runners, "SHORT", 4)
    for readout, expected in zip(decoded(tiny_model(model)), in_one_class, strict=True):
        assert readout.token == expected.token
        assert readout.entropy == pytest.approx(expected.entropy, abs=1e-5)


@pytest.mark.usefixtures("short_classes")
def test_the_models_own_attention_is_back_when_a_pass_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")

    def fail(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(PassCache, "attend", fail)
    with pytest.raises(runners.OutOfMemory):
        decoded(model)
    assert model.config._attn_implementation == "sdpa"


SMALL = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
UNLIKE = {
    "does not look up the attention of all its layers": FalconConfig(**SMALL, alibi=False),
    "changes keys and values after they were cached": DiffLlamaConfig(**SMALL, intermediate_size=48),
    "makes masks of its own": DogeConfig(**SMALL, intermediate_size=48),  # of the values that are cached
}


@pytest.mark.parametrize("reason", UNLIKE)
def test_a_model_whose_attention_reads_other_things_than_slots_takes_a_pass_a_class_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(UNLIKE[reason], attn_implementation="sdpa").eval()
    for name, weight in model.named_parameters():
        if name.endswith(".A"):  # how much its mask heeds them: not at all, as it is made
            torch.nn.init.normal_(weight)
    monkeypatch.setattr(type(model), "_supports_attention_backend", True)
    in_one_class = decoded(model)
    assert not caplog.messages
    monkeypatch.setattr(runners, "SHORT", 4)
    with caplog.at_level("WARNING", logger="lm_eval"):
        found = decoded(model)
    assert [readout.token for readout in found] == [readout.token for readout in in_one_class]
    assert [message for message in caplog.messages if reason in message] == caplog.messages
    assert len(caplog.messages) == 1
