"""The pulls of one phase of a search: what was requested, what came, and which matches wait. Private, and without I/O.

`nextk.sessions.recovery` requests the pages and writes them down here.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nextk.sessions.query import RetrievalMode
from nextk.sessions.report import Phase
from nextk.types import QueryResult

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

    Attributes:
        pulls: The count and the ids of each pull.
        pulled: The number of matches that came.
        page_count: The number of pages that were requested, without those that a recovery requested again.
        repeated: The number of matches that were left out because their id had come before.
        recovered: How often the query was started again.
        changed: Whether a recovery found other matches than before, because the data has changed.
        reordered: Whether a recovery found the matches in another order, or further ones among them, on an index that
            may rank approximately.
        exhausted: Whether the index has nothing left.
        complete: Whether an exhausted phase has seen all matches.
        plain: Whether the matches came from a plain query, because the server had no room for a resumable one.
        live: Whether a query is open, and stands where this phase does, or one page behind it if one is outstanding.
        outstanding: The size of the page that was requested of the open query and has not come; `None` for none.
        best: The score of the first match of the phase, whether its id had come before or not.
        fused: Whether the scores are fused ranks; `None` if that is not known, or depends on the index.
    """

    def __init__(self, phase: int, seen: set[str], waiting: list[PulledMatch]) -> None:
        self.pulls: list[Pull] = []
        self.pulled = 0
        self.page_count = 0
        self.repeated = 0
        self.recovered = 0
        self.changed = False
        self.reordered = False
        self.exhausted = False
        self.complete = True
        self.plain = False
        self.live = False
        self.outstanding: int | None = None
        self.best: float | None = None
        self.fused: bool | None = None
        self._phase = phase
        self._seen = seen
        self._waiting = waiting

    @property
    def lost(self) -> bool:
        """Whether the query has to be started again before the next pull."""
        return bool(self.pulls) and not self.live

    @property
    def ids(self) -> list[str]:
        """The ids of all matches that the pulls brought, in order."""
        return [id_ for _, ids in self.pulls for id_ in ids]

    @property
    def cost(self) -> int:
        """The number of matches that the pulls have requested, whether as many came or not."""
        return sum(count for count, _ in self.pulls)

    @property
    def unread(self) -> set[str]:
        """The ids that wait according to a resumed cursor, and whose matches have not been pulled again yet."""
        waiting = {match.id for match, _ in self._waiting}
        return {id_ for id_ in self.ids if id_ not in self._seen and id_ not in waiting}

    def mark_live(self) -> None:
        """Note that a query is open which stands where this phase does."""
        self.live, self.outstanding = True, None

    def mark_lost(self) -> None:
        """Note that no query is open which stands where this phase does."""
        self.live, self.outstanding = False, None

    def begin_anew(self, unread: Collection[str]) -> None:
        """Note that the search of a source that keeps nothing open began anew, without what is decided.

        Args:
            unread: The ids that wait according to a cursor. They come again as if they had not been pulled.
        """
        self.pulls = [(count, [id_ for id_ in ids if id_ not in unread]) for count, ids in self.pulls]
        self.pulled -= len(unread)
        self.recovered += 1

    def add_page(self, count: int, page: list[QueryResult], *, instead: bool = False) -> None:
        """Queue the matches of a page, and write it down.

        Args:
            count: The number of matches that were requested.
            page: The matches that came.
            instead: Whether the page takes the place of all pages before, whose matches it brings again.
        """
        ids = ids_of(page)
        queued = self.queue_new(page, ids)
        if instead:
            self.pulls, self.pulled = [(count, ids)], len(page)
        else:
            self.pulls.append((count, ids))
            self.pulled += len(page)
        self.repeated += len(page) - queued

    def queue_new(self, matches: list[QueryResult], ids: list[str]) -> int:
        """Queue the matches whose id is new. Returns how many were queued.

        Args:
            matches: The matches.
            ids: Their ids.
        """
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


def ids_of(page: Iterable[QueryResult]) -> list[str]:
    """Return the ids of matches."""
    return [match.id for match in page]


@dataclass(slots=True)
class PhaseState:
    """The state of a phase: a part of a search, from its start or from a `widen`.

    Attributes:
        mode: The components of the index that the phase searches; `None` leaves the choice to the index.
        began: The number of results that the search had handed out when the phase began.
        log: The pulls of the phase.
        kept: The number of results of the phase that were handed out.
    """

    mode: RetrievalMode | None
    began: int
    log: PullLog
    kept: int = 0

    @property
    def report(self) -> Phase:
        """A summary of the phase, for the report."""
        log = self.log
        return Phase(self.mode, self.began, log.page_count, log.pulled, log.repeated, self.kept)
