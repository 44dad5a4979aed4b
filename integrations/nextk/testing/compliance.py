"""A test suite for retrieval sessions: an index or an adapter gets it by subclassing it with a few lines.

```python
class TestMine(SessionCompliance):
    @contextlib.contextmanager
    def index(self):
        with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
            index.upsert([Data("a", "The sky is blue."), Data("b", "Grass is green.")])
            yield index

    def open_session(self, index):
        return ResumableRetriever(index=index).open("why is the sky blue?")

    def resume_session(self, index, cursor):
        return ResumableRetriever(index=index).resume(cursor)

    def expected(self):
        return ["a", "b"]
```

The suite wraps the index that it is given, so that it can make requests fail on purpose and see which queries stay
open.
Every test is written once, as a coroutine; the blocking suite runs it over a session that never makes it wait.
"""

import contextlib
import json
import unittest
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, TypeVar, cast

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.sessions import AsyncRetrievalSession, Cursor, RetrievalSession
from nextk.testing.blocking import AwaitableSession, blocking
from nextk.testing.faults import Fault, FaultPlan, PlannedFault, RequestKind
from nextk.testing.transport import faulty

_PAGE_SIZES = (1, 3, 2)  # of the first pages; each later one is as large as the last

Opened = TypeVar("Opened")
Client = TypeVar("Client")
Session = TypeVar("Session")


class _Compliance(Generic[Opened, Client, Session]):
    """The part of both suites that a subclass fills in: the index, the sessions, and the rows to expect.

    Attributes:
        pages_are_one_query: Whether the order of the rows is the same for every size of the pages. Set it to `False`
            for a hybrid index that fuses each page separately.
    """

    pages_are_one_query = True

    def index(self) -> Opened:
        """Return a context manager that opens the index to search, with all rows in it.

        For `AsyncSessionCompliance` it is an asynchronous context manager.
        """
        raise NotImplementedError

    def open_session(self, index: Client) -> Session:
        """Return a new session that searches the given index.

        Args:
            index: A wrapper around the index that `index()` opened.
        """
        raise NotImplementedError

    def resume_session(self, index: Client, cursor: Cursor) -> Session:  # noqa: ARG002
        """Return a session that goes on from a cursor. The test of cursors is skipped unless you override this.

        Args:
            index: A wrapper around the index that `index()` opened.
            cursor: The cursor of a session that `open_session` returned.
        """
        message = "resume_session is not there"
        raise unittest.SkipTest(message)

    def expected(self) -> Collection[str]:
        """Return the ids of all rows that the search finds, in any order. There have to be at least 2."""
        raise NotImplementedError

    def id_of(self, row: Any) -> str:
        """Return the id of a row that the session returned. By default that is the row itself or its attribute `id`.

        Args:
            row: The row.
        """
        return row if isinstance(row, str) else str(row.id)

    def _opened(self) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError

    def _awaitable(self, session: Session) -> AsyncRetrievalSession[Any]:
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _search(self, plan: FaultPlan) -> AsyncIterator[AsyncRetrievalSession[Any]]:
        """Open a session on an index with planned faults. Afterwards no query may be open."""
        async with self._opened() as index:
            yield self._awaitable(self.open_session(faulty(index, plan)))
            _check_closed(plan)

    async def _drain(self, search: AsyncRetrievalSession[Any], pages_before: int = 0) -> list[list[str]]:
        """Return the ids of all pages that a session still has."""
        pages: list[list[str]] = []
        async with search:
            while not search.exhausted:
                pages.append(self._ids(await search.fetch_next(_page_size(pages_before + len(pages)))))
        return pages

    def _ids(self, rows: list[Any]) -> list[str]:
        return [self.id_of(row) for row in rows]

    def _check_whole(self, served: list[str]) -> None:
        assert len(served) == len(set(served)), f"served twice: {sorted({i for i in served if served.count(i) > 1})}"
        assert set(served) == set(self.expected())


def _plan(*planned: PlannedFault) -> FaultPlan:
    return FaultPlan(*planned, delay=0)


def _rows(search: AsyncRetrievalSession[Any]) -> AsyncGenerator[Any]:
    return cast("AsyncGenerator[Any]", aiter(search))


def _check_closed(plan: FaultPlan) -> None:
    left = plan.open - plan.lost
    assert not left, f"left open: {sorted(left)}"


def _stored(cursor: Cursor) -> Cursor:
    """Return a cursor as it comes out of a store that keeps JSON."""
    stored: Cursor = json.loads(json.dumps(cursor))
    assert stored == cursor, "a cursor has to go through JSON unchanged"
    return stored


def _joined(pages: list[list[str]]) -> list[str]:
    return [id_ for page in pages for id_ in page]


def _page_size(number: int) -> int:
    return _PAGE_SIZES[min(number, len(_PAGE_SIZES) - 1)]


class AsyncSessionCompliance(
    _Compliance[AbstractAsyncContextManager[AsyncIndex], AsyncIndex, AsyncRetrievalSession[Any]]
):
    """The suite for `AsyncRetrievalSession`, for a runner that awaits coroutine tests, such as pytest-asyncio's."""

    def _opened(self) -> AbstractAsyncContextManager[AsyncIndex]:
        return self.index()

    def _awaitable(self, session: AsyncRetrievalSession[Any]) -> AsyncRetrievalSession[Any]:
        return session

    async def test_every_row_once(self) -> None:
        """Pages, one after the other, hold every row once."""
        async with self._search(_plan()) as search:
            self._check_whole(_joined(await self._drain(search)))

    async def test_pages_are_one_query(self) -> None:
        """Pages, one after the other, are one long page."""
        async with self._search(_plan()) as search, search:
            whole = self._ids(await search.fetch_next(len(self.expected()) + 1))
        async with self._search(_plan()) as search:
            pages = await self._drain(search)
        self._check_whole(whole)
        assert not self.pages_are_one_query or whole == _joined(pages)

    async def test_the_end_is_an_empty_page(self) -> None:
        """A session is exhausted after its first empty page, and then sends no further request."""
        plan = _plan()
        async with self._search(plan) as search, search:
            self._check_whole(self._ids(await search.fetch_next(len(self.expected()))))
            assert not search.exhausted
            assert not await search.fetch_next(1)
            assert search.exhausted
            requests = plan.count(RequestKind.PAGE)
            assert not await search.fetch_next(1)
            assert requests == plan.count(RequestKind.PAGE)

    async def test_iteration(self) -> None:
        """A loop sees every row once. When it is left early, the query is stopped with the session at the latest."""
        async with self._search(_plan()) as search:
            self._check_whole(self._ids([row async for row in search]))
        async with self._search(_plan()) as search, search, contextlib.aclosing(_rows(search)) as rows:
            await anext(rows)

    async def test_it_is_lazy(self) -> None:
        """A session from which nothing is fetched sends no request."""
        plan = _plan()
        async with self._search(plan) as search, search:
            pass
        assert plan.count(RequestKind.PAGE) == 0

    async def test_stopping(self) -> None:
        """Stopping twice is stopping once, and a stopped session refuses to go on."""
        async with self._search(_plan()) as search:
            await search.fetch_next(1)
            await search.stop()
            await search.stop()
            try:
                await search.fetch_next(1)
            except ClientError:
                return
        message = "a stopped session was pulled from"
        raise AssertionError(message)

    async def test_leaving_by_an_exception(self) -> None:
        """A block that fails ends the query, and its exception is raised on."""
        plan = _plan()
        async with self._search(plan) as search:
            try:
                async with search:
                    await search.fetch_next(1)
                    raise KeyError
            except KeyError:
                _check_closed(plan)
                return
        message = "the exception was swallowed"
        raise AssertionError(message)

    async def test_every_fault_at_every_page(self) -> None:
        """The pages are those of an undisturbed search, whichever fault hits whichever page."""
        quiet = _plan()
        async with self._search(quiet) as search:
            undisturbed = await self._drain(search)
        for fault in Fault:
            for nth in range(1, quiet.count(RequestKind.PAGE) + 1):
                plan = _plan(PlannedFault(fault, RequestKind.PAGE, nth))
                async with self._search(plan) as search:
                    assert undisturbed == await self._drain(search), plan
                assert len(plan.injected) == 1, plan
                disturbing = nth > 1 and fault is not Fault.DELAY
                assert not disturbing or search.report.recovery.faults == 1, plan

    async def test_cursors(self) -> None:
        """The cursor of every page goes on with the rows after it, as often as it is resumed, live or detached."""
        async with self._opened() as index:
            plan = _plan()
            disturbed = faulty(index, plan)
            undisturbed = await self._drain(self._awaitable(self.open_session(disturbed)))
            for nth in range(len(undisturbed)):
                for detached in (False, True):
                    async with self._awaitable(self.open_session(disturbed)) as search:
                        begun = [self._ids(await search.fetch_next(_page_size(number))) for number in range(nth)]
                        cursor = _stored(await search.detach() if detached else search.cursor())
                    for _ in range(2):
                        resumed = self._awaitable(self.resume_session(disturbed, cursor))
                        rest = await self._drain(resumed, nth)
                        assert undisturbed == begun + rest, f"resumed at pull {nth}"
            _check_closed(plan)


class SessionCompliance(_Compliance[AbstractContextManager[Index], Index, RetrievalSession[Any]]):
    """The suite for `RetrievalSession`, for any test runner. Name the subclass so that your test runner finds it."""

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Index]:
        with self.index() as index:
            yield index

    def _awaitable(self, session: RetrievalSession[Any]) -> AsyncRetrievalSession[Any]:
        return cast("AsyncRetrievalSession[Any]", AwaitableSession(session))

    test_every_row_once = blocking(AsyncSessionCompliance.test_every_row_once)
    test_pages_are_one_query = blocking(AsyncSessionCompliance.test_pages_are_one_query)
    test_the_end_is_an_empty_page = blocking(AsyncSessionCompliance.test_the_end_is_an_empty_page)
    test_iteration = blocking(AsyncSessionCompliance.test_iteration)
    test_it_is_lazy = blocking(AsyncSessionCompliance.test_it_is_lazy)
    test_stopping = blocking(AsyncSessionCompliance.test_stopping)
    test_leaving_by_an_exception = blocking(AsyncSessionCompliance.test_leaving_by_an_exception)
    test_every_fault_at_every_page = blocking(AsyncSessionCompliance.test_every_fault_at_every_page)
    test_cursors = blocking(AsyncSessionCompliance.test_cursors)
