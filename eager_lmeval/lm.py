"""The harness's model `eager`: its `hf` with EAGER generation on transformers. Knows no logits and no caches."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
from lm_eval.api.registry import register_model

from eager_lmeval import paths
from eager_lmeval.errors import UsageError
from eager_lmeval.harness.models import HFLM
from eager_lmeval.journal.identity import model_identity
from eager_lmeval.pools.decoding import ModelDecoding
from eager_lmeval.pools.model import EagerModel, Generation, processes, take_options
from eager_lmeval.pools.token_texts import TokenTexts
from eager_lmeval.processes.ranks import ALONE, HARNESS, Ranks

__all__ = ["EagerLM"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

_HF_ARGUMENTS = frozenset(inspect.signature(HFLM.__init__).parameters) - {"self", "kwargs"}


@register_model("eager")
class EagerLM(EagerModel, HFLM):
    """`hf` whose `generate_until` is EAGER generation; everything else, loglikelihood included, is the harness's own.

    Takes the options of `options.Options` and all arguments of `HFLM`. ``pretrained="demo"`` is the embedded model,
    ``journal`` a folder in which finished prompts are kept (SPEC 9). Started as several processes (accelerate launch,
    torchrun), each has the model, and all draw from one queue.
    """

    def __init__(self, pretrained: str | Any, **kwargs: Any) -> None:
        name = pretrained if isinstance(pretrained, str) else type(pretrained).__name__
        _refuse_two_parallelisms(kwargs)
        given = take_options(name, kwargs, _HF_ARGUMENTS)
        identifying = dict(kwargs)
        kwargs["device"] = _device(kwargs.get("device"))
        super().__init__(str(paths.demo_model_dir()) if pretrained == "demo" else pretrained, **kwargs)
        decoding = ModelDecoding(self.model, self.tokenizer, self.mixed_precision_dtype, self.max_length)
        identity = model_identity(self.model, self.tokenizer, name, identifying) if given.journal else {}
        self._eager = Generation(given, decoding, self._join_ranks(), identity, TokenTexts(self.tokenizer))

    def _join_ranks(self) -> Ranks:
        """`hf` takes its rank from accelerate only where it sees several GPUs, and then the one within the node."""
        accelerator = getattr(self, "accelerator", None)
        if accelerator is None or accelerator.num_processes == 1:
            if processes() > 1:
                raise UsageError(
                    f"this is one of {processes()} processes, of whose others accelerate does not know, so each would "
                    f"run everything; on CPUs start them with ACCELERATE_USE_CPU=true, on GPUs with accelerate launch"
                )
            return ALONE
        self.meet_here()
        return self._join()

    # What the harness lets ranks do together: they wait for each other here, not in a collective that may time out.

    def all_gather(self, tensor: Any) -> Any:
        self._eager.ranks.meet(HARNESS)
        return super().all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        self._eager.ranks.meet(HARNESS)
        return super().gather_object(obj, dst)

    def encode(self, context: str, room: int) -> list[int]:
        """Token ids of a prompt, as `hf` makes them; with ``truncation=True`` the last that leave ``room`` tokens."""
        if not context:
            return []
        ids: list[int] = self.tok_batch_encode([context])[0][0].tolist()
        longest = self.max_length - room
        if self.truncation and len(ids) > longest:
            self._eager.truncated_prompts += 1
            ids = ids[-longest:]
        return ids


def _refuse_two_parallelisms(arguments: Mapping[str, Any]) -> None:
    if processes() == 1:
        return
    for name in ("parallelize", "tp_plan"):
        if arguments.get(name):
            raise UsageError(
                f"{name}={arguments[name]} with {processes()} processes: eager gives each process the whole model; "
                f"leave {name} out, or start one process and give parallelize=True to spread one model over its GPUs"
            )


def _device(asked: str | None) -> str:
    """The device to load on. The harness asks for ``cuda:0`` when its user asked for nothing."""
    if torch.cuda.is_available():
        return asked or "cuda"
    if asked and asked.startswith("cuda"):
        log.warning("there is no CUDA device here: running on the CPU instead of %s", asked)
        return "cpu"
    return asked or "cpu"
