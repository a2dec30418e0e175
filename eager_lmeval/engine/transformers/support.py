"""What a transformers model must be, so that slots can serve it."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from eager_lmeval.errors import UsageError

__all__ = ["cache_argument", "require_supported", "take_experts_of_its_dtype", "text_config", "unwrapped"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

ATTENTION = ("sdpa", "eager")
"""Attention implementations that take the explicit masks of a decode step."""

OF_THEMSELVES = frozenset({"mpt", "whisper"})
"""Models that take no positions by name and place rows right: by differences alone, or handed on unnamed."""

ROTARY = ("rope_parameters", "rope_theta", "rope_scaling")
TABLES = ("max_position_embeddings", "max_seq_len", "max_target_positions")
"""What configurations call the size of a table of positions."""


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
            f"model type {name!r} has {reason}; eager serves causal models of full and sliding attention, one "
            f"key-value cache a layer: take such a model, or --model hf for this one"
        )
    switch = _rope_switch(config)
    if max_length > switch:
        raise UsageError(
            f"model type {name!r} changes its rotary frequencies for the whole batch when one row passes {switch} "
            f"positions, so a row's tokens would depend on its neighbours; give max_length={switch} in --model_args, "
            f"or take a model with fixed frequencies (such as yarn or linear)"
        )
    table = _positions(config)
    if max_length > table:
        raise UsageError(
            f"model type {name!r} has positions for {table} tokens, and max_length={max_length}: "
            f"give max_length={table} in --model_args"
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
        elif kind and "dynamic" in kind:
            switches.append(config.max_position_embeddings)
    return min(switches)


def _positions(config: PreTrainedConfig) -> float:
    """How many positions a model has in a table; inf where it computes them."""
    if config.model_type == "xglm" or any(getattr(config, name, None) for name in ROTARY):
        return math.inf
    return next((size for name in TABLES if (size := getattr(config, name, None))), math.inf)


def _cannot_serve(model: PreTrainedModel, config: PreTrainedConfig) -> str | None:
    """What of a model slots cannot serve, if there is anything."""
    taken = inspect.signature(type(unwrapped(model)).forward).parameters
    others = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if others or getattr(config, "attention_chunk_size", None):
        return (
            f"layers that cannot fork by copying keys and values ({', '.join(sorted(others)) or 'chunked attention'})"
        )
    if getattr(model, "_is_stateful", False):
        return "a recurrent state, which cannot fork by copying keys and values"
    if "local" in getattr(config, "attention_layers", []):  # GPT-Neo masks by the batch's longest row
        return "local attention whose masks take all rows to be equally long"
    if not cache_argument(model):
        return "no cache of keys and values"
    if getattr(config, "is_decoder", None) is False and not config.model_type.startswith("gpt_neox"):
        return "attention to what follows a token (is_decoder=False in its configuration)"
    if config.model_type == "bloom" or getattr(config, "alibi", False):
        return "attention biases (ALiBi) that are computed from two-dimensional masks"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers that share their keys and values"
    if any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules()):
        return "positions that are counted from its padding token on, as RoBERTa's"
    if "position_ids" not in taken and config.model_type not in OF_THEMSELVES:
        return "positions that are counted from the batch's longest row"
    if config.model_type == "xglm" and model.dtype == torch.float64:
        return "attention that has no float64 (give another dtype in --model_args)"
    return None


def cache_argument(model: PreTrainedModel) -> str:
    """What the model calls its cache of keys and values, which transformers 5.24 renames; empty if it takes none."""
    taken = inspect.signature(type(unwrapped(model)).forward).parameters
    return next((name for name in ("past_key_values", "cache") if name in taken), "")


def take_experts_of_its_dtype(model: PreTrainedModel) -> None:
    """Experts of a float64 model run one after another: the product that takes them together has no float64."""
    chosen = getattr(text_config(model), "_experts_implementation", None)
    if model.dtype == torch.float64 and chosen not in (None, "eager"):
        unwrapped(model).set_experts_implementation("eager")
        log.info("dtype=float64: the experts run one after another instead of by %s", chosen)


def unwrapped(model: Any) -> Any:
    """The model inside PEFT's, whose own `forward` takes whatever comes."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    return model.config.get_text_config(decoder=True)
