"""One call on a search: which of the rows that wait it keeps, and when it has enough.

A call decides all or nothing: until `Search` commits it, every row it has looked at still waits. So an exception in the
middle, a check that fails, a cancelled task, costs no row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nextk.errors import LimitReached
from nextk.retrieval.panel import Panel
from nextk.retrieval.steps import Check, Steps
from nextk.retrieval.terms import MAX_PULL, PAGE, Growth
from nextk.retrieval.trail import Row
from nextk.types import QueryResult
from nextk.until.counting import read_verdicts
from nextk.until.policy import Candidate

T = TypeVar("T")

BARREN = 100
"""How many pages without a single new row end a search that nothing else bounds."""
NO_TEXT = "no_text"
"""The cause of a drop where the retriever finds no text in a row."""


@dataclass(frozen=True)
class Reading(Generic[T]):
    """How a retriever reads a row.

    Attributes:
        convert: Makes a row into what the retriever returns; `None` leaves it out.
        text_of: The text of what it returns.
    """

    convert: Callable[[QueryResult], T | None]
    text_of: Callable[[T], str] = str


class Run(Generic[T]):
    """One call.

    Args:
        rows: Those that wait; rows pulled during the call are added to it by the caller.
        set_aside: How many of them were set aside by an earlier call, the first ones.
        reading: How rows are read.
        panel: Who judges.
        wanted: How many rows to keep; `None` leaves it to the policies.
        most: How many rows to keep at the most; `None` for no bound.
        ahead: How many rows a pull brings at least, wanted or not: what is not wanted now waits.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        set_aside: int,
        reading: Reading[T],
        panel: Panel,
        wanted: int | None,
        most: int | None,
        ahead: int = 0,
    ) -> None:
        self.kept: list[T] = []
        self.kept_by: list[int] = []  # the leg of each
        self.dropped: dict[str, int] = {}  # by cause
        self.aside: list[Row] = []
        self.place = 0  # of the first row that is not decided
        self.pulls = 0
        self.stop_reason: str | None = "max_results" if most is not None and most <= 0 else None
        self.panel = panel
        self._rows = rows
        self._set_aside = set_aside
        self._reading = reading
        self._wanted = wanted
        self._most = most
        self._ahead = ahead
        first = max(panel.lookahead, panel.rows or wanted or PAGE, ahead)
        self._growth = Growth(first if most is None else min(first, most), dropping=wanted is None or bool(panel))
        self._batch = first  # how many rows to check together
        self._barren = 0
        self._looked = not panel.lookahead
        self._read: dict[int, T | None] = {}  # rows that were read ahead, by place
        self._denied: dict[int, str] = {}
        self._checked = 0

    @property
    def done(self) -> bool:
        """Whether nothing more is needed."""
        return self.stop_reason is not None or self._full

    @property
    def _full(self) -> bool:
        return self._wanted is not None and len(self.kept) >= self._wanted

    def next_size(self) -> int:
        """How many rows to pull next."""
        missing = 0 if self._wanted is None else self._wanted - len(self.kept)
        if self._most is not None and not self.panel:
            missing = min(missing, self._most - len(self.kept))
        looking = 0 if self._looked else self.panel.lookahead - len(self._rows)
        return self._growth.size(max(missing, looking, self._ahead))

    def pulled(self, size: int, fresh: int) -> None:
        """Note what a pull brought.

        Raises:
            LimitReached: For very long there has been nothing but rows that were there before.
        """
        self.pulls += 1
        self._growth.short = fresh < size
        self._barren = 0 if fresh else self._barren + 1
        if self._barren == BARREN:
            message = (
                f"{BARREN} pages, one after the other, brought nothing that this search had not had before: "
                "the index repeats itself, or almost everything has been served"
            )
            raise LimitReached(message)

    def looks_further(self) -> bool:
        """Whether more rows have to be there before the first one is judged."""
        return not self._looked and len(self._rows) < self.panel.lookahead

    def examine(self) -> Steps[None]:
        """Decide the rows that wait, one after another, until there is enough or none is left."""
        if not self._looked:
            self._looked = True
            self.panel.look([match.score for match, _ in self._rows[: self.panel.lookahead]])
        while self.place < len(self._rows) and not self.done:
            if self.panel.checks and self.place == self._checked:
                yield from self._check()
            self._decide()
            if self.panel.learners:
                yield from self._teach(pausing=self.place == len(self._rows))
            self._conclude()
        if self.panel.learners:
            yield from self._teach(pausing=True)

    def take_all(self) -> None:
        """The same where nobody judges: the plain case, which is to cost little."""
        convert = self._reading.convert
        while len(self._rows) > self.place and not self.done:
            room = len(self._rows) if self._wanted is None else self._wanted - len(self.kept)
            room = room if self._most is None else min(room, self._most - len(self.kept))
            rows = self._rows[self.place : self.place + room]
            for match, origin in rows:
                item = convert(match)
                if item is None:
                    self._drop(NO_TEXT)
                else:
                    self.kept.append(item)
                    self.kept_by.append(origin.leg)
            self.place += len(rows)
            self._bound()

    def _drop(self, cause: str) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + 1

    def _bound(self) -> None:
        if self.stop_reason is None and self._most is not None and len(self.kept) >= self._most and not self._full:
            self.stop_reason = "max_results"

    def _decide(self) -> None:
        match, origin = row = self._rows[self.place]
        item = self._item(self.place)
        candidate = Candidate(
            match.id,
            match.score,
            item,
            best=origin.best,
            metadata=match.metadata,
            text_of=self._reading.text_of,
            again=self.place < self._set_aside,
        )
        denied = NO_TEXT if item is None else self._denied.get(self.place)
        if (cause := self.panel.cause(candidate, denied)) is not None or item is None:
            self._drop(cause or NO_TEXT)
        elif not self.panel.fits(candidate):
            self.aside.append(row)
        else:
            self.panel.took(candidate)
            self.kept.append(item)
            self.kept_by.append(origin.leg)
        self.place += 1
        self._read.pop(self.place - 1, None)

    def _conclude(self) -> None:
        self.stop_reason = self.panel.reason()
        self._bound()

    def _teach(self, *, pausing: bool) -> Steps[None]:
        """Let those that learn of the rows that were kept ask about them."""
        for judge in self.panel.learners:
            if asked := list(judge.asks_about(pausing=pausing)):
                judge.learn(asked, (yield Check(judge.ask, [candidate.item for candidate in asked])))

    def _item(self, place: int) -> T | None:
        if place not in self._read:
            self._read[place] = self._reading.convert(self._rows[place][0])
        return self._read[place]

    def _check(self) -> Steps[None]:
        """Ask the checks about the next rows together, each about those that the ones before it permitted."""
        self._checked = min(len(self._rows), self.place + self._batch)
        self._batch = max(self._batch, min(2 * self._batch, MAX_PULL))  # as the pulls grow
        places = [place for place in range(self.place, self._checked) if self._item(place) is not None]
        for leaf, judge in self.panel.checks:
            if not places:
                break
            items = [self._read[place] for place in places]
            answer = yield Check(judge.check, list(items))  # its own list: it may do with it what it likes
            said = read_verdicts(answer, len(items))
            self._denied |= {place: leaf.name for place, yes in zip(places, said, strict=True) if not yes}
            places = [place for place, yes in zip(places, said, strict=True) if yes]
