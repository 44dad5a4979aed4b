"""Calls in this process: the same bytes through the same dispatch as over HTTP, without a socket.

An index on disk has one engine per process, whoever opens it and how often; the last to close it closes the engine.
"""

import asyncio
import contextlib
import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from nextk.dispatch import dispatch
from nextk.engine.protocol import Engine
from nextk.errors import ClientError, NextKError
from nextk.operations import Operation, stop
from nextk.transport import FAREWELL
from nextk.transport.outcome import Attempts, encode

T = TypeVar("T")

_WORKERS = 4  # threads that carry the async calls of one engine


class Hold:
    """One engine, and how many carriers use it."""

    def __init__(self, path: Path | None, engine: Engine) -> None:
        self.path = path
        self.engine = engine
        self.carriers = 1
        self._executor: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()  # of its own: the other one is held while an engine opens
        self._pid = os.getpid()

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads that carry async calls; made when the first one comes, and again in a forked child."""
        with self._starting:
            if self._executor is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._executor = ThreadPoolExecutor(_WORKERS, "nextk")
            return self._executor

    def release(self) -> None:
        """One carrier fewer; the last one closes the engine."""
        with _lock:
            self.carriers -= 1
            if self.carriers:
                return
        if self._executor is not None:
            self._executor.shutdown()
        with _lock:  # until it is closed: who opens the path next must find it free
            if self.path is not None and _holds.get(self.path) is self:
                del _holds[self.path]
            self.engine.close()


_lock = threading.RLock()
# Weak: an index that is dropped unclosed is closed with its last reference.
_holds: "weakref.WeakValueDictionary[Path, Hold]" = weakref.WeakValueDictionary()


def hold(path: Path | None, open_engine: Callable[[], Engine]) -> tuple[Hold, bool]:
    """The engine at a path: the one that this process has open already, or a new one.

    Returns:
        The hold, and whether it is new.
    """
    if path is None:
        return Hold(None, open_engine()), True
    with _lock:
        known = _holds.get(path)
        if known is not None and known.carriers:
            known.carriers += 1
            return known, False
        if known is not None:  # its last carrier is letting go of it
            known.engine.close()
        _holds[path] = made = Hold(path, open_engine())
        return made, True


class InProcessCarrier:
    """Carries operations to an engine in this process.

    Args:
        held: The engine, already counted for this carrier.
        reopen: Opens the engine again, in a forked child.
    """

    def __init__(self, held: Hold, reopen: Callable[[], Hold]) -> None:
        self.orphans: deque[str] = deque()
        self.leaving: list[Callable[[], None]] = []
        self._hold: Hold | None = held
        self._reopen = reopen
        self._abandoned: list[Future[Any]] = []  # starts that nobody waits for any more
        self._abandoning = threading.Lock()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        held = self._hold
        return f"InProcessCarrier({'closed' if held is None else str(held.path or 'in memory')!r})"

    @property
    def identity(self) -> str:
        """The id that the index was given when it was made."""
        return self._open().engine.id

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation; see `nextk.transport.Carrier`."""
        engine = self._open().engine
        self._stop_orphans(engine)
        return _carry(engine, operation)

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation on a thread of the engine, so that the event loop is never blocked."""
        future = self._open().executor.submit(self.send, operation)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if operation.starts:  # the call goes on without us: nobody will ever learn the uuid
                self._abandoned.append(future)
                future.add_done_callback(self._disown)
            raise

    def close(self) -> None:
        """Let go of the engine; the last carrier closes it."""
        for leave in tuple(self.leaving):
            leave()
        held, self._hold = self._hold, None
        if held is not None and self._pid == os.getpid():
            wait(self._abandoned, FAREWELL)
            for start in list(self._abandoned):
                self._disown(start)
            self._stop_orphans(held.engine)
            held.release()

    async def aclose(self) -> None:
        """The same without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def _open(self) -> Hold:
        if self._hold is None:
            message = "this index is closed"
            raise ClientError(message)
        if self._pid != os.getpid():
            with _lock:  # together or not at all: the parent's engine must never be used here, however often we try
                held = self._hold if self._hold.path is None else self._reopen()
                self._hold, self._pid = held, os.getpid()
        return self._hold

    def _stop_orphans(self, engine: Engine) -> None:
        while self.orphans:
            with contextlib.suppress(NextKError, IndexError):
                _carry(engine, stop(self.orphans.popleft()))

    def _disown(self, start: "Future[Any]") -> None:
        """Queue the query of a start that nobody waits for, when it is done or when we close."""
        with self._abandoning:
            if start not in self._abandoned:
                return
            self._abandoned.remove(start)
            if start.done() and not start.cancelled() and start.exception() is None and start.result()[0]:
                self.orphans.append(start.result()[0])


def _carry(engine: Engine, operation: Operation[T]) -> T:
    reply = dispatch(engine, operation.path, encode(operation))
    answer = Attempts(operation, 0).reply(reply.status, reply.body)
    assert answer is not None, "nothing is repeated in process"
    return answer.value


def _forget_engines() -> None:
    """In a forked child: an engine on disk still belongs to the parent.

    Its connection must not even be closed here: SQLite would fold the parent's log in and delete it. So the engine is
    never freed, and a carrier opens its path anew when it is next used. An engine in memory is the child's own copy.
    """
    for held in _holds.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(held.engine))
    _holds.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_engines)
