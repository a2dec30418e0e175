"""The processes of a run, and how they meet: patiently, and not for one that has failed. Knows nothing of EAGER.

A rank that has to wait for others announces itself in the store of `torch.distributed` and polls it; only when all have
arrived is there a collective, which then takes no longer than the transfer. So no collective stands open while another
rank still works, however long that takes, and no watchdog has anything to time out. A rank that fails says so in the
store, and whoever waits, takes from a queue or calls `check` ends with its message. One that is killed can say nothing:
each rank counts up a pulse in the store, the rank before it watches that, and says so when it has stopped.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import pickle
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

from eager_lmeval.errors import UsageError
from eager_lmeval.processes.workqueue import Queue, SharedQueue

__all__ = ["ALONE", "HARNESS", "WORK", "Board", "ProcessGroup", "Pulse", "Ranks"]

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""For the transfer itself, which begins when all ranks have arrived."""
WORK = "work"
HARNESS = "harness"
"""Where ranks meet: in the exchanges of a call, or in the harness's own between calls."""
LONGEST_PAUSE_S = 0.25
CHECK_INTERVAL_S = 2.0
LOG_INTERVAL_S = 60.0
PULSE_INTERVAL_S = 2.0
SILENCE_S = 60.0
"""After so long without a pulse a rank is taken for dead; only what stops all its threads could make a live one so."""
FAREWELL_S = 1.0
"""How long a failed rank that may host the store lets the others read why."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

T = TypeVar("T")

_groups = itertools.count()
"""Groups of this process so far; every rank makes the same ones, so equal numbers belong together."""


class Ranks:
    """The processes of a run: this one alone. All call the same methods in one order, but for `check` and `fail`."""

    rank = 0
    size = 1

    def queue(self, length: int) -> Queue:
        """A new queue; ``length`` is the same on all ranks."""
        return Queue(length)

    def meet(self, where: str = WORK) -> None:
        """Returns when all ranks have called it. Raises UsageError when one has failed, or has come somewhere else."""

    def gather(self, item: T) -> list[T]:
        """Every rank's item, in the ranks' order, on every rank."""
        return [item]

    def deliver(self, parcels: Sequence[T]) -> list[T]:
        """Sends ``parcels[r]`` to rank r; returns what was sent to this one, in the senders' order."""
        return list(parcels)

    def check(self) -> None:
        """Raises UsageError when another rank has failed. Cheap enough for a decode loop."""

    def fail(self, reason: str) -> None:
        """Tells the other ranks that this one ends, and why."""


ALONE = Ranks()


class Board(Ranks):
    """What ranks tell each other through a store of `torch.distributed`: arrivals, counters, failures."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._store = store
        self._meetings = itertools.count()
        self._queues = itertools.count()
        self._checked = self._pulse_seen = time.monotonic()
        self._pulse = 0
        """The watched rank's, when it was last seen to have changed; 0 before its first."""

    def queue(self, length: int) -> Queue:
        return SharedQueue(self, f"queue {next(self._queues)}", length)

    def meet(self, where: str = WORK) -> None:
        number = next(self._meetings)
        arrived = self.add(f"meeting {number} {where}", 1)
        elsewhere = f"meeting {number} {HARNESS if where == WORK else WORK}"
        pause_s, logged = 0.001, time.monotonic()
        while arrived < self.size:
            self._raise_failure()
            self._watch()
            if self.add(elsewhere, 0):
                raise UsageError(
                    f"rank {self.rank} waits for ranks that work on other requests: every process needs at least one "
                    f"request of each type; start fewer processes, at most as many as the smallest task has documents"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            arrived = self.add(f"meeting {number} {where}", 0)
            if time.monotonic() - logged > LOG_INTERVAL_S:
                logged = time.monotonic()
                log.info("rank %d waits for %d of %d ranks", self.rank, self.size - arrived, self.size)

    def check(self) -> None:
        now = time.monotonic()
        if now - self._checked > CHECK_INTERVAL_S:
            self._checked = now
            self._raise_failure()
            self._watch()

    def fail(self, reason: str) -> None:
        try:
            if self._store.check(["failed"]):
                return
            self._store.set("failed", f"rank {self.rank}: {reason}")
        except RuntimeError:  # the store is gone, and with it those who could read it
            return
        if self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            time.sleep(FAREWELL_S)

    def add(self, key: str, number: int) -> int:
        """Adds to a counter that all ranks share; returns its value."""
        try:
            value: int = self._store.add(key, number)
        except RuntimeError as error:
            raise _lost(self.rank, error) from error
        return value

    def _watch(self) -> None:
        """Raises UsageError, and lets all ranks do so, when the next rank was alive and is no more."""
        watched = (self.rank + 1) % self.size
        pulse, now = self.add(Pulse.key(watched), 0), time.monotonic()
        if pulse != self._pulse:
            self._pulse, self._pulse_seen = pulse, now
        elif pulse and now - self._pulse_seen > SILENCE_S:
            reason = f"rank {watched} has not been heard of for {SILENCE_S:g} s: it was killed, or its machine is gone"
            self.fail(reason)
            raise UsageError(f"rank {self.rank} ends: {reason}")

    def _raise_failure(self) -> None:
        try:
            reason = self._store.get("failed").decode() if self._store.check(["failed"]) else None
        except RuntimeError as error:
            raise _lost(self.rank, error) from error
        if reason is not None:
            raise UsageError(f"rank {self.rank} ends because another rank has failed: {reason}")


class Pulse:
    """Counts up in a store for as long as this process lives, in a thread; a forked child does not."""

    def __init__(self, store: Any, rank: int) -> None:
        self._store = store
        self._key = self.key(rank)
        self._ended = threading.Event()
        self._store.add(self._key, 1)
        self._thread = threading.Thread(target=self._beat, name="eager_lmeval pulse", daemon=True)
        self._thread.start()
        atexit.register(self.end)

    @staticmethod
    def key(rank: int) -> str:
        return f"pulse {rank}"

    def end(self) -> None:
        self._ended.set()
        self._thread.join(PULSE_INTERVAL_S)

    def _beat(self) -> None:
        while not self._ended.wait(PULSE_INTERVAL_S):
            try:
                self._store.add(self._key, 1)
            except RuntimeError:  # the store's host has ended; whoever works with it finds that out
                return


class ProcessGroup(Board):
    """The ranks of the initialised default group of `torch.distributed`; all ranks make it, like a collective.

    Transfers go through a gloo group of its own: they are Python objects, and a GPU's collectives have a watchdog.
    """

    def __init__(self) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

        # torch has no public way to the default group's store; a store of our own would need a free port on rank 0
        store: Any = PrefixStore(f"eager_lmeval/{next(_groups)}", _get_default_store())
        super().__init__(store, dist.get_rank(), dist.get_world_size())
        self._heart = Pulse(store.clone(), self.rank)  # a store is for one thread; its clone has its own connection
        self.meet()
        self._group = dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)

    def gather(self, item: T) -> list[T]:
        import torch.distributed as dist

        self.meet()
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item, group=self._group)
        return items

    def deliver(self, parcels: Sequence[T]) -> list[T]:
        import torch
        import torch.distributed as dist

        self.meet()
        payloads = [pickle.dumps(parcel) for parcel in parcels]
        sent = torch.tensor([len(payload) for payload in payloads])
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group)
        outgoing = torch.frombuffer(bytearray(b"".join(payloads)), dtype=torch.uint8)
        incoming = torch.empty(int(received.sum()), dtype=torch.uint8)
        dist.all_to_all_single(incoming, outgoing, received.tolist(), sent.tolist(), group=self._group)
        ends = itertools.accumulate(received.tolist())
        data = incoming.numpy()
        spans = zip(received.tolist(), ends, strict=True)
        return [pickle.loads(data[end - size : end].tobytes()) for size, end in spans]


def _lost(rank: int, error: Exception) -> UsageError:
    return UsageError(
        f"rank {rank} has lost the process that hosts the shared queue (rank 0, or the launcher): it has ended; "
        f"its own message says why ({str(error).partition(chr(10))[0]})"
    )
