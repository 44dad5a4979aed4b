"""Request bodies on their way out, and replies on their way in.

`plain_body` turns the values of an operation into the plain values that JSON knows, and refuses everything else. Both
transports call it, so both refuse the same bodies in the same words: `encode` then writes the values for HTTP, and the
in-process transport hands them to `nextk.dispatch` as they are.
"""

import json
from collections.abc import Callable
from functools import cache
from itertools import takewhile
from typing import Annotated, Any

from pydantic import AllowInfNan, Strict, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from nextk.body_fields import float32_of
from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.payloads import is_float_array
from nextk.plain import FAULTS, fault_of, finite, plain, record_name
from nextk.types import UntilFirstFault


def plain_body(operation: Operation[Any], *, in_process: bool = False) -> Any:
    """Return the body of an operation as plain values: dicts, lists, texts, numbers, booleans and `None`.

    Values of other types are read by `nextk.plain.plain`.

    Args:
        operation: The operation whose body is read.
        in_process: Whether the values stay in this process: dense vectors then become or stay arrays. Default `False`.

    Raises:
        ClientError: The body holds something that JSON cannot express. The message says where it is: for a list, in
            which record or query.
    """
    body = operation.body
    if not isinstance(body, list):
        return None if body is None else _fields(operation, body, in_process)
    vectors = _float32_rows([fields.get("vector") for fields in body]) if in_process else None
    if vectors is None:
        return [_fields(operation, fields, in_process, position) for position, fields in enumerate(body)]
    return [
        {**_fields(operation, fields, False, position, without="vector"), "vector": vector}
        for position, (fields, vector) in enumerate(zip(body, vectors, strict=True))
    ]


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


def decode(body: bytes | bytearray) -> dict[str, Any] | None:
    """Return a reply's JSON object, or `None` if the body is anything else, such as the error page of a gateway.

    Args:
        body: JSON in UTF-8.
    """
    try:
        found = from_json(body)
    except ValueError:  # also raised for more than 200 levels and lone surrogates, which the standard library reads
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _fields(
    operation: Operation[Any],
    fields: dict[str, Any],
    in_process: bool,
    position: int | None = None,
    without: str | None = None,
) -> dict[str, Any]:
    """Read the fields of one record or query, without one of them; in process its dense vector becomes an array."""
    try:
        return {
            key: _array(value) if in_process and key == "vector" else plain(value)
            for key, value in fields.items()
            if key != without
        }
    except FAULTS as error:
        item = "" if position is None else f" {_item_name(operation, fields, position)}:"
        message = f"{operation.command}:{item} {fault_of(fields, '', error)}"
        raise ClientError(message) from None


def _item_name(operation: Operation[Any], fields: dict[str, Any], position: int) -> str:
    return record_name(position, fields.get("id")) if operation.command.startswith("upsert") else f"query {position}"


def _array(vector: Any) -> Any:
    """Return a dense vector as an array of finite floats; what holds anything else stays as it is, to be refused."""
    import numpy as np  # not at the top: the client over HTTP needs no numpy

    if not is_float_array(vector):
        array = _float32_of_list(vector)
        if array is None:
            return plain(vector)
        if np.count_nonzero(np.isfinite(array)) == len(array):
            return array
        return np.array(vector, np.float64)  # whoever stores it refuses what float32 cannot hold, and names the value
    if np.count_nonzero(np.isfinite(vector)) < len(vector):
        finite(float(vector[~np.isfinite(vector)][0]))  # raises
    return vector


def _float32_rows(vectors: list[Any]) -> Any:
    """Return the dense vectors of many records as the rows of one new float32 array (n, dimension).

    `None` if they are not all alike, lists or arrays of the same length, or not all of finite numbers that float32 can
    hold. Each vector is then read by itself.
    """
    import numpy as np

    if all(map(is_float_array, vectors)):
        arrays = vectors
    else:
        arrays = list(takewhile(lambda array: array is not None, map(_float32_of_list, vectors)))
    if len(arrays) < len(vectors) or len(set(map(len, arrays))) != 1:
        return None
    with np.errstate(over="ignore"):
        rows = np.array(arrays, np.float32)
    return rows if np.isfinite(rows).all() else None


def _float32_of_list(vector: Any) -> Any:
    """Return a list of finite numbers as a float32 array; `None` if it is anything else."""
    floats = _floats(vector) if isinstance(vector, list) else None
    return None if floats is None else float32_of(floats)


def _floats(values: list[Any]) -> list[float] | None:
    """Return a list of finite numbers as floats; `None` if anything else is in it."""
    try:
        return _float_reader()(values)
    except ValidationError:
        return None


@cache
def _float_reader() -> Callable[[list[Any]], list[float]]:
    number = Annotated[float, Strict(), AllowInfNan(False)]
    return TypeAdapter(Annotated[list[number], UntilFirstFault()]).validate_python
