"""Events, callbacks and spans of each pull, so that LlamaIndex's tracers see it as a retrieval."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent, RetrievalStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index_instrumentation.dispatcher import Dispatcher

from nextk.sessions import AsyncRetrievalSession, Report, RetrievalMode, RetrievalSession, Shortfall
from nextk.until import Policy

if TYPE_CHECKING:
    from nextk.llama_index.retriever import ResumableRetriever


@dataclass
class ObservedPull:
    """One pull as LlamaIndex is told about it.

    Attributes:
        nodes: The nodes that the pull has brought.
        report: The report of the search after the pull.
    """

    nodes: list[NodeWithScore] = field(default_factory=list)
    report: Report = field(default_factory=Report)

    @property
    def payload(self) -> dict[str, Any]:
        """The figures of the search that LlamaIndex is told besides the nodes."""
        report = self.report
        return {
            "pulls": report.pulls,
            "pulled": report.pulled,
            "kept": report.kept,
            "exhausted": report.exhausted,
            "recovered": report.recovered,
            "faults": report.recovery.faults,
            "stop_reason": report.stop_reason,
            "shortfall": None if report.shortfall is None else str(report.shortfall),
        }


class ShortfallEvent(BaseEvent):
    """The event that a limit has ended a search before there was enough. It comes before the end of the retrieval.

    Attributes:
        message: One sentence that says how much came and how to get more. It holds no text, no id and no query.
        reason: The limit: `"max_results"`, `"max_pulls"` or `"deadline"`; or `"no_room"`, see `Shortfall`.
        pulls: The number of pages that were requested.
        pulled: The number of matches on these pages.
        kept: The number of nodes that were returned.
        dropped: The number of matches that were dropped, by cause.
    """

    message: str
    reason: str
    pulls: int
    pulled: int
    kept: int
    dropped: dict[str, int]

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this event, as LlamaIndex's event handlers know it."""
        return "ShortfallEvent"


def announce(dispatcher: Dispatcher, shortfall: Shortfall | None) -> None:
    """Dispatch the event that a limit has ended a search early.

    Args:
        dispatcher: The dispatcher of the events.
        shortfall: How much the search has brought; `None` if there was enough, and then nothing is dispatched.
    """
    if shortfall is not None:
        dispatcher.event(
            ShortfallEvent(
                message=str(shortfall),
                reason=shortfall.reason,
                pulls=shortfall.pulls,
                pulled=shortfall.pulled,
                kept=shortfall.kept,
                dropped=dict(shortfall.dropped),
            )
        )


@contextmanager
def observed(dispatcher: Dispatcher, callbacks: CallbackManager, query_bundle: QueryBundle) -> Iterator[ObservedPull]:
    """Report a pull to LlamaIndex as its own retrievers report a retrieval: two events and one callback.

    The end says more than theirs: the event carries the figures of the search in its tags, the callback in its payload.

    Args:
        dispatcher: The dispatcher of the events.
        callbacks: The callback manager of the retriever.
        query_bundle: The query.

    Yields:
        The pull, into which the block puts what the pull has brought.
    """
    pull = ObservedPull()
    dispatcher.event(RetrievalStartEvent(str_or_query_bundle=query_bundle))
    payload: dict[str, Any] = {EventPayload.QUERY_STR: query_bundle.query_str}
    with callbacks.as_trace("query"), callbacks.event(CBEventType.RETRIEVE, payload=payload) as event:
        yield pull
        event.on_end(payload={EventPayload.NODES: pull.nodes, **pull.payload})
    announce(dispatcher, pull.report.shortfall)
    dispatcher.event(RetrievalEndEvent(str_or_query_bundle=query_bundle, nodes=pull.nodes, tags=pull.payload))


class ObservedSession(RetrievalSession[NodeWithScore]):
    """A search whose calls go through its retriever, because tracers know a retrieval by the class that does it.

    Args:
        retriever: The retriever that has opened the search.
        query_bundle: The query.
        *args: The positional arguments of `RetrievalSession`.
        **kwargs: The keyword arguments of `RetrievalSession`.
    """

    def __init__(self, retriever: "ResumableRetriever", query_bundle: QueryBundle, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._retriever = retriever
        self._query_bundle = query_bundle

    # `_pull` and `_apull` are the retriever's half of these calls.

    def fetch_next(self, n: int) -> list[NodeWithScore]:
        """Fetch the next `n` nodes as `RetrievalSession.fetch_next` does, seen by tracers."""
        return self._retriever._pull(self._query_bundle, self, super().fetch_next, n)  # noqa: SLF001

    def fetch_until(self, policy: Policy | None = None) -> list[NodeWithScore]:
        """Fetch nodes until a policy has enough as `RetrievalSession.fetch_until` does, seen by tracers."""
        return self._retriever._pull(self._query_bundle, self, super().fetch_until, policy)  # noqa: SLF001

    def _fetch_one(self) -> list[NodeWithScore]:
        return self._retriever._pull(self._query_bundle, self, super()._fetch_one)  # noqa: SLF001

    def widen(self, *, retrieval_mode: RetrievalMode | str | None = None, filter: str | None = None) -> None:
        """Go on in another mode or through another filter as `RetrievalSession.widen` does.

        The retriever's `filters`, `doc_ids` and `node_ids` hold besides the new filter, as they hold besides the first.
        """
        restricted = self._retriever._restrictions.replacing(filter)  # noqa: SLF001
        super().widen(retrieval_mode=retrieval_mode, filter=restricted)


class AsyncObservedSession(AsyncRetrievalSession[NodeWithScore]):
    """A search for an event loop whose calls go through its retriever, because tracers know a retrieval by its class.

    Args:
        retriever: The retriever that has opened the search.
        query_bundle: The query.
        *args: The positional arguments of `AsyncRetrievalSession`.
        **kwargs: The keyword arguments of `AsyncRetrievalSession`.
    """

    def __init__(self, retriever: "ResumableRetriever", query_bundle: QueryBundle, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._retriever = retriever
        self._query_bundle = query_bundle

    async def fetch_next(self, n: int) -> list[NodeWithScore]:
        """Fetch the next `n` nodes as `AsyncRetrievalSession.fetch_next` does, seen by tracers."""
        return await self._retriever._apull(self._query_bundle, self, super().fetch_next, n)  # noqa: SLF001

    async def fetch_until(self, policy: Policy | None = None) -> list[NodeWithScore]:
        """Fetch nodes until a policy has enough as `AsyncRetrievalSession.fetch_until` does, seen by tracers."""
        return await self._retriever._apull(self._query_bundle, self, super().fetch_until, policy)  # noqa: SLF001

    async def _fetch_one(self) -> list[NodeWithScore]:
        return await self._retriever._apull(self._query_bundle, self, super()._fetch_one)  # noqa: SLF001

    async def widen(self, *, retrieval_mode: RetrievalMode | str | None = None, filter: str | None = None) -> None:
        """Go on in another mode or through another filter as `AsyncRetrievalSession.widen` does.

        The retriever's `filters`, `doc_ids` and `node_ids` hold besides the new filter, as they hold besides the first.
        """
        restricted = self._retriever._restrictions.replacing(filter)  # noqa: SLF001
        await super().widen(retrieval_mode=retrieval_mode, filter=restricted)
