"""What a device does each step, tried on the CPU: cuts without a sort, draws from parts of rows, and no wait."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList

from eager_lmeval.engine import drawing
from eager_lmeval.engine import sampling as reading
from eager_lmeval.engine.drawing import entropies, passes
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.unsorted import cut_largest, cut_unsorted
from eager_lmeval.engine.vllm.leaving import NEVER, Orders, leave_drawn

VOCAB = 5000
NO_IDS = torch.empty(0, dtype=torch.long)
CUTS: list[dict[str, Any]] = [
    {"top_p": 0.95},
    {"top_p": 0.5},
    {"top_k": 20, "top_p": 0.9},
    {"min_p": 0.05},
    {"top_k": 50, "top_p": 0.95, "min_p": 0.01},
    {},
]


def logits(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Flat rows and peaked ones; in bfloat16 many logits of a row are equal."""
    scale = 1 + torch.arange(rows)[:, None] % 5
    return (scale * torch.randn((rows, VOCAB), generator=torch.Generator().manual_seed(seed))).to(dtype).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_cuts_without_a_sort_keep_the_scores_that_the_processors_keep(cuts: dict[str, Any], dtype: torch.dtype) -> None:
    """Of equal scores as many: which ones those are is chance in a sort that is not stable, as theirs is on a CPU."""
    sampling = Sampling(0.6, **cuts)
    for seed in range(4):
        scores = logits(10, seed, dtype) / 0.6
        kept = cut_unsorted(scores, sampling.cuts())
        expected = LogitsProcessorList(sampling.cuts())(NO_IDS, scores.clone())
        assert kept.sort().values.equal(expected.sort().values)
        assert cut_largest(scores, None, sampling.cuts()).scores.equal(kept)
        if dtype == torch.float32:
            assert kept.equal(expected)


@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.6, 0.7, 0.8, 0.99])
def test_of_equal_scores_on_the_edge_of_top_p_those_with_the_larger_ids_pass(top_p: float) -> None:
    scores = torch.tensor([[2.0, 0.0, 1.0, 1.0, 1.0, -3.0]])
    ascending, ids = scores.double().sort(dim=-1, stable=True)
    removed = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    expected = ~removed.scatter(-1, ids, removed)
    assert cut_unsorted(scores, Sampling(1.0, top_p=top_p).cuts()).isfinite().equal(expected)
    assert cut_largest(scores, None, Sampling(1.0, top_p=top_p).cuts()).scores.isfinite().equal(expected)


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_device_draws_in_parts_what_a_readout_says(cuts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of three rows, the last one smaller; the CPU takes the way of a device where it is asked to."""
    sampling = Sampling(0.8, **cuts)
    seen = logits(20, 3)
    draws = torch.rand(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = [readout.token for readout in read(seen, draws, sampling)]
    monkeypatch.setattr(drawing, "PART", 3 * VOCAB)
    monkeypatch.setattr(reading, "HOST", "none")
    assert drawing.draw(seen, draws, sampling).tolist() == expected
    second = [readout.second for readout in read(seen, draws, sampling)]
    answers = passes(seen, torch.tensor(second), sampling)
    monkeypatch.undo()
    assert answers.equal(passes(seen, torch.tensor(second), sampling))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("number", [40, 400])
def test_what_the_largest_logits_settle_is_what_all_of_them_say(
    number: int, cuts: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 60 rows may go through all of their logits besides; more are unsettled where 40 are looked at."""
    if (cuts.get("top_k") or 0) >= number:
        pytest.skip("top_k of more than are looked at")
    monkeypatch.setattr(reading, "HOST", "none")
    for name, value in {"LARGEST": number, "PART": 25 * VOCAB, "SPARE": 30}.items():
        monkeypatch.setattr(drawing, name, value)
    sampling, left = Sampling(0.8, **cuts), 0
    for seed in range(4):
        seen = logits(60, seed, dtype)
        draws = torch.rand(60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        whole = drawing.draw(seen, draws, sampling)
        tokens, settled = drawing.draw_mostly(seen, draws, sampling)
        assert tokens[settled].equal(whole[settled])
        left += int((~settled).sum())
        assert settled.sum() >= 4
    assert left < 200
    assert left or number == 400 or cuts != {"top_p": 0.95}, "40 do not settle flat rows"


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1]])
def test_leaving_one_logit_a_row_asks_the_device_nothing(cuts: dict[str, Any], rows: list[int]) -> None:
    """Tensors of the device `meta` have no values: whatever would wait for one raises, and so does a mix of devices."""
    seen = torch.empty((4, VOCAB), device="meta")
    count = len(rows)
    opens_at = np.array([NEVER, 0.5, NEVER, 0.1][:count])
    asked, signal = np.array([-1, -1, 7, -1][:count]), np.array([5, 5, -1, 5][:count])
    orders = Orders(np.array(rows), np.linspace(0, 0.9, count), asked, signal, opens_at)
    leave_drawn(seen, orders, Sampling(0.8, **cuts))
    with pytest.raises(RuntimeError):
        bool(seen[0, 0] > 0)


def test_logits_of_nan_leave_some_token() -> None:
    seen = logits(2, 0)
    seen[1] = torch.nan
    tokens = drawing._draw_whole(seen, torch.tensor([0.3, 0.3]), Sampling(0.8, top_p=0.9))
    assert ((tokens >= 0) & (tokens < VOCAB)).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize(
    "how", [{"temperature": 0.0}, {"temperature": 0.8}, {"temperature": 0.8, "top_p": 0.9}], ids=str
)
def test_rows_without_a_distribution_and_uncertain_ones_call_the_host(how: dict[str, Any], poison: float) -> None:
    sampling, seen = Sampling(**how), logits(6, 0)
    seen[1, 40] = poison
    seen[4] = -torch.inf
    (certain, *_), draws = entropies(seen, sampling).tolist(), np.full(6, 0.3)
    signal = np.array([3, 3, -1, 3, 3, 3])
    opens_at = np.array([certain + 0.1, certain, 0.0, 0.0, NEVER, NEVER])
    drawn, left = drawing.draw(seen[[0, 2, 5]], torch.from_numpy(draws[:3]), sampling).tolist(), seen.clone()
    leave_drawn(left, Orders(np.arange(6), draws, np.full(6, -1), signal, opens_at), sampling)
    assert left.argmax(dim=-1)[[0, 2, 5]].tolist() == drawn
    assert left.argmax(dim=-1)[[1, 3, 4]].tolist() == [3, 3, 3]


@pytest.mark.parametrize("vocab", [10, 300, 3000])
@pytest.mark.parametrize("entropy_of", ["raw", "tempered"])
def test_entropies_alone_are_those_of_readouts(vocab: int, entropy_of: Any) -> None:
    sampling = Sampling(0.6, entropy_of=entropy_of)
    seen = 3 * torch.randn((9, vocab), generator=torch.Generator().manual_seed(2))
    expected = [readout.entropy for readout in read(seen, torch.rand(9, dtype=torch.float64), sampling)]
    assert entropies(seen, sampling).tolist() == pytest.approx(expected, abs=1e-6)
