"""Verifiers by name, and the smallest of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from eager_lmeval.errors import UsageError
from eager_lmeval.verify import ENTRY_POINT_GROUP, get_verifier, verifier_names
from eager_lmeval.verify.base import Graded, Guarded, Unavailable
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


def test_packages_add_verifiers_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("louder", "eager_lmeval.verify.exact:ExactVerifier", ENTRY_POINT_GROUP)

    def entry_points(group: str, **only: Any) -> list[EntryPoint]:
        return [point] if group == ENTRY_POINT_GROUP and only.get("name", "louder") == "louder" else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert [graded.correct for graded in get_verifier("louder").grade(["a", "b"], "b")] == [False, True]
    assert verifier_names()[-1] == "louder"


class Fragile(ExactVerifier):
    """`exact`, but for texts that are the name of an exception, which it raises."""

    name = "fragile"

    def grade(self, texts: Sequence[str | None], label: str) -> list[Graded]:
        if label == "KeyError":
            raise KeyError(label)
        for text in texts:
            if (raised := RAISED.get(text or "")) is not None:
                raise raised
        return super().grade(texts, label)


RAISED = {
    "ValueError": ValueError("not enough values to unpack"),
    "RecursionError": RecursionError("too deep"),
    "MemoryError": MemoryError(),
    "UsageError": UsageError("a label that cannot be read"),
    "Unavailable": Unavailable("no worker"),
    "OSError": OSError("no room left"),
}


def test_a_text_on_which_the_verifier_fails_is_wrong_and_said_to_be_so_and_the_others_are_graded() -> None:
    texts = ["a", "ValueError", "b", None, "RecursionError", "a", "MemoryError"]
    graded = Guarded(Fragile()).grade(texts, "b")
    assert [one.correct for one in graded] == [False, False, True, False, False, False, False]
    assert [one.answer_class for one in graded] == [0, None, 1, None, None, 0, None]
    assert [one.failed for one in graded] == [text in RAISED for text in texts]
    assert graded[1].note == "ValueError: not enough values to unpack"


def test_a_label_on_which_the_verifier_fails_is_refused() -> None:
    with pytest.raises(UsageError, match="verifier=fragile: the label 'KeyError' cannot be read"):
        Guarded(Fragile()).grade([], "KeyError")


@pytest.mark.parametrize("text", ["UsageError", "Unavailable", "OSError"])
def test_what_is_no_fault_of_the_text_passes(text: str) -> None:
    with pytest.raises(type(RAISED[text])):
        Guarded(Fragile()).grade([text], "b")


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
