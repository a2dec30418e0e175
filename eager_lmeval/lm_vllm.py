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
from eager_lmeval.journal.identity import served_identity
from eager_lmeval.pools.model import EagerModel, processes
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
from vllm import EngineArgs  # noqa: E402

from eager_lmeval.engine.vllm.draws import NAME  # noqa: E402
from eager_lmeval.pools.served import ServedDecoding, arguments_for  # noqa: E402

__all__ = ["EagerVLLM"]

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
        self._take_options(pretrained, kwargs, _ARGUMENTS)
        identifying = dict(kwargs)
        arguments = arguments_for(self._given, kwargs, processes())
        folder = str(paths.demo_model_dir()) if pretrained == "demo" else pretrained
        seed = torch.initial_seed()
        with _without_launcher():
            super().__init__(folder, **arguments)
        torch.manual_seed(seed)  # vLLM in this process has set its own, and ours is what the harness was given
        engine = self.model.llm_engine
        decoding = ServedDecoding(engine, self.tokenizer, self.lora_request)
        identity = served_identity(engine.model_config, self.tokenizer, pretrained, identifying) if self._journal else {}
        self._begin(decoding, self._join_ranks(), identity)

    def encode(self, context: str, room: int) -> list[int]:
        """Token ids of a prompt, as `vllm` makes and cuts them, so that ``room`` tokens are left."""
        ids: list[int] = self.tok_encode(context)
        kept, _ = maybe_truncate(
            ids, max_gen_toks=room, max_model_len=self.max_length, side=self.truncation_side, verbose=False
        )
        self._truncated_prompts += len(kept) < len(ids)
        return kept

    def _join_ranks(self) -> Ranks:
        if processes() == 1:
            return ALONE
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return self._join(torch.distributed.get_rank(), torch.distributed.get_world_size())

    # What the harness lets ranks do together.

    def all_gather(self, tensor: Any) -> Any:
        self._ranks.meet(HARNESS)
        return torch.cat([part.reshape(-1) for part in self._ranks.gather(tensor.cpu())])

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        self._ranks.meet(HARNESS)
        gathered = self._ranks.gather(obj)
        return gathered if self._ranks.rank == dst else None
