"""A server as it is without numbered pages: an application around another one that takes the extension away."""

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextk.server.routing import RequestTarget
from nextk.testing.faults import RequestKind
from nextk.transport.numbering import HEADER

_REQUEST_FIELDS = {
    RequestKind.START: ("uuid", "exact"),
    RequestKind.NEXT: ("pageNumber",),
    RequestKind.OTHER: ("exact",),
}
_INFO_FIELDS = ("numberedPages",)


class UnnumberedApp:
    """An ASGI application that answers as another one would if it did not know numbered pages.

    It ignores the uuid of a start, the number of a page and the wish for exact order. Its replies neither have the
    header of the extension nor, in `info`, the field `numberedPages`.

    Args:
        app: The application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        command = RequestTarget.parse(scope["path"]).command
        kind, body = RequestKind.of(command), await body_of(receive)
        if kind in _REQUEST_FIELDS:
            body = _without(body, *_REQUEST_FIELDS[kind])
        reply = await answered(self._app, scope, body)
        for message in _unnumbered(reply, hides_info=command == "info"):
            await send(message)


async def body_of(receive: Receive) -> bytes:
    """Return the whole body of a request.

    Args:
        receive: The function of ASGI that returns the next part of the request.
    """
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


async def answered(app: ASGIApp, scope: Scope, body: bytes) -> list[Message]:
    """Return the messages that an application answers a request with, without sending them.

    Args:
        app: The application.
        scope: The scope of the request.
        body: The whole body of the request.
    """
    reply: list[Message] = []
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        reply.append(message)

    await app({**scope, "headers": headers}, receive, send)
    return reply


def whole_body(reply: list[Message]) -> bytes:
    """Return the body of a reply.

    Args:
        reply: The messages of the reply.
    """
    return b"".join(message.get("body", b"") for message in reply)


def _without(body: bytes, *names: str) -> bytes:
    """Return a JSON object, or a list of some, without some fields; anything else as it is."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body
    objects = found if isinstance(found, list) else [found]
    if not any(isinstance(each, dict) and not each.keys().isdisjoint(names) for each in objects):
        return body
    for each in objects:
        for name in names if isinstance(each, dict) else ():
            each.pop(name, None)
    return json.dumps(found).encode()


def fields_of(body: bytes) -> dict[str, Any] | None:
    """Return the fields of a JSON object; `None` for anything else.

    Args:
        body: The body of a request or of a reply.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _unnumbered(reply: list[Message], *, hides_info: bool) -> list[Message]:
    """Return a reply without the header, and without the fields of `info` if it is a reply to that."""
    start, body = reply[0], whole_body(reply)
    envelope = fields_of(body) if hides_info else None
    if envelope is not None and isinstance(envelope.get("result"), dict):
        for name in _INFO_FIELDS:
            envelope["result"].pop(name, None)
        body = json.dumps(envelope).encode()
    dropped = (HEADER.lower().encode(), b"content-length")
    headers = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
    headers.append((b"content-length", str(len(body)).encode()))
    return [{**start, "headers": headers}, {"type": "http.response.body", "body": body}]
