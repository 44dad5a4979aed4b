"""The truth on disk: records in one SQLite file, durable once a write has returned.

Every record has a `row`: a number that is never given twice, kept when its id is upserted again, and rising in the
order of first insertion. It names the record everywhere else in the engine.

Nothing here takes a lock: the engine serialises its calls.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import orjson
from numpy.typing import NDArray

from nextk.bodies import MAX_ID_BYTES, Delete, Include
from nextk.engine import file
from nextk.engine.filter import sql as filters
from nextk.engine.filter.syntax import parse
from nextk.engine.schema import Schema
from nextk.engine.values import Match, SparseArrays

_FLOAT, _INT = np.dtype("<f4"), np.dtype("<i4")  # in the file, whatever the machine
_MAX_VARIABLES = 500  # well below what any SQLite allows in one statement
_LAST = "\U0010ffff" * (MAX_ID_BYTES // 4 + 1)  # sorts behind every id that could follow a prefix

_UPSERT = """
INSERT INTO records (namespace, id, vector, sparse_indices, sparse_values, metadata, data) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, id) DO UPDATE SET vector = excluded.vector, sparse_indices = excluded.sparse_indices,
    sparse_values = excluded.sparse_values, metadata = excluded.metadata, data = excluded.data
RETURNING row
"""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it is written: float32 arrays, metadata as JSON text."""

    id: str
    vector: NDArray[np.float32] | None
    sparse: SparseArrays | None
    metadata: str | None
    data: str | None

    def columns(self) -> tuple[str | bytes | None, ...]:
        """The record as the file has it; equal for equal records."""
        sparse = self.sparse
        return (
            self.id,
            None if self.vector is None else self.vector.astype(_FLOAT).tobytes(),
            None if sparse is None else sparse.indices.astype(_INT).tobytes(),
            None if sparse is None else sparse.values.astype(_FLOAT).tobytes(),
            self.metadata,
            self.data,
        )


class Storage:
    """One index in one SQLite file, or in memory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        filters.register(connection)
        self.id = self._property("id")
        self.schema = self.stored_schema()

    @classmethod
    def open(cls, path: Path | None, schema: Schema | None) -> Self:
        """Open an index, or make one; see `nextk.engine.file.connect`."""
        return cls(file.connect(path, schema))

    def __del__(self) -> None:
        # A connection is part of a reference cycle of its own, so without this a dropped index would hold its file
        # until the next garbage collection, whenever that is.
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        self._connection.close()

    def transaction(self) -> AbstractContextManager[object]:
        """Everything inside is durable when the block is left, or did not happen.

        The connection ends it: unlike Python code, its own cannot be interrupted halfway. What an interrupt left open
        between the lines here is rolled back by the next transaction.
        """
        self.roll_back()
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def roll_back(self) -> None:
        """End a transaction that an interrupt has left open."""
        self._connection.rollback()

    def stored_schema(self) -> Schema:
        """The schema as the file has it.

        Raises:
            sqlite3.DatabaseError: There is none, or it cannot be read.
        """
        try:
            return Schema.from_dict(orjson.loads(self._property("schema")))
        except (ValueError, KeyError, TypeError) as error:
            message = f"malformed schema: {error}"
            raise sqlite3.DatabaseError(message) from error

    def save_schema(self, schema: Schema) -> None:
        """Keep a schema whose dimension has been decided."""
        stored = orjson.dumps(schema.to_dict()).decode()
        self._connection.execute("UPDATE properties SET value = ? WHERE name = 'schema'", (stored,))

    # Namespaces

    def namespaces(self) -> dict[str, int]:
        """The key of every namespace by its name, oldest first."""
        return dict(self._connection.execute("SELECT name, key FROM namespaces ORDER BY key"))

    def add_namespace(self, name: str) -> int:
        """Make a namespace and return its key."""
        return file.number(self._connection.execute("INSERT INTO namespaces (name) VALUES (?) RETURNING key", (name,)))

    def rename_namespace(self, key: int, name: str) -> None:
        """Give a namespace another name."""
        self._connection.execute("UPDATE namespaces SET name = ? WHERE key = ?", (name, key))

    def drop_namespace(self, key: int) -> None:
        """Remove a namespace and everything in it."""
        self.clear(key)
        self._connection.execute("DELETE FROM namespaces WHERE key = ?", (key,))

    def clear(self, key: int) -> None:
        """Remove the records of a namespace."""
        self._connection.execute("DELETE FROM records WHERE namespace = ?", (key,))

    # Records

    def upsert(self, key: int, record: StoredRecord) -> int:
        """Write one record and return its row."""
        return file.number(self._connection.execute(_UPSERT, (key, *record.columns())))

    def read(self, key: int, id: str) -> StoredRecord | None:
        """One record, whole."""
        found = self._connection.execute(
            "SELECT id, vector, sparse_indices, sparse_values, metadata, data FROM records"
            " WHERE namespace = ? AND id = ?",
            (key, id),
        ).fetchone()
        if found is None:
            return None
        return StoredRecord(found[0], _floats(found[1]), _sparse(found[2], found[3]), found[4], found[5])

    def vectors(self, key: int) -> Iterator[tuple[int, NDArray[np.float32] | None, SparseArrays | None]]:
        """Row, dense and sparse vector of every record, in the order of the rows."""
        stored = self._connection.execute(
            "SELECT row, vector, sparse_indices, sparse_values FROM records WHERE namespace = ? ORDER BY row", (key,)
        )
        for row, vector, indices, values in stored:
            yield row, _floats(vector), _sparse(indices, values)

    def rows_where(self, key: int, filter: str) -> list[int]:
        """The rows whose metadata passes a filter, ascending."""
        condition, values = _condition(filter)
        statement = f"SELECT row FROM records WHERE namespace = ? AND {condition} ORDER BY row"  # noqa: S608
        return [row for (row,) in self._connection.execute(statement, (key, *values))]

    def rows_selected(self, key: int, selection: Delete) -> list[int]:
        """The rows that a delete means."""
        if selection.ids is not None:
            return self.rows_of(key, selection.ids)
        if selection.prefix is not None:
            return self.rows_below(key, selection.prefix)
        return self.rows_where(key, selection.filter or "")

    def rows_of(self, key: int, ids: Sequence[str]) -> list[int]:
        """The rows of those ids that exist."""
        return [
            row
            for some in _groups(list(dict.fromkeys(ids)))
            for (row,) in self._connection.execute(
                f"SELECT row FROM records WHERE namespace = ? AND id IN ({_marks(some)})",  # noqa: S608
                (key, *some),
            )
        ]

    def rows_below(self, key: int, prefix: str, *, limit: int = -1) -> list[int]:
        """The rows of the ids that start with a prefix, in the order of the ids; `limit` bounds them."""
        found = self._connection.execute(
            "SELECT row FROM records WHERE namespace = ? AND id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (key, prefix, prefix + _LAST, limit),
        )
        return [row for (row,) in found]

    def rows_after(self, key: int, row: int, prefix: str, limit: int) -> list[int]:
        """The next rows in insertion order whose ids start with a prefix."""
        found = self._connection.execute(
            "SELECT row FROM records WHERE namespace = ? AND row > ? AND id BETWEEN ? AND ? ORDER BY row LIMIT ?",
            (key, row, prefix, prefix + _LAST, limit),
        )
        return [number for (number,) in found]

    def row_at(self, key: int, position: int) -> int | None:
        """The row at a place of the insertion order, counted from 0."""
        found = self._connection.execute(
            "SELECT row FROM records WHERE namespace = ? ORDER BY row LIMIT 1 OFFSET ?", (key, position)
        ).fetchone()
        return None if found is None else found[0]

    def delete(self, rows: Sequence[int]) -> int:
        """Remove records; how many were there."""
        return sum(
            self._connection.execute(f"DELETE FROM records WHERE row IN ({_marks(some)})", some).rowcount  # noqa: S608
            for some in _groups(rows)
        )

    def load(self, rows: Iterable[int], include: Include, filter: str = "") -> dict[int, Match]:
        """Read records for a reply.

        Args:
            rows: Which; those that are gone are left out of the answer.
            include: Which fields to read besides the id.
            filter: Leave out those whose metadata does not pass it now.
        """
        columns = ", ".join(
            column if wanted else "NULL"
            for column, wanted in (
                ("vector", include.include_vectors),
                ("sparse_indices", include.include_vectors),
                ("sparse_values", include.include_vectors),
                ("metadata", include.include_metadata),
                ("data", include.include_data),
            )
        )
        condition, values = _condition(filter)
        found: dict[int, Match] = {}
        for some in _groups(list(rows)):
            statement = f"SELECT row, id, {columns} FROM records WHERE row IN ({_marks(some)}) AND {condition}"  # noqa: S608
            for row, id_, vector, indices, weights, metadata, data in self._connection.execute(
                statement, (*some, *values)
            ):
                found[row] = Match(id_, None, _floats(vector), _sparse(indices, weights), metadata, data)
        return found

    # Figures

    def size(self) -> int:
        """Bytes that the index takes."""
        pages = file.number(self._connection.execute("PRAGMA page_count"))
        return pages * file.number(self._connection.execute("PRAGMA page_size"))

    def _property(self, name: str) -> str:
        found = self._connection.execute("SELECT value FROM properties WHERE name = ?", (name,)).fetchone()
        if found is None:
            message = f"malformed: it has no {name}"
            raise sqlite3.DatabaseError(message)
        return str(found[0])


def _condition(filter: str) -> tuple[str, Sequence[object]]:
    node = parse(filter)
    return ("TRUE", ()) if node is None else filters.to_sql(node)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _groups(values: Sequence[object]) -> Iterator[Sequence[object]]:
    for start in range(0, len(values), _MAX_VARIABLES):
        yield values[start : start + _MAX_VARIABLES]


def _floats(blob: bytes | None) -> NDArray[np.float32] | None:
    return None if blob is None else np.frombuffer(blob, _FLOAT).astype(np.float32, copy=False)


def _sparse(indices: bytes | None, values: bytes | None) -> SparseArrays | None:
    if indices is None or values is None:
        return None
    return SparseArrays(
        np.frombuffer(indices, _INT).astype(np.int32, copy=False),
        np.frombuffer(values, _FLOAT).astype(np.float32, copy=False),
    )
