"""Threads that run blocking calls, only so many at a time, so that the calls do not compete for the cores."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


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
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._unfinished = 0
        self._threads = ThreadPoolExecutor(count, name)

    async def run(self, call: Callable[[], T], has_left: Callable[[], Awaitable[bool]]) -> T:
        """Run a call in a thread when its turn comes.

        A task that is cancelled while it waits for its turn gives the turn back. If the call runs already, the task
        ends when the call does.

        Args:
            call: The blocking call.
            has_left: A function that waits for the client to leave and then returns `True`, or returns `False` if that
                cannot be told. It is called only if the call has to wait, and is cancelled when the call is done.

        Returns:
            The result of the call.

        Raises:
            ClientLeft: The client left before the turn came.
        """
        self._unfinished += 1
        work = self._threads.submit(call)
        done = asyncio.wrap_future(work)
        try:
            if self._unfinished > self._count and await _ends_first(has_left(), done) and work.cancel():
                raise ClientLeft
            return await asyncio.shield(done)
        except BaseException:
            if not work.cancel():
                await asyncio.wait({done})
            raise
        finally:
            self._unfinished -= 1

    def waiting(self) -> int:
        """Return the number of calls that wait for their turn."""
        return max(0, self._unfinished - self._count)

    def close(self) -> None:
        """End the threads when the calls that run are done. No call can be made afterwards."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _ends_first(leaving: Awaitable[bool], done: "asyncio.Future[T]") -> bool:
    """Wait until either the client has left or the call is done. Returns whether the client left first."""
    watch = asyncio.ensure_future(leaving)
    either: set[asyncio.Future[Any]] = {watch, done}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return watch.done() and watch.result()
    finally:
        watch.cancel()
