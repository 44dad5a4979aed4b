"""Back an index up: copy it, as it is at one moment, into a file of its own that is an index by itself.

The copy is made beside its target, under a name of its own, and takes the target's name when it is whole and on disk.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from nextk.arguments import real_path
from nextk.engine.copying import CopySource, copy_files
from nextk.engine.file import scalar
from nextk.engine.formats import APPLICATION_ID
from nextk.engine.journal import format_of, header_of, marked, path_beside
from nextk.engine.publish import FILES_BESIDE, partial_file, publish, sync
from nextk.engine.storage import Storage
from nextk.errors import ClientError

_PAGES = 1_000  # of an index in memory that are copied before the next look whether the copy is still wanted
_PAUSES_WITH_LOCK = (0.02, 0.1)  # in seconds
_PAUSES_WITHOUT_LOCK = (*[0.01] * 20, *[0.1] * 20, *[1.0] * 5)


@dataclass(frozen=True, slots=True)
class Backup:
    """The backup that was made.

    Attributes:
        path: The file.
        records: The number of records in it, those of all namespaces.
        size: Its size in bytes.
    """

    path: Path
    records: int
    size: int


def back_up_storage(
    storage: Storage,
    lock: contextlib.AbstractContextManager[object],
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    abandoned: Callable[[], bool],
) -> Backup:
    """Back up an index that this process has open, on disk or in memory.

    It may be searched and written meanwhile. The lock is held for short moments only; but for the whole copy if the
    index is in memory, or if an index on disk is written so often that no copy without the lock is whole.

    Args:
        storage: The storage of the index.
        lock: The lock that keeps others from the storage; it is reentrant.
        path: The file to make.
        overwrite: Whether an index that is in the file already is replaced.
        abandoned: Returns whether nobody wants the backup any more.

    Raises:
        ClientError: The backup cannot be made at this path, or the index cannot be read; nothing is left behind.
        CancelledError: `abandoned` has returned true; nothing is left behind.
    """
    source = storage.path

    def copy(partial: Path) -> None:
        if source is None:
            _copy_memory(storage, lock, partial, abandoned)
            return
        copy_files(CopySource(source, storage.descriptor, lock, _PAUSES_WITH_LOCK), partial, abandoned)

    return _make(source, path, copy, overwrite=overwrite, abandoned=abandoned)


def back_up_file(source: Path, path: str | os.PathLike[str], *, overwrite: bool) -> Backup:
    """Back up an index on disk from outside: one that nobody has open, or that another process has open and writes.

    The index is read only, so it is neither converted nor repaired. This process must not have it open itself: reading
    its file from outside would lose the lock.

    Args:
        source: The file of the index.
        path: The file to make.
        overwrite: Whether an index that is in the file already is replaced.

    Raises:
        ClientError: The source is no index; a journal beside it belongs to another file; it is written so often that no
            copy is whole; or the backup cannot be made at this path. Nothing is left behind.
    """
    source = real_path(source, "index")
    if source.is_dir():
        message = f"{source} is a folder; name the file of an index in it"
        raise ClientError(message)

    def copy(partial: Path) -> None:
        with source.open("rb", buffering=0) as opened:
            file = CopySource(source, opened.fileno, contextlib.nullcontext(), _PAUSES_WITHOUT_LOCK)
            copy_files(file, partial, _never)

    return _make(source, path, copy, overwrite=overwrite, abandoned=_never)


def back_up_by(receive: Callable[[Path], None], name: str, path: str | os.PathLike[str], *, overwrite: bool) -> Backup:
    """Make a backup of an index that comes from elsewhere.

    Args:
        receive: Writes the whole file of an index to a path. Whatever it raises ends this.
        name: The name by which error messages call the index.
        path: The file to make.
        overwrite: Whether an index that is in the file already is replaced.

    Raises:
        ClientError: What has come is not a whole index, or the backup cannot be made at this path. Nothing is left
            behind.
    """
    return _make(None, path, receive, overwrite=overwrite, abandoned=_never, name=name)


def _never() -> bool:
    """Return that nobody abandons a backup; an interrupt ends it by itself."""
    return False


def _make(
    source: Path | None,
    path: str | os.PathLike[str],
    copy: Callable[[Path], None],
    *,
    overwrite: bool,
    abandoned: Callable[[], bool],
    name: str = "the index in memory",
) -> Backup:
    """Make the backup from a copy, and leave nothing behind if it fails.

    An index that is no file of this machine has no source, but a name.
    """
    target = real_path(path, "path")
    name = name if source is None else str(source)
    try:
        with partial_file(target, "backup") as partial:
            _require_usable_target(source, target, overwrite=overwrite)
            copy(partial)
            records = _complete(partial, name, abandoned)
            size = partial.stat().st_size
            if source is not None:
                shutil.copymode(source, partial)
            if abandoned():
                raise CancelledError
            publish(partial, target, overwrite=overwrite)
    except FileExistsError as error:
        raise ClientError(_exists(target)) from error
    except (OSError, sqlite3.Error) as error:
        if abandoned():
            raise CancelledError from error
        raise _in_words(error, name, target) from error
    return Backup(target, records, size)


def _require_usable_target(source: Path | None, target: Path, *, overwrite: bool) -> None:
    """Refuse a path at which no backup can be made, before anything is copied.

    Raises:
        ClientError: The path is a folder, or in a folder that does not exist; it is the index itself, or a file that
            belongs to it; or there is something that must not be overwritten.
        OSError: The path cannot be looked at.
    """
    if target.is_dir():
        message = f"{target} is a folder; name a file in it, such as {target / 'backup.nextk'}"
    elif not target.parent.is_dir():
        message = f"the folder {target.parent} does not exist; make it first"
    elif target.exists() and not target.is_file():
        message = f"{target} is not a file, so it is not overwritten"
    elif source is not None and _is_of(source, target):
        message = f"{target} is the index itself, or a file that belongs to it; name another file for the backup"
    elif not target.exists() or overwrite:
        message = _reason_to_keep(target)
    else:
        message = _exists(target)
    if message:
        raise ClientError(message)


def _is_of(source: Path, target: Path) -> bool:
    """Return whether a target is the main file of an index by any name, or one that SQLite keeps beside it."""
    beside = [source.with_name(source.name + suffix) for suffix in FILES_BESIDE]
    return target in beside or (target.exists() and target.samefile(source))


def _exists(target: Path) -> str:
    return (
        f"{target} exists already; name another file, or say that it may be overwritten (overwrite=True, --overwrite)"
    )


def _reason_to_keep(target: Path) -> str:
    """Return why a file, or what a journal beside it holds, must not be overwritten; `""` if it may be.

    The file is only read, and only by SQLite, because it may be an index that this process has open.
    """
    if header_of(path_beside(target)):
        return (
            f"the journal {path_beside(target)} holds writes that are not in {target} yet, because an index is open "
            "there or was left by a process that was killed; name another file"
        )
    if not target.exists() or not target.stat().st_size:
        return ""
    if _is_held(target):
        return f"{target} is an index that is open; name another file, or close it first"
    try:
        application = _scalar_of(target, "PRAGMA application_id", "immutable=1")
    except sqlite3.DatabaseError:
        application = 0
    return "" if application == APPLICATION_ID else f"{target} is not a nextk index, so it is not overwritten"


def _is_held(path: Path) -> bool:
    """Return whether a connection in any process holds the lock of a database."""
    try:
        _scalar_of(path, "PRAGMA schema_version", "mode=ro")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY  # any other error comes after the lock
    return False


def _scalar_of(path: Path, statement: str, parameters: str) -> int:
    """Ask a database for a number without changing anything, not even the files beside it."""
    with closing(sqlite3.connect(f"{path.as_uri()}?{parameters}", uri=True, timeout=0)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # or SQLite would make a file beside it
        return scalar(connection.execute(statement))


def _copy_memory(
    storage: Storage, lock: contextlib.AbstractContextManager[object], partial: Path, abandoned: Callable[[], bool]
) -> None:
    """Copy an index in memory into a file, with the lock."""

    def go_on(*_: int) -> None:
        if abandoned():
            raise CancelledError

    with closing(sqlite3.connect(partial)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # the file is synced when it is whole
        with lock:
            storage.copy_to(connection, _PAGES, go_on)


def _complete(partial: Path, name: str, abandoned: Callable[[], bool]) -> int:
    """Fold the copied journal into the copied main file, check the result, and write it to the disk.

    Args:
        partial: The copy of the main file. The copy of the journal is beside it, if there is one.
        name: The name of the index in error messages.
        abandoned: Returns whether nobody wants the copy any more.

    Returns:
        The number of records in the copy.

    Raises:
        ClientError: It is not an index, or it is damaged.
    """
    with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
        connection.set_progress_handler(abandoned, 100_000)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # without a third file beside the two
        connection.execute("PRAGMA synchronous = OFF")
        if scalar(connection.execute("PRAGMA application_id")) != APPLICATION_ID:
            message = f"{name} is a database, but not a nextk index"
            raise ClientError(message)
        _renew_mark(connection)
        _fold(connection)
        [(complaint,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
        if complaint != "ok":
            raise sqlite3.DatabaseError(complaint.splitlines()[-1])
        records = scalar(connection.execute("SELECT count(*) FROM records"))
    with partial.open("r+b") as written:
        sync(written.fileno())
    return records


def _renew_mark(connection: sqlite3.Connection) -> None:
    """Give a copy another mark than the index has, so that a journal of the index is not taken for one of the copy.

    A copy of a file without a mark gets none, so that whatever wrote such a file can also read its copy.
    """
    version = scalar(connection.execute("PRAGMA user_version"))
    if version != format_of(version):
        connection.execute(f"PRAGMA user_version = {marked(format_of(version), unlike=version)}")


def _fold(connection: sqlite3.Connection) -> None:
    """Move what is in the journal into the main file; unlike at the close of a connection, a failure is an error."""
    [(unfinished, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if unfinished:
        message = "its journal could not be folded in"
        raise sqlite3.OperationalError(message)


def _in_words(error: OSError | sqlite3.Error, name: str, target: Path) -> ClientError:
    """Return the error that tells a user why there is no backup."""
    if isinstance(error, FileNotFoundError) and error.filename == name:
        message = f"there is no index at {name}"
    elif isinstance(error, sqlite3.ProgrammingError):  # as the connection says when it is closed
        message = f"{name} was closed before it was backed up"
    elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        message = f"{name} is damaged ({error}); restore it from an earlier backup or build it anew"
    elif isinstance(error, OSError) and error.filename in (name, f"{name}-wal"):
        message = f"cannot read {error.filename}: {error.strerror}"
    else:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        message = f"cannot back up {name} to {target}: {reason}"
    return ClientError(message)
