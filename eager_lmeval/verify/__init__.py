"""Is this text right: verifiers by name. Knows nothing of how the text was made.

A package adds its own under the entry point group ``eager_lmeval.verifiers``: name = a callable that returns a
`Verifier`. Importing this imports no verifier; each loads what it needs when first asked.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

from eager_lmeval.errors import UsageError, near_name
from eager_lmeval.verify.base import Graded, Guarded, Verifier

__all__ = ["ENTRY_POINT_GROUP", "Graded", "Verifier", "get_verifier", "verifier_names"]

ENTRY_POINT_GROUP = "eager_lmeval.verifiers"

_BUILT_IN = {
    "math": "eager_lmeval.verify.math:MathVerifier",
    "choice": "eager_lmeval.verify.choice:ChoiceVerifier",
    "code": "eager_lmeval.verify.code:CodeVerifier",
    "exact": "eager_lmeval.verify.exact:ExactVerifier",
}


def verifier_names() -> list[str]:
    """All names that `get_verifier` knows, the built-in ones first."""
    from importlib.metadata import entry_points

    return [*_BUILT_IN, *sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))]


@functools.cache
def get_verifier(name: str) -> Verifier:
    """The verifier of that name, one for a process, so that its worker and cache are shared.

    UsageError where there is none, with the near name. No text makes its ``grade`` raise (`Guarded`).
    """
    return Guarded(_factory(name)())


def _factory(name: str) -> Any:
    from importlib.metadata import entry_points

    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return point.load()

    names = verifier_names()
    near = near_name(name, names)
    hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(names)}"
    raise UsageError(f"verifier={name!r} is not known; {hint}")
