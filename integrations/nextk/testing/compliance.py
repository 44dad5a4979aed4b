"""What sessions promise, as a suite that an index or an adapter subclasses in a few lines.

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

The suite wraps the index itself, so that it can make things go wrong and see what stays open.
"""

import contextlib
import json
import unittest
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.sessions import AsyncRetrievalSession, Cursor, RetrievalSession
from nextk.testing.faults import Fault, FaultPlan, PlannedFault, RequestKind
from nextk.testing.transport import faulty

_SIZES = (1, 3, 2)  # the first pulls; later ones take as many as the last


class _Compliance:
    """What both colours need to know.

    Attributes:
        pages_are_one_query: Whether the size of a page has no influence on the order; not so where every page of a
            hybrid index is fused by itself.
    """

    pages_are_one_query = True

    def expected(self) -> Collection[str]:
        """The ids of all rows that the search finds, in any order; at least 2."""
        raise NotImplementedError

    def id_of(self, row: Any) -> str:
        """The id of a row of the session: itself, or its attribute."""
        return row if isinstance(row, str) else str(row.id)

    def _ids(self, rows: list[Any]) -> list[str]:
        return [self.id_of(row) for row in rows]

    @staticmethod
    def _plan(*strikes: PlannedFault) -> FaultPlan:
        return FaultPlan(*strikes, delay=0)

    def _check_whole(self, served: list[str]) -> None:
        assert len(served) == len(set(served)), f"served twice: {sorted({i for i in served if served.count(i) > 1})}"
        assert set(served) == set(self.expected())


def _check_closed(plan: FaultPlan) -> None:
    left = plan.open - plan.lost
    assert not left, f"left open: {sorted(left)}"


def _carried(cursor: Cursor) -> Cursor:
    """A cursor, as it comes out of a store that keeps JSON."""
    carried: Cursor = json.loads(json.dumps(cursor))
    assert carried == cursor, "a cursor has to go through JSON unchanged"
    return carried


def _joined(pages: list[list[str]]) -> list[str]:
    return [id_ for page in pages for id_ in page]


def _size(number: int) -> int:
    return _SIZES[min(number, len(_SIZES) - 1)]


class SessionCompliance(_Compliance):
    """The suite for `RetrievalSession`. Name the subclass so that your test runner finds it."""

    def index(self) -> AbstractContextManager[Index]:
        """The index that is searched, filled, inside a `with` block."""
        raise NotImplementedError

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A new session that searches `index`: a wrapper around the one that `index()` gave."""
        raise NotImplementedError

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:  # noqa: ARG002
        """A session that goes on from a cursor; without it, the tests of cursors are skipped."""
        message = "resume_session is not there"
        raise unittest.SkipTest(message)

    @contextlib.contextmanager
    def _search(self, plan: FaultPlan) -> Iterator[RetrievalSession[Any]]:
        with self.index() as index:
            yield self.open_session(faulty(index, plan))
            _check_closed(plan)

    def _drain(self, search: RetrievalSession[Any], before: int = 0) -> list[list[str]]:
        pages: list[list[str]] = []
        with search:
            while not search.exhausted:
                pages.append(self._ids(search.fetch_next(_size(before + len(pages)))))
        return pages

    def test_every_row_once(self) -> None:
        """Pages, one after the other, hold every row once."""
        with self._search(self._plan()) as search:
            self._check_whole(_joined(self._drain(search)))

    def test_pages_are_one_query(self) -> None:
        """Pages, one after the other, are one long page."""
        with self._search(self._plan()) as search, search:
            whole = self._ids(search.fetch_next(len(self.expected()) + 1))
        with self._search(self._plan()) as search:
            pages = self._drain(search)
        self._check_whole(whole)
        assert not self.pages_are_one_query or whole == _joined(pages)

    def test_the_end_is_an_empty_page(self) -> None:
        """A session whose last row has been served is exhausted once it is asked again; then it asks no more."""
        plan = self._plan()
        with self._search(plan) as search, search:
            self._check_whole(self._ids(search.fetch_next(len(self.expected()))))
            assert not search.exhausted
            assert not search.fetch_next(1)
            assert search.exhausted
            requests = plan.count(RequestKind.PAGE)
            assert not search.fetch_next(1)
            assert requests == plan.count(RequestKind.PAGE)

    def test_iteration(self) -> None:
        """A loop sees every row once; when it is left early, the query is stopped."""
        with self._search(self._plan()) as search:
            self._check_whole(self._ids(list(search)))
        with self._search(self._plan()) as search:
            next(row for row in search)

    def test_it_is_lazy(self) -> None:
        """A session that nobody pulls from asks nothing."""
        plan = self._plan()
        with self._search(plan) as search, search:
            pass
        assert plan.count(RequestKind.PAGE) == 0

    def test_stopping(self) -> None:
        """Stopping twice is stopping once, and a stopped session refuses to go on."""
        with self._search(self._plan()) as search:
            search.fetch_next(1)
            search.stop()
            search.stop()
            try:
                search.fetch_next(1)
            except ClientError:
                return
        message = "a stopped session was pulled from"
        raise AssertionError(message)

    def test_leaving_by_an_exception(self) -> None:
        """A failing block ends the query, and its exception comes through."""
        plan = self._plan()
        with self._search(plan) as search:
            try:
                with search:
                    search.fetch_next(1)
                    raise KeyError
            except KeyError:
                _check_closed(plan)
                return
        message = "the exception was swallowed"
        raise AssertionError(message)

    def test_every_fault_at_every_page(self) -> None:
        """Whatever goes wrong, wherever: the pages are those of an undisturbed search."""
        quiet = self._plan()
        with self._search(quiet) as search:
            undisturbed = self._drain(search)
        for fault in Fault:
            for nth in range(1, quiet.count(RequestKind.PAGE) + 1):
                plan = self._plan(PlannedFault(fault, RequestKind.PAGE, nth))
                with self._search(plan) as search:
                    assert undisturbed == self._drain(search), plan
                assert len(plan.injected) == 1, plan
                disturbing = nth > 1 and fault is not Fault.DELAY
                assert not disturbing or search.report.recovered == 1, plan

    def test_cursors(self) -> None:
        """Wherever a search stands, its cursor goes on with the same rows: each time it is resumed, and live."""
        with self.index() as index:
            plan = self._plan()
            disturbed = faulty(index, plan)
            undisturbed = self._drain(self.open_session(disturbed))
            for nth in range(len(undisturbed)):
                for detached in (False, True):
                    with self.open_session(disturbed) as search:
                        begun = [self._ids(search.fetch_next(_size(number))) for number in range(nth)]
                        cursor = _carried(search.detach() if detached else search.cursor())
                    for _ in range(2):
                        rest = self._drain(self.resume_session(disturbed, cursor), nth)
                        assert undisturbed == begun + rest, f"resumed at pull {nth}"
            _check_closed(plan)


class AsyncSessionCompliance(_Compliance):
    """The suite for `AsyncRetrievalSession`: for a runner that awaits coroutine tests, such as pytest-asyncio's."""

    def index(self) -> AbstractAsyncContextManager[AsyncIndex]:
        """The index that is searched, filled, inside an `async with` block."""
        raise NotImplementedError

    def open_session(self, index: AsyncIndex) -> AsyncRetrievalSession[Any]:
        """A new session that searches `index`: a wrapper around the one that `index()` gave."""
        raise NotImplementedError

    def resume_session(self, index: AsyncIndex, cursor: Cursor) -> AsyncRetrievalSession[Any]:  # noqa: ARG002
        """A session that goes on from a cursor; without it, the tests of cursors are skipped."""
        message = "resume_session is not there"
        raise unittest.SkipTest(message)

    @contextlib.asynccontextmanager
    async def _search(self, plan: FaultPlan) -> AsyncIterator[AsyncRetrievalSession[Any]]:
        async with self.index() as index:
            yield self.open_session(faulty(index, plan))
            _check_closed(plan)

    async def _drain(self, search: AsyncRetrievalSession[Any], before: int = 0) -> list[list[str]]:
        pages: list[list[str]] = []
        async with search:
            while not search.exhausted:
                pages.append(self._ids(await search.fetch_next(_size(before + len(pages)))))
        return pages

    async def test_every_row_once(self) -> None:
        """Pages, one after the other, hold every row once."""
        async with self._search(self._plan()) as search:
            self._check_whole(_joined(await self._drain(search)))

    async def test_pages_are_one_query(self) -> None:
        """Pages, one after the other, are one long page."""
        async with self._search(self._plan()) as search, search:
            whole = self._ids(await search.fetch_next(len(self.expected()) + 1))
        async with self._search(self._plan()) as search:
            pages = await self._drain(search)
        self._check_whole(whole)
        assert not self.pages_are_one_query or whole == _joined(pages)

    async def test_the_end_is_an_empty_page(self) -> None:
        """A session whose last row has been served is exhausted once it is asked again; then it asks no more."""
        plan = self._plan()
        async with self._search(plan) as search, search:
            self._check_whole(self._ids(await search.fetch_next(len(self.expected()))))
            assert not search.exhausted
            assert not await search.fetch_next(1)
            assert search.exhausted
            requests = plan.count(RequestKind.PAGE)
            assert not await search.fetch_next(1)
            assert requests == plan.count(RequestKind.PAGE)

    async def test_iteration(self) -> None:
        """A loop sees every row once."""
        async with self._search(self._plan()) as search:
            self._check_whole(self._ids([row async for row in search]))

    async def test_it_is_lazy(self) -> None:
        """A session that nobody pulls from asks nothing."""
        plan = self._plan()
        async with self._search(plan) as search, search:
            pass
        assert plan.count(RequestKind.PAGE) == 0

    async def test_stopping(self) -> None:
        """Stopping twice is stopping once, and a stopped session refuses to go on."""
        async with self._search(self._plan()) as search:
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
        """A failing block ends the query, and its exception comes through."""
        plan = self._plan()
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
        """Whatever goes wrong, wherever: the pages are those of an undisturbed search."""
        quiet = self._plan()
        async with self._search(quiet) as search:
            undisturbed = await self._drain(search)
        for fault in Fault:
            for nth in range(1, quiet.count(RequestKind.PAGE) + 1):
                plan = self._plan(PlannedFault(fault, RequestKind.PAGE, nth))
                async with self._search(plan) as search:
                    assert undisturbed == await self._drain(search), plan
                assert len(plan.injected) == 1, plan
                disturbing = nth > 1 and fault is not Fault.DELAY
                assert not disturbing or search.report.recovered == 1, plan

    async def test_cursors(self) -> None:
        """Wherever a search stands, its cursor goes on with the same rows: each time it is resumed, and live."""
        async with self.index() as index:
            plan = self._plan()
            disturbed = faulty(index, plan)
            undisturbed = await self._drain(self.open_session(disturbed))
            for nth in range(len(undisturbed)):
                for detached in (False, True):
                    async with self.open_session(disturbed) as search:
                        begun = [self._ids(await search.fetch_next(_size(number))) for number in range(nth)]
                        cursor = _carried(await search.detach() if detached else search.cursor())
                    for _ in range(2):
                        rest = await self._drain(self.resume_session(disturbed, cursor), nth)
                        assert undisturbed == begun + rest, f"resumed at pull {nth}"
            _check_closed(plan)
