"""System packages that tests need: skipped tests cannot fail, so root on Debian may have them installed."""

from __future__ import annotations

import os
import shutil
import subprocess

MAY_INSTALL = "EAGER_TESTS_INSTALL_PACKAGES"
"""The environment variable that lets the tests install a system package; `make test` sets it to 1."""
_TIMEOUT_S = 300.0


def find_program(package: str, *names: str) -> str | None:
    """The path of the first of these programs, None where there is none.

    Taken from Debian's packages first, if `MAY_INSTALL` is 1, this is root and there is apt-get.
    """
    found = _installed(names)
    if found or os.environ.get(MAY_INSTALL) != "1" or os.geteuid() or not shutil.which("apt-get"):
        return found
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", package]):
        try:
            subprocess.run(
                ["apt-get", "-q", *step], env=environment, capture_output=True, check=True, timeout=_TIMEOUT_S
            )
        except (subprocess.SubprocessError, OSError):
            return None
    return _installed(names)


def _installed(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)
