"""The suite for sources: a right source passes it, and each wrong one fails the test that names its fault."""

import asyncio
import inspect
import itertools
import unittest
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from nextk.sessions import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, ScoreKind, Source, SourceSearch, SourceTraits
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from nextk.testing.source_faults import LostConnection, SourceRequests, StoreFailure
from nextk.types import QueryResult

QUERY = SearchQuery(data="where is the snow?")
ROWS = [QueryResult(f"r{number}", 1 - number / 10, data=f"Row {number}.", metadata={}) for number in range(7)]
COLOURS = ["blocking", "asynchronous"]


class Paging:
    """The decisions of one search over a list: how many rows to ask for, and which of them make the page."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.query = QUERY

    def begin(self, query: SearchQuery, seen: Collection[str]) -> None:
        """Take note of the query and of the rows that have been seen."""
        self.query, self.known = query, set(seen)

    def wanted(self, count: int) -> int:
        """Return the number of the best rows that hold the next `count` ones."""
        return len(self.known) + count

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Return the next rows, and take note of them."""
        page = [row for row in rows if row.id not in self.known][:count]
        self.known.update(row.id for row in page)
        return page

    def stop(self) -> None:
        """Let go of nothing."""


class Listed(Source):
    """A right source: rows in a list."""

    paging: ClassVar[type[Paging]] = Paging
    traits = SourceTraits(Continuation.REFETCH, stable_order=True)
    identity = "a list of rows"
    rows: Sequence[QueryResult] = ROWS

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Return the first rows."""
        return list(self.rows[:count])

    def new_paging(self) -> Paging:
        """Return the state of a new search."""
        return self.paging()

    def search(self) -> SourceSearch:
        """Return a blocking search."""
        return _Search(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return an asynchronous search."""
        return _AsyncSearch(self)


class _Search(SourceSearch):
    def __init__(self, source: Listed) -> None:
        self.source, self.paging = source, source.new_paging()

    def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        self.paging.begin(query, seen)
        return self.fetch_next(count)

    def fetch_next(self, count: int) -> list[QueryResult]:
        return self.paging.page(self.source.query(self.paging.query, self.paging.wanted(count)), count)

    def stop(self) -> None:
        self.paging.stop()


class _AsyncSearch(AsyncSourceSearch):
    def __init__(self, source: Listed) -> None:
        self.source, self.paging = source, source.new_paging()

    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        self.paging.begin(query, seen)
        return await self.fetch_next(count)

    async def fetch_next(self, count: int) -> list[QueryResult]:
        return self.paging.page(await self.source.aquery(self.paging.query, self.paging.wanted(count)), count)

    async def stop(self) -> None:
        self.paging.stop()


class ListedSuite:
    """The parts of a suite over the list, in either colour."""

    kind: ClassVar[type[Source]] = Listed

    def source(self) -> Source:
        """Return a new source over the same rows."""
        return self.kind()

    def query(self) -> SearchQuery:
        """Return a query that finds all rows."""
        return QUERY

    def expected(self) -> Collection[str]:
        """Return the ids of all rows."""
        return [f"r{number}" for number in range(len(ROWS))]


class TestListed(ListedSuite, SourceCompliance):
    """The blocking suite over a right source."""


class TestAsyncListed(ListedSuite, AsyncSourceCompliance):
    """The asynchronous suite over a right source."""


# ---------------------------------------------------------------------------------------------------------------------
# Wrong sources


class Repeats(Paging):
    """Pages overlap by one row."""

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Return the last row of the page before again."""
        before = [row for row in rows if row.id in self.known][-1:] if count > 1 else []
        new = super().page(rows, count - len(before))
        return before + new if new else []


class Loses(Paging):
    """The row after each page is lost."""

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Take note of one row too many."""
        page = super().page(rows, count)
        self.known.add(f"r{len(self.known)}")
        return page


class EndsEarly(Paging):
    """The store is asked for a fixed number of rows, so that a page is empty once all of them have come."""

    def wanted(self, count: int) -> int:
        """Return twice the page."""
        return 2 * count


class BeginsAgain(Paging):
    """After the end the search begins again."""

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Forget everything at the end."""
        page = super().page(rows, count)
        if not page:
            self.known.clear()
        return page


class Overfills(Paging):
    """Pages have one row more than was asked for."""

    def wanted(self, count: int) -> int:
        """Return one more than is needed."""
        return super().wanted(count + 1)

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Return one row more."""
        return super().page(rows, count + 1)


class Unsorted(Paging):
    """The worst row of a page comes first."""

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Return the page in the other order."""
        return super().page(rows, count)[::-1]


class SkipsAfterFailures(Paging):
    """The position moves before the answer has come."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0

    def begin(self, query: SearchQuery, seen: Collection[str]) -> None:
        """Begin at the row after the last one that was asked for."""
        self.query, self.known = query, self.known | set(seen)

    def wanted(self, count: int) -> int:
        """Move the position, although the answer may never come."""
        wanted = super().wanted(count)
        self.known.update(row.id for row in ROWS[self.position : self.position + count])
        self.position += count
        return wanted

    def page(self, rows: Sequence[QueryResult], count: int) -> list[QueryResult]:
        """Return the rows of the position."""
        return [row for row in ROWS if row in rows][self.position - count : self.position]


class IgnoresSeen(Paging):
    """Rows that have been seen come again."""

    def begin(self, query: SearchQuery, seen: Collection[str]) -> None:
        """Ignore what has been seen."""
        super().begin(query, ())


class StopsOnce(Paging):
    """The second stop of a search raises."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = False

    def stop(self) -> None:
        """Refuse to be stopped again."""
        if self.stopped:
            raise RuntimeError("stopped already")
        self.stopped = True


class Shared(Listed):
    """All searches of the source share their position."""

    def __init__(self) -> None:
        self.shared = Paging()

    def new_paging(self) -> Paging:
        """Return the one state that there is."""
        return self.shared


class Nameless(Listed):
    """Every source has another identity."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.identity = f"source {next(self.numbers)}"


class NumbersForIds(Listed):
    """The ids of rows are numbers."""

    rows = [replace(row, id=number) for number, row in enumerate(ROWS)]  # type: ignore[arg-type]  # noqa: RUF012


class IgnoresCount(Listed):
    """A request without a search finds all rows, whatever is asked for."""

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Return all rows."""
        return list(self.rows)


class TakesFailuresForLimits(Listed):
    """A failure of the store counts as a limit of the store."""

    def search(self) -> SourceSearch:
        """Return a search that ends at a limit after a failure."""
        return _LimitedSearch(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a search that ends at a limit after a failure."""
        return _AsyncLimitedSearch(self)


class _LimitedSearch(_Search):
    def fetch_next(self, count: int) -> list[QueryResult]:
        try:
            return super().fetch_next(count)
        except StoreFailure:
            self.limit = count
            raise


class _AsyncLimitedSearch(_AsyncSearch):
    async def fetch_next(self, count: int) -> list[QueryResult]:
        try:
            return await super().fetch_next(count)
        except StoreFailure:
            self.limit = count
            raise


def paged(kind: type[Paging], **traits: Any) -> type[Listed]:
    """Return a source whose searches page in another way."""
    changed = {"paging": kind, "traits": replace(Listed.traits, **traits)}
    return type(kind.__name__, (Listed,), changed)


WRONG: list[tuple[type[Source], str, str]] = [
    (paged(Repeats), "test_every_row_once", "rows came twice"),
    (paged(Loses), "test_every_row_once", "rows did not come before an empty page"),
    (paged(EndsEarly), "test_the_end", "an empty page says that there is no further row, and there are"),
    (paged(BeginsAgain), "test_the_end", "rows came after an empty page"),
    (paged(Overfills), "test_page_sizes", "a page has 2 rows, and 1 were asked for"),
    (paged(Unsorted), "test_order", "a score is above the one before it"),
    (paged(Unsorted, scores=ScoreKind.RANKS), "test_stable_order", "the order depends on the size of the pages"),
    (paged(SkipsAfterFailures), "test_failures", "rows did not come"),
    (TakesFailuresForLimits, "test_failures", "a failure was taken for a limit of 2 rows"),
    (paged(SkipsAfterFailures), "test_cancellation", "rows did not come"),
    (paged(SkipsAfterFailures), "test_failures_in_sessions", "rows did not come"),
    (paged(IgnoresSeen), "test_seen", "rows came although they were given as seen"),
    (paged(StopsOnce), "test_stopping", "stopped already"),
    (Shared, "test_two_searches", "rows did not come"),
    (Nameless, "test_identity", "the identity differs from one to the next"),
    (NumbersForIds, "test_rows", "the id of a row has to be a text"),
    (IgnoresCount, "test_query", "found 7 rows, and 1 were asked for"),
]
"""Each wrong source, the test that it fails, and what that says."""


def run(colour: str, kind: type[Source], test: str) -> None:
    """Run one test of the suite over a source."""
    base: Any = SourceCompliance if colour == "blocking" else AsyncSourceCompliance
    suite = type("Suite", (ListedSuite, base), {"kind": kind})()
    result = getattr(suite, test)()
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("kind", "test", "said"), WRONG, ids=[f"{kind.__name__}-{test}" for kind, test, _ in WRONG])
def test_wrong_sources(colour: str, kind: type[Source], test: str, said: str) -> None:
    """Each wrong source fails the test that names its fault, and a right one passes it."""
    if test == "test_cancellation" and colour == "blocking":
        assert not hasattr(SourceCompliance, test)
        return
    run(colour, Listed, test)
    with pytest.raises((AssertionError, RuntimeError, TypeError), match=said):
        run(colour, kind, test)


@pytest.mark.parametrize("colour", COLOURS)
def test_what_does_not_apply_is_skipped(colour: str) -> None:
    """Tests of promises that a source does not make are skipped, and say why."""
    ranked = paged(Paging, scores=ScoreKind.RANKS, stable_order=False)
    for test in ("test_order", "test_stable_order"):
        with pytest.raises(unittest.SkipTest, match="this source"):
            run(colour, ranked, test)
    native = paged(Paging, continuation=Continuation.NATIVE)
    for test in ("test_seen", "test_failures"):
        with pytest.raises(unittest.SkipTest, match="search"):
            run(colour, native, test)


class Silent(Listed):
    """A source whose searches do not use its `query`."""

    async def aquery(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Return the first rows."""
        return self.ask(count)

    def ask(self, count: int) -> list[QueryResult]:
        """Return the first rows."""
        return list(self.rows[:count])

    def search(self) -> SourceSearch:
        """Return a search that sends its requests by `ask`."""
        search: Any = _Search(self)
        search.source = _Asking(self)
        return search  # type: ignore[no-any-return]

    def asearch(self) -> AsyncSourceSearch:
        """Return a search that sends its requests by `ask`."""
        search: Any = _AsyncSearch(self)
        search.source = _Asking(self)
        return search  # type: ignore[no-any-return]


class _Asking:
    def __init__(self, source: Silent) -> None:
        self.source = source

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        return self.source.ask(count)

    async def aquery(self, query: SearchQuery, count: int) -> list[QueryResult]:
        return self.source.ask(count)


@pytest.mark.parametrize("colour", COLOURS)
def test_requests_that_nobody_knows(colour: str) -> None:
    """Where no request can be made to fail, the test is skipped and asks for the names of the methods."""
    with pytest.raises(unittest.SkipTest, match="name the methods that send them in `requests`"):
        run(colour, Silent, "test_failures")


def test_the_standard_library_runs_it() -> None:
    """Both suites run under unittest alone."""

    class Blocking(ListedSuite, SourceCompliance, unittest.TestCase):
        pass

    class Asynchronous(ListedSuite, AsyncSourceCompliance, unittest.IsolatedAsyncioTestCase):
        pass

    for suite, tests in ((Blocking, 15), (Asynchronous, 16)):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(suite).run(result)
        assert (tests, [], [], 0) == (result.testsRun, result.errors, result.failures, len(result.skipped))


def test_a_request_is_counted_once() -> None:
    """A method that calls another one sends one request, and afterwards the source is as it was."""
    source, counted = Listed(), SourceRequests(2)
    with counted.of(source, ("query", "aquery", "elsewhere")):
        assert asyncio.run(source.aquery(QUERY, 1)) == ROWS[:1]
        with pytest.raises(LostConnection):
            source.query(QUERY, 1)
        assert source.query(QUERY, 1) == ROWS[:1]
    source.query(QUERY, 1)
    assert counted.count == 3
    assert "aquery" not in vars(Listed)
