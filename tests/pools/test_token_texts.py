"""Which part of a text each token wrote, on real tokenizers of both families."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_makers import byte_level_tokenizer, metaspace_tokenizer
from transformers import PreTrainedTokenizerFast

from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.engine.text import TextStopper
from eager_lmeval.pools.token_texts import TokenTexts

TOKENIZERS = {"byte level": byte_level_tokenizer(), "metaspace": metaspace_tokenizer()}
TEXTS = {name: TokenTexts(tokenizer) for name, tokenizer in TOKENIZERS.items()}


def finished(tokenizer: PreTrainedTokenizerFast, tokens: list[int], stop: str = "") -> Sequence:
    """A sequence that ends with its last token, its text as the engine sets it."""
    stopper = TextStopper(tokenizer, [], [stop])
    sequence = Sequence(path=(0,))
    prompt = Prompt(0, "task", "context", [1], max_new_tokens=len(tokens))
    stopper.begin(prompt, sequence)
    for token in tokens:
        if sequence.finish is None:
            sequence.tokens.append(token)
            stopper.observe(prompt, sequence)
    return sequence


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(alphabet="the end.\nQ: é€𝄞</think>", min_size=1, max_size=40))
def test_the_parts_make_up_the_text_and_each_is_what_its_token_says(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    sequence = finished(tokenizer, tokens)
    lengths = TEXTS[name].lengths(sequence)
    assert lengths is not None
    assert sum(lengths) == len(sequence.text)
    at = 0
    for token, length in zip(tokens, lengths, strict=True):
        alone, part = tokenizer.decode([token]), sequence.text[at : at + length]
        assert "\N{REPLACEMENT CHARACTER}" in alone or part.strip() == alone.strip()
        at += length


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_tokens_in_any_order_have_parts_that_fit_or_none_at_all(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=30))
    sequence = finished(tokenizer, tokens)
    lengths = TEXTS[name].lengths(sequence)
    assert lengths is None or sum(lengths) == len(sequence.text)


def test_a_child_says_what_it_wrote_itself_and_a_stop_string_has_no_characters() -> None:
    tokenizer = TOKENIZERS["byte level"]
    tokens = tokenizer("the end Q: more", add_special_tokens=False)["input_ids"]
    sequence = finished(tokenizer, tokens, stop=" Q:")
    assert sequence.text == "the end"
    whole = TEXTS["byte level"].lengths(sequence)
    assert whole is not None
    sequence.branch_at = 2
    assert TEXTS["byte level"].lengths(sequence) == whole[2:]
    assert sum(whole) == len("the end")


def test_the_first_of_several_tokens_that_write_a_character_has_it() -> None:
    tokenizer = TOKENIZERS["byte level"]
    tokens = tokenizer("a€b", add_special_tokens=False)["input_ids"]
    assert TEXTS["byte level"].lengths(finished(tokenizer, tokens)) == [1, 1, 0, 0, 1]
