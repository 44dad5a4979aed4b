"""Open the transport of an index on PostgreSQL. A process opens each index once, and all its transports share that."""

from collections.abc import Mapping
from typing import Any

from nextk.arguments import require_kind
from nextk.errors import ClientError
from nextk.postgres.database import DatabaseAddress, require_dsn, require_schema
from nextk.postgres.factory import join_engine, open_engine
from nextk.transport.in_process import InProcessTransport, open_shared


def open_transport(dsn: str, schema: str, name: str, keywords: Mapping[str, Any]) -> InProcessTransport:
    """Open an index on PostgreSQL, or make it if it does not exist.

    Args:
        dsn: The connection string.
        schema: The database schema with the tables of nextk.
        name: The name of the index in it.
        keywords: The schema keywords of `nextk.Index.postgres`; `None` for each that was left out.

    Raises:
        ClientError: An argument or a keyword cannot be used or contradicts the stored index, a model of the caller's
            own is missing, or the database cannot be used.
    """
    require_dsn(dsn)
    require_schema(schema)
    if not require_kind(name, str, "name") or "\0" in name:
        message = "name= must be a text that is not empty, without the NUL character"
        raise ClientError(message)
    address = DatabaseAddress(dsn, schema, name)
    return open_shared(address, lambda: open_engine(address, keywords), lambda engine: join_engine(engine, keywords))
