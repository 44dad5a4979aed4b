"""A page of matches: it takes the next rows of an order, skips those that no longer exist, and may be read again."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nextk.engine.fusion import Order
from nextk.engine.ranking import NO_ROWS, Ranked, ranked
from nextk.engine.reply_budget import READ_AT_ONCE, read_at_once, spend
from nextk.engine.statements import chunks
from nextk.engine.values import Match

_MAX_READ_AHEAD = 16_384  # rows

LoadRows = Callable[[Sequence[int], int], Mapping[int, Match]]
"""Reads the records of rows in their order, as new matches by row, until it has found at least so many of them.

Rows that are gone or no longer pass the filter are left out, as are those behind where it has stopped. Thus no more is
read than a page has room for, however many rows a page looks at because most of them are gone.
"""


def load_until(
    limit: int, rows: Sequence[int], load: Callable[[Sequence[int]], Mapping[int, Match]]
) -> dict[int, Match]:
    """Read the records of rows part by part, until enough of them are found.

    Args:
        limit: The number of records that is enough. Some more may be returned: those of the last part.
        rows: The rows, which are read in their order.
        load: Reads all records of some rows.
    """
    found: dict[int, Match] = {}
    for part in chunks(rows, max(limit, READ_AT_ONCE)):
        found |= load(part)
        if len(found) >= limit:
            break
    return found


class RepeatablePage:
    """One page of a ranked order, which remembers its rows and their scores, but none of their records.

    Args:
        count: The number of matches that the page may have.
        number: The number of the page within its query; that of the first page, the default, is 1.

    Attributes:
        count: The number of matches that the page may have.
        number: The number of the page within its query.
        complete: Whether the page has been read to its end at least once.
        torn: Whether an error came while rows moved between the order and the page. Some may then be lost, so neither
            of the two may be read any more. Any other error leaves both in a state from which reading may go on.
    """

    def __init__(self, count: int, number: int = 1) -> None:
        self.count = count
        self.number = number
        self.complete = False
        self.torn = False
        self._rows = NO_ROWS  # if complete, those of the page; if not, those that were taken for it so far

    def read(self, order: Order, load: LoadRows) -> list[Match]:
        """Return the matches of the page.

        A page that was read before has the rows that it had then, less those that are gone. It is filled anew from the
        order only if none of them is left, because an empty page is the end of a search. If reading fails, a further
        call begins with the rows that were taken already.

        Args:
            order: The ranked rows that no page has; those of a new page are taken from its front.
            load: Reads the records of the rows.

        Returns:
            The matches, best first. A page that is read for the first time has fewer than `count` only if the order is
            exhausted.
        """
        records: dict[int, Match] = {}
        self._load(load, self._rows, records)
        if not (self.complete and records):
            self.complete = False
            self._settle(order, records)
            self._fill(order, load, records)
            self.complete = True
        return self._scored(records)

    def _scored(self, records: Mapping[int, Match]) -> list[Match]:
        matches = []
        for row, score in zip(self._rows.rows.tolist(), self._rows.scores, strict=True):
            match = records.get(row)
            if match is not None:
                match.score = score
                matches.append(match)
        return matches

    def _fill(self, order: Order, load: LoadRows, records: dict[int, Match]) -> None:
        """Take rows until the page has `count` matches, and add their records.

        Every further read takes twice as many rows as the one before, and rows that are left over are put back. Thus a
        page that has to skip thousands of deleted rows takes only a few reads.
        """
        step = 1
        while len(records) < self.count:
            missing = self.count - len(records)
            taken = self._take(order, max(missing, step) if order.splits else missing)
            if not len(taken):
                break
            self._load(load, taken, records)
            self._settle(order, records)
            step = min(2 * step, _MAX_READ_AHEAD)
        if order.splits and bool((self._rows.scores[1:] > self._rows.scores[:-1]).any()):
            # A pool may bring better rows later, when others of the page turned out to be gone.
            self._rows = ranked(self._rows.rows, self._rows.scores)

    def _load(self, load: LoadRows, rows: Ranked, records: dict[int, Match]) -> None:
        """Add the records of rows to those of the page, until it is full."""
        ahead: list[int] = rows.rows.tolist()
        while ahead and len(records) < self.count:
            room = self.count - len(records)
            limit = read_at_once(room)
            found = load(ahead, limit)
            if len(found) > room:
                found = {row: found[row] for row in [row for row in ahead if row in found][:room]}
            spend(found.values())
            records.update(found)
            if len(found) < limit:
                return
            last = next(position for position in reversed(range(len(ahead))) if ahead[position] in found)
            ahead = ahead[last + 1 :]

    def _take(self, order: Order, count: int) -> Ranked:
        self.torn = True
        taken = order.take(count)
        self._rows = self._rows.followed_by(taken)
        self.torn = False
        return taken

    def _settle(self, order: Order, records: Mapping[int, Match]) -> None:
        """Keep the rows that have records, up to `count` of them, and put back the rows that follow the last of these.

        Rows without a record are forgotten, but for those that are put back: they may pass the filter again when it is
        their turn.
        """
        if len(records) == len(self._rows) <= self.count:  # all of them have records, and nothing is to be put back
            return
        exist = np.array([row in records for row in self._rows.rows.tolist()], np.bool_)
        end = int(np.searchsorted(np.cumsum(exist), self.count)) + 1
        page, behind = self._rows.split(end)
        self.torn = True
        if len(behind):
            order.put_back(behind)
        self._rows = Ranked(page.rows[exist[:end]], page.scores[exist[:end]])
        self.torn = False
