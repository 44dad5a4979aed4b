"""The connections of a source: a pool of its own, or the user's. Private."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nextk.arguments import shown
from nextk.errors import ClientError, NextKError, RefusedError, TooManyQueries, TransportError
from nextk.extras import require

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

_CONNECT_TIMEOUT = 10
"""The seconds for a connection to the server, unless the connection string says otherwise."""


_of_parents: list[object] = []
"""Objects that a forked process has inherited. The sockets in them belong to its parents, too, so they are kept, and
this process never closes them."""


class _Owned:
    """The connections that one process has: to use those of its parent would mix up the replies to both.

    Attributes:
        pool: The pool, once it was made here.
        lock: The lock for making it.
        taken: The connections that are to be given back.
        orphans: Those of searches that were dropped; a deque needs no lock.
    """

    def __init__(self) -> None:
        self.pool: ConnectionPool[Any] | None = None
        self.lock = threading.Lock()
        self.taken: set[Connection[Any]] = set()
        self.orphans: deque[Connection[Any]] = deque()


class Connections:
    """Connections to one database, of which each open search has one.

    A forked process makes connections of its own, and lets those of its parent alone.

    Args:
        given: A connection string, of which a pool is made when it is first needed; or a pool, which stays the user's.
        max_open: The number of connections of a pool that is made here.
        max_wait: The seconds to wait for a connection.

    Raises:
        ClientError: It is neither.
    """

    def __init__(self, given: Any, max_open: int, max_wait: float) -> None:
        if not isinstance(given, str) and not _is_pool(given):
            message = (
                f"connection={shown(given)} is neither a connection string, as 'postgresql://user@host/database', nor "
                "a psycopg_pool.ConnectionPool"
            )
            raise ClientError(message)
        self._dsn = given if isinstance(given, str) else None
        self._given: ConnectionPool[Any] | None = None if isinstance(given, str) else given
        # The process in which the user's pool is open; it may be opened after a fork, to be used there.
        self._given_in = None if isinstance(given, str) or given.closed else os.getpid()
        self._max_open, self._max_wait = max_open, max_wait
        self._closed = False
        self._owned = {os.getpid(): _Owned()}

    def take(self) -> "Connection[Any]":
        """Return a connection that is to be given back, in no transaction.

        Raises:
            TooManyQueries: All connections are in use.
            TransportError: PostgreSQL cannot be reached.
            RefusedError: The pool is closed or of a parent of this process, or PostgreSQL refuses to log in.
        """
        from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

        owned, pool = self._own(), self._opened()
        self._give_orphans_back()
        try:
            connection: Connection[Any] = pool.getconn(self._max_wait)
        except PoolClosed as error:
            message = "the pool of this source is closed: make a new source, or open the pool"
            raise RefusedError(message) from error
        except (PoolTimeout, TooManyRequests) as error:
            raise self._why_none(pool) from error
        owned.taken.add(connection)
        if self._given is not None:
            self._given_in = os.getpid()
        return connection

    def give_back(self, connection: "Connection[Any]") -> None:
        """Give a connection back, whatever state it is in. One that a parent of this process has taken is let alone.

        Args:
            connection: The connection.
        """
        from psycopg.pq import TransactionStatus

        taken = self._own().taken
        if connection not in taken:
            return
        taken.discard(connection)
        if connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            _end_transaction(connection)
        self._opened().putconn(connection)

    def orphan(self, connection: "Connection[Any]") -> None:
        """Let the next `take` give a connection back. Never waits, so that a finaliser may call it.

        Args:
            connection: The connection.
        """
        self._own().orphans.append(connection)

    def _give_orphans_back(self) -> None:
        orphans = self._own().orphans
        while True:
            try:
                connection = orphans.popleft()
            except IndexError:  # no look before: another thread may take the last one meanwhile
                return
            self.give_back(connection)

    @contextmanager
    def one(self) -> "Iterator[Connection[Any]]":
        """Have a connection while the block runs."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def close(self) -> None:
        """Close the pool if it was made here; searches that are open end."""
        owned = self._own()
        with owned.lock:
            self._closed = True
        self._give_orphans_back()
        if owned.pool is not None:
            owned.pool.close()

    def _own(self) -> _Owned:
        """Return what this process has."""
        owned = self._owned.get(os.getpid())
        if owned is None:
            _of_parents.extend(self._owned.values())
            owned = self._owned.setdefault(os.getpid(), _Owned())  # one step: no lock of the parent may be waited for
        return owned

    def _opened(self) -> "ConnectionPool[Any]":
        if self._given is not None:
            if self._given_in not in (None, os.getpid()):
                message = (
                    "the pool of this source was opened before this process was forked: make a new source over a pool "
                    "that is opened here"
                )
                raise RefusedError(message)
            return self._given
        owned = self._own()
        with owned.lock:
            if owned.pool is None:
                assert self._dsn is not None
                if self._closed:
                    message = "this source is closed: make a new one"
                    raise RefusedError(message)
                owned.pool = _pool_of(self._dsn, self._max_open, self._max_wait)
            return owned.pool

    def _why_none(self, pool: "ConnectionPool[Any]") -> NextKError:
        """Return the error that says why the pool has given no connection in time."""
        import psycopg

        from nextk.postgres.failures import explained

        if len(pool._pool) == 0 and pool.get_stats().get("pool_size", 0) >= pool.max_size:  # noqa: SLF001
            message = (
                f"all {pool.max_size} connections of this source are in use, each by an open search: stop searches, or "
                "raise max_open="
            )
            return TooManyQueries(message, 429)
        try:
            conninfo = pool.conninfo if isinstance(pool.conninfo, str) else pool.conninfo()
            with psycopg.connect(conninfo, connect_timeout=_CONNECT_TIMEOUT):
                message = "PostgreSQL gave no connection in time: try again"
                return TransportError(message)
        except psycopg.Error as error:
            return explained(error, "the database", open_scan=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: where the database is, without connections.

        Raises:
            ClientError: The pool is the user's, which cannot be pickled.
        """
        if self._dsn is None:
            message = "a source over a pool of yours cannot be pickled: give it a connection string"
            raise ClientError(message)
        return {"given": self._dsn, "max_open": self._max_open, "max_wait": self._max_wait}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _is_pool(given: object) -> bool:
    pools = require("psycopg_pool", "postgres")
    return isinstance(given, pools.ConnectionPool)


def _pool_of(dsn: str, max_open: int, max_wait: float) -> "ConnectionPool[Any]":
    from psycopg_pool import ConnectionPool

    # Nothing is prepared: behind PgBouncer, the next statement may be carried out by another server process.
    settings = {"autocommit": True, "prepare_threshold": None, "fallback_application_name": "nextk"}
    pool: ConnectionPool[Any] = ConnectionPool(
        dsn,
        kwargs={"connect_timeout": _CONNECT_TIMEOUT, **settings},
        min_size=0,
        max_size=max_open,
        timeout=max_wait,
        open=False,
        check=ConnectionPool.check_connection,  # one that the server has closed meanwhile is not handed out
        name="nextk",
    )
    pool.open()
    return pool


def _end_transaction(connection: "Connection[Any]") -> None:
    import psycopg

    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()
