"""When a sequence ends and which text it stands for, on real tokenizers of both families."""

from __future__ import annotations

import pytest
from token_makers import MARKERS, byte_level_tokenizer, metaspace_tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.engine.text import TextStopper, Thinking
from eager_lmeval.engine.thinking import find_thinking
from eager_lmeval.errors import UsageError


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    return byte_level_tokenizer()


@pytest.fixture(scope="module")
def metaspace() -> PreTrainedTokenizerFast:
    return metaspace_tokenizer()


def ids(tokenizer: PreTrainedTokenizerFast, *tokens: str) -> list[int]:
    found = tokenizer.convert_tokens_to_ids(list(tokens))
    assert None not in found
    return found


def thinking_of(tokenizer: PreTrainedTokenizerFast, start: bool = True) -> Thinking:
    (start_id, end_id) = ids(tokenizer, *MARKERS)
    return Thinking("</think>", (end_id,), "<think>", (start_id,)) if start else Thinking("</think>", (end_id,))


def generate(
    tokenizer: PreTrainedTokenizerFast,
    tokens: list[int],
    stop_strings: tuple[str, ...] = (),
    thinking: Thinking | None = None,
    context: str = "",
    limit: int = 1000,
    eos: tuple[str, ...] = ("<eos>",),
) -> Sequence:
    """Feeds tokens one by one until the sequence ends; what is left over stays unread."""
    stopper = TextStopper(tokenizer, ids(tokenizer, *eos), stop_strings, thinking)
    prompt = Prompt(0, "demo", context, [1], max_new_tokens=limit)
    sequence = Sequence(path=(0,))
    stopper.begin(prompt, sequence)
    for token in tokens:
        sequence.tokens.append(token)
        stopper.observe(prompt, sequence)
        if sequence.finish:
            break
    return sequence


def byte_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """One token a byte, so that everything is split as finely as it can be."""
    alphabet = bytes_to_unicode()
    return ids(tokenizer, *(alphabet[byte] for byte in text.encode()))


# Ends.


def test_each_end_of_sequence_token_of_the_list_ends_it(byte_level: PreTrainedTokenizerFast) -> None:
    for name in ("<eos>", "<eot>"):
        sequence = generate(byte_level, [*byte_ids(byte_level, "hi"), *ids(byte_level, name)], eos=("<eos>", "<eot>"))
        assert (sequence.finish, sequence.text, len(sequence.tokens)) == ("stop", "hi", 3)


def test_another_special_token_does_not_end_it_and_is_no_text(byte_level: PreTrainedTokenizerFast) -> None:
    sequence = generate(byte_level, [*ids(byte_level, "<eot>"), *byte_ids(byte_level, "hi")], limit=3)
    assert (sequence.finish, sequence.text) == ("length", "hi")


def test_the_limit_ends_it_unless_its_last_token_already_did(byte_level: PreTrainedTokenizerFast) -> None:
    tokens = byte_ids(byte_level, "abcdef")
    assert (generate(byte_level, tokens, limit=4).finish, generate(byte_level, tokens, limit=4).text) == (
        "length",
        "abcd",
    )
    assert generate(byte_level, [*tokens[:3], *ids(byte_level, "<eos>")], limit=4).finish == "stop"
    assert generate(byte_level, tokens, ("cd",), limit=4).finish == "stop"


# Stop strings.


@pytest.mark.parametrize(
    ("text", "stop_strings", "kept"),
    [
        ("one\n\nQ: two", ("\n\nQ:",), "one"),
        ("a stop, b", (" stop",), "a"),
        ("a b c END d", ("END", "zzz"), "a b c "),
        ("xENDYy", ("ENDY", "ND"), "xE"),  # what is complete first ends it
        ("naïve → café", ("→",), "naïve "),
        ("smile 😀 more", ("😀",), "smile "),
        ("aab", ("ab",), "a"),
    ],
)
def test_stop_strings_fire_across_token_boundaries(
    byte_level: PreTrainedTokenizerFast, text: str, stop_strings: tuple[str, ...], kept: str
) -> None:
    sequence = generate(byte_level, byte_ids(byte_level, text), stop_strings)
    assert (sequence.finish, sequence.text, sequence.answer) == ("stop", kept, kept)
    assert len(sequence.tokens) < len(text.encode()) + 1


def test_a_stop_string_in_the_middle_of_a_token_cuts_the_token(byte_level: PreTrainedTokenizerFast) -> None:
    tokens = [*byte_ids(byte_level, "ok"), *ids(byte_level, ".Ċ", "the")]
    assert generate(byte_level, tokens, (".",)).text == "ok"
    assert generate(byte_level, tokens, ("h",)).text == "ok.\nt"


def test_a_stop_string_that_two_tokens_and_a_half_make(byte_level: PreTrainedTokenizerFast) -> None:
    tokens = ids(byte_level, "end", "ĊĊ", "Q:", "the")
    assert generate(byte_level, tokens, ("d\n\nQ",)).text == "en"


def test_half_a_character_is_no_stop_string(byte_level: PreTrainedTokenizerFast) -> None:
    tokens = byte_ids(byte_level, "é!")
    sequence = generate(byte_level, tokens, ("è",), limit=3)
    assert (sequence.finish, sequence.text) == ("length", "é!")


def test_a_stop_string_far_longer_than_the_usual_is_seen(byte_level: PreTrainedTokenizerFast) -> None:
    stop = "-" * 70 + "→"
    sequence = generate(byte_level, byte_ids(byte_level, "x" * 50 + stop + "y"), (stop,))
    assert (sequence.finish, sequence.text) == ("stop", "x" * 50)


def test_empty_stop_strings_stop_nothing(byte_level: PreTrainedTokenizerFast) -> None:
    assert generate(byte_level, byte_ids(byte_level, "abc"), ("",), limit=3).finish == "length"


@pytest.mark.parametrize(
    ("tokens", "stop", "kept"),
    [
        (["▁the", "▁end", "▁the"], " end", "the"),
        (["▁the", "▁end", "▁the"], "end", "the "),
        (["▁the", "▁Q:", "▁the"], "Q:", "the "),
        (["▁the", "▁", "Q", ":"], " Q:", "the"),
        (["▁the", "▁", "▁", "the"], "  ", "the"),
        (["▁the", "<0xE2>", "<0x86>", "<0x92>", "▁the"], "→", "the"),
        (["▁the", "<0x0A>", "<0x0A>", "the"], "\n\n", "the"),
    ],
)
def test_stop_strings_fire_where_words_carry_their_space(
    metaspace: PreTrainedTokenizerFast, tokens: list[str], stop: str, kept: str
) -> None:
    sequence = generate(metaspace, ids(metaspace, *tokens), (stop,), limit=len(tokens) + 1)
    assert (sequence.finish, sequence.text) == ("stop", kept)


def test_a_stop_string_late_in_a_long_text_is_cut_at_the_right_place(metaspace: PreTrainedTokenizerFast) -> None:
    tokens = ids(metaspace, *["▁the"] * 200, "▁end", "▁the")
    sequence = generate(metaspace, tokens, ("end",))
    assert sequence.text == "the " * 200
    assert len(sequence.tokens) == 201


@pytest.mark.parametrize(("stop", "after"), [("<eot>", ""), ("<eot>\n", "\n"), ("wo<eot>", ""), ("<eot>th", "the")])
def test_a_stop_string_may_name_a_special_token_that_ends_nothing_by_itself(
    byte_level: PreTrainedTokenizerFast, stop: str, after: str
) -> None:
    """As the turn's end of a chat model in ``until``. The text leaves special tokens out, as the harness's does."""
    tokens = [*byte_ids(byte_level, "two"), *ids(byte_level, "<eot>"), *byte_ids(byte_level, after + " next turn")]
    sequence = generate(byte_level, tokens, (stop,))
    kept = stop.partition("<eot>")[0]
    assert (sequence.finish, sequence.text) == ("stop", "two".removesuffix(kept))
    assert len(sequence.tokens) < len(tokens) - 4


def test_a_stop_string_behind_a_special_token_that_is_left_out_is_cut_at_its_place(
    byte_level: PreTrainedTokenizerFast,
) -> None:
    tokens = [*byte_ids(byte_level, "a"), *ids(byte_level, "<eot>"), *byte_ids(byte_level, "b; c")]
    assert generate(byte_level, tokens, (";",)).text == "ab"
    twice = [*tokens[:2], *byte_ids(byte_level, "bc"), *ids(byte_level, "<eot>"), *byte_ids(byte_level, "!d")]
    assert generate(byte_level, twice, ("c<eot>!",)).text == "ab"


# Thinking.


def test_a_stop_string_inside_the_thoughts_does_not_fire(byte_level: PreTrainedTokenizerFast) -> None:
    thought, answer = byte_ids(byte_level, "so Q: hm"), byte_ids(byte_level, "42 Q: next")
    start, end = ids(byte_level, *MARKERS)
    sequence = generate(byte_level, [start, *thought, end, *answer], ("Q:",), thinking_of(byte_level))
    assert sequence.finish == "stop"
    assert sequence.thought_ended
    assert sequence.text == "<think>so Q: hm</think>42 "
    assert sequence.answer == "42 "


def test_the_space_between_the_thoughts_and_the_answer_stays_in_the_text(metaspace: PreTrainedTokenizerFast) -> None:
    tokens = ids(metaspace, "▁the", "</think>", "▁end", "▁Q:", "▁the")
    sequence = generate(metaspace, tokens, ("Q:",), thinking_of(metaspace, start=False))
    assert sequence.text.startswith("the</think> end")
    assert sequence.answer is not None
    assert sequence.answer.strip() == "end"


def test_a_stop_string_that_begins_in_the_thoughts_does_not_fire(byte_level: PreTrainedTokenizerFast) -> None:
    (end,) = ids(byte_level, "</think>")
    tokens = [*byte_ids(byte_level, "a"), end, *byte_ids(byte_level, "b")]
    sequence = generate(byte_level, tokens, ("</think>b", ">b"), thinking_of(byte_level, start=False), limit=3)
    assert (sequence.finish, sequence.answer) == ("length", "b")


@pytest.mark.parametrize("how", ["start unknown", "opened by the context", "opened by the model"])
def test_a_sequence_cut_off_in_mid_thought_has_text_but_no_answer(
    byte_level: PreTrainedTokenizerFast, how: str
) -> None:
    tokens = byte_ids(byte_level, "the answer is 42.")
    if how == "opened by the model":
        tokens = [*ids(byte_level, "<think>"), *tokens]
    thinking = thinking_of(byte_level, start=how != "start unknown")
    context = "Q <think>\n" if how == "opened by the context" else "Q"
    sequence = generate(byte_level, tokens, ("answer",), thinking, context, limit=len(tokens))
    assert sequence.finish == "length"
    assert sequence.text.endswith("the answer is 42.")
    assert sequence.answer is None
    assert not sequence.thought_ended


def test_thoughts_that_the_context_has_closed_are_over(byte_level: PreTrainedTokenizerFast) -> None:
    context = "Q <think>hm</think>"
    sequence = generate(byte_level, byte_ids(byte_level, "42;"), (";",), thinking_of(byte_level), context)
    assert (sequence.finish, sequence.text, sequence.answer) == ("stop", "42", "42")


def test_a_model_that_does_not_think_answers_from_its_first_token(byte_level: PreTrainedTokenizerFast) -> None:
    sequence = generate(byte_level, byte_ids(byte_level, "42;"), (";",), thinking_of(byte_level), "Q")
    assert (sequence.finish, sequence.answer, sequence.thought_ended) == ("stop", "42", False)


def test_a_marker_of_several_tokens_ends_the_thoughts(byte_level: PreTrainedTokenizerFast) -> None:
    marker = tuple(byte_ids(byte_level, "||"))
    tokens = byte_ids(byte_level, "a|b||c;d")
    sequence = generate(byte_level, tokens, (";",), Thinking("||", marker))
    assert (sequence.finish, sequence.text, sequence.answer) == ("stop", "a|b||c", "c")


@pytest.mark.parametrize(
    ("spelled", "kept"), [("</think>", ""), (".</think>\n\n", ""), ("</think>the", "the"), ("</think> 4", " 4")]
)
def test_a_marker_is_found_in_whichever_tokens_it_is_spelled(
    byte_level: PreTrainedTokenizerFast, spelled: str, kept: str
) -> None:
    """Not in the tokens that it has alone: a byte a token, and the first of the answer's in the marker's last one."""
    thinking = Thinking("</think>", (0, 1, 2), "<think>", (0, 1))
    joined = byte_level_tokenizer()
    last = spelled.partition("nk")[2]
    joined.add_tokens([last])
    head = byte_ids(byte_level, "hm; " + spelled.removesuffix(last))
    tokens = [*head, joined.convert_tokens_to_ids(last), *byte_ids(byte_level, "2; next")]
    sequence = generate(joined, tokens, (";",), thinking, "Q <think>\n")
    assert (sequence.finish, sequence.thought_ended) == ("stop", True)
    assert sequence.answer is not None
    assert sequence.answer.strip() == (kept + "2").strip()
    assert sequence.text.startswith("hm; ")


@pytest.mark.parametrize("context", ["What does <think> mean?", "Write <think> first.\nQ: <think>hm</think>4\nQ:"])
def test_a_prompt_that_only_mentions_the_marker_opens_no_thoughts(
    byte_level: PreTrainedTokenizerFast, context: str
) -> None:
    sequence = generate(byte_level, byte_ids(byte_level, "42;"), (";",), thinking_of(byte_level), context)
    assert (sequence.finish, sequence.answer) == ("stop", "42")


def test_an_end_of_sequence_in_mid_thought_stops_without_an_answer(byte_level: PreTrainedTokenizerFast) -> None:
    tokens = [*byte_ids(byte_level, "hm"), *ids(byte_level, "<eos>")]
    sequence = generate(byte_level, tokens, thinking=thinking_of(byte_level, start=False))
    assert (sequence.finish, sequence.text, sequence.answer) == ("stop", "hm", None)


def test_a_fork_knows_whether_its_parent_was_thinking(byte_level: PreTrainedTokenizerFast) -> None:
    thinking = thinking_of(byte_level, start=False)
    stopper = TextStopper(byte_level, ids(byte_level, "<eos>"), (";",), thinking)
    prompt = Prompt(0, "demo", "Q", [1], max_new_tokens=100)
    parent = Sequence(path=(0,))
    stopper.begin(prompt, parent)
    (end,) = ids(byte_level, "</think>")
    (stop,) = byte_ids(byte_level, ";")
    children = []
    for token in (*byte_ids(byte_level, "hm"), end):
        parent.tokens.append(token)
        stopper.observe(prompt, parent)
        children.append(parent.fork((0, len(parent.tokens)), stop, entropy=2.0, logprob=-1.0))
        stopper.observe(prompt, children[-1])
    inside, _, behind = children
    assert (behind.finish, behind.answer, behind.thought_ended) == ("stop", "", True)
    assert (inside.finish, inside.answer_from, inside.thought_ended) == (None, None, False)
    assert inside.tokens == [parent.tokens[0], stop]


def test_a_marker_is_found_by_its_text_by_its_id_and_in_pieces(byte_level: PreTrainedTokenizerFast) -> None:
    in_vocabulary = thinking_of(byte_level)
    (end_id,) = in_vocabulary.end_ids
    assert find_thinking(byte_level, None) is None
    for marker in ("auto", "</think>", end_id, str(end_id)):
        assert find_thinking(byte_level, marker) == in_vocabulary
    in_pieces = find_thinking(byte_level, "</done>")
    assert in_pieces is not None
    assert (in_pieces.end, in_pieces.start) == ("</done>", "<done>")
    for text, pieces in (("</done>", in_pieces.end_ids), ("<done>", in_pieces.start_ids)):
        assert len(pieces) > 1
        assert byte_level.decode(pieces) == text
    assert find_thinking(byte_level, "###") == Thinking("###", tuple(byte_ids(byte_level, "###")))


def test_a_token_id_that_the_model_has_not_is_refused(byte_level: PreTrainedTokenizerFast) -> None:
    last = len(byte_level) - 1
    assert find_thinking(byte_level, last) is not None
    with pytest.raises(
        UsageError, match=f"think_end_token={last + 1} is no token id of this model; ids are 0 to {last}"
    ):
        find_thinking(byte_level, last + 1)
