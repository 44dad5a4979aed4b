"""The time that one search may take for its filter."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nextk.engine.abandonment import GivenUp, is_abandoned
from nextk.errors import RefusedError

__all__ = ["FilterTimeout", "FilterTimer"]


class FilterTimeout(RefusedError):
    """A search has spent all the time that it had on its filter, and was given up."""


class FilterTimer:
    """Ends the work on a filter that takes too long, or that nobody waits for any more.

    Only work counts: the time that a search spends waiting for others does not.

    Args:
        seconds: The time that the work may take.
        abandoned: Returns whether nobody waits for the result any more; tests replace it.
        clock: The clock, in seconds; tests replace it.

    Attributes:
        keeps: Whether another search finds in memory what this one has read. Default `True`.
    """

    def __init__(
        self, seconds: float, abandoned: Callable[[], bool] = is_abandoned, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._abandoned = abandoned
        self._clock = clock
        self._spent = 0.0
        self._start: float | None = None  # of the work that is being done
        self.keeps = True

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time until the block is left."""
        self._start = self._clock()
        try:
            yield
        finally:
            self._spent, self._start = self._elapsed(), None

    def check(self) -> None:
        """Do nothing if the work may go on.

        Raises:
            FilterTimeout: It has taken too long. The status is 503.
            GivenUp: Nobody waits for the result any more. The status is 503.
        """
        if self._abandoned():
            message = "The search was given up, because its caller does not wait for it any more"
            raise GivenUp(message, 503)
        if self._elapsed() >= self._seconds:
            again = "What it has read is kept for a while, so send the search again; if it fails again, use"
            message = (
                f"The filter took longer than {self._seconds:g} seconds, and the search was given up. "
                f"{again if self.keeps else 'Use'} a simpler filter, or allow more time, on a server by "
                "--filter-timeout"
            )
            raise FilterTimeout(message, 503)

    def _elapsed(self) -> float:
        return self._spent + (0.0 if self._start is None else self._clock() - self._start)
