"""Searches over small indexes of every shape. Tests disturb them and compare them with an undisturbed run."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nextk import AsyncIndex, Index, Vector
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.errors import PageUncertain, QueryNotFound
from nextk.sessions import AsyncRetrievalSession, Report, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.testing import ManualClock
from nextk.transport.in_process import InProcessTransport, SharedEngine
from nextk.types import QueryResult, SparseVector
from nextk.until import Policy, PolicyState
from tests.support.transports import Awaitable

DIMENSION = 4
ROWS = 30
SIZES = (3, 1, 4, 2, 5)
"""The sizes of the first pulls of a search."""
DRAIN = 10
"""The size of the pulls that follow, until the search is exhausted."""


def ids(matches: Sequence[QueryResult]) -> list[str]:
    """Return the ids of a page, as a session hands them out."""
    return [match.id for match in matches]


@dataclass(frozen=True)
class Shape:
    """An index and a query.

    Attributes:
        schema: The schema keywords of the index.
        question: The query.
    """

    schema: dict[str, Any]
    question: SearchQuery = field(default_factory=SearchQuery)

    def record(self, number: int, seed: int = 0) -> Vector:
        """Return the record `r<number>`. Another seed gives it other vectors."""
        dice = random.Random(1_000 * seed + number)  # noqa: S311 - no secret depends on it
        dense = [dice.gauss(0, 1) for _ in range(DIMENSION)] if self.schema["type"] != "sparse" else None
        sparse = None
        if self.schema["type"] != "dense":
            sparse = SparseVector(dice.sample(range(1, 6), 3), [dice.uniform(0.1, 1) for _ in range(3)])
        return Vector(f"r{number}", dense, {"number": number}, sparse_vector=sparse)

    def records(self) -> list[Vector]:
        """Return every record that an undisturbed index holds."""
        return [self.record(number) for number in range(ROWS)]


_DENSE = [0.5, -0.2, 0.8, 0.1]
_SPARSE = SparseVector([1, 2, 3, 4], [0.9, 0.4, 0.7, 0.2])

SHAPES = {
    "dense": Shape({"type": "dense", "dimension": DIMENSION}, SearchQuery(vector=_DENSE)),
    "sparse": Shape({"type": "sparse"}, SearchQuery(sparse_vector=_SPARSE)),
    "hybrid": Shape({"type": "hybrid", "dimension": DIMENSION}, SearchQuery(vector=_DENSE, sparse_vector=_SPARSE)),
    "hybrid-batch": Shape(
        {"type": "hybrid", "dimension": DIMENSION, "fusion_order": "batch"},
        SearchQuery(vector=_DENSE, sparse_vector=_SPARSE),
    ),
    "filtered": Shape(
        {"type": "dense", "dimension": DIMENSION}, SearchQuery(vector=_DENSE, filter="number >= 2 AND number < 28")
    ),
}


@dataclass(frozen=True)
class Bench:
    """An index in this process whose clock stands still.

    Attributes:
        shape: Its schema and the query.
        index: Its client.
        engine: Its engine.
        clock: The clock of the engine.
    """

    shape: Shape
    index: Index
    engine: EmbeddedEngine
    clock: ManualClock

    @classmethod
    def build(cls, shape: Shape, **options: Any) -> "Bench":
        """Build an index with the records of its shape. The options are those of the engine."""
        clock = ManualClock()
        engine = open_engine(None, shape.schema, clock=clock, **options)
        assert isinstance(engine, EmbeddedEngine)
        hold = SharedEngine(None, engine)
        index = Index._over(InProcessTransport(hold, lambda: hold))
        index.upsert(shape.records())
        return cls(shape, index, engine, clock)

    def open_queries_after_idling(self) -> int:
        """Return how many queries are open after all of them have been idle for too long."""
        self.clock.pass_max_idle()
        self.engine.sweep()
        return self.engine.open_queries()


@dataclass(frozen=True)
class SearchRun:
    """The pages of ids that a search returned, and its report."""

    pages: list[list[str]]
    report: Report

    @property
    def ids(self) -> list[str]:
        """The pages, one after the other."""
        return [id_ for page in self.pages for id_ in page]


IDS = RowReader(lambda match: match.id)
"""A reader whose results are ids."""


def open_session(index: Index, question: SearchQuery, **options: Any) -> RetrievalSession[str]:
    """Open a session whose results are ids, and which does not wait after a fault unless `sleep` says so.

    The options are those of the session, or those of its configuration.
    """
    return RetrievalSession(index, question, IDS, **_sorted(options))


def open_async_session(index: AsyncIndex, question: SearchQuery, **options: Any) -> AsyncRetrievalSession[str]:
    """Open an asynchronous session whose results are ids, with the options of `open_session`."""
    return AsyncRetrievalSession(index, question, IDS, **_sorted(options))


def _sorted(options: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        name: options.pop(name) for name in ("embed", "texts", "cursor", "without_policies") if name in options
    }
    return {**own, "config": SearchConfig(**{"sleep": ManualClock().sleep, **options})}


def run(
    search: RetrievalSession[str], between: Callable[[int], None] = lambda _number: None, patience: int = 1
) -> SearchRun:
    """Pull pages of `SIZES`, then pages of `DRAIN` until the search is exhausted, and stop it.

    Args:
        search: The search.
        between: A function that is called before every pull with its number, from 0.
        patience: How often a pull is tried before its error is raised.
    """
    pages: list[list[str]] = []
    with search:
        while not search.exhausted:
            between(len(pages))
            size = SIZES[len(pages)] if len(pages) < len(SIZES) else DRAIN
            for attempt in reversed(range(patience)):
                try:
                    pages.append(search.fetch_next(size))
                    break
                except (PageUncertain, QueryNotFound):
                    if not attempt:
                        raise
        return SearchRun(pages, search.report)


async def arun(
    search: AsyncRetrievalSession[str], between: Callable[[int], None] = lambda _number: None, patience: int = 1
) -> SearchRun:
    """Pull from an asynchronous search as `run` does from a blocking one."""
    pages: list[list[str]] = []
    async with search:
        while not search.exhausted:
            between(len(pages))
            size = SIZES[len(pages)] if len(pages) < len(SIZES) else DRAIN
            for attempt in reversed(range(patience)):
                try:
                    pages.append(await search.fetch_next(size))
                    break
                except (PageUncertain, QueryNotFound):
                    if not attempt:
                        raise
        return SearchRun(pages, search.report)


COLOURS = ["sync", "async"]
"""The two colours of a session: blocking and asynchronous."""


def search_of(index: Index, question: SearchQuery, colour: str, **options: Any) -> Any:
    """Open a session of either colour, whose methods are awaited."""
    if colour == "async":
        return open_async_session(index.to_async(), question, **options)
    return Awaitable(open_session(index, question, **options))


async def drained(search: Any, size: int = DRAIN) -> list[str]:
    """Return everything that a search still brings, pulled by pages of a size, and stop it."""
    served: list[str] = []
    async with search:
        while page := await search.fetch_next(size):
            served += page
    return served


@dataclass(frozen=True)
class Some(Policy):
    """A policy that has enough after `n` results, without saying so before the first pull: the other matches wait."""

    n: int

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Return the state for one call."""
        return _Some(self)


class _Some(PolicyState):
    def enough(self) -> bool:
        return bool(self.kept == self.policy.n)
