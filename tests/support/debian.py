"""System packages that tests need: skipped tests cannot fail, so root on Debian may have them installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

MAY_INSTALL = "EAGER_TESTS_INSTALL_PACKAGES"
"""The environment variable that lets the tests install a system package; `make test` sets it to 1."""
_TIMEOUT_S = 300.0


def find_program(*names: str) -> str | None:
    """The path of the first of these programs, None where there is none."""
    return next((path for name in names if (path := shutil.which(name))), None)


def install_missing(packages: dict[str, tuple[str, ...]]) -> None:
    """Installs each of these packages that has none of its programs here, and says what could not be installed.

    Does so if `MAY_INSTALL` is 1, this is root and there is apt-get; where not, tests that need them are skipped.
    """
    missing = [package for package, names in packages.items() if not find_program(*names)]
    if not missing or os.environ.get(MAY_INSTALL) != "1" or os.geteuid() or not shutil.which("apt-get"):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        try:
            subprocess.run(
                ["apt-get", "-q", *step], env=environment, capture_output=True, check=True, timeout=_TIMEOUT_S
            )
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{', '.join(missing)}: not installed, tests that need them are skipped: {error}", file=sys.stderr)
            return
