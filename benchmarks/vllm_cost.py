"""What eager-vllm's `parallel` would reach of vLLM's own throughput on a GPU, by a model of a step; not measured.

    python benchmarks/vllm_cost.py

What our processor does to a step's logits is counted: its operations run here on tensors without values, and say how
many there are and how many bytes they touch. What the GPU and vLLM take are assumptions, printed as a table with the
part of `make gpu-check` that measures each. With scheduling ahead of tokens a step takes as long as the slower of the
GPU and the host. The last line of stdout is one JSON document. Needs no vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.leaving import NEVER, Orders, leave_drawn

VOCAB = 151_936
MODEL_BYTES = 8.0e9
KEPT_BYTES = 2 * 36 * 8 * 128 * 2
"""Keys and values of a token: 36 layers, 8 heads of 128, bfloat16."""
SIZES = ((256, 1024), (256, 3200), (64, 13_000))
CUTS: dict[str, dict[str, Any]] = {"none": {}, "top_p": {"top_p": 0.95}}


class Assumption(NamedTuple):
    value: float
    unit: str
    what: str
    measured_by: str


ASSUMED = {
    "bandwidth": Assumption(3.8e12, "bytes/s", "memory of an H200, 80% of its peak", "draws: ms at 1,024 rows"),
    "kernel": Assumption(4e-6, "s", "the least that an operation takes on the GPU", "draws: ms at 1 row"),
    "dispatch": Assumption(5e-6, "s", "the host starts an operation", "draws: host_ms"),
    "passes_of_topk": Assumption(6, "", "times that topk reads its input", "draws: ms with top_p less without cuts"),
    "passes_of_sort": Assumption(16, "", "times that a sort reads or writes its input", "the same"),
    "sampler": Assumption(42, "bytes", "vLLM's sampler touches for a logit", "vllm: seconds of n"),
    "sampler_top_p": Assumption(24, "bytes", "more of it with top_p", "vllm: seconds of n"),
    "greedy": Assumption(10, "bytes", "vLLM's sampler touches for a logit of ours", "vllm: ratio"),
    "host_step": Assumption(2e-3, "s", "vLLM's host a step", "vllm: seconds of n at 1 k tokens"),
    "host_row": Assumption(8e-6, "s", "vLLM's host a row", "vllm: seconds of n at 1 k tokens"),
    "our_row": Assumption(
        0.25e-6, "s", "our Python a row, of the processor", "draws: host_ms (benchmarks/vllm_host.py)"
    ),
}


PASSES = {"topk": "passes_of_topk", "sort": "passes_of_sort"}


class Counted(TorchDispatchMode):
    """Operations on the device, and the bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[float] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        returned = func._schema.returns
        only_looks = returned and all(one.alias_info is not None and not one.alias_info.is_write for one in returned)
        given, given_back = _bytes(args), _bytes(made)
        if not only_looks and given + given_back:
            name = func.overloadpacket.__name__
            if name in PASSES:
                self.bytes.append(ASSUMED[PASSES[name]].value * given)
            elif name in ("gather", "index_select"):  # reads what it makes
                self.bytes.append(2 * given_back)
            elif name in ("index_put_", "index_fill_"):  # writes, reads nothing
                self.bytes.append(_bytes(args[1]) if name == "index_put_" else given)
            else:
                self.bytes.append(given + given_back)
        return made


def _bytes(tensors: Any) -> int:
    on_device = {id(one): one for one in tree_leaves(tensors) if isinstance(one, Tensor) and one.is_meta}
    return sum(one.numel() * one.element_size() for one in on_device.values())


def processor(rows: int, cuts: dict[str, Any]) -> list[float]:
    """Bytes of each operation of our processor, where no row may split."""
    logits = torch.empty((rows, VOCAB), device="meta")
    every = np.arange(rows)
    orders = Orders(
        every, np.linspace(0, 0.99, rows), np.full(rows, -1), np.zeros(rows, dtype=int), np.full(rows, NEVER)
    )
    with Counted() as counted:
        leave_drawn(logits, orders, Sampling(0.6, **cuts))
    return counted.bytes


def seconds(operations: list[float]) -> float:
    return sum(max(size / ASSUMED["bandwidth"].value, ASSUMED["kernel"].value) for size in operations)


def estimates() -> Iterator[dict[str, Any]]:
    of = {name: assumption.value for name, assumption in ASSUMED.items()}
    for rows, tokens in SIZES:
        forward = (MODEL_BYTES + rows * tokens / 2 * KEPT_BYTES) / of["bandwidth"]
        logit = rows * VOCAB / of["bandwidth"]
        host = of["host_step"] + rows * of["host_row"]
        for name, cuts in CUTS.items():
            ours = processor(rows, cuts)
            theirs_s = max(forward + logit * (of["sampler"] + (of["sampler_top_p"] if cuts else 0)), host)
            gpu_s = forward + logit * of["greedy"] + seconds(ours)
            host_s = host + rows * of["our_row"] + len(ours) * of["dispatch"]
            yield {
                "rows": rows,
                "tokens": tokens,
                "cuts": name,
                "vllm_ms": 1000 * theirs_s,
                "forward_ms": 1000 * forward,
                "draws_ms": 1000 * seconds(ours),
                "host_ms": 1000 * host_s,
                "operations": len(ours),
                "bytes_a_logit": sum(ours) / rows / VOCAB,
                "ratio": theirs_s / max(gpu_s, host_s),
            }


def main() -> None:
    for name, one in ASSUMED.items():
        print(f"{name:<16}{one.value:>10.3g} {one.unit:<8} {one.what:<46} gpu-check, {one.measured_by}")
    found = list(estimates())
    print()
    for line in found:
        print(
            f"{line['rows']:>4} rows of {line['tokens']:>6} tokens, {line['cuts']:<6} vLLM {line['vllm_ms']:6.2f} ms   "
            f"draws {line['draws_ms']:5.2f} ms ({line['operations']} operations, {line['bytes_a_logit']:.0f} bytes a "
            f"logit)   host {line['host_ms']:5.2f} ms   ratio {line['ratio']:.2f}"
        )
    print(json.dumps({"assumed": {name: one.value for name, one in ASSUMED.items()}, "found": found}))


if __name__ == "__main__":
    main()
