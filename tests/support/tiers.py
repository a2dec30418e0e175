"""The two tiers of the tests: what `make test` runs, and what `make test-all` runs beside it.

A test that only `make test-all` runs carries the marker ``slow`` with a reason. A test of both tiers whose size tells
how much it sees (examples, simulated runs, documents) takes it from `sized`.
"""

from __future__ import annotations

import os

ALL = os.environ.get("EAGER_TESTS_ALL") == "1"
"""Whether this is the whole suite; `make test-all` sets the variable."""


def sized(usual: int, whole: int) -> int:
    """How many of something a test takes: ``usual`` in `make test`, ``whole`` in `make test-all`."""
    return whole if ALL else usual
