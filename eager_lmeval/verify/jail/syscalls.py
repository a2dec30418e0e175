"""A filter of system calls (seccomp): what would hold memory outside every process, and what only widens the kernel.

Limits on address space and on resident memory see what a process maps. The calls refused here make memory that no
process has to map: files in memory, shared memory, queues of System V, pages given to pipes, sockets that keep what
was sent to them. They fail with EPERM, as they do for want of a permission.
"""

from __future__ import annotations

import ctypes
import errno
import platform

from eager_lmeval.verify.jail import kernel

__all__ = ["filter_system_calls"]

_X86_64, _ARM_64 = 0xC000003E, 0xC00000B7
_X32_BIT = 0x40000000

_REFUSED = {
    # name: number on x86-64, on arm64
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "splice": (275, 76),
    "vmsplice": (278, 75),
    "tee": (276, 77),
    "sendfile": (40, 71),
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    "inotify_init1": (294, 26),
    "inotify_init": (253, None),
    "fanotify_init": (300, 262),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
}
_CLONE3 = 435
_CLONE = (56, 220)
_MMAP = (9, 222)
_SOCKETPAIR = (53, 199)
_SETSOCKOPT = (54, 208)

_CLONE_NEW_ANY = 0x7E020000
_MAP_SHARED = 1
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
_SOL_SOCKET, _SO_SNDBUF = 1, 7
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_NUMBER, _ARCHITECTURE = 0, 4

_Step = tuple[int, int, int, int]
"""Code, steps to skip if true, steps to skip if false, constant: one instruction of the kernel's packet filter."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def filter_system_calls() -> str:
    """Filters this process and all that it starts, for good; needs `kernel.forbid_new_privileges` before.

    Returns why it could not, "" if it did.
    """
    machine = platform.machine()
    if machine not in {"x86_64", "aarch64"}:
        return f"no filter of system calls for {machine}"
    steps = _steps(0 if machine == "x86_64" else 1)
    packed = b"".join(_pack(*step) for step in steps)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = _Program(len(steps), ctypes.addressof(buffer))
    try:
        kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))
    except OSError as error:
        return f"no filter of system calls ({error.strerror})"
    return ""


def _pack(code: int, if_true: int, if_false: int, constant: int) -> bytes:
    return code.to_bytes(2, "little") + bytes((if_true, if_false)) + constant.to_bytes(4, "little")


def _steps(column: int) -> list[_Step]:
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, (_X86_64, _ARM_64)[column]),
        (_RETURN, 0, 0, _REFUSE),  # the calls of 32-bit programs have other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _REFUSE),
        *_when(_CLONE3, [(_RETURN, 0, 0, _UNKNOWN)]),  # its flags cannot be read here; the C library then takes clone
        *_when(_CLONE[column], [_argument(0), (_IF_ANY_BIT, 1, 0, _CLONE_NEW_ANY), _allow(), _refuse()]),
        *_when(_MMAP[column], [_argument(3), (_IF_ANY_BIT, 1, 0, _MAP_SHARED), _allow(), _refuse()]),
        *_when(
            _SOCKETPAIR[column],
            [
                _argument(0),
                (_IF_EQUAL, 0, 4, _AF_UNIX),
                _argument(1),
                (_AND, 0, 0, _SOCK_TYPE_MASK),
                (_IF_EQUAL, 0, 1, _SOCK_STREAM),
                _allow(),
                _refuse(),
            ],
        ),
        *_when(
            _SETSOCKOPT[column],
            [
                _argument(1),
                (_IF_EQUAL, 0, 2, _SOL_SOCKET),
                _argument(2),
                (_IF_EQUAL, 1, 0, _SO_SNDBUF),
                _allow(),
                _refuse(),
            ],
        ),
    ]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            steps += _when(number, [_refuse()])
    return [*steps, _allow()]


def _when(number: int, steps: list[_Step]) -> list[_Step]:
    return [(_IF_EQUAL, 0, len(steps), number), *steps]


def _argument(index: int) -> _Step:
    """Loads the lower half of an argument."""
    return (_LOAD, 0, 0, 16 + 8 * index)


def _allow() -> _Step:
    return (_RETURN, 0, 0, _ALLOW)


def _refuse() -> _Step:
    return (_RETURN, 0, 0, _REFUSE)
