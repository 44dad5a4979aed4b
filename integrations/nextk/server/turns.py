"""Threads that run blocking calls, only so many at a time, so that the calls do not compete for the cores."""

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from nextk.engine.abandonment import GivenUp, abandonable
from nextk.server.fair_turns import FairQueue

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
    """Runs blocking calls, at most so many at a time and one more of an index of which none runs.

    The others wait: the indexes take turns, and the calls of one index run in the order in which they came.

    Args:
        count: The number of calls that may run at the same time.
        name: The beginning of the names of the threads.
        executor: Makes that which runs the calls, of the largest number of calls at a time and the name. Default:
            threads.
    """

    def __init__(self, count: int, name: str, executor: Callable[[int, str], Executor] = ThreadPoolExecutor) -> None:
        self._make_threads = functools.partial(executor, count + 1, name)
        self._threads = self._make_threads()
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(count)
        self._ended = threading.Event()

    async def run(self, index: str, call: Callable[[], T], has_left: Callable[[], Awaitable[bool]]) -> T:
        """Run a call in a thread when its turn comes.

        A task that is cancelled while it waits for its turn gives the turn back. If the call runs already, the task
        ends when the call does.

        Args:
            index: The index that the call is for.
            call: The blocking call.
            has_left: A function that waits for the client to leave and then returns `True`, or returns `False` if that
                cannot be told. It is called only if the call has to wait, or is not done soon, and is cancelled when
                the wait ends or the call is done. A call whose client leaves while it runs learns so by `is_abandoned`.

        Returns:
            The result of the call.

        Raises:
            ClientLeft: The client left before the turn came.
            GivenUp: The server has ended its calls (status 503).
        """
        if self._ended.is_set():
            raise _stopping()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.add(index, turn)
        try:
            self._begin_next()
            if not turn.done() and await _ends_first(has_left(), turn):
                raise ClientLeft
            await turn
            return await self._run(call, has_left)
        finally:
            self._queue.remove(index, turn)
            self._begin_next()

    async def _run(self, call: Callable[[], T], has_left: Callable[[], Awaitable[bool]]) -> T:
        """Run a call whose turn has come."""
        left, ended = threading.Event(), self._ended

        def is_abandoned() -> bool:
            if ended.is_set():
                raise _stopping()
            return left.is_set()

        done = asyncio.wrap_future(self._threads.submit(abandonable, is_abandoned, call))
        try:
            await asyncio.wait({done}, timeout=_SOON)  # a call that is done so soon has no client that is watched
            if not done.done() and await _ends_first(has_left(), done):
                left.set()
            return await asyncio.shield(done)
        except BaseException:
            left.set()
            done.add_done_callback(_read)
            await asyncio.wait({done})
            raise

    def _begin_next(self) -> None:
        for turn in self._queue.take():
            if not turn.done():  # its task may just have been cancelled
                turn.set_result(None)

    def waiting(self) -> Mapping[str, int]:
        """Return the number of calls that wait for their turn, for each index that has any."""
        return self._queue.waiting()

    def end(self) -> None:
        """Refuse the calls that wait, and those that come, and give up those that run where they can be given up.

        To be called in the event loop.
        """
        self._ended.set()
        for turn in self._queue.waiting_calls():
            if not turn.done():
                turn.set_exception(_stopping())

    def close(self) -> None:
        """End the threads when the calls that run are done. A later call starts new ones."""
        threads, self._threads, self._ended = self._threads, self._make_threads(), threading.Event()
        threads.shutdown(wait=False, cancel_futures=True)


def _read(done: "asyncio.Future[Any]") -> None:
    """Read how a call has ended that nobody waits for, or asyncio would log its error as one that is unknown."""
    if not done.cancelled():
        done.exception()


def _stopping() -> GivenUp:
    message = "The server is being stopped, and the request was given up: send it again when the server is back"
    return GivenUp(message, 503)


async def _ends_first(leaving: Awaitable[bool], done: "asyncio.Future[T]") -> bool:
    """Wait until either the client has left or the call is done. Returns whether the client left first."""
    watch = asyncio.ensure_future(leaving)
    either: set[asyncio.Future[Any]] = {watch, done}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return watch.done() and watch.result()
    finally:
        watch.cancel()
