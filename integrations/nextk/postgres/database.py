"""The connections of one engine to PostgreSQL: a few to read, a few to write, and one for each search that goes on."""

import re
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg_pool import ConnectionPool

from nextk.arguments import require_kind, written
from nextk.errors import ClientError
from nextk.postgres.pool_use import PoolUse

__all__ = [
    "Database",
    "DatabaseAddress",
    "DatabaseConnection",
    "require_alive",
    "require_dsn",
    "require_pgvector",
    "require_schema",
]

DatabaseConnection = psycopg.Connection[tuple[Any, ...]]

_WORKERS = 8  # connections for short statements; more calls wait
_WRITERS = 8  # connections that may wait for the locks of others, so no reader needs one
_UNUSED = 60.0  # seconds after which a connection is closed that nobody uses
_NAME = re.compile(r"[^\0%]+", re.DOTALL)  # psycopg would take % for a placeholder
_URL = re.compile(r"postgres(?:ql)?://")
_CLEAR_URL = re.compile(
    r"[^:]+://(?:[^@/]*@)?[^@/?]*(?:/[^@?]*)?(?:\?.*)?", re.DOTALL
)  # libpq ends a password at @ and /
_LONGEST_NAME = 63  # bytes; PostgreSQL would cut a longer one
_PATIENCE = 10.0  # seconds that a call waits for a free connection


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """The place of an index in a database.

    Attributes:
        dsn: The connection string, which may hold a password.
        schema: The database schema that holds the tables of nextk.
        name: The name of the index in this schema.
    """

    dsn: str
    schema: str
    name: str

    def __str__(self) -> str:
        """Return the place without the password."""
        found = conninfo_to_dict(self.dsn)
        where = f"{found.get('dbname', '')}@{found.get('host', '')}"
        return f"{self.name} in the schema {self.schema} of {where}"

    __repr__ = __str__


class Database:
    """Gives out the connections of one engine.

    Args:
        address: The place of the index.
        max_cursors: The number of searches that may keep a connection at the same time.
        statement_timeout: The seconds after which PostgreSQL gives a statement up.
    """

    def __init__(self, address: DatabaseAddress, *, max_cursors: int, statement_timeout: float) -> None:
        self.address = address
        self._timeout = f"{round(statement_timeout * 1000)}ms"
        given = conninfo_to_dict(address.dsn)
        settings = {"autocommit": True, "application_name": given.get("application_name", "nextk")}
        self._workers = self._pool("workers", _WORKERS, settings)
        self._writers = self._pool("writers", _WRITERS, settings)
        self._cursors = self._pool("cursors", max_cursors, settings)

    def connect(self) -> DatabaseConnection:
        """Return a connection of its own, which the caller closes; the pools are not open yet.

        Raises:
            psycopg.Error: The server cannot be reached.
        """
        connection = psycopg.connect(self.address.dsn, autocommit=True, connect_timeout=round(_PATIENCE))
        try:
            connection.execute("SELECT set_config('statement_timeout', %s, false)", (self._timeout,))
        except BaseException:
            connection.close()
            raise
        return connection

    def open(self) -> None:
        """Let connections be made from now on."""
        self._workers.open()
        self._writers.open()

    def close(self) -> None:
        """Close all connections. A call that is under way finishes first, or fails."""
        self._cursors.close()
        self._writers.close()
        self._workers.close()

    @contextmanager
    def worker(self) -> Iterator[DatabaseConnection]:
        """Return a context manager for a connection in which each statement is a transaction of its own."""
        with self._workers.connection() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[DatabaseConnection]:
        """Return a context manager for one transaction that writes: all of it is durable at the end, or none."""
        with self._writers.connection() as connection, connection.transaction():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[DatabaseConnection]:
        """Return a context manager for one transaction that reads everything as it is at one moment."""
        with self._workers.connection() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield connection
            finally:
                if not connection.closed:
                    connection.rollback()

    def take_cursor_connection(self) -> DatabaseConnection:
        """Return a connection for a search that goes on; whoever takes it gives it back by `return_cursor_connection`.

        Raises:
            psycopg_pool.PoolTimeout: As many searches as are allowed hold a connection.
        """
        self._cursors.open()  # only now, because many an engine never needs it; nothing happens if it is open
        return self._cursors.getconn()

    def return_cursor_connection(self, connection: DatabaseConnection) -> None:
        """Let another search have a connection. A transaction that is still open ends."""
        self._cursors.putconn(connection)

    def pools(self) -> dict[str, PoolUse]:
        """Return the use of each pool by its name, as it is now."""
        pools = {"workers": self._workers, "writers": self._writers, "cursors": self._cursors}
        return {name: _use(pool) for name, pool in pools.items()}

    def _pool(self, name: str, size: int, settings: dict[str, Any]) -> "ConnectionPool[DatabaseConnection]":
        return ConnectionPool(
            self.address.dsn,
            name=f"nextk {name}",
            min_size=0,
            max_size=size,
            num_workers=1,  # threads that connect
            max_idle=_UNUSED,
            timeout=_PATIENCE,
            kwargs=settings,
            configure=self._configure,
            check=require_alive,
            open=False,
        )

    def _configure(self, connection: DatabaseConnection) -> None:
        register_vector(connection)
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (self._timeout,))


def _use(pool: "ConnectionPool[DatabaseConnection]") -> PoolUse:
    figures = pool.get_stats()
    idle = figures["pool_available"]
    return PoolUse(figures["pool_size"] - idle, idle, figures["requests_waiting"], figures["pool_max"])


def require_dsn(dsn: str) -> None:
    """Raise `ClientError` unless a text is a connection string that says clearly where its password ends.

    Otherwise a part of the password would be taken for a host, a port or a database, and errors would show it. The
    message has nothing of the text.

    Args:
        dsn: The text.
    """
    try:
        found = conninfo_to_dict(require_kind(dsn, str, "dsn"))
    except psycopg.Error:
        message = "dsn= is no connection string of PostgreSQL, such as postgresql://user@host/database"
        raise ClientError(message) from None
    hosts = str(found.get("host", "")).split(",")
    ports = str(found.get("port", "")).split(",")
    split_url = _URL.match(dsn) and not _CLEAR_URL.fullmatch(dsn)
    if split_url or any(map(_is_doubtful, hosts)) or any(port and not port.strip().isdecimal() for port in ports):
        message = (
            "dsn= has a host, a port or a database that may be a part of the password: percent-encode the password in "
            "a URL (@ is %40, / is %2F, : is %3A), or put it in quotes after password="
        )
        raise ClientError(message)


def _is_doubtful(host: str) -> bool:
    """Return whether a host has an @, which only the name of a Unix socket may have."""
    return "@" in host[1:] and not host.startswith(("/", "@"))


def require_schema(name: str) -> None:
    """Raise `ClientError` unless a text can be the name of a database schema.

    Args:
        name: The text.
    """
    if not require_kind(name, str, "schema") or not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        message = (
            f"schema={written(name)} must be a text of 1 to {_LONGEST_NAME} bytes, without the NUL character and %"
        )
        raise ClientError(message)


def require_alive(connection: DatabaseConnection) -> None:
    """Raise `psycopg.OperationalError` if the server has ended a connection that nobody uses.

    The server is not asked, which would cost every call a round trip: it says so when it ends a connection, and what it
    has said can be read.

    Args:
        connection: The connection.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        if not selector.select(0):
            return
    connection.pgconn.consume_input()
    if connection.pgconn.status != ConnStatus.OK or connection.pgconn.transaction_status != TransactionStatus.IDLE:
        message = "the server has ended the connection"
        raise psycopg.OperationalError(message)
    ConnectionPool.check_connection(connection)  # it has said something else


def require_pgvector(connection: DatabaseConnection, least: tuple[int, int] = (0, 8)) -> None:
    """Raise `ClientError` unless the database has pgvector in a version with iterative index scans.

    Args:
        connection: A connection to the database.
        least: The first version that will do.
    """
    found = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    if found is None:
        message = (
            "the database has no pgvector: let a role that may do so run CREATE EXTENSION vector, once in this database"
        )
        raise ClientError(message)
    version = tuple(int(part) for part in str(found[0]).split(".")[:2])
    if version < least:
        needed = ".".join(map(str, least))
        message = (
            f"the database has pgvector {found[0]}, and {needed} or later is needed: install it on the server, then "
            "run ALTER EXTENSION vector UPDATE"
        )
        raise ClientError(message)
