"""Keep the log readable while a server refuses much: so many lines a second of each kind, and a count of the others."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_LINES = 10
"""How many lines of a kind the log gets in a second."""

_SECOND = 1.0

_Kind = tuple[str, str]  # the name of a logger, and the kind of its lines


@dataclass(slots=True)
class _Window:
    """One second of one kind of line."""

    since: float
    lines: int = 0
    left_out: int = 0


class LogLimit(logging.Filter):
    """Lets only so many lines a second of each kind through, and says afterwards how many it has left out.

    Of which kind a line is says the attribute `kind` of its record. Without it, warnings and errors with the same text,
    before values are put in, are of one kind, and everything below a warning goes through. Lines of different loggers
    are never of one kind.

    Args:
        handler: The handler whose lines are limited, whichever logger they come from. The filter is to be added to it.
        max_lines: The number of lines. Default `MAX_LINES`.
        clock: A function that returns the time in seconds.
    """

    def __init__(
        self, handler: logging.Handler, max_lines: int = MAX_LINES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._handler = handler
        self._max_lines = max_lines
        self._clock = clock
        self._windows: dict[_Kind, _Window] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line goes through."""
        kind = getattr(record, "kind", None) or (str(record.msg) if record.levelno >= logging.WARNING else None)
        now = self._clock()
        with self._lock:
            ended = self._ended(now)
            passes = kind is None or self._count((record.name, kind), now)
        self._tell(ended)
        return passes

    def flush(self) -> None:
        """Say now how many lines were left out, without waiting for the next line."""
        with self._lock:
            ended = self._ended(float("inf"))
        self._tell(ended)

    def _ended(self, now: float) -> dict[_Kind, _Window]:
        """Remove the windows that have ended, and return them."""
        ended = {kind: window for kind, window in self._windows.items() if now - window.since >= _SECOND}
        for kind in ended:
            del self._windows[kind]
        return ended

    def _count(self, kind: _Kind, now: float) -> bool:
        window = self._windows.setdefault(kind, _Window(now))
        if window.lines < self._max_lines:
            window.lines += 1
            return True
        window.left_out += 1
        return False

    def _tell(self, ended: dict[_Kind, _Window]) -> None:
        for (logger, kind), window in ended.items():
            if window.left_out:
                values = (window.left_out, kind)
                record = logging.LogRecord(
                    logger, logging.WARNING, __file__, 0, "left_out=%d kind=%r", values, None, "LogLimit"
                )
                self._handler.acquire()
                try:
                    self._handler.emit(record)  # past the filters: this line is not to be counted itself
                finally:
                    self._handler.release()


@contextlib.contextmanager
def limited_logs(max_lines: int = MAX_LINES, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Limit the lines that go to the handlers of the root logger while the block runs.

    The limit is one of the handlers, because a filter of a logger does not see the lines of the loggers below it.

    Args:
        max_lines: The number of lines of a kind in a second. Default `MAX_LINES`.
        clock: A function that returns the time in seconds.
    """
    limits = [(handler, LogLimit(handler, max_lines, clock)) for handler in logging.getLogger().handlers]
    for handler, limit in limits:
        handler.addFilter(limit)
    try:
        yield
    finally:
        for handler, limit in limits:
            handler.removeFilter(limit)
            limit.flush()
