"""The namespaces and the root that bubblewrap builds, where it is installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from eager_lmeval.verify.jail.files import DEVICES, WORK, visible_paths

__all__ = ["bubblewrap_command", "bubblewrap_refusal"]

_PROBE_S = 20.0
_PACKAGE = Path(__file__).resolve().parent.parent.parent
_ALWAYS = (
    "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--die-with-parent", "--new-session", "--as-pid-1",
)  # fmt: skip
_AS_ROOT = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_CHOWN")
"""What the supervisor needs to give both sides users of their own."""
_AS_USER = ("--unshare-user", "--disable-userns")


def bubblewrap_command(disk_bytes: int) -> list[str]:
    """The command that runs another, appended to it, in a root of what Python needs, read-only, and `WORK`."""
    command = [shutil.which("bwrap") or "bwrap", *_ALWAYS, *(_AS_USER if os.geteuid() else _AS_ROOT)]
    shown = visible_paths(str(_PACKAGE))
    parents = {str(parent) for path in [*shown, "/dev/null"] for parent in Path(path).parents} - {"/"}
    for parent in sorted(parents):
        command += ["--perms", "0755", "--dir", parent]
    for path in shown:
        command += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]
    for device in DEVICES:
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--proc", "/proc", "--perms", "0700", "--size", str(disk_bytes), "--tmpfs", WORK]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--"]


@functools.cache
def bubblewrap_refusal() -> str:
    """Why bubblewrap cannot be used here, "" if it can; tried once in a process."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    probe: Sequence[str] = [*bubblewrap_command(1 << 20), sys.executable, "-I", "-S", "-c", ""]
    try:
        done = subprocess.run(
            probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here ({type(error).__name__})"
    said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1].removeprefix("bwrap: ")
    return f"bubblewrap does not work here ({said[:120]})" if done.returncode else ""
