"""Recovery: the pulls of one phase, and how they are repeated after a fault. Private, and without I/O.

When the reply of a page is lost, or the query is gone from the server (it expired, was evicted, was stopped by somebody
else, or the server restarted), the same query is started again, and pages of the *same sizes* are pulled. Only so do
the pages come back as they were, since a fused page depends on its size. Matches that were pulled before are recognised
by their id. If a replayed page differs, the data has changed in the meantime: its new matches are queued, and the
search goes on, with each id at most once.

If the server has no room for a resumable query in the first place, one plain query is used instead.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nextk.bodies import MAX_ROWS
from nextk.errors import LimitReached, NextKError, PageUncertain, QueryNotFound, TooManyQueries
from nextk.sessions.effects import FetchNext, PageEffects, PlainQuery, Release, StartQuery
from nextk.sessions.query import RetrievalMode
from nextk.sessions.report import Phase
from nextk.types import QueryResult

MAX_RECOVERY = 1_000
"""The number of matches that a recovery may request again."""
_MAX_ATTEMPTS = 3  # failed attempts at one pull, after which its error is raised

Pull: TypeAlias = tuple[int, list[str]]
"""The number of matches that were requested, and the ids that came."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where matches come from.

    Attributes:
        phase: The number of the phase that brought them, from 0.
        best: The score of the first match of that phase.
    """

    phase: int
    best: float


PulledMatch: TypeAlias = tuple[QueryResult, Provenance]
"""A match that was pulled, and where it comes from. There are many, and a class would cost several times as much."""


class PullLog:
    """The pulls of one phase.

    Args:
        phase: The number of the phase, from 0.
        seen: The ids of all matches pulled so far, by earlier phases too. The log adds to it.
        waiting: The matches that are not decided. The log adds to it.
        max_recovery: The number of matches that a recovery may request again: the sum of the sizes of its pulls. As
            each pull requests at least one match, it bounds the number of requests too. `None` for any number.

    Attributes:
        pulls: The count and the ids of each pull.
        pulled: The number of matches that came.
        page_count: The number of pages that were requested, without those that a recovery requested again.
        repeated: The number of matches that were left out because their id had come before.
        recovered: How often the query was started again.
        changed: Whether a recovery found other matches than before.
        exhausted: Whether the index has nothing left.
        complete: Whether an exhausted phase has seen all matches.
        plain: Whether the matches came from a plain query, because the server had no room for a resumable one.
        live: Whether a query is open, and stands where this phase does.
        best: The score of the first match of the phase, whether its id had come before or not.
    """

    def __init__(self, phase: int, seen: set[str], waiting: list[PulledMatch], max_recovery: int | None) -> None:
        self.pulls: list[Pull] = []
        self.pulled = 0
        self.page_count = 0
        self.repeated = 0
        self.recovered = 0
        self.changed = False
        self.exhausted = False
        self.complete = True
        self.plain = False
        self.live = False
        self.best: float | None = None
        self._phase = phase
        self._seen = seen
        self._waiting = waiting
        self._max_recovery = max_recovery

    @property
    def lost(self) -> bool:
        """Whether the query has to be started again before the next pull."""
        return bool(self.pulls) and not self.live

    @property
    def ids(self) -> list[str]:
        """The ids of all matches that the pulls brought, in order."""
        return [id_ for _, ids in self.pulls for id_ in ids]

    def catch_up(self) -> PageEffects:
        """Repeat the pulls of a query that is lost, and queue the matches that have not been seen.

        Raises:
            NextKError: For the reasons given at `pull`.
        """
        return self._retry(self._replay_plain)

    def pull(self, count: int, max_count: int = MAX_ROWS) -> PageEffects:
        """Pull the next page, and recover first if the query is lost.

        Args:
            count: The number of matches to request.
            max_count: The number of matches to request if the server has room for a plain query only.

        Raises:
            PageUncertain: Three attempts in a row failed, the last one by a lost reply. No match is lost; call again.
            QueryNotFound: Three attempts in a row failed, the last one because the query was gone. No match is lost;
                call again.
            LimitReached: A recovery would request more than `max_recovery` matches again.
            TooManyQueries: A recovery finds no room on the server; or this process has too many searches open.
        """
        return self._retry(self._fetch, count, max_count)

    def _retry(self, attempt: Callable[..., PageEffects], *arguments: int) -> PageEffects:
        """Run an attempt again, up to three times in all, if the query was lost during it."""
        failures = 0
        while True:
            try:
                yield from attempt(*arguments)
            except (PageUncertain, QueryNotFound):
                yield Release()
                failures += 1
                if failures == _MAX_ATTEMPTS:
                    raise
            else:
                return

    def _fetch(self, count: int, max_count: int) -> PageEffects:
        live = self.live
        try:
            if self.lost and not (self.plain and self._exceeds_max_recovery):
                waiting_before = len(self._waiting)
                yield from self._replay()
                if len(self._waiting) > waiting_before or self.exhausted:
                    return
            live, self.live = self.live, False  # until the page has come, it is unknown where the query stands
            page = yield (FetchNext(count) if live else StartQuery(count))
        except TooManyQueries as error:
            if not error.status or (self.pulls and not self.plain):  # ours, or in the middle of the search
                raise
            yield from self._fetch_plain(max_count)
        except (PageUncertain, QueryNotFound):
            raise
        except NextKError:  # the server has not moved
            self.live = live
            raise
        else:
            self.page_count += 1
            self.exhausted = not page
            self._log_page(count, page)
            self.live = True  # last: after an interrupt before it, the page is requested again

    def _fetch_plain(self, max_count: int) -> PageEffects:
        """Use one plain query, because the server has no room for a resumable one.

        The first one requests `max_count` matches. If they are not enough, a second one that requests as many as a
        query can bring takes its place; the phase ends after it.
        """
        if self.plain and self.pulls[-1][0] >= MAX_ROWS:
            self.exhausted, self.complete = True, False
            return
        count = MAX_ROWS if self.plain else max_count
        page = yield PlainQuery(count)
        self.page_count += 1
        if self.plain:  # it takes the place of the one before, which requested fewer
            self.pulls, self.pulled = [], 0
        self.plain = True
        self.exhausted = len(page) < count
        self._log_page(count, page)

    def _replay_plain(self) -> PageEffects:
        """Repeat the pulls, by a plain query if the matches came from one and the server still has no room."""
        try:
            if not (self.plain and self._exceeds_max_recovery):
                yield from self._replay()
                return
        except TooManyQueries as error:
            if not error.status or not self.plain:
                raise
        count = self.pulls[-1][0]
        page = yield PlainQuery(count)
        self.recovered += 1
        self.changed |= (again := [(count, _ids(page))]) != self.pulls
        self.exhausted = len(page) < count
        self.pulled += self._queue_new(page, _ids(page))
        self.pulls = again

    @property
    def _exceeds_max_recovery(self) -> bool:
        return self._max_recovery is not None and self._recovery_cost > self._max_recovery

    @property
    def _recovery_cost(self) -> int:
        """The number of matches that the pulls have requested, whether as many came or not."""
        return sum(count for count, _ in self.pulls)

    def _replay(self) -> PageEffects:
        """Start the query again and repeat its pulls. Matches that were not there before are queued."""
        if not self.lost:
            return
        if self._exceeds_max_recovery:
            message = (
                f"to go on, {self._recovery_cost} rows would have to be requested again by {len(self.pulls)} pulls, "
                f"which is more than max_recovery={self._max_recovery}: open or resume the search with a larger "
                "max_recovery="
            )
            raise LimitReached(message)
        pages: list[list[QueryResult]] = []
        for count, _ in self.pulls:
            page = yield (FetchNext(count) if pages else StartQuery(count))
            pages.append(page)
            if not page:
                break
        self.recovered += 1
        again = [(count, _ids(page)) for (count, _), page in zip(self.pulls, pages, strict=False)]
        self.changed |= again != self.pulls
        self.exhausted = not pages[-1]
        matches = [match for page in pages for match in page]
        self.pulled += self._queue_new(matches, _ids(matches))
        self.pulls = again
        self.live = True  # last: after an error half-way, the query does not stand where this phase does

    def _log_page(self, count: int, page: list[QueryResult]) -> None:
        ids = _ids(page)
        queued = self._queue_new(page, ids)
        self.pulled += len(page)
        self.repeated += len(page) - queued
        self.pulls.append((count, ids))

    def _queue_new(self, matches: list[QueryResult], ids: list[str]) -> int:
        """Queue the matches whose id is new. Returns how many were queued."""
        if self._waiting:  # after an interrupt, some may wait whose ids were not noted
            self._seen.update([match.id for match, _ in self._waiting])
        if self.best is None and matches:
            self.best = matches[0].score
        if not self._seen.isdisjoint(ids) or len(set(ids)) < len(ids):  # seldom
            matches = self._unseen(matches)
        if matches:
            provenance = Provenance(self._phase, matches[0].score if self.best is None else self.best)
            self._waiting += zip(matches, itertools.repeat(provenance), strict=False)
            self._seen.update(ids)
        return len(matches)

    def _unseen(self, matches: Sequence[QueryResult]) -> list[QueryResult]:
        unseen: dict[str, QueryResult] = {}
        for match in matches:
            if match.id not in self._seen:
                unseen.setdefault(match.id, match)
        return list(unseen.values())


def _ids(page: Iterable[QueryResult]) -> list[str]:
    return [match.id for match in page]


@dataclass(slots=True)
class PhaseState:
    """The state of a phase: a part of a search, from its start or from a `widen`.

    Attributes:
        mode: The components of the index that the phase searches; `None` leaves the choice to the index.
        began: The number of results that the search had handed out when the phase began.
        log: The pulls of the phase.
        kept: The number of results of the phase that were handed out.
        fused: Whether the scores are fused ranks; `None` if that is not known, or depends on the index.
    """

    mode: RetrievalMode | None
    began: int
    log: PullLog
    kept: int = 0
    fused: bool | None = None

    @property
    def report(self) -> Phase:
        """A summary of the phase, for the report."""
        log = self.log
        return Phase(self.mode, self.began, log.page_count, log.pulled, log.repeated, self.kept)
