"""The tables in the file of an index, and the conversion of files of an older format.

Format 1 kept the metadata in the table of the records, behind the vectors. Format 2 keeps them in a table of their own,
so that a filter does not read vectors, and numbers the records of each namespace.
"""

import sqlite3
from collections.abc import Mapping

__all__ = ["FORMAT", "convert", "create_tables"]

FORMAT = 2
"""The format that is written. Every format from 1 up to it can be opened."""

# The defaults of the two numbers are those that ALTER TABLE asks for when it adds them to a file of format 1.
_NEXT_NUMBER = "next_number INTEGER NOT NULL DEFAULT 1"
_NUMBER = "number INTEGER NOT NULL DEFAULT 0"
# With the id, so that a range over the ids with a prefix reads this index alone.
_NUMBERS = "CREATE INDEX numbers ON records (namespace, number, id)"
_METADATA = "CREATE TABLE metadata (row INTEGER PRIMARY KEY, json TEXT)"

_TABLES = (
    "CREATE TABLE properties (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE namespaces (key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, {_NEXT_NUMBER})",
    f"""
    CREATE TABLE records (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace INTEGER NOT NULL,
        id TEXT NOT NULL,
        vector BLOB,
        sparse_indices BLOB,
        sparse_values BLOB,
        data TEXT,
        {_NUMBER},
        UNIQUE (namespace, id)
    )
    """,
    _NUMBERS,
    _METADATA,
)

_CONVERSIONS: Mapping[int, tuple[str, ...]] = {
    1: (
        f"ALTER TABLE namespaces ADD COLUMN {_NEXT_NUMBER}",
        f"ALTER TABLE records ADD COLUMN {_NUMBER}",
        """
        UPDATE records SET number = counted.number
        FROM (SELECT row, row_number() OVER (PARTITION BY namespace ORDER BY row) AS number FROM records) AS counted
        WHERE counted.row = records.row
        """,
        _NUMBERS,
        """
        UPDATE namespaces SET next_number =
            1 + coalesce((SELECT max(number) FROM records WHERE namespace = namespaces.key), 0)
        """,
        _METADATA,
        "INSERT INTO metadata SELECT row, metadata FROM records ORDER BY row",
        "ALTER TABLE records DROP COLUMN metadata",
    ),
}
"""The statements that convert a file to the next format, by its own format."""


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of an empty index, within the transaction of the caller."""
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def convert(connection: sqlite3.Connection, version: int) -> None:
    """Convert the tables of an index to the current format, within the transaction of the caller.

    Args:
        connection: The connection.
        version: The format of the file, from 1 up to `FORMAT`. Whoever calls this stores the new one.
    """
    for older in range(version, FORMAT):
        for statement in _CONVERSIONS[older]:
            connection.execute(statement)
