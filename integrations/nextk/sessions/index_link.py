"""The links of a session to an `Index`: its open query, the slot in the pool, and a start to be repeated. Private.

See `nextk.sessions.link` for the interface.
"""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from nextk import operations
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import NextKError, QueryNotFound
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.operations import Operation, Started
from nextk.sessions.link import AsyncLink, BaseLink, Link, Undecided
from nextk.sessions.patience import is_fault
from nextk.sessions.pool import Parked, Slot, pool_of
from nextk.sessions.query import SearchQuery
from nextk.sessions.source import Continuation, SourceTraits
from nextk.transport.retries import may_have_arrived
from nextk.types import InfoResult, QueryResult

log = logging.getLogger("nextk.sessions")

Client = TypeVar("Client", Index, AsyncIndex)
Handle = TypeVar("Handle", ResumableQueryHandle, AsyncResumableQueryHandle)

INFO_ONCE = replace(operations.info(), patient=False)
"""Asks the index about itself after a fault, once: whoever asks may ask again after the next fault."""
INDEX_TRAITS = SourceTraits(Continuation.NATIVE, scores=None, stable_order=None, filters=True, modes=True, exact=True)
"""The traits of every index. The meaning of its scores and its order depend on its kind and on the mode."""


@dataclass(slots=True)
class _Starting:
    """A start whose reply has not come.

    Attributes:
        uuid: The uuid that this client has given to the query.
        query: The query that it starts.
        count: The number of matches of its first page.
        max_idle: The seconds after which the index may drop it.
        sent: Whether the index may have received it.
    """

    uuid: str
    query: SearchQuery
    count: int
    max_idle: int
    sent: bool = False

    def is_of(self, query: SearchQuery, count: int, max_idle: int) -> bool:
        """Return whether a start is this one, so that it may be made once more."""
        return self.query is query and (self.count, self.max_idle) == (count, max_idle)


class _BaseIndexLink(BaseLink, Generic[Client, Handle]):
    """The part of both colours that does no I/O."""

    _handle_type: type[Handle]
    filter_field = "filter"
    traits = INDEX_TRAITS

    def __init__(self, index: Client) -> None:
        self._index: Client = index
        self._transport = index._transport  # noqa: SLF001 - the queries are open on it
        self.identity = self._transport.identity  # read now: a cursor may be wanted when the index is closed
        self._pool = pool_of(self._transport)
        self._info: InfoResult | None = None  # what the index has said of itself after a fault
        self._handle: Handle | None = None
        self._starting: _Starting | None = None  # a start whose reply has not come
        self._orphaned_uuid: str | None = None  # the query that the end of a loop handed to the orphans
        self._slot: Slot | None = None
        self._pid = os.getpid()

    def go_on_after_loss(self) -> None:
        assert self._handle is not None
        self._handle.go_on_after_loss()

    def _start_operation(self, query: SearchQuery, count: int, max_idle: int) -> Operation[Started]:
        """Return the operation that opens the query: once more the one whose reply has not come, if it is still wanted.

        A server that numbers pages finds the query by the uuid that the operation carries.
        """
        if self._starting is not None and not self._starting.is_of(query, count, max_idle):
            self._orphan_start()
        if self._starting is None and (uuid := self._transport.numbering.new_uuid()) is not None:
            self._starting = _Starting(uuid, query, count, max_idle)
        operation = operations.start(
            top_k=count,
            max_idle=max_idle,
            uuid=None if self._starting is None else self._starting.uuid,
            **query.parameters(),
        )
        return replace(operation, patient=False)

    @contextmanager
    def _starting_query(self) -> Iterator[None]:
        """Keep the uuid of a start only if it failed by a fault, after which it is repeated."""
        starting = self._starting
        sent_before = starting is not None and starting.sent
        if starting is not None:
            starting.sent = True
        try:
            yield
        except NextKError as error:
            if starting is not None:
                starting.sent = sent_before or may_have_arrived(error)
            if isinstance(error, QueryNotFound):  # the query was opened, and has been stopped
                self._starting = None
            elif not is_fault(error):  # this start has opened nothing; one before it may have
                self._orphan_start()
            raise
        except BaseException:  # an interrupt: the query is stopped by the next request, if there is one
            self._orphan_start()
            raise

    def _opened(self, started: Started) -> tuple[list[QueryResult], Handle]:
        """Return the first page of the query that a start has opened, and its handle."""
        uuid, page = started
        handle = self._handle_type(self._transport, uuid, patient=False)
        self._starting = None
        return page, handle

    def _orphan_start(self) -> None:
        """Have the query stopped that a start may have opened whose reply has not come."""
        starting, self._starting = self._starting, None
        if starting is not None and starting.sent:
            self._transport.orphans.append(starting.uuid)

    def _note_info(self, info: InfoResult) -> None:
        """Take note of what the index says of itself after a fault."""
        self._info = info
        self._transport.numbering.note_info(numbered=info.numbered_pages)

    def _is_repeatable(self) -> bool:
        """Return whether the start or the page whose reply was lost may be requested again without skipping a page."""
        return self._starting is not None if self._handle is None else self._handle.can_repeat

    def forget(self) -> None:
        self._pid = os.getpid()
        self._handle = self._slot = self._orphaned_uuid = self._starting = None

    def park(self, key: str, undecided: Undecided) -> None:
        handle, slot = self._handle, self._slot
        uuid = None if handle is None else handle.detach_uuid()
        if handle is not None and uuid is not None and slot is not None:
            waiting = list(undecided.waiting)
            self._pool.park(key, Parked(uuid, handle.page_number, waiting, undecided.set_aside, slot))
            self._handle = self._slot = None

    def adopt(self, key: str) -> Undecided | None:
        parked = self._pool.claim(key)
        if parked is None:
            return None
        self._slot = parked.slot
        self._handle = self._handle_type(self._transport, parked.uuid, parked.page_number, patient=False)
        return Undecided(parked.waiting, parked.set_aside)

    def orphan(self) -> None:
        handle, self._handle = self._handle, None
        uuid = None if handle is None else handle.detach_uuid()
        if uuid is not None:
            self._orphaned_uuid = uuid
            self._transport.orphans.append(uuid)
        if self._pid == os.getpid():
            self._orphan_start()
        self._release_slot()

    def reclaim(self) -> None:
        uuid, self._orphaned_uuid = self._orphaned_uuid, None
        if uuid is None:
            return
        try:
            self._transport.orphans.remove(uuid)
        except ValueError:  # a request has stopped it
            return
        self._handle = self._handle_type(self._transport, uuid)

    def _release_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()


class IndexLink(_BaseIndexLink[Index, ResumableQueryHandle], Link):
    """The link of a blocking session to an `Index`."""

    _handle_type = ResumableQueryHandle

    def prepare(self) -> None:
        self.end()
        self._slot = self._slot or self._pool.acquire()

    def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str],  # noqa: ARG002 - the pulls are repeated, and the index gives the same rows again
        max_idle: int,
    ) -> list[QueryResult]:
        operation = self._start_operation(query, count, max_idle)
        with self._starting_query():
            page, self._handle = self._opened(self._transport.send(operation))
        return page

    def fetch_next(self, count: int) -> list[QueryResult]:
        assert self._handle is not None
        return self._handle.fetch_next(count)

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        self._release_slot()  # nothing is open
        return self._index.query(top_k=count, **query.parameters())

    def fetch_info(self) -> InfoResult:
        return self._info or self._index.info()

    def can_repeat(self) -> bool:
        if self._transport.numbering.said is None:
            try:
                self._note_info(self._transport.send(INFO_ONCE))
            except NextKError as error:
                log.info("the index does not say whether it numbers pages: %s", error)
        return self._is_repeatable()

    def end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.__exit__(None, None, None)

    def stop(self) -> None:
        try:
            self.end()
        finally:
            self._orphan_start()
            self._release_slot()


class AsyncIndexLink(_BaseIndexLink[AsyncIndex, AsyncResumableQueryHandle], AsyncLink):
    """The link of an asynchronous session to an `AsyncIndex`."""

    _handle_type = AsyncResumableQueryHandle

    async def prepare(self) -> None:
        await self.end()
        self._slot = self._slot or await self._pool.aacquire()

    async def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str],  # noqa: ARG002 - the pulls are repeated, and the index gives the same rows again
        max_idle: int,
    ) -> list[QueryResult]:
        operation = self._start_operation(query, count, max_idle)
        with self._starting_query():
            page, self._handle = self._opened(await self._transport.asend(operation))
        return page

    async def fetch_next(self, count: int) -> list[QueryResult]:
        assert self._handle is not None
        return await self._handle.fetch_next(count)

    async def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        self._release_slot()  # nothing is open
        return await self._index.query(top_k=count, **query.parameters())

    async def fetch_info(self) -> InfoResult:
        return self._info or await self._index.info()

    async def can_repeat(self) -> bool:
        if self._transport.numbering.said is None:
            try:
                self._note_info(await self._transport.asend(INFO_ONCE))
            except NextKError as error:
                log.info("the index does not say whether it numbers pages: %s", error)
        return self._is_repeatable()

    async def end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            await handle.__aexit__(None, None, None)

    async def stop(self) -> None:
        try:
            await self.end()
        finally:
            self._orphan_start()
            self._release_slot()
