"""The pulls of one search, and the way back to where they ended. Decisions only: whoever drives this does the I/O.

When a page's reply is lost, or the query is gone from the server (expired, evicted, stopped by someone else, a
restart), the same search is asked anew and pulled with the *same sizes*: only so do pages come back as they were, since
a fused page depends on its size. What was handed out before is recognised by its id. If a replayed page differs, the
data has changed in the meantime: what is new in it is handed out, and the search goes on with every id served once.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from nextk.errors import LimitReached, PageUncertain, QueryNotFound
from nextk.types import QueryResult

MAX_RECOVERY = 1_000
"""How many rows a recovery may pull again."""
_PATIENCE = 3  # attempts at one pull that may come to nothing, before its error is the caller's


@dataclass(frozen=True, slots=True)
class Start:
    """Open the query and take its first page."""

    size: int


@dataclass(frozen=True, slots=True)
class Next:
    """Take the next page of the open query."""

    size: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Let go of the query, which may be open or gone; whatever goes wrong does not matter."""


Step: TypeAlias = Start | Next | Abandon
Steps: TypeAlias = Generator[Step, list[QueryResult], list[QueryResult]]
"""Yields what to do; is sent the page (empty for `Abandon`) or thrown the error; returns rows never seen before."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a search has done so far.

    Attributes:
        pulls: Pages that were asked for, without those of recoveries.
        pulled: Rows that they brought.
        kept: Rows that were handed out.
        repeated: Rows left out because their id had been served before; not 0 only on an approximate index.
        recovered: How often a search that had brought rows was asked anew.
        changed: Whether a recovery found other rows than before: the data was written to in the meantime.
        exhausted: Whether an empty page has come: nothing is left.
    """

    pulls: int = 0
    pulled: int = 0
    kept: int = 0
    repeated: int = 0
    recovered: int = 0
    changed: bool = False
    exhausted: bool = False


class Trail:
    """Where a search stands.

    Args:
        max_recovery: How many rows a recovery may pull again.
    """

    def __init__(self, max_recovery: int) -> None:
        self.exhausted = False
        self.pulled = 0
        self.repeated = 0
        self.recovered = 0
        self.changed = False
        self._max_recovery = max_recovery
        self._sizes: list[int] = []  # of every pull so far
        self._pages: list[list[str]] = []  # the ids that each brought
        self._seen: set[str] = set()
        self._open = False

    @property
    def pulls(self) -> int:
        """How many pages have been asked for."""
        return len(self._sizes)

    def pull(self, size: int) -> Steps:
        """Take the next page, recovering first where that is needed.

        Raises:
            PageUncertain: It came to nothing several times in a row; so may be `QueryNotFound`.
            LimitReached: A recovery would pull more rows again than it may.
        """
        failures = 0
        while True:
            try:
                if self._sizes and not self._open:
                    missed = yield from self._return()
                    if missed or self.exhausted:
                        return missed
                page = yield (Next(size) if self._open else Start(size))
            except (PageUncertain, QueryNotFound):
                self._open = False
                yield Abandon()
                failures += 1
                if failures == _PATIENCE:
                    raise
            except GeneratorExit:  # interrupted: the page may be lost
                self._open = False
                raise
            else:
                return self._take(size, page)

    def _return(self) -> Steps:
        """Ask the search anew and pull as before, up to where it stood; return what has turned up in between."""
        rows = sum(map(len, self._pages))
        if rows > self._max_recovery:
            message = (
                f"the search was lost after {rows} rows, and pulling them again would exceed "
                f"max_recovery={self._max_recovery}"
            )
            raise LimitReached(message)
        self.recovered += 1
        pages: list[list[QueryResult]] = []
        for size, before in zip(self._sizes, self._pages, strict=True):
            page = yield (Next(size) if pages else Start(size))
            self.changed |= before != _ids(page)
            pages.append(page)
            if not page:
                break
        self._open = True  # not before: an error half-way leaves the search at a place that nobody asked for
        self.exhausted = not pages[-1]
        self._sizes = self._sizes[: len(pages)]
        self._pages = [_ids(page) for page in pages]
        return self._unseen(match for page in pages for match in page)

    def _take(self, size: int, page: list[QueryResult]) -> list[QueryResult]:
        self._open = True
        self._sizes.append(size)
        self._pages.append(_ids(page))
        self.pulled += len(page)
        self.exhausted = not page
        fresh = self._unseen(page)
        self.repeated += len(page) - len(fresh)
        return fresh

    def _unseen(self, matches: Iterable[QueryResult]) -> list[QueryResult]:
        fresh: dict[str, QueryResult] = {}
        for match in matches:
            if match.id not in self._seen:
                fresh.setdefault(match.id, match)
        self._seen.update(fresh)
        return list(fresh.values())


def _ids(page: list[QueryResult]) -> list[str]:
    return [match.id for match in page]
