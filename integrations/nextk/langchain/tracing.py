"""Sessions each call of which is a retriever run of LangChain's, so that traces show every page under its config."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import anyio
from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from nextk.sessions import AsyncRetrievalSession, RetrievalSession, Shortfall
from nextk.until import Policy

T = TypeVar("T")

SHORTFALL = "nextk_shortfall"
"""The key in the metadata of a run, and the name of a custom event, that say that a limit has ended a search early."""
_CANCEL_TIMEOUT = 2.0  # seconds in which handlers are told of a cancelled run


@dataclass
class Tracing:
    """The common part of the runs of one search, and the reports of each run to LangChain's handlers.

    Attributes:
        query: The text of the query.
        name: The name of the runs, where the config has none.
        tags: The retriever's own tags.
        metadata: The retriever's own metadata.
        params: What a trace says about the retriever, such as the name of its embedding model.
        config: The caller's config, or that of the chain or graph in which the search is opened.
        run_id: The id of the first run; `None` for a new one.
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

    # One manager for all runs: the handlers are those of the beginning, and without any a page costs nothing more.
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

    def _start(self, manager: CallbackManager | AsyncCallbackManager) -> dict[str, Any]:
        manager.metadata = {key: value for key, value in manager.metadata.items() if key != SHORTFALL}  # of this run
        run_id, self.run_id = self.run_id, None  # only one run can have it
        return {"query": self.query, "name": self.config.get("run_name") or self.name, "run_id": run_id}

    @contextmanager
    def run(self) -> Iterator["RetrieverRun"]:
        """Report one run: it ends with the documents that the block gives it, or with the exception of the block.

        Yields:
            The run, to whose `documents` the block assigns what it has brought.
        """
        manager = self._manager
        started = manager.on_retriever_start(None, **self._start(manager)) if manager.handlers else None
        run = RetrieverRun() if started is None else RetrieverRun(started.run_id, started.handlers, self._tapped)
        try:
            yield run
        except BaseException as error:
            if started is not None:
                _end_run(error, started.on_retriever_end, started.on_retriever_error, run)
            raise
        if started is not None:
            trace_shortfall(started, run.shortfall)
            started.on_retriever_end(run.documents)

    @asynccontextmanager
    async def arun(self) -> AsyncIterator["RetrieverRun"]:
        """Report one run without blocking the event loop; see `run`. Handlers are told of a cancelled run as well."""
        manager = self._async_manager
        started = await manager.on_retriever_start(None, **self._start(manager)) if manager.handlers else None
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
            await atrace_shortfall(started, run.shortfall)
            await started.on_retriever_end(run.documents)


@dataclass
class RetrieverRun:
    """One retriever run.

    Attributes:
        run_id: The id of the run; `None` if there is no handler.
        handlers: LangChain's callback handlers of the run.
        tapped: Whether the caller shows the parts of the run itself, as `astream_events` does for a run whose id it
            has given.
        documents: The documents that the run has brought.
        shortfall: How much that is, if a limit has ended the run before there was enough; `None` if not.
    """

    run_id: UUID | None = None
    handlers: Sequence[Any] = ()
    tapped: bool = False
    documents: Sequence[Document] = ()
    shortfall: Shortfall | None = None

    @property
    def followed(self) -> bool:
        """Whether a handler wants to see the parts of the run, for `astream_events` or `astream_log`."""
        return any(hasattr(handler, "tap_output_iter") for handler in self.handlers)

    def taps(self, kind: str) -> list[Callable[..., Any]]:
        """Return the functions that show the parts of the run to the handlers that want to see them.

        Args:
            kind: `"iter"` for functions that take an iterator of the parts, `"aiter"` for an asynchronous iterator.
        """
        name = f"tap_output_{kind}"
        return [] if self.tapped else [getattr(each, name) for each in self.handlers if hasattr(each, name)]


class TracedSession(RetrievalSession[Document]):
    """A search each call of which is a retriever run in LangChain's traces.

    Args:
        tracing: What the runs of the search have in common.
        *args: The positional arguments of `RetrievalSession`.
        **kwargs: The keyword arguments of `RetrievalSession`.
    """

    def __init__(self, tracing: Tracing, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tracing = tracing

    def fetch_next(self, n: int) -> list[Document]:
        """Fetch the next `n` documents as `RetrievalSession.fetch_next` does, in a run of its own."""
        with self._tracing.run() as run:
            run.documents = documents = super().fetch_next(n)
            run.shortfall = self.report.shortfall
        return documents

    def fetch_until(self, policy: Policy | None = None) -> list[Document]:
        """Fetch documents as `RetrievalSession.fetch_until` does, in a run of its own."""
        with self._tracing.run() as run:
            run.documents = documents = super().fetch_until(policy)
            run.shortfall = self.report.shortfall
        return documents

    def _fetch_one(self) -> list[Document]:
        with self._tracing.run() as run:
            run.documents = documents = super()._fetch_one()
        return documents


class AsyncTracedSession(AsyncRetrievalSession[Document]):
    """A search for an event loop each call of which is a retriever run in LangChain's traces.

    Args:
        tracing: What the runs of the search have in common.
        *args: The positional arguments of `AsyncRetrievalSession`.
        **kwargs: The keyword arguments of `AsyncRetrievalSession`.
    """

    def __init__(self, tracing: Tracing, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tracing = tracing

    async def fetch_next(self, n: int) -> list[Document]:
        """Fetch the next `n` documents as `AsyncRetrievalSession.fetch_next` does, in a run of its own."""
        async with self._tracing.arun() as run:
            run.documents = documents = await super().fetch_next(n)
            run.shortfall = self.report.shortfall
        return documents

    async def fetch_until(self, policy: Policy | None = None) -> list[Document]:
        """Fetch documents as `AsyncRetrievalSession.fetch_until` does, in a run of its own."""
        async with self._tracing.arun() as run:
            run.documents = documents = await super().fetch_until(policy)
            run.shortfall = self.report.shortfall
        return documents

    async def _fetch_one(self) -> list[Document]:
        async with self._tracing.arun() as run:
            run.documents = documents = await super()._fetch_one()
        return documents


def _end_run(error: BaseException, end: Callable[..., T], fail: Callable[..., T], run: RetrieverRun) -> T:
    """Report the end of a run to LangChain: as an error, unless the caller only stopped iterating."""
    return end(run.documents) if isinstance(error, GeneratorExit) else fail(error)


def trace_shortfall(manager: CallbackManagerForRetrieverRun, shortfall: Shortfall | None) -> None:
    """Say in the trace of a retriever run that a limit has ended its search before there was enough.

    The sentence is put into the metadata of the run, which tracers store when the run ends, and handlers are given a
    custom event with the counts, which `astream_events` shows at once.

    Args:
        manager: The manager of the run, which has not ended yet.
        shortfall: How much the search has brought; `None` if there was enough, and then nothing is said.
    """
    if shortfall is not None:
        manager.metadata[SHORTFALL] = str(shortfall)  # the dict that the handlers were given when the run began
        events = CallbackManager(handlers=manager.handlers, tags=manager.tags, metadata=manager.metadata)
        events.on_custom_event(SHORTFALL, asdict(shortfall), run_id=manager.run_id)


async def atrace_shortfall(manager: AsyncCallbackManagerForRetrieverRun, shortfall: Shortfall | None) -> None:
    """Say in the trace of a run that a limit has ended its search, without blocking; see `trace_shortfall`."""
    if shortfall is not None:
        manager.metadata[SHORTFALL] = str(shortfall)
        events = AsyncCallbackManager(handlers=manager.handlers, tags=manager.tags, metadata=manager.metadata)
        await events.on_custom_event(SHORTFALL, asdict(shortfall), run_id=manager.run_id)
