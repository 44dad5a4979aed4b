"""Searches over connections that lose requests and replies: what came, and what it cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextk import Index, Vector
from nextk.errors import NextKError
from nextk.sessions import RecoveryReport, SearchQuery
from nextk.testing import FaultPlan, ManualClock, RandomFaults
from tests.support.searches import SHAPES, open_session, search_of

KINDS = {"dense": "dense", "hybrid, global": "hybrid", "hybrid, batch": "hybrid-batch"}
"""The kinds of searches, and the names of their shapes."""
PAGES, SIZE = 60, 10


@dataclass(frozen=True)
class LossyRun:
    """One search over a lossy connection.

    Attributes:
        served: The ids that were handed out.
        requests: The number of requests that the search made, those that were lost included.
        error: The type of the error that reached the caller and ended the search; `""` for none.
        recovery: What the search did to go on.
        waited: The seconds by which its clock was advanced, instead of waiting.
    """

    served: list[str]
    requests: int
    error: str
    recovery: RecoveryReport
    waited: float

    @property
    def finished(self) -> bool:
        """Whether all pages came."""
        return len(self.served) == PAGES * SIZE


def records(kind: str, count: int = 1_000) -> list[Vector]:
    """Return the records of an index that is searched.

    Args:
        kind: One of `KINDS`.
        count: The number of records.
    """
    return [SHAPES[KINDS[kind]].record(number) for number in range(count)]


def question(kind: str) -> SearchQuery:
    """Return the query of a kind of search."""
    return SHAPES[KINDS[kind]].question


def undisturbed(index: Index, kind: str) -> list[str]:
    """Return the ids that the pages bring without faults."""
    with open_session(index, question(kind)) as search:
        return [id_ for _ in range(PAGES) for id_ in search.fetch_next(SIZE)]


def losing(seed: int, probability: float, clock: ManualClock) -> RandomFaults:
    """Return a plan by which each request, and each reply to one that arrived, is lost with a probability."""
    return RandomFaults(seed, drop_request=probability, drop_reply=probability, clock=clock)


async def lossy_run(
    index: Index, kind: str, plan: FaultPlan, colour: str = "sync", config: Callable[[ManualClock], Any] = lambda _: {}
) -> LossyRun:
    """Pull the pages of a search, and end it at the first error.

    Args:
        index: The index behind the lossy connection.
        kind: One of `KINDS`.
        plan: The faults, which counts the requests.
        colour: The colour of the session.
        config: Returns further settings of the session for the clock that it waits by.
    """
    clock, before, served, error = ManualClock(), plan.requests, [], ""
    options = {"clock": clock, "sleep": clock.sleep, **config(clock)}
    search = search_of(index, question(kind), colour, **options)
    async with search:
        try:
            for _ in range(PAGES):
                served += await search.fetch_next(SIZE)
        except NextKError as failure:
            error = type(failure).__name__
    return LossyRun(served, plan.requests - before, error, search.report.recovery, clock())
