"""The pool of open queries: how many one process keeps open on an index, and which of them are parked. Private.

An index allows about a hundred open queries to all its users together. A session holds a slot of the pool from its
first pull to its end. A session that is detached parks its query, with its slot, until a session adopts the query or
the slot is needed.
"""

import asyncio
import os
import threading
import weakref
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass

from nextk.errors import TooManyQueries
from nextk.handle import AsyncResumableQueryHandle
from nextk.sessions.pulls import PulledMatch
from nextk.transport import Transport
from nextk.transport.orphans import orphan_at_exit

MAX_OPEN = 32
"""The number of queries that one process keeps open on one transport."""
MAX_WAIT = 5.0
"""The seconds to wait for one of them to end."""


class Slot:
    """A slot in the pool: its holder may keep one query open.

    It is released by `release()`, or when it is garbage-collected.
    """

    def __init__(self, pool: "QueryPool") -> None:
        self._pool: QueryPool | None = pool
        self._pid = os.getpid()

    def release(self) -> None:
        """Return the slot to the pool. A second call does nothing. It never waits, so that a finaliser may call it."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.return_slot()

    def forfeit(self) -> None:
        """Give the slot up without returning it: the pool has given it to another session."""
        self._pool = None

    __del__ = release


@dataclass(slots=True)
class Parked:
    """The open query of a detached session.

    Attributes:
        uuid: The uuid of the query.
        page_number: The number of its last page.
        waiting: The matches that were pulled and are not decided.
        set_aside: The number of them that were set aside, the first ones.
        slot: The slot of the pool that the query holds.
    """

    uuid: str
    page_number: int
    waiting: list[PulledMatch]
    set_aside: int
    slot: Slot


class QueryPool:
    """The queries that are open on one transport.

    Args:
        orphans: The queue of uuids that the next request stops. Parked queries that have to end are appended to it.
        capacity: The number of queries that may be open, the parked ones included; default 32.
        max_wait: The seconds to wait for a slot; default 5.
    """

    def __init__(self, orphans: deque[str], capacity: int = MAX_OPEN, max_wait: float = MAX_WAIT) -> None:
        self._returned: deque[None] = deque()  # one for each slot that came back and is not processed yet
        self._orphans = orphans
        self._capacity = capacity
        self._max_wait = max_wait
        self._reset()

    def _after_fork(self) -> None:
        """Forget everything in a forked child: the open queries belong to its parent."""
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
        """Take a slot, and wait for one if all are taken.

        Raises:
            TooManyQueries: No slot has come back within `max_wait` seconds.
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
        """Take a slot, and wait for one if all are taken, without blocking the event loop.

        Raises:
            TooManyQueries: No slot has come back within `max_wait` seconds.
        """
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
        """Raise `TooManyQueries`, unless the ticket got a slot in the last moment."""
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
        """Return a slot, for the session that waits longest. Never waits."""
        self._returned.append(None)
        self._process_returned()

    def _process_returned(self) -> None:
        """Grant the slots that came back, unless a thread holds the lock, which does so itself when it leaves."""
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
        """Keep a query open until it is claimed, or its slot is needed.

        Args:
            key: The digest of the cursor.
            parked: The query.
        """
        self._after_fork()
        with self._lock:
            replaced = self._parked.pop(key, None)
            self._parked[key] = parked
            if self._waiting:  # its slot is needed already
                self._evict()
                self._free -= 1
                self._grant_next()
        self._process_returned()
        if replaced is not None:
            self._drop(replaced)

    def claim(self, key: str) -> Parked | None:
        """Take the query that is parked for a cursor, or `None`. Only the first caller gets it.

        Args:
            key: The digest of the cursor.
        """
        self._after_fork()
        with self._lock:
            parked = self._parked.pop(key, None)
        self._process_returned()
        return parked

    def _evict(self) -> None:
        """Free the slot of the query that was parked first, and have the query stopped."""
        _, oldest = self._parked.popitem(last=False)
        self._orphans.append(oldest.uuid)
        oldest.slot.forfeit()
        self._free += 1

    def _drop(self, parked: Parked) -> None:
        self._orphans.append(parked.uuid)
        parked.slot.release()

    def orphan_parked(self) -> None:
        """Have every parked query stopped, when no session can park or claim any more. It takes no lock."""
        if self._pid == os.getpid():
            for parked in list(self._parked.values()):
                self._orphans.append(parked.uuid)

    def clear(self) -> None:
        """Have every parked query stopped. In a forked child this does nothing: they belong to the parent."""
        self._after_fork()
        with self._lock:
            parked = list(self._parked.values())
            self._parked.clear()
        for query in parked:
            self._drop(query)


_pools: "weakref.WeakKeyDictionary[Transport, QueryPool]" = weakref.WeakKeyDictionary()
_pools_lock = threading.Lock()


def _renew_lock() -> None:
    global _pools_lock  # noqa: PLW0603 - another thread may have held it when this process was forked
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def pool_of(transport: Transport) -> QueryPool:
    """Return the pool of a transport, which blocking and asynchronous sessions share.

    Closing the transport stops the parked queries.
    """
    with _pools_lock:
        pool = _pools.get(transport)
        if pool is None:
            pool = _pools[transport] = QueryPool(transport.orphans)
            transport.closing_hooks.append(pool.clear)
            weakref.finalize(transport, pool.orphan_parked).atexit = False  # that may be after the orphans are stopped
            orphan_at_exit(pool.orphan_parked)
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
