"""The logits processor draws as SPEC 4 says, through both interfaces of vLLM's runners."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.sample.logits_processor import LogitsProcessor as BatchProcessor
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SlotProcessor

from eager_lmeval.algorithm.streams import uniforms
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.vllm.draws import DrawRequest, EagerDraws

VOCAB = 300
HOT = Sampling(1.3)
CUT = Sampling(0.7, top_k=40, top_p=0.9, min_p=0.01)


def logits(rows: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn((rows, VOCAB), generator=torch.Generator().manual_seed(seed))


def params(order: DrawRequest | None) -> SamplingParams:
    return SamplingParams(temperature=0.0, extra_args=None if order is None else order.extra_args())


def expected(row: torch.Tensor, order: DrawRequest, step: int) -> int:
    """What the engine on transformers reads off the same logits."""
    (u,) = uniforms(np.array([order.key], dtype=np.uint64), np.array([step], dtype=np.uint64))
    target = torch.tensor([(order.stratum + u) / order.strata])
    return read(row[None], target, order.sampling)[0].token


def batch(added: list[Any], removed: tuple[int, ...] = (), moved: list[Any] | None = None) -> BatchUpdate:
    return BatchUpdate(batch_size=8, removed=removed, added=added, moved=moved or [])


def left(result: torch.Tensor) -> list[int | None]:
    """The one token that is left of each row; None for a row that was not touched."""
    finite = result.isfinite()
    return [int(row.nonzero()) if row.sum() == 1 else None for row in finite]


ORDERS = [
    DrawRequest(2**64 - 1, 5, HOT),
    DrawRequest(17, 5, CUT),
    None,
    DrawRequest(18, 3, HOT, stratum=2, strata=3),
    DrawRequest(19, 4, CUT, stratum=0, strata=4),
]
"""Draws by two kinds of sampling, and a request of somebody else."""
TOKENS_SO_FAR = [9, 6, 7, 3, 12]
"""Prompt and generated ones, of each request."""


def by_batch(seen: torch.Tensor) -> torch.Tensor:
    """The runner that keeps a batch: two of the tokens so far came in as output, as far as there are two."""
    processor = EagerDraws(None, torch.device("cpu"), False)
    added = []
    for row, (order, length) in enumerate(zip(ORDERS, TOKENS_SO_FAR, strict=True)):
        came = min(2, length - (order.prompt_tokens if order else 0))
        added.append((row, params(order), [0] * (length - came), [0] * came))
    processor.update_state(batch(added))
    return processor.apply(seen)


def by_slots(seen: torch.Tensor) -> torch.Tensor:
    """The runner that keeps slots: the batch stands in another order than the slots."""
    processor = EagerDraws(SimpleNamespace(), SimpleNamespace(device=torch.device("cpu"), max_num_reqs=16))
    slots = [7, 2, 0, 5, 11]
    for slot, order in zip(slots, ORDERS, strict=True):
        assert processor.add_request(slot, params(order)) == (order is not None)
    processor.apply_staged_writes()
    context = SimpleNamespace(
        idx_mapping_np=np.array(slots, dtype=np.int32),
        seq_lens_upper_bound_np=np.array(TOKENS_SO_FAR, dtype=np.int32),
    )
    return processor.apply(seen, context)


@pytest.mark.parametrize("run", [by_batch, by_slots])
def test_what_is_left_is_what_eager_draws(run: Any) -> None:
    for seed in range(20):
        seen = logits(len(ORDERS), seed)
        tokens = left(run(seen.clone()))
        for row, (order, length) in enumerate(zip(ORDERS, TOKENS_SO_FAR, strict=True)):
            if order is None:
                assert tokens[row] is None
            else:
                assert tokens[row] == expected(seen[row], order, length - order.prompt_tokens)


def test_it_is_a_processor_of_both_runners() -> None:
    assert issubclass(EagerDraws, BatchProcessor)
    assert issubclass(EagerDraws, SlotProcessor)


def test_requests_of_others_keep_their_logits() -> None:
    seen = logits(len(ORDERS))
    for run in (by_batch, by_slots):
        assert run(seen.clone())[2].equal(seen[2])


def test_output_tokens_are_looked_at_anew_in_every_step() -> None:
    processor = EagerDraws(None, torch.device("cpu"), False)
    order, output = DrawRequest(3, 4, HOT), []
    processor.update_state(batch([(0, params(order), [0] * 4, output)]))
    for step in range(5):
        seen = logits(1, seed=step)
        assert left(processor.apply(seen.clone())) == [expected(seen[0], order, step)]
        processor.update_state(None)
        output.append(1)


def test_a_prefix_that_holds_generated_tokens_draws_what_follows_them() -> None:
    """Issued again, or preempted: the same token comes whichever part of the prefix is called output."""
    order, seen = DrawRequest(3, 4, HOT), logits(1)
    for came in range(4):
        processor = EagerDraws(None, torch.device("cpu"), False)
        processor.update_state(batch([(0, params(order), [0] * (10 - came), [0] * came)]))
        assert left(processor.apply(seen.clone())) == [expected(seen[0], order, 6)]


def test_rows_that_move_keep_their_orders() -> None:
    processor = EagerDraws(None, torch.device("cpu"), False)
    first, second, third = (DrawRequest(key, 2, HOT) for key in (1, 2, 3))
    rows = [(row, params(order), [0, 0], []) for row, order in enumerate((first, second, third))]
    processor.update_state(batch(rows))
    processor.update_state(batch([], moved=[(0, 1, MoveDirectionality.SWAP)]))
    seen = logits(3)
    assert left(processor.apply(seen.clone())) == [
        expected(row, order, 0) for row, order in zip(seen, (second, first, third), strict=True)
    ]
    processor.update_state(batch([], removed=(0,), moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    assert left(processor.apply(seen[:2].clone())) == [expected(seen[0], third, 0), expected(seen[1], first, 0)]
    processor.update_state(batch([(1, params(None), [0, 0], [])]))
    assert left(processor.apply(seen[:2].clone())) == [expected(seen[0], third, 0), None]


def test_a_slot_forgets_its_last_request() -> None:
    processor = EagerDraws(SimpleNamespace(), SimpleNamespace())
    assert processor.add_request(4, params(DrawRequest(1, 2, HOT)))
    assert not processor.add_request(4, params(None))
    seen = logits(1)
    context = SimpleNamespace(idx_mapping_np=np.array([4]), seq_lens_upper_bound_np=np.array([3]))
    assert processor.apply(seen.clone(), context).equal(seen)


def test_a_row_in_the_middle_of_its_prefix_is_no_error() -> None:
    processor = EagerDraws(SimpleNamespace(), SimpleNamespace())
    processor.add_request(0, params(DrawRequest(1, 20, HOT)))
    context = SimpleNamespace(idx_mapping_np=np.array([0]), seq_lens_upper_bound_np=np.array([8]))
    assert left(processor.apply(logits(1), context)) != [None]


def test_a_question_leaves_the_token_that_passes_and_the_likeliest_for_one_that_does_not() -> None:
    seen = logits(1)
    by_rank = seen[0].argsort(descending=True).tolist()
    sampling = Sampling(0.7, top_k=3)
    for rank, answer in ((1, by_rank[1]), (2, by_rank[2]), (3, by_rank[0]), (200, by_rank[0])):
        processor = EagerDraws(None, torch.device("cpu"), False)
        processor.update_state(batch([(0, params(DrawRequest(1, 2, sampling, asked=by_rank[rank])), [0, 0], [])]))
        assert left(processor.apply(seen.clone())) == [answer]


def test_an_order_survives_the_way_to_another_process() -> None:
    import msgspec

    for order in ORDERS:
        if order is not None:
            sent = msgspec.msgpack.decode(msgspec.msgpack.encode(order.extra_args()))
            assert DrawRequest.of(SamplingParams(extra_args=sent)) == order
