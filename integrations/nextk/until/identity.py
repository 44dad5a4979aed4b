"""The identity of policies: a text by which a cursor recognises the policy that it was made with. Private.

The text has to be the same in another process, and has to differ where another decision is to be expected. So the
parameters of a policy are described whole, because a policy does not change. A function is described by its module, its
qualified name and the plain values that it is bound to: defaults, closure, and arguments of a partial; a lambda by its
code too. Whatever may change while a function is used, such as a list, a counter or a connection, is described by its
type alone, because a check that counts its calls is still the same check.
"""

import dataclasses
import dis
import functools
import inspect
import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeAlias
from uuid import UUID

_Json: TypeAlias = Any
_Path: TypeAlias = tuple[object, ...]
"""The objects within which a value was found, so that an object that holds itself has an end."""
_TEXTS = (str, bytes, Enum, UUID, PurePath)
"""The types of attributes that tell two objects of one class apart. A number may count calls, and so may change."""
_WRITTEN_AS_TEXT = (bytes, date, time, timedelta, Decimal, UUID, PurePath)


def describe(holder: object) -> str:
    """Return a text that identifies a policy, or another object that does not change, by its class and attributes."""
    return json.dumps(_describe_fields(holder, (holder,)))


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
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        return ["number", str(number)]
    return int(number) if number.is_integer() else number


def _describe_object(value: object, path: _Path) -> _Json:
    """Describe an object that is not called: by its fields if it cannot change, else by its type."""
    return _describe_fields(value, path) if _is_frozen(value) else ["object", _name_of(type(value))]


def _describe_function(function: Any, path: _Path) -> _Json:
    if isinstance(function, functools.partial):
        arguments: dict[Any, object] = {**dict(enumerate(function.args)), **function.keywords}
        return ["partial", _describe(function.func, path), _describe_bound(arguments, path)]
    if isinstance(function, MethodType):
        return ["method", function.__func__.__qualname__, _describe_holder(function.__self__, path)]
    if isinstance(function, FunctionType):
        code = [_describe_code(function.__code__)] if function.__name__ == "<lambda>" else []  # many have this name
        return ["function", _name_of(function), _describe_bound(_bound_values(function), path), *code]
    return ["function", _name_of(function)] if inspect.isroutine(function) else _describe_holder(function, path)


def _describe_holder(holder: object, path: _Path) -> _Json:
    """Describe an object that is called, or whose method is: by its fields if it cannot change, else by its texts."""
    if isinstance(holder, type):
        return ["type", _name_of(holder)]
    if _is_frozen(holder):
        return _describe_fields(holder, path)
    texts = {name: one for name, one in _attributes(holder).items() if isinstance(one, _TEXTS)}
    return ["callable", _name_of(type(holder)), _describe_pairs(texts, path)]


def _bound_values(function: FunctionType) -> dict[str, object]:
    """Return the values of a function's closure and defaults, but for variables that the function itself rebinds."""
    code = function.__code__
    rebound = {step.argval for step in dis.get_instructions(code) if step.opname in ("STORE_DEREF", "DELETE_DEREF")}
    values = {
        name: _content_of(cell)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        if name not in rebound
    }
    return {**values, "defaults": function.__defaults__, **(function.__kwdefaults__ or {})}


def _content_of(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _describe_bound(values: Mapping[Any, object], path: _Path) -> _Json:
    """Describe values that a function is bound to. Those of mutable types may change while it is used."""
    return _describe_pairs({name: _without_contents(one) for name, one in values.items()}, path)


def _without_contents(value: object) -> object:
    """Return a value without the contents of any list, set or mapping in it."""
    if isinstance(value, list | set | Mapping):
        return type(value)
    return tuple(_without_contents(one) for one in value) if isinstance(value, tuple) else value


def _describe_code(code: CodeType) -> _Json:
    constants = [_describe_code(one) if isinstance(one, CodeType) else _describe(one, ()) for one in code.co_consts]
    return [code.co_code.hex(), [*code.co_names, *code.co_varnames, *code.co_freevars], constants]


def _describe_pairs(pairs: Mapping[Any, object], path: _Path) -> _Json:
    return sorted(([_describe(name, path), _describe(one, path)] for name, one in pairs.items()), key=json.dumps)


def _attributes(holder: object) -> dict[str, object]:
    """Return the attributes of an object: the fields of a dataclass, else what its `__dict__` holds."""
    if dataclasses.is_dataclass(holder):
        return {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return dict(getattr(holder, "__dict__", {}))


def _is_frozen(value: object) -> bool:
    """Return whether a value is an instance of a frozen dataclass."""
    return (
        not isinstance(value, type) and getattr(getattr(value, "__dataclass_params__", None), "frozen", False) is True
    )


def _name_of(named: Any) -> str:
    """Return the module and the qualified name of a type or a function."""
    name = getattr(named, "__qualname__", None) or type(named).__qualname__
    return f"{getattr(named, '__module__', None) or type(named).__module__}.{name}"
