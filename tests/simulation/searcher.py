"""Clients that search: they pull page by page, wait, detach and resume elsewhere, and leave."""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nextk import Index
from nextk.errors import LimitReached, NextKError, QueryNotFound, TooManyQueries, TransportError
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchConfig
from nextk.types import QueryResult
from tests.simulation.choices import Choices
from tests.simulation.clock import Awaited, SimulatedLoop, sleep
from tests.simulation.network import actor
from tests.simulation.plan import SearcherPlan
from tests.simulation.server import Book
from tests.simulation.trace import Trace
from tests.support.searches import COLOURS

PERMITTED = (TransportError, QueryNotFound, TooManyQueries)
"""The errors that a call of a session may raise, after which it is called again. `LimitReached` is permitted as well
if the search has a small `max_recovery`."""
MATCHES = RowReader(lambda match: match)
"""A reader whose results are the matches as they came."""
_PATIENCE = 60  # calls in a row that may fail
_MOST_PAGES = 200  # more than there are rows
_LONGEST_REST = 30.0  # seconds between two of them


@dataclass
class Found:
    """The matches that a client has found.

    Attributes:
        plan: The plan of the client.
        before: The ids that were there before it began, in the namespace that is written to.
        mark: The number of writes before it began.
        sizes: The sizes of its pages.
        pages: The matches on its pages.
        ended: Whether it has seen the end of its search.
        touched: The ids that were written or deleted from its begin to its end.
        changed: Whether its sessions say that the data or the order has changed, or that not all was seen.
    """

    plan: SearcherPlan
    before: set[str]
    mark: int
    sizes: list[int] = field(default_factory=list)
    pages: list[list[QueryResult]] = field(default_factory=list)
    ended: bool = False
    touched: set[str] = field(default_factory=set)
    changed: bool = False

    @property
    def ids(self) -> list[str]:
        """The ids, page by page."""
        return [match.id for page in self.pages for match in page]


class Searcher:
    """A client that searches.

    Args:
        plan: Its plan.
        indexes: The index over each transport.
        loop: The event loop.
        book: The book of the server.
        choices: The choices of the run.
        trace: The trace of the run.
    """

    def __init__(
        self,
        plan: SearcherPlan,
        indexes: list[Index],
        loop: SimulatedLoop,
        book: Book,
        choices: Choices,
        trace: Trace,
    ) -> None:
        self._plan = plan
        self._indexes = indexes
        self._loop = loop
        self._book = book
        self._choices = choices
        self._trace = trace
        self._max_recovery = plan.max_recovery
        self._changed = False
        self._session: Any = None

    async def run(self) -> Found:
        """Search to the end, or leave before it. Returns what was found.

        Raises:
            NextKError: The session has raised an error that is not permitted.
        """
        actor.set(self._plan.name)
        quiet = bool(self._plan.question.namespace)
        found = Found(self._plan, set() if quiet else set(self._book.rows), len(self._book.changes))
        self._open(self._plan.place, self._plan.colour, None)
        try:
            await self._search(found)
        finally:
            await self._end()
        found.changed = self._changed
        found.touched = self._book.touched_since(found.mark)
        return found

    async def _search(self, found: Found) -> None:
        while not found.ended:
            number = len(found.pages)
            dice = self._choices.dice("search", self._plan.name, number)
            size = dice.randint(self._plan.largest if self._plan.steady else 1, self._plan.largest)
            size, page = await self._fetch(size, number)
            found.sizes.append(size)
            found.pages.append(page)
            found.ended = not page
            self._note(f"page {number + 1}, {len(page)} of {size}: {' '.join(match.id for match in page)}", "pages")
            if len(found.pages) > _MOST_PAGES:
                message = f"the search of {self._plan.name} does not end"
                raise NextKError(message)
            if dice.random() < self._plan.leaves:
                return
            expires = dice.random() < self._plan.forgets
            await asyncio.sleep(self._plan.max_idle + 1 if expires else dice.uniform(0, self._plan.thinks))
            await self._perhaps_move(dice)

    async def _fetch(self, size: int, number: int) -> tuple[int, list[QueryResult]]:
        """Return the size of the next page and the page, however often that has to be tried."""
        for attempt in range(_PATIENCE):
            dice = self._choices.dice("fetch", self._plan.name, number, attempt)
            if attempt and self._plan.wavers:
                size = dice.randint(1, self._plan.largest)
            risk = self._plan.gives_up * (1 if number or attempt else 2)  # the start is the worst moment
            ends = dice.uniform(0, 0.5) if dice.random() < risk else None
            try:
                async with asyncio.timeout(ends):
                    page: list[QueryResult] = await self._session.fetch_next(size)
                    return size, page
            except TimeoutError:
                self._note("has given the call up, and makes it again", "calls given up")
                await self._perhaps_move(dice)
            except LimitReached:
                if self._max_recovery is None:
                    raise
                self._note("asks for a larger max_recovery", "limits reached")
                self._max_recovery = None
                await self._move(self._plan.place, self._plan.colour)
            except PERMITTED as error:
                self._note(f"is told: {type(error).__name__}: {error}", "errors told")
                await asyncio.sleep(dice.uniform(1, _LONGEST_REST))
                await self._perhaps_move(dice)
        message = f"{self._plan.name} does not get on"
        raise NextKError(message)

    async def _perhaps_move(self, dice: random.Random) -> None:
        if dice.random() < self._plan.detaches:
            await self._move(dice.randrange(len(self._indexes)), dice.choice(COLOURS))

    async def _move(self, place: int, colour: str) -> None:
        """Detach, and go on by a cursor, perhaps over another transport and in the other colour."""
        self._note(f"detaches, and resumes over transport {place}, {colour}", "resumes")
        session = self._session
        cursor = json.loads(json.dumps(await session.detach()))
        await self._end()
        self._open(place, colour, cursor)

    def _open(self, place: int, colour: str, cursor: Mapping[str, Any] | None) -> None:
        plan, blocks = self._plan, colour == "sync"
        config = SearchConfig(
            max_idle=plan.max_idle,
            max_recovery=self._max_recovery,
            clock=self._loop.time,
            sleep=sleep if blocks else asyncio.sleep,
            chance=self._choices.dice("jitter", plan.name).random,
        )
        index = self._indexes[place]
        if blocks:
            self._session = Awaited(RetrievalSession(index, plan.question, MATCHES, config=config, cursor=cursor))
        else:
            self._session = AsyncRetrievalSession(
                index.to_async(), plan.question, MATCHES, config=config, cursor=cursor
            )

    async def _end(self) -> None:
        await self._session.stop()
        report = self._session.report
        self._changed |= report.changed or report.reordered or not report.complete
        recovery = report.recovery
        self._trace.counts["repeats"] += recovery.repeats
        self._trace.counts["recoveries"] += recovery.replays

    def _note(self, text: str, kind: str = "") -> None:
        self._trace.note(self._loop.time(), self._plan.name, text, kind)
