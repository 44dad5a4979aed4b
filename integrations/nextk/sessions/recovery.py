"""The pulls of one leg, and the way back to where they ended. Decisions only: whoever drives this does the I/O.

When a page's reply is lost, or the query is gone from the server (expired, evicted, stopped by someone else, a
restart), the same search is asked anew and pulled with the *same sizes*: only so do pages come back as they were, since
a fused page depends on its size. What was taken before is recognised by its id. If a replayed page differs, the data
has changed in the meantime: what is new in it is taken, and the search goes on with every id served once.

Where the server has no room for the query in the first place, one plain query has to do.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nextk.bodies import MAX_ROWS
from nextk.errors import LimitReached, NextKError, PageUncertain, QueryNotFound, TooManyQueries
from nextk.sessions.effects import Next, PageEffects, PlainQuery, Release, Start
from nextk.sessions.query import RetrievalMode
from nextk.sessions.report import Phase
from nextk.types import QueryResult

MAX_RECOVERY = 1_000
"""How many rows a recovery may pull again."""
_MAX_ATTEMPTS = 3  # attempts at one pull that may come to nothing, before its error is the caller's

Pull: TypeAlias = tuple[int, list[str]]
"""The size of a pull, and the ids that it brought."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where rows come from.

    Attributes:
        phase: The number of the leg that brought them.
        best: The score of its first row.
    """

    phase: int
    best: float


Row: TypeAlias = tuple[QueryResult, Provenance]
"""A row that was pulled: a pair, because there are many, and a class would cost several times as much to make."""


class PullLog:
    """Where a leg stands.

    Args:
        phase: Its number.
        seen: The ids of every row taken so far, by earlier legs too; added to.
        rows: Those that wait to be decided; added to.
        max_recovery: How many rows a recovery may pull again.
    """

    def __init__(self, phase: int, seen: set[str], rows: list[Row], max_recovery: int) -> None:
        self.pulls: list[Pull] = []
        self.pulled = 0
        self.page_count = 0
        """How many pages were asked for, without those of recoveries."""
        self.repeated = 0
        self.recovered = 0
        self.changed = False
        self.exhausted = False
        self.complete = True
        self.plain = False
        """Whether what there is came from a plain query, for want of room."""
        self.live = False
        """Whether a query is open, and stands where this leg does."""
        self.best: float | None = None
        """The score of the first row, taken before or not."""
        self._phase = phase
        self._seen = seen
        self._rows = rows
        self._max_recovery = max_recovery

    @property
    def lost(self) -> bool:
        """Whether the next pull has to ask anew."""
        return bool(self.pulls) and not self.live

    @property
    def ids(self) -> list[str]:
        """Of the rows that the pulls brought."""
        return [id_ for _, ids in self.pulls for id_ in ids]

    def catch_up(self) -> PageEffects:
        """Come back to where the leg stands, if it is lost; rows that were not taken before are taken.

        Raises:
            NextKError: As for `pull`.
        """
        return self._retry(self._replay_plain)

    def pull(self, size: int, max_rows: int = MAX_ROWS) -> PageEffects:
        """Take the next page, recovering first where that is needed.

        Args:
            size: How many rows to ask for.
            max_rows: How many to ask for if this is the only page that can be had.

        Raises:
            PageUncertain: It came to nothing several times in a row; so may be `QueryNotFound`.
            LimitReached: A recovery would pull more rows again than it may.
            TooManyQueries: A recovery finds no room on the server; or this process has too many searches open.
        """
        return self._retry(self._fetch, size, max_rows)

    def _retry(self, attempt: Callable[..., PageEffects], *arguments: int) -> PageEffects:
        """Try again where a query was lost under way."""
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

    def _fetch(self, size: int, max_rows: int) -> PageEffects:
        live = self.live
        try:
            if self.lost and not (self.plain and self._exceeds_max_recovery):
                waiting = len(self._rows)
                yield from self._replay()
                if len(self._rows) > waiting or self.exhausted:
                    return
            live, self.live = self.live, False  # until the page is taken, nobody knows where it stands
            page = yield (Next(size) if live else Start(size))
        except TooManyQueries as error:
            if not error.status or (self.pulls and not self.plain):  # ours, or in the middle of the search
                raise
            yield from self._fetch_plain(max_rows)
        except (PageUncertain, QueryNotFound):
            raise
        except NextKError:  # the server has not moved
            self.live = live
            raise
        else:
            self.page_count += 1
            self.exhausted = not page
            self._log_page(size, page)
            self.live = True  # last: whoever is interrupted before has the page asked for again

    def _fetch_plain(self, max_rows: int) -> PageEffects:
        """The server has no room: one plain query, and what it brings is all; at last as much as a query can bring."""
        if self.plain and self.pulls[-1][0] >= MAX_ROWS:
            self.exhausted, self.complete = True, False
            return
        size = MAX_ROWS if self.plain else max_rows
        page = yield PlainQuery(size)
        self.page_count += 1
        if self.plain:  # it comes in place of the one before, which asked for fewer
            self.pulls, self.pulled = [], 0
        self.plain = True
        self.exhausted = len(page) < size
        self._log_page(size, page)

    def _replay_plain(self) -> PageEffects:
        """Return, by a plain query where that is how the rows were had and nothing else can be."""
        try:
            if not (self.plain and self._exceeds_max_recovery):
                yield from self._replay()
                return
        except TooManyQueries as error:
            if not error.status or not self.plain:
                raise
        size = self.pulls[-1][0]
        page = yield PlainQuery(size)
        self.recovered += 1
        self.changed |= (again := [(size, _ids(page))]) != self.pulls
        self.exhausted = len(page) < size
        self.pulled += self._queue_new(page, _ids(page))
        self.pulls = again

    @property
    def _exceeds_max_recovery(self) -> bool:
        return len(self.ids) > self._max_recovery

    def _replay(self) -> PageEffects:
        """Ask the search anew and pull as before, up to where it stood; take what has turned up in between."""
        if not self.lost:
            return
        if self._exceeds_max_recovery:
            message = (
                f"to go on, the {len(self.ids)} rows of before would have to be pulled again, which is more than "
                f"max_recovery={self._max_recovery}: open or resume the search with a larger max_recovery="
            )
            raise LimitReached(message)
        pages: list[list[QueryResult]] = []
        for size, _ in self.pulls:
            page = yield (Next(size) if pages else Start(size))
            pages.append(page)
            if not page:
                break
        self.recovered += 1
        again = [(size, _ids(page)) for (size, _), page in zip(self.pulls, pages, strict=False)]
        self.changed |= again != self.pulls
        self.exhausted = not pages[-1]
        every = [match for page in pages for match in page]
        self.pulled += self._queue_new(every, _ids(every))
        self.pulls = again
        self.live = True  # not before: an error half-way leaves the search at a place that nobody asked for

    def _log_page(self, size: int, page: list[QueryResult]) -> None:
        ids = _ids(page)
        fresh = self._queue_new(page, ids)
        self.pulled += len(page)
        self.repeated += len(page) - fresh
        self.pulls.append((size, ids))

    def _queue_new(self, matches: list[QueryResult], ids: list[str]) -> int:
        """Let rows wait that were not seen before; how many."""
        if self._rows:  # after an interruption some may wait without having been noted
            self._seen.update([match.id for match, _ in self._rows])
        if self.best is None and matches:
            self.best = matches[0].score
        if not self._seen.isdisjoint(ids) or len(set(ids)) < len(ids):  # seldom
            matches = self._unseen(matches)
        if matches:
            provenance = Provenance(self._phase, matches[0].score if self.best is None else self.best)
            self._rows += zip(matches, itertools.repeat(provenance), strict=False)
            self._seen.update(ids)
        return len(matches)

    def _unseen(self, matches: Sequence[QueryResult]) -> list[QueryResult]:
        fresh: dict[str, QueryResult] = {}
        for match in matches:
            if match.id not in self._seen:
                fresh.setdefault(match.id, match)
        return list(fresh.values())


def _ids(page: Iterable[QueryResult]) -> list[str]:
    return [match.id for match in page]


@dataclass(slots=True)
class PhaseState:
    """A leg, and what has become of it.

    Attributes:
        mode: Which components it searches.
        began: How many rows the search had kept when it began.
        log: Its pulls.
        kept: How many of its rows were handed out.
        fused: Whether its scores are made of ranks; `None` where that is not known, or is up to the index.
    """

    mode: RetrievalMode | None
    began: int
    log: PullLog
    kept: int = 0
    fused: bool | None = None

    @property
    def report(self) -> Phase:
        """What is said of it."""
        log = self.log
        return Phase(self.mode, self.began, log.page_count, log.pulled, log.repeated, self.kept)
