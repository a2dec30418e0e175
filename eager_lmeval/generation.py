"""Trees without the harness: prompts in, trees out, for one's own loop, a notebook, or rollouts."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any

import torch

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.strategy import Judge
from eager_lmeval.algorithm.tree import Sequence, Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.decoding import ModelDecoding
from eager_lmeval.pools.labels import make_judge, read_labels
from eager_lmeval.pools.marks import COLUMN
from eager_lmeval.pools.requests import Pool, Request, make_pools
from eager_lmeval.pools.run import grow_pool
from eager_lmeval.pools.vote import elect, get_classify, get_voter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["generate", "vote"]

_TASK = "generate"
"""What the prompts' random streams and errors call the pool."""
_OF_DOCUMENTS = {
    "label": "give labels=, one a prompt",
    "respond": "take eager_lmeval.vote(tree, verifier) for the winner of a vote",
}
"""Options that only the harness's documents and responses give a meaning."""


def generate(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Seq[str],
    *,
    labels: Seq[str] | None = None,
    max_length: int | None = None,
    **options: Any,
) -> list[Tree]:
    """Grows one tree a prompt, by the same strategies and options as ``--model eager``; all prompts share one budget.

    ``prompts`` are whole texts: apply the chat template before. ``options`` are those of `Options` (``strategy``,
    ``max_sequences``, ``entropy_threshold``, ``temperature``, ``max_gen_toks``, …); ``seed`` defaults to torch's.
    ``labels``, one a prompt, are for ``strategy="eager"`` alone. ``max_length``: the model's context in tokens, if its
    configuration does not say. The same prompt twice with one seed gives the same tree twice.

    Returns the trees in the prompts' order: their sequences with text, tokens, entropies (nats), weights. The model
    runs where it is, in evaluation mode and without gradients, and is left in the mode that it was in. Raises
    UsageError, before anything is generated, for an option, prompt or label that is not accepted.
    """
    for name, instead in _OF_DOCUMENTS.items():
        if name in options:
            raise UsageError(f"{name}={options[name]!r} is for tasks of the harness; {instead}")
    if isinstance(prompts, str):
        raise UsageError("prompts should be a list of texts, and this is one text: put it into a list")
    pool = _pool(model, tokenizer, prompts, max_length, options)
    if pool is None:
        return []
    judge = _judge(pool, labels)
    classify = get_classify(_TASK, pool.options)
    was_training = model.training
    model.train(False)
    decoding = ModelDecoding(model, tokenizer, None, max_length or _context(model, tokenizer))
    try:
        engine = decoding.engine(pool.options)
        return grow_pool(pool.prompts, pool.options, engine, judge, classify=classify).trees
    finally:
        decoding.release()
        model.train(was_training)


def vote(tree: Tree, verifier: str = "math") -> Sequence | None:
    """The first sequence of the class of equal answers with the most weight (SPEC 7), no label needed.

    ``verifier`` says which answers are equal. None where no sequence has an answer; UsageError for a verifier that
    needs labels to tell.
    """
    voter = get_voter("vote", resolve({"respond": "vote", "verifier": verifier}))
    assert voter is not None, "respond=vote has a voter"
    elected = elect(tree, tree.to_record(), voter)
    return None if elected is None else tree.sequences[elected]


class _Encoder:
    """Prompts as token ids; a text that begins with the BOS token gets no second one."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self.max_length = max_length

    def encode(self, context: str, room: int) -> list[int]:
        bos = getattr(self._tokenizer, "bos_token", None)
        more = {"add_special_tokens": False} if bos and context.startswith(bos) else {}
        ids: list[int] = self._tokenizer(context, **more)["input_ids"] if context else []
        return ids


def _pool(
    model: PreTrainedModel, tokenizer: Any, prompts: Seq[str], max_length: int | None, options: dict[str, Any]
) -> Pool | None:
    resolve(options)  # says what is wrong with an option even where there are no prompts
    requests = [Request(_TASK, place, 1, text, {}, {}, reads_tree=True) for place, text in enumerate(prompts)]
    encoder = _Encoder(tokenizer, max_length or _context(model, tokenizer))
    return next(iter(make_pools(requests, options, torch.initial_seed(), encoder)), None)


def _context(model: PreTrainedModel, tokenizer: Any) -> int:
    configured = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = [length for length in (configured, tokenizer.model_max_length) if length and length < 1e9]
    if not known:
        raise UsageError("neither the model nor its tokenizer says how long its context is; give max_length")
    return int(known[0])


def _judge(pool: Pool, labels: Seq[str] | None) -> Judge | None:
    if pool.options.strategy != "eager":
        if labels is not None:
            raise UsageError(f"labels are read by strategy=eager alone, and this is strategy={pool.options.strategy}")
        return None
    if labels is None or len(labels) != len(pool.prompts):
        came = "none came" if labels is None else f"{len(labels)} came"
        raise UsageError(f"strategy=eager needs labels, one for each of the {len(pool.prompts)} prompts, and {came}")
    documents = [(prompt, {COLUMN: {"label": str(label)}}) for prompt, label in zip(pool.prompts, labels, strict=True)]
    return make_judge(_TASK, read_labels(documents, pool.options), pool.options)
