"""Plain values: the dicts, lists, texts, numbers, booleans and `None` that JSON knows.

All ways into an index read a caller's values by `plain`, so that a number of numpy's is taken by each of them, and a
date by none. A refusal names the value by its path, as in `metadata.a[3].b`, and says what to give instead.
"""

import dataclasses
import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from nextk.arguments import written
from nextk.errors import ClientError
from nextk.types import SupportsToList

INT64 = range(-(2**63), 2**63)
"""The whole numbers that an index stores and compares exactly, as SQLite does."""

FAULTS = (ValueError, TypeError, OverflowError, RuntimeError)
"""The exceptions of `plain`. The last one is raised for values that are nested too deeply, or that change meanwhile."""

_KEYWORDS = {True: "true", False: "false", None: "null"}  # as keys of an object
# The types' own methods, because subclasses (enums, numpy's scalars) may have methods that give something else.
_BUILTIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    dict: dict,
    list: list,
    tuple: list,
}
_REMEDIES: dict[type | tuple[type, ...], str] = {
    (dt.date, dt.time): "give an ISO string or a number",
    dt.timedelta: "give a number of seconds",
    uuid.UUID: "give its text, str(...)",
    decimal.Decimal: "give a float or a text",
    (set, frozenset): "give a list",
    (bytes, bytearray, memoryview): "give a text",
    Mapping: "give a dict",
}
_OTHERWISE = "give texts, numbers, booleans, None, and lists and dicts of them"


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    Tuples become lists, the keys of dicts become texts, members of enums that are texts or numbers become these, and
    what has `tolist()` becomes what that returns, so numpy's numbers and arrays are numbers and lists. Dicts and lists
    are copied.

    Args:
        value: The value.

    Raises:
        Exception: One of `FAULTS`, if JSON cannot express the value; `fault_of` says why.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():
            value.encode()  # refuses lone surrogates
    elif kind is dict:
        return {_key(key): plain(part) for key, part in value.items()}
    elif kind is list or kind is tuple:
        return _plain_list(value)
    elif kind is float:
        return finite(value)
    elif kind is int:
        float(value)  # refuses what is beyond all floats, which no reader of JSON takes
    elif value is not None and kind is not bool:
        return plain(_builtin(value))
    return value


def finite(value: float) -> float:
    """Return a number that is neither NaN nor infinite.

    Raises:
        ValueError: It is one of these.
    """
    if not math.isfinite(value):
        message = f"JSON has no word for {value!r}"
        raise ValueError(message)
    return value


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can express a text, because it has no lone surrogates."""
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return False
    return True


def plain_metadata(metadata: object, record: str) -> dict[str, Any]:
    """Return the metadata of a record as JSON has it.

    Args:
        metadata: The metadata as the caller gave it.
        record: The name of the record, for the error; see `record_name`.

    Raises:
        ClientError: It is not a dict, or holds a value that JSON cannot express. The message names the record and the
            path of the value.
    """
    if not isinstance(metadata, dict):
        hint = ": give {} for no metadata" if metadata is None else ""
        message = f"{record}: metadata has to be a dict, not {_type_name(metadata)}{hint}"
        raise ClientError(message)
    try:
        made: dict[str, Any] = plain(metadata)
    except FAULTS as error:
        message = f"{record}: {fault_of(metadata, 'metadata', error)}"
        raise ClientError(message) from None
    return made


def shortened(text: str) -> str:
    """Return what a client has sent as an error or a log repeats it, cut at 100 characters.

    Args:
        text: The text.
    """
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


_SHORT = 100


def record_name(position: int, id_: object = None) -> str:
    """Return the name of a record in errors, such as `record 417 (id 'x')`.

    Args:
        position: Its position in the list that the caller gave, counted from 0.
        id_: Its id, if it has a readable one; whatever else is given is left out. Default `None`.
    """
    readable = isinstance(id_, str | int) and not isinstance(id_, bool)
    return f"record {position} (id {_id_text(id_)})" if readable else f"record {position}"


def _id_text(id_: object) -> str:
    return written(str.__str__(id_)) if isinstance(id_, str) else f"'{written(id_)}'"


def fault_of(value: Any, path: str, error: Exception) -> str:
    """Say where a value is that JSON cannot express, what it is, and what to give instead.

    Args:
        value: The value that `plain` did not take.
        path: The name of the value; `""` for the body of a request, whose fields are then named by themselves.
        error: The exception that `plain` raised.
    """
    if isinstance(error, RecursionError):
        fields = value.items() if isinstance(value, dict) and not path else ()
        path = next((str(key) for key, part in fields if _fails(plain, part)), path)
        return f"{path} is nested too deeply for JSON, or holds itself"
    return _fault(value, path)


def path_to(value: Any, path: str, is_wanted: Callable[[Any], bool]) -> str | None:
    """Return the path of the first value, or of the first key, that a function wants; `None` if there is none.

    Args:
        value: A plain value.
        path: The name of the value.
        is_wanted: A function that takes a key, or a value that is neither a list nor a dict.
    """
    waiting = [(path, value)]  # a stack, because values may be nested more deeply than calls
    while waiting:
        path, value = waiting.pop()
        if not isinstance(value, dict | list):
            if is_wanted(value):
                return path
            continue
        parts = list(value.items() if isinstance(value, dict) else enumerate(value))
        for step, _ in parts:
            if isinstance(step, str) and is_wanted(step):
                return path + _step(step)
        waiting.extend((path + _step(step), part) for step, part in reversed(parts))
    return None


def _plain_list(values: list[Any] | tuple[Any, ...]) -> list[Any]:
    if set(map(type, values)) == {float}:  # most likely a vector, so it is checked as a whole
        if not math.isfinite(sum(values)):
            for value in values:
                finite(value)
        return list(values)  # a copy: the caller may change his list while a thread writes this one
    return [plain(value) for value in values]


def _key(key: Any) -> str:
    """Return the key of an object as JSON spells it."""
    if isinstance(key, str):
        return str(plain(key))
    if key is None or isinstance(key, bool):
        return _KEYWORDS[key]
    if isinstance(key, float):
        return float.__repr__(finite(key))
    if isinstance(key, int):
        return int.__repr__(key)
    message = f"keys must be text, not {type(key).__name__}"
    raise TypeError(message)


def _builtin(value: Any) -> Any:
    """Return a value of a subclass of a built-in type, or of a numeric library, as the built-in type itself."""
    for kind, convert in _BUILTIN.items():
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, SupportsToList):
        return value.tolist()
    message = f"what is of the type {type(value).__name__} is no JSON"
    raise TypeError(message)


def _fault(value: Any, path: str) -> str:
    """Descend to the first part that is not plain, and describe it."""
    if not isinstance(value, dict | list | tuple | str | int | float) and isinstance(value, SupportsToList):
        return f"{path} is {_description(value)}" if _fails(_tolist, value) else _fault(value.tolist(), path)
    if isinstance(value, dict):
        for key, part in value.items():
            if _fails(_key, key):
                return (
                    f"{path or 'the request'} has the key {written(key)}: keys have to be texts that UTF-8 can express"
                )
            if _fails(plain, part):
                return _fault(part, path + _step(key) if path else str(key))
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            if _fails(plain, part):
                return _fault(part, path + _step(position))
    return f"{path} is {_description(value)}"


def _fails(read: Callable[[Any], Any], value: Any) -> bool:
    try:
        read(value)
    except FAULTS:
        return True
    return False


def _tolist(value: SupportsToList) -> Any:
    return value.tolist()


def _step(step: object) -> str:
    """Return one step of a path: `.key`, `['a key']` or `[3]`."""
    return f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{written(step)}]"


def _description(value: Any) -> str:
    """Say what a value is that JSON cannot express, and what to give instead."""
    if isinstance(value, float):
        return f"{value!r}, for which JSON has no word: give None, or leave it out"
    if isinstance(value, str):
        return f"{written(value)}, which has lone surrogates, so UTF-8 cannot express it"
    if isinstance(value, int):
        return "a whole number beyond all floats: give a text"
    remedies = (remedy for kind, remedy in _REMEDIES.items() if isinstance(value, kind))
    other = "give dataclasses.asdict(...)" if dataclasses.is_dataclass(value) else _OTHERWISE
    return f"{_type_name(value)}; {next(remedies, other)}"


def _type_name(value: object) -> str:
    """Return the name of a value's type with its article; `None` stays `None`."""
    name = type(value).__name__
    return "None" if value is None else name if name == "bytes" else f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
