"""From an order to a page: the next rows, less those that are gone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nextk.engine.fusion import Order
from nextk.engine.values import Match

_MOST_AHEAD = 16_384  # rows

Load = Callable[[Sequence[int]], Mapping[int, Match]]
"""Reads rows; those that are gone are left out of the answer."""


def read(order: Order, count: int, load: Load) -> list[Match]:
    """The next `count` matches that still exist; fewer at the end.

    Where rows turn out to be gone, ever more are read at once, and those left over are put back: a page over thousands
    of deleted rows takes a few reads.
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
        step = min(2 * step, _MOST_AHEAD)
    return page
