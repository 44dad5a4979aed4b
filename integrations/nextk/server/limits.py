"""How long clients may take and how much they may send, and the clock of one connection that decides by it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of a server. Times are in seconds, sizes in bytes, and rates in bytes a second.

    Attributes:
        first_request: The time until a new connection begins its first request.
        keep_alive: The time that a connection may be idle between two requests. It is longer than any client in use
            keeps an idle connection (Go: 90 s): if the server hung up first, a client that is just sending could not
            tell whether its page was lost.
        head: The time from the first byte of a request to the end of its headers.
        body: The time from the end of the headers to the end of the body. Time in which the server does not read does
            not count, here and for `body_rate`.
        body_rate: The least rate at which a body must arrive, on average.
        reply: The time without any progress after which a client counts as one that no longer reads its reply.
        reply_rate: The least rate at which a client must take its reply, on average.
        grace: The time for which both rates may be missed.
        half_closed: The time for which a request goes on whose client has closed its half of the connection, or has
            sent more behind it than is read ahead. A client that has gone for good looks the same, and what it asked
            for must not run on.
        linger: The time for which the server still reads, and drops, what a client sends that was refused. If the
            server closed at once, the refusal could be lost on its way.
        head_bytes: The size of the request line and the headers together, and of what is read ahead of a reply.
        headers: The number of headers.
        request_line: The size of the request line.
        connections: The number of connections.
        unsent: The size of all replies that clients have not taken yet, together.
    """

    first_request: float = 20.0
    keep_alive: int = 100
    head: float = 10.0
    body: float = 300.0
    body_rate: float = 1024.0
    reply: float = 30.0
    reply_rate: float = 1024.0
    grace: float = 10.0
    half_closed: float = 1.0
    linger: float = 1.0
    head_bytes: int = 64 * 2**10
    headers: int = 100
    request_line: int = 16 * 2**10
    connections: int = 1000
    unsent: int = 256 * 2**20

    @property
    def interval(self) -> float:
        """The seconds between two looks at the clocks of the connections."""
        times = (self.first_request, self.head, self.body, self.reply, self.grace, self.half_closed, self.linger)
        return min(0.5, min(times) / 4)


DEFAULT_LIMITS = ConnectionLimits()
"""The limits of a server that is told no others."""


class Stage(Enum):
    """Where a connection stands."""

    NEW = "no request has begun yet"
    HEAD = "a request has begun, and its headers are not complete"
    BODY = "the headers are complete, and the body is not"
    REPLY = "the request is complete, and the reply is not"
    IDLE = "a reply is complete, and no further request has begun"
    ENDING = "the connection was refused, and what still arrives is dropped"


class Overdue(Enum):
    """The end of a connection that has taken too long."""

    CLOSE = "close it, since nobody waits for an answer"
    ANSWER = "answer that the request did not arrive in time, and close it"
    ABORT = "close it without sending what is left to send"


class ConnectionClock:
    """Decides whether the client of one connection has taken too long.

    Args:
        limits: The limits.
        clock: A function that returns the time in seconds.

    Attributes:
        stage: Where the connection stands.
        since: When it came there.
        half_closed: Whether the client has closed its half of the connection.
        took: When the client was last seen to take some of a reply, or to wait for none.
    """

    def __init__(self, limits: ConnectionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self.stage = Stage.NEW
        self.since = clock()
        self.half_closed = False
        self._is_unseen = False
        self._received = 0
        self._looked = self.since
        self._unsent = 0
        self._taken = 0
        self._taking_since = self.took = self.since

    def enter(self, stage: Stage) -> None:
        """Note that the connection has come to another stage."""
        self.stage = stage
        self.since = self._looked = self._clock()
        self._received = 0
        self._is_unseen = False

    def received(self, count: int) -> None:
        """Note that bytes of a body have arrived.

        Args:
            count: The number of bytes.
        """
        self._received += count

    def close_half(self) -> None:
        """Note that the client has closed its half of the connection while its reply is being made."""
        self.half_closed = True
        self.since = self._clock()

    def lose_sight(self) -> None:
        """Note that the client has sent so much ahead of its reply that nobody reads on, or sees it leave."""
        if not self._is_unseen:
            self._is_unseen = True
            self.since = self._clock()

    def note_unsent(self, unsent: int) -> None:
        """Note how much the client has not taken yet.

        Args:
            unsent: The number of bytes.
        """
        if self._unsent == 0:
            self._taking_since = self.took = self._clock()
            self._taken = 0
        elif unsent < self._unsent:
            self._taken += self._unsent - unsent
            self.took = self._clock()
        self._unsent = unsent

    def look(self, unsent: int, *, reading: bool = True) -> Overdue | None:
        """Decide whether the client has taken too long. This is to be called at regular intervals.

        Args:
            unsent: The number of bytes that wait to be taken by the client.
            reading: Whether the server reads from the connection. Default `True`.

        Returns:
            What becomes of the connection, or `None` if it may go on.
        """
        now = self._clock()
        if self.stage is Stage.BODY and not reading:
            self.since += now - self._looked
        self._looked = now
        self.note_unsent(unsent)
        if self._takes_too_long(now):
            return Overdue.ABORT
        return self._overdue(now - self.since, unsent)

    def _overdue(self, elapsed: float, unsent: int) -> Overdue | None:
        limits = self._limits
        slow = elapsed >= limits.grace and self._received < limits.body_rate * elapsed
        rules = {
            Stage.NEW: (elapsed >= limits.first_request, Overdue.CLOSE),
            Stage.HEAD: (elapsed >= limits.head, Overdue.ANSWER),
            Stage.BODY: (slow or elapsed >= limits.body, Overdue.ANSWER),
            Stage.REPLY: ((self.half_closed or self._is_unseen) and elapsed >= limits.half_closed, Overdue.CLOSE),
            Stage.IDLE: (not unsent and elapsed >= limits.keep_alive, Overdue.CLOSE),
            Stage.ENDING: (elapsed >= limits.linger, Overdue.ABORT),
        }
        late, outcome = rules[self.stage]
        return outcome if late else None

    def _takes_too_long(self, now: float) -> bool:
        """Return whether the client no longer takes its reply, or takes it too slowly."""
        if self._unsent == 0:
            return False
        elapsed = now - self._taking_since
        slow = elapsed >= self._limits.grace and self._taken < self._limits.reply_rate * elapsed
        return slow or now - self.took >= self._limits.reply
