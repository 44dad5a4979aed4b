"""Open the engine of an index on PostgreSQL by the keywords of `Index.postgres`, and make the index if it is new."""

import contextlib
from collections.abc import Mapping
from typing import Any

import psycopg

from nextk.arguments import require_kind
from nextk.engine import keywords as opening
from nextk.engine.protocol import Engine
from nextk.errors import ClientError, RefusedError
from nextk.postgres.base import MAX_OPEN_QUERIES
from nextk.postgres.database import Database, DatabaseAddress
from nextk.postgres.engine import PostgresEngine
from nextk.postgres.layout import prepare
from nextk.postgres.refusals import explain
from nextk.postgres.stored_index import find_or_add_index, index_names

__all__ = ["join_engine", "open_engine", "stored_names"]

STATEMENT_TIMEOUT = 60.0
"""The seconds after which PostgreSQL gives a statement up, by default."""

ONE_SHOTS = 4
"""The connections beyond those of the resumable queries that may be open, so queries of one page find one."""


def open_engine(
    address: DatabaseAddress,
    keywords: Mapping[str, Any],
    *,
    max_open_queries: int = MAX_OPEN_QUERIES,
    statement_timeout: float = STATEMENT_TIMEOUT,
    **options: Any,
) -> PostgresEngine:
    """Open the engine of an index, and make the tables and the index if they do not exist.

    Args:
        address: The place of the index.
        keywords: The schema keywords of `Index.postgres` by name, as `nextk.engine.factory.open_engine` takes them.
        max_open_queries: The number of resumable queries that may be open at the same time.
        statement_timeout: The seconds after which PostgreSQL gives a statement up.
        options: Further arguments of `PostgresEngine`.

    Raises:
        ClientError: The server cannot be reached or has no pgvector, the role may not make the tables, a keyword has a
            value that is not allowed or contradicts the stored index, or a model of the caller's own is missing.
    """
    given = opening.given_models(keywords)
    exact = require_kind(keywords.get("exact") or False, bool, "exact")
    database = Database(address, max_cursors=max_open_queries + ONE_SHOTS, statement_timeout=statement_timeout)
    try:
        with contextlib.closing(database.connect()) as connection:
            prepare(connection, address.schema)
            stored = find_or_add_index(
                connection, address.schema, address.name, lambda: opening.new_schema(keywords, given)
            )
        models = opening.with_stored_models(given, stored.schema)
        database.open()
        engine = PostgresEngine(
            database,
            stored,
            name=address.name,
            dense_model=models.dense,
            sparse_model=models.sparse,
            max_open_queries=max_open_queries,
            exact=exact,
            **options,
        )
        engine.complete_schema(lambda schema: opening.reopened(schema, keywords, models))
    except BaseException as error:
        database.close()
        if isinstance(error, RefusedError) and isinstance(error.__cause__, psycopg.Error):
            raise explain(error.__cause__, address.schema) from error.__cause__
        if isinstance(error, psycopg.Error):
            raise explain(error, address.schema) from error
        raise
    return engine


def stored_names(dsn: str, database_schema: str) -> list[str]:
    """Return the names of the indexes of a database schema, whose tables are made if they do not exist.

    Args:
        dsn: The connection string.
        database_schema: The database schema.

    Raises:
        ClientError: The server cannot be reached or has no pgvector, or the role may not make the tables.
    """
    database = Database(DatabaseAddress(dsn, database_schema, ""), max_cursors=1, statement_timeout=STATEMENT_TIMEOUT)
    try:
        with contextlib.closing(database.connect()) as connection:
            prepare(connection, database_schema)
            return index_names(connection, database_schema)
    except psycopg.Error as error:
        raise explain(error, database_schema) from error


def join_engine(engine: Engine, keywords: Mapping[str, Any]) -> None:
    """Check the keywords of a further opening of an index that is open already, and let it store what they decide.

    Args:
        engine: The engine of the index.
        keywords: The keywords of this opening, as `open_engine` takes them.

    Raises:
        ClientError: A keyword contradicts the index, a model is another one than the engine embeds with, or what the
            keywords decide cannot be stored.
    """
    given = opening.given_models(keywords)
    if require_kind(keywords.get("exact") or False, bool, "exact") and not engine.exact:
        message = (
            "this index is open in this process without exact=True: close its other clients first, or ask for exact "
            "order search by search"
        )
        raise ClientError(message)
    try:
        engine.complete_schema(lambda schema: opening.joined(schema, keywords, given))
    except RefusedError as error:
        raise ClientError(str(error)) from error
