"""Files of format 1, as nextk wrote them before metadata had a table of their own."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from nextk.engine.journal import format_of

SCHEMA = {
    "type": "DENSE",
    "dimension": 2,
    "similarity": "COSINE",
    "embedding": "",
    "sparse_embedding": "",
    "fusion_order": "GLOBAL",
}

_TABLES = """
CREATE TABLE properties (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE namespaces (key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE records (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace INTEGER NOT NULL,
    id TEXT NOT NULL,
    vector BLOB,
    sparse_indices BLOB,
    sparse_values BLOB,
    metadata TEXT,
    data TEXT,
    UNIQUE (namespace, id)
);
PRAGMA application_id = 0x6E78746B;
PRAGMA user_version = 1;
"""


@dataclass(frozen=True, slots=True)
class OldRecord:
    """A dense record in a file of format 1."""

    namespace: str
    id: str
    vector: Sequence[float]
    metadata: dict[str, Any] | None = None
    data: str | None = None


def write(
    path: Path, records: Iterable[OldRecord], *, namespaces: Sequence[str] = (), schema: Any = SCHEMA, last_row: int = 0
) -> None:
    """Create a file of format 1.

    Args:
        path: The file, which does not exist.
        records: The records, in the order of their insertion.
        namespaces: Further namespaces, which have no records.
        schema: The properties of the index, as they are stored.
        last_row: The row that was given last, if its record was deleted.
    """
    records = list(records)
    names = list(dict.fromkeys(["", *(record.namespace for record in records), *namespaces]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_TABLES)
        properties = {"id": "0123456789abcdef", "schema": orjson.dumps(schema).decode()}
        connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
        connection.executemany("INSERT INTO namespaces (name) VALUES (?)", [(name,) for name in names])
        for record in records:
            metadata = None if record.metadata is None else orjson.dumps(record.metadata).decode()
            vector = np.array(record.vector, "<f4").tobytes()
            connection.execute(
                "INSERT INTO records (namespace, id, vector, metadata, data) VALUES (?, ?, ?, ?, ?)",
                (names.index(record.namespace) + 1, record.id, vector, metadata, record.data),
            )
        if last_row:
            connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'records'", (last_row,))


def dump(path: Path) -> list[str]:
    """Return everything in a database as SQL, its format first."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [str(format_of(version)), *connection.iterdump()]
