"""A lock for tasks whose owner may be used in one event loop after another."""

import asyncio

from nextk.errors import ClientError


class LoopLock:
    """An `asyncio.Lock` that works in the event loop that is running.

    A lock of asyncio belongs to the loop in which it was first waited for. This one is made anew in another loop, once
    the former loop has released it or is closed.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    def guard(self) -> asyncio.Lock:
        """Return the lock of the running event loop, to be taken with `async with`.

        Raises:
            ClientError: A task of another event loop holds the lock.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and self._lock.locked() and not self._loop.is_closed():
                message = "this is in use in another event loop; use one per loop, or wait until that one is done"
                raise ClientError(message)
            self._loop, self._lock = loop, asyncio.Lock()
        return self._lock
