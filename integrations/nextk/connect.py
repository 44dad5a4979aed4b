"""Where a transport comes from: the environment, a URL, or an engine in this process."""

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from nextk.errors import ClientError
from nextk.extras import require
from nextk.transport import Transport
from nextk.transport.http import HttpTransport

URL_VARIABLE = "UPSTASH_VECTOR_REST_URL"
TOKEN_VARIABLE = "UPSTASH_VECTOR_REST_TOKEN"  # noqa: S105 - a name, not a secret


def http_transport(
    url: str | None, token: str | None, retries: int, retry_interval: float, timeout: float
) -> Transport:
    """A transport to a server; see `nextk.Index`.

    Raises:
        ClientError: The URL or the token is missing or cannot be sent, or a number is not one.
    """
    _require_number(retries, "retries", int)
    for name, value in (("retry_interval", retry_interval), ("timeout", timeout)):
        _require_number(value, name, float)
        if not 0 <= value < math.inf:
            message = f"{name}={value!r} is not a number of seconds: pass 0 or more"
            raise ClientError(message)
    return HttpTransport(
        _given_or_set(url, "url", URL_VARIABLE),
        _sendable(_given_or_set(token, "token", TOKEN_VARIABLE)),
        retries=retries,
        retry_interval=retry_interval,
        timeout=timeout,
    )


def embedded_transport(path: str | os.PathLike[str] | None, keywords: Mapping[str, Any]) -> Transport:
    """A transport to an engine in this process; see `nextk.Index.embedded`."""
    for module in ("numpy", "orjson", "lark"):
        require(module, extra="local")
    from nextk.transport.embedded import open_transport

    return open_transport(path, keywords)


def _given_or_set(value: str | None, name: str, variable: str) -> str:
    found = value or os.environ.get(variable)
    if found and not isinstance(found, str):
        message = f"{name}= must be a string, not {type(found).__name__}"
        raise ClientError(message)
    if not found:
        message = f"no {name}: pass {name}=, or set {variable}; an index without a server is Index.embedded(path)"
        raise ClientError(message)
    return found


def _sendable(token: str) -> str:
    """A token that fits into a header; one that does not is refused without being shown."""
    if not re.fullmatch("[!-~]+", token):
        message = (
            "the token holds a character that no header can carry, such as a line's end, a space or a letter "
            "beyond ASCII: was it read from a file without being stripped?"
        )
        raise ClientError(message)
    return token


def _require_number(value: object, name: str, kind: type[int] | type[float]) -> None:
    if not isinstance(value, int | kind):
        message = f"{name}={value!r} is not a number"
        raise ClientError(message)
