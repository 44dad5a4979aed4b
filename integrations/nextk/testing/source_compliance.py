"""A test suite for sources: a store that you connect gets it by subclassing it with three short methods.

```python
class TestNotes(SourceCompliance):
    def source(self):
        return NotesSource("notes.db")

    def query(self):
        return SearchQuery(data="why is the sky blue?")

    def expected(self):
        return ["n1", "n2", "n3", "n4"]
```

The suite searches the source by itself and through sessions. It wraps the methods of the source that send requests, so
that it can make each request fail in turn. Every test is written once, as a coroutine; the blocking suite runs it over
searches that never make it wait.
"""

import asyncio
import contextlib
import json
import math
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import Any, cast

from nextk.sessions import AsyncRetrievalSession, Cursor, RetrievalSession
from nextk.sessions.source import AsyncSourceSearch, Continuation, ScoreKind, Source
from nextk.testing.blocking import AwaitableSearch, AwaitableSession, blocking, run_blocking
from nextk.testing.source_faults import LostConnection, SourceRequests, StoreFailure
from nextk.testing.source_suite import IDS, Carry, FetchRows, SourceSuite, config, ids_of_pages, repeating, skip
from nextk.types import QueryResult

_AT_ONCE = 4
_ROUNDING = 1e-6


class AsyncSourceCompliance(SourceSuite):
    """The suite for the asynchronous searches of a source, for a runner that awaits tests, such as pytest-asyncio's."""

    def _search(self, source: Source) -> AsyncSourceSearch:
        return source.asearch()

    async def _query(self, source: Source, count: int) -> list[QueryResult]:
        return list(await source.aquery(self.query(), count))

    async def _at_once(self, coroutines: list[Coroutine[Any, Any, list[list[QueryResult]]]]) -> list[Any]:
        return list(await asyncio.gather(*coroutines))

    def _session(self, source: Source, cursor: Cursor | None = None) -> AsyncRetrievalSession[str]:
        return AsyncRetrievalSession(source, self.query(), IDS, config=config(), cursor=cursor)

    async def test_identity(self) -> None:
        """Two sources over the same rows have the same identity and the same traits."""
        one, other = self.source(), self.source()
        assert isinstance(one.identity, str)
        assert one.identity, "the identity of a source is a text that is not empty"
        assert one.identity == other.identity, "cursors would be refused: the identity differs from one to the next"
        assert one.traits == other.traits

    async def test_rows(self) -> None:
        """Every row has an id, a score that is a number, and a text and metadata if there are any."""
        for page in await self._drain(self._search(self.source()), 3):
            for row in page:
                assert isinstance(row, QueryResult), f"a row has to be a QueryResult, and not {type(row).__name__}"
                assert isinstance(row.id, str), f"the id of a row has to be a text, and not {row.id!r}"
                assert row.id, "the id of a row has to be a text that is not empty"
                assert math.isfinite(row.score), f"the score of row {row.id} is {row.score}"
                assert row.data is None or isinstance(row.data, str), f"the text of row {row.id} is {row.data!r}"
                assert row.metadata is None or isinstance(row.metadata, dict), f"{row.id}: {row.metadata!r}"

    async def test_every_row_once(self) -> None:
        """Pages of any size, one after the other, hold every row once."""
        for size in self._sizes:
            self._check_whole(ids_of_pages(await self._drain(self._search(self.source()), size)))

    async def test_page_sizes(self) -> None:
        """No page has more rows than were asked for."""
        for size in self._sizes:
            for page in await self._drain(self._search(self.source()), size):
                assert len(page) <= size, f"a page has {len(page)} rows, and {size} were asked for"

    async def test_the_end(self) -> None:
        """The first empty page comes after the last row, and every page after it is empty, too."""
        rows = len(self.expected())
        for size in self._sizes:
            search, served = self._search(self.source()), list[str]()
            page = await search.fetch_first(self.query(), size)
            while page and len(served) <= 2 * rows:
                served += [row.id for row in page]
                page = await search.fetch_next(size)
            missing = set(self.expected()) - set(served)
            assert not missing, f"an empty page says that there is no further row, and there are: {sorted(missing)}"
            for further in (size, 1, rows):
                assert not await search.fetch_next(further), "rows came after an empty page"
            await search.stop()

    async def test_order(self) -> None:
        """Where scores measure nearness, the rows of a page come in the order of falling scores."""
        source = self.source()
        if source.traits.scores is not ScoreKind.NEARNESS:
            skip("the scores of this source do not measure nearness")
        pages = [await self._query(source, len(self.expected()))]
        for size in self._sizes:
            pages += await self._drain(self._search(source), size)
        for page in pages:
            scores = [row.score for row in page]
            rising = any(later > earlier + _ROUNDING * max(1, abs(earlier)) for earlier, later in pairwise(scores))
            assert not rising, f"a score is above the one before it: {scores}"

    async def test_stable_order(self) -> None:
        """A source that claims a stable order brings the rows in the same order for every size of the pages."""
        source = self.source()
        if not source.traits.stable_order:
            skip("this source does not claim that its order is stable")
        orders = [ids_of_pages(await self._drain(self._search(source), size)) for size in self._sizes]
        assert all(order == orders[0] for order in orders), f"the order depends on the size of the pages: {orders}"
        queried = [row.id for row in await self._query(source, len(self.expected()))]
        assert queried == orders[0][: len(queried)], f"query() has another order: {queried} and {orders[0]}"

    async def test_query(self) -> None:
        """A request without a search finds rows, each once, and no more than were asked for."""
        source = self.source()
        for count in self._sizes:
            found = [row.id for row in await self._query(source, count)]
            assert found, f"query() found nothing for {count} rows"
            assert len(found) <= count, f"query() found {len(found)} rows, and {count} were asked for"
            assert len(set(found)) == len(found), f"query() found rows twice: {found}"
            assert set(found) <= set(self.expected()), f"query() found rows that are not expected: {found}"

    async def test_two_searches(self) -> None:
        """Searches that take turns, and searches at the same time, do not disturb each other."""
        source = self.source()
        first, second = self._search(source), self._search(source)
        served: tuple[list[str], list[str]] = [], []
        pages = [await first.fetch_first(self.query(), 2), await second.fetch_first(self.query(), 3)]
        while any(pages):
            for ids, page in zip(served, pages, strict=True):
                ids += [row.id for row in page]
                assert len(ids) <= 2 * len(self.expected()), "rows came twice"
            pages = [await first.fetch_next(2), await second.fetch_next(3)]
        for ids, search in zip(served, (first, second), strict=True):
            await search.stop()
            self._check_whole(ids)
        searches = [self._drain(self._search(source), 1 + number) for number in range(_AT_ONCE)]
        for drained in await self._at_once(searches):
            self._check_whole(ids_of_pages(drained))

    async def test_seen(self) -> None:
        """A search that goes on from a cursor leaves out the rows that have been seen, and brings all others."""
        source = self.source()
        if source.traits.continuation is Continuation.NATIVE:
            skip("a source that keeps its searches open may ignore `seen`")
        served = ids_of_pages(await self._drain(self._search(source), 3))
        for size in self._sizes:
            for known in (1, len(served) // 2, len(served)):
                seen = served[:known]
                rest = ids_of_pages(await self._drain(self._search(source), size, seen=seen))
                again = sorted(set(seen) & set(rest))
                assert not again, f"rows came although they were given as seen: {again}"
                self._check_whole(seen + rest)

    async def test_stopping(self) -> None:
        """A search may be stopped at any time and twice, and stopping one does not end another."""
        source = self.source()
        other = self._search(source)
        page = await other.fetch_first(self.query(), 2)
        for pages in range(3):
            search = self._search(source)
            if pages:
                await search.fetch_first(self.query(), 1)
            if pages > 1:
                await search.fetch_next(1)
            await search.stop()
            await search.stop()
        served = [row.id for row in page]
        while (page := await other.fetch_next(2)) and len(served) <= 2 * len(self.expected()):
            served += [row.id for row in page]
        await other.stop()
        self._check_whole(served)

    async def test_failures(self) -> None:
        """A call that raises has brought nothing and skipped nothing, whichever request fails, and is no limit."""
        self._refuse_open_searches()
        for size in (2, 3):
            undisturbed, count = await self._undisturbed(size)
            for nth, error, after in product(range(1, count + 1), (LostConnection, StoreFailure), (False, True)):
                source = self.source()
                search = self._search(source)
                with SourceRequests(nth, after=after, error=error).of(source, self.requests):
                    pages = await self._drain(search, size, carry=repeating)
                self._check_same(undisturbed, pages, search.limit)

    async def test_cancellation(self) -> None:
        """A call that is cancelled has brought nothing and skipped nothing, whichever request it waits for."""
        self._refuse_open_searches()
        undisturbed, count = await self._undisturbed(2)
        for nth, after in product(range(1, count + 1), (False, True)):
            source, hanging = self.source(), SourceRequests(nth, after=after, hang=True)
            search = self._search(source)
            with hanging.of(source, self.requests):
                pages = await self._drain(search, 2, carry=_cancelling(hanging))
            self._check_same(undisturbed, pages, search.limit)

    async def test_sessions(self) -> None:
        """A session over the source hands out every row once, and says in its report how the source goes on."""
        source = self.source()
        for size in self._sizes:
            search = self._session(source)
            served = await self._served(search, size)
            self._check_whole(served)
            assert search.report.exhausted
            assert search.report.continuation is source.traits.continuation

    async def test_failures_in_sessions(self) -> None:
        """A session goes on without a gap and without a repeat after a failure, whichever request it was."""
        _, count = await self._undisturbed(2)
        for nth, error in product(range(1, count + 1), (LostConnection, StoreFailure)):
            source = self.source()
            with SourceRequests(nth, error=error).of(source, self.requests):
                self._check_whole(await self._served(self._session(source), 2))

    async def test_cursors(self) -> None:
        """A cursor, detached or not, goes on with the rows after it, over the same source and over another one."""
        last = len(self.expected()) // 2
        for pages, detached in product(sorted({0, 1, 2, last // 2, last}), (False, True)):
            source = self.source()
            async with self._session(source) as search:
                begun = [id_ for _ in range(pages) for id_ in await search.fetch_next(2)]
                position = await search.detach() if detached else search.cursor()
            cursor: Cursor = json.loads(json.dumps(position))
            for resumed in (source, source, self.source()):
                self._check_whole(begun + await self._served(self._session(resumed, cursor), 2))


def _cancelling(hanging: SourceRequests) -> Carry:
    """Return the way of a caller who cancels a call that hangs, and then calls again."""

    async def carry(fetch: FetchRows) -> list[QueryResult]:
        async def call() -> list[QueryResult]:
            return await fetch()

        task, waiting = asyncio.ensure_future(call()), asyncio.ensure_future(hanging.hanging.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            return await task
        hanging.hanging.clear()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return await fetch()

    return carry


class SourceCompliance(SourceSuite):
    """The suite for the blocking searches of a source, for any test runner. Name the subclass so that it is found."""

    def _search(self, source: Source) -> AsyncSourceSearch:
        return AwaitableSearch(source.search())

    async def _query(self, source: Source, count: int) -> list[QueryResult]:
        return list(source.query(self.query(), count))

    async def _at_once(self, coroutines: list[Coroutine[Any, Any, list[list[QueryResult]]]]) -> list[Any]:
        with ThreadPoolExecutor(len(coroutines)) as threads:
            return list(threads.map(run_blocking, coroutines))

    def _session(self, source: Source, cursor: Cursor | None = None) -> AsyncRetrievalSession[str]:
        session = RetrievalSession(source, self.query(), IDS, config=config(), cursor=cursor)
        return cast("AsyncRetrievalSession[str]", AwaitableSession(session))

    test_identity = blocking(AsyncSourceCompliance.test_identity)
    test_rows = blocking(AsyncSourceCompliance.test_rows)
    test_every_row_once = blocking(AsyncSourceCompliance.test_every_row_once)
    test_page_sizes = blocking(AsyncSourceCompliance.test_page_sizes)
    test_the_end = blocking(AsyncSourceCompliance.test_the_end)
    test_order = blocking(AsyncSourceCompliance.test_order)
    test_stable_order = blocking(AsyncSourceCompliance.test_stable_order)
    test_query = blocking(AsyncSourceCompliance.test_query)
    test_two_searches = blocking(AsyncSourceCompliance.test_two_searches)
    test_seen = blocking(AsyncSourceCompliance.test_seen)
    test_stopping = blocking(AsyncSourceCompliance.test_stopping)
    test_failures = blocking(AsyncSourceCompliance.test_failures)
    test_sessions = blocking(AsyncSourceCompliance.test_sessions)
    test_failures_in_sessions = blocking(AsyncSourceCompliance.test_failures_in_sessions)
    test_cursors = blocking(AsyncSourceCompliance.test_cursors)
