"""The lock of a blocking session: one call at a time, and no call from within a call. Private."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from nextk.errors import ClientError

R = TypeVar("R")

CALL_WITHIN_CALL = "a call on this search is under way, and this comes from within it (a check, a model): let it return"


class ThreadLock:
    """A lock for threads that refuses the thread that holds it, instead of blocking that thread for ever.

    In a forked child the lock is free, whichever thread of the parent held it.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread that holds the lock, by `threading.get_ident()`

    def run(self, action: Callable[[], R]) -> R:
        """Wait for the lock, and run an action while this thread holds it.

        Args:
            action: A function without arguments, whose result is returned and whose errors are raised.

        Raises:
            ClientError: This thread holds the lock already: the call comes from within a call.
        """
        if self._pid != os.getpid():
            self._reset()
        # An interrupt may leave the owner noted after the lock was released: ask for both.
        if self._owner == threading.get_ident() and self._lock.locked():
            raise ClientError(CALL_WITHIN_CALL)
        with self._lock:  # a lock of Python's own, which is released whatever interrupts the block
            self._owner = threading.get_ident()
            try:
                return action()
            finally:
                self._owner = None

    def is_free(self) -> bool:
        """Return whether no thread of this process holds the lock, without waiting for it."""
        return self._pid != os.getpid() or not self._lock.locked()
