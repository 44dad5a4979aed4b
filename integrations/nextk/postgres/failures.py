"""Failures of PostgreSQL as errors of nextk, with words that say what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from nextk.errors import (
    AuthenticationError,
    NextKError,
    PageUncertain,
    QueryNotFound,
    RefusedError,
    TooManyQueries,
    TransportError,
)

__all__ = ["explained", "explaining_postgres"]

_ADVICE: dict[str, tuple[int, str]] = {
    "42P01": (404, "create the table, or name its schema"),
    "42703": (404, "name the columns as the table has them"),
    "3F000": (404, "create the schema, or name another one"),
    "42704": (
        400,
        "if it is the type vector: run CREATE EXTENSION vector, and put its schema on the search_path of the role",
    ),
    "42883": (400, "the column of the embeddings has to be of the type vector or halfvec, and the key no vector"),
    "42602": (400, "pgvector 0.8 or newer is needed: install it, reconnect, and run ALTER EXTENSION vector UPDATE"),
    "22023": (400, "pgvector 0.8 or newer is needed for iterative scans"),
    "57014": (408, "raise statement_timeout for this role, or make the filter cheaper by an index"),
    "55P03": (409, "another session holds a lock on the table: try again when it is done"),
}
"""The status and the advice for each SQLSTATE after which a repeat would fail again."""

_IDLE = {
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
"""The limits of time by which PostgreSQL ends a session, with the names of their settings."""


_REFUSED_LOGIN = re.compile(
    r"FATAL: +(role .* (does not exist|is not permitted to log in)|.* authentication failed|no pg_hba\.conf entry)"
    r"|no password supplied"
)
_NO_DATABASE = re.compile(r"FATAL: +database .* does not exist")
_LOST = ("08", "40", "57")
"""The classes of SQLSTATE of a connection that is lost, a transaction that is rolled back, and a server that stops."""


@contextmanager
def explaining_postgres(searched: str, *, open_scan: bool = True) -> Iterator[None]:
    """Raise failures of psycopg within the block as errors of nextk; other exceptions go through.

    Args:
        searched: A name for what is searched, for messages.
        open_scan: Whether a scan is open or being opened, which a lost connection ends.

    Raises:
        RefusedError: PostgreSQL has refused a statement; the message says why, and what to do.
        TransportError: No answer came; `PageUncertain` if a scan was open.
    """
    try:
        yield
    except psycopg.Error as error:
        raise explained(error, searched, open_scan=open_scan) from error


def explained(error: psycopg.Error, searched: str, *, open_scan: bool = True) -> NextKError:
    """Return the error of nextk for a failure of psycopg.

    Args:
        error: The failure.
        searched: A name for what is searched.
        open_scan: Whether a scan is open or being opened.
    """
    state, words = error.sqlstate, _first_line(error)
    if state in _IDLE:
        message = (
            f"the search of {searched} has expired: it waited for longer than {_IDLE[state]} allows, and PostgreSQL "
            "has closed its connection. Start the search again, or raise that setting for this role"
        )
        return QueryNotFound(message, 404)
    if _is_loss(error):
        if open_scan:
            return PageUncertain(f"the connection to PostgreSQL is lost, and with it the search of {searched}: {words}")
        return _not_connected(words)
    if state in ("53300", "53200"):
        message = f"PostgreSQL has no room for a search of {searched} ({words}): stop others, or raise max_connections"
        return TooManyQueries(message, 429)
    if state == "42501":
        message = f"PostgreSQL does not let this role search {searched}: {words}. Run GRANT SELECT on it for the role"
        return AuthenticationError(message, 403)
    if state is not None and state.startswith("28"):
        return AuthenticationError(f"PostgreSQL refused to log this role in: {words}", 401)
    if state == "22000" and "dimensions" in words:
        message = f"Invalid vector dimension: {words}. Embed queries by the model that has embedded {searched}"
        return RefusedError(message, 422)
    status, advice = _ADVICE.get(state or "", (400, ""))
    ending = f". What to do: {advice}" if advice else ""
    return RefusedError(f"PostgreSQL refused a search of {searched}: {words}{ending}", status)


def _not_connected(words: str) -> NextKError:
    """Return the error for a connection that could not be made, for which psycopg has a text alone."""
    if _REFUSED_LOGIN.search(words):
        return AuthenticationError(f"PostgreSQL refused to log this role in: {words}", 401)
    if _NO_DATABASE.search(words):
        return RefusedError(f"PostgreSQL has no such database: {words}", 404)
    return TransportError(f"PostgreSQL cannot be reached: {words}")


def _is_loss(error: psycopg.Error) -> bool:
    """Return whether the session of the server is gone, or has lost its snapshot, so that a new search is needed."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in _LOST and state != "57014"


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
