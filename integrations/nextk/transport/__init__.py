"""What carries an operation to an index: HTTP, or a call in this process. Each transport serves both colours."""

from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from nextk.operations import Operation

T = TypeVar("T")

CLOSE_TIMEOUT = 2.0
"""Seconds that ending a query may take on the way out of a scope, an index or the process."""


class Transport(Protocol):
    """Carries operations to one index, from any thread and any event loop.

    Attributes:
        orphans: The uuids of resumable queries whose handles were dropped. A handle's finaliser only appends here; the
            next operation, `close` or the end of the process stops them.
        closing_hooks: What `close` and `aclose` call first, every time, before they stop the orphans: whoever keeps
            queries open on this transport hands their uuids to `orphans` there. No I/O. A forked child calls them too:
            what is the parent's is to be left alone.
    """

    orphans: deque[str]
    closing_hooks: list[Callable[[], None]]

    @property
    def identity(self) -> str:
        """Which index this is: the same in every process and after a restart, and no secret.

        Raises:
            ClientError: The transport is closed.
        """
        ...

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation, and repeat it where its rule allows.

        Raises:
            ClientError: It cannot be written as JSON, or the transport is closed.
            RefusedError: The index refused.
            PageUncertain: A page's fate is unknown.
            TransportError: No usable answer arrived.
        """
        ...

    async def asend(self, operation: Operation[T]) -> T:
        """The same without blocking the event loop."""
        ...

    def close(self) -> None:
        """Stop orphans and let go of connections; calling it again does nothing."""
        ...

    async def aclose(self) -> None:
        """The same for the running event loop."""
        ...
