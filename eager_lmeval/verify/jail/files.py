"""Files out of reach, with namespaces or without (Landlock, Linux 5.13): only the named paths are there."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import sys
from collections.abc import Iterable

from eager_lmeval.verify.jail import kernel

__all__ = ["DEVICES", "WORK", "files_refusal", "restrict_files", "visible_paths"]

WORK = "/eager_lmeval-program"
"""A program's own folder in bubblewrap; nobody keeps an interpreter under this name."""
DEVICES = ("null", "zero", "full", "random", "urandom")
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 2, 4, 8, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights to files that a version of Landlock knows."""
_SCOPED_SINCE, _SIGNALS_AND_SOCKETS = 6, 3


def visible_paths(*more: str) -> list[str]:
    """The paths that a Python program needs, and more, none inside another."""
    wanted = [*more, *_SYSTEM, sys.base_prefix, sys.prefix, sys.base_exec_prefix, sys.exec_prefix]
    paths = sorted({os.path.abspath(path) for path in wanted if os.path.exists(path)})
    return [path for path in paths if not any(path.startswith(other + "/") for other in paths if other != path)]


def files_refusal() -> str:
    """Why the kernel cannot keep a process from files, "" if it can."""
    try:
        _version()
    except OSError as error:
        return f"files are not out of reach ({error.strerror})"
    return ""


def _version() -> int:
    return kernel.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)


def restrict_files(readable: Iterable[str], devices: Iterable[str], place: str) -> None:
    """This process and all that it starts reach these paths alone, for good: to read, to write to, and to own.

    It also reaches no process outside with a trace, nor, since Linux 6.12, with a signal.
    """
    version = _version()
    rights = _RIGHTS[max(known for known in _RIGHTS if known <= version)]
    scopes = _SIGNALS_AND_SOCKETS if version >= _SCOPED_SINCE else 0
    attributes = struct.pack("QQQ", rights, 0, scopes)
    rules = kernel.syscall(_CREATE_RULESET, attributes, len(attributes) if scopes else 8, 0)
    try:
        for path in readable:
            _allow(rules, path, rights & _READ)
        for path in devices:
            _allow(rules, path, rights & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
        _allow(rules, place, rights)
        kernel.syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        beneath = os.open(path, os.O_PATH)
        try:
            if not stat.S_ISDIR(os.fstat(beneath).st_mode):
                rights &= _OF_A_FILE
            kernel.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
        finally:
            os.close(beneath)
