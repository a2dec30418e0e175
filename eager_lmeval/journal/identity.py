"""What determines a result, as the journal's keys (SPEC 9): the model, its tokenizer, the prompt, the options."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine.thinking import Thinking
from eager_lmeval.journal.journal import fingerprint

__all__ = ["model_identity", "prompt_key", "served_identity"]

IRRELEVANT = frozenset(
    {
        # where and how fast the model runs
        *("batch_size", "device", "logits_cache", "max_batch_size", "max_cpu_memory", "max_memory_per_gpu"),
        *("offload_folder", "parallelize", "trust_remote_code"),
        # the same of vLLM's engine
        *("async_scheduling", "block_size", "cpu_offload_gb", "data_parallel_size", "disable_log_stats"),
        *("distributed_executor_backend", "enable_chunked_prefill", "enable_prefix_caching", "enforce_eager"),
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "max_logprobs", "max_lora_rank"),
        *("max_num_batched_tokens", "max_num_seqs", "pipeline_parallel_size", "tensor_parallel_size"),
        *("enable_sleep_mode", "num_gpu_blocks_override", "scheduling_policy"),
        # how a prompt becomes token ids and how many may follow, which stand in its key
        *("add_bos_token", "chat_template_args", "enable_thinking", "max_length", "max_model_len", "prefix_token_id"),
        *("truncation", "truncation_side"),
        # an option, which stands in the key as what it resolves to; and what loglikelihoods alone need
        *("think_end_token", "softmax_dtype"),
    }
)
"""Arguments that change no answer to a given list of token ids."""

NOT_OF_STAGE_1 = frozenset({"extra_cap", "threshold_decay"})
"""Options of stage 2. How much is granted, and how θ falls then, stands in the name of the part."""
NOT_OF_A_TREE = frozenset(
    {
        *("max_rows", "preset", "label", "verifier", "respond", "do_sample", "max_gen_toks", "think_end_token"),
        *("first_lanes", "settled_at"),  # but of `consistency`
    }
)
"""What changes no sequence: labels and votes decide grants; or what stands in the key as what it resolves to."""
OF_BRANCHING = frozenset(
    {
        *("max_sequences", "branching", "fan_out", "entropy_threshold", "think_gate"),
        *("count", "branch_window", "dynamic_percentile"),
    }
)
"""What independent roots do not depend on."""
ONCE_AN_OPTION = {"tie_margin": "auto"}
"""What keys of earlier releases hold besides, so that their journals go on serving."""
SAMPLED = 64
"""Values taken of each weight, or pieces and their bytes of each file of weights, evenly spread."""
_OF_THE_BATCH = ("padding", "truncation")
_OF_THE_FILE = ("_name_or_path", "transformers_version")

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


def model_identity(model: PreTrainedModel, tokenizer: Any, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON data that is equal for equal models. Another checkpoint under the same name has other weights."""
    own = {"attention": str(model.config._attn_implementation), "weights": _weights_digest(model)}
    return own | _common_identity(model.config, tokenizer, name, arguments)


def served_identity(
    config: Any, tokenizer: Any, name: str, arguments: Mapping[str, Any], adapter: str | None = None
) -> dict[str, Any]:
    """As `model_identity`, of a model that vLLM serves by this configuration (its ``ModelConfig``).

    Its weights are in vLLM's workers, so the files of a local folder are looked at; a model of the hub has its commit.
    ``adapter`` is a folder too.
    """
    folders = [Path(folder) for folder in (config.model, adapter) if folder is not None]
    weights = [_files_digest(folder) for folder in folders if folder.is_dir()]
    own = {"engine": "vllm", "dtype": str(config.dtype), "weights": weights}
    return own | _common_identity(config.hf_config, tokenizer, name, arguments)


def _common_identity(config: Any, tokenizer: Any, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "arguments": {key: str(value) for key, value in sorted(arguments.items()) if key not in IRRELEVANT},
        "commit": str(getattr(config, "_commit_hash", None)),
        "config": {key: str(value) for key, value in config.to_dict().items() if key not in _OF_THE_FILE},
        "tokenizer": _tokenizer_digest(tokenizer),
    }


def prompt_key(
    model: Mapping[str, Any], prompt: Prompt, options: Options, eos_ids: Iterable[int], thinking: Thinking | None
) -> str:
    """The journal's key of a prompt under these options.

    Options that cannot change what it names are left out, so that runs share what they have in common: stage 1 of
    `init`, `adapt` and `eager` is one tree, and a root of `parallel` is the same whatever M is.
    """
    chosen = ONCE_AN_OPTION | options.model_dump(mode="json", exclude=set(NOT_OF_STAGE_1 | NOT_OF_A_TREE))
    if options.strategy in ("parallel", "consistency"):
        chosen = {name: value for name, value in chosen.items() if name not in OF_BRANCHING}
        if options.strategy == "consistency":
            chosen |= {"verifier": options.verifier} | asdict(options.race)
    else:
        chosen["strategy"] = "one root"
    chosen |= {name: None for name, off in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0)) if chosen[name] == off}
    return fingerprint(
        {
            "model": model,
            "eos": sorted(eos_ids),
            "thinking": None if thinking is None else vars(thinking),
            "task": prompt.task,
            "context": prompt.context,
            "token_ids": prompt.token_ids,
            "max_new_tokens": prompt.max_new_tokens,
            "options": chosen,
        }
    )


def _weights_digest(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    unseen = 0
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode())
        unseen += weight.device.type == "meta"
        if weight.device.type != "meta" and weight.numel():
            flat = weight.detach().flatten()
            places = torch.linspace(0, flat.numel() - 1, min(SAMPLED, flat.numel()), dtype=torch.float64).long()
            sample = flat[places.to(flat.device)].cpu().contiguous()
            digest.update(sample.view(torch.uint8).numpy().tobytes())
    if unseen:
        log.warning("journal: %d weights are offloaded and not looked at; do not change them under one name", unseen)
    return digest.hexdigest()[:32]


def _files_digest(folder: Path) -> str:
    """Of the files that hold weights: their names, sizes, beginnings, and as much at places evenly spread."""
    digest = hashlib.sha256()
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.gguf"))):
        size = path.stat().st_size
        digest.update(f"{path.name} {size};".encode())
        with path.open("rb") as file:
            for number in range(SAMPLED):
                file.seek(number * size // SAMPLED)
                digest.update(file.read(SAMPLED))
    return digest.hexdigest()[:32]


def _tokenizer_digest(tokenizer: Any) -> str:
    """Of everything that makes texts of ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        parts = {name: part for name, part in json.loads(backend.to_str()).items() if name not in _OF_THE_BATCH}
    else:
        added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        parts = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab(), "added": added}
    parts["cleans_up"] = getattr(tokenizer, "clean_up_tokenization_spaces", None)
    return fingerprint(parts)
