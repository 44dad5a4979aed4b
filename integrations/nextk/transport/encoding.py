"""Request bodies on their way out, and replies on their way in.

`plain_body` turns the values of an operation into the plain values that JSON knows, and refuses everything else. Both
transports call it, so both refuse the same bodies in the same words: `encode` then writes the values for HTTP, and the
in-process transport hands them to `nextk.dispatch` as they are.
"""

import json
import math
from collections.abc import Callable, Sized
from typing import Any

from pydantic_core import from_json, to_json

from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.payloads import is_float_array
from nextk.types import SupportsToList

_JSON_INTEGERS = range(-(2**63), 2**64)  # what a reader of JSON keeps as an integer
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


def plain_body(operation: Operation[Any], *, in_process: bool = False) -> Any:
    """Return the body of an operation as plain values: dicts, lists, texts, numbers, booleans and `None`.

    Tuples become lists, the keys of dicts become texts, and what has `tolist()` becomes what that returns. Dicts are
    copied, and so are lists.

    Args:
        operation: The operation whose body is read.
        in_process: Whether the values stay in this process: one-dimensional arrays of floats then stay arrays, and
            whole numbers beyond 64 bits become floats, which is how the server reads them from JSON. Default `False`.

    Raises:
        ClientError: The body holds something that JSON cannot express: NaN, infinity, text with lone surrogates, an
            object of another type; or it is nested too deeply.
    """
    try:
        if isinstance(operation.body, list):
            return [_record(record, in_process) for record in operation.body]
        return None if operation.body is None else _record(operation.body, in_process)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # the last: too deep, or changed meanwhile
        message = f"{operation.command}: the request cannot be written as JSON: {error}"
        raise ClientError(message) from error


def encode(operation: Operation[Any]) -> bytes:
    """Return the body of an operation as JSON in UTF-8, or `b""` if it has none.

    Raises:
        ClientError: The body holds something that JSON cannot express, or is nested too deeply.
    """
    return write_json(plain_body(operation))


def write_json(body: Any) -> bytes:
    """Return a body that `plain_body` made as JSON in UTF-8; `b""` for `None`. It reads nothing of the caller's."""
    if body is None:
        return b""
    try:
        return to_json(body)
    except ValueError:  # it stops at 255 levels; the standard library goes deeper
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def decode(body: bytes) -> dict[str, Any] | None:
    """Return a reply's JSON object, or `None` if the body is anything else, such as the error page of a gateway."""
    try:
        found = from_json(body)
    except ValueError:  # also raised for more than 200 levels and lone surrogates, which the standard library reads
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def estimated_size(operation: Operation[Any]) -> int:
    """Return roughly how many bytes the vectors and texts of a body take as JSON, without writing it."""
    records = operation.body if isinstance(operation.body, list) else [operation.body or {}]
    return sum(20 * _length(record.get("vector")) + _length(record.get("data")) for record in records)


def _length(value: object) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _record(fields: dict[str, Any], in_process: bool) -> dict[str, Any]:
    """Read the fields of one record or query; in process its dense vector becomes an array."""
    if not in_process or "vector" not in fields:
        return {key: _plain(value, in_process) for key, value in fields.items()}
    rest = {key: _plain(value, in_process) for key, value in fields.items() if key != "vector"}
    return {**rest, "vector": _array(fields["vector"])}


def _array(vector: Any) -> Any:
    """Return a dense vector as an array of finite floats; what holds anything else stays as it is, to be refused."""
    import numpy as np  # not at the top: the client over HTTP needs no numpy

    if not is_float_array(vector):
        if not isinstance(vector, list) or set(map(type, vector)) != {float}:
            return _plain(vector, in_process=True)
        vector = np.fromiter(vector, np.float64, len(vector))
    finite = np.isfinite(vector)
    if not finite.all():
        _finite(float(vector[~finite][0]))  # raises, in the words of a list
    return vector


def _plain(value: Any, in_process: bool) -> Any:
    kind = type(value)
    if kind is str:
        if not value.isascii():
            value.encode()  # refuses lone surrogates
    elif kind is dict:
        return {_key(key): _plain(part, in_process) for key, part in value.items()}
    elif kind is list or kind is tuple:
        return _plain_list(value, in_process)
    elif kind is float:
        return _finite(value)
    elif kind is int:
        if value not in _JSON_INTEGERS:
            rounded = float(value)  # refuses what is beyond all floats, which no reader of JSON takes
            return rounded if in_process else value
    elif value is not None and kind is not bool:
        return _plain(_builtin(value), in_process)
    return value


def _plain_list(values: list[Any] | tuple[Any, ...], in_process: bool) -> list[Any]:
    if set(map(type, values)) == {float}:  # most likely a vector, so it is checked as a whole
        if not math.isfinite(sum(values)):
            for value in values:
                _finite(value)
        return list(values)  # a copy: the caller may change his list while a thread writes this one
    return [_plain(value, in_process) for value in values]


def _key(key: Any) -> str:
    """Return the key of an object as JSON spells it."""
    if isinstance(key, str):
        return str(_plain(key, in_process=False))
    if key is None or isinstance(key, bool):
        return _KEYWORDS[key]
    if isinstance(key, float):
        return float.__repr__(_finite(key))
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
    message = f"{value!r} of type {type(value).__name__} is no JSON"
    raise TypeError(message)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        message = f"JSON has no word for {value!r}"
        raise ValueError(message)
    return value
