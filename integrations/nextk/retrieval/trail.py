"""The pulls of one leg, and the way back to where they ended. Decisions only: whoever drives this does the I/O.

When a page's reply is lost, or the query is gone from the server (expired, evicted, stopped by someone else, a
restart), the same search is asked anew and pulled with the *same sizes*: only so do pages come back as they were, since
a fused page depends on its size. What was taken before is recognised by its id. If a replayed page differs, the data
has changed in the meantime: what is new in it is taken, and the search goes on with every id served once.

Where the server has no room for the query in the first place, one plain query has to do.
"""

from collections.abc import Iterable, Sequence

from nextk.errors import LimitReached, PageUncertain, QueryNotFound, TooManyQueries
from nextk.requests import MAX_ROWS
from nextk.retrieval.steps import Abandon, Next, Once, PageSteps, Start
from nextk.types import QueryResult

MAX_RECOVERY = 1_000
"""How many rows a recovery may pull again."""
_PATIENCE = 3  # attempts at one pull that may come to nothing, before its error is the caller's


class Trail:
    """Where a leg stands.

    Args:
        max_recovery: How many rows a recovery may pull again.
        seen: The ids of every row taken so far, by earlier legs too; added to.
        pulls: The size of each earlier pull and the ids that it brought, for a leg that is taken up again.
    """

    def __init__(self, max_recovery: int, seen: set[str], pulls: Sequence[tuple[int, list[str]]] = ()) -> None:
        self.sizes = [size for size, _ in pulls]
        self.pages = [list(ids) for _, ids in pulls]  # the ids that each pull brought
        self.pulled = sum(map(len, self.pages))
        self.repeated = 0
        self.recovered = 0
        self.changed = False
        self.exhausted = bool(self.pages) and not self.pages[-1]
        self.complete = True
        self._max_recovery = max_recovery
        self._seen = seen
        self._open = False
        self._plain = False  # whether what there is came from a plain query, for want of room

    def attach(self) -> None:
        """Go on with a query that is open, and stands where this leg does."""
        self._open = True

    def lose(self) -> None:
        """The query is lost; the next pull asks anew."""
        self._open = False

    def pull(self, size: int, most: int = MAX_ROWS) -> PageSteps:
        """Take the next page, recovering first where that is needed; return the rows that were never seen before.

        Args:
            size: How many rows to ask for.
            most: How many to ask for if this is the only page that can be had.

        Raises:
            PageUncertain: It came to nothing several times in a row; so may be `QueryNotFound`.
            LimitReached: A recovery would pull more rows again than it may.
            TooManyQueries: A recovery finds no room on the server; or this process has too many searches open.
        """
        failures = 0
        while True:
            try:
                if self.sizes and not self._open:
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
            except TooManyQueries as error:
                if not error.status or (self.sizes and not self._plain):  # ours, or in the middle of the search
                    raise
                return (yield from self._without_room(most))
            except GeneratorExit:  # interrupted: the page may be lost
                self._open = False
                raise
            else:
                self._open = True
                self.exhausted = not page
                return self._take(size, page)

    def _without_room(self, size: int) -> PageSteps:
        """The server has no room: one plain query, and what it brings is all."""
        if self._plain:
            self.exhausted, self.complete = True, False
            return []
        page = yield Once(size)
        self._plain = True
        self.exhausted = len(page) < size
        return self._take(size, page)

    def _return(self) -> PageSteps:
        """Ask the search anew and pull as before, up to where it stood; return what has turned up in between."""
        rows = sum(map(len, self.pages))
        if rows > self._max_recovery:
            message = (
                f"the search was lost after {rows} rows, and pulling them again would exceed "
                f"max_recovery={self._max_recovery}"
            )
            raise LimitReached(message)
        pages: list[list[QueryResult]] = []
        changed = False
        for size, before in zip(self.sizes, self.pages, strict=True):
            page = yield (Next(size) if pages else Start(size))
            changed |= before != _ids(page)
            pages.append(page)
            if not page:
                break
        self._open = True  # not before: an error half-way leaves the search at a place that nobody asked for
        self.recovered += 1
        self.changed |= changed
        self.exhausted = not pages[-1]
        self.sizes = self.sizes[: len(pages)]
        self.pages = [_ids(page) for page in pages]
        return self._unseen(match for page in pages for match in page)

    def _take(self, size: int, page: list[QueryResult]) -> list[QueryResult]:
        ids = _ids(page)
        self.sizes.append(size)
        self.pages.append(ids)
        self.pulled += len(page)
        if self._seen.isdisjoint(ids) and len(set(ids)) == len(ids):  # nearly always
            self._seen.update(ids)
            return page
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
