"""Programs that want memory which no limit of a process sees. Capped and scaled down like those of `test_harm`.

The limit of a run is 256 MiB in memory and 8 MiB of files. A way that succeeds would take a page or 64 MiB.
"""

from __future__ import annotations

from machines import Run, bare_too, everywhere, in_namespaces

SETUP = """
import ctypes, errno, mmap, os, socket, sys, time
MIB = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
X86 = os.uname().machine == "x86_64"
def call(x86, arm, *arguments):
    result = libc.syscall(x86 if X86 else arm, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def shared(size, fd=-1, flags=1):
    place = libc.mmap(None, size, 3, flags | (32 if fd < 0 else 0), fd, 0)
    if place in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "refused")
    return place
"""

UNSEEN = {
    "memfd_create": "fd = call(319, 279, b'x', 0)\n    return os.write(fd, bytes(MIB))",
    "memfd_create with huge pages": "return call(319, 279, b'x', 4)",
    "memfd_secret": "return call(447, 447, 0)",
    "shared memory of System V": "return call(29, 194, 0, 64 * MIB, 0o1600)",
    "message queues of System V": "return call(68, 186, 0, 0o1600)",
    "semaphores of System V": "return call(64, 190, 0, 32000, 0o1600)",
    "message queues of POSIX": "return call(240, 180, b'/x', 0o102, 0o600, None)",
    "shared anonymous memory": "return shared(64 * MIB) and 1",
    "shared anonymous memory, validated": "return shared(64 * MIB, flags=3) and 1",
    "shared memory of /dev/zero": "return shared(64 * MIB, os.open('/dev/zero', os.O_RDWR)) and 1",
    "shared memory of Python": "return len(mmap.mmap(-1, 64 * MIB))",
    "pages given to a pipe": (
        "ends = os.pipe()\n    data = ctypes.create_string_buffer(4096)\n"
        "    return call(278, 75, ends[1], (ctypes.c_size_t * 2)(ctypes.addressof(data), 4096), 1, 8)"
    ),
    "pages of a file moved to a pipe": (
        "open('x', 'wb').write(bytes(4096))\n    ends = os.pipe()\n"
        "    return call(275, 76, os.open('x', 0), None, ends[1], None, 4096, 0)"
    ),
    "pages of a file sent to a pipe": (
        "open('x', 'wb').write(bytes(4096))\n    ends = os.pipe()\n"
        "    return os.sendfile(ends[1], os.open('x', 0), 0, 4096)"
    ),
    "pages of a pipe doubled": (
        "ends, more = os.pipe(), os.pipe()\n    os.write(ends[1], b'x')\n"
        "    return call(276, 77, ends[0], more[1], 1, 0)"
    ),
    "sockets that wait to be accepted": "return socket.socket(socket.AF_UNIX).fileno()",
    "datagrams of senders that are gone": "return socket.socketpair(type=socket.SOCK_DGRAM)[0].fileno()",
    "larger buffers of sockets": (
        "pair = socket.socketpair()\n    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)\n    return 1"
    ),
    "rings of requests": "return call(425, 425, 8, ctypes.create_string_buffer(120))",
    "watches on files": "return call(294, 26, 0)",
    "keys": "return call(248, 217, b'user', b'x', b'y', 1, -3)",
    "programs in the kernel": "return call(321, 280, 0, ctypes.create_string_buffer(128), 128)",
    "a user namespace, and file systems in it": "return call(272, 97, 0x10000000) == 0",
    "a user namespace for a new process": "return call(56, 220, 0x10000000 | 17, 0, 0, 0, 0) == 0 and os._exit(0)",
    "the other clone": "return call(435, 435, ctypes.create_string_buffer(88), 88)",
}


@everywhere
def test_memory_that_no_process_maps_is_refused(run: Run) -> None:
    """All ways in one run; without the filter of system calls most of them succeed."""
    ways = "".join(f"\ndef way{number}():\n    {body}\n" for number, body in enumerate(UNSEEN.values()))
    program = f"""{SETUP}{ways}
def add():
    got = []
    for number in range({len(UNSEEN)}):
        try:
            got.append(str(globals()[f"way{{number}}"]()))
        except OSError as error:
            got.append(errno.errorcode[error.errno])
    return got
"""
    expected = ["ENOSYS" if way == "the other clone" else "EPERM" for way in UNSEEN]
    test = (
        f"def check(candidate):\n    ways = {list(UNSEEN)!r}\n    got = list(zip(ways, candidate(), {expected!r}))\n"
        "    other = [(way, found) for way, found, wanted in got if found != wanted]\n    assert not other, other\n"
    )
    outcome = run(program, test)
    assert outcome.passed, outcome.note


HELD = """
import ctypes, os, threading, time
MIB = 1 << 20
def hoard(parts, size):
    held = [bytearray(os.urandom(MIB)) * size for _ in range(parts)]
    time.sleep(20)
"""


@bare_too
def test_processes_that_each_hold_less_than_the_limit_hold_no_more_together(run: Run) -> None:
    program = (
        f"{HELD}\nfor _ in range(6):\n    if os.fork() == 0:\n        hoard(2, 40)\ndef add(a, b): time.sleep(20)\n"
    )
    outcome = run(program, wall_s=10.0)
    assert not outcome.passed
    assert "limit of memory" in outcome.note


@bare_too
def test_a_process_whose_first_thread_has_ended_still_counts(run: Run) -> None:
    """The kernel shows nothing of its memory under the process's own name."""
    program = f"""{HELD}
def leave():
    threading.Thread(target=hoard, args=(2, 40)).start()
    ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit, of this thread alone
for _ in range(5):
    if os.fork() == 0:
        leave()
def add(a, b): time.sleep(20)
"""
    outcome = run(program, wall_s=10.0, processes=20)
    assert not outcome.passed
    assert "limit of memory" in outcome.note


@in_namespaces
def test_many_empty_files_end_at_their_number(run: Run) -> None:
    """They hold nothing, but the kernel keeps a kilobyte of each."""
    program = """
def add(a, b):
    for number in range(60_000):
        open(str(number), "x").close()
    return a + b
"""
    outcome = run(program, cpu_s=10, wall_s=20.0)
    assert not outcome.passed
    assert "No space left" in outcome.note or "limit of number of files" in outcome.note


@everywhere
def test_pipes_and_socket_pairs_hold_little(run: Run) -> None:
    """What is left to a program outside its processes: measured, for the kernel says it of the whole machine only."""
    program = """
import os, socket, fcntl
def add():
    held, keep = 0, []
    try:
        while True:
            ends = os.pipe() if len(keep) % 2 else [end.detach() for end in socket.socketpair()]
            keep.append(ends)
            os.set_blocking(ends[1], False)
            os.set_blocking(ends[0], False)
            for end in (ends[1], ends[0]):
                try:
                    while True:
                        held += os.write(end, bytes(65536))
                except OSError:
                    pass
    except OSError:
        pass
    return held
"""
    test = "def check(candidate):\n    held = candidate()\n    assert 0 < held <= 64 * (1 << 18), held\n"
    outcome = run(program, test)
    assert outcome.passed, outcome.note
