"""Read the values of metadata fields from the file of an index, for the columns that filters are evaluated over.

Only the narrow table of the metadata is read, and neither vectors nor texts.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nextk.engine.filter.columns import Cells, Field
from nextk.engine.filter.sql import json_path
from nextk.engine.statements import over_rows

__all__ = ["read_cells"]

_VALUE = """
json_type(json, ?{0}), CASE WHEN json_type(json, ?{0}) NOT IN ('array', 'object') THEN json_extract(json, ?{0}) END
"""
_ELEMENTS = """
SELECT metadata.row, each.type, each.atom FROM metadata, json_each(metadata.json, ?1) AS each
WHERE json_type(metadata.json, ?1) = 'array'
"""


def read_cells(
    connection: sqlite3.Connection, fields: Sequence[Field], rows: Sequence[int], on_damage: Callable[[int], None]
) -> list[Cells]:
    """Read the values of fields.

    Args:
        connection: The connection to the file.
        fields: The fields.
        rows: The rows of the records, all of which exist.
        on_damage: A function that is called with each row whose metadata are lost or no JSON; it has no fields.

    Returns:
        The values of each field, in any order of the rows.
    """
    paths = [json_path(field.path) for field in fields if not field.elements]
    columns = ["row", *(_VALUE.format(number + 1) for number in range(len(paths)))]
    statement = f"SELECT {', '.join(columns)} FROM metadata WHERE TRUE"  # noqa: S608
    found, *values = _transposed(over_rows(connection, statement, paths, rows, on_damage, "row"), 1 + 2 * len(paths))
    for row in set(rows).difference(found):
        on_damage(row)
    pairs = iter(zip(values[::2], values[1::2], strict=True))
    return [
        _read_elements(connection, field, rows, on_damage) if field.elements else Cells(found, *next(pairs))
        for field in fields
    ]


def _read_elements(
    connection: sqlite3.Connection, field: Field, rows: Sequence[int], on_damage: Callable[[int], None]
) -> Cells:
    path = (json_path(field.path),)
    return Cells(*_transposed(over_rows(connection, _ELEMENTS, path, rows, on_damage, "metadata.row"), 3))


def _transposed(found: Iterable[tuple[Any, ...]], count: int) -> list[tuple[Any, ...]]:
    """Return the columns of rows that were selected, of which there are `count`."""
    return list(zip(*found, strict=True)) or [()] * count
