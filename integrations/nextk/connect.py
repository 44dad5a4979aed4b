"""Where a carrier comes from: the environment, a URL, or an engine in this process."""

import os
from collections.abc import Mapping
from typing import Any

from nextk.errors import ClientError
from nextk.extras import require
from nextk.transport import Carrier
from nextk.transport.http import HttpCarrier

URL_VARIABLE = "UPSTASH_VECTOR_REST_URL"
TOKEN_VARIABLE = "UPSTASH_VECTOR_REST_TOKEN"  # noqa: S105 - a name, not a secret


def http_carrier(url: str | None, token: str | None, retries: int, retry_interval: float, timeout: float) -> Carrier:
    """A carrier to a server; see `nextk.Index`."""
    place = _given_or_set(url, "url", URL_VARIABLE)
    secret = _given_or_set(token, "token", TOKEN_VARIABLE)
    if not (secret.isascii() and secret.isprintable()):
        message = (
            "token= holds a line break or another character that no token has: was it read from a file unstripped?"
        )
        raise ClientError(message)
    return HttpCarrier(
        place,
        secret,
        retries=retries,
        retry_interval=retry_interval,
        timeout=timeout,
    )


def embedded_carrier(path: str | os.PathLike[str] | None, keywords: Mapping[str, Any]) -> Carrier:
    """A carrier to an engine in this process; see `nextk.Index.embedded`."""
    for module in ("numpy", "orjson", "lark"):
        require(module, extra="local")
    from nextk.transport.embedded import open_carrier

    return open_carrier(path, keywords)


def _given_or_set(value: str | None, name: str, variable: str) -> str:
    found = value or os.environ.get(variable)
    if found and not isinstance(found, str):
        message = f"{name}= must be a string, not {type(found).__name__}"
        raise ClientError(message)
    if not found:
        message = f"no {name}: pass {name}=, or set {variable}; an index without a server is Index.embedded(path)"
        raise ClientError(message)
    return found
