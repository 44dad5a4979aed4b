"""The entry of an index in the table of the indexes of a database schema."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from psycopg import sql

from nextk.engine.schema import Schema
from nextk.postgres.database import DatabaseConnection
from nextk.postgres.layout import Tables, create_record_tables, has_tables

__all__ = ["StoredIndex", "find_or_add_index", "index_names"]


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index as it is stored.

    Attributes:
        number: The number by which its tables are named.
        id: A random name that it was given when it was made.
        schema: Its schema.
    """

    number: int
    id: str
    schema: Schema


def find_or_add_index(
    connection: DatabaseConnection, database_schema: str, name: str, new_schema: Callable[[], Schema]
) -> StoredIndex:
    """Return an index by its name, which is made if it does not exist.

    Args:
        connection: A connection, outside of a transaction.
        database_schema: The database schema with the tables.
        name: The name of the index.
        new_schema: Returns the schema of a new index.
    """
    tables = Tables(database_schema)
    while (found := _find(connection, tables, name)) is None:
        with connection.transaction():
            _add(connection, tables, name, new_schema())
    return found


def index_names(connection: DatabaseConnection, database_schema: str) -> list[str]:
    """Return the names of all indexes of a database schema, in the order in which they were made."""
    statement = sql.SQL("SELECT name FROM {} ORDER BY number").format(Tables(database_schema).indexes)
    return [name for (name,) in connection.execute(statement)]


def _find(connection: DatabaseConnection, tables: Tables, name: str) -> StoredIndex | None:
    statement = sql.SQL("SELECT number, id, schema FROM {} WHERE name = %s").format(tables.indexes)
    found = connection.execute(statement, (name,)).fetchone()
    return None if found is None else StoredIndex(found[0], found[1], Schema.from_dict(found[2]))


def _add(connection: DatabaseConnection, tables: Tables, name: str, schema: Schema) -> None:
    """Add an index with its default namespace, unless another process is faster."""
    added = connection.execute(
        sql.SQL(
            "INSERT INTO {} (name, id, schema) VALUES (%s, %s, %s::jsonb) ON CONFLICT DO NOTHING RETURNING number"
        ).format(tables.indexes),
        (name, secrets.token_hex(8), orjson.dumps(schema.to_dict()).decode()),
    ).fetchone()
    if added is None:
        return
    add = sql.SQL("INSERT INTO {} (index_number, name) VALUES (%s, '')").format(tables.namespaces)
    connection.execute(add, added)
    if has_tables(schema):
        create_record_tables(connection, Tables(tables.schema, added[0]), schema)
