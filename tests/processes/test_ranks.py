"""Ranks share a queue and meet through a store: nothing is given out twice, nobody waits for who has failed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch.distributed import HashStore

from eager_lmeval.errors import UsageError
from eager_lmeval.processes import ranks
from eager_lmeval.processes.ranks import ALONE, HARNESS, Board, Pulse
from eager_lmeval.processes.workqueue import may_take


def on_all_ranks(size: int, act: Callable[[Board], Any]) -> list[Any]:
    """What ``act`` returns on each rank; ranks are threads with one store. Raises the first error."""
    store = HashStore()
    with ThreadPoolExecutor(size) as pool:
        return [ran.result() for ran in [pool.submit(act, Board(store, rank, size)) for rank in range(size)]]


def drain(board: Board, length: int, pause_s: float = 0.0) -> list[int]:
    """Takes and finishes one piece of work after another."""
    queue = board.queue(length)
    taken = []
    while (number := queue.take(held=0)) is not None:
        taken.append(number)
        time.sleep(pause_s)
        queue.finished()
    return taken


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_piece_of_work_is_given_out_once_and_in_order(size):
    taken = on_all_ranks(size, lambda board: drain(board, 40))
    assert sorted(number for of_rank in taken for number in of_rank) == list(range(40))
    assert all(of_rank == sorted(of_rank) for of_rank in taken)


def test_queues_do_not_mix():
    def two_queues(board: Board) -> tuple[list[int], list[int]]:
        return drain(board, 10), drain(board, 10)

    taken = on_all_ranks(2, two_queues)
    for queue in (0, 1):
        assert sorted(number for of_rank in taken for number in of_rank[queue]) == list(range(10))


def test_a_slow_rank_gets_less_of_the_work():
    slow, fast = on_all_ranks(2, lambda board: drain(board, 30, pause_s=0.002 if board.rank else 0.05))
    assert len(slow) < len(fast) / 2


def test_the_number_finished_counts_all_ranks():
    def work(board: Board) -> int:
        queue, seen = board.queue(12), 0
        while queue.take(0) is not None:
            seen = queue.finished()
        board.meet()
        return seen

    assert max(on_all_ranks(3, work)) == 12


def test_one_process_alone_takes_everything_at_once():
    queue = ALONE.queue(5)
    assert [queue.take(held) for held in range(6)] == [0, 1, 2, 3, 4, None]


@given(held=st.integers(0, 50), unfinished=st.integers(1, 500), ranks=st.integers(1, 64))
@example(held=1, unfinished=3, ranks=2)  # of an odd number the larger half
def test_a_rank_holds_no_more_than_its_share_of_what_is_unfinished(held, unfinished, ranks):
    assert may_take(0, unfinished, ranks), "an idle rank always gets work"
    assert may_take(held, unfinished, ranks) == (held < max(1, unfinished / ranks))


def test_ranks_begin_with_even_shares_and_the_faster_one_gets_the_rest_of_what_is_not_begun():
    store = HashStore()
    queues = [Board(store, rank, 2).queue(20) for rank in (0, 1)]
    held = 0
    while queues[0].take(held) is not None:
        held += 1
    assert held == 10, "the rank that comes first leaves the other its share"
    for _ in range(4):
        queues[1].take(0)
        queues[1].finished()
    assert queues[0].take(10) is None, "16 are unfinished: a share is 8"
    assert queues[0].take(8) is None
    assert queues[1].take(7) == 14


def test_ranks_meet_when_the_last_has_come():
    come = []

    def meet(board: Board) -> int:
        time.sleep(0.1 * board.rank)
        come.append(board.rank)
        board.meet()
        return len(come)

    assert on_all_ranks(3, meet) == [3, 3, 3]


def test_who_waits_for_a_failed_rank_ends_with_its_message():
    def fail_or_wait(board: Board) -> str:
        if board.rank == 1:
            time.sleep(0.1)
            board.fail("RuntimeError: the device fell off")
            return "failed"
        with pytest.raises(UsageError) as caught:
            board.meet()
        return str(caught.value)

    said = on_all_ranks(3, fail_or_wait)
    for rank in (0, 2):
        assert said[rank] == (
            f"rank {rank} ends because another rank has failed: rank 1: RuntimeError: the device fell off"
        )


def test_who_works_learns_of_a_failure_too(monkeypatch):
    monkeypatch.setattr(ranks, "CHECK_INTERVAL_S", 0.0)
    store = HashStore()
    working, failing = Board(store, 0, 2), Board(store, 1, 2)
    queue = working.queue(5)
    assert queue.take(0) == 0
    failing.fail("killed")
    with pytest.raises(UsageError, match="rank 1: killed"):
        queue.take(0)
    with pytest.raises(UsageError, match="rank 1: killed"):
        working.check()


def test_the_first_failure_is_the_one_that_is_told(monkeypatch):
    monkeypatch.setattr(ranks, "FAREWELL_S", 0.0)
    store = HashStore()
    Board(store, 1, 3).fail("the cause")
    Board(store, 0, 3).fail("a consequence")
    with pytest.raises(UsageError, match="rank 1: the cause"):
        Board(store, 2, 3).meet()


def test_a_rank_that_skipped_the_work_is_noticed_instead_of_waited_for():
    def work_or_leave(board: Board) -> str:
        with pytest.raises(UsageError) as caught:
            board.meet(HARNESS) if board.rank else board.meet()
        return str(caught.value)

    for said in on_all_ranks(2, work_or_leave):
        assert "start fewer processes" in said


def test_a_lost_store_is_named():
    class Gone:
        def add(self, key: str, number: int) -> int:
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(UsageError, match=r"rank 1 has lost .* \(Connection reset by peer\)"):
        Board(Gone(), 1, 2).meet()


def test_a_rank_that_shows_a_pulse_may_take_as_long_as_it_likes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ranks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    store = HashStore()
    board = Board(store, 1, 2)

    def later(share: float) -> None:
        now[0] += share * ranks.SILENCE_S
        board.check()

    later(3.0)  # it has not begun
    for _ in range(5):
        store.add(Pulse.key(0), 1)
        later(0.9)
    later(0.95)
    with pytest.raises(UsageError, match="rank 0 has not been heard of for 60 s"):
        later(0.1)


def test_a_rank_whose_pulse_stops_is_missed_by_all(monkeypatch):
    monkeypatch.setattr(ranks, "PULSE_INTERVAL_S", 0.01)
    monkeypatch.setattr(ranks, "SILENCE_S", 2.0)
    store = HashStore()
    pulses = [Pulse(store, rank) for rank in range(3)]
    boards = [Board(store, rank, 3) for rank in range(3)]

    def wait_for_the_others(board: Board) -> str:
        with pytest.raises(UsageError) as said:
            board.meet()
        return str(said.value)

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait_for_the_others, board) for board in boards[:2]]
        pulses[2].end()
        watching, other = (wait.result(timeout=60) for wait in reversed(waiting))
    for pulse in pulses:
        pulse.end()
    gone = "rank 2 has not been heard of for 2 s: it was killed, or its machine is gone"
    assert watching == f"rank 1 ends: {gone}"
    assert other == f"rank 0 ends because another rank has failed: rank 1: {gone}"


DELIVERS = """
import sys, time
from datetime import timedelta
import torch.distributed as dist
from eager_lmeval.processes import ranks

store, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
ranks.COLLECTIVE_TIMEOUT = timedelta(seconds=3)
group = ranks.ProcessGroup()
time.sleep(6 * rank)
print(group.deliver([f"{rank} to 0", f"{rank} to 1"]))
"""


def test_a_delivery_waits_for_a_rank_that_is_slower_than_a_transfer_may_be(tmp_path):
    command = [sys.executable, "-c", DELIVERS, tmp_path / "store"]
    started = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    said = [process.communicate()[0] for process in started]
    assert said == ["['0 to 0', '1 to 0']\n", "['0 to 1', '1 to 1']\n"]
