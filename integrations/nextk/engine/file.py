"""Create, recognise and lock the file of an index.

One process holds the file at a time. SQLite's own exclusive locking does that, so a killed process leaves no lock
behind.
"""

import logging
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson

from nextk.engine.formats import FORMAT, convert, create_tables
from nextk.engine.schema import Schema
from nextk.errors import ClientError, IndexLocked

log = logging.getLogger("nextk.engine")

_APPLICATION_ID = 0x6E78746B  # "nxtk", in the header field that SQLite keeps for it

_SMALLEST_FILE = 512  # bytes: the smallest page of a database
_PAGE_CACHE = 16 * 1024  # KiB that SQLite may keep of the file; its own default is 2 MiB


def connect(path: Path | None, new_schema: Callable[[], Schema] | None) -> sqlite3.Connection:
    """Open the database of an index, or create it. A file of an older format is converted first.

    Args:
        path: The file of the index; `None` keeps everything in memory.
        new_schema: A function that returns the schema of the index that is created if the file does not exist or is
            empty, and is called only then; `None` requires that the index exists.

    Returns:
        A connection that holds the exclusive lock of the file until it is closed.

    Raises:
        ClientError: The path is not an index, another process holds it, its format is not known to this package, or
            it does not exist and `new_schema` is `None`. Whatever `new_schema` raises is raised before a file is made.
    """
    _require_usable_path(path)
    schema = new_schema() if new_schema is not None and (path is None or not _size(path)) else None
    if new_schema is None and (path is None or not path.exists()):
        message = f"there is no index at {path}"
        raise ClientError(message)
    try:
        connection = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise explain(error, path) from error
    try:
        version = _prepare(connection, path)
        if version is None:
            if new_schema is None:
                message = f"{path} is empty: there is no index in it"
                raise ClientError(message)
            _create(connection, schema or new_schema())
        elif version < FORMAT:
            convert(connection, version)
            log.info("converted %s from format %d to format %d", path, version, FORMAT)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise explain(error, path) from error
        raise
    return connection


def _require_usable_path(path: Path | None) -> None:
    """Refuse a path that cannot be opened with the reason; SQLite would only say that it cannot open it."""
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
    """Return the size of a file in bytes, 0 if there is no file; raise for a path that no file can have."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _prepare(connection: sqlite3.Connection, path: Path | None) -> int | None:
    """Take the lock, set the journal mode, and return the format of the index; `None` if the file is empty."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("BEGIN EXCLUSIVE")  # reads the header: fails here if this is no database, or is held
    application = scalar(connection.execute("PRAGMA application_id"))
    version = scalar(connection.execute("PRAGMA user_version"))
    tables = scalar(connection.execute("SELECT count(*) FROM sqlite_schema"))
    connection.execute("COMMIT")
    if application != _APPLICATION_ID and (tables or application or version):
        message = f"{path} is a database, but not a nextk index"
        raise ClientError(message)
    if tables:
        _require_known_format(version, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a write that has returned survives a power cut, too
    connection.execute("PRAGMA fullfsync = ON")  # on macOS, where a plain fsync leaves it in the drive's cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA cache_size = {-_PAGE_CACHE}")
    return version if tables else None


def _require_known_format(version: int, path: Path | None) -> None:
    if version > FORMAT:
        message = f"{path} has format {version}; this nextk reads up to {FORMAT}. Upgrade nextk"
    elif version < 1:
        message = f"{path} has format {version}, which no nextk has written; restore it from a copy or build it anew"
    else:
        return
    raise ClientError(message)


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    connection.execute("BEGIN IMMEDIATE")
    create_tables(connection)
    properties = {"id": secrets.token_hex(8), "schema": orjson.dumps(schema.to_dict()).decode()}
    connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
    connection.execute("INSERT INTO namespaces (name) VALUES ('')")
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute("COMMIT")


def explain(error: sqlite3.DatabaseError, path: Path | None) -> ClientError:
    """Return the error that tells a user what a failure of SQLite means for the index."""
    if "locked" in str(error):
        message = f"{path} is held by another process. Share an index between processes with: nextk serve --data DIR"
        return IndexLocked(message)
    if isinstance(error, sqlite3.OperationalError):
        message = f"cannot open an index at {path}: {error}"
    elif "malformed" in str(error):
        message = f"the index at {path} is damaged ({error}); restore it from a copy or build it anew"
    else:
        message = f"{path} is not a nextk index: {error}"
    return ClientError(message)


def scalar(cursor: sqlite3.Cursor) -> int:
    """Return the single number that a statement yields. The statement is run to its end."""
    (only,) = cursor.fetchall()[0]
    return int(only)
