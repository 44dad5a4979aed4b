"""Indexes on PostgreSQL for tests, whose engine takes other bounds than a client can name."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from nextk import Index
from nextk.postgres.database import DatabaseAddress
from nextk.postgres.engine import PostgresEngine
from nextk.postgres.factory import open_engine
from nextk.transport.in_process import InProcessTransport, SharedEngine
from nextk.types import QueryResult

EXACT_ROWS = 20
"""The records up to which the namespaces of these indexes are ranked from full lists."""

ROWS = 120
"""The records of an index that goes on in PostgreSQL."""


@contextlib.contextmanager
def postgres_engine(
    dsn: str, schema: str, name: str = "default", options: dict[str, Any] | None = None, **keywords: Any
) -> Iterator[PostgresEngine]:
    """Open an engine while the block runs, also if the process has the index open already.

    Args:
        dsn: The connection string.
        schema: The database schema.
        name: The name of the index.
        options: Further arguments of the engine.
        keywords: The schema keywords.
    """
    address = DatabaseAddress(dsn, schema, name)
    engine = open_engine(address, keywords, **{"exact_rows": EXACT_ROWS, **(options or {})})
    try:
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def postgres_index(
    dsn: str, schema: str, name: str = "default", options: dict[str, Any] | None = None, **keywords: Any
) -> Iterator[Index]:
    """Open a client over an engine of its own while the block runs; see `postgres_engine`."""
    with postgres_engine(dsn, schema, name, options, **keywords) as engine:
        shared = SharedEngine(None, engine)
        with Index._over(InProcessTransport(shared, lambda: shared)) as index:
            yield index


def fill(index: Index, rows: int = ROWS, namespace: str = "") -> list[str]:
    """Store records that match the query `[1, 0]` ever less, and return their ids in this order."""
    ids = [f"r{number}" for number in range(rows)]
    index.upsert([(id_, [1.0, number / 10], {"place": number}) for number, id_ in enumerate(ids)], namespace=namespace)
    return ids


def ids(matches: Sequence[QueryResult]) -> list[str]:
    """The ids of matches."""
    return [match.id for match in matches]
