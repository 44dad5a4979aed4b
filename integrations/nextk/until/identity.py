"""The identity of policies: a text by which a cursor recognises the policy that it was made with. Private.

The text has to be the same in another process, and has to differ where another decision is to be expected. So the
parameters of a policy are described whole, because a policy does not change. A function is described by its module, its
qualified name and the plain values that it is bound to: defaults, closure, arguments of a partial, and the attributes
of its object; a lambda by its code too.

Whatever may change while a function is used is described by its type alone, for a check that counts its calls is still
the same check: a variable or an attribute that the code of the function assigns; lists, dicts and sets if that code
changes any; and objects that are no data, such as connections.
"""

import dataclasses
import dis
import functools
import inspect
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from operator import attrgetter, itemgetter, methodcaller
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, TypeAlias
from uuid import UUID

from nextk.errors import ClientError
from nextk.plain import INT64

_Json: TypeAlias = Any
_Path: TypeAlias = tuple[object, ...]
"""The objects within which a value was found, so that an object that holds itself has an end."""
_ASSIGNING = ("STORE_ATTR", "DELETE_ATTR", "STORE_DEREF", "DELETE_DEREF")
_ASSIGNING_ITEMS = ("STORE_SUBSCR", "DELETE_SUBSCR")
_CHANGING = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"} | {
    "remove", "setdefault", "update"
}  # fmt: skip
"""The names of the methods that change a list, a dict or a set."""
_WRITTEN_AS_TEXT = (bytes, date, time, timedelta, Decimal, UUID, PurePath)
_PLAIN = (str, Real, Enum, *_WRITTEN_AS_TEXT)
_WHOLE = object()
"""Stands first in the path of a value whose objects are described whole."""


def describe(holder: object) -> str:
    """Return a text that identifies a policy, or another object that does not change, by its class and attributes.

    Raises:
        ClientError: An attribute is nested too deeply.
    """
    with _refusing_depth(f"a parameter of {type(holder).__name__}"):
        return json.dumps(_describe_fields(holder, (holder,)))


def describe_value(value: object) -> str:
    """Return a text that identifies a value that does not change, such as the filter of a store.

    Objects in it, such as the models and expressions of which clients make filters, are described by all that they
    hold: another condition is another value.

    Raises:
        ClientError: The value is nested too deeply.
    """
    with _refusing_depth(f"a {type(value).__name__}"):
        return json.dumps(_describe(value, (_WHOLE,)))


@contextmanager
def _refusing_depth(what: str) -> Iterator[None]:
    """Refuse, by its name, a value that is nested too deeply to be described within the block."""
    try:
        yield
    except RecursionError:
        message = f"{what} is nested too deeply to be recognised by a resumed search"
        raise ClientError(message) from None


def _describe_fields(holder: object, path: _Path) -> _Json:
    return [_name_of(type(holder)), _describe_pairs(_attributes(holder), path)]


def _describe(value: object, path: _Path) -> _Json:
    """Describe a parameter: a value that does not change."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Enum):
        return [_name_of(type(value)), value.name]
    if isinstance(value, Real):
        return _describe_number(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a bool of numpy is no number
        return _describe(value.item(), path)
    if isinstance(value, _WRITTEN_AS_TEXT):
        return [_name_of(type(value)), str(value)]
    if isinstance(value, type):
        return ["type", _name_of(value)]
    if any(value is one for one in path):
        return ["itself", _name_of(type(value))]
    path = (*path, value)
    if isinstance(value, Mapping):
        return [_name_of(type(value)), _describe_pairs(value, path)]
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_describe(one, path) for one in value]
        return [_name_of(type(value)), sorted(parts, key=json.dumps) if isinstance(value, set | frozenset) else parts]
    return _describe_function(value, path) if callable(value) else _describe_object(value, path)


def _describe_number(value: Real) -> _Json:
    """Describe a number, so that 1, 1.0 and the 1 of numpy are one value."""
    if isinstance(value, Integral):
        number = int(value)
        return number if number in INT64 else hex(number)  # Python does not write every one in decimal digits
    real = float(value)
    if not math.isfinite(real):
        return ["number", str(real)]
    return _describe(int(real), ()) if real.is_integer() else real


def _describe_object(value: object, path: _Path) -> _Json:
    """Describe an object that is not called: data by its plain attributes, and whatever else by its type."""
    if _is_frozen(value) or path[0] is _WHOLE:
        return _describe_fields(value, path)
    plain = {name: one for name, one in _attributes(value).items() if _is_plain(one)} if _is_data(value) else {}
    return ["object", _name_of(type(value)), _describe_pairs(plain, path)]


def _describe_function(function: Any, path: _Path) -> _Json:
    if isinstance(function, functools.partial):
        arguments: dict[Any, object] = {**dict(enumerate(function.args)), **function.keywords}
        code = getattr(function.func, "__code__", None)
        return ["partial", _describe(function.func, path), _describe_bound(arguments, _Use.of(code), path)]
    if isinstance(function, MethodType):
        name = getattr(function, "__name__", "")  # a partial, for one, has none
        return ["method", _name_of(function.__func__), _describe_holder(function.__self__, [name], path)]
    if isinstance(function, FunctionType):
        code = [_describe_code(function.__code__)] if function.__name__ == "<lambda>" else []  # many have this name
        use = _Use.of(function.__code__)
        return ["function", _name_of(function), _describe_bound(_bound_values(function), use, path), *code]
    if isinstance(function, attrgetter | itemgetter | methodcaller):
        return ["function", _name_of(type(function)), _describe(function.__reduce__()[1:], path)]
    if (wrapped := getattr(function, "__wrapped__", None)) is not None:  # a cache of functools
        return ["wrapper", _describe(wrapped, path)]
    if inspect.isroutine(function):
        bound = getattr(function, "__self__", None)
        return ["function", _name_of(function), None if isinstance(bound, ModuleType) else _describe(bound, path)]
    return _describe_holder(function, [], path)


def describe_used(holder: object, methods: Sequence[str]) -> str:
    """Return a text that identifies an object by its class and by what does not change while some methods are called.

    Args:
        holder: The object.
        methods: The names of the methods.
    """
    return json.dumps(_describe_holder(holder, methods, (holder,)))


def _describe_holder(holder: object, methods: Sequence[str], path: _Path) -> _Json:
    """Describe an object of which methods are called: by its class and by what these methods do not change."""
    if isinstance(holder, type):
        return ["type", _name_of(holder)]
    if _is_frozen(holder):
        return _describe_fields(holder, path)
    use = _Use.of(*_codes_of(type(holder), methods))
    plain = {name: one for name, one in _attributes(holder).items() if _is_plain(one)}
    return ["object", _name_of(type(holder)), _describe_bound(plain, use, path)]


@dataclasses.dataclass(frozen=True)
class _Use:
    """The changes that code makes to the values that it is bound to.

    Attributes:
        assigned: The names of the variables and attributes that it assigns.
        changes_containers: Whether it changes any list, dict or set.
    """

    assigned: frozenset[str]
    changes_containers: bool

    @classmethod
    def of(cls, *codes: CodeType | None) -> "_Use":
        """Return the changes that some code makes, with the functions in it. Code that is not of Python makes none."""
        steps = [step for code in codes if code is not None for step in _steps(code)]
        assigned = frozenset(step.argval for step in steps if step.opname in _ASSIGNING)
        named = {step.argval for step in steps if isinstance(step.argval, str) and step.opname != "LOAD_CONST"}
        changed = not named.isdisjoint(_CHANGING) or any(step.opname in _ASSIGNING_ITEMS for step in steps)
        return cls(assigned, changed)


def _steps(code: CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _steps(inner)


def _codes_of(holder: type, methods: Iterable[str]) -> list[CodeType]:
    """Return the code of methods of a class, and of the methods that they name; an object may also call itself."""
    found: dict[str, CodeType] = {}
    waiting = ["__call__", *methods]
    while waiting:
        name = waiting.pop()
        method = inspect.getattr_static(holder, name, None)
        if isinstance(method, FunctionType) and name not in found:
            found[name] = method.__code__
            waiting += [step.argval for step in _steps(method.__code__) if isinstance(step.argval, str)]
    return list(found.values())


def _is_plain(value: object) -> bool:
    """Return whether a value is plain data, alone or in a list, dict, set or the like."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.keys())) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, _PLAIN) or _is_frozen(value)


def _bound_values(function: FunctionType) -> dict[str, object]:
    """Return the values of a function's closure and defaults, by the names of its variables."""
    code = function.__code__
    values = dict(zip(code.co_freevars, map(_content_of, function.__closure__ or ()), strict=True))
    return {**values, "defaults": function.__defaults__, **(function.__kwdefaults__ or {})}


def _content_of(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _describe_bound(values: Mapping[Any, object], use: _Use, path: _Path) -> _Json:
    """Describe values that a function is bound to, without what the function changes."""
    return _describe_pairs({name: _fixed(one, use) for name, one in values.items() if name not in use.assigned}, path)


def _fixed(value: object, use: _Use) -> object:
    """Return the part of a value that does not change while it is used."""
    if isinstance(value, tuple):
        return tuple(_fixed(one, use) for one in value)
    if isinstance(value, list | set | Mapping) and (use.changes_containers or not _is_plain(value)):
        return type(value)
    if _is_data(value) and not _is_frozen(value):
        attributes = _attributes(value).items()
        return type(value), {name: _fixed(one, use) for name, one in attributes if name not in use.assigned}
    return value


def _describe_code(code: CodeType) -> _Json:
    constants = [_describe_code(one) if isinstance(one, CodeType) else _describe(one, ()) for one in code.co_consts]
    return [code.co_code.hex(), [*code.co_names, *code.co_varnames, *code.co_freevars], constants]


def _describe_pairs(pairs: Mapping[Any, object], path: _Path) -> _Json:
    return sorted(([_describe(name, path), _describe(one, path)] for name, one in pairs.items()), key=json.dumps)


def _attributes(holder: object) -> dict[str, object]:
    """Return the attributes of an object: the fields of a dataclass, else all but what it caches."""
    if dataclasses.is_dataclass(holder):
        return {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    slots = [name for base in type(holder).__mro__ for name in _slots_of(base) if hasattr(holder, name)]
    private = getattr(holder, "__pydantic_private__", None) or {}
    found = {**{name: getattr(holder, name) for name in slots}, **getattr(holder, "__dict__", {}), **private}
    cached = (name for name in found if isinstance(getattr(type(holder), name, None), functools.cached_property))
    return {name: found[name] for name in found.keys() - set(cached)}


def _slots_of(base: type) -> list[str]:
    slots = vars(base).get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if not name.startswith("__")]


def _is_frozen(value: object) -> bool:
    """Return whether a value is an instance of a frozen dataclass."""
    return (
        not isinstance(value, type) and getattr(getattr(value, "__dataclass_params__", None), "frozen", False) is True
    )


def _is_data(value: object) -> bool:
    """Return whether an object holds data: an instance of a dataclass or a pydantic model, or a namespace."""
    kind = type(value)
    return dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields") or isinstance(value, SimpleNamespace)


def _name_of(named: Any) -> str:
    """Return the module and the qualified name of a type or a function."""
    name = getattr(named, "__qualname__", None) or type(named).__qualname__
    return f"{getattr(named, '__module__', None) or type(named).__module__}.{name}"
