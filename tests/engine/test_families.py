"""Every family of transformers grows the oracle's trees, or is refused with the reason; docs/models.md says which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers
from against_oracle import assert_same, by_engine, by_oracle, prompts
from families import FAMILIES, NOT_MADE, NotMade, make
from transformers import PreTrainedModel

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.engine import runner
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
LISTED_OF = "5.23"
"""The release of transformers whose families the page lists; others have more, or fewer."""

COMMON = {"strategy": "adapt", "temperature": 0.8, "max_gen_toks": 12, "seed": 7, "max_sequences": 4}
CASES = {
    "top2": COMMON | {"branching": "top2", "entropy_threshold": 2.2, "top_p": 0.8},
    "systematic": COMMON | {"branching": "systematic", "entropy_threshold": 1.5, "fan_out": 2},
}


def listed(heading: str) -> set[str]:
    """The families in a section of the page."""
    section = PAGE.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].partition("\n#")[0]
    return set(re.findall(r"`([\w-]+)`", section))


SERVED, REFUSED = listed("Served"), listed("Refused")
USUAL = {"bart", "deepseek_v3", "doge", "gpt2", "gpt_oss", "mixtral", "mpt", "qwen3_moe", "roberta"}
"""What runs always: what is like no model of the oracle's other tests, and two that are refused."""
REST = pytest.mark.slow("all families: two minutes, to be run when transformers or the decode step changes")


def refused(model: PreTrainedModel) -> str | None:
    """How a model is refused, if it is."""
    try:
        ModelRunner(model)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "family", [family if family in USUAL else pytest.param(family, marks=REST) for family in FAMILIES]
)
def test_a_family_grows_the_oracles_trees_or_is_refused(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where rounding turns no draw and no choice of experts; with rows of several length classes."""
    try:
        model = make(family)
    except NotMade as reason:
        pytest.skip(f"{family}: {reason}")
    except Exception as error:
        if transformers.__version__.startswith(LISTED_OF):
            raise
        pytest.skip(f"{family} cannot be made as in transformers {LISTED_OF}: {error}")
    if family != "xglm":
        model = model.to(torch.float64)
    refusal = refused(model)
    served = refusal is None
    assert served or refusal.endswith("--model hf for this one")
    if transformers.__version__.startswith(LISTED_OF):
        assert (family in SERVED, family in REFUSED) == (served, not served), "docs/models.md says so"
    if not served:
        return
    monkeypatch.setattr(runner, "SHORT", 3)
    for given in CASES.values():
        options = resolve(given)
        expected = by_oracle(model, options)
        for max_rows in (options.max_sequences, 64):
            result, _ = by_engine(model, options, prompts(options), max_rows)
            assert_same(result, expected)


def test_the_page_lists_every_family_once() -> None:
    assert not SERVED & REFUSED
    assert listed("Not tried") == NOT_MADE.keys()
    if transformers.__version__.startswith(LISTED_OF):
        assert SERVED | REFUSED | NOT_MADE.keys() == set(FAMILIES)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_mixture_of_experts_grows_the_oracles_trees_in_float32_too(attention: str) -> None:
    """There its experts are computed together, in a product that float64 does not have."""
    model = make("qwen3_moe")
    model.config._attn_implementation = attention
    options = resolve(CASES["systematic"])
    result, _ = by_engine(model, options, prompts(options), 64)
    assert_same(result, by_oracle(model, options))
    assert model.config._experts_implementation != "eager"


def with_positions(family: str, size: int) -> PreTrainedModel:
    model = make(family)
    ModelRunner(model, max_length=size)
    return model


def test_positions_beyond_a_models_table_are_refused_before_anything_is_decoded() -> None:
    model = with_positions("gpt2", 256)
    with pytest.raises(UsageError, match="positions for 256 tokens, and max_length=257: give max_length=256"):
        ModelRunner(model, max_length=257)
    with_positions("llama", 4096)  # rotary frequencies go on


def test_a_model_that_attends_to_what_follows_is_refused() -> None:
    model = make("bert")
    model.config.is_decoder = False
    with pytest.raises(UsageError, match="attention to what follows a token"):
        ModelRunner(model)


def test_a_family_whose_attention_has_no_float64_is_refused_in_it() -> None:
    with pytest.raises(UsageError, match="attention that has no float64"):
        ModelRunner(make("xglm").to(torch.float64))
