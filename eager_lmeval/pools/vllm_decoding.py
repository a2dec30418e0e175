"""From resolved options to an engine on vLLM, and what vLLM must be started with for that."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from vllm import envs

from eager_lmeval.algorithm.options import Options
from eager_lmeval.engine.vllm.draws import NAME
from eager_lmeval.engine.vllm.loop import Engine
from eager_lmeval.engine.vllm.reading import number_of_logprobs
from eager_lmeval.engine.vllm.server import Server
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.decoding import Decoding, OnStep, sampling_of

__all__ = ["ServedDecoding", "arguments_for"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

REFUSED = {
    "speculative_config": "drafted tokens would be drawn by other rules than those that make results reproducible",
    "enable_batch_sharded_sampling": "it draws where the processor that makes results reproducible does not run",
    "logits_processors": "eager-vllm draws from the model's own logits",
    "disable_log_stats": "from them eager-vllm knows which tokens were computed again",
}
"""Arguments of vLLM that cannot be served, and why."""

SEQUENCES = 256
"""`max_num_seqs` where none is given. vLLM's own choice, 1,024 on large GPUs, is made without our draws' memory."""

CPU_BLOCK = 32
"""Tokens of a block of keys and values on a CPU, where vLLM's own choice is 128: a fork shares whole blocks, and what
it has of the last one is computed again."""


def arguments_for(
    options: Mapping[str, Any], arguments: Mapping[str, Any], processes: int, on_cpu: bool
) -> dict[str, Any]:
    """The arguments that the harness's `vllm` is made with; UsageError for what cannot be served.

    ``options`` are ours that stand in ``--model_args``, ``arguments`` what else stands there.
    """
    for name, reason in REFUSED.items():
        if arguments.get(name):
            raise UsageError(f"{name}={arguments[name]}: {reason}; leave {name} out")
    if (mode := arguments.get("logprobs_mode", "raw_logprobs")) != "raw_logprobs":
        raise UsageError(
            f"logprobs_mode={mode}: entropies are of the raw log-probabilities; leave logprobs_mode out "
            f"(entropy_of=tempered takes them after the temperature)"
        )
    if (engines := int(arguments.get("data_parallel_size") or 1)) > 1:
        raise UsageError(
            f"data_parallel_size={engines}: eager-vllm has one engine a process, and all processes draw from one queue "
            f"and one budget; leave it out and start {engines} processes: torchrun --nproc-per-node {engines} -m "
            f"lm_eval run …"
        )
    if processes > 1 and not envs.VLLM_ENABLE_V1_MULTIPROCESSING:
        raise UsageError(
            f"VLLM_ENABLE_V1_MULTIPROCESSING=0 with {processes} processes: vLLM's engine needs a process of its own "
            f"then; leave the variable out"
        )
    if arguments.get("enable_prefix_caching", True) is False:
        log.warning("enable_prefix_caching=False: every fork computes its whole prefix again")
    most = int(options.get("entropy_top_k", 20))
    own: dict[str, Any] = {"max_logprobs": max(20, most), "max_num_seqs": SEQUENCES, "scheduling_policy": "priority"}
    if on_cpu:
        own["block_size"] = CPU_BLOCK
    return (
        own
        | {name: value for name, value in arguments.items() if name not in REFUSED}
        | {"logits_processors": [NAME], "disable_log_stats": False}
    )


class ServedDecoding(Decoding):
    """One engine of vLLM, and the adapter (LoRA) that its requests use."""

    def __init__(self, engine: Any, tokenizer: Any, lora: Any = None) -> None:
        super().__init__(tokenizer, (engine.model_config.try_get_generation_config() or {}).get("eos_token_id"))
        self._engine = engine
        self._lora = lora

    @property
    def slots(self) -> int:
        """Sequences that vLLM decodes at once."""
        return int(self._engine.vllm_config.scheduler_config.max_num_seqs)

    @property
    def vocabulary(self) -> int:
        return int(self._engine.model_config.get_vocab_size())

    def engine(self, options: Options, on_step: OnStep = lambda engine: None) -> Engine:
        sampling = sampling_of(options)
        # A special token among the stop strings is an EOS; others are looked for token by token.
        whole = set(options.until) <= {*self._tokenizer.all_special_tokens, ""}
        server = Server(self._engine, sampling, self.eos_ids(options), whole, self._lora)
        self._check(options, number_of_logprobs(sampling, server.vocabulary))
        limit = self.slots if options.max_rows == "auto" else min(options.max_rows, self.slots)
        # A percentile over all that a prompt has decoded so far (SPEC 3.1) needs all of it, if more runs may follow.
        reads_all = options.dynamic_percentile is not None and options.strategy not in ("parallel", "init")
        return Engine(server, self.stopper(options), sampling, options.seed, limit, on_step, reads_all)

    def release(self) -> None:
        """vLLM keeps what it has."""

    def _check(self, options: Options, logprobs: int) -> None:
        most = self._engine.model_config.max_logprobs
        if -1 != most < logprobs:
            raise UsageError(
                f"max_logprobs={most} is below entropy_top_k={options.entropy_top_k}: the entropy is of the {logprobs} "
                f"largest log-probabilities that vLLM reports; give max_logprobs={logprobs} in --model_args"
            )
        gated = options.strategy != "parallel" and options.branching == "top2"
        if gated and options.max_sequences > self.slots:
            raise UsageError(
                f"max_sequences={options.max_sequences} is above max_num_seqs={self.slots}, the sequences that vLLM "
                f"decodes at once, and behind an open gate those of one prompt wait for each other; give "
                f"max_num_seqs={options.max_sequences} or more in --model_args, or fewer max_sequences"
            )
