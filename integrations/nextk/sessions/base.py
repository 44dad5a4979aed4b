"""The part that blocking and asynchronous sessions share: the search machine, and the open query. Private."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from nextk import operations
from nextk.arguments import elements_of, require_callable, require_kind, written
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError, NextKError, QueryNotFound
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.operations import Operation, Started
from nextk.sessions.config import SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.effects import (
    CanRepeat,
    Effect,
    Embed,
    FetchInfo,
    FetchNext,
    Pause,
    PlainQuery,
    Release,
    StartQuery,
)
from nextk.sessions.evaluation import RowReader
from nextk.sessions.machine import SearchMachine
from nextk.sessions.patience import is_fault
from nextk.sessions.pool import Parked, Slot, pool_of
from nextk.sessions.query import SearchQuery, explaining_models
from nextk.sessions.read_cursor import ReadCursor
from nextk.sessions.report import Report
from nextk.transport.retries import may_have_arrived
from nextk.types import InfoResult, QueryResult
from nextk.until.effects import CallCheck

T = TypeVar("T")
Client = TypeVar("Client", Index, AsyncIndex)
Handle = TypeVar("Handle", ResumableQueryHandle, AsyncResumableQueryHandle)

INFO_ONCE = replace(operations.info(), patient=False)
"""Asks the index about itself after a fault, once: whoever asks may ask again after the next fault."""


@dataclass(slots=True)
class _Starting:
    """A start whose reply has not come.

    Attributes:
        uuid: The uuid that this client has given to the query.
        start: The effect that it carries out.
        query: The query that it starts.
        sent: Whether the index may have received it.
    """

    uuid: str
    start: StartQuery
    query: SearchQuery | None
    sent: bool = False


class BaseSession(Generic[T, Client, Handle]):
    """A search, and the query that it holds open.

    The arguments are documented at `RetrievalSession`.
    """

    _client_type: type[Client]
    _handle_type: type[Handle]

    def __init__(
        self,
        index: Client,
        query: SearchQuery,
        reader: RowReader[T],
        embed: Callable[[SearchQuery], Any] | None,
        texts: Sequence[str],
        config: SearchConfig | None,
        cursor: Mapping[str, Any] | ReadCursor | None,
        without_policies: bool,
    ) -> None:
        self._config = SearchConfig() if config is None else require_kind(config, SearchConfig, "config")
        require_kind(index, self._client_type, "index")
        require_kind(query, SearchQuery, "query")
        require_kind(reader, RowReader, "reader")
        require_kind(without_policies, bool, "without_policies")
        if embed is not None:
            require_callable(embed, "embed")
        self._index: Client = index
        self._transport = index._transport  # noqa: SLF001 - the queries are open on it
        self._identity = self._transport.identity  # read now: a cursor may be wanted when the index is closed
        self._pool = pool_of(self._transport)
        self._embed = embed
        position = None
        self._parked_key: str | None = None  # the cursor's digest, until its parked query has been looked for
        if cursor is not None:
            read = ReadCursor.of(cursor, self._config.cursor_key, without_policies=without_policies)
            position, self._parked_key = read.position, read.digest
            read.require(self._identity, query, self._config.always_on)
            query = position.with_weighting(query)
        self._machine = SearchMachine(query, reader, _text_list(texts), self._config, position)
        self._state = self._machine.state
        self._stopped = False
        self._handle: Handle | None = None
        self._starting: _Starting | None = None  # a start whose reply has not come
        self._orphaned_uuid: str | None = None  # the query that the end of a loop handed to the orphans
        self._slot: Slot | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        state = "exhausted" if self.exhausted else "stopped" if self._stopped else "open"
        return f"<{type(self).__name__} {state}, {self._state.kept} served>"

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come and every match is decided; matches that a policy set aside may be left."""
        return self._state.exhausted

    @property
    def report(self) -> Report:
        """A summary of what the search has done so far."""
        return self._state.report

    def _carry_out(self, effect: Effect) -> Any:
        """Carry out an effect. The answer is a value in a blocking session, an awaitable in an asynchronous one."""
        if not isinstance(effect, Release):
            self._refuse_stopped()
        match effect:
            case StartQuery():
                return self._start_query(effect)
            case FetchNext(count, after_loss):
                return self._fetch_page(count, after_loss=after_loss)
            case PlainQuery(count):
                self._release_slot()  # nothing is open
                return self._index.query(top_k=count, **self._query_parameters())
            case Release():
                return self._end_query()
            case CanRepeat():
                return self._can_repeat()
            case Pause(seconds):
                return self._pause(seconds)
            case _:
                return self._carry_out_beside(effect)

    def _carry_out_beside(self, effect: Embed | FetchInfo | CallCheck) -> Any:
        """Carry out an effect that has nothing to do with the open query."""
        match effect:
            case Embed(template):
                return refuse_incomplete(template) if self._embed is None else self._embed(template)
            case FetchInfo():
                return self._index.info()
            case CallCheck(check, items):
                return self._call_check(check, items)

    def _fetch_page(self, count: int, *, after_loss: bool) -> Any:
        assert self._handle is not None
        if after_loss:
            self._handle.go_on_after_loss()
        return self._handle.fetch_next(count)

    def _start_query(self, start: StartQuery) -> Any:
        raise NotImplementedError

    def _can_repeat(self) -> Any:
        raise NotImplementedError

    def _pause(self, seconds: float) -> Any:
        raise NotImplementedError

    def _end_query(self) -> Any:
        raise NotImplementedError

    def _call_check(self, check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        raise NotImplementedError

    def _start_operation(self, start: StartQuery) -> Operation[Started]:
        """Return the operation that opens the query: once more the one whose reply has not come, if it is still wanted.

        A server that numbers pages finds the query by the uuid that the operation carries.
        """
        starting, query = self._starting, self._state.query
        if starting is not None and (starting.start != start or starting.query is not query):
            self._orphan_start()
        if self._starting is None and (uuid := self._transport.numbering.new_uuid()) is not None:
            self._starting = _Starting(uuid, start, query)
        operation = operations.start(
            top_k=start.count,
            max_idle=self._config.idle_after(start.left_open),
            uuid=None if self._starting is None else self._starting.uuid,
            **self._query_parameters(),
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
            with self._explaining_models():
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

    def _note_info(self, info: InfoResult) -> bool:
        """Take note of what the index says of itself after a fault. Returns whether the request may be repeated."""
        self._state.recovery.info = info
        self._transport.numbering.note_info(numbered=info.numbered_pages)
        return self._is_repeatable()

    def _is_repeatable(self) -> bool:
        """Return whether the start or the page whose reply was lost may be requested again without skipping a page."""
        return self._starting is not None if self._handle is None else self._handle.can_repeat

    def _query_parameters(self) -> dict[str, Any]:
        assert self._state.query is not None
        return self._state.query.parameters()

    def _explaining_models(self) -> AbstractContextManager[None]:
        """Say where a model belongs, if the index refuses the vectors that `embed` has made."""
        query = self._state.query
        return explaining_models(by_vectors=self._embed is not None and query is not None and query.data is None)

    def _refuse_stopped(self) -> None:
        if self._stopped:
            message = "this session has been stopped; open a new one, or resume its cursor()"
            raise ClientError(message)

    def _adopt_parked(self) -> None:
        """Adopt the query that is still open for the cursor of this session, if there is one.

        In a forked child, let go of the parent's query first: pulling from it would cost the parent a page.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._handle = self._slot = self._orphaned_uuid = self._starting = None
            self._state.mark_lost()
        key, self._parked_key = self._parked_key, None
        parked = None if key is None else self._pool.claim(key)
        if parked is not None:
            self._state.adopt(parked.waiting, parked.set_aside)
            self._slot = parked.slot
            self._handle = self._handle_type(self._transport, parked.uuid, parked.page_number, patient=False)

    def _position(self) -> Cursor:
        return self._state.position(self._identity).write(self._config.cursor_key)

    def _park(self) -> Cursor:
        """Stop the session, but leave its query in the pool for the session that resumes the cursor."""
        cursor = self._position()
        handle, slot = self._handle, self._slot
        uuid = handle.detach_uuid() if handle is not None and self._state.is_parkable else None
        if handle is not None and uuid is not None and slot is not None:
            waiting = list(self._state.waiting)
            parked = Parked(uuid, handle.page_number, waiting, self._state.set_aside, slot)
            self._pool.park(cursor["digest"], parked)
            self._handle = self._slot = None
        self._stopped = True
        return cursor

    def _orphan_query(self) -> None:
        """Queue the open query to be stopped by the next request. Never waits, so that a finaliser may call it."""
        handle, self._handle = self._handle, None
        uuid = None if handle is None else handle.detach_uuid()
        if uuid is not None:
            self._orphaned_uuid = uuid
            self._transport.orphans.append(uuid)
        if self._pid == os.getpid():
            self._orphan_start()
        self._release_slot()

    def _reclaim_orphan(self) -> None:
        """Take back the query that was queued by `_orphan_query`, unless a request has stopped it meanwhile."""
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


def _text_list(texts: object) -> list[str]:
    """Return the texts of a query as a list.

    Raises:
        ClientError: It is one text, nothing that can be listed, or holds something else than texts.
    """
    listed = None if isinstance(texts, str) else elements_of(texts)
    if listed is None:
        message = f"texts={written(texts)} has to be a list of texts"
        raise ClientError(message)
    return [require_kind(text, str, f"texts[{position}]") for position, text in enumerate(listed)]


def refuse_incomplete(template: SearchQuery) -> SearchQuery:
    """Refuse a query that lacks its text or vectors, for a session without `embed`.

    Raises:
        ClientError: Always.
    """
    mode = "" if template.mode is None else f" for retrieval_mode={template.mode.value!r}"
    message = f"the question lacks its text, or the vectors{mode}: give them, or embed="
    raise ClientError(message)
