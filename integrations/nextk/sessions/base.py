"""What the sessions of both colours share: the search, what it holds open, and what it leaves for others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from nextk.errors import ClientError
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.sessions.config import SearchConfig
from nextk.sessions.cursor import Cursor, Position
from nextk.sessions.evaluation import RowReader
from nextk.sessions.machine import SearchMachine
from nextk.sessions.pool import Parked, Slot, pool_of
from nextk.sessions.query import SearchQuery
from nextk.sessions.report import Report
from nextk.transport import Transport
from nextk.types import InfoResult

T = TypeVar("T")
Handle = TypeVar("Handle", ResumableQueryHandle, AsyncResumableQueryHandle)


class BaseSession(Generic[T, Handle]):
    """The search, and what it holds open."""

    _handle_type: type[Handle]

    def __init__(
        self,
        transport: Transport,
        query: SearchQuery,
        reader: RowReader[T],
        texts: Sequence[str],
        config: SearchConfig | None,
        cursor: Mapping[str, Any] | None,
    ) -> None:
        self._transport = transport
        self._identity = transport.identity  # asked now: a cursor may be wanted when the index is closed
        self._pool = pool_of(transport)
        self._config = config or SearchConfig()
        position = None
        self._parked_key: str | None = None  # the search that may be parked where the cursor was made
        if cursor is not None:
            position = Position.read(cursor)
            position.require(self._identity, query)
            self._parked_key = cursor["digest"]
        self._machine = SearchMachine(query, reader, texts, self._config, position)
        self._stopped = False
        self._handle: Handle | None = None
        self._slot: Slot | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        state = "exhausted" if self.exhausted else "stopped" if self._stopped else "open"
        return f"<{type(self).__name__} {state}, {self._machine.served} served>"

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come, and nothing is left to hand out, but what a policy has set aside."""
        return self._machine.exhausted

    @property
    def report(self) -> Report:
        """What the search has done so far."""
        return self._machine.report

    def _refuse_stopped(self) -> None:
        if self._stopped:
            message = "this session has been stopped; open a new one, or resume its cursor()"
            raise ClientError(message)

    def _adopt_parked(self) -> None:
        """Leave what is a parent's to it, and take up the query that is still open for our cursor, if there is one."""
        if self._pid != os.getpid():  # forked: pulling from what is open would cost the parent a page
            self._pid = os.getpid()
            self._handle = self._slot = None
            self._machine.mark_lost()
        key, self._parked_key = self._parked_key, None
        parked = None if key is None else self._pool.claim(key)
        if parked is not None:
            self._machine.adopt(parked.rows, parked.set_aside)
            self._slot = parked.slot
            self._handle = self._handle_type(self._transport, parked.uuid)

    def _position(self) -> Cursor:
        return self._machine.position(self._identity).write()

    def _park(self) -> Cursor:
        """Leave the query open for whoever comes with the cursor."""
        cursor = self._position()
        handle, slot = self._handle, self._slot
        uuid = handle.detach_uuid() if handle is not None and self._machine.is_parkable else None
        if uuid is not None and slot is not None:
            rows, set_aside = self._machine.rows
            self._pool.park(cursor["digest"], Parked(uuid, list(rows), set_aside, slot))
            self._handle = self._slot = None
        self._stopped = True
        return cursor

    def _release_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()


def is_hybrid(info: InfoResult) -> bool:
    """Whether an index that may choose searches both components, and fuses them."""
    return info.dense_index is not None and info.sparse_index is not None


@contextmanager
def note_policy_error() -> Iterator[None]:
    """Say of an exception where it comes from: it is the caller's own, and reaches him as it is."""
    try:
        yield
    except Exception as error:
        error.add_note("raised by a policy's function, which is given a list of rows; the call has decided nothing")
        raise


def refuse_incomplete(template: SearchQuery) -> SearchQuery:
    """What fills a question in where the caller has to bring it whole.

    Raises:
        ClientError: Something is missing.
    """
    mode = "" if template.mode is None else f" for retrieval_mode={template.mode.value!r}"
    message = f"the question lacks its text, or the vectors{mode}: give them, or embed="
    raise ClientError(message)
