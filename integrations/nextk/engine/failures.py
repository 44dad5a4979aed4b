"""The failures of the file of an index in words, so that no error of SQLite or of the operating system leaves nextk.

While an index is being opened a failure becomes a `ClientError` (`explain`), afterwards a `RefusedError` of the call
that met it (`refusing_failures`). The code of the error decides, because its text differs from version to version.
"""

import errno
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nextk.engine.refusing import refuse_failures
from nextk.errors import ClientError, IndexLocked, RefusedError

__all__ = ["FAILURES", "Failure", "explain", "held", "is_damage", "refusal", "refusing_failures"]

Failure = sqlite3.Error | OSError | UnicodeDecodeError
"""An error of SQLite or of the operating system; the last one where SQLite quotes a damaged text in its own error."""

FAILURES = (sqlite3.Error, OSError, UnicodeDecodeError)
"""The classes of `Failure`."""

_EngineClass = TypeVar("_EngineClass", bound=type)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A kind of failure.

    Attributes:
        status: The HTTP status of a call that is refused because of it.
        reason: What is wrong with the file.
        advice: What the call has changed, and what the user can do.
    """

    status: int
    reason: str
    advice: str


_NO_CHANGE = "This call changed nothing"
_FULL = _Failure(
    507,
    "the disk is full",
    f"{_NO_CHANGE}, and reads and deletes still work: free some space, then send the call again",
)
_READ_ONLY = _Failure(
    403,
    "its file can only be read",
    f"{_NO_CHANGE}: make the file and its folder writable, then open the index again",
)
_MOVED = _Failure(
    500,
    "its file was moved, replaced or removed while it was open",
    f"{_NO_CHANGE}: close the index, and open it again where its file is now",
)
_DISK = _Failure(
    500,
    "the disk failed",
    f"{_NO_CHANGE}: check the disk, its quota and the limit on the size of files, then send the call again",
)
_DAMAGED = _Failure(
    500,
    "its file is damaged",
    f"{_NO_CHANGE}: close the index and restore its file from a backup, or run `nextk check PATH --rescue NEW`, which "
    "copies all whole records to a new file",
)
_NOT_OPENED = _Failure(
    500,
    "a file of the index cannot be opened",
    f"{_NO_CHANGE}: check that the folder of the index is there and may be written",
)
_HELD = _Failure(503, "its file is held by another process", f"{_NO_CHANGE}: send the call again")
_INTERRUPTED = _Failure(503, "the call was interrupted", f"{_NO_CHANGE}: send it again")
_TOO_LARGE = _Failure(413, "a value is larger than a file can store", f"{_NO_CHANGE}: divide the record")
_CLOSED = _Failure(503, "the index was closed in the meantime", f"{_NO_CHANGE}: open the index again")
_OTHER = _Failure(500, "its storage failed", f"{_NO_CHANGE}: close the index, and open it again")

_BY_CODE: Mapping[int, _Failure] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_READONLY_DBMOVED: _MOVED,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: _DAMAGED,  # nextk breaks none of its own constraints
    sqlite3.SQLITE_CANTOPEN: _NOT_OPENED,
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_INTERRUPT: _INTERRUPTED,
    sqlite3.SQLITE_TOOBIG: _TOO_LARGE,
}
"""The failures by the code of SQLite. A code that is not here is looked up by its lowest byte, its primary code."""

_BY_ERRNO: Mapping[int | None, _Failure] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
}
"""The failures by the number of the operating system; every other number is a failure of the disk."""


def refusing_failures(engine: _EngineClass) -> _EngineClass:
    """Make every public method of an engine and of its bases raise `RefusedError` for the failures of its storage.

    Args:
        engine: The class, whose instances have a `name`. Properties stay as they are.
    """
    return refuse_failures(engine, FAILURES, refusal)


def refusal(error: Failure, name: str) -> RefusedError:
    """Return the error of a call that a failure of the storage has prevented.

    Args:
        error: The failure.
        name: The name by which error messages call the index.
    """
    failure = _failure_of(error)
    message = f"The index {name} cannot do this: {failure.reason}{_detail(error)}. {failure.advice}"
    return RefusedError(message, failure.status)


def explain(error: Failure, path: Path | None) -> ClientError:
    """Return the error that tells a user why an index cannot be opened.

    Args:
        error: The failure.
        path: The file of the index; `None` for an index in memory.
    """
    failure = _failure_of(error)
    if failure is _HELD:
        return held(path)
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        message = f"{path} is not a nextk index: {error}"
    elif failure is _DAMAGED:
        message = (
            f"the index at {path} is damaged{_detail(error)}: restore it from a backup, build it anew, or copy its "
            f"whole records to a new file with: nextk check {path} --rescue NEW"
        )
    else:
        message = f"cannot open an index at {path}: {failure.reason}{_detail(error)}"
    return ClientError(message)


def held(path: Path | None) -> IndexLocked:
    """Return the error that tells a user that another process has a file open."""
    message = f"{path} is held by another process. Share an index between processes with: nextk serve --data DIR"
    return IndexLocked(message)


def is_damage(error: Failure) -> bool:
    """Return whether a failure says that what is read is damaged, and not, say, that the disk failed."""
    # SQLite has no code of its own for metadata that are no JSON.
    return _failure_of(error) is _DAMAGED or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def _failure_of(error: Failure) -> _Failure:
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno, _DISK)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _BY_CODE.get(code) or _BY_CODE.get(code & 0xFF, _OTHER)
    if type(error) is sqlite3.DatabaseError or _is_undecodable(error):  # the former is raised by nextk.engine.storage
        return _DAMAGED
    return _CLOSED if "closed" in str(error) else _OTHER


def _is_undecodable(error: Failure) -> bool:
    """Return whether Python's module has found a text that is not UTF-8. Such an error has no code."""
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode")
    )


def _detail(error: Failure) -> str:
    """Return what the error says of itself, in parentheses, without any value that is stored."""
    if isinstance(error, OSError):
        detail = error.strerror or type(error).__name__
    elif _is_undecodable(error):  # the error quotes the text
        detail = "a text is not UTF-8"
    else:
        name = getattr(error, "sqlite_errorname", None)
        detail = f"{error}, {name}" if name else str(error)
    return f" ({detail})"
