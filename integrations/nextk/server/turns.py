"""Threads that run blocking calls, only so many at a time, so that the calls do not compete for the cores."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from nextk.engine.abandonment import abandonable

T = TypeVar("T")

_SOON = 0.25  # seconds


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ClientLeft(Exception):
    """The client of a request left before the turn of the request came. The call was not made."""


class Turns:
    """Runs blocking calls, at most so many at a time; the others wait in the order in which they came.

    Args:
        count: The number of calls that may run at the same time.
        name: The beginning of the names of the threads.
        executor: Makes that which runs the calls, of the count and the name. Default `ThreadPoolExecutor`.
    """

    def __init__(self, count: int, name: str, executor: Callable[[int, str], Executor] = ThreadPoolExecutor) -> None:
        self._count = count
        self._name = name
        self._unfinished = 0
        self._executor = executor
        self._threads = executor(count, name)

    async def run(self, call: Callable[[], T], has_left: Callable[[], Awaitable[bool]]) -> T:
        """Run a call in a thread when its turn comes.

        A task that is cancelled while it waits for its turn gives the turn back. If the call runs already, the task
        ends when the call does.

        Args:
            call: The blocking call.
            has_left: A function that waits for the client to leave and then returns `True`, or returns `False` if that
                cannot be told. It is called only if the call has to wait, or is not done soon, and is cancelled when
                the call is done. A call whose client leaves while it runs learns so by `is_abandoned`.

        Returns:
            The result of the call.

        Raises:
            ClientLeft: The client left before the turn came.
        """
        left = threading.Event()
        work = self._threads.submit(abandonable, left.is_set, call)
        self._unfinished += 1
        done = asyncio.wrap_future(work)
        try:
            if not await self._is_soon_done(done) and await _ends_first(has_left(), done):
                left.set()
                if work.cancel():
                    raise ClientLeft
            return await asyncio.shield(done)
        except BaseException:
            left.set()
            if not work.cancel():
                await asyncio.wait({done})
            raise
        finally:
            self._unfinished -= 1

    async def _is_soon_done(self, done: "asyncio.Future[T]") -> bool:
        """Return whether a call that begins at once is done so soon that its client need not be watched."""
        if self._unfinished > self._count:
            return False
        await asyncio.wait({done}, timeout=_SOON)
        return done.done()

    def waiting(self) -> int:
        """Return the number of calls that wait for their turn."""
        return max(0, self._unfinished - self._count)

    def close(self) -> None:
        """End the threads when the calls that run are done. A later call starts new ones."""
        threads, self._threads = self._threads, self._executor(self._count, self._name)
        threads.shutdown(wait=False, cancel_futures=True)


async def _ends_first(leaving: Awaitable[bool], done: "asyncio.Future[T]") -> bool:
    """Wait until either the client has left or the call is done. Returns whether the client left first."""
    watch = asyncio.ensure_future(leaving)
    either: set[asyncio.Future[Any]] = {watch, done}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return watch.done() and watch.result()
    finally:
        watch.cancel()
