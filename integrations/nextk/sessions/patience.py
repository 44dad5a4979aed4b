"""Patience: how often a request that failed is repeated, and how long to wait before it. Private, and without I/O.

Each page that a replay brings starts the count of the failures anew, so that a long replay is not given up for faults
that it overcomes. Replays that end before they bring the page that is needed are counted, too: to bring the same pages
ten times, and to lose the next one each time, is no progress.
"""

import random
from collections.abc import Callable

from nextk.errors import NextKError, QueryNotFound, RefusedError, TransportError
from nextk.transport.retries import MAX_PAUSE, pause_before

MAX_FAILURES = 10
"""The failures in a row, or the replays without the page that is needed, after which the error is raised."""
MAX_REPEATS = 20
"""The failures in a row where the server answers a repeat as it would have answered the first request. A repeat costs
no more than itself there. If a third of all requests and replies is lost, ten failures in a row are not rare."""
MAX_REFUSALS = 4
"""The failures in a row if the index says itself that it failed, by a status such as 500 or 507, and if nothing has
come from the index since the search began and no request has reached it: it may not exist."""
FIRST_PAUSE = 0.1
"""The longest pause after the first failure, in seconds. Each further failure in a row doubles it, up to 6.4 s."""
_MAX_DOUBLINGS = 6


def is_fault(error: NextKError) -> bool:
    """Return whether a request that failed with this error may work out the next time."""
    if isinstance(error, TransportError | QueryNotFound):
        return True
    return isinstance(error, RefusedError) and (error.status == 429 or error.status >= 500)


def left_alone(error: NextKError) -> bool:
    """Return whether the index has surely done nothing: the request did not reach it, or came too early (429)."""
    if isinstance(error, TransportError):
        return not error.sent
    return isinstance(error, RefusedError) and error.status == 429


class Patience:
    """The failures of the requests of one pull.

    Args:
        clock: Returns the time in seconds.
        deadline: The time at which no further request is made; `None` for none.
        chance: Returns a random number from 0 to 1 for each pause.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        deadline: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._deadline = deadline
        self._chance = chance
        self._failures = 0  # in a row
        self._replays = 0  # that brought pages, and were lost before the page for which they were made
        self._arrived = False

    def page_arrived(self) -> None:
        """Note that a page of a replay has arrived."""
        self._arrived, self._failures = True, 0

    def query_lost(self) -> None:
        """Note that the query is lost, so that a replay has to begin anew."""
        self._replays += int(self._arrived)
        self._arrived = False

    def pause_after(self, error: NextKError, *, first: bool, repeatable: bool = False) -> float | None:
        """Return the seconds to wait after a failure, or `None` if the patience is used up.

        Args:
            error: The failure. If the server said when to be tried again, the pause is at least as long, up to 60 s.
            first: Whether nothing has come from the index before.
            repeatable: Whether the server answers a repeat of the request as it would have answered the first.
        """
        self._failures += 1
        failures = max(self._failures, self._replays + 1)
        if failures >= self._limit(error, first=first, repeatable=repeatable):
            return None
        pause = pause_before(min(failures - 1, _MAX_DOUBLINGS), FIRST_PAUSE, self._chance())
        if isinstance(error, QueryNotFound) and failures == 1:  # a clear answer: nothing is wrong with the server
            pause = 0.0
        pause = max(pause, min(error.retry_after or 0.0, MAX_PAUSE))
        if self._deadline is not None and self._clock() + pause >= self._deadline:
            return None
        return pause

    def _limit(self, error: NextKError, *, first: bool, repeatable: bool) -> int:
        if _is_settled(error) or (first and left_alone(error)):
            return MAX_REFUSALS
        return MAX_REPEATS if repeatable and not left_alone(error) else MAX_FAILURES


def _is_settled(error: NextKError) -> bool:
    """Return whether the index says itself that it failed, and no gateway that the index is away for a moment."""
    return isinstance(error, RefusedError) and error.status >= 500 and error.status not in (502, 503, 504)
