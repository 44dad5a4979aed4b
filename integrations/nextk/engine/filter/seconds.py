"""The time that filters take, counted for an operator who wants to know what keeps a server busy."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["FilterSeconds"]


class FilterSeconds:
    """The seconds that the filters of one index have taken so far, over all threads.

    Args:
        clock: The clock, in seconds; tests replace it.

    Attributes:
        total: The seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.total = 0.0
        self._clock = clock
        self._lock = threading.Lock()

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Count the time until the block is left, also if a filter is given up in it."""
        start = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self.total += self._clock() - start
