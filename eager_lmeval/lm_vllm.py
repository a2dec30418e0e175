"""The harness's model `eager-vllm`: its `vllm` with EAGER generation on vLLM. Imports vLLM, so only when asked for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from lm_eval.api.registry import register_model
from packaging.version import Version

from eager_lmeval import paths
from eager_lmeval.errors import UsageError
from eager_lmeval.harness.models import MEETS_AT_MODELS
from eager_lmeval.journal.identity import served_identity
from eager_lmeval.pools.model import EagerModel, Generation, processes, take_options
from eager_lmeval.pools.token_texts import TokenTexts
from eager_lmeval.processes.ranks import ALONE, HARNESS, Ranks

OLDEST = "0.32"
"""The release of vLLM that this was made with and is tested on: the first with both interfaces of `draws`."""


def _installed() -> Version:
    """The release of vLLM; UsageError where there is none, or one that is too old."""
    remedy = "pip install 'eager-lmeval[vllm]', or --model eager, which needs none"
    try:
        found = Version(version("vllm"))
    except PackageNotFoundError:
        raise UsageError(f"--model eager-vllm: there is no vLLM here; {remedy}") from None
    if found < Version(OLDEST):
        raise UsageError(f"--model eager-vllm: vLLM {found} is too old, {OLDEST} or newer is needed; {remedy}")
    return found


VERSION = _installed()

from lm_eval.models.utils import maybe_truncate  # noqa: E402 - after the check, whose message is clearer than theirs
from lm_eval.models.vllm_causallms import VLLM  # noqa: E402
from vllm import EngineArgs, envs  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402

from eager_lmeval.engine.vllm.orphans import announce  # noqa: E402
from eager_lmeval.pools.vllm_decoding import ServedDecoding, arguments_for  # noqa: E402

__all__ = ["EagerVLLM", "own_devices"]

LAUNCHER = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What launchers tell a process about the others, but for the names that begin with TORCHELASTIC_."""

_ARGUMENTS = (frozenset(inspect.signature(VLLM.__init__).parameters) - {"self", "kwargs"}) | frozenset(
    inspect.signature(EngineArgs).parameters
)


@register_model("eager-vllm")
class EagerVLLM(EagerModel, VLLM):
    """`vllm` whose `generate_until` is EAGER generation; everything else, loglikelihood included, is the harness's own.

    Takes the options of `options.Options`, all arguments of `VLLM`, and those of vLLM's engine. ``pretrained="demo"``
    is the embedded model, ``journal`` a folder in which finished prompts are kept (SPEC 9). Started as several
    processes (torchrun), each has an engine of vLLM, and all draw from one queue.
    """

    def __init__(self, pretrained: str, **kwargs: Any) -> None:
        given = take_options(pretrained, kwargs, _ARGUMENTS)
        identifying = dict(kwargs)
        arguments = arguments_for(given.options, kwargs, processes(), current_platform.is_cpu())
        folder = str(paths.demo_model_dir()) if pretrained == "demo" else pretrained
        seed = torch.initial_seed()
        announce()
        with _alone(_engine_size(arguments)):
            super().__init__(folder, **arguments)
        torch.manual_seed(seed)  # vLLM in this process has set its own, and ours is what the harness was given
        decoding = ServedDecoding(self.model.llm_engine, self.tokenizer, self.lora_request)
        decoding.devices = _engine_size(arguments)
        identity = self._model_identity(pretrained, identifying) if given.journal else {}
        self._eager = Generation(given, decoding, self._join_ranks(), identity, TokenTexts(self.tokenizer))

    def _model_identity(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        config = self.model.llm_engine.model_config
        return served_identity(config, self.tokenizer, name, arguments, arguments.get("lora_local_path"))

    def encode(self, context: str, room: int) -> list[int]:
        """Token ids of a prompt, as `vllm` makes and cuts them, so that ``room`` tokens are left."""
        ids: list[int] = self.tok_encode(context)
        kept: list[int]
        kept, _ = maybe_truncate(
            ids, max_gen_toks=room, max_model_len=self.max_length, side=self.truncation_side, verbose=False
        )
        self._eager.truncated_prompts += len(kept) < len(ids)
        return kept

    def get_model_info(self) -> dict[str, Any]:
        """As `EagerModel` says, with what of vLLM decides whether scores are the same in any batch."""
        info = super().get_model_info()
        info["eager"]["vllm"] = {"version": str(VERSION), "batch_invariant": bool(envs.VLLM_BATCH_INVARIANT)}
        return info

    def _join_ranks(self) -> Ranks:
        if processes() == 1:
            return ALONE
        if not MEETS_AT_MODELS:
            raise UsageError(
                f"eager-vllm as {processes()} processes needs lm_eval 0.4.12 or newer: pip install -U lm_eval, or "
                f"start one process"
            )
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return self._join()

    # What the harness lets ranks do together.

    def all_gather(self, tensor: Any) -> Any:
        self._eager.ranks.meet(HARNESS)
        return torch.cat([part.reshape(-1) for part in self._eager.ranks.gather(tensor.cpu())])

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        self._eager.ranks.meet(HARNESS)
        gathered = self._eager.ranks.gather(obj)
        return gathered if self._eager.ranks.rank == dst else None


def _engine_size(arguments: Mapping[str, Any]) -> int:
    """Devices of one engine."""
    return int(arguments.get("tensor_parallel_size") or 1) * int(arguments.get("pipeline_parallel_size") or 1)


@contextmanager
def _alone(devices: int) -> Iterator[None]:
    """While an engine of vLLM starts, its process is one of one, whatever launched it, and sees its own GPUs alone.

    vLLM and torch take a launcher's variables for their own: they would wait for ranks that never come.
    """
    several, local_rank = processes() > 1, int(os.environ.get("LOCAL_RANK", "0"))
    kept = {
        name: os.environ.pop(name) for name in list(os.environ) if name in LAUNCHER or name.startswith("TORCHELASTIC_")
    }
    if several and current_platform.is_cuda_alike():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        os.environ["CUDA_VISIBLE_DEVICES"] = own_devices(visible, local_rank, devices)
    try:
        yield
    finally:
        os.environ.update(kept)


def own_devices(visible: str, local_rank: int, devices: int) -> str:
    """The GPUs of one engine, in the form of ``CUDA_VISIBLE_DEVICES``; UsageError where there are too few.

    Where a process sees no more than it takes, they are its own: some launchers show each process its own GPUs alone.
    """
    there = [name for name in visible.split(",") if name]
    if len(there) == devices:
        return visible
    own = there[local_rank * devices : (local_rank + 1) * devices]
    if len(own) < devices:
        raise UsageError(
            f"process {local_rank} of this machine finds no GPUs of its own: {len(there)} are visible, and each engine "
            f"takes {devices} (tensor_parallel_size times pipeline_parallel_size); start at most "
            f"{len(there) // devices} processes a machine"
        )
    return ",".join(own)
