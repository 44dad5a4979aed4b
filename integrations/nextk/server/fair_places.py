"""Fair places: who may have how many requests under way, so that those of one index never shut out all others.

Searches and writes can wait long for their turn. Some places are kept from them, for the commands that never wait
behind a search. And of the places that there are for it, one share may take at most as many as it leaves free: the
first takes half of them, the next one half of the rest, and there is one left for whoever comes. This module only
decides.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

_KEPT = 8  # one place in so many is kept from the searches and writes


@dataclass(frozen=True, slots=True)
class Claim:
    """Tells the places that a request needs: whose share they count in, and of which kind they are.

    Attributes:
        share: Whom it is for; the places are shared fairly between these.
        is_costly: Whether it may wait long for its turn: a search, a write or a backup.
        alone: Whether no other share can come, so that this one needs to leave no place free.
    """

    share: Hashable = None
    is_costly: bool = False
    alone: bool = True


class FairPlaces:
    """The places for the requests that are under way.

    Args:
        count: The number of places.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._costly_count = count - max(count // _KEPT, min(1, count - 1))
        self._taken: Counter[bool] = Counter()
        self._taken_by: Counter[tuple[Hashable, bool]] = Counter()

    def take(self, claim: Claim) -> bool:
        """Take a place for a request. Returns whether it may have one.

        Args:
            claim: What the request counts as.
        """
        free = self._count - self._taken.total()
        if claim.is_costly:
            free = min(free, self._costly_count - self._taken[True])
        held = self._taken_by[claim.share, claim.is_costly]
        if free <= 0 or (held >= free and not claim.alone):
            return False
        self._taken[claim.is_costly] += 1
        self._taken_by[claim.share, claim.is_costly] += 1
        return True

    def give_back(self, claim: Claim) -> None:
        """Give back the place of a request that has ended.

        Args:
            claim: What the request counted as.
        """
        self._taken[claim.is_costly] -= 1
        self._taken_by[claim.share, claim.is_costly] -= 1
        if not self._taken_by[claim.share, claim.is_costly]:
            del self._taken_by[claim.share, claim.is_costly]
