"""One exchange over HTTP: the request of an operation, and its reply as it comes over the wire."""

import functools
from typing import Any

import httpx

from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.transport.deadlines import Deadline
from nextk.transport.orphans import ServerAddress
from nextk.transport.replies import HttpReply


def request_of(
    server: ServerAddress,
    client: httpx.Client | httpx.AsyncClient,
    operation: Operation[Any],
    content: bytes,
    deadline: Deadline,
) -> httpx.Request:
    """Return the request that carries an operation.

    Args:
        server: The server.
        client: The client that is to send it.
        operation: The operation.
        content: Its body as JSON; empty if it has none.
        deadline: When the reply has to be there.

    Raises:
        ClientError: The URL cannot be used.
    """
    headers = {"Authorization": f"Bearer {server.token}"}
    if content:
        headers["Content-Type"] = "application/json"
    timeouts = dict.fromkeys(("pool", "connect", "write", "read"), deadline)
    try:
        url = _url(f"{server.url}/{operation.path}")
        return client.build_request("POST", url, content=content, headers=headers, extensions={"timeout": timeouts})
    except httpx.InvalidURL as error:
        message = f"{server.url!r} is not a usable URL: {error}"
        raise ClientError(message) from error


@functools.lru_cache(maxsize=256)
def _url(url: str) -> httpx.URL:
    """Return a URL as httpx reads it, which takes it longer than all else that it does to build a request."""
    return httpx.URL(url)


def received(response: httpx.Response) -> HttpReply:
    """Read a reply as it comes over the wire.

    Raises:
        ReplyTooLarge: It has too many bytes.
    """
    reply = HttpReply(response.status_code, response.headers)
    try:
        for chunk in response.iter_raw():
            reply.add(chunk)
    finally:
        response.close()
    return reply


async def areceived(response: httpx.Response) -> HttpReply:
    """Read a reply without blocking the event loop; see `received`."""
    reply = HttpReply(response.status_code, response.headers)
    try:
        async for chunk in response.aiter_raw():
            reply.add(chunk)
    finally:
        await response.aclose()
    return reply
