"""Whose turn it is on a session: one caller at a time, and not its own caller a second time."""

import gc
import os
import threading

from nextk.errors import ClientError

CALL_WITHIN_CALL = "a call on this search is under way, and this comes from within it (a check, a model): let it return"


class ThreadLock:
    """A lock for threads: `with turn.here()`. In a forked child it is free, whoever holds it in the parent."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # it knows its owner; `with` takes it and lets go whatever interrupts

    @property
    def _is_owned_here(self) -> bool:
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks
        return owned

    def guard(self) -> threading.RLock:
        """The lock, to be taken with `with`.

        Raises:
            ClientError: The thread that asks for it holds it: a call within a call.
        """
        if self._pid != os.getpid():
            self._reset()
        if self._is_owned_here:
            raise ClientError(CALL_WITHIN_CALL)
        return self._lock

    def is_free(self) -> bool:
        """Whether nobody has it; for those that must not wait, as a finaliser."""
        if self._pid != os.getpid():
            return True
        if self._is_owned_here or not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True


# A loop over a search may end in a finaliser. If the collector calls it, it does so in the middle of anything that this
# thread is doing, under any lock; then nothing may be waited for.
_collector: list[int] = []  # the thread in which the garbage collector is at work, if it is


def _note(phase: str, _info: dict[str, int]) -> None:
    if phase == "start":
        _collector.append(threading.get_ident())
    else:
        _collector.clear()


gc.callbacks.append(_note)


def collecting() -> bool:
    """Whether we are in a finaliser that the garbage collector of this thread has called."""
    return threading.get_ident() in _collector
