"""A lock for tasks that may belong to one event loop after another."""

import asyncio

from nextk.errors import ClientError


class LoopLock:
    """An `asyncio.Lock` for whichever event loop is running.

    A lock of asyncio belongs to the loop in which it was first waited for. This one moves on with its owner: from a
    loop that let go of it, or that is gone.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    def guard(self) -> asyncio.Lock:
        """The lock of the running loop, to be taken with `async with`.

        Raises:
            ClientError: Another loop holds it.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and self._lock.locked() and not self._loop.is_closed():
                message = "this is in use in another event loop; use one per loop, or wait until that one is done"
                raise ClientError(message)
            self._loop, self._lock = loop, asyncio.Lock()
        return self._lock
