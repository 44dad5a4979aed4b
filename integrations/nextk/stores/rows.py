"""Rows of a store: a match with the store's own object, and the id by which it is told from the others. Private.

`StoreRow`, `content_id` and `row_id` are public, by way of `nextk.stores`.
"""

import dataclasses
import json
import numbers
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nextk.arguments import written
from nextk.errors import ClientError
from nextk.plain import FAULTS
from nextk.types import QueryResult, SupportsToList

RowKey: TypeAlias = str | Callable[[Any], Any]
"""The name of a metadata key that holds the id of a row, or a function that takes the store's object and returns it."""

_BY_CONTENT = uuid.UUID("8f3c5d1e-6a57-5c0b-9a57-6e65787463b1")  # any value does, as long as it stays the same
_MAX_DEPTH = 100
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


@dataclass
class StoreRow(QueryResult):
    """A row of a store that is not an `Index`.

    Attributes:
        item: The store's own object, such as a Document or a node, which a reader can hand out as it is; `None` if
            there is none.
    """

    item: Any = None


def row_id(own: object, key: RowKey | None, item: Any, text: str, metadata: Mapping[Any, Any] | None) -> str:
    """Return the id of a row: its own, else the one that `key` gives, else one that is made of its content.

    Rows without an own id and without a key that have the same content get the same id, so a search hands out one of
    them.

    Args:
        own: The id that the store gave with the row; `None` or `""` for none.
        key: The name of a metadata key, or a function that takes the item; `None` for none.
        item: The store's own object.
        text: The text of the row.
        metadata: The metadata of the row; `None` for none.

    Raises:
        ClientError: The row has no id of its own, and none by the key either. The message says what to do.
    """
    if own is not None and own != "":
        return str(own)
    if key is None:
        return content_id(text, metadata or {})
    found = key(item) if callable(key) else (metadata or {}).get(key)
    if found is not None and found != "":
        if isinstance(found, str | numbers.Integral | uuid.UUID) and not isinstance(found, bool):
            return str(found)
        fault = f"gave {written(found)}, which is neither a text nor a whole number"
    else:
        fault = "gave none" if callable(key) else "names nothing in its metadata"
    name = "the function" if callable(key) else written(key)
    message = (
        f"a row of the store has no id of its own, and key= ({name}) {fault}: give a key that every row has, or leave "
        "key= out, so that rows are told apart by their text and metadata"
    )
    raise ClientError(message)


def content_id(text: str, metadata: Mapping[Any, Any]) -> str:
    """Make an id of the content of a record: equal texts with equal metadata get the same id in every process.

    Args:
        text: The text.
        metadata: The metadata. Values that JSON cannot express are written by their `repr`, without addresses.
    """
    try:
        content = json.dumps([text, metadata], sort_keys=True, ensure_ascii=False, allow_nan=False)
        return str(uuid.uuid5(_BY_CONTENT, content))
    except FAULTS:
        content = json.dumps([text, _canonical(metadata, ())])
        return str(uuid.uuid5(_BY_CONTENT, content))


def _canonical(value: Any, around: tuple[int, ...]) -> Any:
    """Return a value as JSON that is the same in every process, whatever its type.

    Args:
        value: The value.
        around: The addresses of the containers that it is in.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if id(value) in around or len(around) > _MAX_DEPTH:
        return "..."
    around = (*around, id(value))
    if isinstance(value, Mapping):
        pairs = [[_canonical(key, around), _canonical(part, around)] for key, part in value.items()]
        return ["mapping", *sorted(pairs, key=json.dumps)]
    if isinstance(value, list | tuple):
        return [_canonical(part, around) for part in value]
    if isinstance(value, set | frozenset):
        return ["set", *sorted((_canonical(part, around) for part in value), key=json.dumps)]
    return [type(value).__qualname__, _canonical_object(value, around)]


def _canonical_object(value: Any, around: tuple[int, ...]) -> Any:
    if isinstance(value, SupportsToList):
        return _canonical(value.tolist(), around)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [[each.name, _canonical(getattr(value, each.name), around)] for each in dataclasses.fields(value)]
    return _ADDRESS.sub("", repr(value))
