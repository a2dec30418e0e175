"""Plain values as JSON: the only thing that passes between tests and program.

A message is ``{"value": atom, "objects": [[kind, atom, ...], ...]}``. An atom is None, a boolean, a number or a string
as itself, ``[number]`` for an object, or ``{type: value}`` for what JSON does not know. Objects are containers; both
sides number them alike as they first appear in a call, and each message has all of them. So one object stays one,
however often it is mentioned, and an answer says what has become of the arguments: they are changed in place.

Loading builds plain values and nothing else, whatever the bytes say. What extends or equals a plain value (a Counter,
a named tuple, a number of numpy) arrives as that value, so no comparison of its own crosses with it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

from eager_lmeval.verify.jail.messages import UnsupportedValue

__all__ = ["Values"]

_SAFE_INTEGER = 1 << 62
_UNBUILT = object()
_LOADS: dict[str, Callable[[Any], Any]] = {
    "int": lambda digits: int(digits, 16),
    "complex": lambda parts: complex(*parts),
    "bytes": bytes.fromhex,
    "nan": lambda nothing: math.nan,
}
_CHANGING: dict[str, Callable[[], Any]] = {"list": list, "dict": dict, "set": set}
_FIXED: dict[str, Callable[[Iterable[Any]], Any]] = {
    "tuple": tuple,
    "frozenset": frozenset,
    "nan": lambda nothing: float("nan"),
}


class Values:
    """The objects of one call, on one side: the side that asks dumps arguments and loads the answer."""

    def __init__(self) -> None:
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def dump(self, value: object) -> dict[str, Any]:
        """The message for a value. UnsupportedValue where it, or what it holds, neither is nor equals a plain one."""
        atom = self._atom(value)
        entries: list[list[Any]] = []
        while len(entries) < len(self._objects):  # which grow by what each of them holds
            thing = self._objects[len(entries)]
            kind = _kind_of(thing)
            parts = [part for pair in thing.items() for part in pair] if kind == "dict" else thing
            entries.append([kind, *([] if kind == "nan" else map(self._atom, parts))])
        return {"value": atom, "objects": entries}

    def _atom(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return value if -_SAFE_INTEGER < value < _SAFE_INTEGER else {"int": hex(value)}
        if isinstance(value, float) and not math.isnan(value):
            return value
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if id(value) == id(math.nan):  # in a list, one NaN equals itself and no other
            return {"nan": ""}
        if isinstance(value, Fraction | Decimal):
            return self._atom(_plain_number(value))
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic) and not isinstance(value.item(), numpy.generic):
            return self._atom(value.item())
        if id(value) not in self._numbers:
            _kind_of(value)
            self._objects.append(value)  # and thereby kept, so that its id stays its own
            self._numbers[id(value)] = len(self._objects) - 1
        return [self._numbers[id(value)]]

    def load(self, message: Any) -> Any:
        """The value of a message of the other side's `dump`. UnsupportedValue for anything else."""
        try:
            return self._load(message["value"], message["objects"])
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise UnsupportedValue(f"no value: {type(error).__name__}: {error}"[:200]) from error
        except (RecursionError, MemoryError) as error:
            raise UnsupportedValue("no value: nested too deeply or too large") from error

    def _load(self, atom: Any, entries: list[list[Any]]) -> Any:
        known = len(self._objects)
        if [kind for kind, *_ in entries[:known]] != list(map(_kind_of, self._objects)):
            raise UnsupportedValue("an object that became another kind")
        self._objects += [_CHANGING.get(kind, lambda: _UNBUILT)() for kind, *_ in entries[known:]]

        def value_of(atom: Any) -> Any:
            if isinstance(atom, dict):
                ((name, parts),) = atom.items()
                return _LOADS[name](parts)
            if not isinstance(atom, list):
                return atom
            (number,) = atom
            if self._objects[number] is _UNBUILT:  # it cannot change, so it is made whole, after its parts
                kind, *atoms = entries[number]
                self._objects[number] = _FIXED[kind]([value_of(part) for part in atoms])
            return self._objects[number]

        filled = [[value_of(part) for part in atoms] for _, *atoms in entries]
        for number, parts in enumerate(filled):
            self._numbers[id(value_of([number]))] = number
            _fill(self._objects[number], parts)
        return value_of(atom)


def _fill(target: Any, parts: list[Any]) -> None:
    if isinstance(target, list):
        target[:] = parts
    elif isinstance(target, dict):
        pairs = dict(zip(parts[::2], parts[1::2], strict=True))
        target.clear()
        target.update(pairs)
    elif isinstance(target, set):
        target.clear()
        target.update(parts)


def _plain_number(value: Fraction | Decimal) -> int | float:
    for plain in (int, float):
        try:
            if plain(value) == value:
                return plain(value)
        except (ValueError, ArithmeticError):  # NaN, or beyond all floats
            continue
    raise UnsupportedValue(f"{value!r:.100} equals no int or float and cannot pass between tests and program")


def _kind_of(value: Any) -> str:
    if isinstance(value, float):
        return "nan"
    for kind, name in ((list, "list"), (tuple, "tuple"), (Mapping, "dict"), (frozenset, "frozenset"), (Set, "set")):
        if isinstance(value, kind):
            return name
    raise UnsupportedValue(f"a value of type {type(value).__name__} cannot pass between tests and program")
