"""What of a prompt `eager-lmeval report` takes for the question."""

from __future__ import annotations

import pytest

from eager_lmeval.runs.question import find_question

CHATML = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: 2023\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
TEMPLATES = {
    "chatml": CHATML,
    "chatml, thinking": CHATML + "<think>\n",
    "chatml, no thinking": CHATML + "<think>\n\n</think>\n\n",
    "llama": LLAMA,
    "gemma": "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[INST] {} [/INST]",
    "deepseek": "<｜begin▁of▁sentence｜><｜User｜>{}<｜Assistant｜><think>\n",
    "gpt-oss": "<|start|>system<|message|>You are.<|end|><|start|>user<|message|>{}<|end|><|start|>assistant",
    "none": "{}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_question_is_the_last_turn_with_words(template: str) -> None:
    prompt = template.format("Why [so]?\nSay <why>.")
    found = find_question(prompt, {})
    assert prompt[found.start : found.end] == "Why [so]?\nSay <why>."
    assert found.title == "Why [so]? Say <why>."


def test_examples_before_what_the_document_asks_are_no_part_of_the_question() -> None:
    prompt = "Question: How many apples?\nAnswer: 1\n\nQuestion: How many pears?\nAnswer:"
    found = find_question(prompt, {"question": "How many pears?", "eager": {"label": "Question: How many apples?"}})
    assert prompt[found.start :] == "How many pears?\nAnswer:"
    assert found.title == "How many pears?"


@pytest.mark.parametrize("prompt", ["", "<|user|><|assistant|>", "\n"])
def test_a_prompt_without_words_has_a_question_without_words(prompt: str) -> None:
    found = find_question(prompt, {"question": "another one"})
    assert 0 <= found.start <= found.end <= len(prompt)
