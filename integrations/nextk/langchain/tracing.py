"""Sessions whose every call is a retriever run of LangChain's: traces show each page, under the caller's config."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import anyio
from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from nextk.sessions import AsyncRetrievalSession, RetrievalSession
from nextk.until import Policy

T = TypeVar("T")

_CANCEL_TIMEOUT = 2.0  # seconds for handlers to hear of a cancelled run


@dataclass
class Tracing:
    """What the runs of one search have in common.

    Attributes:
        query: The question.
        name: Of the runs, where the config has none.
        tags: The retriever's own.
        metadata: Likewise.
        params: What a trace says of the retriever.
        config: The caller's, or the one that surrounds the call that opens the search.
        run_id: Of the first run.
    """

    query: str
    name: str
    tags: list[str] | None
    metadata: dict[str, Any] | None
    params: Mapping[str, Any]
    config: RunnableConfig
    run_id: UUID | None = None

    def __post_init__(self) -> None:
        self._tapped = self.run_id is not None

    # Once for all runs: who listens is settled when the search begins, and where nobody does, a page costs no more.
    @cached_property
    def _manager(self) -> CallbackManager:
        return CallbackManager.configure(**self._configure())

    @cached_property
    def _async_manager(self) -> AsyncCallbackManager:
        return AsyncCallbackManager.configure(**self._configure())

    def _configure(self) -> dict[str, Any]:
        return {
            "inheritable_callbacks": self.config.get("callbacks"),
            "inheritable_tags": self.config.get("tags"),
            "local_tags": self.tags,
            "inheritable_metadata": {**(self.config.get("metadata") or {}), **self.params},
            "local_metadata": self.metadata,
        }

    def _start(self) -> dict[str, Any]:
        run_id, self.run_id = self.run_id, None  # only one run can have it
        return {"query": self.query, "name": self.config.get("run_name") or self.name, "run_id": run_id}

    @contextmanager
    def run(self) -> Iterator["RetrieverRun"]:
        """One run: ended with the documents that it is told of, or by the exception that leaves the block."""
        manager = self._manager
        started = manager.on_retriever_start(None, **self._start()) if manager.handlers else None
        run = RetrieverRun() if started is None else RetrieverRun(started.run_id, started.handlers, self._tapped)
        try:
            yield run
        except BaseException as error:
            if started is not None:
                _end_run(error, started.on_retriever_end, started.on_retriever_error, run)
            raise
        if started is not None:
            started.on_retriever_end(run.documents)

    @asynccontextmanager
    async def arun(self) -> AsyncIterator["RetrieverRun"]:
        """The same for an event loop; handlers hear of a cancelled run as well."""
        manager = self._async_manager
        started = await manager.on_retriever_start(None, **self._start()) if manager.handlers else None
        run = RetrieverRun() if started is None else RetrieverRun(started.run_id, started.handlers, self._tapped)
        try:
            yield run
        except BaseException as error:
            if started is not None:
                fault = isinstance(error, Exception)
                with anyio.move_on_after(None if fault else _CANCEL_TIMEOUT, shield=not fault):
                    await _end_run(error, started.on_retriever_end, started.on_retriever_error, run)
            raise
        if started is not None:
            await started.on_retriever_end(run.documents)


@dataclass
class RetrieverRun:
    """One run.

    Attributes:
        run_id: Its id; `None` where nobody listens.
        handlers: Who listens.
        tapped: Whether the caller shows the parts of the first run, as `astream_events` does, which gives it its id.
        documents: What it has brought.
    """

    run_id: UUID | None = None
    handlers: Sequence[Any] = ()
    tapped: bool = False
    documents: Sequence[Document] = ()

    @property
    def followed(self) -> bool:
        """Whether somebody wants to see its parts, by `astream_events` or `astream_log`."""
        return any(hasattr(handler, "tap_output_iter") for handler in self.handlers)

    def taps(self, kind: str) -> list[Callable[..., Any]]:
        """What shows the parts, an `"iter"` or an `"aiter"` of them, to those who want to see them."""
        name = f"tap_output_{kind}"
        return [] if self.tapped else [getattr(each, name) for each in self.handlers if hasattr(each, name)]


class TracedSession(RetrievalSession[Document]):
    """A search of which traces show every call.

    Args:
        tracing: What its runs have in common.
        *args: As for `RetrievalSession`.
        **kwargs: Likewise.
    """

    def __init__(self, tracing: Tracing, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tracing = tracing

    def fetch_next(self, n: int) -> list[Document]:
        """As `RetrievalSession.fetch_next`, in a run of its own."""
        with self._tracing.run() as run:
            run.documents = documents = super().fetch_next(n)
        return documents

    def fetch_until(self, policy: Policy | None = None) -> list[Document]:
        """As `RetrievalSession.fetch_until`, in a run of its own."""
        with self._tracing.run() as run:
            run.documents = documents = super().fetch_until(policy)
        return documents

    def _fetch_one(self) -> list[Document]:
        with self._tracing.run() as run:
            run.documents = documents = super()._fetch_one()
        return documents


class AsyncTracedSession(AsyncRetrievalSession[Document]):
    """The same for an event loop.

    Args:
        tracing: What its runs have in common.
        *args: As for `AsyncRetrievalSession`.
        **kwargs: Likewise.
    """

    def __init__(self, tracing: Tracing, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tracing = tracing

    async def fetch_next(self, n: int) -> list[Document]:
        """As `AsyncRetrievalSession.fetch_next`, in a run of its own."""
        async with self._tracing.arun() as run:
            run.documents = documents = await super().fetch_next(n)
        return documents

    async def fetch_until(self, policy: Policy | None = None) -> list[Document]:
        """As `AsyncRetrievalSession.fetch_until`, in a run of its own."""
        async with self._tracing.arun() as run:
            run.documents = documents = await super().fetch_until(policy)
        return documents

    async def _fetch_one(self) -> list[Document]:
        async with self._tracing.arun() as run:
            run.documents = documents = await super()._fetch_one()
        return documents


def _end_run(error: BaseException, end: Callable[..., T], fail: Callable[..., T], run: RetrieverRun) -> T:
    """Tell of a run that was left: by whoever has had enough, which is no fault, or by an exception."""
    return end(run.documents) if isinstance(error, GeneratorExit) else fail(error)
