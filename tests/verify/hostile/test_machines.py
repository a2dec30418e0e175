"""Which of these tests are skipped is up to the machine."""

from __future__ import annotations

from pathlib import Path

import machines
import pytest
from machines import BARE, BUBBLEWRAP, BUBBLEWRAP_USER, LIMITS_ONLY, usable


def test_a_jail_that_runs_nothing_fails_its_tests_instead_of_having_them_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its runs are not what tells where it can be tested."""
    kinds = (BUBBLEWRAP, BUBBLEWRAP_USER, LIMITS_ONLY, BARE)
    here = [usable(machine) for machine in kinds]
    monkeypatch.setattr(machines, "DRIVER", Path("/nonexistent"))
    usable.cache_clear()
    assert [usable(machine) for machine in kinds] == here
