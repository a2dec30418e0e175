"""Namespaces, and the root file system inside them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from eager_lmeval.verify.jail import kernel
from eager_lmeval.verify.jail.identity import Identity

__all__ = ["DEVICES", "MAX_FILES", "WORK", "build_root", "map_users", "visible_paths"]

WORK = "/eager_lmeval-program"
"""A program's own folder; a name under which nobody keeps an interpreter, for that appears where it is outside."""
DEVICES = ("null", "zero", "full", "random", "urandom")
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")
MAX_FILES = 10_000
"""Files and folders of a run, for each of which the kernel keeps memory beside what is in it."""


def map_users(child: int, identity: Identity) -> None:
    """Writes the user and group map of a child's new user namespace: nobody beyond the run's own users exists there."""
    for kind, numbers in (("uid", identity.users), ("gid", identity.groups)):
        if not identity.separate:
            Path(f"/proc/{child}/setgroups").write_text("deny")
        own = os.geteuid() if kind == "uid" else os.getegid()
        lines = [f"{own} {own} 1"] + ([f"{number} {number} 1" for number in numbers] if identity.separate else [])
        Path(f"/proc/{child}/{kind}_map").write_text("\n".join(lines) + "\n")


def build_root(place: str, size_bytes: int, identity: Identity) -> None:
    """Replaces the root by a file system in memory: the interpreter and system libraries, read-only, and `WORK`."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    options = f"size={size_bytes},nr_inodes={MAX_FILES},mode=755"
    kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    for source in visible_paths():
        _bind(source, place + source)
    for device in DEVICES:
        _bind(f"/dev/{device}", f"{place}/dev/{device}", read_only=False)
    os.makedirs(place + "/proc")
    kernel.mount("proc", place + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    os.makedirs(place + WORK, mode=0o700)
    if identity.separate:
        os.chown(place + WORK, identity.users[0], identity.groups[0])
    kernel.pivot_root(place)
    for name, value in (("user/max_user_namespaces", "0"), ("kernel/shmall", "0"), ("kernel/shmmax", "0")):
        with contextlib.suppress(OSError):  # older kernels do not let a user namespace lower them
            Path("/proc/sys", name).write_text(value)


def visible_paths(*more: str) -> list[str]:
    """The paths that a Python program needs, and more, none inside another."""
    wanted = [*more, *_SYSTEM, sys.base_prefix, sys.prefix, sys.base_exec_prefix, sys.exec_prefix]
    paths = sorted({os.path.abspath(path) for path in wanted if os.path.exists(path)})
    return [path for path in paths if not any(path.startswith(other + "/") for other in paths if other != path)]


def _bind(source: str, target: str, read_only: bool = True) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        Path(target).touch()
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    if read_only:
        for point in _mounts_below(target):
            _make_read_only(point)


def _mounts_below(target: str) -> list[str]:
    """Mount points at and under a path; a read-only remount does not descend by itself."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [point.encode().decode("unicode_escape") for point in points]
    return [point for point in points if point == target or point.startswith(target + "/")]


def _make_read_only(point: str) -> None:
    """Keeps the flags that the mount has: a user namespace may not take them away."""
    present = os.statvfs(point).f_flag
    kept = present & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME | os.ST_RELATIME)
    kernel.mount(None, point, None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _mount_flags(kept))


def _mount_flags(status: int) -> int:
    """statvfs and mount agree on the lowest bits, and differ on how access times are said."""
    flags = status & (kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    for bit, flag in ((os.ST_NOATIME, 1 << 10), (os.ST_NODIRATIME, 1 << 11), (os.ST_RELATIME, 1 << 21)):
        flags |= flag if status & bit else 0
    return flags
