"""Open the engines of a server whose indexes are on PostgreSQL, and close them together."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from nextk.engine.protocol import Engine
from nextk.errors import ClientError
from nextk.extras import require
from nextk.server.models import load_models
from nextk.server.spec import DEFAULT, IndexSpec

__all__ = ["open_postgres_engines"]


@contextlib.contextmanager
def open_postgres_engines(
    specs: Sequence[IndexSpec], dsn: str, database_schema: str, *, same_model: bool = False, **options: Any
) -> Iterator[dict[str, Engine]]:
    """Open the engines of a server, and close them when the block is left.

    Args:
        specs: The indexes to open; those that do not exist are made. If it is empty, every index of the database schema
            is opened; if there is none, one is made that is called `default` and embeds text.
        dsn: The connection string.
        database_schema: The database schema with the tables of nextk, which is made if it does not exist.
        same_model: Whether models other than those that the indexes were made with make the same vectors, as for
            `Index.postgres`.
        options: Further arguments of `nextk.postgres.factory.open_engine`.

    Yields:
        The engines by name, in the order of `specs`, or in that in which the indexes were made.

    Raises:
        ClientError: The database cannot be used, a stored index contradicts its spec, or a model cannot be imported.
        MissingExtraError: The extra `postgres` is not installed.
    """
    for module in ("psycopg", "psycopg_pool", "pgvector"):
        require(module, extra="postgres")
    from nextk.postgres.database import DatabaseAddress, require_dsn, require_schema
    from nextk.postgres.factory import open_engine, stored_names

    require_dsn(dsn)
    require_schema(database_schema)
    chosen = list(specs) or [IndexSpec(name) for name in stored_names(dsn, database_schema)] or [DEFAULT]
    with contextlib.ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for spec in chosen:
            if "pool_from" in spec.keywords:
                message = f"--index {spec.name}: pool_from is for indexes that are not on PostgreSQL; leave it out"
                raise ClientError(message)
            keywords = {**load_models(spec.name, spec.keywords), "same_model": same_model}
            engine = open_engine(DatabaseAddress(dsn, database_schema, spec.name), keywords, **options)
            stack.callback(engine.close)
            engines[spec.name] = engine
        yield engines
