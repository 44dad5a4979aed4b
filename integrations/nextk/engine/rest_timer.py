"""A timer that calls a function when there has been no write for a moment."""

import threading
import time
import weakref
from collections.abc import Callable

QUIET = 1.0
"""Seconds without a write after which a journal is brought to rest."""

_LONGEST = 60.0  # seconds between two attempts, if they fail


class RestTimer:
    """Calls a function once no write has happened for `QUIET` seconds, and again later if it says that it failed.

    Args:
        rest: A method that returns whether it succeeded. It is called in a thread of its own, and is not kept alive.
    """

    def __init__(self, rest: Callable[[], bool]) -> None:
        self._rest = weakref.WeakMethod(rest)
        self._lock = threading.Lock()
        self._due = 0.0  # when it is to be called, by `time.monotonic`
        self._pause = QUIET
        self._timer: threading.Timer | None = None
        self._stopped = False

    def start(self) -> None:
        """Take note of a write."""
        with self._lock:
            self._stopped = False
            self._due = time.monotonic() + QUIET
            if self._timer is None:
                self._pause = QUIET
                self._wait(QUIET)

    def stop(self) -> None:
        """Do not call the function any more, unless there is another write."""
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _wait(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._ring)
        timer.daemon = True  # what it would do is done at the next opening as well
        try:
            timer.start()
        except RuntimeError:  # no thread can be started, as at the end of a process: the next write tries again
            return
        self._timer = timer

    def _ring(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():  # it was stopped
                return
            self._timer = None
            early = self._due - time.monotonic()
            if early > 0:
                self._wait(early)
                return
        rest = self._rest()
        if rest is not None and not rest():
            self._try_later()

    def _try_later(self) -> None:
        with self._lock:
            if self._timer is None and not self._stopped:
                self._pause = min(2 * self._pause, _LONGEST)
                self._wait(self._pause)
