"""Replays: which requests bring the pages of a lost query again, and what the answers tell. Private, and without I/O.

Where the order of the matches does not depend on the sizes of the pages (one component, or hybrid search with global
fusion), a single start brings them all, together with the page that was lost. On a batch-fused hybrid index the pages
depend on their sizes, so each is requested again in its own size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from nextk.bodies import MAX_ROWS
from nextk.sessions.pulls import Pull
from nextk.types import InfoResult


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The requests of a replay: a start, and a request for each further page.

    Attributes:
        sizes: The number of matches of each request.
        expected: The ids that each request brought before; `None` if they are not known.
        extra: How many matches beyond those known the last request asks for: those of the page that was lost.
        merged: Whether several pages come by one request.
    """

    sizes: list[int]
    expected: list[list[str] | None]
    extra: int
    merged: bool

    @classmethod
    def page_by_page(cls, pulls: Sequence[Pull]) -> "ReplayPlan":
        """Return the plan that requests the pages of these pulls in their sizes."""
        return cls([count for count, _ in pulls], [ids for _, ids in pulls], 0, merged=False)

    @classmethod
    def merging(cls, pulls: Sequence[Pull], count: int) -> "ReplayPlan":
        """Return the plan that requests as many matches at once as a request may bring.

        Args:
            pulls: The pulls that are to be repeated.
            count: The size of the page that is needed besides, 0 for none. It is left out if it needs a request more.
        """
        total = sum(size for size, _ in pulls)
        known = [id_ for _, ids in pulls for id_ in ids]
        rest = total % MAX_ROWS or MAX_ROWS
        extra = count if rest + count <= MAX_ROWS else 0
        sizes = [MAX_ROWS] * ((total - rest) // MAX_ROWS) + [rest + extra]
        is_full = len(known) == total  # else nobody knows which of the ids each request brings
        expected: list[list[str] | None] = [None] * len(sizes)
        if is_full:
            expected = [known[start : start + MAX_ROWS] for start in range(0, total, MAX_ROWS)]
            if extra:
                expected[-1] = None
        return cls(sizes, expected, extra, merged=True)


def pages_passed(plan: ReplayPlan, position: int, lost: int, ids: list[str]) -> int | None:
    """Return how many of the requested pages a server without numbers had passed when it answered.

    Args:
        plan: The replay.
        position: The page that was requested.
        lost: How many requests for it were lost: the server may have answered each, or none.
        ids: The ids of the page that came.

    Returns:
        The number of pages, or `None` if the ids do not tell: the data has changed, or the page is behind the plan.
    """
    candidates = plan.expected[position : position + lost + 1]
    return next((passed for passed, expected in enumerate(candidates) if expected == ids), None)


def may_ask_on(plan: ReplayPlan, position: int, lost: int, unread: set[str]) -> bool:
    """Return whether the ids of the next page would tell how many pages a server without numbers has passed.

    Args:
        plan: The replay.
        position: The page whose reply was lost.
        lost: How many requests for it were lost.
        unread: The ids whose matches are needed, so that their page may not be passed.

    Returns:
        `True` if the ids of the pages that may come are known, they are of one size, and none of those that may be
        passed is needed.
    """
    concerned = range(position, min(position + lost, len(plan.sizes) - 1) + 1)
    if any(plan.expected[each] is None or plan.sizes[each] != plan.sizes[position] for each in concerned):
        return False
    passed = plan.expected[position : position + lost]
    return lost <= len(plan.sizes) - position and all(unread.isdisjoint(ids or ()) for ids in passed)


class Difference(Enum):
    """How the matches of a replay differ from those before."""

    NONE = "none"
    ADDED_OR_REORDERED = "added or reordered"
    MISSING = "missing"


def difference(before: Sequence[str], found: Sequence[str], extra: int) -> Difference:
    """Compare the ids of a replay with those that came before.

    Args:
        before: The ids that came before.
        found: The ids that the replay has brought.
        extra: How many ids beyond those before were requested.
    """
    if list(found[: len(before)]) == list(before) and len(found) <= len(before) + extra:
        return Difference.NONE
    return Difference.ADDED_OR_REORDERED if set(before) <= set(found) else Difference.MISSING


def is_hybrid(info: InfoResult) -> bool:
    """Return whether an index that may choose the mode searches both components and fuses them."""
    return info.dense_index is not None and info.sparse_index is not None


def fuses_globally(info: InfoResult) -> bool:
    """Return whether the order of a hybrid search on this index does not depend on the sizes of the pages."""
    return info.fusion_order == "GLOBAL"


def ranks_exactly(info: InfoResult) -> bool:
    """Return whether the index ranks exactly, so that a search without writes finds the same matches each time."""
    return bool(info.fusion_order) and not info.approximate
