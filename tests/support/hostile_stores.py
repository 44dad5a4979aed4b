"""Stores that take a query and a number of rows and answer in the ways in which real stores do, and their sources."""

import asyncio
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeAlias

from nextk.sessions import SearchQuery
from nextk.stores import AsyncSourceSearch, ExclusionSource, RefetchSource, Source, SourceSearch, StoreRow
from nextk.types import QueryResult

QUERY = SearchQuery(data="the sky")

Answer: TypeAlias = Callable[[list[StoreRow], int], list[StoreRow]]
"""How a store answers: it is given all of its rows, best first, and the number of rows that are asked for."""


class StoreDown(Exception):
    """The error of a store."""


class StoreRefuses(Exception):
    """The error of a store that gives no such number of rows."""


def in_order(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with the k best rows, as every store should."""
    return rows[:k]


def under_filled(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with fewer rows than were asked for, although there are more."""
    return rows[: k - k // 5]


def over_filled(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with more rows than were asked for."""
    return rows[: k + 7]


def unsorted(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with the k best rows, the worst one first."""
    return rows[:k][::-1]


def repeated(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with every row twice, among the k rows."""
    return [row for row in rows[: (k + 1) // 2] for _ in range(2)][:k]


def other_rows(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with other rows in another order for each k."""
    return random.Random(k).sample(rows, min(k, len(rows)))  # noqa: S311 - no secret


def missing_some(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with the k best rows less those that this k does not find, as an approximate index does."""
    dice = random.Random(k)  # noqa: S311 - no secret
    return [row for row in rows[:k] if k >= 2 * len(rows) or dice.random() < 0.8]


def filtered_afterwards(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with those of the k best rows that pass a filter, which none of the first 50 does."""
    return [row for row in rows[:k] if int(row.id[1:]) >= 50 and int(row.id[1:]) % 3 == 0]


def windowed(rows: list[StoreRow], k: int) -> list[StoreRow]:
    """Answer with 100 rows at most, whatever is asked for."""
    return rows[: min(k, 100)]


ANSWERS: dict[str, Answer] = {
    answer.__name__: answer
    for answer in (
        in_order,
        under_filled,
        over_filled,
        unsorted,
        repeated,
        other_rows,
        missing_some,
        filtered_afterwards,
    )
}
"""The ways to answer in which every row that passes comes if enough are asked for."""


class HostileStore:
    """A store of the rows `r0`, `r1`, ..., the best first, and whatever it was asked.

    Args:
        size: The number of rows.
        answer: The way to answer.
        limit: The number of rows above which it raises `StoreRefuses`; `None` for no limit.
        faults: The requests that raise, counted from 0.
        fault: The class of what they raise.

    Attributes:
        rows: All rows, best first. Tests delete and add rows.
        requests: The number of rows that each request has asked for, those that raised too.
        moved: The number of rows of all answers.
        came: The ids that have come.
    """

    def __init__(
        self,
        size: int,
        answer: Answer = in_order,
        *,
        limit: int | None = None,
        faults: Sequence[int] = (),
        fault: type[Exception] = StoreDown,
    ) -> None:
        self.rows = [self.row(number) for number in range(size)]
        self.requests: list[int] = []
        self.moved = 0
        self.came: set[str] = set()
        self._answer = answer
        self._limit = limit
        self._faults = set(faults)
        self._fault = fault

    @staticmethod
    def row(number: int) -> StoreRow:
        """Make the row of a number: the lower, the better. Each third one has no metadata."""
        metadata = {"number": number} if number % 3 else None
        return StoreRow(f"r{number}", 1 / (number + 1), data=f"text {number}", metadata=metadata)

    def best(self, k: int, excluded: Collection[str] = ()) -> list[StoreRow]:
        """Return about k rows, without some.

        Raises:
            Exception: A fault was planned for this request.
            StoreRefuses: k is above the limit.
        """
        self.requests.append(k)
        if len(self.requests) - 1 in self._faults:
            raise self._fault
        if self._limit is not None and k > self._limit:
            raise StoreRefuses
        answer = self._answer([row for row in self.rows if row.id not in excluded], k)
        self.moved += len(answer)
        self.came.update(row.id for row in answer)
        return answer


class HostileSource(RefetchSource):
    """A source of a hostile store.

    Args:
        store: The store.
        size: The number of rows that it says to hold; `None` if it does not say, and -1 if it raises.
    """

    identity = "hostile"

    def __init__(self, store: HostileStore, size: int | None = None) -> None:
        self.store = store
        self._size = size

    def size(self, query: SearchQuery) -> int | None:
        """Return the number of rows that the store says to hold."""
        if self._size == -1:
            raise StoreDown
        return self._size

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Ask the store."""
        assert query == QUERY
        return list(self.store.best(count))

    async def aquery(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Ask the store without blocking."""
        await asyncio.sleep(0)
        return self.query(query, count)


class ExcludingSource(ExclusionSource):
    """A source of a hostile store that can be asked for rows without some.

    Args:
        store: The store.
        max_excluded: The number of ids that a request names at most.
        obeys: Whether the store leaves the rows out.
    """

    identity = "excluding"

    def __init__(self, store: HostileStore, max_excluded: int = 10_000, *, obeys: bool = True) -> None:
        self.store = store
        self.max_excluded = max_excluded
        self._obeys = obeys

    def query_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> list[StoreRow]:
        """Ask the store."""
        assert query == QUERY
        assert len(set(excluded)) == len(excluded) <= self.max_excluded
        return self.store.best(count, set(excluded) if self._obeys else set())

    async def aquery_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> list[StoreRow]:
        """Ask the store without blocking."""
        await asyncio.sleep(0)
        return self.query_without(query, count, excluded)


class Pages:
    """The pages of a search in either colour, for blocking tests.

    Args:
        source: The source.
        colour: `"blocking"` or `"asynchronous"`.
    """

    def __init__(self, source: Source, colour: str) -> None:
        self.search: SourceSearch | AsyncSourceSearch = source.search() if colour == "blocking" else source.asearch()

    def first(self, count: int, seen: Sequence[str] = ()) -> list[QueryResult]:
        """Fetch the first page."""
        if isinstance(self.search, SourceSearch):
            return self.search.fetch_first(QUERY, count, seen=seen)
        return asyncio.run(self.search.fetch_first(QUERY, count, seen=seen))

    def next(self, count: int) -> list[QueryResult]:
        """Fetch the next page."""
        if isinstance(self.search, SourceSearch):
            return self.search.fetch_next(count)
        return asyncio.run(self.search.fetch_next(count))

    def rest(self, count: int) -> Iterator[list[QueryResult]]:
        """Fetch pages until an empty one."""
        while page := self.next(count):
            yield page

    def everything(self, count: int) -> list[str]:
        """Fetch all pages. Returns the ids of all rows."""
        return [row.id for page in [self.first(count), *self.rest(count)] for row in page]
