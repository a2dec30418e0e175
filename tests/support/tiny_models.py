"""Tiny random causal LMs of the architectures that slots must serve; float32, the same on every call."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

torch.set_num_threads(1)  # steps of models this small only wait for a second thread

VOCAB = 40
WINDOW = 6
"""Sliding windows are shorter than the tests' sequences."""

_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,  # so that entropies spread over one to two nats
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
_MIXED = ["sliding_attention", "full_attention"]
_CONFIGS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "qwen3": (Qwen3Config, {}),
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "mistral, all sliding": (MistralConfig, {"sliding_window": WINDOW}),
    "qwen3, full and sliding": (
        Qwen3Config,
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1, "layer_types": _MIXED},
    ),
    "gemma2, full and sliding": (Gemma2Config, {"sliding_window": WINDOW, "layer_types": _MIXED}),
    "gemma3, full and sliding": (Gemma3TextConfig, {"sliding_window": WINDOW, "layer_types": _MIXED}),
}
NAMES = tuple(_CONFIGS)


@cache
def tiny_model(name: str) -> PreTrainedModel:
    """The model of that name, with seeded weights."""
    config_class, own = _CONFIGS[name]
    torch.manual_seed(NAMES.index(name) + 1)
    return AutoModelForCausalLM.from_config(config_class(**_SHAPE | own), dtype=torch.float32).eval()
