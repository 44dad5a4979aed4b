"""The ways in which a filter is evaluated: by SQLite, over columns that were filled differently, and by PostgreSQL."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import orjson
import psycopg
from psycopg import sql as postgres

from nextk.engine.filter import sql
from nextk.engine.filter.columns import Cells, Field
from nextk.engine.filter.evaluate import evaluate, fields_of
from nextk.engine.filter.reading import read_cells
from nextk.engine.filter.store import FieldColumns
from nextk.engine.filter.syntax import parse
from nextk.engine.filter.tree import Node
from nextk.postgres.filter_sql import filter_fragment
from nextk.postgres.metadata_text import to_jsonb
from tests.support.filter_oracle import Metadata

FilterWay: TypeAlias = Callable[[sqlite3.Connection, Node, Sequence[str | None]], list[int]]

TABLE = "CREATE TEMP TABLE IF NOT EXISTS metadata (row INTEGER PRIMARY KEY, json TEXT)"


def by_sql(connection: sqlite3.Connection, node: Node, stored: Sequence[str | None]) -> list[int]:
    """By the condition that the tree is compiled into."""
    condition, parameters = sql.to_sql(node, "r.metadata")
    rows = ", ".join(f"({position}, ?)" for position in range(len(stored)))
    query = f"WITH r (position, metadata) AS (VALUES {rows}) SELECT position FROM r WHERE position >= 0 AND {condition}"  # noqa: S608
    return sorted(position for (position,) in connection.execute(query, (*stored, *parameters)))


def by_columns(connection: sqlite3.Connection, node: Node, stored: Sequence[str | None]) -> list[int]:
    """Over columns that are filled at once."""
    held = _HeldMetadata(connection, stored)
    return held.passing(node, FieldColumns(), np.arange(len(stored)), None)


def by_growing_columns(connection: sqlite3.Connection, node: Node, stored: Sequence[str | None]) -> list[int]:
    """Over columns that are filled slot by slot, some of them earlier than others."""
    held, columns, rows = _HeldMetadata(connection, stored), FieldColumns(), np.arange(len(stored))
    for field in sorted(fields_of(node), key=str)[::2]:
        columns.read_part([field], rows[: len(rows) // 2], None, held.read, 100)
    return held.passing(node, columns, rows, None, limit=1)


def by_renumbered_columns(connection: sqlite3.Connection, node: Node, stored: Sequence[str | None]) -> list[int]:
    """Over columns that were numbered anew when every second slot was dropped, which had a former version."""
    held = _HeldMetadata(connection, [*stored, *reversed(stored)])
    count = len(stored)
    rows = np.stack([np.arange(count, 2 * count), np.arange(count)], axis=1).ravel()
    columns = FieldColumns()
    columns.read_part(fields_of(node), rows[: count + 1], None, held.read, 100)
    columns.keep(np.arange(1, 2 * count, 2))
    return held.passing(node, columns, np.arange(count), None, limit=2)


def by_columns_with_deleted_slots(
    connection: sqlite3.Connection, node: Node, stored: Sequence[str | None]
) -> list[int]:
    """Over columns with slots whose records were deleted before anything was read."""
    held = _HeldMetadata(connection, stored)
    rows = np.repeat(np.arange(len(stored)), 2)
    live = np.tile([False, True], len(stored))
    return [slot // 2 for slot in held.passing(node, FieldColumns(), rows, live, limit=3)]


WAYS: dict[str, FilterWay] = {
    "sql": by_sql,
    "columns": by_columns,
    "growing": by_growing_columns,
    "renumbered": by_renumbered_columns,
    "deleted": by_columns_with_deleted_slots,
}


def by_postgres(connection: "psycopg.Connection[tuple[int]]") -> FilterWay:
    """By the condition that the tree is compiled into for PostgreSQL; returns the way of a connection to it."""

    def found(_: sqlite3.Connection, node: Node, stored: Sequence[str | None]) -> list[int]:
        condition, values = filter_fragment(node, postgres.Identifier("r", "metadata"))
        rows = [None if text is None else to_jsonb(text) for text in stored]
        query = postgres.SQL(
            "SELECT position::int - 1 FROM unnest(%s::jsonb[]) WITH ORDINALITY AS r (metadata, position) WHERE {}"
        ).format(condition)
        return sorted(position for (position,) in connection.execute(query, (rows, *values)))

    return found


class FilterRunner:
    """Evaluates filters in one way.

    Args:
        connection: A database that knows the functions of the filter.
        way: The way.
    """

    def __init__(self, connection: sqlite3.Connection, way: FilterWay) -> None:
        self._connection = connection
        self._way = way

    def __call__(self, text: str, *records: Metadata) -> list[int]:
        """Return the positions of the records that pass a filter, ascending."""
        node = parse(text)
        assert node is not None
        stored = [None if record is None else orjson.dumps(record).decode() for record in records]
        return self._way(self._connection, node, stored)


class _HeldMetadata:
    """Metadata in a table of SQLite, whose rows count from 0."""

    def __init__(self, connection: sqlite3.Connection, stored: Sequence[str | None]) -> None:
        self._connection = connection
        connection.execute(TABLE)
        connection.execute("DELETE FROM metadata")
        connection.executemany("INSERT INTO metadata VALUES (?, ?)", enumerate(stored))

    def read(self, fields: Sequence[Field], rows: Sequence[int]) -> list[Cells]:
        """Read the values of fields."""
        return read_cells(self._connection, fields, rows, _fail)

    def passing(
        self,
        node: Node,
        columns: FieldColumns,
        rows: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        live: "np.ndarray[tuple[int], np.dtype[np.bool_]] | None",
        limit: int = 100,
    ) -> list[int]:
        """Fill the columns and return the slots that pass, ascending."""
        fields = fields_of(node)
        while not columns.read_part(fields, rows, live, self.read, limit):
            pass
        among = np.ones(len(rows), np.bool_) if live is None else live
        return np.flatnonzero(evaluate(node, columns.values(fields), among, lambda: None)).tolist()


def _fail(row: int) -> None:
    raise AssertionError(row)
