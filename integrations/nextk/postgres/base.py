"""The base of the engine on PostgreSQL: its connections, its schema, and the calls about an index as a whole."""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import orjson
from psycopg import sql

from nextk.engine import records
from nextk.engine.namespace_rules import missing_namespace, require_deletable, require_renamable, taken_namespace
from nextk.engine.open_queries import Clock, OpenQueries
from nextk.engine.protocol import Stats
from nextk.engine.schema import Schema
from nextk.engine.stored import StoredRecord
from nextk.engine.text import DenseModel, SparseModel
from nextk.errors import ClientError, RefusedError
from nextk.postgres import sparse
from nextk.postgres.database import Database, DatabaseConnection
from nextk.postgres.layout import HALF_DIMENSIONS, Tables, create_record_tables, has_tables
from nextk.postgres.metadata_text import refuse_nul
from nextk.postgres.namespaces import Namespace, NamespaceTable
from nextk.postgres.pool_use import PoolUse
from nextk.postgres.records import RecordTable
from nextk.postgres.stored_index import StoredIndex

__all__ = ["BasePostgresEngine"]

MAX_OPEN_QUERIES = 32
"""The number of resumable queries that may be open by default; each of those that go on may hold a connection."""

MAX_NAMESPACES = 10_000
MAX_IDLE = 3_600
"""The longest time that a resumable query may be idle by default, in seconds."""

EXACT_ROWS = 5_000
"""The number of records up to which a namespace is ranked from full lists, exactly and without holding a connection."""


class BasePostgresEngine:
    """The part of the engine that handles the index as a whole: its schema, its namespaces, its figures and its end.

    Args:
        database: The connections, which are open.
        stored: The index as it is stored.
        name: The name by which error messages call the index.
        dense_model: The model that embeds texts as dense vectors, or `None`.
        sparse_model: The model that embeds texts as sparse vectors, or `None`.
        max_open_queries: The number of resumable queries that may be open at the same time. Clients of one kind may
            have half of them in one namespace.
        max_idle: The longest time that a resumable query may be idle, in seconds, up to 86,400.
        max_namespaces: The number of namespaces at which no further one is made. The default namespace counts.
        exact_rows: The number of records up to which a namespace is ranked from full lists.
        exact: Whether every search ranks from full lists, however many records a namespace has. Default `False`.
        clock: The clock that measures the idle time of resumable queries, in seconds; tests replace it.
    """

    def __init__(
        self,
        database: Database,
        stored: StoredIndex,
        *,
        name: str = "default",
        dense_model: DenseModel | None = None,
        sparse_model: SparseModel | None = None,
        max_open_queries: int = MAX_OPEN_QUERIES,
        max_idle: int = MAX_IDLE,
        max_namespaces: int = MAX_NAMESPACES,
        exact_rows: int = EXACT_ROWS,
        exact: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self._database = database
        self._id = stored.id
        self._tables = Tables(database.address.schema, stored.number)
        self._namespaces = NamespaceTable(self._tables, name, max_namespaces)
        self._models = records.Models(dense_model, sparse_model)
        self._max_idle = max_idle
        self._exact_rows = exact_rows
        self._exact = exact
        self._knows_vector_index = False  # whether the index of the vectors exists, or cannot be made
        self._open_queries = OpenQueries(max_open_queries, clock)
        self._stored_schema = stored.schema
        self._record_table = RecordTable(self._tables, stored.schema)

    @property
    def schema(self) -> Schema:
        """The fixed properties of the index. What is open in them may be decided by another process."""
        self._refresh()
        return self._stored_schema

    @property
    def pool_from(self) -> int | None:
        """`None`: only the embedded engine has pools."""
        return None

    @property
    def exact(self) -> bool:
        """Whether the engine was told that no search is to be approximate."""
        return self._exact

    @property
    def id(self) -> str:
        """A random name that the index was given when it was created."""
        return self._id

    def complete_schema(self, complete: Callable[[Schema], Schema]) -> None:
        """Store what a later opening of the index decides about its schema.

        Args:
            complete: Returns the completed schema for the present one, or raises to change nothing.
        """
        with self._database.worker() as connection:
            present = self._read_schema(connection)
        if complete(present) == present:  # a role that only reads can open the index
            self._adopt(present)
            return
        with self._database.writing() as connection:
            present = self._read_schema(connection, lock=True)
            completed = complete(present)
            self._save_schema(connection, present, completed)
        self._adopt(completed)

    def stats(self) -> Stats:
        """Return the size of the index in bytes and the number of records in each namespace."""
        schema = self.schema
        with self._database.snapshot() as connection:
            counts = self._namespaces.counts(connection)
            size = 0
            if has_tables(schema):
                size = self._record_table.size(connection)
                if schema.sparse:
                    size += sparse.size(connection, self._tables.schema, self._tables.number)
        indexed = schema.dense and (schema.dimension or 0) <= HALF_DIMENSIONS
        approximate = indexed and not self._exact and any(count > self._exact_rows for count in counts.values())
        return Stats(size, counts, approximate)

    def filter_seconds(self) -> float:
        """Return 0: PostgreSQL evaluates filters, and does not say how long they take of a statement."""
        return 0.0

    def connection_pools(self) -> Mapping[str, PoolUse]:
        """Return the use of the pools of connections: `workers` that read, `writers`, and `cursors` of searches."""
        return self._database.pools()

    # Namespaces

    def list_namespaces(self) -> list[str]:
        """Return the names of all namespaces, the default namespace first."""
        with self._database.worker() as connection:
            return list(self._namespaces.counts(connection))

    def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace and its records. Open queries on it have no further pages.

        Raises:
            RefusedError: The namespace does not exist, or is the default one.
        """
        require_deletable(namespace)
        with self._database.writing() as connection:
            found = self._namespaces.lock(connection, namespace)
            if found is None:
                raise missing_namespace(namespace, self.name)
            self._drop(connection, found)

    def rename_namespace(self, namespace: str, new: str, *, replace: bool) -> bool:
        """Rename a namespace. Open queries on it go on.

        Args:
            namespace: The name of the namespace.
            new: The new name.
            replace: Whether an existing namespace of the new name is deleted first.

        Returns:
            `False` if the namespace already has that name.

        Raises:
            RefusedError: The namespace does not exist, one of the two is the default one, or the new name is taken and
                `replace` is false.
        """
        require_renamable(namespace, new)
        refuse_nul(new, "namespace")
        with self._database.writing() as connection:
            found, target = self._namespaces.lock_two(connection, namespace, new)
            if found is None:
                raise missing_namespace(namespace, self.name)
            if namespace == new:
                return False
            if target is not None and not replace:
                raise taken_namespace(new, self.name)
            if target is not None:
                self._drop(connection, target)
            self._namespaces.rename(connection, found.key, new)
            return True

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool, abandoned: Callable[[], bool]) -> None:  # noqa: ARG002 - the interface of engines
        """Refuse to copy the index into a file, because PostgreSQL has its own backups.

        Raises:
            ClientError: Always.
        """
        message = (
            f"an index on PostgreSQL is not copied into a file: back up its database schema with pg_dump "
            f"--schema={self._tables.schema}, or the whole server"
        )
        raise ClientError(message)

    def close(self) -> None:
        """Stop all resumable queries, and close the connections. Further calls do nothing."""
        self._open_queries.close()
        self._database.close()

    # For the other parts

    @property
    def _has_tables(self) -> bool:
        """Whether the tables of the records exist; otherwise the index has no records."""
        self._refresh()
        return has_tables(self._stored_schema)

    def _refresh(self) -> None:
        """Read the schema again, as long as another process may decide what is open in it."""
        if not has_tables(self._stored_schema):
            with self._database.worker() as connection:
                self._adopt(self._read_schema(connection))

    def _settle_schema(self, connection: DatabaseConnection, written: Sequence[StoredRecord]) -> Schema:
        """Return the schema that the index has once records are written; a first write decides what is open in it."""
        present = self._stored_schema
        if has_tables(present):
            return records.complete_schema(present, written)
        present = self._read_schema(connection, lock=True)
        completed = records.complete_schema(present, written)
        self._save_schema(connection, present, completed)
        return completed

    def _adopt(self, schema: Schema) -> None:
        """Remember the schema that is stored."""
        if schema != self._stored_schema:
            self._record_table = RecordTable(self._tables, schema)
            self._stored_schema = schema

    def _save_schema(self, connection: DatabaseConnection, present: Schema, completed: Schema) -> None:
        if completed == present:
            return
        statement = sql.SQL("UPDATE {} SET schema = %s::jsonb WHERE number = %s").format(self._tables.indexes)
        connection.execute(statement, (orjson.dumps(completed.to_dict()).decode(), self._tables.number))
        if has_tables(completed) and not has_tables(present):
            create_record_tables(connection, self._tables, completed)

    def _read_schema(self, connection: DatabaseConnection, *, lock: bool = False) -> Schema:
        statement = sql.SQL("SELECT schema FROM {} WHERE number = %s {}").format(
            self._tables.indexes, sql.SQL("FOR UPDATE" if lock else "")
        )
        found = connection.execute(statement, (self._tables.number,)).fetchone()
        if found is None:
            message = f"The index {self.name} was removed from the database"
            raise RefusedError(message, 404)
        return Schema.from_dict(found[0])

    def _drop(self, connection: DatabaseConnection, namespace: Namespace) -> None:
        self._clear(connection, namespace)
        self._namespaces.drop(connection, namespace.key)

    def _clear(self, connection: DatabaseConnection, namespace: Namespace) -> None:
        """Delete all records of a namespace that is locked."""
        if namespace.next_number == 1:
            return
        schema = self._stored_schema
        if not has_tables(schema):  # a first write may have made them just before the lock
            schema = self._read_schema(connection)
        if schema.sparse:
            sparse.clear(connection, self._tables.schema, self._tables.number, namespace.key)
        self._record_table.clear(connection, namespace.key)
        self._namespaces.begin_anew(connection, namespace.key)
