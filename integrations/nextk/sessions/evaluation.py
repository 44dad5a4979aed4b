"""The evaluation of policies during one call: which of the waiting matches it keeps, and when it has enough. Private.

A call decides all or nothing: until `SearchMachine` commits it, every match that it has looked at still waits. So an
exception in the middle, a check that fails or a cancelled task costs no match.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nextk.arguments import require_callable
from nextk.errors import LimitReached
from nextk.sessions.config import DEFAULT_PAGE, MAX_PULL, PullGrowth
from nextk.sessions.effects import CallCheck, Effects
from nextk.sessions.policies import PolicySet
from nextk.sessions.pulls import PulledMatch
from nextk.types import QueryResult
from nextk.until.counting import read_verdicts, refuse_check_of_one
from nextk.until.policy import Candidate

T = TypeVar("T")

log = logging.getLogger("nextk.sessions")

MAX_EMPTY_PULLS = 100
"""The number of pages in a row without a single new match, after which a search without limits is ended."""
NO_TEXT = "no_text"
"""The cause of a drop if the retriever finds no text in a match."""


@dataclass(frozen=True)
class RowReader(Generic[T]):
    """The conversion of matches into the results of a retriever: LangChain `Document`s, LlamaIndex nodes.

    Attributes:
        convert: A function that makes a result of a match; if it returns `None`, the match is dropped.
        text_of: A function that returns the text of a result; default `str`.
        text_keys: The metadata keys in which `convert` looks for the text of a match, for the warning about matches
            without text; `None` where leaving out a match needs no warning.

    Raises:
        ClientError: One of the functions cannot be called.
    """

    convert: Callable[[QueryResult], T | None]
    text_of: Callable[[T], str] = str
    text_keys: Sequence[str] | None = ()

    def __post_init__(self) -> None:
        require_callable(self.convert, "convert")
        require_callable(self.text_of, "text_of")

    def read(self, matches: Sequence[QueryResult]) -> list[T]:
        """Convert all matches of one call, in order; those that hold no text are left out with one warning.

        Args:
            matches: The matches, with their metadata and data.
        """
        items = [item for match in matches if (item := self.convert(match)) is not None]
        if len(items) < len(matches):
            self.warn_left_out(len(matches) - len(items), len(matches))
        return items

    def warn_left_out(self, left_out: int, total: int) -> None:
        """Warn that `left_out` of the `total` matches of one call hold no text."""
        if self.text_keys is not None:
            where = ", ".join(map(repr, self.text_keys)) or "no key"
            message = "%d of %d rows hold no text, neither as data nor in metadata under %s: they are left out"
            log.warning(message, left_out, total, where)


class Evaluation(Generic[T]):
    """The decisions of one call.

    Args:
        waiting: The matches that wait. The machine appends those that are pulled during the call.
        offered_before: The number of them that an earlier call has set aside, the first ones.
        reader: The conversion of matches into results.
        policies: The policies that decide.
        n: The number of results to keep; `None` leaves it to the policies.
        max_results: The number of results to keep at most; `None` for no limit.
        prefetch: The number of matches that each pull brings at least; those that are not needed yet wait.

    Attributes:
        kept: The results.
        kept_phases: The number of the phase that each result comes from.
        dropped: The number of matches that were dropped, by cause.
        set_aside: The matches that were set aside for the next call.
        position: The index of the first match that is not decided.
        pulls: The number of pulls during the call.
        pulled: The number of matches with a new id that these pulls brought.
        stop_reason: The name of the policy or limit that ended the call.
        ended_by: The name of the limit, if it was one and not a policy of that name.
        policies: The policies that decide.
    """

    def __init__(
        self,
        waiting: Sequence[PulledMatch],
        offered_before: int,
        reader: RowReader[T],
        policies: PolicySet,
        n: int | None,
        max_results: int | None,
        prefetch: int = 0,
    ) -> None:
        self.kept: list[T] = []
        self.kept_phases: list[int] = []
        self.dropped: dict[str, int] = {}
        self.set_aside: list[PulledMatch] = []
        self.position = 0
        self.pulls = 0
        self.pulled = 0
        self.stop_reason: str | None = None
        self.ended_by: str | None = None
        self.policies = policies
        self._waiting = waiting
        self._offered_before = offered_before
        self._reader = reader
        self._n = n
        self._max_results = max_results
        self._prefetch = prefetch
        first = max(policies.lookahead, policies.first_pull or n or DEFAULT_PAGE, prefetch)
        self._growth = PullGrowth(
            first if max_results is None else min(first, max_results), dropping=n is None or bool(policies)
        )
        self._batch = first  # the number of matches to check together
        self._empty_pulls = 0
        self._previewed = not policies.lookahead
        self._items: dict[int, T | None] = {}  # the results of matches that were converted ahead, by position
        self._denied: dict[int, str] = {}  # the check that denied a match, by position
        self._checked = 0  # the position up to which matches were checked
        self._apply_limit()

    @property
    def done(self) -> bool:
        """Whether no further match is needed."""
        return self.stop_reason is not None or self._full

    @property
    def _full(self) -> bool:
        return self._n is not None and len(self.kept) >= self._n

    def next_count(self) -> int:
        """Return the number of matches to request with the next pull."""
        wanted = self.policies.first_pull if self._n is None else self._n
        if self._max_results is not None and (self._n is None or not self.policies):
            wanted = min(wanted, self._max_results)
        missing = max(0, wanted - len(self.kept))
        lookahead = 0 if self._previewed else self.policies.lookahead - len(self._waiting)
        return self._growth.next_count(max(missing, lookahead, self._prefetch))

    def note_pull(self, count: int, queued: int) -> None:
        """Note a pull.

        Args:
            count: The number of matches that it requested.
            queued: The number of matches with a new id that came.

        Raises:
            LimitReached: A hundred pages in a row brought no match with a new id.
        """
        self.pulls += 1
        self.pulled += queued
        self._growth.short = queued < count
        self._empty_pulls = 0 if queued else self._empty_pulls + 1
        if self._empty_pulls == MAX_EMPTY_PULLS:
            message = (
                f"{MAX_EMPTY_PULLS} pages, one after the other, brought nothing that this search had not had before: "
                "the index repeats itself, or almost everything has been served"
            )
            raise LimitReached(message)

    def end_by(self, limit: str) -> None:
        """End the call because a limit is reached, unless it has ended already."""
        if self.stop_reason is None:
            self.stop_reason = self.ended_by = limit

    def needs_lookahead(self) -> bool:
        """Return whether a policy has to see more scores before the first match is decided."""
        return not self._previewed and len(self._waiting) < self.policies.lookahead

    def examine(self) -> Effects[None]:
        """Decide the waiting matches, one after another, until there are enough results or no match is left."""
        if not self._previewed:
            self._previewed = True
            self.policies.look_ahead([match.score for match, _ in self._waiting[: self.policies.lookahead]])
        while self.position < len(self._waiting) and not self.done:
            if self.policies.checks and self.position == self._checked:
                yield from self._check()
            self._decide()
            if self.policies.observers:
                yield from self._observe(flush=self.position == len(self._waiting))
            self._check_stop()
        if self.policies.observers:
            yield from self._observe(flush=True)
            if (reason := self.policies.stop_reason()) is not None:  # a limit came first, but there is enough
                self.stop_reason, self.ended_by = reason, None

    def keep_all(self) -> None:
        """Keep waiting matches until there are enough results: the cheap way of a call without policies."""
        convert = self._reader.convert
        while len(self._waiting) > self.position and not self.done:
            room = len(self._waiting) if self._n is None else self._n - len(self.kept)
            room = room if self._max_results is None else min(room, self._max_results - len(self.kept))
            matches = self._waiting[self.position : self.position + room]
            for match, provenance in matches:
                item = convert(match)
                if item is None:
                    self._count_drop(NO_TEXT)
                else:
                    self.kept.append(item)
                    self.kept_phases.append(provenance.phase)
            self.position += len(matches)
            self._apply_limit()

    def _count_drop(self, cause: str) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + 1

    def _apply_limit(self) -> None:
        if self._max_results is not None and len(self.kept) >= self._max_results and not self._full:
            self.end_by("max_results")

    def _decide(self) -> None:
        match, provenance = pulled = self._waiting[self.position]
        item = self._item(self.position)
        candidate = Candidate(
            match.id,
            match.score,
            item,
            best_score=provenance.best,
            metadata=match.metadata,
            text_of=self._reader.text_of,
            offered_before=self.position < self._offered_before,
        )
        denied = NO_TEXT if item is None else self._denied.get(self.position)
        if (cause := self.policies.drop_cause(candidate, denied)) is not None or item is None:
            self._count_drop(cause or NO_TEXT)
        elif not self.policies.fits(candidate):
            self.set_aside.append(pulled)
        else:
            self.policies.add(candidate)
            self.kept.append(item)
            self.kept_phases.append(provenance.phase)
        self.position += 1
        self._items.pop(self.position - 1, None)

    def _check_stop(self) -> None:
        self.stop_reason = self.policies.stop_reason()
        self._apply_limit()

    def _observe(self, *, flush: bool) -> Effects[None]:
        """Call the function of each observer with the results that were kept."""
        for state in self.policies.observers:
            if candidates := list(state.next_batch(flush=flush)):
                state.learn(candidates, (yield CallCheck(state.observe, [candidate.item for candidate in candidates])))

    def _item(self, position: int) -> T | None:
        if position not in self._items:
            self._items[position] = self._reader.convert(self._waiting[position][0])
        return self._items[position]

    def _check(self) -> Effects[None]:
        """Call the checks with the next matches together; each sees those that the checks before it permitted."""
        self._checked = min(len(self._waiting), self.position + self._batch)
        self._batch = max(self._batch, min(2 * self._batch, MAX_PULL))  # as the pulls grow
        positions = [position for position in range(self.position, self._checked) if self._item(position) is not None]
        for leaf, state in self.policies.checks:
            if not positions:
                break
            items = [self._items[position] for position in positions]
            given = list(items)  # a list of its own, which the check may change
            try:
                answer = yield CallCheck(state.check, given)
            except (AttributeError, TypeError) as error:
                refuse_check_of_one(error, given)
                raise
            verdicts = read_verdicts(answer, len(items))
            self._denied |= {
                position: leaf.name for position, verdict in zip(positions, verdicts, strict=True) if not verdict
            }
            positions = [position for position, verdict in zip(positions, verdicts, strict=True) if verdict]
