"""The evaluation of one call of a session: the decisions of its policies, its limits, and how much it pulls. Private.

Until `SearchMachine` commits a call, every match that it has looked at still waits.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nextk.arguments import require_callable
from nextk.errors import LimitReached
from nextk.sessions.config import DEFAULT_PAGE, PullGrowth
from nextk.sessions.pulls import PulledMatch
from nextk.types import QueryResult
from nextk.until.decisions import NO_TEXT, Decisions
from nextk.until.policy import Candidate
from nextk.until.policy_set import PolicySet

T = TypeVar("T")

log = logging.getLogger("nextk.sessions")

MAX_EMPTY_PULLS = 100
"""The number of pages in a row without a single new match, after which a search without limits is ended."""


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


class Evaluation(Decisions[PulledMatch, T]):
    """The decisions of one call of a session, within its limits.

    Args:
        waiting: The matches that wait. The machine appends those that are pulled during the call.
        offered_before: The number of them that an earlier call has set aside, the first ones.
        reader: The conversion of matches into results.
        policies: The policies that decide.
        n: The number of results to keep; `None` leaves it to the policies.
        max_results: The number of results to keep at most; `None` for no limit.
        prefetch: The number of matches that each pull brings at least; those that are not needed yet wait.

    Attributes:
        kept_phases: The number of the phase that each result comes from.
        pulls: The number of pulls during the call.
        pulled: The number of matches with a new id that these pulls brought.
        stop_reason: The name of the policy or limit that ended the call.
        ended_by: The name of the limit, if it was one and not a policy of that name.
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
        first = max(policies.lookahead, policies.first_pull or n or DEFAULT_PAGE, prefetch)
        first = first if max_results is None else min(first, max_results)
        super().__init__(waiting, policies, first)
        self.kept_phases: list[int] = []
        self.pulls = 0
        self.pulled = 0
        self.ended_by: str | None = None
        self._offered_before = offered_before
        self._reader = reader
        self._n = n
        self._max_results = max_results
        self._prefetch = prefetch
        self._growth = PullGrowth(first, dropping=n is None or bool(policies))
        self._empty_pulls = 0
        self._apply_limit()

    @property
    def done(self) -> bool:
        """Whether no further match is needed."""
        return super().done or self._full

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

    def _apply_limit(self) -> None:
        if self._max_results is not None and len(self.kept) >= self._max_results and not self._full:
            self.end_by("max_results")

    def _score(self, match: PulledMatch) -> float:
        return match[0].score

    def _read(self, position: int) -> Candidate:
        match, provenance = self._waiting[position]
        return Candidate(
            match.id,
            match.score,
            self._reader.convert(match),
            best_score=provenance.best,
            metadata=match.metadata,
            text_of=self._reader.text_of,
            offered_before=position < self._offered_before,
        )

    def _keep(self, position: int, candidate: Candidate) -> None:
        self.kept.append(candidate.item)
        self.kept_phases.append(self._waiting[position][1].phase)

    def _stop_by(self, reason: str | None) -> None:
        super()._stop_by(reason)
        self.ended_by = None  # a policy that has enough comes before a limit

    def _check_stop(self) -> None:
        super()._check_stop()
        self._apply_limit()
