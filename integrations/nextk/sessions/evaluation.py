"""One call on a search: which of the rows that wait it keeps, and when it has enough.

A call decides all or nothing: until `SearchMachine` commits it, every row it has looked at still waits. So an exception
in the middle, a check that fails, a cancelled task, costs no row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nextk.errors import LimitReached
from nextk.sessions.config import DEFAULT_PAGE, MAX_PULL, PullGrowth
from nextk.sessions.effects import CallCheck, Effects
from nextk.sessions.policies import PolicySet
from nextk.sessions.recovery import Row
from nextk.types import QueryResult
from nextk.until.counting import read_verdicts
from nextk.until.policy import Candidate

T = TypeVar("T")

MAX_EMPTY_PULLS = 100
"""How many pages without a single new row end a search that nothing else bounds."""
NO_TEXT = "no_text"
"""The cause of a drop where the retriever finds no text in a row."""


@dataclass(frozen=True)
class RowReader(Generic[T]):
    """How a retriever reads a row.

    Attributes:
        convert: Makes a row into what the retriever returns; `None` leaves it out.
        text_of: The text of what it returns.
    """

    convert: Callable[[QueryResult], T | None]
    text_of: Callable[[T], str] = str


class Evaluation(Generic[T]):
    """One call.

    Args:
        rows: Those that wait; rows pulled during the call are added to it by the caller.
        set_aside: How many of them were set aside by an earlier call, the first ones.
        reader: How rows are read.
        policies: Who judges.
        n: How many rows to keep; `None` leaves it to the policies.
        max_rows: How many rows to keep at the most; `None` for no bound.
        prefetch: How many rows a pull brings at least, wanted or not: what is not wanted now waits.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        set_aside: int,
        reader: RowReader[T],
        policies: PolicySet,
        n: int | None,
        max_rows: int | None,
        prefetch: int = 0,
    ) -> None:
        self.kept: list[T] = []
        self.kept_phases: list[int] = []  # the leg of each
        self.dropped: dict[str, int] = {}  # by cause
        self.set_aside_rows: list[Row] = []
        self.position = 0  # of the first row that is not decided
        self.pulls = 0
        self.stop_reason: str | None = "max_results" if max_rows is not None and max_rows <= 0 else None
        self.policies = policies
        self._rows = rows
        self._set_aside = set_aside
        self._reader = reader
        self._n = n
        self._max_rows = max_rows
        self._prefetch = prefetch
        first = max(policies.lookahead, policies.first_pull or n or DEFAULT_PAGE, prefetch)
        self._growth = PullGrowth(
            first if max_rows is None else min(first, max_rows), dropping=n is None or bool(policies)
        )
        self._batch = first  # how many rows to check together
        self._empty_pulls = 0
        self._previewed = not policies.lookahead
        self._read: dict[int, T | None] = {}  # rows that were read ahead, by place
        self._denied: dict[int, str] = {}
        self._checked = 0

    @property
    def done(self) -> bool:
        """Whether nothing more is needed."""
        return self.stop_reason is not None or self._full

    @property
    def _full(self) -> bool:
        return self._n is not None and len(self.kept) >= self._n

    def next_size(self) -> int:
        """How many rows to pull next."""
        missing = 0 if self._n is None else self._n - len(self.kept)
        if self._max_rows is not None and not self.policies:
            missing = min(missing, self._max_rows - len(self.kept))
        looking = 0 if self._previewed else self.policies.lookahead - len(self._rows)
        return self._growth.size(max(missing, looking, self._prefetch))

    def pulled(self, size: int, fresh: int) -> None:
        """Note what a pull brought.

        Raises:
            LimitReached: For very long there has been nothing but rows that were there before.
        """
        self.pulls += 1
        self._growth.short = fresh < size
        self._empty_pulls = 0 if fresh else self._empty_pulls + 1
        if self._empty_pulls == MAX_EMPTY_PULLS:
            message = (
                f"{MAX_EMPTY_PULLS} pages, one after the other, brought nothing that this search had not had before: "
                "the index repeats itself, or almost everything has been served"
            )
            raise LimitReached(message)

    def needs_lookahead(self) -> bool:
        """Whether more rows have to be there before the first one is judged."""
        return not self._previewed and len(self._rows) < self.policies.lookahead

    def examine(self) -> Effects[None]:
        """Decide the rows that wait, one after another, until there is enough or none is left."""
        if not self._previewed:
            self._previewed = True
            self.policies.look_ahead([match.score for match, _ in self._rows[: self.policies.lookahead]])
        while self.position < len(self._rows) and not self.done:
            if self.policies.checks and self.position == self._checked:
                yield from self._check()
            self._decide()
            if self.policies.observers:
                yield from self._observe(flush=self.position == len(self._rows))
            self._check_stop()
        if self.policies.observers:
            yield from self._observe(flush=True)

    def keep_all(self) -> None:
        """The same where nobody judges: the plain case, which is to cost little."""
        convert = self._reader.convert
        while len(self._rows) > self.position and not self.done:
            room = len(self._rows) if self._n is None else self._n - len(self.kept)
            room = room if self._max_rows is None else min(room, self._max_rows - len(self.kept))
            rows = self._rows[self.position : self.position + room]
            for match, provenance in rows:
                item = convert(match)
                if item is None:
                    self._count_drop(NO_TEXT)
                else:
                    self.kept.append(item)
                    self.kept_phases.append(provenance.phase)
            self.position += len(rows)
            self._apply_limit()

    def _count_drop(self, cause: str) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + 1

    def _apply_limit(self) -> None:
        if (
            self.stop_reason is None
            and self._max_rows is not None
            and len(self.kept) >= self._max_rows
            and not self._full
        ):
            self.stop_reason = "max_results"

    def _decide(self) -> None:
        match, provenance = row = self._rows[self.position]
        item = self._item(self.position)
        candidate = Candidate(
            match.id,
            match.score,
            item,
            best_score=provenance.best,
            metadata=match.metadata,
            text_of=self._reader.text_of,
            offered_before=self.position < self._set_aside,
        )
        denied = NO_TEXT if item is None else self._denied.get(self.position)
        if (cause := self.policies.drop_cause(candidate, denied)) is not None or item is None:
            self._count_drop(cause or NO_TEXT)
        elif not self.policies.fits(candidate):
            self.set_aside_rows.append(row)
        else:
            self.policies.add(candidate)
            self.kept.append(item)
            self.kept_phases.append(provenance.phase)
        self.position += 1
        self._read.pop(self.position - 1, None)

    def _check_stop(self) -> None:
        self.stop_reason = self.policies.stop_reason()
        self._apply_limit()

    def _observe(self, *, flush: bool) -> Effects[None]:
        """Let those that learn of the rows that were kept ask about them."""
        for state in self.policies.observers:
            if candidates := list(state.next_batch(flush=flush)):
                state.learn(candidates, (yield CallCheck(state.observe, [candidate.item for candidate in candidates])))

    def _item(self, position: int) -> T | None:
        if position not in self._read:
            self._read[position] = self._reader.convert(self._rows[position][0])
        return self._read[position]

    def _check(self) -> Effects[None]:
        """Ask the checks about the next rows together, each about those that the ones before it permitted."""
        self._checked = min(len(self._rows), self.position + self._batch)
        self._batch = max(self._batch, min(2 * self._batch, MAX_PULL))  # as the pulls grow
        positions = [position for position in range(self.position, self._checked) if self._item(position) is not None]
        for leaf, state in self.policies.checks:
            if not positions:
                break
            items = [self._read[position] for position in positions]
            answer = yield CallCheck(state.check, list(items))  # its own list: it may do with it what it likes
            verdicts = read_verdicts(answer, len(items))
            self._denied |= {
                position: leaf.name for position, verdict in zip(positions, verdicts, strict=True) if not verdict
            }
            positions = [position for position, verdict in zip(positions, verdicts, strict=True) if verdict]
