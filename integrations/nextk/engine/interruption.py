"""Interrupt a statement of SQLite that takes too long, or that nobody waits for any more.

The handler of a signal, such as that of Ctrl-C, may raise an error wherever Python begins to run code: also in a
function that SQLite calls, and before its first statement. Python's module then only tells SQLite to end the statement,
and the error is lost.
"""

import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

__all__ = ["interruptible", "raise_keyboard_interrupt"]

_STEPS = 20_000  # of the machine of SQLite between two checks: about a millisecond


@contextmanager
def interruptible(connection: sqlite3.Connection, check: Callable[[], None]) -> Iterator[None]:
    """Return a context manager in which statements that only read are interrupted when a check fails.

    Args:
        connection: The connection. No other thread uses it meanwhile.
        check: Called every now and then while a statement runs. Whatever it raises is raised in its place, and so is
            whatever the handler of a signal raises meanwhile.
    """
    failures: list[BaseException] = []  # emptied before it is raised, since its traceback refers to this frame
    checks = _checks(check, failures)
    next(checks)
    connection.set_progress_handler(checks.__next__, _STEPS)
    try:
        yield
        if failures:
            raise failures.pop()
    except sqlite3.OperationalError as error:
        if failures:
            raise failures.pop() from None
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise_keyboard_interrupt(error)
        raise
    finally:
        connection.set_progress_handler(None, 0)
        checks.close()


def _checks(check: Callable[[], None], failures: list[BaseException]) -> Generator[bool, None, None]:
    """Yield whether a check has failed, at every step.

    A generator goes on within its `try`, unlike a function, so that it has the errors of the handlers of signals, too.
    """
    while True:
        try:
            yield bool(failures)
            check()
        except GeneratorExit:
            return
        except BaseException as error:  # SQLite would only print it
            failures.append(error)


def raise_keyboard_interrupt(error: Exception) -> None:
    """Raise `KeyboardInterrupt` in the place of an error that only the handler of a signal can have caused.

    Nothing happens in any thread but the main one, since handlers run in no other one.

    Args:
        error: The error of a statement.
    """
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt from error
