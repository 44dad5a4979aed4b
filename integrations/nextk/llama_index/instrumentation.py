"""What LlamaIndex is told of each pull: events, callbacks, and a span of the retriever's class."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent, RetrievalStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index_instrumentation.dispatcher import Dispatcher

from nextk.sessions import Report


@dataclass
class ObservedPull:
    """One pull: what it brought, and how the search stood then."""

    nodes: list[NodeWithScore] = field(default_factory=list)
    report: Report = field(default_factory=Report)

    @property
    def payload(self) -> dict[str, Any]:
        """What is said of the search besides the nodes."""
        report = self.report
        return {
            "pulls": report.pulls,
            "pulled": report.pulled,
            "kept": report.kept,
            "exhausted": report.exhausted,
            "recovered": report.recovered,
            "stop_reason": report.stop_reason,
        }


@contextmanager
def observed(dispatcher: Dispatcher, callbacks: CallbackManager, query_bundle: QueryBundle) -> Iterator[ObservedPull]:
    """Tell of a pull as LlamaIndex's own retrievers tell of a retrieval; what it brought is put into what is yielded.

    The end says more than they do: the event in its tags, the callback in its payload.
    """
    pull = ObservedPull()
    dispatcher.event(RetrievalStartEvent(str_or_query_bundle=query_bundle))
    payload: dict[str, Any] = {EventPayload.QUERY_STR: query_bundle.query_str}
    with callbacks.as_trace("query"), callbacks.event(CBEventType.RETRIEVE, payload=payload) as event:
        yield pull
        event.on_end(payload={EventPayload.NODES: pull.nodes, **pull.payload})
    dispatcher.event(RetrievalEndEvent(str_or_query_bundle=query_bundle, nodes=pull.nodes, tags=pull.payload))
