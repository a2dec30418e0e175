"""The progress of a pool says what has been decoded, of unfinished prompts too, in a terminal and in a log."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from scripted import PromptScript, ScriptedRunner, scripted_engine
from scripted_pools import ADAPT, prompts_of

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.pools import progress
from eager_lmeval.pools.progress import steps_left
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

PROMPTS = 10


def follow(eos_bias: float = 1.0, processes: int = 1, disable: bool = False, **options: Any) -> PoolResult:
    """Grows a pool whose progress is shown after every step."""
    resolved = resolve(ADAPT | options)
    shown = progress.Progress("demo", disable, processes)
    engine = scripted_engine(ScriptedRunner(PromptScript(eos_bias=eos_bias)), resolved, on_step=shown.step)
    return grow_pool(prompts_of(resolved, PROMPTS), resolved, engine, progress=shown)


@pytest.fixture
def in_a_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level("INFO", logger="lm_eval")
    return caplog


def number(before: str, line: str) -> int:
    """The number in front of a word of a line."""
    return int(re.search(rf"([\d,]+) {before}", line).group(1).replace(",", ""))


def test_a_log_counts_what_unfinished_prompts_have_so_far(in_a_log):
    follow(eos_bias=-20.0, max_rows=8)
    unfinished = [line for line in in_a_log.messages if ": 0/10 prompts, " in line]
    tokens = [number("tokens,", line) for line in unfinished]
    assert len(tokens) > 10
    assert tokens == sorted(set(tokens)), "more with every step"
    assert number("sequences", unfinished[-1]) > 1
    assert number("branches", unfinished[-1]) > 0
    assert "longest 1/24" in unfinished[0]
    assert "longest 23/24" in unfinished[-1]
    assert re.search(r" \d\d:\d\d left if all reach the limit, rows \d/8,", unfinished[0])


def test_the_last_line_of_a_log_is_the_pool_s_result(in_a_log):
    result = follow()
    last = in_a_log.messages[-1]
    assert re.match(r"demo, stage 2: (\d+)/\1 prompts in \d\d:\d\d, ", last)
    assert number("tokens,", last) == result.totals.tokens
    assert number("sequences", last) == result.totals.sequences
    assert number("branches", last) == result.totals.branches
    assert last.endswith(f"surplus {result.ledger.surplus}")
    assert any(re.search(r"\d\d:\d\d left, ", line) for line in in_a_log.messages)


def test_of_several_processes_it_says_whose_figures_they_are(in_a_log):
    follow(processes=4)
    assert ", process 0 of 4: " in in_a_log.messages[-1]


def test_a_terminal_gets_two_lines_with_all_figures(monkeypatch, capsys):
    monkeypatch.setattr(progress, "TERMINAL_INTERVAL_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    result = follow()
    shown = capsys.readouterr().err
    for figure in (
        "demo, stage 1: 100%",
        "10/10 prompts",
        "left, rows ",
        f"{result.totals.tokens:,} tokens, ",
        f"{result.totals.sequences} sequences, {result.totals.branches} branches",
        "/24",
        f"surplus {result.ledger.surplus}",
    ):
        assert figure in shown


def test_nothing_is_shown_where_it_was_switched_off(in_a_log, capsys):
    follow(disable=True)
    assert capsys.readouterr().err == ""
    assert in_a_log.messages == []


def test_until_a_sequence_has_stopped_all_are_taken_to_reach_their_limits():
    assert steps_left([5, 3], coming=2, room=10, stopped=0, decoded=40, rows=4) == 7
    assert steps_left([50, 3], coming=0, room=10, stopped=0, decoded=40, rows=4) == 50, "no step before the longest"
    assert steps_left([], coming=0, room=0, stopped=9, decoded=40, rows=4) == 0


def test_the_time_left_is_right_on_average_for_sequences_that_end_at_a_constant_rate():
    """200 sequences decoded one after another, looked at after 50 of them; false alarms are rarer than 1 in 10^6."""
    rng = random.Random(20261124)
    rate, limit, runs = 0.02, 100, 400

    def length() -> tuple[int, bool]:
        drawn = next(tokens for tokens in range(1, limit + 1) if rng.random() < rate or tokens == limit)
        return drawn, drawn < limit

    foretold = taken = 0.0
    for _ in range(runs):
        lengths = [length() for _ in range(200)]
        decoded, stopped = sum(tokens for tokens, _ in lengths[:50]), sum(itself for _, itself in lengths[:50])
        foretold += steps_left([], coming=150, room=limit, stopped=stopped, decoded=decoded, rows=1)
        taken += sum(tokens for tokens, _ in lengths[50:])
    assert foretold == pytest.approx(taken, rel=0.04)
