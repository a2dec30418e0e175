"""Exceptions of the program as the tests see them: of the same classes and with the same text."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from eager_lmeval.verify.jail.messages import UnsupportedValue
from eager_lmeval.verify.jail.values import Values

__all__ = ["to_exception", "to_message"]

_NAME_LENGTH = 100
_SLOTS = ("filename", "filename2", "name", "path")
"""What Python's own exceptions keep neither in their arguments nor in their dict."""
_SKIPPERS = {"unittest", "pytest", "_pytest"}
"""Their exceptions tell a runner to leave a test out: a program has no say in that."""


def to_message(error: BaseException, values: Values) -> dict[str, Any]:
    """Dumps an exception: its classes by name, its text, and its arguments and attributes where they can pass."""
    kinds = [[kind.__module__, kind.__name__] for kind in type(error).__mro__ if issubclass(kind, BaseException)]
    try:
        text = str(error)
    except BaseException:  # an exception may raise when it is printed
        text = ""
    slots = {name: getattr(error, name) for name in _SLOTS if isinstance(getattr(error, name, None), str)}
    try:
        content = values.dump((error.args, {**vars(error), **slots}))
    except UnsupportedValue:
        content = values.dump(((text,), {}))
    return {"kinds": kinds, "text": text, "content": content}


def to_exception(message: Any, values: Values, classes: Mapping[str, Any]) -> BaseException:
    """The exception of `to_message`. A class that the tests do not have becomes one of its name upon those they have.

    ``classes`` are the prompt's globals. UnsupportedValue where the message is none.
    """
    try:
        kinds, text = message["kinds"], str(message["text"])
        args, attributes = values.load(message["content"])
        kind = _class_for(kinds, classes)
        error = _instance(kind, args, attributes)
        if _text(error) != text:
            error = _instance(type(kind.__name__, (kind,), {"__str__": lambda self: text}), args, attributes)
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise UnsupportedValue(f"no exception: {type(fault).__name__}: {fault}"[:200]) from fault
    return error


def _class_for(kinds: list[list[str]], classes: Mapping[str, Any]) -> type[BaseException]:
    bases: list[type[BaseException]] = []
    for position, (module, name) in enumerate(kinds):
        found = _known_class(module, name, classes)
        if found is not None and position == 0:
            return found
        if found is not None and not any(issubclass(base, found) for base in bases):
            bases.append(found)
    own_name = kinds[0][1][:_NAME_LENGTH]
    bases = bases or [Exception]
    try:
        return type(own_name, tuple(bases), {})
    except TypeError:  # two of them cannot go together here
        return type(own_name, tuple(bases[:1]), {})


def _known_class(module: str, name: str, classes: Mapping[str, Any]) -> type[BaseException] | None:
    if module == "program":
        found = classes.get(name)
        if getattr(found, "__module__", None) != classes.get("__name__"):  # imported, so another class of that name
            return None
    elif module.partition(".")[0] in _SKIPPERS:
        return None
    else:
        found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _instance(kind: type[BaseException], args: Any, attributes: Any) -> BaseException:
    try:
        error = kind(*args)
    except Exception:  # a constructor may take something else than what it keeps as `args`
        error = kind.__new__(kind, *args)
        error.args = tuple(args)
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def _text(error: BaseException) -> str | None:
    try:
        return str(error)
    except Exception:
        return None
