"""The query engine that goes on until enough nodes have passed its postprocessors."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import PromptTemplate, instrumentation
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.query import QueryEndEvent, QueryStartEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent, RetrievalStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import LongContextReorder, SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import BaseQueryEngine, CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode, get_response_synthesizer
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle, TextNode
from pydantic import Field

from nextk import Index
from nextk.errors import ClientError, LimitReached
from nextk.llama_index import RefillingQueryEngine, ResumableRetriever
from nextk.until import Accepted, DistinctBy, MinScore, Policy
from tests.support.sentence_index import QUESTION, TEXTS

BUNDLE = QueryBundle(QUESTION)


class Every(BaseNodePostprocessor):
    """Lets every `n`th sentence pass, and spoils what it is given, as postprocessors may."""

    n: int

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        assert query_bundle is not None
        passed = [node for node in nodes if node.node.metadata["place"] % self.n == 0]
        for node in nodes:
            node.score = 0.0
            node.node.metadata["place"] = -1
        return passed


class Last(BaseNodePostprocessor):
    """A reranker: the nodes of the last sentences, the last first."""

    top_n: int

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return sorted(nodes, key=lambda node: int(node.node_id[1:]), reverse=True)[: self.top_n]


class Noting(BaseEventHandler):
    """Notes the events of a run."""

    events: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        """Its name."""
        return "Noting"

    def handle(self, event: Any, **_: Any) -> None:
        """Note an event."""
        self.events.append(event)


def synthesizer() -> BaseSynthesizer:
    """Answers with its prompt."""
    return get_response_synthesizer(llm=MockLLM())


def engine_of(retriever: BaseRetriever, *postprocessors: BaseNodePostprocessor, min_nodes: int) -> RefillingQueryEngine:
    """An engine without a model."""
    return RefillingQueryEngine(retriever, synthesizer(), list(postprocessors), min_nodes=min_nodes)


def plain(index: Index, top_k: int, *postprocessors: BaseNodePostprocessor) -> list[str]:
    """What LlamaIndex's engine retrieves with so many nodes."""
    retriever = ResumableRetriever(index, similarity_top_k=top_k)
    return ids(RetrieverQueryEngine(retriever, synthesizer(), list(postprocessors)).retrieve(BUNDLE))


def ids(nodes: Sequence[NodeWithScore]) -> list[str]:
    """The ids of nodes."""
    return [node.node_id for node in nodes]


async def both(engine: RefillingQueryEngine, question: QueryBundle = BUNDLE) -> list[str]:
    """What is retrieved, in both colours alike."""
    found = ids(engine.retrieve(question))
    assert found == ids(await engine.aretrieve(question))
    return found


class TestRefill:
    """What is retrieved."""

    async def test_enough_at_once(self, index: Index) -> None:
        """If enough pass at once, nodes and scores are those of LlamaIndex's engine."""
        retriever = ResumableRetriever(index, similarity_top_k=6)
        assert plain(index, 6) == await both(engine_of(retriever, min_nodes=6))
        scores = [node.score for node in engine_of(retriever, min_nodes=1).retrieve(BUNDLE)]
        assert [node.score for node in retriever.retrieve(QUESTION)] == scores

    async def test_refill(self, index: Index) -> None:
        """What a postprocessor takes away is made up for, where LlamaIndex's engine answers from less."""
        assert len(plain(index, 4, Every(n=5))) < 4
        found = await both(engine_of(ResumableRetriever(index, similarity_top_k=4), Every(n=5), min_nodes=4))
        assert 4 <= len(found)
        assert plain(index, len(TEXTS), Every(n=5))[: len(found)] == found

    @settings(max_examples=60, deadline=None)
    @given(
        n=st.integers(1, 12),
        top_k=st.integers(1, 12),
        min_nodes=st.integers(1, 20),
        rerank=st.booleans(),
        reorder=st.booleans(),
    )
    def test_as_with_a_larger_top_k(
        self, shared: Index, n: int, top_k: int, min_nodes: int, rerank: bool, reorder: bool
    ) -> None:
        """What is left is what LlamaIndex's engine leaves of more nodes: of so many that enough pass, or of all.

        So postprocessors that compare or reorder nodes see all of them.
        """
        steps: list[BaseNodePostprocessor] = [Every(n=n)]
        steps += [Last(top_n=max(min_nodes, 4))] if rerank else []
        steps += [LongContextReorder()] if reorder else []
        found = ids(
            engine_of(ResumableRetriever(shared, similarity_top_k=top_k), *steps, min_nodes=min_nodes).retrieve(BUNDLE)
        )
        size = max(top_k, min_nodes)
        while len(plain(shared, size, *steps)) < min_nodes and size < len(TEXTS):
            size = min(2 * size, len(TEXTS))
        assert plain(shared, size, *steps) == found

    async def test_cost(self, index: Index) -> None:
        """Rounds double: postprocessors see each node at most twice on average, and requests are few."""
        seen: list[int] = []

        class Counting(Every):
            """Counts what it is given."""

            def _postprocess_nodes(
                self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
            ) -> list[NodeWithScore]:
                seen.append(len(nodes))
                return super()._postprocess_nodes(nodes, query_bundle)

        engine_of(ResumableRetriever(index), Counting(n=60), min_nodes=2).retrieve(BUNDLE)
        assert sum(seen) <= 2 * max(seen)
        assert seen == sorted({2 * 2**position for position in range(len(seen) - 1)} | {max(seen)})

    async def test_none_left(self, index: Index) -> None:
        """At the end of the index there is what there is."""
        retriever = ResumableRetriever(index)
        assert [] == await both(
            engine_of(retriever, Every(n=999), SimilarityPostprocessor(similarity_cutoff=2), min_nodes=3)
        )
        nothing = ResumableRetriever(index, filter="place > 9999")
        assert [] == await both(engine_of(nothing, Every(n=1), min_nodes=1))

    async def test_bounds(self, index: Index) -> None:
        """The retriever's bounds hold for all rounds together."""
        retriever = ResumableRetriever(index, similarity_top_k=4, max_results=12)
        assert plain(index, 12, Every(n=11)) == await both(engine_of(retriever, Every(n=11), min_nodes=9))
        retriever = ResumableRetriever(index, similarity_top_k=4, max_pulls=2)
        assert plain(index, 8, Every(n=11)) == await both(engine_of(retriever, Every(n=11), min_nodes=4))

    async def test_costly_recovery(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """A search that is lost, and would cost too much to recover, is no end of the index: it raises."""
        retriever = ResumableRetriever(index, max_recovery=1)

        class Dropping(Every):
            """Has the index drop the query in the meantime."""

            def _postprocess_nodes(
                self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
            ) -> list[NodeWithScore]:
                transport: Any = index._transport
                engine = transport._shared_engine.engine
                for uuid in list(engine._open_queries._open):
                    engine.stop(uuid)
                return []

        with pytest.raises(LimitReached, match="max_recovery"):
            engine_of(retriever, Dropping(n=1), min_nodes=2).retrieve(BUNDLE)

    async def test_changed_retriever(self, index: Index) -> None:
        """Another `similarity_top_k` is taken up, as LlamaIndex's engine does."""
        retriever = ResumableRetriever(index)
        engine = engine_of(retriever, min_nodes=1)
        retriever.similarity_top_k = 7
        assert 7 == len(await both(engine))

    async def test_failing_postprocessor(self, index: Index) -> None:
        """An exception of a postprocessor is the caller's, and leaves nothing open."""

        class Broken(Every):
            """Fails in the second round."""

            def _postprocess_nodes(
                self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
            ) -> list[NodeWithScore]:
                if len(nodes) > 2:
                    raise RuntimeError("broken")
                return []

        engine = engine_of(ResumableRetriever(index), Broken(n=1), min_nodes=2)
        with pytest.raises(RuntimeError, match="broken"):
            engine.retrieve(BUNDLE)
        with pytest.raises(RuntimeError, match="broken"):
            await engine.aretrieve(BUNDLE)


class TestUntil:
    """The retriever's own policy."""

    async def test_permissions(self, index: Index) -> None:
        """What it does not keep no round brings, however many there are, and no check is asked twice in vain."""
        calls: list[str] = []

        def even(nodes: list[NodeWithScore]) -> list[bool]:
            calls.extend(ids(nodes))
            return [node.node.metadata["place"] % 2 == 0 for node in nodes]

        retriever = ResumableRetriever(index, until=Accepted(3, even))
        engine = engine_of(retriever, Every(n=3), min_nodes=5)
        found = ids(engine.retrieve(BUNDLE))
        assert 5 <= len(found)
        assert all(int(id_[1:]) % 6 == 0 for id_ in found)
        assert plain(index, len(TEXTS), Every(n=6))[: len(found)] == found
        assert len(calls) <= 2 * len(set(calls))
        assert found == ids(await engine.aretrieve(BUNDLE))

    @pytest.mark.parametrize("top_k", [None, 2, 30])
    @pytest.mark.parametrize(
        "until", [Accepted(4, lambda nodes: [True] * len(nodes)), DistinctBy("place", 5)], ids=["accepted", "distinct"]
    )
    async def test_first_round(self, index: Index, until: Policy, top_k: int | None) -> None:
        """If enough pass at once, it is what the retriever retrieves."""
        retriever = ResumableRetriever(index, until=until, similarity_top_k=top_k)
        assert ids(retriever.retrieve(QUESTION)) == await both(engine_of(retriever, Every(n=1), min_nodes=1))

    async def test_scores_end_it(self, index: Index) -> None:
        """Where a policy of scores has ended a round, the next would bring nothing: there is none."""
        best = ResumableRetriever(index, retrieval_mode="dense", similarity_top_k=20).retrieve(QUESTION)
        retriever = ResumableRetriever(index, retrieval_mode="dense", until=MinScore(best[9].score or 0.0))
        assert ids(best[:10]) == await both(engine_of(retriever, min_nodes=15))


class TestContract:
    """What LlamaIndex's engine promises."""

    async def test_query(self, index: Index) -> None:
        """Both colours answer from the nodes that passed; so do `retrieve` and `synthesize`, one after the other."""
        retriever = ResumableRetriever(index)
        engine = RefillingQueryEngine.from_args(
            retriever, MockLLM(), node_postprocessors=[Every(n=5)], min_nodes=3, response_mode=ResponseMode.COMPACT
        )
        answer = engine.query(QUESTION)
        nodes = engine.retrieve(BUNDLE)
        assert 3 <= len(nodes)
        assert all(node.node.get_content() in str(answer) for node in nodes)
        assert ids(answer.source_nodes) == ids(nodes) == ids((await engine.aquery(QUESTION)).source_nodes)
        assert str(answer) == str(engine.synthesize(BUNDLE, nodes)) == str(await engine.asynthesize(BUNDLE, nodes))

    def test_from_args(self, index: Index) -> None:
        """It takes what LlamaIndex's takes, by name or by place; prompts may be read and set."""
        retriever = ResumableRetriever(index)
        template = PromptTemplate("Say: {context_str} {query_str}")
        engine = RefillingQueryEngine.from_args(retriever, MockLLM(), min_nodes=1, text_qa_template=template)
        theirs = RetrieverQueryEngine.from_args(retriever, MockLLM(), text_qa_template=template)
        assert isinstance(engine, RetrieverQueryEngine)
        assert retriever is engine.retriever
        assert theirs.get_prompts().keys() == engine.get_prompts().keys()
        assert str(theirs.query(QUESTION)) == str(engine.query(QUESTION))

    def test_with_retriever(self, index: Index) -> None:
        """Over another retriever it still refills."""
        engine = engine_of(ResumableRetriever(index), Every(n=5), min_nodes=3)
        other = engine.with_retriever(ResumableRetriever(index, filter="place < 30"))
        assert 3 <= len(other.retrieve(BUNDLE))
        assert all(int(id_[1:]) < 30 for id_ in ids(other.retrieve(BUNDLE)))

    async def test_objects(self) -> None:
        """A node that leads to an object is followed once, whichever round brings it."""
        calls: list[str] = []

        class Engine(BaseQueryEngine):
            """Notes that it is asked."""

            def _query(self, query_bundle: QueryBundle) -> Any:
                calls.append("blocking")
                return synthesizer().synthesize(query_bundle, [])

            async def _aquery(self, query_bundle: QueryBundle) -> Any:
                calls.append("async")
                return synthesizer().synthesize(query_bundle, [])

            def _get_prompt_modules(self) -> Any:
                return {}

        nodes = [
            TextNode(id_=f"t{position}", text=f"sky {position}", metadata={"place": position}) for position in range(8)
        ]
        lead = IndexNode(id_="lead", text="sky sky", index_id="engine")
        target = TextNode(id_="t3", text="sky 3", metadata={"place": 3})
        link = IndexNode(id_="link", text="sky sky", index_id="target")
        with ResumableRetriever.from_nodes(
            [*nodes, lead, link], object_map={"engine": Engine(callback_manager=None), "target": target}
        ) as retriever:
            engine = engine_of(retriever, min_nodes=9)
            found = ids(engine.retrieve(QueryBundle("sky")))
            assert ["blocking"] == calls
            assert len(found) == len(set(found)) == 9
            await engine.aretrieve(QueryBundle("sky"))
            assert ["blocking", "async"] == calls
            assert "sky 3" == target.text

    @pytest.mark.parametrize("colour", ["query", "aquery"])
    async def test_events(self, index: Index, colour: str) -> None:
        """Callbacks and events are those of LlamaIndex's engine: one retrieval in one query, however many rounds."""

        async def told(kind: Any, **options: Any) -> tuple[list[Any], list[str], int]:
            debug = LlamaDebugHandler(print_trace_on_end=False)
            manager = CallbackManager([debug])
            retriever = ResumableRetriever(index, callback_manager=manager)
            made = get_response_synthesizer(llm=MockLLM(), callback_manager=manager)
            engine = kind(retriever, made, [Every(n=5)], manager, **options)
            noting = Noting()
            dispatcher = instrumentation.get_dispatcher()  # type: ignore[attr-defined]
            dispatcher.add_event_handler(noting)
            try:
                answer = getattr(engine, colour)(QUESTION)
                answer = answer if colour == "query" else await answer
            finally:
                dispatcher.event_handlers.remove(noting)
            kinds = (QueryStartEvent, QueryEndEvent, RetrievalStartEvent, RetrievalEndEvent)
            events = [type(event).__name__ for event in noting.events if isinstance(event, kinds)]
            [(_, end)] = debug.get_event_pairs(CBEventType.RETRIEVE)
            assert end.payload is not None
            return [event.event_type for event in debug.get_events()], events, len(end.payload[EventPayload.NODES])

        theirs, ours = await told(RetrieverQueryEngine), await told(RefillingQueryEngine, min_nodes=3)
        assert theirs[:2] == ours[:2]
        assert 3 <= ours[2]

    async def test_citations(self, index: Index) -> None:
        """LlamaIndex's citing engine starves as its plain one does, on the same nodes; this one does not."""
        retriever = ResumableRetriever(index, similarity_top_k=4)
        citing = CitationQueryEngine(retriever, llm=MockLLM(), node_postprocessors=[Every(n=5)])
        starved = citing.query(QUESTION).source_nodes
        assert len(plain(index, 4, Every(n=5))) == len(starved) < 3
        assert len(starved) == len((await citing.aquery(QUESTION)).source_nodes)
        refilled = RefillingQueryEngine.from_args(retriever, MockLLM(), node_postprocessors=[Every(n=5)], min_nodes=3)
        assert 3 <= len(refilled.query(QUESTION).source_nodes)

    @pytest.mark.parametrize("count", [0, True, 1.5])
    def test_wrong_min_nodes(self, index: Index, count: Any) -> None:
        """It is a whole number of at least 1."""
        with pytest.raises(ClientError, match="min_nodes"):
            engine_of(ResumableRetriever(index), min_nodes=count)

    def test_never_reached(self, index: Index) -> None:
        """A reranker that always leaves fewer is found out before it is asked."""
        with pytest.raises(ClientError, match="min_nodes=4 is never reached: Last leaves 3"):
            engine_of(ResumableRetriever(index), Last(top_n=3), min_nodes=4)

    def test_other_retrievers(self, index: Index) -> None:
        """A retriever that cannot go on is refused."""

        class Other(BaseRetriever):
            """Retrieves nothing."""

            def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
                return []

        with pytest.raises(ClientError, match="Other cannot go on"):
            engine_of(Other(), min_nodes=1)
        with pytest.raises(ClientError, match="Other cannot go on"):
            engine_of(ResumableRetriever(index), min_nodes=1).with_retriever(Other())
