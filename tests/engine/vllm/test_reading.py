"""What the log-probabilities that vLLM reports say is what the whole row of logits says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.vllm.reading import Reported, number_of_logprobs, read_reported

VOCAB = 500

SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 7, "top_p": 0.8},
    {"top_k": 100, "top_p": 0.9},
    {"top_p": 0.35},
    {"top_p": 0.95},
    {"min_p": 0.3},
    {"top_p": 0.6, "min_p": 0.05},
    {"entropy_of": "tempered", "entropy_top_k": 5},
]


def reported(logits: torch.Tensor, sampling: Sampling, drawn: int) -> Reported:
    """As vLLM's sampler reports it: the token's own first, then the largest."""
    logprobs = logits.log_softmax(-1)
    largest = logprobs.topk(number_of_logprobs(sampling, len(logits)))
    ids = [drawn, *largest.indices.tolist()]
    return Reported(ids, [float(logprobs[drawn]), *largest.values.tolist()])


@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0, 1.8])
@pytest.mark.parametrize("chosen", SAMPLINGS)
def test_a_readout_is_that_of_the_whole_row(chosen: dict[str, Any], temperature: float) -> None:
    sampling = Sampling(temperature, **chosen)
    decided = 0
    for seed in range(60):
        scale = 0.5 + seed % 10
        logits = scale * torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))
        whole = read(logits[None], torch.tensor([0.37], dtype=torch.float64), sampling)[0]
        (readout,) = read_reported([reported(logits, sampling, whole.token)], sampling, VOCAB)
        assert (readout.token, readout.first, readout.second) == whole[:3]
        for name in ("entropy", "logprob", "logprob_first", "logprob_second"):
            assert getattr(readout, name) == pytest.approx(getattr(whole, name), abs=2e-5)
        if not readout.shares_unsure:
            decided += 1
            assert readout.shares == pytest.approx(whole.shares, abs=1e-5)
    assert decided > 50  # where the bounds do not say, a worker is asked; that must be rare


def test_what_is_not_sure_is_said() -> None:
    """Whatever temperature, top_p and shape: shares that are given out as known are right."""
    choose = np.random.default_rng(5)
    doubted = 0
    for seed in range(400):
        temperature, top_p, scale = (choose.uniform(low, high) for low, high in ((0.2, 3.0), (0.05, 0.99), (0.1, 8.0)))
        sampling = Sampling(temperature, top_p=top_p, entropy_top_k=4)
        logits = scale * torch.randn(50, generator=torch.Generator().manual_seed(seed))
        whole = read(logits[None], torch.tensor([0.5], dtype=torch.float64), sampling)[0]
        (readout,) = read_reported([reported(logits, sampling, whole.token)], sampling, 50)
        doubted += readout.shares_unsure
        if not readout.shares_unsure:
            assert readout.shares == pytest.approx(whole.shares, abs=1e-4)
    assert 0 < doubted < 200


def test_of_equal_logits_the_smaller_id_comes_first() -> None:
    given = Reported([9, 9, 4, 7, 1], [-1.0, -1.0, -1.0, -1.0, -3.0])
    (readout,) = read_reported([given], Sampling(0.0, entropy_top_k=4), 100)
    assert (readout.token, readout.first, readout.second) == (4, 4, 7)


def test_logits_without_a_distribution_have_no_entropy() -> None:
    nothing = Reported([3, 3, 4, 5], [float("nan")] * 4)
    (readout,) = read_reported([nothing], Sampling(1.0, entropy_top_k=3), 100)
    assert np.isnan(readout.entropy)


def test_a_vocabulary_may_be_smaller_than_what_the_entropy_is_of() -> None:
    logits = torch.tensor([0.3, 0.1])
    sampling = Sampling(1.0)
    whole = read(logits[None], torch.tensor([0.9], dtype=torch.float64), sampling)[0]
    (readout,) = read_reported([reported(logits, sampling, whole.token)], sampling, 2)
    assert readout.entropy == pytest.approx(whole.entropy, abs=1e-6)
    assert readout.shares == pytest.approx(whole.shares, abs=1e-6)
