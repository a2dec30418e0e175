"""Every family of causal language models that transformers has, as a tiny random model where one can be made.

A family's configuration gets small numbers under whatever names it has for them (`_SMALL`), and what it needs besides
(`_OWN`). Weights are drawn anew: some families begin with zeros, whose trees prove nothing.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 40

_SMALL: dict[str, Any] = {
    **{"vocab_size": VOCAB, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
    **{"tie_word_embeddings": False, "initializer_range": 0.4, "sliding_window": 6},
    # widths
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size", "hidden_dim"], 32),
    **dict.fromkeys(["intermediate_size", "d_ff", "dff", "ffn_dim", "ffn_hidden_size", "n_inner"], 48),
    **dict.fromkeys(["decoder_ffn_dim", "encoder_ffn_dim"], 48),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"], 16),
    **{"expert_intermediate_size": 16, "head_dim": 8, "d_kv": 8, "rotary_dim": 4},
    # depths and heads
    **dict.fromkeys(["num_hidden_layers", "n_layer", "num_layers", "decoder_layers", "encoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "num_heads", "attention_heads", "decoder_attention_heads"], 4),
    **{"encoder_attention_heads": 4, "num_key_value_heads": 2, "num_kv_heads": 2},
    # lengths
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx"], 256),
    # experts
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"], 4),
    **{"num_experts_per_tok": 2, "moe_k": 2, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    "first_k_dense_replace": 1,
    # latent attention
    **{"kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "qk_head_dim": 8},
    "v_head_dim": 8,
}
_MIXED = ["sliding_attention", "full_attention"]
_LATENT = {"num_key_value_heads": 4}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
_CONV = {"layer_types": ["conv", "full_attention"]}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_PER_LAYER = {"vocab_size_per_layer_input": VOCAB}
_DECODER = {"is_decoder": True}
_ENCODER = {"is_decoder": True, "pad_token_id": 1}
_ROC = {"pronunciation_embed_dim": 8, "pronunciation_vocab_size": 8, "shape_embed_dim": 8, "shape_vocab_size": 8}
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["axk1", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu"], _LATENT),
    **dict.fromkeys(["bert", "bert-generation", "electra", "ernie", "megatron-bert", "rembert"], _DECODER),
    **dict.fromkeys(["roformer", "big_bird"], _DECODER),
    **dict.fromkeys(["camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta"], _ENCODER),
    **{"xlm-roberta-xl": _ENCODER, "xmod": _ENCODER | {"default_language": "en_XX"}},
    "doge": {"keep_window_size": 8},
    "falcon": {"multi_query": True},
    "moshi": {"sliding_window": 256, "audio_vocab_size": VOCAB},  # whose attention heeds no window without a cache
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_words": VOCAB},
    "roc_bert": {"is_decoder": True, "enable_pronunciation": False, "pad_token_id": 0, **_ROC},
    "longcat_flash": _LATENT | {"head_dim": 4, "qk_head_dim": 8},
    "cwm": _IDS,
    "modernbert-decoder": {
        "pad_token_id": 1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 6},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {"layers_block_type": ["mamba", "hybrid"], "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], "layer_types": ["mamba", "hybrid"]},
    **dict.fromkeys(["emu3_text_model", "mllama_text_model"], _IDS),
    "dots3_note_text": _LATENT,
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "prophetnet": {"pad_token_id": 0},
    **dict.fromkeys(["lfm2", "lfm2_moe"], _CONV),
    "cohere_compass_text": {"rope_parameters": dict.fromkeys(_MIXED, _ROPE)},
    "gemma3n_text": {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "layer_types": 2 * _MIXED, **_PER_LAYER},
    "gemma4_text": {**_IDS, **_PER_LAYER, "hidden_size_per_layer_input": 8, "global_head_dim": 8},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
}


def _chosen(config_class: Any) -> dict[str, Any]:
    """What a configuration takes of `_SMALL`, and the configurations inside it too."""
    names = {*inspect.signature(config_class.__init__).parameters, *getattr(config_class, "__dataclass_fields__", {})}
    chosen = {name: value for name, value in _SMALL.items() if name in names}
    if set(getattr(_default(config_class), "layer_types", None) or ()) == set(_MIXED):
        chosen["layer_types"] = _MIXED  # both, which the first two layers need not be
    return chosen | {
        name: _chosen(inner) | _OWN.get(getattr(inner, "model_type", ""), {})
        for name, inner in (getattr(config_class, "sub_configs", None) or {}).items()
        if isinstance(inner, type) and hasattr(inner, "model_type") and inner.model_type
    }


def _default(config_class: Any) -> Any:
    """The configuration that nobody has changed; None where there is none that holds."""
    try:
        return config_class()
    except Exception:
        return None


FAMILIES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


_PARTS = "it has parts besides text that are large; "
_WHOLE = "its configuration holds those of other models; "
NOT_MADE = {
    "blt": _PARTS + "its model of bytes hashes n-grams into tables of 96 M weights",
    "dots3_note": _WHOLE + "its text model is dots3_note_text",
    "fuyu": _PARTS + "its text model is persimmon",
    "gemma3": _PARTS + "its text model is gemma3_text",
    "gemma3n": "its other parts need the package timm; its text model is gemma3n_text",
    "gemma4_assistant": "it drafts for another model, whose cache it reads",
    "gemma4_unified": _PARTS + "its text model is gemma4_unified_text",
    "gemma4_unified_assistant": "it drafts for another model, whose cache it reads",
    "got_ocr2": _PARTS + "its text model is qwen2",
    "moss_transcribe_diarize": _PARTS + "its text model is qwen3",
    "musicgen": _WHOLE + "it writes codes of sound",
    "musicgen_melody": _WHOLE + "it writes codes of sound",
}
"""Why no tiny model is made of a family."""


class NotMade(Exception):
    """A family of which no tiny model can be made. The message is the reason."""


def make(family: str) -> PreTrainedModel:
    """A model of a family, in float32; the same on every call. NotMade where there is none."""
    if family in NOT_MADE:
        raise NotMade(NOT_MADE[family])
    config_class = CONFIG_MAPPING[family]
    config = config_class(**_chosen(config_class) | _OWN.get(family, {}))
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if size > 7_000_000:
        raise NotMade(f"{size} weights")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    draw = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if weight.dim() > 1 or name.endswith(".A"):  # how much Doge's masks heed the values
            weight.data.normal_(0, 0.35, generator=draw)
    return model
