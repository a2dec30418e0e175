"""Verifiers by name, and the smallest of them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from eager_lmeval.errors import UsageError
from eager_lmeval.verify import ENTRY_POINT_GROUP, get_verifier, verifier_names
from eager_lmeval.verify.exact import ExactVerifier


def test_every_built_in_verifier_answers_to_its_name() -> None:
    assert {name: get_verifier(name).name for name in ("math", "choice", "code", "exact")} == {
        name: name for name in ("math", "choice", "code", "exact")
    }
    assert get_verifier("math") is get_verifier("math")


@pytest.mark.parametrize(
    ("name", "hint"), [("maths", "'math'"), ("choices", "'choice'"), ("sql", "there are: math, choice")]
)
def test_an_unknown_name_is_answered_with_the_near_one(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        get_verifier(name)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UsageError, match="limit"):
        get_verifier("math", limit=3)
    with pytest.raises(UsageError, match="positive"):
        get_verifier("math", limit_s=0)


def test_packages_add_verifiers_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("louder", "eager_lmeval.verify.exact:ExactVerifier", ENTRY_POINT_GROUP)

    def entry_points(group: str, **only: Any) -> list[EntryPoint]:
        return [point] if group == ENTRY_POINT_GROUP and only.get("name", "louder") == "louder" else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert isinstance(get_verifier("louder"), ExactVerifier)
    assert verifier_names()[-1] == "louder"


def test_importing_the_registry_imports_nothing_heavy() -> None:
    program = (
        "import sys; import eager_lmeval.verify; "
        "heavy = {'sympy', 'math_verify', 'torch', 'numpy', 'lm_eval'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_exact_compares_after_white_space_is_normalised() -> None:
    graded = get_verifier("exact").grade(["a  b\n", "a b", "ab", "", None, "A b"], " a b")
    assert [one.correct for one in graded] == [True, True, False, False, False, False]
    assert [one.answer_class for one in graded] == [0, 0, 1, None, None, 2]
