"""Python values as JSON: the only thing that passes between tests and program.

A message is ``{"value": atom, "objects": [[number, kind, atom, ...], ...]}``. An atom is None, a boolean, a number or a
string as itself, ``[number]`` for an object, or ``{type: value}`` for what JSON does not know. Objects are containers,
arrays and records; both sides number them alike as they first appear in a call. So one object stays one, however
often it is mentioned, and an answer can say what has become of the arguments: the caller's own objects are then
changed in place.

Loading builds values of the listed types and nothing else, whatever the bytes say. Subclasses arrive as what they
extend, so no comparison of their own crosses with them.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import functools
import itertools
import json
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from eager_lmeval.verify.jail.messages import UnsupportedValue

__all__ = ["Values"]

_MAX_ITERATED = 100_000
_SAFE_INTEGER = 1 << 62
_UNBUILT = object()
_FACTORIES = {kind.__name__: kind for kind in (bool, int, float, str, list, dict, set, tuple)}
_ARRAY_KINDS = "biufcSUmM"


class Values:
    """The objects of one call, on one side: the side that asks dumps arguments and loads the answer.

    ``classes`` are this side's globals: an object of a class that both sides define (the prompt does) passes as its
    attributes. ``lend`` numbers an iterator that stays here, ``borrow`` makes one that asks the other side for items;
    without them iterators are passed as all their items.
    """

    def __init__(
        self,
        classes: Mapping[str, Any] | None = None,
        lend: Callable[[Iterator[Any]], int] | None = None,
        borrow: Callable[[int, bool], Iterator[Any]] | None = None,
    ) -> None:
        self._classes = classes or {}
        self._lend, self._borrow = lend, borrow
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._known: dict[int, str] = {}
        """What the other side knows of each object's contents, as JSON."""
        self._pending: list[int] = []

    # ---- dumping

    def dump(self, value: object) -> dict[str, Any]:
        """The message for a value, with all objects in it, and those passed before whose contents have changed."""
        self._pending = [number for number, thing in enumerate(self._objects) if _kind_of(thing).fill is not None]
        atom = self._atom(value)
        objects = []
        while self._pending:
            number = self._pending.pop()
            kind = _kind_of(self._objects[number])
            entry = [kind.name, *map(self._atom, kind.parts(self, self._objects[number]))]
            text = json.dumps(entry)
            if self._known.get(number) != text:
                self._known[number] = text
                objects.append([number, *entry])
        return {"value": atom, "objects": objects}

    def _atom(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "dtype"):
            return {"numpy": [_array_type(value), value.tobytes().hex()]}
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, float):
            number = float.__float__(value)
            if not math.isnan(number):
                return number
            return {"nan": "math"} if id(value) == id(math.nan) else self._reference(value)
        if isinstance(value, int):
            number = int.__index__(value)
            return number if abs(number) < _SAFE_INTEGER else {"int": hex(number)}
        for kind, name, dump, _ in _SCALARS:
            if isinstance(value, kind):
                return {name: dump(value)}
        return self._reference(value)

    def _reference(self, value: object) -> list[int]:
        number = self._numbers.get(id(value))
        if number is None:
            _kind_of(value)
            number = self._add(value)
            self._pending.append(number)
        return [number]

    def _add(self, value: object) -> int:
        self._objects.append(value)  # and thereby kept, so that its id stays its own
        if value is not _UNBUILT:
            self._numbers[id(value)] = len(self._objects) - 1
        return len(self._objects) - 1

    # ---- loading

    def load(self, message: Any) -> Any:
        """The value of a message of the other side's `dump`. UnsupportedValue for anything else."""
        try:
            return self._load(message["value"], {number: rest for number, *rest in message["objects"]})
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, ImportError) as error:
            raise UnsupportedValue(f"no value: {type(error).__name__}: {error}"[:200]) from error
        except (RecursionError, MemoryError) as error:
            raise UnsupportedValue("no value: nested too deeply or too large") from error

    def _load(self, atom: Any, entries: dict[int, list[Any]]) -> Any:
        first_new = len(self._objects)
        for number in range(first_new, first_new + sum(number >= first_new for number in entries)):
            kind, *atoms = entries[number]
            empty = _KINDS[kind].empty
            self._add(_UNBUILT if empty is None else empty(self, atoms))
        for number, (kind, *_) in entries.items():
            if number < first_new and (_kind_of(self._objects[number]).name != kind or _KINDS[kind].fill is None):
                raise UnsupportedValue(f"an object that became a {kind}")
        build = _Builder(self, entries)
        for number in entries:
            build.object(number)
        value = build.atom(atom)
        filled = [(number, [build.atom(atom) for atom in atoms]) for number, (_, *atoms) in entries.items()]
        for number, parts in filled:
            fill = _KINDS[entries[number][0]].fill
            if fill is not None:
                fill(self._objects[number], parts)
            self._known[number] = json.dumps(entries[number])
        return value

    # ---- for the kinds

    def class_named(self, name: object, fields: Iterable[str] | None = None) -> type | None:
        """This side's own class of that name; with ``fields``, a record's of just those."""
        found = self._classes.get(name) if isinstance(name, str) else None
        if not isinstance(found, type) or found.__module__ != self._classes.get("__name__"):
            return None
        return found if fields is None or tuple(fields) == _fields_of(found) else None

    def iterator_parts(self, value: Iterator[Any]) -> list[Any]:
        if self._lend is not None:
            return [self._lend(value), isinstance(value, types.GeneratorType)]
        items = list(itertools.islice(value, _MAX_ITERATED + 1))
        if len(items) > _MAX_ITERATED:
            raise UnsupportedValue(f"an iterator of more than {_MAX_ITERATED} items cannot pass")
        return items

    def iterator_of(self, parts: list[Any]) -> Iterator[Any]:
        return iter(parts) if self._borrow is None else self._borrow(int(parts[0]), bool(parts[1]))


class _Builder:
    """Makes the objects of one message; those that cannot change are made whole, and therefore after their parts."""

    def __init__(self, values: Values, entries: dict[int, list[Any]]) -> None:
        self._values = values
        self._entries = entries
        self._under_way: set[int] = set()

    def object(self, number: int) -> Any:
        objects = self._values._objects
        if objects[number] is _UNBUILT:
            if number in self._under_way:
                raise UnsupportedValue("a value that holds itself")
            self._under_way.add(number)
            kind, *atoms = self._entries[number]
            objects[number] = _KINDS[kind].build(self._values, [self.atom(atom) for atom in atoms])
            self._values._numbers[id(objects[number])] = number
        return objects[number]

    def atom(self, atom: Any) -> Any:
        if isinstance(atom, list):
            (number,) = atom
            if not 0 <= number < len(self._values._objects):
                raise UnsupportedValue("a reference to no object")
            return self.object(number)
        if isinstance(atom, dict):
            ((name, value),) = atom.items()
            return _LOADS[name](value)
        return atom


# ---- values that never change and hold nothing


def _array_type(value: Any) -> str:
    if value.dtype.kind not in _ARRAY_KINDS:
        raise UnsupportedValue(f"an array of {value.dtype} cannot pass between tests and program")
    return str(value.dtype.str)


def _numpy_scalar(value: Any) -> Any:
    import numpy

    kind, data = value
    return numpy.frombuffer(bytes.fromhex(data), _numpy_type(kind))[0]


def _numpy_type(name: Any) -> Any:
    import numpy

    dtype = numpy.dtype(str(name))
    if dtype.kind not in _ARRAY_KINDS:
        raise UnsupportedValue(f"an array of {name}")
    return dtype


_SCALARS: tuple[tuple[type, str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    (bytes, "bytes", bytes.hex, bytes.fromhex),
    (complex, "complex", lambda value: [value.real, value.imag], lambda value: complex(*value)),
    (range, "range", lambda value: [hex(value.start), hex(value.stop), hex(value.step)],
     lambda value: range(*(int(part, 16) for part in value))),
    (Fraction, "Fraction", lambda value: [hex(value.numerator), hex(value.denominator)],
     lambda value: Fraction(*(int(part, 16) for part in value))),
    (Decimal, "Decimal", str, Decimal),
    (datetime.datetime, "datetime", datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    (datetime.date, "date", datetime.date.isoformat, datetime.date.fromisoformat),
    (datetime.time, "time", datetime.time.isoformat, datetime.time.fromisoformat),
    (datetime.timedelta, "timedelta", lambda value: [value.days, value.seconds, value.microseconds],
     lambda value: datetime.timedelta(*value)),
    (type(Ellipsis), "Ellipsis", lambda value: "", lambda value: ...),
)  # fmt: skip
_LOADS: dict[str, Callable[[Any], Any]] = {
    "int": lambda value: int(value, 16),
    "nan": lambda value: math.nan,
    "numpy": _numpy_scalar,
    **{name: load for _, name, _, load in _SCALARS},
}


# ---- objects


class _Kind(NamedTuple):
    """How objects of a kind pass. ``empty`` and ``fill`` where they can change, ``build`` where they cannot."""

    name: str
    parts: Callable[[Values, Any], Iterable[Any]]
    empty: Callable[[Values, list[Any]], Any] | None = None
    fill: Callable[[Any, list[Any]], None] | None = None
    build: Callable[[Values, list[Any]], Any] = lambda values, parts: None


def _pairs(values: Values, mapping: Mapping[Any, Any]) -> list[Any]:
    return [part for pair in list(mapping.items()) for part in pair]


def _fill_dict(target: dict[Any, Any], parts: list[Any]) -> None:
    new = dict(zip(parts[::2], parts[1::2], strict=True))
    target.clear()
    for key, item in new.items():
        target[key] = item


def _fill_default_dict(target: Any, parts: list[Any]) -> None:
    _fill_dict(target, parts[1:])


def _fill_deque(target: Any, parts: list[Any]) -> None:
    target.clear()
    target.extend(parts[1:])


def _fill_set(target: set[Any], parts: list[Any]) -> None:
    new = set(parts)
    target.clear()
    target.update(new)


def _fill_bytes(target: bytearray, parts: list[Any]) -> None:
    target[:] = bytes.fromhex(parts[0])


def _array_parts(values: Values, array: Any) -> list[Any]:
    if array.dtype.kind == "O":
        return ["O", array.ndim, *array.shape, *array.ravel().tolist()]
    return [_array_type(array), array.ndim, *array.shape, array.tobytes().hex()]


def _empty_array(values: Values, atoms: list[Any]) -> Any:
    import numpy

    kind, dimensions, *shape = atoms
    shape = shape[:dimensions]
    held = len(atoms) if kind == "O" else len(atoms[-1]) // 2 // max(1, _numpy_type(kind).itemsize)
    if math.prod(shape) > held:
        raise UnsupportedValue("an array larger than its contents")
    return numpy.empty(shape, object if kind == "O" else _numpy_type(kind))


def _fill_array(target: Any, parts: list[Any]) -> None:
    import numpy

    kind, dimensions, *rest = parts
    shape, items = rest[:dimensions], rest[dimensions:]
    if kind == "O":
        flat = numpy.empty(len(items), object)
        flat[:] = items
    else:
        flat = numpy.frombuffer(bytes.fromhex(items[0]), _numpy_type(kind))
    target[...] = flat.reshape(shape)


def _default_dict_parts(values: Values, value: Any) -> list[Any]:
    factory = value.default_factory
    name = str(getattr(factory, "__name__", ""))
    return [name if _FACTORIES.get(name) is factory else None, *_pairs(values, value)]


def _view(name: str) -> _Kind:
    return _Kind(name, lambda values, view: [dict(view.mapping)], build=lambda values, parts: getattr(parts[0], name)())


def _fields_of(kind: type) -> tuple[str, ...] | None:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return getattr(kind, "_fields", None)


def _named_tuple_parts(values: Values, value: Any) -> list[Any]:
    return [type(value).__name__, len(value), *type(value)._fields, *value]


def _named_tuple(values: Values, parts: list[Any]) -> Any:
    name, count, *rest = parts
    fields = tuple(rest[:count])
    kind: Any = values.class_named(name, fields)
    if kind is None or not issubclass(kind, tuple):
        kind = _named_tuple_class(str(name), fields)
    return tuple.__new__(kind, rest[count:])


@functools.lru_cache(1000)
def _named_tuple_class(name: str, fields: tuple[str, ...]) -> Any:
    return collections.namedtuple(name, fields)  # it checks that all are names


def _dataclass_parts(values: Values, value: Any) -> list[Any]:
    kind = type(value)
    settings = kind.__dataclass_params__
    own = kind.__dict__.get("__eq__")
    if settings.eq and getattr(getattr(own, "__code__", None), "co_filename", "") == "<program>":
        raise UnsupportedValue(f"a value of class {kind.__name__}, which compares in its own way, cannot pass")
    fields = _fields_of(kind) or ()
    flags = [bool(settings.eq), bool(settings.order), bool(settings.frozen)]
    return [kind.__name__, *flags, len(fields), *fields, *(getattr(value, field) for field in fields)]


def _empty_dataclass(values: Values, atoms: list[Any]) -> Any:
    name, equal, order, frozen, count, *rest = atoms
    fields = tuple(rest[:count])
    if not str(name).isidentifier() or any(str(field).startswith("__") for field in fields):
        raise UnsupportedValue("a record without a proper name")
    kind: Any = values.class_named(name, fields)
    if kind is None or not dataclasses.is_dataclass(kind):
        kind = _dataclass(str(name), fields, bool(equal), bool(order), bool(frozen))
    return object.__new__(kind)


@functools.lru_cache(1000)
def _dataclass(name: str, fields: tuple[str, ...], equal: bool, order: bool, frozen: bool) -> type:
    return dataclasses.make_dataclass(name, fields, eq=equal, order=order, frozen=frozen)  # it checks the names


def _fill_dataclass(target: Any, parts: list[Any]) -> None:
    _, _, _, _, count, *rest = parts
    for field, value in zip(rest[:count], rest[count:], strict=True):
        object.__setattr__(target, field, value)


def _object_parts(values: Values, value: Any) -> list[Any]:
    attributes = vars(value)
    return [type(value).__name__, len(attributes), *attributes, *attributes.values()]


def _empty_object(values: Values, atoms: list[Any]) -> Any:
    kind = values.class_named(atoms[0])
    if kind is None or _base_of(kind) is not object:
        raise UnsupportedValue(f"a value of type {str(atoms[0])[:50]} cannot pass between tests and program")
    return object.__new__(kind)


def _fill_object(target: Any, parts: list[Any]) -> None:
    _, count, *rest = parts
    new = dict(zip(rest[:count], rest[count:], strict=True))
    vars(target).clear()
    vars(target).update(new)


def _base_of(kind: type) -> type:
    """The first of its bases that is not written in Python."""
    return next(base for base in kind.__mro__ if not base.__flags__ & (1 << 9))


_EXACT: dict[type, _Kind] = {
    collections.OrderedDict: _Kind("OrderedDict", _pairs, lambda values, atoms: collections.OrderedDict(), _fill_dict),
    collections.Counter: _Kind("Counter", _pairs, lambda values, atoms: collections.Counter(), _fill_dict),
    collections.defaultdict: _Kind(
        "defaultdict",
        _default_dict_parts,
        lambda values, atoms: collections.defaultdict(None if atoms[0] is None else _FACTORIES[atoms[0]]),
        _fill_default_dict,
    ),
}
_BY_BASE: dict[type, _Kind] = {
    list: _Kind("list", lambda values, value: list.copy(value), lambda values, atoms: [],
                lambda target, parts: target.__setitem__(slice(None), parts)),
    tuple: _Kind("tuple", lambda values, value: tuple.__iter__(value), build=lambda values, parts: tuple(parts)),
    dict: _Kind("dict", _pairs, lambda values, atoms: {}, _fill_dict),
    set: _Kind("set", lambda values, value: list(value), lambda values, atoms: set(), _fill_set),
    frozenset: _Kind("frozenset", lambda values, value: list(value), build=lambda values, parts: frozenset(parts)),
    collections.deque: _Kind("deque", lambda values, value: [value.maxlen, *value],
                             lambda values, atoms: collections.deque(maxlen=atoms[0]), _fill_deque),
    bytearray: _Kind("bytearray", lambda values, value: [value.hex()], lambda values, atoms: bytearray(), _fill_bytes),
    float: _Kind("float", lambda values, value: ["nan"], build=lambda values, parts: float("nan")),
    type({}.keys()): _view("keys"),
    type({}.values()): _view("values"),
    type({}.items()): _view("items"),
}  # fmt: skip
_NAMED_TUPLE = _Kind("namedtuple", _named_tuple_parts, build=_named_tuple)
_DATACLASS = _Kind("dataclass", _dataclass_parts, _empty_dataclass, _fill_dataclass)
_OBJECT = _Kind("object", _object_parts, _empty_object, _fill_object)
_ARRAY = _Kind("ndarray", _array_parts, _empty_array, _fill_array)
_ITERATOR = _Kind("iterator", Values.iterator_parts, build=Values.iterator_of)
_MAPPING = _BY_BASE[dict]._replace(fill=None)

_KINDS = {
    kind.name: kind
    for kind in (*_EXACT.values(), *_BY_BASE.values(), _NAMED_TUPLE, _DATACLASS, _OBJECT, _ARRAY, _ITERATOR)
}


def _kind_of(value: Any) -> _Kind:
    kind = type(value)
    if kind in _EXACT:
        return _EXACT[kind]
    if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _NAMED_TUPLE
    if dataclasses.is_dataclass(kind):
        return _DATACLASS
    for base, found in _BY_BASE.items():
        if isinstance(value, base):
            return found
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _ARRAY
    if isinstance(value, Iterator):
        return _ITERATOR
    if isinstance(value, Mapping):
        return _MAPPING
    if _base_of(kind) is object and kind.__module__ in {"program", "tests"} and hasattr(value, "__dict__"):
        return _OBJECT
    raise UnsupportedValue(f"a value of type {kind.__name__} cannot pass between tests and program")
