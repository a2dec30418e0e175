"""How one logit a row is left, without vLLM: what a GPU runs each step for our requests.

No wait for the device: nothing is read back, and scalars reach it as arguments of kernels, not as copies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eager_lmeval.engine.drawing import draw, draw_mostly, entropies, passes
from eager_lmeval.engine.sampling import Sampling

__all__ = ["NEVER", "Orders", "leave_drawn"]

NEVER = float("inf")
"""The entropy at which a row calls that is not to call for being uncertain."""


class Orders(NamedTuple):
    """What is to be left of some rows of a step, which sample alike; each field is (n,)."""

    rows: NDArray[np.int64]
    draws: NDArray[np.float64]
    """In [0, 1): each picks a token."""
    asked: NDArray[np.int64]
    """A token to be left instead if it passes the cuts, else the most likely one; -1: none. Who asks never calls."""
    signal: NDArray[np.int64]
    """The token that is left where a row calls the host; -1: it never does. It calls where its logits make no
    distribution, where its entropy reaches the next field, and, hardly ever, where its token takes too long to find."""
    opens_at: NDArray[np.float64]
    """In nats, or `NEVER`."""


def leave_drawn(logits: Tensor, orders: Orders, sampling: Sampling) -> None:
    """Sets all but one logit of each ordered row of ``logits`` (all rows, vocab) to -inf."""
    can_call = orders.signal >= 0
    if can_call.any() and not can_call.all():
        for which in (can_call, ~can_call):
            leave_drawn(logits, Orders._make(field[which] for field in orders), sampling)
        return
    rows = orders.rows
    told = _on(np.stack([field.astype(np.float64) for field in orders]), logits.device)  # (fields, n)
    index = told[0].long()
    whole = len(rows) == len(logits) and bool((rows == np.arange(len(rows))).all())
    seen = logits if whole else logits.index_select(0, index)
    if can_call.any():
        signal = told[3].long()
        tokens, settled = draw_mostly(seen, told[1], sampling)
        tokens = tokens.where(settled & ~_calling(seen, orders, told[4], sampling), signal)
    else:
        tokens = draw(seen, told[1], sampling)
    if (orders.asked >= 0).any():
        of_question = told[2].long()
        kept = passes(seen, of_question.clamp(min=0), sampling)
        tokens = tokens.where(of_question < 0, of_question.where(kept, seen.argmax(dim=-1)))
    logits.index_fill_(0, index, -torch.inf)
    logits.index_put_((index, tokens), logits.new_zeros(()))


def _calling(seen: Tensor, orders: Orders, opens_at: Tensor, sampling: Sampling) -> Tensor:
    """Which rows call the host. (n, vocab), (n,) on the device -> (n,)"""
    calling = ~seen.amax(dim=-1).isfinite()
    opening = np.flatnonzero(orders.opens_at < NEVER)
    if not len(opening):
        return calling
    places = _on(opening, seen.device)
    uncertain = entropies(seen.index_select(0, places), sampling) >= opens_at.index_select(0, places)
    return calling.index_put((places,), uncertain, accumulate=False) | calling


def _on(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy that the host does not wait for: from memory that is not paged, where the device is a GPU."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
