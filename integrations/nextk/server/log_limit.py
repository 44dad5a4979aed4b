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
_LOGGERS = ("nextk.server", "uvicorn.error", "asyncio")


@dataclass(slots=True)
class _Window:
    """One second of one kind of line."""

    since: float
    logger: str
    lines: int = 0
    left_out: int = 0


class LogLimit(logging.Filter):
    """Lets only so many lines a second of each kind through, and says afterwards how many it has left out.

    Of which kind a line is says the attribute `kind` of its record. Without it, warnings and errors with the same text,
    before values are put in, are of one kind, and everything below a warning goes through.

    Args:
        max_lines: The number of lines. Default `MAX_LINES`.
        clock: A function that returns the time in seconds.
    """

    def __init__(self, max_lines: int = MAX_LINES, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._max_lines = max_lines
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line goes through."""
        kind = getattr(record, "kind", None) or (str(record.msg) if record.levelno >= logging.WARNING else None)
        now = self._clock()
        with self._lock:
            ended = self._ended(now)
            passes = kind is None or self._count(kind, record.name, now)
        _tell(ended)
        return passes

    def flush(self) -> None:
        """Say now how many lines were left out, without waiting for the next line."""
        with self._lock:
            ended = self._ended(float("inf"))
        _tell(ended)

    def _ended(self, now: float) -> dict[str, _Window]:
        """Remove the windows that have ended, and return them."""
        ended = {kind: window for kind, window in self._windows.items() if now - window.since >= _SECOND}
        for kind in ended:
            del self._windows[kind]
        return ended

    def _count(self, kind: str, logger: str, now: float) -> bool:
        window = self._windows.setdefault(kind, _Window(now, logger))
        if window.lines < self._max_lines:
            window.lines += 1
            return True
        window.left_out += 1
        return False


def _tell(ended: dict[str, _Window]) -> None:
    for kind, window in ended.items():
        if window.left_out:
            logger = logging.getLogger(window.logger)
            text = "left_out=%d kind=%r"
            values = (window.left_out, kind)
            # Past the filters: this line is not to be counted itself.
            logger.callHandlers(logger.makeRecord(logger.name, logging.WARNING, __file__, 0, text, values, None))


@contextlib.contextmanager
def limited_logs(limit: LogLimit | None = None) -> Iterator[None]:
    """Limit the lines of a server and of what it runs on while the block runs.

    Args:
        limit: The limit. Default `None`, for `LogLimit()`.
    """
    limit = limit or LogLimit()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(limit)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(limit)
        limit.flush()
