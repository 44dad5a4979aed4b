"""Do long work under the lock of an engine part by part, so that others get the lock in between."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

__all__ = ["in_parts"]

_T = TypeVar("_T")

_HELD = 0.015  # seconds for which others may have to wait for the lock, if one part does not take longer
_PAUSE = 0.0005  # seconds
_GROWTH = 1.05  # from turn to turn, if others may add work in the pauses


def in_parts(
    lock: AbstractContextManager[object],
    part: Callable[[], tuple[_T] | None],
    check: Callable[[], None],
    *,
    grows: bool = False,
) -> _T:
    """Do work part by part, and return its result.

    The lock is held for as many parts as fit into some milliseconds. Whoever waits for it gets it after that. So the
    work waits for others once in a while, and not at every part.

    Args:
        lock: The lock.
        part: Does the next part with the lock held. Returns `None` if there is more to do, and the result otherwise.
        check: Called whenever the lock has been released for others. Whatever it raises ends the work.
        grows: Whether others may add to the work in the pauses. Then the lock is held for a little longer each time, so
            that there is an end however fast they are. Default `False`.
    """
    held = _HELD
    while True:
        with lock:
            end = time.perf_counter() + held
            while (result := part()) is None and time.perf_counter() < end:
                pass
        if result is not None:
            return result[0]
        check()
        time.sleep(_PAUSE)
        held *= _GROWTH if grows else 1.0
