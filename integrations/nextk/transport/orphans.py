"""Servers, and the resumable queries there that nobody holds any more."""

import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from nextk.operations import Operation, stop

log = logging.getLogger("nextk.transport")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where requests go, and as whom. The token never shows in a representation."""

    url: str
    token: str = field(repr=False)

    @property
    def safe_url(self) -> str:
        """The URL as an error may show it: without the user and password that it may hold."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class Orphans(deque[str]):
    """The resumable queries of one server whose handles were dropped.

    The transports of the server hold it. While there is something in it this class does, too: a query that is dropped
    together with its index still has its end. Finalisers append here, so nothing takes a lock.

    Attributes:
        server: Where the queries are.
        waiting: Those that are not empty, by their identity.
    """

    waiting: ClassVar[dict[int, "Orphans"]] = {}
    _known: ClassVar["weakref.WeakValueDictionary[ServerAddress, Orphans]"] = weakref.WeakValueDictionary()

    def __init__(self, server: ServerAddress) -> None:
        super().__init__()
        self.server = server

    @classmethod
    def of(cls, server: ServerAddress) -> "Orphans":
        """Those of a server: one queue for all its transports."""
        return cls._known.setdefault(server, cls(server))

    def append(self, uuid: str, /) -> None:
        """Add one, to be stopped when there is time."""
        super().append(uuid)
        self.waiting[id(self)] = self

    def drain(self, send: Callable[[Operation[None]], object], deadline: float) -> None:
        """Stop what can be stopped until a time of `time.monotonic`, or until the server cannot be reached."""
        while (uuid := self._next(deadline)) is not None:
            with self._trying(uuid):
                send(stop(uuid))

    async def adrain(self, send: Callable[[Operation[None]], Awaitable[object]], deadline: float) -> None:
        """The same without blocking the event loop."""
        while (uuid := self._next(deadline)) is not None:
            with self._trying(uuid):
                await send(stop(uuid))

    def abandon(self, reason: object, more: int = 0) -> None:
        """Leave all of them, and some more, to expire."""
        log.info("dropped queries that could not be stopped are left to expire, %d: %s", len(self) + more, reason)
        self.clear()
        self._update_waiting()

    def _next(self, deadline: float) -> str | None:
        if time.monotonic() >= deadline:
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


def _forget() -> None:
    """In a forked child: what its parent has dropped is the parent's to stop."""
    for queue in list(Orphans.waiting.values()):
        queue.clear()
    Orphans.waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
