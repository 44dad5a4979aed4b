"""The storage of an index: all records in one SQLite file, durable as soon as a write has returned.

Every record has a row, a whole number by which the rest of the engine identifies it. Rows count the records of the
whole file. Every record also has a number, which counts the records of its namespace from 1 and is what a range cursor
shows to clients. Both rise in the order of first insertion, are kept when an id is upserted again, and are not used
twice; but the numbers of a namespace begin anew when it is reset.

Nothing here takes a lock: the engine serialises its calls.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from nextk.bodies import MAX_ID_BYTES, Delete, Include
from nextk.engine import file
from nextk.engine.filter import sql as filters
from nextk.engine.filter.syntax import parse
from nextk.engine.index_file import IndexFile
from nextk.engine.schema import Schema
from nextk.engine.values import Match, RowVectors, SparseArrays

_FLOAT, _INT = np.dtype("<f4"), np.dtype("<i4")  # the types in the file, on any machine
_MAX_VARIABLES = 500  # well below what any SQLite allows in one statement
_LAST = "\U0010ffff" * (MAX_ID_BYTES // 4 + 1)  # sorts behind every id that could follow a prefix

_METADATA = "metadata.json"  # with its table, because json_each has a column json, too

_UPSERT = """
INSERT INTO records (number, namespace, id, vector, sparse_indices, sparse_values, data) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, id) DO UPDATE SET vector = excluded.vector, sparse_indices = excluded.sparse_indices,
    sparse_values = excluded.sparse_values, data = excluded.data
RETURNING row, number
"""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it is written.

    Attributes:
        id: The id of the record.
        vector: The dense vector, float32 (dimension,), or `None` if the index has none.
        sparse: The sparse vector, or `None` if the index has none.
        metadata: The metadata as JSON text, or `None`.
        data: The text of the record, or `None`.
    """

    id: str
    vector: NDArray[np.float32] | None
    sparse: SparseArrays | None
    metadata: str | None
    data: str | None

    def columns(self) -> tuple[str | bytes | None, ...]:
        """Return the values of the record in the file, the metadata last. They are equal for equal records."""
        sparse = self.sparse
        return (
            self.id,
            None if self.vector is None else self.vector.astype(_FLOAT).tobytes(),
            None if sparse is None else sparse.indices.astype(_INT).tobytes(),
            None if sparse is None else sparse.values.astype(_FLOAT).tobytes(),
            self.data,
            self.metadata,
        )


class Storage:
    """The records, namespaces and properties of one index in one SQLite file, or in memory.

    Args:
        file: What `nextk.engine.file.connect` returned.

    Attributes:
        after_commit: A function that is called after every write. Default: nothing happens.
    """

    def __init__(self, file: IndexFile) -> None:
        self._file = file
        self._connection = file.connection
        self.after_commit: Callable[[], None] = lambda: None
        self._kept_schema: Schema | None = None
        filters.register(self._connection)
        try:
            self.id = self._property("id")
            self.schema = self.stored_schema()
        except BaseException:  # at once, because whoever keeps the error keeps this object, which holds the file
            file.close()
            raise

    def __del__(self) -> None:
        # A connection is part of a reference cycle of its own, so without this a dropped index would hold its file
        # until the next garbage collection.
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    @property
    def read_only(self) -> bool:
        """Whether the file cannot be written to."""
        return self._file.read_only

    def require_unchanged(self) -> None:
        """Raise `RefusedError` if the file was removed, replaced or overwritten since it was opened."""
        self._file.require_unchanged()

    def rest(self) -> bool:
        """Bring the journal into the file. Returns whether nothing is left in it."""
        return self._file.rest()

    def close(self) -> None:
        """Bring the journal into the file and close it."""
        self._file.close()

    @contextmanager
    def transaction(self, *, frees_space: bool = False) -> Iterator[None]:
        """Return a context manager for one transaction: all writes in it are durable when it ends, or none happens.

        Args:
            frees_space: Whether the transaction only deletes. It may use the reserve if the disk is full.

        Raises:
            RefusedError: The file is open for reading only, or is not the one that was opened.
        """
        with self._file.transaction(frees_space=frees_space):
            yield
        self._file.after_commit()
        self.after_commit()

    def roll_back(self) -> None:
        """Roll back a transaction that an interrupt has left open."""
        self._connection.rollback()

    def stored_schema(self) -> Schema:
        """Read the schema from the file, or return the one that is kept instead.

        Raises:
            sqlite3.DatabaseError: The file has no schema, or it cannot be read.
        """
        if self._kept_schema is not None:
            return self._kept_schema
        try:
            return Schema.from_dict(orjson.loads(self._property("schema")))
        except (ValueError, KeyError, TypeError) as error:
            message = f"malformed schema: {error}"
            raise sqlite3.DatabaseError(message) from error

    def keep_schema(self, schema: Schema) -> None:
        """Take a schema in the place of the stored one until the file is closed, where it cannot be written."""
        self._kept_schema = schema

    def save_schema(self, schema: Schema) -> None:
        """Store a schema whose dimension has been decided."""
        stored = orjson.dumps(schema.to_dict()).decode()
        self._connection.execute("UPDATE properties SET value = ? WHERE name = 'schema'", (stored,))

    # Namespaces

    def namespaces(self) -> dict[str, int]:
        """Return the key of every namespace by its name, oldest first."""
        return dict(self._connection.execute("SELECT name, key FROM namespaces ORDER BY key"))

    def add_namespace(self, name: str) -> int:
        """Create a namespace and return its key."""
        return file.scalar(self._connection.execute("INSERT INTO namespaces (name) VALUES (?) RETURNING key", (name,)))

    def rename_namespace(self, key: int, name: str) -> None:
        """Rename a namespace."""
        self._connection.execute("UPDATE namespaces SET name = ? WHERE key = ?", (name, key))

    def drop_namespace(self, key: int) -> None:
        """Delete a namespace and its records."""
        self.clear(key)
        self._connection.execute("DELETE FROM namespaces WHERE key = ?", (key,))

    def clear(self, key: int) -> None:
        """Delete the records of a namespace. Their numbers begin anew."""
        self._connection.execute(
            "DELETE FROM metadata WHERE row IN (SELECT row FROM records WHERE namespace = ?)", (key,)
        )
        self._connection.execute("DELETE FROM records WHERE namespace = ?", (key,))
        self._save_next_number(key, 1)

    # Records

    def upsert(self, key: int, records: Sequence[StoredRecord]) -> list[int]:
        """Insert records, or replace those with the same ids, and return their rows in the given order."""
        number = file.scalar(self._connection.execute("SELECT next_number FROM namespaces WHERE key = ?", (key,)))
        rows: list[int] = []
        for record in records:
            values = (number, key, *record.columns()[:-1])
            [(row, kept)] = self._connection.execute(_UPSERT, values).fetchall()
            rows.append(row)
            if kept == number:  # the record is new
                number += 1
        self._save_next_number(key, number)
        self._connection.executemany(
            "INSERT INTO metadata VALUES (?, ?) ON CONFLICT (row) DO UPDATE SET json = excluded.json",
            zip(rows, (record.metadata for record in records), strict=True),
        )
        return rows

    def read(self, key: int, id: str) -> StoredRecord | None:
        """Read all columns of one record; return `None` if it does not exist."""
        found = self._connection.execute(
            "SELECT id, vector, sparse_indices, sparse_values, json, data FROM records JOIN metadata USING (row)"
            " WHERE namespace = ? AND id = ?",
            (key, id),
        ).fetchone()
        if found is None:
            return None
        return StoredRecord(found[0], _floats(found[1]), _sparse(found[2], found[3]), found[4], found[5])

    def vectors(self, key: int) -> Iterator[RowVectors]:
        """Yield every row of a namespace with its vectors, in ascending order of the rows."""
        # No variable holds a cursor: with the traceback of an interrupt, its open statement would hold the file.
        for row, vector, indices, values in self._connection.execute(
            "SELECT row, vector, sparse_indices, sparse_values FROM records WHERE namespace = ? ORDER BY number", (key,)
        ):
            yield row, _floats(vector), _sparse(indices, values)

    def rows_where(self, key: int, filter: str) -> list[int]:
        """Return the rows whose metadata passes a filter, ascending."""
        condition, values = _condition(filter)
        # The rows of a namespace come from the index of its numbers: neither vectors nor texts are read.
        where = f"namespace = ? AND {condition}"
        statement = f"SELECT row FROM records JOIN metadata USING (row) WHERE {where} ORDER BY number"  # noqa: S608
        return [row for (row,) in self._connection.execute(statement, (key, *values))]

    def rows_selected(self, key: int, selection: Delete) -> list[int]:
        """Return the rows that a delete request selects."""
        if selection.ids is not None:
            return self.rows_by_id(key, selection.ids)
        if selection.prefix is not None:
            return self.rows_by_prefix(key, selection.prefix)
        return self.rows_where(key, selection.filter or "")

    def rows_by_id(self, key: int, ids: Sequence[str]) -> list[int]:
        """Return the rows of the given ids; ids that do not exist are skipped."""
        return [
            row
            for chunk in _chunks(list(dict.fromkeys(ids)))
            for (row,) in self._connection.execute(
                f"SELECT row FROM records WHERE namespace = ? AND id IN ({_placeholders(chunk)})",  # noqa: S608
                (key, *chunk),
            )
        ]

    def rows_by_prefix(self, key: int, prefix: str, *, limit: int = -1) -> list[int]:
        """Return the rows whose ids start with a prefix, in the order of the ids.

        Args:
            key: The key of the namespace.
            prefix: The prefix.
            limit: The largest number of rows; -1 returns all of them.
        """
        found = self._connection.execute(
            "SELECT row FROM records WHERE namespace = ? AND id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (key, prefix, prefix + _LAST, limit),
        ).fetchall()
        return [row for (row,) in found]

    def numbers_after(self, key: int, number: int, prefix: str, limit: int) -> list[tuple[int, int]]:
        """Return the next records of a namespace in insertion order.

        Args:
            key: The key of the namespace.
            number: The number after which to begin.
            prefix: The prefix that the ids have.
            limit: The largest number of records.

        Returns:
            The number and the row of each record.
        """
        # The plus keeps SQLite from the index of the ids, by which it would read and sort all of them for every page.
        return self._connection.execute(
            "SELECT number, row FROM records WHERE namespace = ? AND number > ? AND +id BETWEEN ? AND ?"
            " ORDER BY number LIMIT ?",
            (key, number, prefix, prefix + _LAST, limit),
        ).fetchall()

    def row_at(self, key: int, position: int) -> int | None:
        """Return the row at a position in insertion order, counted from 0; `None` beyond the end."""
        found = self._connection.execute(
            "SELECT row FROM records WHERE namespace = ? ORDER BY number LIMIT 1 OFFSET ?", (key, position)
        ).fetchone()
        return None if found is None else found[0]

    def delete(self, rows: Sequence[int]) -> int:
        """Delete the records of rows. Returns how many of them existed."""
        deleted = 0
        for chunk in _chunks(rows):
            selected = f"WHERE row IN ({_placeholders(chunk)})"
            self._connection.execute(f"DELETE FROM metadata {selected}", chunk)  # noqa: S608
            deleted += self._connection.execute(f"DELETE FROM records {selected}", chunk).rowcount  # noqa: S608
        return deleted

    def load(self, rows: Iterable[int], include: Include, filter: str = "") -> dict[int, Match]:
        """Read records for an answer.

        Args:
            rows: The rows to read. Rows that do not exist any more are left out of the result.
            include: The fields to read besides the id.
            filter: Rows whose metadata does not pass this filter now are left out as well.

        Returns:
            The records by row; their score is `None`.
        """
        columns = ", ".join(
            column if included else "NULL"
            for column, included in (
                ("vector", include.include_vectors),
                ("sparse_indices", include.include_vectors),
                ("sparse_values", include.include_vectors),
                (_METADATA, include.include_metadata),
                ("data", include.include_data),
            )
        )
        condition, values = _condition(filter)
        table = "records JOIN metadata USING (row)" if include.include_metadata or values else "records"
        found: dict[int, Match] = {}
        for chunk in _chunks(list(rows)):
            statement = f"SELECT row, id, {columns} FROM {table} WHERE row IN ({_placeholders(chunk)}) AND {condition}"  # noqa: S608
            for row, id_, vector, indices, weights, metadata, data in self._connection.execute(
                statement, (*chunk, *values)
            ):
                found[row] = Match(id_, None, _floats(vector), _sparse(indices, weights), metadata, data)
        if self.read_only:  # another process may write to the file, and has changed it while this was read
            self.require_unchanged()
        return found

    # Figures

    def size(self) -> int:
        """Return the bytes that the index takes."""
        pages = file.scalar(self._connection.execute("PRAGMA page_count"))
        return pages * file.scalar(self._connection.execute("PRAGMA page_size"))

    def _save_next_number(self, key: int, number: int) -> None:
        self._connection.execute("UPDATE namespaces SET next_number = ? WHERE key = ?", (number, key))

    def _property(self, name: str) -> str:
        found = self._connection.execute("SELECT value FROM properties WHERE name = ?", (name,)).fetchone()
        if found is None:
            message = f"malformed: it has no {name}"
            raise sqlite3.DatabaseError(message)
        return str(found[0])


def _condition(filter: str) -> tuple[str, Sequence[object]]:
    node = parse(filter)
    return ("TRUE", ()) if node is None else filters.to_sql(node, _METADATA)


def _placeholders(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _chunks(values: Sequence[object]) -> Iterator[Sequence[object]]:
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
