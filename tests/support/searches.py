"""Searches over small indexes of every shape, to be disturbed and compared with an undisturbed run."""

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
"""The pulls of a search; afterwards it is drained by `DRAIN`."""
DRAIN = 10


def ids(matches: Sequence[QueryResult]) -> list[str]:
    """The ids of a page, as a session hands them out."""
    return [match.id for match in matches]


@dataclass(frozen=True)
class Shape:
    """An index and a question to it.

    Attributes:
        schema: The keywords of the index.
        question: What is asked.
    """

    schema: dict[str, Any]
    question: SearchQuery = field(default_factory=SearchQuery)

    def record(self, number: int, seed: int = 0) -> Vector:
        """The record `r<number>`; another seed gives it other vectors."""
        dice = random.Random(1_000 * seed + number)  # noqa: S311 - no secret depends on it
        dense = [dice.gauss(0, 1) for _ in range(DIMENSION)] if self.schema["type"] != "sparse" else None
        sparse = None
        if self.schema["type"] != "dense":
            sparse = SparseVector(dice.sample(range(1, 6), 3), [dice.uniform(0.1, 1) for _ in range(3)])
        return Vector(f"r{number}", dense, {"number": number}, sparse_vector=sparse)

    def records(self) -> list[Vector]:
        """Every record that an undisturbed index holds."""
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
        shape: What it is.
        index: Its client.
        engine: The other side.
        clock: That of the engine.
    """

    shape: Shape
    index: Index
    engine: EmbeddedEngine
    clock: ManualClock

    @classmethod
    def build(cls, shape: Shape, **options: Any) -> "Bench":
        """A new index with the records of its shape; the options are the engine's."""
        clock = ManualClock()
        engine = open_engine(None, shape.schema, clock=clock, **options)
        assert isinstance(engine, EmbeddedEngine)
        hold = SharedEngine(None, engine)
        index = Index._over(InProcessTransport(hold, lambda: hold))
        index.upsert(shape.records())
        return cls(shape, index, engine, clock)

    def open_queries_after_idling(self) -> int:
        """How many queries are open once every one has been idle for too long."""
        self.clock.pass_max_idle()
        self.engine.sweep()
        return self.engine.open_queries()


@dataclass(frozen=True)
class SearchRun:
    """What a search brought: pages of ids, and its report."""

    pages: list[list[str]]
    report: Report

    @property
    def ids(self) -> list[str]:
        """The pages, one after the other."""
        return [id_ for page in self.pages for id_ in page]


IDS = RowReader(lambda match: match.id)
"""Rows are ids."""


def open_session(index: Index, question: SearchQuery, **options: Any) -> RetrievalSession[str]:
    """A session whose rows are ids; the options are its own, or those of its terms."""
    return RetrievalSession(index, question, IDS, **_sorted(options))


def open_async_session(index: AsyncIndex, question: SearchQuery, **options: Any) -> AsyncRetrievalSession[str]:
    """The same in the other colour."""
    return AsyncRetrievalSession(index, question, IDS, **_sorted(options))


def _sorted(options: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {name: options.pop(name) for name in ("embed", "texts", "cursor") if name in options}
    return {**own, "config": SearchConfig(**options)}


def run(
    search: RetrievalSession[str], between: Callable[[int], None] = lambda _place: None, patience: int = 1
) -> SearchRun:
    """Pull `SIZES`, then drain, then stop.

    Args:
        search: Pulled from until it is exhausted.
        between: Called before every pull with its place, from 0.
        patience: How often a pull is asked for before its error counts.
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
    search: AsyncRetrievalSession[str], between: Callable[[int], None] = lambda _place: None, patience: int = 1
) -> SearchRun:
    """The same in the other colour."""
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
"""The ids of the two colours of a session."""


def search_of(index: Index, question: SearchQuery, colour: str, **options: Any) -> Any:
    """A session of either colour, whose methods are awaited."""
    if colour == "async":
        return open_async_session(index.to_async(), question, **options)
    return Awaitable(open_session(index, question, **options))


async def drained(search: Any, size: int = DRAIN) -> list[str]:
    """Everything that a search still brings, by pages of a size; it is stopped then."""
    served: list[str] = []
    async with search:
        while page := await search.fetch_next(size):
            served += page
    return served


@dataclass(frozen=True)
class Some(Policy):
    """Keeps some rows of the pages that it pulls, without saying how many it needs: the others wait."""

    n: int

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Begin a call."""
        return _Some(self)


class _Some(PolicyState):
    def enough(self) -> bool:
        return bool(self.kept == self.policy.n)
