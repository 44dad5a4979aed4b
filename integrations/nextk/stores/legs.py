"""The fusion of several ranked lists (legs) of one search, each fetched by exclusion. Private, and without I/O.

The order must not depend on how it was pulled, so the legs are fetched by a schedule of their own: round by round, to
twice the depth of the round before, whatever the sizes of the pages. After each round the rows are ranked by what is
known of them (RRF: each leg in which a row was found adds `1 / (60 + rank)`, its rank counted from 0), and those go out
that no row can outrank which no leg has found yet. The others wait for the next round, and go out at the latest when
every leg is at its end. So the order is that of the fused lists, but for a row whose second leg is found in a later
round: it may come later than it would by its full score.

A search that goes on from a cursor follows the schedule from its beginning, and drops what has been seen.
"""

import math
from collections.abc import Collection

from nextk.stores.exclusion import Exclusion, Fetching
from nextk.types import QueryResult

FIRST_DEPTH = 100
"""The depth of the first round: the least at which a row that one leg alone has found can go out."""

_OFFSET = 60


class FusedLegs:
    """The fused rows of one search.

    Args:
        legs: The legs, the first one first among equals.
        seen: The ids of rows that have come already.

    Attributes:
        leg: The number of the leg that the present request belongs to, from 0.
    """

    def __init__(self, legs: Collection[Exclusion], seen: Collection[str] = ()) -> None:
        self.leg = 0
        self._legs = list(legs)
        self._ranks: list[dict[str, int]] = [{} for _ in self._legs]
        self._ended = [False for _ in self._legs]
        self._rows: dict[str, QueryResult] = {}  # that have not gone out
        self._seen = set(seen)
        self._gone: set[str] = set()
        self._waiting: list[QueryResult] = []
        self._depth = FIRST_DEPTH
        self._dropped = 0

    @property
    def refetched(self) -> int:
        """The number of rows that were moved although they had come before, in the same leg or before a cursor."""
        return self._dropped + sum(leg.refetched for leg in self._legs)

    @property
    def limit(self) -> int | None:
        """The number of rows that the store gives of one leg at most; `None` if no such limit is known."""
        return next((leg.limit for leg in self._legs if leg.limit is not None), None)

    def fetch(self, count: int) -> Fetching[list[QueryResult]]:
        """Fetch the next rows; see `Exclusion.fetch`.

        Args:
            count: The number of rows, at least 1.
        """
        while not self._waiting and not (all(self._ended) and not self._rows):
            yield from self._deepen()
        page, self._waiting = self._waiting[:count], self._waiting[count:]
        return page

    def _deepen(self) -> Fetching[None]:
        """Fetch each leg to the depth of this round, and let the rows wait that no unseen row can outrank."""
        for number, (leg, ranks) in enumerate(zip(self._legs, self._ranks, strict=True)):
            while len(ranks) < self._depth and not self._ended[number]:
                self.leg = number
                rows = yield from leg.fetch(self._depth - len(ranks))
                self._ended[number] = not rows
                for row in rows:
                    ranks[row.id] = len(ranks)
                    if row.id not in self._gone:
                        self._rows.setdefault(row.id, row)
        self._emit()
        self._depth *= 2

    def _emit(self) -> None:
        unseen = sum(
            1 / (_OFFSET + len(ranks)) for ranks, ended in zip(self._ranks, self._ended, strict=True) if not ended
        )
        fused = {id_: self._score(id_) for id_ in self._rows}
        out = [id_ for id_, score in fused.items() if score > unseen]
        for id_ in sorted(out, key=lambda id_: (-fused[id_], *self._places(id_), id_)):
            row = self._rows.pop(id_)
            self._gone.add(id_)
            if id_ in self._seen:
                self._dropped += 1
            else:
                row.score = fused[id_]
                self._waiting.append(row)

    def _score(self, id_: str) -> float:
        return math.fsum(1 / (_OFFSET + ranks[id_]) for ranks in self._ranks if id_ in ranks)

    def _places(self, id_: str) -> list[float]:
        return [ranks.get(id_, math.inf) for ranks in self._ranks]
