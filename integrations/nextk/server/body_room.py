"""Room for the bodies of requests, which is taken by what has arrived of them and not by what they declare.

So a client that sends little holds little. Bodies that are half there can then wait for each other: when room is short
for too long, one that hardly arrives has to give way, and otherwise the one that began last, so that there is always
one that gets to its end.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.types import Message, Receive

from nextk.errors import RefusedError

_PATIENCE = 5.0  # seconds for which a body waits for room
_PROGRESS = 2**20  # bytes that have to arrive meanwhile of a body that is to keep its room


@dataclass(eq=False, slots=True)
class ArrivingBody:
    """The room of one body: how much of it the body has, and how much it waits for.

    Attributes:
        held: The bytes that it holds.
        wanted: The bytes that it waits for.
        read_since: The time since which the server has read it without a wait.
        is_complete: Whether all of it is there; such a body keeps its room until its request is answered.
        is_refused: Whether it had to give way.
        turn: What it waits for when there is no room.
        reading: Ends the wait for more of it.
    """

    held: int = 0
    wanted: int = 0
    read_since: float = 0.0
    is_complete: bool = False
    is_refused: bool = False
    turn: "asyncio.Future[None] | None" = None
    reading: asyncio.Timeout | None = None


def body_to_refuse(
    bodies: Iterable[ArrivingBody], before: Mapping[ArrivingBody, int], since: float
) -> ArrivingBody | None:
    """Return the body that has to give way when one has waited for too long, or `None` if none waits.

    Args:
        bodies: The bodies that hold room or wait for it, in the order in which they began.
        before: What they held when the wait began.
        since: When it began.
    """
    arriving = [body for body in bodies if not body.is_complete]
    slow = [
        body
        for body in arriving
        if not body.wanted and body.read_since <= since and body.held - before.get(body, 0) < _PROGRESS
    ]
    waiting = [body for body in arriving if body.wanted]
    return max(slow, key=lambda body: body.held, default=waiting[-1] if waiting else None)


class BodyRoom:
    """Room for bodies, which is given to those that wait for it in the order in which they began.

    Args:
        size: The number of bytes.
        patience: The seconds for which a body waits for room before another one, or itself, is refused.
    """

    def __init__(self, size: int, patience: float = _PATIENCE) -> None:
        self._size = self._free = size
        self._patience = patience
        self._bodies: dict[ArrivingBody, None] = {}

    async def receive(self, body: ArrivingBody, receive: Receive) -> Message:
        """Receive the next part of a body.

        Args:
            body: The body.
            receive: The function of ASGI that does so.

        Raises:
            RefusedError: The body had to give way. The status is 503.
        """
        if body.is_refused:
            raise _crowded()
        if not body.held:
            return await receive()
        body.reading = asyncio.timeout(None)
        try:
            async with body.reading:
                return await receive()
        except TimeoutError:
            raise _crowded() from None
        finally:
            body.reading = None

    async def take(self, body: ArrivingBody, size: int) -> None:
        """Take room for what has arrived of a body, and wait for it if need be.

        Args:
            body: The body.
            size: The number of bytes that have arrived. A body that is larger than all room there is takes all of it.

        Raises:
            RefusedError: There was no room for too long, or the body had to give way. The status is 503.
        """
        if body.is_refused:
            raise _crowded()
        if body not in self._bodies:
            self._bodies[body] = None
            body.read_since = asyncio.get_running_loop().time()
        body.wanted = max(0, min(size, self._size) - body.held)
        self._hand_out()
        if body.wanted:
            await self._wait(body)

    def leave(self, body: ArrivingBody) -> None:
        """Give back what a body holds, to those that wait. One that holds nothing may leave as well."""
        self._free += body.held
        body.held = body.wanted = 0
        self._bodies.pop(body, None)
        self._hand_out()

    async def _wait(self, body: ArrivingBody) -> None:
        loop = asyncio.get_running_loop()
        since, before = loop.time(), {each: each.held for each in self._bodies}
        body.turn = loop.create_future()
        try:
            async with asyncio.timeout(self._patience):
                await body.turn
        except TimeoutError:
            while body.wanted and (slow := body_to_refuse(self._bodies, before, since)) is not None:
                self._refuse(slow)
        finally:
            body.turn = None
            body.wanted = 0
            body.read_since = loop.time()
        if body.is_refused:
            raise _crowded()

    def _refuse(self, body: ArrivingBody) -> None:
        """Refuse a body, whether it is waited for, or waits itself, and let others have its room at once."""
        body.is_refused = True
        if body.reading is not None:
            body.reading.reschedule(0)
        _wake(body)
        self.leave(body)

    def _hand_out(self) -> None:
        """Give room to those that wait for it, the oldest first; none overtakes a body that waits for more."""
        for body in self._bodies:
            if body.wanted > self._free:
                return
            self._free -= body.wanted
            body.held += body.wanted
            body.wanted = 0
            _wake(body)


def _wake(body: ArrivingBody) -> None:
    if body.turn is not None and not body.turn.done():
        body.turn.set_result(None)


def _crowded() -> RefusedError:
    message = "The server is busy: too many large bodies are under way; try again later"
    return RefusedError(message, 503)
