"""As whom the two sides run, and the limits of each process."""

from __future__ import annotations

import os
import random
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from eager_lmeval.verify.jail import kernel

__all__ = ["Identity", "Limits", "choose_identity", "confine"]

_PER_USER_IN_NAMESPACE = (5, 14)
"""Since this kernel a user namespace counts its own processes, before it shared the user's count with all others."""

_SIGNALS = 256
"""Signals and timers that may wait, which the kernel keeps memory for."""


@dataclass(frozen=True)
class Limits:
    """What one run may use. All but the wall time and the sums hold for each process, as the kernel counts them."""

    wall_s: float = 20.0
    cpu_s: int = 15
    memory_bytes: int = 1 << 30
    """Address space of each of the program's processes, and resident memory of all together."""
    processes: int = 16
    file_bytes: int = 16 << 20
    disk_bytes: int = 64 << 20
    open_files: int = 64

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Identity(NamedTuple):
    """User and group numbers, the program's and the tests'; ``separate`` where they differ from the caller's."""

    separate: bool
    users: tuple[int, int]
    groups: tuple[int, int]


def choose_identity() -> Identity:
    """Two users that nobody else is, where the caller may choose; the caller itself otherwise.

    Fresh numbers a run: the kernel counts processes by user, and signals go to one's own processes only.
    """
    own = Identity(False, (os.geteuid(),) * 2, (os.getegid(),) * 2)
    if os.geteuid() != 0:
        return own
    users, groups = _unused("uid_map"), _unused("gid_map")
    return Identity(True, users, groups) if users and groups else own


def _unused(map_name: str) -> tuple[int, int] | None:
    """Two neighbouring numbers from the upper half of the largest range that this process may use."""
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self", map_name).read_text().splitlines()]
    first, _, count = max(ranges, key=lambda entry: entry[2])
    count = min(count, 1 << 31)  # beyond, some programs take numbers for negative ones
    if count < 2000:
        return None
    number = first + random.SystemRandom().randrange(count // 2, count - 2)
    return number, number + 1


def confine(identity: Identity, side: int, limits: Limits, memory_factor: int = 1) -> None:
    """Turns this process into one side of the run, for good."""
    if identity.separate:
        os.setgroups([])
        os.setresgid(*[identity.groups[side]] * 3)
        os.setresuid(*[identity.users[side]] * 3)
    kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    kernel.forbid_dumps()
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_AS, limits.memory_bytes * memory_factor),
        (resource.RLIMIT_NPROC, limits.processes + _counted_already(identity)),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, _SIGNALS),
    ):
        _, hard = resource.getrlimit(kind)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))


def _counted_already(identity: Identity) -> int:
    """Processes of the user that the kernel counts against this run though they are none of it."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2] if part.isdigit())
    if identity.separate or (os.getpid() < 10 and release >= _PER_USER_IN_NAMESPACE):
        return 0
    mine = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == os.geteuid():
                    mine += sum(1 for _ in (entry / "task").iterdir())
            except OSError:  # it ended meanwhile
                continue
    return mine
