"""What the configuration says of the tests is so: every marker is used, and names do not collide."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

FILES = [path for path in Path(__file__).parent.rglob("*.py") if path != Path(__file__)]


def test_every_marker_is_used(pytestconfig: pytest.Config) -> None:
    """Those of the project; other plugins register theirs before."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    project = (pytestconfig.rootpath / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r'^    "(\w+)\(\w+\):', project, re.MULTILINE)
    assert "slow" in declared
    assert [name for name in declared if f"pytest.mark.{name}(" not in source] == []


def test_no_two_modules_of_tests_have_one_name() -> None:
    """pytest imports them by it, and would not collect the second; `make test-vllm` has a run of its own."""
    names = Counter(path.name for path in FILES if path.name.startswith("test_") and "vllm" not in path.parts)
    assert [name for name, count in names.items() if count > 1] == []
