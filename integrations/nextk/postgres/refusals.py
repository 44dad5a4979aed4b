"""The failures of PostgreSQL in words, so that no error of psycopg leaves nextk.

While an index is being opened a failure becomes a `ClientError` (`explain`), afterwards a `RefusedError` of the call
that met it (`refusing_failures`). The SQLSTATE of the error decides, because its text depends on the language and the
version of the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from nextk.engine.refusing import refuse_failures
from nextk.errors import ClientError, RefusedError

__all__ = ["explain", "is_lost", "refusal", "refusing_failures"]

_EngineClass = TypeVar("_EngineClass", bound=type)


@dataclass(frozen=True, slots=True)
class _FailureKind:
    """A kind of failure.

    Attributes:
        status: The HTTP status of a call that is refused because of it.
        reason: That which failed.
        advice: The thing that the user can do.
    """

    status: int
    reason: str
    advice: str


_LOST = _FailureKind(503, "the connection to PostgreSQL was lost", "send the call again")
_BUSY = _FailureKind(503, "no connection to PostgreSQL was free in time", "send the call again")
_TIMED_OUT = _FailureKind(
    503,
    "PostgreSQL took longer than the statement timeout",
    "use a simpler filter, or allow more time by statement_timeout=",
)
_FULL = _FailureKind(507, "the disk of PostgreSQL is full", "free some space, then send the call again")
_ONLY_READ = _FailureKind(403, "the database can only be read", "connect to the primary server")
_FORBIDDEN = _FailureKind(403, "the role may not do this", "grant it the privileges, or connect by another role")
_TOO_LARGE = _FailureKind(422, "a number is too large", "scale the vectors")
_CONFLICT = _FailureKind(503, "another transaction was in the way", "send the call again")
_MISSING = _FailureKind(500, "a table of the index is missing", "restore the database schema from a backup")
_CLOSED = _FailureKind(503, "the index was closed in the meantime", "open the index again")
_OTHER = _FailureKind(500, "PostgreSQL failed", "look at the log of the server")

_BY_STATE: Mapping[str, _FailureKind] = {
    "57014": _TIMED_OUT,
    "25006": _ONLY_READ,
    "42501": _FORBIDDEN,
    "22003": _TOO_LARGE,
    "42P01": _MISSING,
    "3F000": _MISSING,
    "53300": _BUSY,
    "53100": _FULL,
}
"""The failures by their SQLSTATE; a state that is not here is looked up by its first two characters, its class."""

_BY_CLASS: Mapping[str, _FailureKind] = {"08": _LOST, "57": _LOST, "40": _CONFLICT, "55": _CONFLICT, "25": _LOST}


def refusing_failures(engine: _EngineClass) -> _EngineClass:
    """Make every public method of an engine and of its bases raise `RefusedError` for the failures of PostgreSQL.

    Args:
        engine: The class, whose instances have a `name`. Properties stay as they are.
    """
    return refuse_failures(engine, (psycopg.Error,), refusal)


def refusal(error: psycopg.Error, name: str) -> RefusedError:
    """Return the error of a call that a failure of PostgreSQL has prevented.

    Args:
        error: The failure.
        name: The name by which error messages call the index.
    """
    failure = _failure_of(error)
    message = f"The index {name} cannot do this: {failure.reason}{_detail(error)}. What to do: {failure.advice}"
    return RefusedError(message, failure.status)


def explain(error: psycopg.Error, database_schema: str) -> ClientError:
    """Return the error that tells a user why an index cannot be opened.

    Args:
        error: The failure.
        database_schema: The database schema of the index.
    """
    if _failure_of(error) is _FORBIDDEN:
        message = (
            f"the role may not make or use the database schema {database_schema}{_detail(error)}: let a role that may "
            "open the index once, which makes the tables, and grant this one the use of them"
        )
    elif error.sqlstate is None:
        message = f"cannot connect to PostgreSQL{_detail(error)}"
    else:
        message = f"cannot open an index in the database schema {database_schema}{_detail(error)}"
    return ClientError(message)


def is_lost(error: psycopg.Error) -> bool:
    """Return whether an error says that the connection is gone, and with it whatever it held open."""
    return _failure_of(error) is _LOST


def _failure_of(error: psycopg.Error) -> _FailureKind:
    if isinstance(error, PoolClosed):
        return _CLOSED
    if isinstance(error, PoolTimeout):
        return _BUSY
    state = error.sqlstate
    if state is not None:
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], _OTHER)
    return _LOST if isinstance(error, psycopg.OperationalError) else _OTHER


def _detail(error: psycopg.Error) -> str:
    """Return what the error says of itself, in parentheses, in one line and without any value that is stored."""
    text = error.diag.message_primary or str(error)
    return f" ({' '.join(text.split())})"
