"""The namespaces of one index in the table that all indexes of a database schema share.

A write locks the row of its namespace first. So the writers of one namespace come one after the other, whichever
process they are in: its records are committed in the order of their rows, and its counters are exact.
"""

from typing import Any, LiteralString, NamedTuple

from psycopg import sql

from nextk.engine.namespace_rules import require_room
from nextk.postgres.database import DatabaseConnection
from nextk.postgres.layout import Tables

__all__ = ["Namespace", "NamespaceTable"]


class Namespace(NamedTuple):
    """A namespace.

    Attributes:
        key: The number by which its records refer to it. It stays when the namespace is renamed.
        records: The number of its records.
        next_number: The number of the next record that is inserted.
    """

    key: int
    records: int
    next_number: int


class NamespaceTable:
    """The namespaces of one index.

    Args:
        tables: The names of the tables.
        name: The name by which error messages call the index.
        limit: The number of namespaces at which no further one is made.
    """

    def __init__(self, tables: Tables, name: str, limit: int) -> None:
        self._tables = tables
        self._name = name
        self._limit = limit

    def find(self, connection: DatabaseConnection, name: str) -> Namespace | None:
        """Return a namespace by its name, or `None` if it does not exist."""
        return self._one(
            connection, "SELECT key, records, next_number FROM {} WHERE index_number = %s AND name = %s", name
        )

    def lock(self, connection: DatabaseConnection, name: str) -> Namespace | None:
        """Return a namespace by its name, so that nobody else writes to it until the transaction ends.

        Returns:
            The namespace, or `None` if it does not exist.
        """
        return self._one(
            connection,
            "SELECT key, records, next_number FROM {} WHERE index_number = %s AND name = %s FOR UPDATE",
            name,
        )

    def lock_or_add(self, connection: DatabaseConnection, name: str) -> Namespace:
        """Return a namespace by its name as `lock` does, and make it first if it does not exist.

        Raises:
            RefusedError: The index has as many namespaces as it may have.
        """
        while (found := self.lock(connection, name)) is None:
            self._require_room(connection)
            self.add(connection, name)  # perhaps another process is faster, and perhaps a third one deletes it again
        return found

    def lock_all(self, connection: DatabaseConnection) -> list[Namespace]:
        """Return all namespaces, so that nobody else writes to them until the transaction ends."""
        statement = "SELECT key, records, next_number FROM {} WHERE index_number = %s ORDER BY key FOR UPDATE"
        return [Namespace(*found) for found in self._execute(connection, statement, self._tables.number)]

    def lock_two(
        self, connection: DatabaseConnection, name: str, other: str
    ) -> tuple[Namespace | None, Namespace | None]:
        """Return two namespaces as `lock` does. Whoever locks two of them does so in the same order."""
        statement = """
            SELECT name, key, records, next_number FROM {}
            WHERE index_number = %s AND name = ANY(%s) ORDER BY key FOR UPDATE
            """
        names = [each for each in (name, other) if "\0" not in each]
        rows = self._execute(connection, statement, self._tables.number, names)
        found = {its_name: Namespace(*values) for its_name, *values in rows}
        return found.get(name), found.get(other)

    def add(self, connection: DatabaseConnection, name: str) -> None:
        """Make a namespace, unless it exists."""
        statement = "INSERT INTO {} (index_number, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        self._execute(connection, statement, self._tables.number, name)

    def count(
        self, connection: DatabaseConnection, namespace: Namespace, *, inserted: int = 0, deleted: int = 0
    ) -> None:
        """Count the records that were inserted into a namespace that is locked, or deleted from it."""
        statement = "UPDATE {} SET records = records + %s, next_number = next_number + %s WHERE key = %s"
        self._execute(connection, statement, inserted - deleted, inserted, namespace.key)

    def begin_anew(self, connection: DatabaseConnection, key: int) -> None:
        """Let the records of a namespace that is locked, and has none, be counted from 1 again."""
        self._execute(connection, "UPDATE {} SET records = 0, next_number = 1 WHERE key = %s", key)

    def total(self, connection: DatabaseConnection) -> int:
        """Return the number of records in all namespaces."""
        statement = "SELECT coalesce(sum(records), 0)::bigint FROM {} WHERE index_number = %s"
        ((count,),) = self._execute(connection, statement, self._tables.number)
        return int(count)

    def rename(self, connection: DatabaseConnection, key: int, name: str) -> None:
        """Give a namespace that is locked another name, which is free."""
        self._execute(connection, "UPDATE {} SET name = %s WHERE key = %s", name, key)

    def drop(self, connection: DatabaseConnection, key: int) -> None:
        """Delete a namespace that is locked, and has no records."""
        self._execute(connection, "DELETE FROM {} WHERE key = %s", key)

    def counts(self, connection: DatabaseConnection) -> dict[str, int]:
        """Return the number of records of each namespace by its name, in the order in which they were made."""
        statement = "SELECT name, records FROM {} WHERE index_number = %s ORDER BY key"
        return dict(self._execute(connection, statement, self._tables.number))

    def _require_room(self, connection: DatabaseConnection) -> None:
        ((count,),) = self._execute(connection, "SELECT count(*) FROM {} WHERE index_number = %s", self._tables.number)
        require_room(self._name, count, self._limit)

    def _one(self, connection: DatabaseConnection, statement: LiteralString, name: str) -> Namespace | None:
        if "\0" in name:  # PostgreSQL cannot even be asked
            return None
        found = self._execute(connection, statement, self._tables.number, name)
        return Namespace(*found[0]) if found else None

    def _execute(self, connection: DatabaseConnection, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        cursor = connection.execute(sql.SQL(statement).format(self._tables.namespaces), values)
        return [] if cursor.description is None else cursor.fetchall()
