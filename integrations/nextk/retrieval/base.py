"""What the sessions of both colours share: the search, what it holds open, and what it leaves for others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from nextk.errors import ClientError
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.retrieval.budget import Parked, Permit, budget_of
from nextk.retrieval.cursor import Cursor, Position
from nextk.retrieval.question import Question
from nextk.retrieval.report import Report
from nextk.retrieval.run import Reading
from nextk.retrieval.search import Search
from nextk.retrieval.terms import Terms
from nextk.transport import Carrier
from nextk.types import InfoResult

T = TypeVar("T")
Handle = TypeVar("Handle", ResumableQueryHandle, AsyncResumableQueryHandle)


class BaseSession(Generic[T, Handle]):
    """The search, and what it holds open."""

    _handle_type: type[Handle]

    def __init__(
        self,
        carrier: Carrier,
        question: Question,
        reading: Reading[T],
        query: Sequence[str],
        terms: Terms | None,
        cursor: Mapping[str, Any] | None,
    ) -> None:
        self._carrier = carrier
        self._identity = carrier.identity  # asked now: a cursor may be wanted when the index is closed
        self._budget = budget_of(carrier)
        self._terms = terms or Terms()
        position = None
        self._unclaimed: str | None = None  # the search that may be parked where the cursor was made
        if cursor is not None:
            position = Position.read(cursor)
            position.require(self._identity, question)
            self._unclaimed = cursor["digest"]
        self._search = Search(question, reading, query, self._terms, position)
        self._stopped = False
        self._handle: Handle | None = None
        self._permit: Permit | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        state = "exhausted" if self.exhausted else "stopped" if self._stopped else "open"
        return f"<{type(self).__name__} {state}, {self._search.served} served>"

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come, and nothing is left to hand out, but what a policy has set aside."""
        return self._search.exhausted

    @property
    def report(self) -> Report:
        """What the search has done so far."""
        return self._search.report

    def _refuse_stopped(self) -> None:
        if self._stopped:
            message = "this session has been stopped; open a new one, or resume its cursor()"
            raise ClientError(message)

    def _take_up(self) -> None:
        """Leave what is a parent's to it, and take up the query that is still open for our cursor, if there is one."""
        if self._pid != os.getpid():  # forked: pulling from what is open would cost the parent a page
            self._pid = os.getpid()
            self._handle = self._permit = None
            self._search.lose()
        key, self._unclaimed = self._unclaimed, None
        parked = None if key is None else self._budget.claim(key)
        if parked is not None:
            self._search.attach(parked.rows, parked.set_aside)
            self._permit = parked.permit
            self._handle = self._handle_type(self._carrier, parked.uuid)

    def _position(self) -> Cursor:
        return self._search.position(self._identity).write()

    def _park(self) -> Cursor:
        """Leave the query open for whoever comes with the cursor."""
        cursor = self._position()
        handle, permit = self._handle, self._permit
        uuid = handle.surrender() if handle is not None and self._search.portable else None
        if uuid is not None and permit is not None:
            rows, set_aside = self._search.rows
            self._budget.park(cursor["digest"], Parked(uuid, list(rows), set_aside, permit))
            self._handle = self._permit = None
        self._stopped = True
        return cursor

    def _give_back(self) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release()


def fuses(info: InfoResult) -> bool:
    """Whether an index that may choose searches both components, and fuses them."""
    return info.dense_index is not None and info.sparse_index is not None


@contextmanager
def explained() -> Iterator[None]:
    """Say of an exception where it comes from: it is the caller's own, and reaches him as it is."""
    try:
        yield
    except Exception as error:
        error.add_note("raised by a policy's function, which is given a list of rows; the call has decided nothing")
        raise


def refuse_to_fill(blank: Question) -> Question:
    """What fills a question in where the caller has to bring it whole.

    Raises:
        ClientError: Something is missing.
    """
    mode = "" if blank.mode is None else f" for retrieval_mode={blank.mode.value!r}"
    message = f"the question lacks its text, or the vectors{mode}: give them, or embed="
    raise ClientError(message)
