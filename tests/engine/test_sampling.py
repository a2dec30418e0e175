"""Entropies, draws and fork probabilities against the plain way to compute them (SPEC 2, 4, 6)."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_readouts import PlainReadout
from tiers import sized
from transformers import GenerationConfig, GenerationMixin

from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.streams import stream_key, uniforms
from eager_lmeval.engine.drawing import draw, passes
from eager_lmeval.engine.sampling import Sampling, read

LOGIT = st.floats(-30, 30, width=32)
ROWS = st.lists(st.lists(LOGIT, min_size=7, max_size=7), min_size=1, max_size=5)
DRAW = st.floats(0, 1, exclude_max=True)


def read_one(logits: list[float], sampling: Sampling, u: float = 0.5, dtype: torch.dtype = torch.float32) -> Readout:
    (readout,) = read(torch.tensor([logits], dtype=dtype), torch.tensor([u], dtype=torch.float64), sampling)
    return readout


def naive_softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def naive_entropy(logits: list[float], k: int) -> float:
    return -sum(p * math.log(p) for p in naive_softmax(sorted(logits)[-k:]) if p > 0)


@settings(deadline=None)
@given(ROWS, st.integers(1, 9), st.sampled_from([0.0, 0.3, 1.0, 1.7]))
def test_entropy_is_that_of_the_k_largest_before_or_after_temperature(
    rows: list[list[float]], k: int, temperature: float
) -> None:
    draws = torch.full((len(rows),), 0.5, dtype=torch.float64)
    for entropy_of, divisor in (("raw", 1.0), ("tempered", temperature or 1.0)):
        sampling = Sampling(temperature, entropy_top_k=k, entropy_of=entropy_of)
        for logits, readout in zip(rows, read(torch.tensor(rows), draws, sampling), strict=True):
            expected = naive_entropy([logit / divisor for logit in logits], k)
            assert readout.entropy == pytest.approx(expected, abs=1e-5)
            assert -1e-6 <= readout.entropy <= math.log(min(k, 7)) + 1e-6


@settings(deadline=None)
@given(st.lists(LOGIT, min_size=2, max_size=9), DRAW, st.floats(0.2, 2.0))
def test_the_drawn_token_is_the_first_whose_cumulative_probability_exceeds_the_draw(
    logits: list[float], u: float, temperature: float
) -> None:
    token = read_one(logits, Sampling(temperature), u).token
    cumulative = np.cumsum(naive_softmax([logit / temperature for logit in logits]))
    assert cumulative[token] > u - 1e-6
    assert token == 0 or cumulative[token - 1] <= u + 1e-6


@pytest.mark.parametrize(("u", "token"), [(0.0, 1), (0.4999, 1), (0.5, 3), (0.9999999, 3)])
def test_tokens_of_no_probability_are_never_drawn(u: float, token: int) -> None:
    logits = [-math.inf, 0.0, -math.inf, 0.0, -math.inf]
    assert read_one(logits, Sampling(1.0), u).token == token


def test_draws_are_spread_as_the_distribution_says() -> None:
    """A chi-square test at a false-alarm rate of one in 10,000."""
    from scipy.stats import chisquare

    count, logits = 20_000, [0.3, -1.0, 1.2, 0.0]
    keys = np.full(count, stream_key(0, "demo", "2+2=", (0,)), dtype=np.uint64)
    draws = torch.from_numpy(uniforms(keys, np.arange(count, dtype=np.uint64)))
    tokens = [readout.token for readout in read(torch.tensor([logits] * count), draws, Sampling(0.7))]
    expected = np.array(naive_softmax([logit / 0.7 for logit in logits])) * count
    assert chisquare(np.bincount(tokens, minlength=4), expected).pvalue > 1e-4


SAMPLINGS = [
    Sampling(0.6),
    Sampling(1.0, top_k=5),
    Sampling(0.8, top_p=0.7),
    Sampling(1.5, min_p=0.2),
    Sampling(0.7, top_k=12, top_p=0.8, min_p=0.1),
    Sampling(1.3, top_k=4, top_p=0.95, min_p=0.3),
    Sampling(1.0, top_k=0, top_p=1.0, min_p=0.0),
    Sampling(0.9, top_k=1000),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_processors_are_those_that_transformers_generates_with_and_in_its_order(sampling: Sampling) -> None:
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_k=sampling.top_k or 0,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        min_p=sampling.min_p or None,
    )
    theirs = GenerationMixin._get_logits_processor(_Headless(), config)
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(sampling.cuts()(None, logits / sampling.divisor), theirs(None, logits))


class _Headless(GenerationMixin):
    """What transformers needs of a model to list a configuration's processors."""

    class config:
        is_encoder_decoder = False
        vocab_size = 40

    device = torch.device("cpu")


def test_fork_probabilities_are_those_of_the_distribution_that_is_sampled() -> None:
    logits = [2.0, 1.0, 0.5, -1.0]
    tempered = naive_softmax([logit / 0.5 for logit in logits])
    readout = read_one(logits, Sampling(0.5))
    assert (readout.p_first, readout.p_second) == pytest.approx(tempered[:2], rel=1e-5)
    assert readout.shares == pytest.approx((tempered[0] / sum(tempered[:2]), tempered[1] / sum(tempered[:2])), rel=1e-5)
    assert read_one(logits, Sampling(0.5, top_k=1)).shares == (1.0, 0.0)
    at_zero = naive_softmax(logits)
    assert read_one(logits, Sampling(0.0)).p_first == pytest.approx(at_zero[0], rel=1e-5)


def test_shares_are_one_and_nothing_where_both_probabilities_vanish() -> None:
    assert Readout(0, 0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0).shares == (1.0, 0.0)


def test_log_probabilities_are_of_the_raw_logits_over_the_whole_vocabulary() -> None:
    logits = [2.0, 1.0, 0.5, -1.0]
    raw = [math.log(p) for p in naive_softmax(logits)]
    readout = read_one(logits, Sampling(0.3, top_k=3), u=0.999)
    assert readout.token == 2
    assert (readout.logprob, readout.logprob_first, readout.logprob_second) == pytest.approx((raw[2], raw[0], raw[1]))


@pytest.mark.parametrize(
    ("logits", "first", "second"),
    [
        ([1.0, 3.0, 3.0, 3.0], 1, 2),
        ([3.0, 1.0, 2.0, 2.0], 0, 2),
        ([2.0, 2.0], 0, 1),
        ([0.0] * 40, 0, 1),
        ([1.0, -math.inf, -math.inf], 0, 1),
        ([-math.inf, 1.0, -math.inf], 1, 0),
    ],
)
def test_ties_go_to_the_smaller_id(logits: list[float], first: int, second: int) -> None:
    readout = read_one(logits, Sampling(0.0))
    assert (readout.token, readout.first, readout.second) == (first, first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_read_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(30, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    draws = torch.linspace(0, 0.999, 30, dtype=torch.float64)
    sampling = Sampling(0.8, top_p=0.9)
    assert read(logits, draws, sampling) == read(logits.float(), draws, sampling)


def test_rows_are_read_alike_alone_and_together() -> None:
    logits = torch.randn(17, 300, generator=torch.Generator().manual_seed(2)) * 4
    draws = torch.linspace(0, 0.999, 17, dtype=torch.float64)
    sampling = Sampling(0.9, top_k=50, top_p=0.95)
    strata = np.array([0, 1, 5, 0, 64, 2, 0, 3, 7] + [0] * 8)
    each = [slice(row, row + 1) for row in range(17)]
    alone = [read(logits[row], draws[row], sampling, strata[row])[0] for row in each]
    for together, single in zip(read(logits, draws, sampling, strata), alone, strict=True):
        assert together[:3] == single[:3]
        assert together[3:-1] == pytest.approx(single[3:-1], rel=1e-5, abs=1e-6)
        assert [s.token for s in together.strata] == [s.token for s in single.strata]
        assert [s.logprob for s in together.strata] == pytest.approx([s.logprob for s in single.strata], abs=1e-5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(LOGIT, min_size=7, max_size=7), DRAW, st.integers(0, 9)), min_size=1, max_size=5))
def test_each_stratum_takes_what_a_draw_of_its_own_would(rows: list[tuple[list[float], float, int]]) -> None:
    logits = torch.tensor([row for row, _, _ in rows])
    draws = torch.tensor([u for _, u, _ in rows], dtype=torch.float64)
    sampling = Sampling(0.9, top_k=6, top_p=0.95)
    readouts = read(logits, draws, sampling, np.array([f for _, _, f in rows]))
    for (row, u, f), readout in zip(rows, readouts, strict=True):
        alone = [read_one(row, sampling, (g + u) / f) for g in range(f)]
        assert readout.strata == tuple((each.token, each.logprob) for each in alone)
        assert readout.token == read_one(row, sampling, u).token


@pytest.mark.parametrize(
    "logits",
    [[1.0, math.nan, 2.0], [math.nan] * 3, [1.0, math.inf, 2.0], [-math.inf] * 3],
    ids=["one NaN", "all NaN", "an overflow", "all ruled out"],
)
def test_logits_that_make_no_distribution_have_no_entropy(logits: list[float]) -> None:
    assert math.isnan(read_one(logits, Sampling(0.0)).entropy)
    whole = torch.randn(4, 3000, generator=torch.Generator().manual_seed(1))
    whole[1, : len(logits)] = torch.tensor(logits)
    if math.inf not in logits and not any(map(math.isnan, logits)):
        whole[1] = -math.inf
    for sampling in (Sampling(), Sampling(0.8), Sampling(0.8, top_p=0.9), Sampling(0.8, top_k=5, min_p=0.1)):
        entropies = [readout.entropy for readout in read(whole, torch.rand(4, dtype=torch.float64), sampling)]
        assert [math.isnan(entropy) for entropy in entropies] == [False, True, False, False]


def test_tokens_that_are_ruled_out_add_nothing_to_the_entropy() -> None:
    assert read_one([0.0, -math.inf, 0.0, -math.inf], Sampling(1.0)).entropy == pytest.approx(math.log(2), abs=1e-6)


def test_a_vocabulary_smaller_than_k_is_taken_whole() -> None:
    assert read_one([0.0] * 6, Sampling(1.0, entropy_top_k=20)).entropy == pytest.approx(math.log(6), abs=1e-6)


def test_a_vocabulary_of_one_token_is_certain() -> None:
    readout = read_one([3.0], Sampling(1.0), u=0.7)
    assert (readout.token, readout.first, readout.second, readout.entropy) == (0, 0, 0, 0.0)
    assert readout.logprob == 0.0


def test_stream_names_are_compact_json_in_utf_8() -> None:
    """What makes streams of two prompts differ is their text, not how a library escapes it."""
    assert json.dumps("é", ensure_ascii=False) != json.dumps("é")
    assert stream_key(0, "demo", "é", (0,)) != stream_key(0, "demo", "\\u00e9", (0,))
    assert stream_key(0, "demo", "é", (0, 1)) != stream_key(0, "demo", "é", (0,))


# Against the plain way, row by row: few candidates and a small vocabulary bring all ways of settling a row about.


SOME_LOGITS = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0, 2.0, -1.0, -math.inf, 3.5]),  # so that many are equal
    st.floats(-8, 8, width=32),
)
CUT = st.fixed_dictionaries(
    {
        "top_k": st.sampled_from([None, 1, 2, 4, 9, 60]),
        "top_p": st.sampled_from([None, 0.05, 0.5, 0.75, 0.9, 0.95, 0.999]),
        "min_p": st.sampled_from([None, 0.01, 0.25, 0.5, 1.0]),
        "temperature": st.sampled_from([0.0, 0.5, 0.6, 1.0, 1.7]),
        "entropy_top_k": st.sampled_from([1, 3, 5, 40]),
        "entropy_of": st.sampled_from(["raw", "tempered"]),
    }
)


@settings(max_examples=sized(60, 300), deadline=None)
@given(
    st.lists(SOME_LOGITS, min_size=1, max_size=70).filter(lambda logits: max(logits) > -math.inf),
    CUT,
    st.lists(DRAW, min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from([(4, 16), (6, 9), (64, 2048)]),
)
@example([0.0] * 10, {"top_p": 0.9}, [0.05, 0.95], torch.float32, (4, 16))
@example([2.0, *[0.0] * 30], {"top_k": 3, "temperature": 1.0}, [0.5, 0.99], torch.float32, (4, 16))
def test_what_candidates_say_is_what_the_processors_say_of_the_whole_row(
    logits: list[float], given_options: dict[str, Any], draws: list[float], dtype: torch.dtype, numbers: tuple[int, int]
) -> None:
    sampling = Sampling(**{"temperature": 1.0, "entropy_top_k": 3} | given_options)
    row = torch.tensor(logits).to(dtype)
    plain = PlainReadout(row, sampling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eager_lmeval.engine.sampling.CANDIDATES", numbers)
        patch.setattr("eager_lmeval.engine.sampling.BLOCK", 8)
        readouts = read(row.expand(len(draws), -1), torch.tensor(draws, dtype=torch.float64), sampling)
    for readout, tokens in zip(readouts, plain.tokens(draws), strict=True):
        assert readout.token in tokens
        assert (readout.first, readout.second) == (plain.first, plain.second)
        assert readout.entropy == pytest.approx(plain.entropy, abs=1e-5)
        probabilities = [float(plain.probabilities[token]) for token in readout[1:3]]
        assert (readout.p_first, readout.p_second) == pytest.approx(probabilities, rel=1e-5, abs=1e-7)
        logprobs = [plain.logprobs[token] for token in readout[:3]]
        assert (readout.logprob, *readout[7:9]) == pytest.approx(logprobs, rel=1e-5, abs=2e-6)


@settings(max_examples=sized(40, 150), deadline=None)
@given(st.lists(SOME_LOGITS, min_size=20, max_size=60).filter(lambda logits: max(logits) > -math.inf), CUT)
def test_exactly_the_tokens_that_pass_the_processors_can_be_drawn(
    logits: list[float], given_options: dict[str, Any]
) -> None:
    """One draw into the middle of each token's span, which is where it must land."""
    sampling = Sampling(**given_options | {"temperature": given_options["temperature"] or 1.0})
    plain = PlainReadout(torch.tensor(logits), sampling)
    share = plain.probabilities.double() / plain.probabilities.double().sum()
    middles = share.cumsum(dim=-1) - share / 2
    kept = [token for token in plain.kept if share[token] > 1e-6]
    rows = torch.tensor(logits).expand(len(kept), -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eager_lmeval.engine.sampling.CANDIDATES", (4, 16))
        assert [readout.token for readout in read(rows, middles[kept], sampling)] == kept


def test_a_vocabulary_of_a_real_models_size_is_read_as_the_plain_way_does() -> None:
    """Peaked rows with a long tail, and flat ones that no number of candidates settles; groups and blocks left over."""
    generator = torch.Generator().manual_seed(7)
    heads = torch.linspace(0.2, 7, 8)[:, None]
    logits = heads * torch.randn(8, 9_001, generator=generator)
    draws = torch.rand(8, generator=generator, dtype=torch.float64)
    for given_options in ({}, {"top_p": 0.95}, {"top_k": 20, "top_p": 0.9}, {"min_p": 0.02}, {"top_k": 3000}):
        sampling = Sampling(temperature=0.7, **given_options)
        for row, drawn, readout in zip(logits, draws.tolist(), read(logits, draws, sampling), strict=True):
            plain = PlainReadout(row, sampling)
            assert readout.token in plain.tokens([drawn], slack=1e-7)[0]
            assert readout[1:3] == (plain.first, plain.second)
            assert readout.logprob == pytest.approx(plain.logprobs[readout.token], abs=1e-4)


CUTS = [{}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 90, "top_p": 0.95, "min_p": 0.01}]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.6])
def test_what_is_drawn_is_the_same_without_a_readout(cuts: dict[str, Any], temperature: float) -> None:
    logits = 4 * torch.randn((200, 500), generator=torch.Generator().manual_seed(1))
    draws = torch.from_numpy(np.random.default_rng(2).random(200))
    sampling = Sampling(temperature, **cuts)
    assert draw(logits, draws, sampling).tolist() == [readout.token for readout in read(logits, draws, sampling)]


@pytest.mark.parametrize("cuts", CUTS)
def test_a_token_passes_where_the_processors_of_transformers_leave_it(cuts: dict[str, Any]) -> None:
    logits = 4 * torch.randn((50, 100), generator=torch.Generator().manual_seed(1))
    sampling = Sampling(0.7, **cuts)
    left = sampling.cuts()(torch.empty(0, dtype=torch.long), logits / sampling.divisor).isfinite()
    for token in range(100):
        assert passes(logits, torch.full((50,), token), sampling).equal(left[:, token])
