"""Read a page of matches: take the next rows of an order and skip those that no longer exist."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nextk.engine.fusion import Order
from nextk.engine.values import Match

_MAX_READ_AHEAD = 16_384  # rows

LoadRows = Callable[[Sequence[int]], Mapping[int, Match]]
"""Reads the records of rows, by row. Rows that were deleted or no longer pass the filter are left out."""


def read(order: Order, count: int, load: LoadRows) -> list[Match]:
    """Return the next `count` matches that still exist.

    Every further read takes twice as many rows as the one before, and rows that are left over are put back. Thus a page
    that has to skip thousands of deleted rows takes only a few reads.

    Args:
        order: The ranked rows; the rows of the page are taken from its front.
        count: The number of matches.
        load: Reads the records of the rows.

    Returns:
        The matches, best first; fewer than `count` only if the order is exhausted.
    """
    page: list[Match] = []
    step = 1
    while len(page) < count:
        missing = count - len(page)
        taken = order.take(max(missing, step) if order.splits else missing)
        if not len(taken):
            break
        found = load(taken.rows.tolist())
        for position, (row, score) in enumerate(zip(taken.rows.tolist(), taken.scores, strict=True)):
            if len(page) == count:
                order.put_back(taken.split(position)[1])
                break
            if row in found:
                page.append(replace(found[row], score=score))
        step = min(2 * step, _MAX_READ_AHEAD)
    return page
