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
from pathlib import Path

import orjson

from nextk.engine import file, formats, stored
from nextk.engine.code_table import CodeTable
from nextk.engine.index_file import IndexFile
from nextk.engine.reader import RecordReader
from nextk.engine.schema import Schema
from nextk.engine.statements import chunks, placeholders
from nextk.engine.stored import StoredRecord, StoredRow

_INSERT = """
INSERT INTO records (vector, sparse_indices, sparse_values, data, checksum, row, id, namespace, number)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_REPLACE = "UPDATE records SET vector = ?, sparse_indices = ?, sparse_values = ?, data = ?, checksum = ? WHERE row = ?"
_LAST_ROW = """
SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'records'), 0),
    coalesce((SELECT max(row) FROM records), 0))
"""


class Storage(RecordReader):
    """The records, namespaces and properties of one index in one SQLite file, or in memory.

    Args:
        file: What `nextk.engine.file.connect` returned.

    Attributes:
        after_commit: A function that is called after every write. Default: nothing happens.
        codes: The codes that are kept beside the records.

    Raises:
        sqlite3.DatabaseError: The properties or the namespaces are damaged.
    """

    def __init__(self, file: IndexFile) -> None:
        super().__init__(file.connection)
        self._file = file
        self.after_commit: Callable[[], None] = lambda: None
        self.codes = CodeTable(file.connection)
        self._kept_schema: Schema | None = None
        try:
            self._connection.execute("PRAGMA cell_size_check = ON")  # a damaged page is noticed when it is read
            formats.register(self._connection)
            self.id = self._property("id")
            self.schema = self.stored_schema()
            formats.require_sealed(self._connection)
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
    def path(self) -> Path | None:
        """The file of the index; `None` if it is in memory."""
        return self._file.path

    @property
    def read_only(self) -> bool:
        """Whether the file cannot be written to."""
        return self._file.read_only

    def require_unchanged(self) -> None:
        """Raise `RefusedError` if the file was removed, replaced or overwritten since it was opened."""
        self._file.require_unchanged()

    def require_writable(self) -> None:
        """Raise `RefusedError` if the file is open for reading only."""
        self._file.require_writable()

    def descriptor(self) -> int:
        """Return a descriptor by which the file can be read, and which must not be closed."""
        self._connection.execute("SELECT 1")  # an error if the file is closed
        return self._file.descriptor

    def copy_to(self, target: sqlite3.Connection, pages: int, progress: Callable[..., None]) -> None:
        """Copy everything into another database.

        Args:
            target: The connection to the other database.
            pages: The number of pages that are copied at once.
            progress: Called each time; whatever it raises ends the copy.
        """
        self.roll_back()
        self._connection.backup(target, pages=pages, progress=progress)

    def rest(self) -> bool:
        """Bring the journal into the file. Returns whether nothing is left in it."""
        return self._file.rest()

    def close(self) -> None:
        """Bring the journal into the file and close it."""
        self.record_cache.clear()  # so that nothing is answered any more
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
        value = orjson.dumps(schema.to_dict()).decode()
        self._connection.execute("UPDATE properties SET value = ? WHERE name = 'schema'", (value,))
        formats.seal(self._connection)

    # Namespaces

    def namespaces(self) -> dict[str, int]:
        """Return the key of every namespace by its name, oldest first."""
        return dict(self._connection.execute("SELECT name, key FROM namespaces ORDER BY key"))

    def add_namespace(self, name: str) -> int:
        """Create a namespace and return its key."""
        insert = "INSERT INTO namespaces (name) VALUES (?) RETURNING key"
        key = file.scalar(self._connection.execute(insert, (name,)))
        self._save_next_number(key, 1)
        return key

    def rename_namespace(self, key: int, name: str) -> None:
        """Rename a namespace."""
        self._connection.execute(
            "UPDATE namespaces SET name = ?1, checksum = nextk_checksum(key, ?1, next_number) WHERE key = ?2",
            (name, key),
        )

    def drop_namespace(self, key: int) -> None:
        """Delete a namespace and its records."""
        self.clear(key)
        self._connection.execute("DELETE FROM namespaces WHERE key = ?", (key,))

    def clear(self, key: int) -> None:
        """Delete the records of a namespace. Their numbers begin anew."""
        rows = self._connection.execute("SELECT row FROM records WHERE namespace = ?", (key,))
        self.record_cache.forget(row for (row,) in rows)
        self._connection.execute(
            "DELETE FROM metadata WHERE row IN (SELECT row FROM records WHERE namespace = ?)", (key,)
        )
        self._connection.execute("DELETE FROM records WHERE namespace = ?", (key,))
        self.codes.forget(key)
        self._save_next_number(key, 1)

    # Records; those that only read are in `RecordReader`

    def last_row(self) -> int:
        """Return the last row that a record has or had. Records that are inserted later have later rows."""
        return file.scalar(self._connection.execute(_LAST_ROW))

    def upsert(self, key: int, records: Sequence[StoredRecord]) -> list[int]:
        """Insert records, or replace those with the same ids, and return their rows in the given order.

        Args:
            key: The key of the namespace.
            records: The records, whose ids are distinct.

        Raises:
            sqlite3.DatabaseError: The index of the ids is damaged, so that another record would be replaced.
        """
        number = file.scalar(self._connection.execute("SELECT next_number FROM namespaces WHERE key = ?", (key,)))
        row = self.last_row() + 1
        known = self._numbered(self._rows_of_ids(key, [record.id for record in records]))
        self.record_cache.forget(its_row for its_row, _ in known.values())
        rows: list[int] = []
        inserted: list[tuple[object, ...]] = []
        replaced: list[tuple[object, ...]] = []
        for record in records:
            its_row, its_number = known.get(record.id, (row, number))
            values = stored.written_values(its_row, key, its_number, record)
            if record.id in known:
                replaced.append((*values, its_row))
            else:
                inserted.append((*values, its_row, record.id, key, its_number))
                row, number = row + 1, number + 1
            rows.append(its_row)
        self._connection.executemany(_REPLACE, replaced)
        self._connection.executemany(_INSERT, inserted)
        self._save_next_number(key, number)
        self._connection.executemany(
            "INSERT INTO metadata VALUES (?, ?) ON CONFLICT (row) DO UPDATE SET json = excluded.json",
            zip(rows, (record.metadata for record in records), strict=True),
        )
        return rows

    def keep_in_memory(self, rows: Iterable[int], records: Iterable[StoredRecord]) -> None:
        """Keep records in memory, so that they need not be read. Call it once they are durable.

        Args:
            rows: Their rows.
            records: The records.
        """
        for row, record in zip(rows, records, strict=True):
            self.record_cache.add(row, record.id, record.metadata, record.data)

    def delete(self, rows: Sequence[int]) -> int:
        """Delete the records of rows. Returns how many of them existed."""
        self.record_cache.forget(rows)
        deleted = 0
        for chunk in chunks(rows):
            selected = f"WHERE row IN ({placeholders(chunk)})"
            self._connection.execute(f"DELETE FROM metadata {selected}", chunk)  # noqa: S608
            deleted += self._connection.execute(f"DELETE FROM records {selected}", chunk).rowcount  # noqa: S608
        return deleted

    def _stored_rows(self, statement: str, values: Sequence[object], rows: Iterable[int]) -> list[StoredRow]:
        found = super()._stored_rows(statement, values, rows)
        if self.read_only:  # another process may write to the file, and has changed it while this was read
            self.require_unchanged()
        return found

    # Figures

    def size(self) -> int:
        """Return the bytes that the index takes."""
        pages = file.scalar(self._connection.execute("PRAGMA page_count"))
        return pages * file.scalar(self._connection.execute("PRAGMA page_size"))

    def _save_next_number(self, key: int, number: int) -> None:
        self._connection.execute(
            "UPDATE namespaces SET next_number = ?1, checksum = nextk_checksum(key, name, ?1) WHERE key = ?2",
            (number, key),
        )

    def _property(self, name: str) -> str:
        found = self._connection.execute("SELECT value FROM properties WHERE name = ?", (name,)).fetchone()
        if found is None:
            message = f"malformed: it has no {name}"
            raise sqlite3.DatabaseError(message)
        return str(found[0])
