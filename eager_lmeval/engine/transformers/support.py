"""What a transformers model must be, so that slots can serve it."""

from __future__ import annotations

import math
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from eager_lmeval.errors import UsageError

__all__ = ["require_supported", "text_config", "unwrapped"]

ATTENTION = ("sdpa", "eager")
"""Attention implementations that take the explicit masks of a decode step."""


def require_supported(model: PreTrainedModel, max_length: int = 0) -> None:
    """Raises UsageError, with the reason and what to use instead, for a model that slots cannot serve.

    ``max_length`` is the most positions that a row will have.
    """
    config = text_config(model)
    name = config.model_type
    if model.config.is_encoder_decoder:
        raise UsageError(
            f"model type {name!r} is an encoder-decoder; eager grows trees with causal language models only: "
            f"take a decoder-only model, or --model hf for this one"
        )
    if reason := _cannot_serve(model, config):
        raise UsageError(
            f"model type {name!r} has {reason}; eager serves full and sliding attention, one key-value cache a layer: "
            f"take such a model, or --model hf for this one"
        )
    switch = _rope_switch(config)
    if max_length > switch:
        raise UsageError(
            f"model type {name!r} changes its rotary frequencies for the whole batch when one row passes {switch} "
            f"positions, so a row's tokens would depend on its neighbours; give max_length={switch} in --model_args, "
            f"or take a model with fixed frequencies (such as yarn or linear)"
        )
    if config._attn_implementation not in ATTENTION:
        raise UsageError(
            f"attention implementation {config._attn_implementation!r} takes no explicit masks; "
            f"add attn_implementation=sdpa (or eager) to --model_args"
        )


def _rope_switch(config: PreTrainedConfig) -> float:
    """Positions beyond which transformers computes rotary frequencies by the batch's longest row; inf: never."""
    rope = getattr(config, "rope_parameters", None) or {}
    switches = [math.inf]
    for parameters in (rope, *rope.values()):  # some models nest them by layer type
        kind = parameters.get("rope_type") if isinstance(parameters, dict) else None
        if kind == "longrope":
            switches.append(parameters["original_max_position_embeddings"])
        elif kind == "dynamic":
            switches.append(config.max_position_embeddings)
    return min(switches)


def _cannot_serve(model: PreTrainedModel, config: PreTrainedConfig) -> str | None:
    """What of a model slots cannot serve, if there is anything."""
    others = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if others or getattr(config, "attention_chunk_size", None):
        return (
            f"layers that cannot fork by copying keys and values ({', '.join(sorted(others)) or 'chunked attention'})"
        )
    if getattr(model, "_is_stateful", False):
        return "a recurrent state, which cannot fork by copying keys and values"
    if "local" in getattr(config, "attention_layers", []):  # GPT-Neo masks by the batch's longest row
        return "local attention whose masks take all rows to be equally long"
    if config.model_type == "bloom" or getattr(config, "alibi", False):
        return "attention biases (ALiBi) that are computed from two-dimensional masks"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers that share their keys and values"
    return None


def unwrapped(model: Any) -> Any:
    """The model inside PEFT's, whose own `forward` takes whatever comes."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    return model.config.get_text_config(decoder=True)
