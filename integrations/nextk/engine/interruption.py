"""Interrupt a statement of SQLite that takes too long, or that nobody waits for any more."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["interruptible"]

_STEPS = 20_000  # of the machine of SQLite between two checks: about a millisecond


@contextmanager
def interruptible(connection: sqlite3.Connection, check: Callable[[], None]) -> Iterator[None]:
    """Return a context manager in which statements that only read are interrupted when a check fails.

    Args:
        connection: The connection. No other thread uses it meanwhile.
        check: Called every now and then while a statement runs. Whatever it raises is raised in its place.
    """
    failures: list[BaseException] = []  # emptied before it is raised, since its traceback refers to this frame

    def must_end() -> bool:
        try:
            check()
        except BaseException as error:  # SQLite would only print it
            failures.append(error)
        return bool(failures)

    connection.set_progress_handler(must_end, _STEPS)
    try:
        yield
    except sqlite3.OperationalError:
        if failures:
            raise failures.pop() from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
