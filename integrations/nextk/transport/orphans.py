"""The resumable queries of a server whose handles were dropped, or were left, while they were open."""

import asyncio
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nextk.operations import Operation, stop
from nextk.transport.retries import may_have_arrived

log = logging.getLogger("nextk.transport")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The base URL of a server, which holds no secret, and the token for it, which no representation shows."""

    url: str
    token: str = field(repr=False)


class Orphans(deque[str]):
    """The resumable queries of one server whose handles were dropped.

    All transports of the server share one queue. While the queue is not empty, this class refers to it as well, so that
    a query that is dropped together with its index is still stopped. Finalisers append to the queue, so nothing here
    takes a lock.

    Args:
        server: The server that holds the queries.

    Attributes:
        server: The server that holds the queries.
        waiting: All queues that are not empty, by their `id()`.
    """

    waiting: ClassVar[dict[int, "Orphans"]] = {}
    _known: ClassVar["weakref.WeakValueDictionary[ServerAddress, Orphans]"] = weakref.WeakValueDictionary()

    def __init__(self, server: ServerAddress) -> None:
        super().__init__()
        self.server = server

    @classmethod
    def of(cls, server: ServerAddress) -> "Orphans":
        """Return the queue of a server, which all its transports share.

        Args:
            server: The server.
        """
        return cls._known.setdefault(server, cls(server))

    def append(self, uuid: str, /) -> None:
        """Add a query, to be stopped by the next call or when the process ends.

        Args:
            uuid: The resumable query.
        """
        super().append(uuid)
        self.waiting[id(self)] = self

    def drain(
        self,
        send: Callable[[Operation[None]], object],
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Stop the queries in the queue until it is empty, the time is up, or the server cannot be reached.

        Args:
            send: Sends a stop.
            deadline: When to give up, by the clock.
            clock: Returns the time in seconds. Default `time.monotonic`.
        """
        while (uuid := self._next(deadline, clock)) is not None:
            with self._trying(uuid):
                send(stop(uuid))

    async def adrain(
        self,
        send: Callable[[Operation[None]], Awaitable[object]],
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Stop the queries in the queue without blocking the event loop; see `drain` for the parameters."""
        while await self.astop_first(send, deadline, clock):
            pass

    async def astop_first(
        self,
        send: Callable[[Operation[None]], Awaitable[object]],
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> bool:
        """Stop the first query in the queue; see `drain` for the parameters.

        Returns:
            Whether there was one, and time left to stop it.
        """
        uuid = self._next(deadline, clock)
        if uuid is not None:
            with self._trying(uuid):
                await send(stop(uuid))
        return uuid is not None

    def abandon(self, reason: object, more: int = 0) -> None:
        """Empty the queue and leave its queries to expire.

        Args:
            reason: Why they are not stopped, for the log.
            more: How many queries beside those in the queue are left to expire. Default 0.
        """
        log.info("dropped queries that could not be stopped are left to expire, %d: %s", len(self) + more, reason)
        self.clear()
        self._update_waiting()

    def _next(self, deadline: float, clock: Callable[[], float]) -> str | None:
        if clock() >= deadline:
            return None
        try:
            return self.popleft()
        except IndexError:
            self._update_waiting()
            return None

    @contextmanager
    def _trying(self, uuid: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the call that is on its way is none the worse
            self.abandon(error, more=1)
        except BaseException:  # cancelled or interrupted: for the next call
            self.append(uuid)
            raise

    def _update_waiting(self) -> None:
        self.waiting.pop(id(self), None)
        if self:  # a finaliser was faster
            self.waiting[id(self)] = self


@contextmanager
def orphaned_on_failure(orphans: deque[str], start: Operation[Any]) -> Iterator[None]:
    """Leave the query of a start to the orphans if the start fails in the block, but may have opened it.

    Only a query whose uuid the client has made can be named then. A start that is cancelled is left to its transport,
    where it goes on.

    Args:
        orphans: The orphans of the transport that carries the start.
        start: The operation that is sent in the block.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if start.own_uuid is not None and may_have_arrived(error):
            orphans.append(start.own_uuid)
        raise


_at_exit: "dict[int, weakref.WeakMethod[Callable[[], None]]]" = {}


def orphan_at_exit(orphan: Callable[[], None]) -> None:
    """Have a method called when the process ends, before the orphans are stopped for the last time.

    Whoever keeps queries open adds a method here that appends them to `Transport.orphans`. Nothing is kept alive by it.

    Args:
        orphan: The bound method. It does no I/O and takes no lock, since a thread that is gone may hold one. A forked
            child calls it too, so it has to leave the queries of the parent alone.
    """
    key = id(getattr(orphan, "__self__", None))

    def forget(_: object, entries: "dict[int, Any]" = _at_exit) -> None:  # at the very end there are no globals
        entries.pop(key, None)

    _at_exit[key] = weakref.WeakMethod(orphan, forget)


def orphan_all() -> None:
    """Call all methods of `orphan_at_exit` whose objects are still there."""
    for reference in list(_at_exit.values()):
        orphan = reference()
        if orphan is not None:
            orphan()


def _forget() -> None:
    """Empty all queues in a forked child: its parent stops what the parent has dropped."""
    for queue in list(Orphans.waiting.values()):
        queue.clear()
    Orphans.waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
