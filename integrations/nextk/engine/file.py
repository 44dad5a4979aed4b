"""Create, recognise and lock the file of an index.

One process holds the file at a time. SQLite's own exclusive locking does that, so a killed process leaves no lock
behind. A file that cannot be written to is not locked, and any number of processes may read it.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson

from nextk.engine.failures import FAILURES, explain, held
from nextk.engine.formats import APPLICATION_ID, FORMAT, convert, create_tables, seal
from nextk.engine.index_file import IndexFile, hold, is_held_here, locks, read_at
from nextk.engine.journal import HEADER_SIZE, belongs, empty, format_of, has_writes, path_beside, set_aside
from nextk.engine.publish import publish
from nextk.engine.schema import Schema
from nextk.errors import ClientError, IndexLocked

log = logging.getLogger("nextk.engine")

_APPLICATION = slice(68, 72)  # where the header has it
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_SMALLEST_FILE = 512  # bytes: the smallest page of a database
_PAGE_CACHE = 16 * 1024  # KiB that SQLite may keep of the file; its own default is 2 MiB


def connect(path: Path | None, new_schema: Callable[[], Schema] | None) -> IndexFile:
    """Open the file of an index, or create it. A file of an older format is converted first.

    A file that may not be written to, or whose folder may not, is opened for reading.

    Args:
        path: The file of the index; `None` keeps everything in memory.
        new_schema: A function that returns the schema of the index that is created if the file does not exist, and is
            called only then; `None` requires that the index exists.

    Returns:
        The file. Its connection holds the exclusive lock until it is closed, unless it is open for reading.

    Raises:
        ClientError: The path is not an index, another process holds it, its format is not known to this package, or
            it does not exist and `new_schema` is `None`. Whatever `new_schema` raises is raised before a file is made.
    """
    if path is None:
        return _in_memory(new_schema)
    _require_usable_path(path)
    try:
        if not path.exists():
            _make(path, new_schema)
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
        return _open_for_writing(path) if writable else _open_for_reading(path)
    except FAILURES as error:
        raise explain(error, path) from error


def _require_usable_path(path: Path) -> None:
    """Refuse a path that cannot be opened with the reason; SQLite would only say that it cannot open it."""
    try:
        size, folder, parent = _size(path), path.is_dir(), path.parent.is_dir()
    except (OSError, ValueError) as error:
        message = f"cannot open an index at {str(path)!r}: {error}"
        raise ClientError(message) from error
    if folder:
        message = f"{path} is a folder; name a file in it, such as {path / 'notes.nextk'}"
    elif not parent:
        message = f"the folder {path.parent} does not exist; make it first"
    elif size == 0:
        message = (
            f"{path} is empty, which the file of an index never is: put a backup in its place, or remove it if a new "
            "index is to be made there"
        )
    elif size is not None and size < _SMALLEST_FILE:
        message = f"{path} is not a nextk index"
    else:
        return
    raise ClientError(message)


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes, `None` if there is no file; raise for a path that no file can have."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _connection(name: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(name, check_same_thread=False, isolation_level=None, uri=uri)


def _in_memory(new_schema: Callable[[], Schema] | None) -> IndexFile:
    if new_schema is None:
        message = "an index in memory is always a new one"
        raise ClientError(message)
    connection = _connection(":memory:")
    _create(connection, new_schema())
    return IndexFile(connection, None)


def _make(path: Path, new_schema: Callable[[], Schema] | None) -> None:
    """Make the file of a new index under another name and give it its own when it is whole.

    If another process makes one at the same moment, its file is left as it is.
    """
    if new_schema is None:
        message = f"there is no index at {path}"
        raise ClientError(message)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        message = f"there is no index at {path}, and none can be made: the folder cannot be written to"
        raise ClientError(message)
    schema = new_schema()
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with contextlib.closing(_connection(new)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
            _create(connection, schema)
        with contextlib.suppress(FileExistsError):
            publish(new, path)
    finally:
        new.unlink(missing_ok=True)


def _open_for_writing(path: Path) -> IndexFile:
    file = _locked(path)
    try:
        _prepare(file.connection)
        file.rest()
        if file.format < FORMAT:
            _convert(file)
    except BaseException:
        file.close()
        raise
    return file


def _locked(path: Path) -> IndexFile:
    """Lock a file, without replaying a journal that does not belong to it."""
    with locks:
        if is_held_here(path):  # to open and close the file here would drop the lock
            message = f"{path} is held by this process already, perhaps under another name"
            raise IndexLocked(message)
        descriptor = os.open(path, os.O_RDWR | _FLAGS)
        try:
            if not hold(descriptor):
                raise held(path)
            _set_stale_journal_aside(path, descriptor)
            return _lock_and_check(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise


def _lock_and_check(path: Path, descriptor: int) -> IndexFile:
    connection = _connection(path)
    try:
        _lock(connection)
        if not _owns_journal(read_at(descriptor, HEADER_SIZE, 0), path_beside(path)):
            empty(path_beside(path))
            message = f"{path} was replaced while it was being opened: open it again"
            raise ClientError(message)
        _require_index(connection, path)
        return IndexFile(connection, path, descriptor)
    except BaseException:
        connection.close()
        raise


def _set_stale_journal_aside(path: Path, descriptor: int) -> None:
    """Rename a journal that does not belong to the file beside it, before SQLite finds it.

    Where there is no lock but SQLite's, another process may have the file open. Its file and its journal belong
    together at any time, and if it has made the journal just now, the journal gets its name back.
    """
    journal, header = path_beside(path), read_at(descriptor, HEADER_SIZE, 0)
    if _owns_journal(header, journal) or header != read_at(descriptor, HEADER_SIZE, 0):
        return
    aside = set_aside(journal)
    if _owns_journal(read_at(descriptor, HEADER_SIZE, 0), aside):
        aside.rename(journal)
        return
    log.warning(
        "%s was put in the place of another file, whose journal had been left beside it: the journal was renamed to %s "
        "and is not used",
        path,
        aside,
    )


def _owns_journal(header: bytes, journal: Path) -> bool:
    """Return whether the journal beside a file may be replayed. The journals of other applications are their own."""
    return int.from_bytes(header[_APPLICATION], "big") != APPLICATION_ID or belongs(header, journal)


def _lock(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the journal is brought to rest in our own way
    connection.execute("BEGIN EXCLUSIVE")  # reads the header: fails here if this is no database, or is held
    connection.execute("COMMIT")


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a write that has returned survives a power cut, too
    connection.execute("PRAGMA fullfsync = ON")  # on macOS, where a plain fsync leaves it in the drive's cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA cache_size = {-_PAGE_CACHE}")


def _open_for_reading(path: Path) -> IndexFile:
    """Open a file that cannot be written to. It is not locked, so several processes may read it at once."""
    if is_held_here(path):
        message = f"{path} is open for writing in this process: close it there first"
        raise IndexLocked(message)
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        connection = _connection(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        _require_index(connection, path)
        file = IndexFile(connection, path, descriptor, read_only=True)
        _require_readable(file, path)
    except BaseException:
        connection.close()
        os.close(descriptor)
        raise
    log.info("%s cannot be written to, and is open for reading only", path)
    return file


def _require_readable(file: IndexFile, path: Path) -> None:
    """Raise `ClientError` if a file cannot be read as it is, without a write to it."""
    if has_writes(path_beside(path)):
        _refuse_journal(file, path)
    if file.format < FORMAT:
        message = (
            f"{path} has format {file.format} and has to be converted, but cannot be written to: open it once where it "
            "can be"
        )
        raise ClientError(message)


def _refuse_journal(file: IndexFile, path: Path) -> None:
    if belongs(file.header(), path_beside(path)):
        message = (
            f"the last writes to {path} are still in {path_beside(path)}, and the file cannot be written to: either "
            "somebody else has it open, then try again in a second, or a process that wrote to it was killed, then "
            "open it once where it can be written to"
        )
        raise ClientError(message)
    log.warning("%s is the journal of another file than %s: it is not used", path_beside(path), path)


def _require_index(connection: sqlite3.Connection, path: Path) -> None:
    application = scalar(connection.execute("PRAGMA application_id"))
    version = scalar(connection.execute("PRAGMA user_version"))
    tables = scalar(connection.execute("SELECT count(*) FROM sqlite_schema"))
    if application != APPLICATION_ID and (tables or application or version):
        message = f"{path} is a database, but not a nextk index"
        raise ClientError(message)
    if not tables:
        message = f"{path} is empty: there is no index in it"
        raise ClientError(message)
    _require_known_format(format_of(version), path)


def _convert(file: IndexFile) -> None:
    older = file.format
    file.convert(FORMAT, lambda connection: convert(connection, older))
    file.rest()
    log.info("converted %s from format %d to format %d", file.path, older, FORMAT)


def _require_known_format(version: int, path: Path) -> None:
    if version > FORMAT:
        message = f"{path} has format {version}; this nextk reads up to {FORMAT}. Upgrade nextk"
    elif version < 1:
        message = f"{path} has format {version}, which no nextk has written; restore it from a backup or build it anew"
    else:
        return
    raise ClientError(message)


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    connection.execute("BEGIN IMMEDIATE")
    create_tables(connection)
    properties = {"id": secrets.token_hex(8), "schema": orjson.dumps(schema.to_dict()).decode()}
    connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
    seal(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def scalar(cursor: sqlite3.Cursor) -> int:
    """Return the single number that a statement yields. The statement is run to its end."""
    (only,) = cursor.fetchall()[0]
    return int(only)
