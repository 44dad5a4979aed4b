"""Faults in the requests of a source: one call of its methods fails, or never returns. Private."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any
from unittest import mock

from nextk.sessions.source import Source


class LostConnection(ConnectionError):
    """The exception of a request whose connection was planned to break."""


class StoreFailure(Exception):
    """The exception of a request that the store was planned to refuse, of a class that nothing else knows."""


class SourceRequests:
    """Counts the requests that a source sends, and makes one of them fail.

    Args:
        fail_at: The number of the request that fails, from 1; 0 for none.
        after: Whether it fails after the source has carried it out, as if the reply were lost.
        hang: Whether it waits without an end instead of raising, which only an asynchronous request can do.
        error: The class of the exception that it raises.

    Attributes:
        count: The number of requests so far.
        hanging: Set once a request hangs.
    """

    def __init__(
        self, fail_at: int = 0, *, after: bool = False, hang: bool = False, error: type[Exception] = LostConnection
    ) -> None:
        self.count = 0
        self.hanging = asyncio.Event()
        self._fail_at = fail_at
        self._after = after
        self._hang = hang
        self._error = error
        self._within: ContextVar[bool] = ContextVar("within", default=False)  # a request may call another method

    @contextlib.contextmanager
    def of(self, source: Source, names: Sequence[str]) -> Iterator[None]:
        """Wrap methods of the class of a source for a while.

        Args:
            source: The source.
            names: The names of the methods that send requests; those that the source does not have are left out.
        """
        kind = type(source)
        with contextlib.ExitStack() as patches:
            for name in names:
                method = getattr(kind, name, None)
                if method is not None:
                    patches.enter_context(mock.patch.object(kind, name, self._wrapped(method)))
            yield

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(method):

            async def arequest(*args: Any, **keywords: Any) -> Any:
                if self._within.get():
                    return await method(*args, **keywords)
                failing = self._begin()
                if failing and not self._after:
                    await self._afail()
                token = self._within.set(True)
                try:
                    answer = await method(*args, **keywords)
                finally:
                    self._within.reset(token)
                if failing:
                    await self._afail()
                return answer

            return arequest

        def request(*args: Any, **keywords: Any) -> Any:
            if self._within.get():
                return method(*args, **keywords)
            failing = self._begin()
            if failing and not self._after:
                raise self._error
            token = self._within.set(True)
            try:
                answer = method(*args, **keywords)
            finally:
                self._within.reset(token)
            if failing:
                raise self._error
            return answer

        return request

    def _begin(self) -> bool:
        """Count a request. Returns whether it is the one that fails."""
        self.count += 1
        return self.count == self._fail_at

    async def _afail(self) -> None:
        if self._hang:
            self.hanging.set()
            await asyncio.Event().wait()
        raise self._error
