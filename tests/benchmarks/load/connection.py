"""A connection of one client, on which one request follows the other, and every reply is kept as an example."""

from http import HTTPStatus
from typing import Any, Self

import orjson

from tests.benchmarks.load.timings import Timings
from tests.support.server_process import RawConnection, ServerProcess


class Connection:
    """Sends requests and times them.

    Args:
        raw: The connection.
        timings: The place for times, faults and examples of replies.
    """

    def __init__(self, raw: RawConnection, timings: Timings) -> None:
        self._raw = raw
        self._timings = timings

    @classmethod
    async def open(cls, server: ServerProcess, timings: Timings) -> Self:
        """Connect to a server."""
        return cls(await RawConnection.open(server), timings)

    async def call(self, kind: str, path: str, body: object) -> Any:
        """Send a request, and return its result; `None` if it was refused, which is a fault."""
        content = orjson.dumps(body)
        with self._timings.time(kind):
            status, reply = await self._raw.send(path, content)
        if status != HTTPStatus.OK:
            self._timings.faults.append(f"{kind}: status {status}: {reply[:200].decode(errors='replace')}")
            return None
        self._timings.replies[kind] = reply
        return orjson.loads(reply)["result"]

    async def close(self) -> None:
        """Close the connection."""
        await self._raw.close()
