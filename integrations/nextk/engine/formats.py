"""The tables in the file of an index, and the conversion of files of an older format.

Format 1 kept the metadata in the table of the records, behind the vectors. Format 2 keeps them in a table of their own,
so that a filter does not read vectors, numbers the records of each namespace, and has checksums: one for each record,
one for each namespace, and one for the properties and the tables themselves.
"""

import sqlite3
from collections.abc import Mapping

import orjson

from nextk.engine import checksums

__all__ = ["APPLICATION_ID", "FORMAT", "convert", "create_tables", "register", "require_sealed", "seal"]

APPLICATION_ID = 0x6E78746B
"""The bytes "nxtk", in the field of the header that SQLite keeps for the application."""

FORMAT = 2
"""The format that is written. Every format from 1 up to it can be opened."""

# The defaults are those that ALTER TABLE asks for when it adds them to a file of format 1.
_NEXT_NUMBER = "next_number INTEGER NOT NULL DEFAULT 1"
_NUMBER = "number INTEGER NOT NULL DEFAULT 0"
_CHECKSUM = f"checksum INTEGER NOT NULL DEFAULT {checksums.UNKNOWN}"
# With the id, so that a range over the ids with a prefix reads this index alone.
_NUMBERS = "CREATE INDEX numbers ON records (namespace, number, id)"
_METADATA = "CREATE TABLE metadata (row INTEGER PRIMARY KEY, json TEXT)"

_TABLES = (
    "CREATE TABLE properties (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"""
    CREATE TABLE namespaces (
        key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, {_NEXT_NUMBER}, {_CHECKSUM}
    )
    """,
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
        {_CHECKSUM},
        UNIQUE (namespace, id)
    )
    """,
    _NUMBERS,
    _METADATA,
)

_CONVERSIONS: Mapping[int, tuple[str, ...]] = {
    1: (
        f"ALTER TABLE namespaces ADD COLUMN {_NEXT_NUMBER}",
        f"ALTER TABLE namespaces ADD COLUMN {_CHECKSUM}",
        f"ALTER TABLE records ADD COLUMN {_NUMBER}",
        f"ALTER TABLE records ADD COLUMN {_CHECKSUM}",
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
        "UPDATE namespaces SET checksum = nextk_checksum(key, name, next_number)",
        """
        UPDATE records SET checksum = nextk_checksum_if_whole(row, namespace, number, CAST(id AS BLOB),
            CAST(vector AS BLOB), CAST(sparse_indices AS BLOB), CAST(sparse_values AS BLOB), CAST(data AS BLOB),
            CAST(metadata AS BLOB))
        """,
        _METADATA,
        "INSERT INTO metadata SELECT row, metadata FROM records ORDER BY row",
        "ALTER TABLE records DROP COLUMN metadata",
    ),
}
"""The statements that convert a file to the next format, by its own format."""


def register(connection: sqlite3.Connection) -> None:
    """Register the function that computes the checksum of a namespace in SQL, once per connection."""
    connection.create_function("nextk_checksum", 3, checksums.of_values, deterministic=True)


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of an empty index with its default namespace, within the transaction of the caller.

    The caller stores the properties, and then calls `seal`.
    """
    for statement in _TABLES:
        connection.execute(statement)
    default = ("", 1)
    connection.execute(
        "INSERT INTO namespaces (key, name, next_number, checksum) VALUES (1, ?, ?, ?)",
        (*default, checksums.of_values(1, *default)),
    )
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def seal(connection: sqlite3.Connection) -> None:
    """Store the checksum of the id, the schema and the definitions of the tables, within the caller's transaction."""
    checksum = _checksum_of_properties(connection)
    connection.execute("INSERT OR REPLACE INTO properties VALUES ('checksum', ?)", (str(checksum),))


def require_sealed(connection: sqlite3.Connection) -> None:
    """Check the checksums of the properties and of the namespaces, without which no record can be trusted.

    Raises:
        sqlite3.DatabaseError: One of them does not match.
    """
    stored = connection.execute("SELECT value FROM properties WHERE name = 'checksum'").fetchall()
    if stored != [(str(_checksum_of_properties(connection)),)]:
        message = "malformed: its properties do not match their checksum"
        raise sqlite3.DatabaseError(message)
    for key, name, next_number, checksum in connection.execute(
        "SELECT key, name, next_number, checksum FROM namespaces"
    ):
        if checksum != checksums.of_values(key, name, next_number):
            message = f"malformed: the namespace {name!r} does not match its checksum"
            raise sqlite3.DatabaseError(message)


def _checksum_of_properties(connection: sqlite3.Connection) -> int:
    properties = connection.execute(
        "SELECT name, value FROM properties WHERE name IN ('id', 'schema') UNION ALL"
        " SELECT name, sql FROM sqlite_schema"
        " WHERE name IN ('properties', 'namespaces', 'records', 'metadata', 'numbers')"
        " ORDER BY 1"
    )
    return checksums.of_values(*(value for pair in properties for value in pair))


def convert(connection: sqlite3.Connection, version: int) -> None:
    """Convert the tables of an index to the current format, within the transaction of the caller.

    Args:
        connection: The connection.
        version: The format of the file, from 1 up to `FORMAT`. Whoever calls this stores the new one.
    """
    connection.text_factory = checksums.decode  # a damaged text must not keep the others from being converted
    register(connection)
    dimension = _dimension(connection)
    connection.create_function(
        "nextk_checksum_if_whole", 9, lambda *values: _checksum_if_whole(dimension, values[:3], *values[3:])
    )
    for older in range(version, FORMAT):
        for statement in _CONVERSIONS[older]:
            connection.execute(statement)
    seal(connection)


def _checksum_if_whole(dimension: int | None, identity: tuple[int, int, int], *values: bytes | None) -> int:
    """Return the checksum of a record of an older format, and one that no record has if it is damaged.

    Args:
        dimension: The dimension of the index; `None` if it has none.
        identity: The row of the record, the key of its namespace, and its number.
        values: The other values that `nextk.engine.checksums.of_record` takes.
    """
    id_, vector, indices, weights, data, metadata = values
    try:
        id_text = (id_ or b"").decode()
        (data or b"").decode()
        if metadata is not None:
            orjson.loads(metadata)  # UTF-8, too
    except ValueError:
        return checksums.UNKNOWN
    if (dimension is not None and len(vector or b"") != 4 * dimension) or len(indices or b"") != len(weights or b""):
        return checksums.UNKNOWN
    return checksums.of_record(*identity, id_text.encode(), vector, indices, weights, data, metadata)


def _dimension(connection: sqlite3.Connection) -> int | None:
    """Return the dimension of an index of an older format; `None` if it has none, or if its schema cannot be read."""
    try:
        [(schema,)] = connection.execute("SELECT value FROM properties WHERE name = 'schema'")
        dimension: int | None = orjson.loads(schema)["dimension"]
    except (ValueError, KeyError, TypeError):
        return None
    return dimension
