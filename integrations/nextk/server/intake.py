"""How many requests may be under way at the same time, and how much their bodies may hold together."""

import functools
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextk.errors import RefusedError
from nextk.server.body_room import ArrivingBody, BodyRoom
from nextk.server.fair_places import Claim, FairPlaces

MAX_REQUESTS = 256
"""How many requests may be under way at the same time by default."""
MAX_BODIES = 256 * 2**20
"""How many bytes the bodies of all requests may hold together by default."""

_SMALL = 64 * 2**10  # bytes of a body that need no room: the server reads that much ahead in any case
_RETRY_AFTER = (b"retry-after", b"1")
_CLAIM = "nextk.claim"


def set_claim(scope: Scope, claim: Claim) -> None:
    """Say what a request counts as, for the `Intake` around the application. To be called before its body is read.

    Args:
        scope: The scope of the request, of ASGI.
        claim: What it counts as.
    """
    scope[_CLAIM] = claim


@dataclass(slots=True)
class _Visit:
    """A request on its way through."""

    scope: Scope
    body: ArrivingBody = field(default_factory=ArrivingBody)
    received: int = 0
    claim: Claim | None = None
    refused: bool = False


class Intake:
    """An application around another one, which lets only so many requests and so much of their bodies in.

    A request counts from the end of its body to the end of its reply, and its body from the beginning to the beginning
    of the reply. One that does not read its body does not count at all. Who may have how many requests under way is
    decided by `FairPlaces`, from what the application has said by `set_claim`. For a request that is refused, `receive`
    raises `RefusedError`, and the application is to answer by it.

    Args:
        app: The application.
        max_requests: The number of requests.
        room: The room for bodies of more than 64 KiB.
    """

    def __init__(self, app: ASGIApp, max_requests: int, room: BodyRoom) -> None:
        self._app = app
        self._places = FairPlaces(max_requests)
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope)
        try:
            await self._app(
                scope, functools.partial(self._receive, visit, receive), functools.partial(self._send, visit, send)
            )
        finally:
            self._room.leave(visit.body)
            if visit.claim is not None:
                self._places.give_back(visit.claim)

    async def _receive(self, visit: _Visit, receive: Receive) -> Message:
        if visit.claim is not None:
            return await receive()
        try:
            message = await self._room.receive(visit.body, receive)
            if message["type"] == "http.request":
                await self._continue(visit, message)
        except RefusedError:
            visit.refused = True
            raise
        return message

    async def _continue(self, visit: _Visit, message: Message) -> None:
        """Count a part of a body, and the request when it was the last one."""
        visit.received += len(message.get("body", b""))
        if visit.received > _SMALL:
            await self._room.take(visit.body, visit.received)
        if not message.get("more_body", False):
            claim = visit.scope.get(_CLAIM, Claim())
            if not self._places.take(claim):
                reason = "The server is busy: too many requests are under way; try again later"
                raise RefusedError(reason, 503)
            visit.claim = claim
            visit.body.is_complete = True

    async def _send(self, visit: _Visit, send: Send, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._room.leave(visit.body)
            if visit.refused:
                message = {**message, "headers": [*message.get("headers", []), _RETRY_AFTER]}
        await send(message)
