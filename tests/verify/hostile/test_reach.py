"""Programs that reach for what is not theirs: files, processes, secrets, the network. Capped as in `test_harm`."""

from __future__ import annotations

import socket
from pathlib import Path

from machines import SECRET, Run, bare_too, everywhere, in_namespaces

from eager_lmeval.verify.jail.files import WORK


@bare_too
def test_killing_the_parent_neither_harms_nor_passes(run: Run) -> None:
    assert not run("import os\nos.kill(os.getppid(), 9)\ndef add(a, b): return 0").passed
    assert not run("import os\ndef add(a, b): os.kill(os.getppid(), 9)").passed


def test_killing_everyone_neither_harms_nor_passes(run: Run) -> None:
    kills = """
import os
def add(a, b):
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if pid != os.getpid() and "eager-program-" in open(f"/proc/{pid}/cmdline").read():
            try:
                os.kill(pid, 9)
            except OSError:
                pass
    return 0
"""
    assert not run(kills).passed


@bare_too
def test_the_home_directory_is_out_of_reach(run: Run, place: Path) -> None:
    deletes = f"""
import os, shutil
def add():
    reached = [os.environ["HOME"] == {str(place / "home")!r}]
    try:
        open({str(place / "home" / "keepsake")!r})
        reached.append(True)
    except OSError:
        pass
    for home in (os.path.expanduser("~"), {str(place / "home")!r}):
        shutil.rmtree(home, ignore_errors=True)
    return reached
"""
    assert run(deletes, "def check(candidate):\n    assert candidate() == [False]\n").passed


@bare_too
def test_files_can_be_made_in_the_programs_own_folder_only(run: Run) -> None:
    """Shared memory and temporary folders of the machine are memory, too, and outlive the run."""
    makes = """
import os
def add():
    made = []
    for folder in ("/dev/shm", "/tmp", "/var/tmp", "/run", "/run/lock", "/", "/proc/self/cwd/.."):
        path = os.path.join(folder, f"eager-lmeval-test-{os.getpid()}")
        try:
            open(path, "x").close()
            os.remove(path)
            made.append(folder)
        except OSError:
            pass
    os.mkdir("own")
    with open("own/file", "w+") as own:
        own.write("x")
    return made
"""
    outcome = run(makes, "def check(candidate):\n    made = candidate()\n    assert made == [], made\n")
    assert outcome.passed, outcome.note


@bare_too
def test_the_callers_environment_is_out_of_reach(run: Run) -> None:
    reads = f"""
import glob, os
def add():
    seen = [repr(os.environ)]
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        try:
            seen.append(open(path, "rb").read().decode(errors="replace"))
        except OSError:
            pass
    return ["a-secret" + {SECRET.removeprefix("a-secret")!r} in text for text in seen]
"""
    assert run(reads, "def check(candidate):\n    found = candidate()\n    assert found and not any(found)\n").passed


@bare_too
def test_the_checker_and_the_interpreter_cannot_be_overwritten(run: Run) -> None:
    from eager_lmeval.verify.jail import sides

    opens = f"""
import json, os, sys
def add():
    opened = []
    places = [{str(Path(sides.__file__))!r}, json.__file__, os.__file__, sys.executable, "/usr/bin/env"]
    for path in places:
        try:
            open(path, "r+b").close()
            opened.append(path)
        except OSError:
            pass
        try:
            open(os.path.join(os.path.dirname(path), "planted.py"), "x").close()
            os.remove(os.path.join(os.path.dirname(path), "planted.py"))
            opened.append(os.path.dirname(path))
        except OSError:
            pass
    return opened
"""
    outcome = run(opens, "def check(candidate):\n    opened = candidate()\n    assert opened == [], opened\n")
    assert outcome.passed, outcome.note


@in_namespaces
def test_what_the_namespaces_show_is_read_only(run: Run) -> None:
    """Whoever owns the files: an interpreter may well belong to the user who runs it."""
    lists = """
def add():
    mounts = [line.split() for line in open("/proc/self/mountinfo")]
    return [fields[4] for fields in mounts if not fields[5].startswith("ro")]
"""
    test = (
        "def check(candidate):\n    writable = set(candidate())\n"
        f"    small = {{'/', {WORK!r}}}  # in memory, to the run's own user in one folder\n"
        "    assert writable & small\n"
        "    others = [path for path in writable - small if not path.startswith(('/dev/', '/proc'))]\n"
        "    assert not others, others\n"
    )
    outcome = run(lists, test)
    assert outcome.passed, outcome.note


@bare_too
def test_there_is_no_network(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connects = f"""
import socket
def add():
    try:
        socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=1).close()
        return True
    except OSError:
        return False
"""
        assert run(connects, "def check(candidate):\n    assert candidate() is False\n").passed


@everywhere
def test_the_program_is_nobody_and_cannot_become_anybody(run: Run) -> None:
    tries = """
import ctypes, os
def add():
    status = open("/proc/self/status").read() if os.path.exists("/proc/self/status") else ""
    fields = dict(line.split(":\\t", 1) for line in status.splitlines() if ":\\t" in line)
    try:
        os.setuid(0)
        became_root = True
    except OSError:
        became_root = False
    new_users = ctypes.CDLL(None).unshare(0x10000000) == 0
    return os.getuid(), int(fields["CapEff"], 16), fields["NoNewPrivs"], became_root, new_users
"""
    test = (
        "def check(candidate):\n    user, capabilities, no_new, root, users = candidate()\n"
        "    assert user != 0 and capabilities == 0 and no_new == '1' and not root\n"
        "    assert not users\n"
    )
    outcome = run(tries, test)
    assert outcome.passed, outcome.note
