"""Open a transport: to a server, by a URL or by the environment, or to an engine in this process."""

import os
from collections.abc import Mapping
from typing import Any

from nextk.arguments import require_count, require_number
from nextk.errors import ClientError
from nextk.extras import require
from nextk.transport import Transport
from nextk.transport.address import usable_token, usable_url

URL_VARIABLE = "UPSTASH_VECTOR_REST_URL"
TOKEN_VARIABLE = "UPSTASH_VECTOR_REST_TOKEN"  # noqa: S105 - a name, not a secret

_ONE_DAY = 86_400  # seconds; clocks of the system overflow somewhere above


def http_transport(
    url: str | None, token: str | None, retries: int, retry_interval: float, timeout: float
) -> Transport:
    """Open a transport to a server.

    Args:
        url: The base URL of the index; `None` to read `UPSTASH_VECTOR_REST_URL`.
        token: The token of the index; `None` to read `UPSTASH_VECTOR_REST_TOKEN`.
        retries: How often an operation may be repeated.
        retry_interval: The longest pause before the first repeat, in seconds; see `nextk.transport.retries`.
        timeout: Seconds that an attempt may take, from connecting to the last byte of the reply.

    Raises:
        ClientError: The URL or the token is missing or cannot be sent, one of the numbers is out of range, or the
            environment names a proxy or certificates that cannot be used. The message names the argument or the
            environment variable at fault, or shows the URL if nothing in it can be secret.
    """
    count: object = retries
    require_count(max(count, 0) if isinstance(count, int) else count, "retries", least=0)  # below 0 is as good as 0
    require_number(retry_interval, "retry_interval", low=0, high=_ONE_DAY)
    require_number(timeout, "timeout", low=0, high=_ONE_DAY)
    from nextk.transport.http import HttpTransport  # httpx takes longer to import than all that an embedded index needs

    return HttpTransport(
        usable_url(*_given_or_set(url, "url", URL_VARIABLE)),
        usable_token(*_given_or_set(token, "token", TOKEN_VARIABLE)),
        retries=retries,
        retry_interval=retry_interval,
        timeout=timeout,
    )


def embedded_transport(path: str | os.PathLike[str] | None, keywords: Mapping[str, Any]) -> Transport:
    """Open a transport to an engine in this process.

    Args:
        path: The file of the index; `None` keeps the index in memory.
        keywords: The schema keywords of `nextk.Index.embedded`; `None` for each that was left out.

    Raises:
        MissingExtraError: The extra `local` is not installed.
        ClientError: The path or a keyword cannot be used; see `nextk.transport.embedded.open_transport`.
    """
    for module in ("numpy", "orjson", "lark"):
        require(module, extra="local")
    from nextk.transport.embedded import open_transport

    return open_transport(path, keywords)


def postgres_transport(dsn: str, schema: str, name: str, keywords: Mapping[str, Any]) -> Transport:
    """Open a transport to an engine in this process whose index is on PostgreSQL.

    Args:
        dsn: The connection string.
        schema: The database schema with the tables of nextk.
        name: The name of the index in it.
        keywords: The schema keywords of `nextk.Index.postgres`; `None` for each that was left out.

    Raises:
        MissingExtraError: The extra `postgres` is not installed.
        ClientError: The database or a keyword cannot be used; see `nextk.transport.postgres.open_transport`.
    """
    for module in ("numpy", "orjson", "lark", "psycopg", "psycopg_pool", "pgvector"):
        require(module, extra="postgres")
    from nextk.transport.postgres import open_transport

    return open_transport(dsn, schema, name, keywords)


def _given_or_set(value: str | None, name: str, variable: str) -> tuple[str, str]:
    """Return a setting, and the name of the argument or the environment variable that it comes from."""
    found, source = (value, name) if value else (os.environ.get(variable), variable)
    if found and not isinstance(found, str):
        message = f"{name}= must be a string, not {type(found).__name__}"
        raise ClientError(message)
    if not found:
        message = f"no {name}: pass {name}=, or set {variable}; an index without a server is Index.embedded(path)"
        raise ClientError(message)
    return found, source
