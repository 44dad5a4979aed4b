"""The transport to an engine in this process: values go through the same dispatch as over HTTP, without being written.

An index on disk has one engine per process, which all its transports share; the last one to close closes the engine.
"""

import asyncio
import atexit
import contextlib
import ctypes
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from nextk.dispatch import dispatch
from nextk.engine.abandonment import abandonable
from nextk.engine.protocol import Engine
from nextk.errors import ClientError, NextKError, RefusedError
from nextk.operations import Operation, stop
from nextk.transport import CLOSE_TIMEOUT
from nextk.transport.encoding import plain_body
from nextk.transport.numbering import Numbering
from nextk.transport.results import public_result
from nextk.transport.retries import Attempts, may_have_arrived
from nextk.types import QueryMode, SparseVector

T = TypeVar("T")

_WORKERS = 4  # threads that carry the async calls of one engine


class SharedEngine:
    """An engine that several transports use; the last one to release it closes it.

    Args:
        path: The file of the index, or another key by which a process has it open once; `None` for an index in memory.
        engine: The engine, used by one transport so far.
    """

    def __init__(self, path: Hashable | None, engine: Engine) -> None:
        self.path = path
        self.engine = engine
        self.users = 1
        self._executor: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()  # of its own: the other one is held while an engine opens
        self._pid = os.getpid()

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads that run asynchronous calls; started by the first such call, and again in a forked child."""
        with self._starting:
            if self._executor is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._executor = ThreadPoolExecutor(_WORKERS, "nextk")
            return self._executor

    def release(self) -> None:
        """Count one transport less, and close the engine if it was the last one."""
        with _shared_lock:
            self.users -= 1
            if self.users:
                return
        if self._executor is not None:
            self._executor.shutdown()
        with _shared_lock:  # until it is closed: who opens the path next must find it free
            if self.path is not None and _shared.get(self.path) is self:
                del _shared[self.path]
            self.engine.close()


_shared_lock = threading.RLock()
# Weak: an index that is dropped unclosed is closed with its last reference.
_shared: "weakref.WeakValueDictionary[Hashable, SharedEngine]" = weakref.WeakValueDictionary()


def _share_engine(path: Hashable | None, open_engine: Callable[[], Engine]) -> tuple[SharedEngine, bool]:
    """Return the engine at a path: the one that this process has open already, or a new one.

    Args:
        path: The file of the index, or another key by which a process opens it once; `None` for a new index in memory.
        open_engine: Opens the engine if this process does not have it open.

    Returns:
        The shared engine, and whether it is new.
    """
    if path is None:
        return SharedEngine(None, open_engine()), True
    with _shared_lock:
        known = _shared.get(path)
        if known is not None and known.users:
            known.users += 1
            return known, False
        if known is not None:  # its last transport is letting go of it
            known.engine.close()
        _shared[path] = made = SharedEngine(path, open_engine())
        return made, True


def open_shared(
    path: Hashable | None, open_engine: Callable[[], Engine], join_engine: Callable[[Engine], None]
) -> "InProcessTransport":
    """Return a transport of the engine at a path, which this process opens once.

    Args:
        path: The file of the index, or another key by which a process opens it once; `None` for a new index in memory.
        open_engine: Opens the engine if this process does not have it open.
        join_engine: Checks that a further opening agrees with an engine that is open, or raises.
    """

    def reopen() -> SharedEngine:
        shared, new = _share_engine(path, open_engine)
        if not new:
            try:
                join_engine(shared.engine)
            except BaseException:
                shared.release()
                raise
        return shared

    return InProcessTransport(reopen(), reopen)


class InProcessTransport:
    """Carries operations to an engine in this process.

    Args:
        shared: The engine, already counted for this transport.
        reopen: Opens the engine again, in a forked child.
    """

    def __init__(self, shared: SharedEngine, reopen: Callable[[], SharedEngine]) -> None:
        self.orphans: deque[str] = deque()
        self.closing_hooks: list[Callable[[], None]] = []
        self.numbering = Numbering(True)
        self._shared_engine: SharedEngine | None = shared
        self._reopen = reopen
        # Starts that nobody waits for any more, each with the uuid that the client has made for its query.
        self._abandoned: dict[Future[Any], str | None] = {}
        self._abandoning = threading.Lock()
        self._pid = os.getpid()
        if shared.path is not None:
            _on_disk[id(self)] = self

    def __repr__(self) -> str:
        shared = self._shared_engine
        return f"InProcessTransport({'closed' if shared is None else str(shared.path or 'in memory')!r})"

    @property
    def identity(self) -> str:
        """The id that the index was given when it was made."""
        return self._open().engine.id

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation; see `nextk.transport.Transport`."""
        engine = self._open().engine
        self._stop_orphans(engine)
        return _dispatch(engine, operation)

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation in a thread of the engine, so that the event loop is never blocked.

        If the caller is cancelled, the engine gives a filter up that it is evaluating, and finishes any other work.
        """
        left = threading.Event()
        call = functools.partial(self.send, operation)
        future = self._open().executor.submit(abandonable, left.is_set, call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            left.set()
            if operation.starts:  # the call goes on without us: nobody will ever learn the uuid
                self._abandoned[future] = operation.own_uuid
                future.add_done_callback(self._disown)
            raise

    def embed_query(self, text: str, mode: QueryMode) -> tuple[list[float] | None, SparseVector | None]:
        """Embed the text of a query by the models of the index; see `nextk.transport.QueryEmbedder`."""
        dense, sparse = self._open().engine.embed_query(text, mode)
        return (
            None if dense is None else dense.tolist(),
            None if sparse is None else SparseVector(sparse.indices.tolist(), sparse.values.tolist()),
        )

    async def aembed_query(self, text: str, mode: QueryMode) -> tuple[list[float] | None, SparseVector | None]:
        """Embed the text of a query in a thread of the engine; see `nextk.transport.QueryEmbedder`."""
        return await asyncio.wrap_future(self._open().executor.submit(self.embed_query, text, mode))

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Copy the index into a file; see `nextk.transport.Transport`."""
        self._open().engine.backup(path, overwrite=overwrite, abandoned=lambda: False)

    async def abackup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Copy the index in a thread of the engine. If the caller is cancelled, the copy is given up and removed."""
        shared, abandoned = self._open(), threading.Event()
        future = shared.executor.submit(shared.engine.backup, path, overwrite=overwrite, abandoned=abandoned.is_set)
        try:
            await asyncio.wrap_future(future)
        finally:
            abandoned.set()

    def close(self) -> None:
        """Stop the orphans and release the engine; the last transport to do so closes it."""
        for hook in tuple(self.closing_hooks):
            hook()
        shared, self._shared_engine = self._shared_engine, None
        if shared is not None and self._pid == os.getpid():
            wait(self._abandoned, CLOSE_TIMEOUT)
            for start in list(self._abandoned):
                self._disown(start)
            self._stop_orphans(shared.engine)
            shared.release()

    async def aclose(self) -> None:
        """Stop the orphans and release the engine without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def _open(self) -> SharedEngine:
        if self._shared_engine is None:
            message = "this index is closed"
            raise ClientError(message)
        if self._pid != os.getpid():
            with (
                _shared_lock
            ):  # together or not at all: the parent's engine must never be used here, however often we try
                shared = self._shared_engine if self._shared_engine.path is None else self._reopen()
                self._shared_engine, self._pid = shared, os.getpid()
        return self._shared_engine

    def _stop_orphans(self, engine: Engine) -> None:
        while self.orphans:
            with contextlib.suppress(NextKError, IndexError):
                _dispatch(engine, stop(self.orphans.popleft()))

    def _disown(self, start: "Future[Any]") -> None:
        """Add the query of a cancelled start to the orphans, when the start is done or the transport closes."""
        with self._abandoning:
            if start not in self._abandoned:
                return
            own_uuid = self._abandoned.pop(start)
        if start.cancelled():
            return
        failure = start.exception() if start.done() else TimeoutError("the start still runs")
        left_open = own_uuid if failure is not None and may_have_arrived(failure) else None
        if failure is None:
            left_open = start.result()[0]
        if left_open:
            self.orphans.append(left_open)


_on_disk: "weakref.WeakValueDictionary[int, InProcessTransport]" = weakref.WeakValueDictionary()


def _dispatch(engine: Engine, operation: Operation[T]) -> T:
    body = plain_body(operation, in_process=True)
    try:
        status, envelope = 200, {"result": public_result(dispatch(engine, operation.path, body))}
    except RefusedError as error:
        status, envelope = error.status, {"error": str(error), "status": error.status}
    answer = Attempts(operation, 0).reply(status, envelope)
    assert answer is not None, "nothing is repeated in process"
    return answer.value


def _forget_engines() -> None:
    """In a forked child: an engine on disk still belongs to the parent.

    Its connection must not even be closed here: SQLite would fold the parent's log in and delete it. So the engine is
    never freed, and a transport opens its path anew when it is next used. An engine in memory is the child's own copy.
    """
    for shared in _shared.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(shared.engine))
    _shared.clear()
    _shared_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_shared_lock.acquire, after_in_parent=_shared_lock.release, after_in_child=_forget_engines
    )


@atexit.register
def _close_files() -> None:
    """Close the indexes on disk that are still open when the process ends, so that nothing is left beside their files.

    Without this, a thread or a reference cycle that holds on to an index would keep it from being closed. Whoever
    still uses it is told that it is closed. In a forked child this does nothing for the indexes of the parent.
    """
    for reference in _on_disk.valuerefs():
        transport = reference()
        if transport is not None:
            with contextlib.suppress(Exception):  # the file is whole without it
                transport.close()
