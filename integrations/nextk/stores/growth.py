"""The growth of k: how a search goes on where a store only takes "the k best". Private, and without I/O.

`Growth.fetch` yields `BestRows`, the request for the k best rows, and is sent the answer. Rows that came and were not
delivered wait; a page is made of them if they suffice. Otherwise the store is asked anew, for more:

- **Which k.** The first is twice the page, and at least 20. Each further one is the smallest `first * 2**j` that covers
  the rows delivered and the page. So a search moves at most about three times the rows of one request that knew its
  depth beforehand.
- **Which rows.** Rows are told apart by their id, and no id is delivered twice. A row that waits and that a later
  answer lacks is kept, because the answer to another k may be an approximation of its own; of a row that comes again,
  the later one is kept, whose content is newer. More rows than were asked for wait like all others. Scores of nearness
  sort the rows that wait; where the scores are ranks, a row gets 1/position in the order of delivery.
- **The end.** An answer with fewer than k rows is not the end: many stores filter what the search found, so that they
  give no row for 20 and three for 80. The end is two requests in a row that bring no new row, the second with a k of at
  least 1,000. After the first of them k leaps there, so that a small store costs two requests beyond its rows.
- **A fixed window.** If the store holds more rows than the last answer, as far as it says how many it holds, it gives
  no more by one search: `limit` is set. Of a store that does not say, this is assumed if the last answer has exactly as
  many rows as a limit that many stores have; a store that happens to hold as many cannot be told from it.
- **A k that is refused.** Stores raise above a limit of theirs. If a k fails, a smaller one is tried: the largest limit
  that many stores have, then the rows that are needed, then the k that has worked before, which tells a limit from a
  store that does not answer at all. If one works, its rows are delivered first. Then the refused k is asked for three
  times more; if it is refused each time in the same way, and the k that has worked before works again, the limit is
  sought between the two, among those that many stores have and then by halving, to a 32nd of the rows or until an
  answer brings no new row. The search ends there with `limit` set, and with a warning in the log.
- **Failures.** If no smaller k works, the first exception goes through. Errors that say nothing about k go through at
  once: those of nextk that a session repeats, those of a connection, and those of the caller. A call that raises, or
  is cancelled, has delivered nothing; called again, it asks again.
"""

import logging
import math
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nextk.errors import ClientError, MissingExtraError, RefusedError, TransportError
from nextk.sessions.source import ScoreKind
from nextk.types import QueryResult

log = logging.getLogger("nextk.stores")

FIRST_K = 20
"""The first k, for a page of at most half of it."""

GENEROUS_K = 1_000
"""The k from which on a search without new rows may end."""

KNOWN_LIMITS = (50, 100, 300, 400, 1_000, 2_048, 4_096, 10_000, 16_384, 100_000)
"""The limits of k that widespread stores have, ascending."""

MAX_IDLE_ANSWERS = 2
"""The number of answers without a new row, one after the other, that end a search."""

REFUSALS = 3
"""The number of times, one after the other, that a refused k has to be refused again before it counts as a limit."""

_RESOLUTION = 32
"""The limit of a store is sought to this fraction of the rows."""


@dataclass(frozen=True, slots=True)
class BestRows:
    """Ask the store for the best rows. The answer is a list of rows, best first.

    Attributes:
        count: The number of rows, k.
    """

    count: int


@dataclass(frozen=True, slots=True)
class CountRows:
    """Ask how many rows the store holds for this query. The answer is a number, or `None` if that is not known."""


Asking: TypeAlias = Generator[BestRows, Sequence[QueryResult], None]


@dataclass(frozen=True, slots=True)
class _RefusedK:
    """A k that the store has refused.

    Attributes:
        k: The smallest k that was refused.
        kind: The class of the exception.
        confirmed: Whether it was refused again after a smaller k had worked.
    """

    k: int
    kind: type[Exception]
    confirmed: bool = False


class Growth:
    """The rows of one search, fetched by growing k.

    Args:
        scores: The meaning of the scores of the rows.
        delivered: The ids of rows that count as delivered from the start.

    Attributes:
        refetched: The number of rows that were moved although they had come before.
        limit: The number of rows that the store gives of one search at most; `None` if no such limit is known.
    """

    def __init__(self, scores: ScoreKind | None, delivered: Collection[str] = ()) -> None:
        self.refetched = 0
        self.limit: int | None = None
        self._scores = scores
        self._delivered = set(delivered)
        self._waiting: dict[str, QueryResult] = {}
        self._asked: list[int] = []  # each k that was answered, ascending
        self._first = 0
        self._found = 0  # the number of rows of the last answer
        self._idle = 0
        self._refusal: _RefusedK | None = None
        self._ended = False
        self._explained = False  # whether it is known why the search has ended
        self._announced = self._warned = False

    def fetch(self, count: int) -> Generator[BestRows | CountRows, Any, list[QueryResult]]:
        """Fetch the next rows.

        Args:
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows; an empty list at the end.

        Raises:
            Exception: Whatever a request raised. The call has then delivered nothing.
        """
        while len(self._waiting) < count and not self._ended:
            if self._waiting and (self._idle or self._refusal):  # what is left may be little, but it is there
                break
            yield from self._ask_refused() if self._refusal else self._ask_more(count)
        if self._ended and not self._explained:
            self._note_window((yield CountRows()))
        page = list(self._waiting.values())[:count]
        if self._scores is ScoreKind.RANKS:
            page = with_rank_scores(page, len(self._delivered))
        for row in page:
            del self._waiting[row.id]
            self._delivered.add(row.id)
        return page

    def _ask_more(self, count: int) -> Asking:
        """Ask for the next k, and for a smaller one if the store refuses it."""
        needed = len(self._delivered) + count
        first = self._first or max(FIRST_K, 2 * count)
        k = next(self._series(first, needed))
        try:
            answer = yield BestRows(k)
        except Exception as error:
            if not may_be_limit(error) or k == needed:
                raise
            refused = error
        else:
            self._first = first
            self._take(k, answer)
            return
        for smaller in self._smaller(k, needed):
            answer_or_none = yield from _try(smaller)
            if answer_or_none is not None:
                self._first = first
                self._refusal = _RefusedK(k, type(refused))
                self._take(smaller, answer_or_none)
                return
        raise refused

    def _series(self, first: int, needed: int) -> Iterator[int]:
        """The values of k that may come next, ascending."""
        least = max(needed, self._largest + 1, GENEROUS_K if self._idle else 0)
        k = first
        while True:
            if k >= least:
                yield k
            k *= 2

    def _smaller(self, k: int, needed: int) -> list[int]:
        """The values of k to be tried after a refused one."""
        if not self._asked:
            return [needed]
        known = [limit for limit in KNOWN_LIMITS if max(needed, self._largest) <= limit < k]
        return list(dict.fromkeys([*known[-1:], max(needed, self._largest), self._largest]))

    def _ask_refused(self) -> Asking:
        """Ask for the refused k again, or, if it was refused for good, for one above the largest that has worked."""
        refusal = self._refusal
        assert refusal is not None
        k = refusal.k
        if refusal.confirmed:
            gap = refusal.k - self._largest
            is_near = gap <= max(1, self._largest // _RESOLUTION)
            if is_near or self._idle or self._largest in KNOWN_LIMITS:
                self._end_at(self._largest)
                return
            known = [limit for limit in KNOWN_LIMITS if self._largest < limit < k]
            k = known[-1] if known else k - gap // 2
        for _ in range(1 if refusal.confirmed else REFUSALS):
            try:
                answer = yield BestRows(k)
            except Exception as error:
                if type(error) is not refusal.kind:
                    raise
            else:
                self._refusal = refusal if refusal.confirmed else None
                self._take(k, answer)
                return
        if not refusal.confirmed:
            self._merge((yield BestRows(self._largest)))  # raises if the store does not answer at all
        self._refusal = _RefusedK(k, refusal.kind, confirmed=True)

    @property
    def _largest(self) -> int:
        """The largest k that was answered; 0 if none was."""
        return self._asked[-1] if self._asked else 0

    def _take(self, k: int, answer: Sequence[QueryResult]) -> None:
        """Let the rows of an answer wait, and decide whether the search ends."""
        new = self._merge(answer)
        self._idle = 0 if new else self._idle + (k > self._largest)  # no k tells the same twice
        self._found = len(answer)
        self._end_if_idle(k)
        if k > self._largest:
            self._asked.append(k)

    def _merge(self, answer: Sequence[QueryResult]) -> int:
        """Let the rows of an answer wait, less those delivered before. Returns how many are new."""
        distinct: dict[str, QueryResult] = {}
        for row in answer:
            distinct.setdefault(row.id, row)
        undelivered = {id_: row for id_, row in distinct.items() if id_ not in self._delivered}
        new = len(undelivered.keys() - self._waiting.keys())
        self.refetched += len(answer) - new
        self._announce(len(distinct) - new)
        self._warn_of_twins(len(answer) - len(distinct))
        kept = {id_: row for id_, row in self._waiting.items() if id_ not in undelivered}
        self._waiting = sorted_rows(kept | undelivered, self._scores)
        return new

    def _end_if_idle(self, k: int) -> None:
        """End the search if it has brought nothing new for long enough.

        Args:
            k: The number of rows that were asked for.
        """
        if self._idle < MAX_IDLE_ANSWERS:
            return
        if self._refusal and (k < GENEROUS_K or self._found >= k):
            self._end_at(max(k, self._largest))
        elif k >= GENEROUS_K:
            self._ended = True

    def _note_window(self, size: int | None) -> None:
        """Note whether the search ended because the store gives only so many rows of one search.

        Args:
            size: The number of rows that the search should find at least; `None` if that is not known.
        """
        self._explained = True
        if size is None and self._found in KNOWN_LIMITS:
            self._end_at(self._found, "the store gave exactly %d rows, a limit that many stores have: it may hold more")
        elif size is not None and self._found < size:
            self._end_at(self._found)

    def _end_at(self, limit: int, words: str = "the store gives %d rows of one search at most: it ends here") -> None:
        self._ended = self._explained = True
        self.limit = limit
        log.warning(words, limit)

    def _warn_of_twins(self, twins: int) -> None:
        """Warn, once in a search, that an answer has several rows of one id."""
        if twins and not self._warned:
            self._warned = True
            log.warning(
                "an answer of the store has %d rows whose id another one has, so that they are left out: rows without "
                "an id are told apart by their content, unless key= says by what",
                twins,
            )

    def _announce(self, repeated: int) -> None:
        """Say in the log, once in a search, that rows are moved again."""
        if repeated and not self._announced:
            self._announced = True
            log.info(
                "the store cannot go on with a search, so it is asked anew for more rows, and those that have come "
                "before are dropped: a search moves up to 3 times the rows of one request that knew its depth"
            )


def sorted_rows(rows: dict[str, QueryResult], scores: ScoreKind | None) -> dict[str, QueryResult]:
    """Sort rows by nearness; rows of equal scores, and those whose scores are no nearness, stay in their order.

    Args:
        rows: The rows by their ids.
        scores: The meaning of their scores.
    """
    if scores is not ScoreKind.NEARNESS:
        return rows
    return dict(sorted(rows.items(), key=lambda pair: math.inf if math.isnan(pair[1].score) else -pair[1].score))


def with_rank_scores(page: list[QueryResult], delivered: int) -> list[QueryResult]:
    """Return copies of rows whose scores are 1/position in the order of delivery.

    Args:
        page: The rows.
        delivered: The number of rows that were delivered before.
    """
    return [replace(row, score=1 / position) for position, row in enumerate(page, delivered + 1)]


def may_be_limit(error: Exception) -> bool:
    """Return whether an exception may say that a store does not give so many rows.

    Args:
        error: The exception that a request for k rows raised.
    """
    if isinstance(error, RefusedError):
        return error.status != 429 and error.status < 500
    return not isinstance(error, ClientError | TransportError | MissingExtraError | OSError)


def _try(k: int) -> Generator[BestRows, Sequence[QueryResult], Sequence[QueryResult] | None]:
    """Ask for k rows. Returns `None` if the store raises."""
    try:
        return (yield BestRows(k))
    except Exception:  # the caller raises the exception of the first k
        return None
