"""A transport around another one, on which requests fail as a plan says."""

import asyncio
import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, overload

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import NextKError, QueryNotFound
from nextk.operations import Operation, stop
from nextk.testing.faults import ERROR_STATUS, Fault, FaultPlan, RequestKind
from nextk.transport import Transport
from nextk.transport.exactness import require_exact_search
from nextk.transport.numbering import Numbering
from nextk.transport.retries import Answer, Attempts
from nextk.types import InfoResult

T = TypeVar("T")

_RETRIES = 3  # as `Index` has it


@overload
def faulty(index: Index, plan: FaultPlan, *, numbered_pages: bool = True) -> Index: ...


@overload
def faulty(index: AsyncIndex, plan: FaultPlan, *, numbered_pages: bool = True) -> AsyncIndex: ...


def faulty(index: Index | AsyncIndex, plan: FaultPlan, *, numbered_pages: bool = True) -> Index | AsyncIndex:
    """Return a client of the same index on which resumable queries fail as planned. Closing either client closes both.

    Operations that may be repeated are repeated at once, as often as a client repeats them by default.

    Args:
        index: The client of the index, blocking or asynchronous.
        plan: The faults.
        numbered_pages: Whether the index numbers its pages if it can. `False` for one that behaves like a server which
            does not know numbered pages, as the hosted service. Default `True`.
    """
    transport = FaultyTransport(index._transport, plan, numbered_pages=numbered_pages)  # noqa: SLF001 - see below
    return type(index)._over(transport)  # noqa: SLF001 - how one colour is made of the other


class FaultyTransport:
    """A transport that carries operations as `inner` does, except where the plan has a fault.

    Args:
        inner: The transport to the index.
        plan: The faults.
        numbered_pages: Whether the index numbers its pages if `inner` says so. `False` for one that never says so.
            Default `True`.
    """

    def __init__(self, inner: Transport, plan: FaultPlan, *, numbered_pages: bool = True) -> None:
        self.orphans: deque[str] = inner.orphans
        self.closing_hooks: list[Callable[[], None]] = inner.closing_hooks
        self.numbering = inner.numbering if numbered_pages else Numbering(False)
        self._numbered_pages = numbered_pages
        self._inner = inner
        self._plan = plan

    def __repr__(self) -> str:
        return f"FaultyTransport({self._inner!r})"

    @property
    def identity(self) -> str:
        """The identity of the index behind `inner`."""
        return self._inner.identity

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation, unless the plan has a fault for it; see `nextk.transport.Transport`.

        Args:
            operation: The operation to carry.
        """
        self._require_known(operation)
        kind = RequestKind.of(operation.command)
        attempts = Attempts(operation, _RETRIES)
        while (answer := self._attempt(kind, operation, attempts)) is None:
            pass
        return answer.value

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation without blocking the event loop; see `nextk.transport.Transport`."""
        self._require_known(operation)
        kind = RequestKind.of(operation.command)
        attempts = Attempts(operation, _RETRIES)
        while (answer := await self._aattempt(kind, operation, attempts)) is None:
            pass
        return answer.value

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Copy the index inside; see `nextk.transport.Transport`.

        Args:
            path: The file to make.
            overwrite: Whether an index that is in the file already is replaced.
        """
        self._inner.backup(path, overwrite=overwrite)

    async def abackup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Copy the index inside without blocking the event loop; see `nextk.transport.Transport`."""
        await self._inner.abackup(path, overwrite=overwrite)

    def close(self) -> None:
        """Close the transport inside."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close the transport inside without blocking the event loop."""
        await self._inner.aclose()

    def _require_known(self, operation: Operation[Any]) -> None:
        """Refuse what a server that does not number pages does not know; else `inner` decides."""
        if not self._numbered_pages:
            require_exact_search(operation, self.numbering)

    def _shown(self, value: T) -> T:
        """Return what a client sees of a value: of `info`, only what the server is said to know."""
        if self._numbered_pages or not isinstance(value, InfoResult):
            return value
        return dataclasses.replace(value, numbered_pages=False)

    def _attempt(self, kind: RequestKind, operation: Operation[T], attempts: Attempts[T]) -> Answer[T] | None:
        fault = self._plan.on_request(kind)
        for uuid in self._plan.queries_to_end(fault, _uuid(operation)):
            try:
                self._inner.send(stop(uuid))
            except NextKError:
                continue  # gone already
        if fault is Fault.DROP_REQUEST:
            attempts.no_reply(_connection_reset(), where=repr(self._inner), sent=True)
            return None
        try:
            value = self._inner.send(operation)
        except QueryNotFound as error:
            return self._unknown(operation, error, attempts)
        self._record(kind, operation, value)
        if fault is Fault.DELAY:
            time.sleep(self._plan.delay)
        return self._deliver(fault, kind, value, attempts)

    async def _aattempt(self, kind: RequestKind, operation: Operation[T], attempts: Attempts[T]) -> Answer[T] | None:
        fault = self._plan.on_request(kind)
        for uuid in self._plan.queries_to_end(fault, _uuid(operation)):
            try:
                await self._inner.asend(stop(uuid))
            except NextKError:
                continue  # gone already
        if fault is Fault.DROP_REQUEST:
            attempts.no_reply(_connection_reset(), where=repr(self._inner), sent=True)
            return None
        try:
            value = await self._inner.asend(operation)
        except QueryNotFound as error:
            return self._unknown(operation, error, attempts)
        self._record(kind, operation, value)
        if fault is Fault.DELAY:
            await asyncio.sleep(self._plan.delay)
        return self._deliver(fault, kind, value, attempts)

    def _unknown(self, operation: Operation[T], error: QueryNotFound, attempts: Attempts[T]) -> Answer[T] | None:
        """Decide what follows when the index does not know the query; that depends on the attempts before."""
        uuid = _uuid(operation) or ""
        self._plan.ended(uuid)
        refusal = {"error": f"Resumable query with uuid {uuid} does not exist", "status": error.status}
        return attempts.reply(error.status, refusal)

    def _record(self, kind: RequestKind, operation: Operation[Any], value: Any) -> None:
        if kind is RequestKind.START:
            self._plan.started(value[0], known=operation.body.get("uuid") == value[0])
        elif kind is RequestKind.STOP:
            self._plan.ended(_uuid(operation) or "")

    def _deliver(self, fault: Fault | None, kind: RequestKind, value: Any, attempts: Attempts[T]) -> Answer[T] | None:
        if fault in (Fault.DROP_REPLY, Fault.RESET):
            attempts.no_reply(_connection_reset(), where=repr(self._inner), sent=True)
            return None
        if fault is Fault.TRUNCATE:
            return attempts.reply(200, None)
        if fault is Fault.ERROR_PAGE:
            return attempts.reply(ERROR_STATUS, None)
        if kind is RequestKind.START:
            self._plan.delivered(value[0])
        return Answer(self._shown(value))


def _uuid(operation: Operation[Any]) -> str | None:
    """Return the uuid of the query that an operation continues or stops; `None` for any other operation."""
    uuid = operation.body.get("uuid") if operation.continues else None
    return uuid if isinstance(uuid, str) else None


def _connection_reset() -> ConnectionResetError:
    return ConnectionResetError("the connection broke, as planned")
