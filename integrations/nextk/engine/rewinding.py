"""Orders that can go back to where a page began, because the page was refused and is to be read with fewer matches."""

from typing import Protocol

from nextk.engine.fusion import BatchOrder, Order
from nextk.engine.ranking import NO_ROWS, Ranked

__all__ = ["RewindableOrder", "rewindable"]


class RewindableOrder(Order, Protocol):
    """An order that goes back to a position, as if nothing had been taken from there on."""

    def mark(self) -> None:
        """Remember this position, in the place of the one that was remembered before."""
        ...

    def rewind(self) -> None:
        """Return to the position that `mark` has remembered last."""
        ...


def rewindable(order: Order) -> RewindableOrder:
    """Return an order that can go back. The order that is given is not to be used any more."""
    return order if isinstance(order, BatchOrder) else _RewindableSplits(order)


class _RewindableSplits:
    """An order from which rows may be put back: to rewind it, those are put back that were taken since the mark.

    Args:
        order: The order, whose rows were not taken yet.
    """

    splits = True

    def __init__(self, order: Order) -> None:
        assert order.splits, "else rows cannot be put back"
        self._order = order
        self._since_mark = NO_ROWS

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; see `Order.take`."""
        rows = self._order.take(count)
        self._since_mark = self._since_mark.followed_by(rows)
        return rows

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front; see `Order.put_back`."""
        self._order.put_back(rows)
        self._since_mark, _ = self._since_mark.split(len(self._since_mark) - len(rows))

    def mark(self) -> None:
        """Remember this position, in the place of the one that was remembered before."""
        self._since_mark = NO_ROWS

    def rewind(self) -> None:
        """Return to the position that `mark` has remembered last."""
        self.put_back(self._since_mark)
