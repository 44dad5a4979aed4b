"""The end of a server: running requests have some seconds to finish, then they are given up, in words."""

import asyncio
import socket
from collections.abc import Callable

import uvicorn

GRACE = 10
"""Seconds that running requests have to finish after a signal."""
_REPLIES = 1  # seconds that requests that were given up have to be answered, before their connections are closed


class StoppingServer(uvicorn.Server):
    """A server of uvicorn that gives running requests up before it closes their connections.

    Args:
        config: The configuration. Its time for a graceful shutdown is set.
        give_up: Ends the running requests, so that each is answered. It is called in the event loop.
        grace: The seconds that running requests have to finish. Default `GRACE`.
    """

    def __init__(self, config: uvicorn.Config, give_up: Callable[[], None], grace: float = GRACE) -> None:
        super().__init__(config)
        self.config.timeout_graceful_shutdown = grace + _REPLIES  # type: ignore[assignment]  # it may have a fraction
        self._give_up = give_up
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to listen, let the requests finish, and give up those that have not done so in time.

        Args:
            sockets: The sockets that the server listens on.
        """
        timer = asyncio.get_running_loop().call_later(self._grace, self._give_up)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
