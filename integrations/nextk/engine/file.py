"""The file of an index: made, recognised, and held by one process.

SQLite's own exclusive locking holds it, so a killed process leaves no lock behind.
"""

import secrets
import sqlite3
from pathlib import Path

import orjson

from nextk.engine.schema import Schema
from nextk.errors import ClientError

FORMAT = 1
_APPLICATION_ID = 0x6E78746B  # "nxtk", in the header field that SQLite keeps for it

_SMALLEST_FILE = 512  # bytes: the smallest page of a database

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
"""


def connect(path: Path | None, schema: Schema | None) -> sqlite3.Connection:
    """Open an index, or make one.

    Args:
        path: The file; `None` keeps everything in memory.
        schema: What to make where there is nothing yet; `None` insists that the index exists.

    Raises:
        ClientError: The path is not an index, is held by another process, or is of a newer format.
    """
    _refuse_place(path)
    if schema is None and (path is None or not path.exists()):
        message = f"there is no index at {path}"
        raise ClientError(message)
    try:
        connection = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise explain(error, path) from error
    try:
        if not _prepare(connection, path):
            if schema is None:
                message = f"{path} is empty: there is no index in it"
                raise ClientError(message)
            _create(connection, schema)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise explain(error, path) from error
        raise
    return connection


def _refuse_place(path: Path | None) -> None:
    """Say what is wrong with a path, where SQLite would only say that it cannot open it."""
    if path is None:
        return
    try:
        size, folder, parent = _size(path), path.is_dir(), path.parent.is_dir()
    except (OSError, ValueError) as error:
        message = f"cannot open an index at {str(path)!r}: {error}"
        raise ClientError(message) from error
    if folder:
        message = f"{path} is a folder; name a file in it, such as {path / 'notes.nextk'}"
    elif not parent:
        message = f"the folder {path.parent} does not exist; make it first"
    elif 0 < size < _SMALLEST_FILE:  # SQLite would take it for empty, and overwrite it
        message = f"{path} is not a nextk index"
    else:
        return
    raise ClientError(message)


def _size(path: Path) -> int:
    """The bytes of a file, 0 where there is none; raises on a path that cannot be."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _prepare(connection: sqlite3.Connection, path: Path | None) -> bool:
    """Take the lock, set the journal, and tell whether there is an index already."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("BEGIN EXCLUSIVE")  # reads the header: fails here if this is no database, or is held
    application = number(connection.execute("PRAGMA application_id"))
    version = number(connection.execute("PRAGMA user_version"))
    tables = number(connection.execute("SELECT count(*) FROM sqlite_schema"))
    connection.execute("COMMIT")
    if application != _APPLICATION_ID and (tables or application or version):
        message = f"{path} is a database, but not a nextk index"
        raise ClientError(message)
    if version > FORMAT:
        message = f"{path} has format {version}; this nextk reads up to {FORMAT}. Upgrade nextk"
        raise ClientError(message)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a write that has returned survives a power cut, too
    connection.execute("PRAGMA fullfsync = ON")  # on macOS, where a plain fsync leaves it in the drive's cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    return bool(tables)


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    properties = {"id": secrets.token_hex(8), "schema": orjson.dumps(schema.to_dict()).decode()}
    connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
    connection.execute("INSERT INTO namespaces (name) VALUES ('')")
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def explain(error: sqlite3.DatabaseError, path: Path | None) -> ClientError:
    """What a failure of SQLite means to whoever opens an index."""
    if "locked" in str(error):
        message = f"{path} is held by another process. Share an index between processes with: nextk serve --data DIR"
    elif isinstance(error, sqlite3.OperationalError):
        message = f"cannot open an index at {path}: {error}"
    elif "malformed" in str(error):
        message = f"the index at {path} is damaged ({error}); restore it from a copy or build it anew"
    else:
        message = f"{path} is not a nextk index: {error}"
    return ClientError(message)


def number(cursor: sqlite3.Cursor) -> int:
    """The one number that a statement gives; the statement is run to its end."""
    (only,) = cursor.fetchall()[0]
    return int(only)
