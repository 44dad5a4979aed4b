"""Whose turn it is on a session: one caller at a time, and not its own caller a second time."""

import os
import threading
from types import TracebackType

from nextk.errors import ClientError

WITHIN = "a call on this search is under way, and this comes from within it (a check, a model): let it return"


class Turn:
    """A lock for threads, taken with `with`. In a forked child it is free, whoever holds it in the parent.

    Raises:
        ClientError: The thread that asks for it holds it, and would wait for itself.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._owner: int | None = None

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            self._reset()
        me = threading.get_ident()
        if self._owner == me:
            raise ClientError(WITHIN)
        self._lock.acquire()
        self._owner = me

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._owner = None
        self._lock.release()

    def free(self) -> bool:
        """Whether nobody has it; for those that must not wait, as a finaliser."""
        return self._pid != os.getpid() or not self._lock.locked()
