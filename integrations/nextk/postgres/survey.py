"""A survey of a database, which changes nothing: its settings, the indexes of nextk in it, and what is missing."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from nextk.engine.schema import Schema
from nextk.errors import ClientError
from nextk.postgres.base import EXACT_ROWS
from nextk.postgres.database import (
    Database,
    DatabaseAddress,
    DatabaseConnection,
    require_dsn,
    require_pgvector,
    require_schema,
)
from nextk.postgres.factory import STATEMENT_TIMEOUT
from nextk.postgres.failures import explained
from nextk.postgres.layout import HALF_DIMENSIONS, Tables, vector_index_statement

__all__ = ["DatabaseSurvey", "Remedy", "SurveyedIndex", "survey"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that is missing.

    Attributes:
        command: The statement that mends it.
        reason: The thing that does not work without it.
    """

    command: str
    reason: str


@dataclass(frozen=True, slots=True)
class SurveyedIndex:
    """An index of nextk.

    Attributes:
        name: Its name.
        schema: Its type, its dimension and its models.
        records: The number of its records in all namespaces.
        vector_index: The index of its dense vectors, or the reason why there is none.
    """

    name: str
    schema: Schema
    records: int
    vector_index: str


@dataclass(slots=True)
class DatabaseSurvey:
    """The state of a database.

    Attributes:
        place: The database and its host, without user and password.
        facts: The versions and the settings in force, by their names; `None` for what the database does not have.
        fault: The reason why nextk cannot use the database, with what to do; `""` if there is none.
        indexes: The indexes of nextk that the role may see.
        missing: The things that are missing besides the fault.
    """

    place: str
    facts: dict[str, str | None]
    fault: str = ""
    indexes: list[SurveyedIndex] = field(default_factory=list)
    missing: list[Remedy] = field(default_factory=list)


def survey(dsn: str, database_schema: str) -> DatabaseSurvey:
    """Find out whether a database can be used, and which indexes of nextk it has.

    Args:
        dsn: The connection string.
        database_schema: The database schema with the tables of nextk, which may not exist.

    Raises:
        ClientError: The connection string or the name of the schema is none.
        AuthenticationError: The server does not let the role in.
        RefusedError: There is no such database, or PostgreSQL has refused to be asked.
        TransportError: The server cannot be reached.
    """
    require_dsn(dsn)
    require_schema(database_schema)
    database = Database(DatabaseAddress(dsn, database_schema, ""), max_cursors=1, statement_timeout=STATEMENT_TIMEOUT)
    try:
        with contextlib.closing(database.connect()) as connection:
            return _survey(connection, database_schema)
    except psycopg.Error as error:
        raise explained(error, f"the schema {database_schema}", open_scan=False) from error


def _survey(connection: DatabaseConnection, database_schema: str) -> DatabaseSurvey:
    found = DatabaseSurvey(f"{connection.info.dbname}@{connection.info.host}", _facts(connection))
    try:
        require_pgvector(connection)
    except ClientError as error:
        found.fault = str(error)
    found.missing += _missing_rights(connection, database_schema)
    readable = "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %s"
    if connection.execute(readable, (database_schema,)).fetchone() == (True,):
        for number, name, schema, records, largest in _stored(connection, Tables(database_schema)):
            tables = Tables(database_schema, number)
            index, remedy = _vector_index(connection, tables, schema, largest)
            found.indexes.append(SurveyedIndex(name, schema, records, index))
            found.missing += [] if remedy is None else [remedy]
    return found


def _facts(connection: DatabaseConnection) -> dict[str, str | None]:
    with contextlib.suppress(psycopg.errors.UndefinedObject):
        connection.execute("SELECT '[1]'::vector")  # which loads pgvector, and its settings with it
    row = connection.execute(
        "SELECT current_setting('server_version'),"
        " (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
        " current_setting('hnsw.iterative_scan', true), current_setting('max_connections'),"
        " current_setting('statement_timeout')"
    ).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    return dict(
        zip(("postgresql", "pgvector", "hnsw.iterative_scan", "max_connections", "statement_timeout"), row, strict=True)
    )


def _missing_rights(connection: DatabaseConnection, database_schema: str) -> Iterator[Remedy]:
    """Yield the grants that the role needs: to make the schema, or to read and write the tables that are in it."""
    role, schema = sql.Identifier(connection.info.user), sql.Identifier(database_schema)
    usable = connection.execute(
        "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %s", (database_schema,)
    ).fetchone()
    if usable is None:
        may = connection.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone()
        if may != (True,):
            grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(connection.info.dbname), role)
            yield Remedy(grant.as_string(), f"the role may not make the schema {database_schema}, which does not exist")
        return
    if usable != (True,):
        grant = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role)
        yield Remedy(grant.as_string(), f"the role may not use the schema {database_schema}")
    for rights, lost in (("SELECT",), "read"), (("INSERT", "UPDATE", "DELETE"), "write to"):
        denied = connection.execute(
            "SELECT 1 FROM pg_class, unnest(%s::text[]) AS rights(name) WHERE relnamespace ="
            " (SELECT oid FROM pg_namespace WHERE nspname = %s) AND relkind = 'r'"
            " AND NOT has_table_privilege(pg_class.oid, rights.name) LIMIT 1",
            (list(rights), database_schema),
        ).fetchone()
        if denied is not None:
            words = sql.SQL(", ").join(map(sql.SQL, rights))
            grant = sql.SQL("GRANT {} ON ALL TABLES IN SCHEMA {} TO {}").format(words, schema, role)
            yield Remedy(grant.as_string(), f"the role may not {lost} all tables of the schema {database_schema}")


def _stored(connection: DatabaseConnection, tables: Tables) -> list[tuple[int, str, Schema, int, int]]:
    """Return number, name, schema, records, and those of the largest namespace; nothing where the role may not read."""
    may = connection.execute(
        "SELECT bool_and(has_table_privilege(pg_class.oid, 'SELECT')) AND count(*) = 2 FROM pg_class"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)"
        " AND relname IN ('indexes', 'namespaces')",
        (tables.schema,),
    ).fetchone()
    if may != (True,):
        return []
    statement = sql.SQL(
        "SELECT number, indexes.name, schema, coalesce(sum(records), 0)::bigint, coalesce(max(records), 0)"
        " FROM {} AS indexes LEFT JOIN {} AS namespaces ON index_number = number GROUP BY 1, 2, 3 ORDER BY 1"
    ).format(tables.indexes, tables.namespaces)
    return [(row[0], row[1], Schema.from_dict(row[2]), row[3], row[4]) for row in connection.execute(statement)]


def _vector_index(
    connection: DatabaseConnection, tables: Tables, schema: Schema, largest: int
) -> tuple[str, Remedy | None]:
    """Return the index of the dense vectors in words, and what to do if there should be one."""
    found = connection.execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND indexname = %s",
        (tables.schema, tables.vector_index_name),
    ).fetchone()
    if found is not None:
        return f"HNSW on {'halfvec' if 'halfvec' in found[0] else 'vector'}", None
    if schema.undecided or (schema.dense and schema.dimension is None):
        return "none: the first write decides the type and the dimension", None
    if not schema.dense or schema.dimension is None:
        return "none: there are no dense vectors", None
    if schema.dimension > HALF_DIMENSIONS:
        return f"none: pgvector indexes up to {HALF_DIMENSIONS:,} dimensions, so searches rank from full lists", None
    if largest <= EXACT_ROWS:
        return f"none: it is made once a namespace has more than {EXACT_ROWS:,} records", None
    statement = vector_index_statement(tables, schema)
    assert statement is not None, "so many dimensions can be indexed"
    reason = "a search that goes on sorts all records without this index, which the owner of the tables may make"
    return "none: it is missing", Remedy(statement.as_string(connection), reason)
