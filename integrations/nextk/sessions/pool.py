"""How many searches one process keeps open on an index, and which open ones wait to be taken up again.

An index allows about a hundred open queries to all its users together. A session takes a permit from its first pull to
its end; a search that is detached keeps its permit, until somebody takes it up or its room is needed.
"""

import asyncio
import os
import threading
import weakref
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from nextk.errors import TooManyQueries
from nextk.handle import AsyncResumableQueryHandle
from nextk.transport import Transport

MAX_OPEN = 32
"""Searches that one process keeps open on one transport."""
MAX_WAIT = 5.0
"""Seconds to wait for one of them to end."""


class Slot:
    """Leave to keep one search open. Dropped, it is given back."""

    def __init__(self, pool: "QueryPool") -> None:
        self._pool: QueryPool | None = pool
        self._pid = os.getpid()

    def release(self) -> None:
        """Give it back; calling it again does nothing, and it never waits, so that a finaliser may call it."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.return_slot()

    def forfeit(self) -> None:
        """Its room has been given to somebody else."""
        self._pool = None

    __del__ = release


@dataclass(slots=True)
class Parked:
    """A detached search that is still open on the server.

    Attributes:
        uuid: Of its query.
        rows: What was pulled and is not decided.
        set_aside: How many of them were set aside, the first ones.
        slot: The leave to keep it open.
    """

    uuid: str
    rows: list[Any]
    set_aside: int
    slot: Slot


class QueryPool:
    """The searches that are open on one transport.

    Args:
        orphans: Where the uuids of parked searches go that are to be stopped.
        capacity: How many may be open, the parked ones included.
        max_wait: Seconds to wait for one of them to end.
    """

    def __init__(self, orphans: deque[str], capacity: int = MAX_OPEN, max_wait: float = MAX_WAIT) -> None:
        self._returned: deque[None] = deque()  # permits that nobody has taken note of yet
        self._orphans = orphans
        self._capacity = capacity
        self._max_wait = max_wait
        self._reset()

    def _after_fork(self) -> None:
        """In a forked child: what is open is its parent's."""
        if self._pid != os.getpid():
            self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._returned.clear()
        self._lock = threading.Lock()
        self._free = self._capacity
        self._waiting: deque[Future[None]] = deque()
        self._parked: OrderedDict[str, Parked] = OrderedDict()

    def acquire(self) -> Slot:
        """Take a permit, and wait for one where that is needed.

        Raises:
            TooManyQueries: There is none, and none has come back in time.
        """
        ticket = self._request()
        try:
            ticket.result(self._max_wait)
        except TimeoutError:
            self._give_up(ticket)
        except BaseException:
            self._withdraw(ticket)
            raise
        return Slot(self)

    async def aacquire(self) -> Slot:
        """The same without blocking the event loop."""
        ticket = self._request()
        if not ticket.done():
            try:
                async with asyncio.timeout(self._max_wait):
                    await asyncio.shield(asyncio.wrap_future(ticket))
            except TimeoutError:
                self._give_up(ticket)
            except BaseException:
                self._withdraw(ticket)
                raise
        return Slot(self)

    def _request(self) -> "Future[None]":
        self._after_fork()
        ticket: Future[None] = Future()
        with self._lock:
            self._take_returned()
            if not self._free and self._parked:
                self._evict()
            if self._free:
                self._free -= 1
                ticket.set_result(None)
            else:
                self._waiting.append(ticket)
        self._process_returned()
        return ticket

    def _give_up(self, ticket: "Future[None]") -> None:
        """Raise, unless the turn has come in the last moment."""
        if ticket.cancel():
            message = (
                f"{self._capacity} searches are open on this index, and none has ended within {self._max_wait:g} s: "
                "leave each by `with`, or stop() it"
            )
            raise TooManyQueries(message)

    def _withdraw(self, ticket: "Future[None]") -> None:
        if not ticket.cancel():
            self.return_slot()

    def return_slot(self) -> None:
        """Let the next one have it; never waits."""
        self._returned.append(None)
        self._process_returned()

    def _process_returned(self) -> None:
        """Take note of what was given back. Whoever holds the lock meanwhile does so when leaving."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._take_returned()
            finally:
                self._lock.release()

    def _take_returned(self) -> None:
        while self._returned:
            self._returned.popleft()
            self._grant_next()

    def _grant_next(self) -> None:
        while self._waiting:
            ticket = self._waiting.popleft()
            if ticket.set_running_or_notify_cancel():
                ticket.set_result(None)
                return
        self._free += 1

    def park(self, key: str, parked: Parked) -> None:
        """Keep a search open until it is claimed, or its room is needed."""
        self._after_fork()
        with self._lock:
            replaced = self._parked.pop(key, None)
            self._parked[key] = parked
            if self._waiting:  # its room is needed already
                self._evict()
                self._free -= 1
                self._grant_next()
        self._process_returned()
        if replaced is not None:
            self._drop(replaced)

    def claim(self, key: str) -> Parked | None:
        """Take a parked search up; whoever asks first gets it."""
        self._after_fork()
        with self._lock:
            parked = self._parked.pop(key, None)
        self._process_returned()
        return parked

    def _evict(self) -> None:
        """Give the room of the search that was parked first to somebody else."""
        _, oldest = self._parked.popitem(last=False)
        self._orphans.append(oldest.uuid)
        oldest.slot.forfeit()
        self._free += 1

    def _drop(self, parked: Parked) -> None:
        self._orphans.append(parked.uuid)
        parked.slot.release()

    def orphan_parked(self) -> None:
        """Let every parked search be stopped, once nobody can park or claim any more; takes no lock."""
        if self._pid == os.getpid():
            for parked in list(self._parked.values()):
                self._orphans.append(parked.uuid)

    def clear(self) -> None:
        """Let every parked search be stopped; in a forked child they are its parent's to stop."""
        self._after_fork()
        with self._lock:
            parked = list(self._parked.values())
            self._parked.clear()
        for each in parked:
            self._drop(each)


_pools: "weakref.WeakKeyDictionary[Transport, QueryPool]" = weakref.WeakKeyDictionary()
_pools_lock = threading.Lock()


def _renew_lock() -> None:
    global _pools_lock  # noqa: PLW0603 - another thread may have held it when this process was forked
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def pool_of(transport: Transport) -> QueryPool:
    """The budget of a transport, shared by both colours; closing the transport stops what is parked."""
    with _pools_lock:
        pool = _pools.get(transport)
        if pool is None:
            pool = _pools[transport] = QueryPool(transport.orphans)
            transport.closing_hooks.append(pool.clear)
            weakref.finalize(transport, pool.orphan_parked)  # at exit, too
        return pool


async def stop_parked(transport: Transport, key: str) -> None:
    """Stop the query that is parked under a key; do nothing if there is none in this process.

    Args:
        transport: The transport over which the query was opened.
        key: The digest of the cursor with which the search was detached.
    """
    parked = pool_of(transport).claim(key)
    if parked is not None:
        try:
            await AsyncResumableQueryHandle(transport, parked.uuid).__aexit__(None, None, None)
        finally:
            parked.slot.release()
