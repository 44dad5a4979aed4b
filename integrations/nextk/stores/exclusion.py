"""The exclusion of rows that have come: how a search goes on where a store can leave rows out. Private, without I/O.

A request names the ids that have come, so that only new rows are moved, and a request that is made again brings the
same page: a lost reply costs nothing. The names are sent each time, about 40 bytes an id. Above a bound of them the
store is asked for more rows instead (`nextk.stores.growth`), and so is a store that gives rows although they were
excluded.
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from nextk.sessions.source import ScoreKind
from nextk.stores.growth import GENEROUS_K, BestRows, CountRows, Growth, may_be_limit, sorted_rows, with_rank_scores
from nextk.types import QueryResult


@dataclass(frozen=True, slots=True)
class RowsWithout:
    """Ask the store for the best rows without some. The answer is a list of rows, best first.

    Attributes:
        count: The number of rows.
        excluded: The ids of the rows that are left out.
    """

    count: int
    excluded: Sequence[str]


R = TypeVar("R")

Fetching: TypeAlias = Generator[RowsWithout | BestRows | CountRows, Any, R]
"""A generator that yields the requests of one call, is sent the answer of each, and returns the result of the call."""


class Exclusion:
    """The rows of one search, fetched by excluding those that have come.

    Args:
        scores: The meaning of the scores of the rows; `None` if they are no nearness for sure.
        max_excluded: The number of ids that a request names at most.
        seen: The ids of rows that have come already.

    Attributes:
        leg: The number of the leg that the present request belongs to; there is one alone.
    """

    leg = 0

    def __init__(self, scores: ScoreKind | None, max_excluded: int, seen: Collection[str] = ()) -> None:
        self._scores = scores
        self._max_excluded = max_excluded
        self._given = dict.fromkeys(seen)  # in the order in which they came
        self._waiting: list[QueryResult] = []  # that came beyond what was asked for
        self._dropped = 0
        self._growth: Growth | None = None

    @property
    def refetched(self) -> int:
        """The number of rows that were moved although they had come before."""
        return self._dropped + (0 if self._growth is None else self._growth.refetched)

    @property
    def limit(self) -> int | None:
        """The number of rows that the store gives of one search at most; `None` if no such limit is known."""
        return None if self._growth is None else self._growth.limit

    def fetch(self, count: int) -> Fetching[list[QueryResult]]:
        """Fetch the next rows.

        Args:
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows; an empty list at the end.

        Raises:
            Exception: Whatever a request raised. The call has then brought nothing.
        """
        if not self._waiting and self._growth is None:
            yield from self._ask_without(count)
        if not self._waiting and self._growth is not None:
            return (yield from self._growth.fetch(count))
        delivered = len(self._given) - len(self._waiting)
        page, self._waiting = self._waiting[:count], self._waiting[count:]
        return with_rank_scores(page, delivered) if self._scores is ScoreKind.RANKS else page

    def _ask_without(self, count: int) -> Generator[RowsWithout, Sequence[QueryResult], None]:
        """Let the next rows wait, or note that they are to be fetched again from now on."""
        if len(self._given) > self._max_excluded:
            self._growth = Growth(self._scores, self._given)
            return
        answer = yield RowsWithout(count, list(self._given))
        if not answer and count < GENEROUS_K:
            answer = yield from self._ask_for_many(count)
        self._waiting = self._new(answer)
        self._given.update(dict.fromkeys(row.id for row in self._waiting))
        if answer and not self._waiting:  # the store does not exclude, so nothing follows from such an answer
            self._growth = Growth(self._scores, self._given)

    def _ask_for_many(self, count: int) -> Generator[RowsWithout, Sequence[QueryResult], Sequence[QueryResult]]:
        """Ask for many rows, because an index that is searched approximately may give none for few.

        A store that refuses so many is asked for few again, so that a failure is not taken for the end.
        """
        try:
            return (yield RowsWithout(GENEROUS_K, list(self._given)))
        except Exception as error:
            if not may_be_limit(error):
                raise
        return (yield RowsWithout(count, list(self._given)))

    def _new(self, answer: Sequence[QueryResult]) -> list[QueryResult]:
        """Return the rows of an answer that have not come, each once, best first."""
        distinct: dict[str, QueryResult] = {}
        for row in answer:
            if row.id not in self._given:
                distinct.setdefault(row.id, row)
        self._dropped += len(answer) - len(distinct)
        return list(sorted_rows(distinct, self._scores).values())
