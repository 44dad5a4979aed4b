"""A connection to SQLite that fails at a step of one's choice.

The steps are its statements, the rows that are fetched, its commits and its rollbacks, and what nextk writes into the
file by itself. An observer may look at the files before each of them.
"""

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import pytest

from nextk.engine import index_file

T = TypeVar("T")


class StepFault(Enum):
    """The way in which a step fails."""

    FULL = "full"
    """The disk is full, once. SQLite has rolled the transaction back by itself, as it may."""
    BROKEN = "broken"
    """The disk fails from this step on. Neither a commit nor a rollback comes through any more."""
    CUT_OFF = "cut off"
    """The step is done, and the process is interrupted before anybody learns of it."""


_ERRORS = {
    StepFault.FULL: ("database or disk is full", sqlite3.SQLITE_FULL, "SQLITE_FULL"),
    StepFault.BROKEN: ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE"),
}
_NUMBERS = {StepFault.FULL: errno.ENOSPC, StepFault.BROKEN: errno.EIO}


@dataclass
class StepPlan:
    """What happens at the steps of every connection that is made while the plan is in force.

    Attributes:
        fault: The way in which the step fails.
        observe: A function that is called before each step.
        struck: Whether the fault has happened since the plan was armed.
    """

    fault: StepFault = StepFault.FULL
    observe: Callable[[], None] = lambda: None
    struck: bool = False
    _left: int | None = None
    _thread: int = 0

    @contextlib.contextmanager
    def armed(self, step: int) -> Iterator[None]:
        """Let a step of this thread fail, counted from 1."""
        self.struck, self._left, self._thread = False, step, threading.get_ident()
        try:
            yield
        finally:
            self._left = None

    @contextlib.contextmanager
    def observed(self, observe: Callable[[], None]) -> Iterator[None]:
        """Call a function before each step of this thread."""
        self.observe, self._thread = observe, threading.get_ident()
        try:
            yield
        finally:
            self.observe = lambda: None

    def carry_out(self, step: Callable[[], T], connection: sqlite3.Connection | None = None) -> T:
        """Carry out a step, or fail."""
        if self._thread != threading.get_ident():
            return step()
        self.observe()
        if self._left is None:
            return step()
        self._left -= 1
        if self._left > 0 or (self.struck and self.fault is not StepFault.BROKEN):
            return step()
        self.struck = True
        if self.fault is StepFault.CUT_OFF:
            with contextlib.suppress(StopIteration):
                step()
            raise KeyboardInterrupt
        if connection is None:
            raise OSError(_NUMBERS[self.fault], os.strerror(_NUMBERS[self.fault]))
        if self.fault is StepFault.FULL:
            sqlite3.Connection.rollback(connection)
        raise _error(*_ERRORS[self.fault])


def _error(text: str, code: int, name: str) -> sqlite3.OperationalError:
    """Return an error of SQLite. No frame of its traceback may have it in a variable, or both would stay in memory."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


class _FaultyCursor(sqlite3.Cursor):
    """A cursor whose statements and fetches are steps."""

    connection: "FaultyConnection"

    def execute(self, *arguments: Any) -> Any:
        """Run a statement."""
        return self._step(lambda: super(_FaultyCursor, self).execute(*arguments))

    def executemany(self, *arguments: Any) -> Any:
        """Run a statement for many values."""
        return self._step(lambda: super(_FaultyCursor, self).executemany(*arguments))

    def fetchone(self) -> Any:
        """Fetch a row."""
        return self._step(super().fetchone)

    def fetchall(self) -> Any:
        """Fetch all rows."""
        return self._step(super().fetchall)

    def __next__(self) -> Any:
        return self._step(super().__next__)

    def _step(self, step: Callable[[], T]) -> T:
        try:
            return self.connection.plan.carry_out(step, self.connection)
        except BaseException:
            self.close()  # as SQLite's own error would end the statement
            raise


class FaultyConnection(sqlite3.Connection):
    """A connection whose steps follow a plan."""

    plan: StepPlan

    def execute(self, *arguments: Any) -> Any:
        """Run a statement."""
        return self.cursor(_FaultyCursor).execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        """Run a statement for many values."""
        return self.cursor(_FaultyCursor).executemany(*arguments)

    def commit(self) -> None:
        """Commit."""
        self.plan.carry_out(super().commit, self)

    def rollback(self) -> None:
        """Roll back. Without a transaction there is nothing to do, and nothing that could fail."""
        if self.in_transaction:
            self.plan.carry_out(super().rollback, self)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        # Like the code in C, which calls neither `commit` nor `rollback` of a subclass.
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except sqlite3.Error:
            self.rollback()
            raise
        return False


def plan_steps(patch: pytest.MonkeyPatch) -> StepPlan:
    """Make every new connection one whose steps follow the plan that is returned, until the patch is undone."""
    plan, connect, write_at = StepPlan(), sqlite3.connect, index_file.write_at

    def connect_faulty(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
        kind = keywords.pop("factory", sqlite3.Connection)
        bases = (FaultyConnection,) if kind is sqlite3.Connection else (FaultyConnection, kind)
        factory = type("Faulty", bases, {"plan": plan})
        return connect(*arguments, **keywords, factory=factory)

    patch.setattr(sqlite3, "connect", connect_faulty)
    patch.setattr(index_file, "write_at", lambda *arguments: plan.carry_out(lambda: write_at(*arguments)))
    return plan
