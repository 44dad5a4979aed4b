"""Transports carry operations to an index, over HTTP or by calls in this process.

Each transport serves both the blocking and the asynchronous client.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from nextk.operations import Operation
from nextk.transport.numbering import Numbering
from nextk.types import QueryMode, SparseVector

T = TypeVar("T")

CLOSE_TIMEOUT = 2.0
"""Seconds that stopping a query may take when a `with` block, an index or the process ends."""


class Transport(Protocol):
    """Carries operations to one index, from any thread and any event loop.

    Attributes:
        orphans: The uuids of resumable queries whose handles were dropped. A handle's finaliser only appends here; the
            next operation, `close` or the end of the process stops them.
        closing_hooks: Functions that `close` and `aclose` call first, every time, before they stop the orphans. An
            owner of open queries adds their uuids to `orphans` there. A hook does no I/O. A forked child calls the
            hooks too, so they have to leave the queries of the parent alone.
        numbering: Whether the index numbers the pages of resumable queries, as far as it has said so.
    """

    orphans: deque[str]
    closing_hooks: list[Callable[[], None]]
    numbering: Numbering

    @property
    def identity(self) -> str:
        """A name of the index that is the same in every process and after a restart, and holds no secret.

        Raises:
            ClientError: The transport is closed.
        """
        ...

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation to the index, and repeat it where `Operation.repeat` allows.

        Args:
            operation: The operation to carry.

        Returns:
            What `Operation.parse` makes of the reply.

        Raises:
            ClientError: The body cannot be written as JSON, or the transport is closed.
            RefusedError: The index refused the operation.
            PageUncertain: It is unknown whether the server advanced the resumable query, and the operation is not
                numbered; or somebody else has advanced the query.
            TransportError: No usable reply arrived.
        """
        ...

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation to the index without blocking the event loop; see `send` for the rest.

        If a start is cancelled, the transport adds its query to the orphans as soon as it is known.
        """
        ...

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Copy the index into a file on this machine, if it is embedded in this process.

        Args:
            path: The file to make.
            overwrite: Whether an index that is in the file already is replaced.

        Raises:
            ClientError: The index is behind a server, the transport is closed, or the copy cannot be made.
        """
        ...

    async def abackup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Copy the index without blocking the event loop; see `backup` for the rest."""
        ...

    def close(self) -> None:
        """Stop the orphans and close the connections or the engine. Calling it again does nothing."""
        ...

    async def aclose(self) -> None:
        """Stop the orphans and close what belongs to the running event loop, without blocking it."""
        ...


@runtime_checkable
class QueryEmbedder(Protocol):
    """A transport that can have a query embedded without a search, because the models of the index are in this process.

    The protocol of the wire has no such request.
    """

    def embed_query(self, text: str, mode: QueryMode) -> tuple[list[float] | None, SparseVector | None]:
        """Embed the text of a query by the models of the index.

        Args:
            text: The text.
            mode: The vectors of a hybrid index that are wanted.

        Returns:
            The dense vector, float (dimension,), and the sparse one; `None` for a kind that the index does not have or
            the mode leaves out.

        Raises:
            ClientError: The transport is closed.
            RefusedError: The index has no model for it, or a model failed.
        """
        ...

    async def aembed_query(self, text: str, mode: QueryMode) -> tuple[list[float] | None, SparseVector | None]:
        """Embed the text of a query without blocking the event loop; see `embed_query`."""
        ...
