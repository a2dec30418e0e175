"""How one logit a row is left, without vLLM: what a GPU runs each step for our requests.

No wait for the device: nothing is read back, and scalars reach it as arguments of kernels, not as copies.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eager_lmeval.engine.sampling import Sampling, draw, passes

__all__ = ["leave_drawn"]


def leave_drawn(
    logits: Tensor,
    rows: NDArray[np.int64],
    draws: NDArray[np.float64],
    asked: NDArray[np.int64],
    sampling: Sampling,
) -> None:
    """Sets all but one logit of these ``rows`` (n,) of ``logits`` (all rows, vocab) to -inf.

    What is left of a row is the token that its draw (n,) picks, or, where one is ``asked`` for (n,; -1: none), that
    token if it passes the cuts, else the most likely one.
    """
    told = _on(np.stack([draws, rows.astype(np.float64), asked.astype(np.float64)]), logits.device)
    index = told[1].long()
    whole = len(rows) == len(logits) and bool((rows == np.arange(len(rows))).all())
    seen = logits if whole else logits.index_select(0, index)
    tokens = draw(seen, told[0], sampling)
    if (asked >= 0).any():
        of_question = told[2].long()
        kept = passes(seen, of_question.clamp(min=0), sampling)
        tokens = tokens.where(of_question < 0, of_question.where(kept, seen.argmax(dim=-1)))
    logits.index_fill_(0, index, -torch.inf)
    logits.index_put_((index, tokens), logits.new_zeros(()))


def _on(array: NDArray[np.float64], device: torch.device) -> Tensor:
    """A copy that the host does not wait for: from memory that is not paged, where the device is a GPU."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
