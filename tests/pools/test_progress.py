"""The progress of a pool says what its user wants to know, in a terminal and in a log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scripted import EOS

from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree
from eager_lmeval.pools import progress


def finished_tree(index: int, branches: int) -> Tree:
    sequences = [Sequence((0,), [1, EOS], finish="stop")]
    sequences += [Sequence((0, 0), [2, EOS], branch_at=0, finish="stop") for _ in range(branches)]
    return Tree(Prompt(index, "task", "context", [5]), sequences)


@pytest.fixture
def engine() -> SimpleNamespace:
    return SimpleNamespace(in_use=48, limit=64, stats=SimpleNamespace(tokens=1000))


def follow_two_stages(engine: SimpleNamespace) -> None:
    shown = progress.Progress("some_task")
    shown.stage(prompts=2, surplus=None)
    shown.prompt_done(finished_tree(0, branches=1))
    shown.prompt_done(finished_tree(1, branches=0))
    shown.step(engine)
    shown.stage(prompts=1, surplus=13)
    shown.prompt_done(finished_tree(0, branches=3))
    shown.step(engine)
    shown.close()


def test_a_log_gets_lines_with_all_figures(engine, monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with caplog.at_level("INFO", logger="lm_eval"):
        follow_two_stages(engine)
    first, second = [record.message for record in caplog.records if "tokens/s" in record.message]
    assert first.startswith("some_task, stage 1: 2/2 prompts, rows 48/64, 3 sequences, 1 branches, ")
    assert second.startswith("some_task, stage 2: 1/1 prompts, rows 48/64, 5 sequences, 3 branches, ")
    assert second.endswith("surplus 13")


def test_a_terminal_gets_a_bar_with_all_figures(engine, monkeypatch, capsys):
    monkeypatch.setattr(progress, "BAR_INTERVAL_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    follow_two_stages(engine)
    shown = capsys.readouterr().err
    for figure in ("some_task, stage 1", "2/2", "rows 48/64", "3 sequences", "1 branches", "tokens/s", "surplus 13"):
        assert figure in shown


def test_nothing_is_shown_where_it_was_switched_off(engine, monkeypatch, capsys, caplog):
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.0)
    with caplog.at_level("INFO", logger="lm_eval"):
        shown = progress.Progress("some_task", disable=True)
        shown.stage(prompts=2, surplus=None)
        shown.step(engine)
        shown.close()
    assert capsys.readouterr().err == ""
    assert caplog.text == ""
