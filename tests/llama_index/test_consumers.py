"""LlamaIndex's own components run over this retriever, and return what they return over LlamaIndex's own index."""

import asyncio
import copy
import gc
import inspect
import json
import pickle
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.base_selector import BaseSelector, MultiSelection, SingleSelection
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import LLMRerank, SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.retrievers import (
    AutoMergingRetriever,
    QueryFusionRetriever,
    RecursiveRetriever,
    RouterRetriever,
    TransformRetriever,
    VectorIndexRetriever,
)
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import IndexNode, NodeRelationship, NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters
from llama_index_instrumentation import get_dispatcher
from pydantic import Field, PrivateAttr

from nextk import Index
from nextk.engine.engine import EmbeddedEngine
from nextk.errors import ClientError, RefusedError
from nextk.llama_index import RefillingQueryEngine, ResumableRetriever
from nextk.transport.in_process import InProcessTransport, SharedEngine
from nextk.until import MaxResults
from tests.support.llama_index_events import Listening
from tests.support.local_server import TOKEN, LocalServer
from tests.support.recorded_upstash_store import RECORDED, written
from tests.support.transports import Wire

TOPICS = ["sky", "sea", "snow", "sand"]
QUESTION = "sky sky sea"
WAYS = ["in-process", "http"]

# The loops that LlamaIndex makes end without a word, and the connections of an event loop are lost with it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class Words(BaseEmbedding):
    """A dense model: how often a text names each topic; the last place keeps a vector from being zero."""

    queries: list[str] = Field(default_factory=list)

    def _get_query_embedding(self, query: str) -> list[float]:
        self.queries.append(query)
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        words = text.lower().replace(".", " ").split()
        return [*(float(words.count(topic)) for topic in TOPICS), 1.0]


class Scripted(MockLLM):
    """A model that always says the same."""

    _answer: str = PrivateAttr()

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Say it."""
        return CompletionResponse(text=self._answer)


class All(BaseSelector):
    """Selects every retriever."""

    def _select(self, choices: Any, query: QueryBundle) -> MultiSelection:
        return MultiSelection(
            selections=[SingleSelection(index=position, reason="all") for position in range(len(choices))]
        )

    async def _aselect(self, choices: Any, query: QueryBundle) -> MultiSelection:
        return self._select(choices, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass


class Longest(BaseNodePostprocessor):
    """A reranker that works as they all do: it sets scores in place, and says in the metadata what they were."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        assert query_bundle is not None
        for node in nodes:
            node.node.metadata["retrieval_score"] = node.score
            node.score = float(len(node.node.get_content()))
        return sorted(nodes, key=lambda node: node.score or 0.0, reverse=True)[:3]


class Passing(BaseNodePostprocessor):
    """Leaves everything as it is."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return nodes


def parents() -> list[TextNode]:
    """One node for each topic, which knows its six children."""
    made = [TextNode(id_=topic, text=f"All about {topic}.") for topic in TOPICS]
    for parent in made:
        children = [TextNode(id_=f"{parent.node_id}-{position}") for position in range(6)]
        parent.relationships[NodeRelationship.CHILD] = [child.as_related_node_info() for child in children]
    return made


def chunks() -> list[TextNode]:
    """Six nodes of each topic, no two of them equally near to anything."""
    made = []
    for number, parent in enumerate(parents()):
        for position in range(6):
            other = TOPICS[(number + 1 + position % 3) % 4]
            text = (
                f"{parent.node_id} " * (2 + position) + f"{other} " * (1 + position % 2) + "and more" + " so" * number
            )
            node = TextNode(
                id_=f"{parent.node_id}-{position}", text=text, metadata={"place": position, "more": [None, True]}
            )
            node.relationships[NodeRelationship.PARENT] = parent.as_related_node_info()
            made.append(node)
    return made


def pointers() -> list[IndexNode]:
    """A node that leads to the chunks."""
    return [IndexNode(id_="pointer", text="sky", index_id="chunks")]


@dataclass
class World:
    """Where consumers get their retrievers from.

    Attributes:
        retriever: Over the chunks; `top_k` is how many it returns.
        pointing: Over the pointers; `object_map` is what they lead to.
    """

    retriever: Callable[..., BaseRetriever]
    pointing: Callable[..., BaseRetriever]

    @property
    def storage(self) -> StorageContext:
        """Holds parents and chunks."""
        storage = StorageContext.from_defaults()
        storage.docstore.add_documents([*parents(), *chunks()])
        return storage


@dataclass
class Answering:
    """A query engine, as a retriever: the nodes that its answer names."""

    engine: Any
    ask: str = "query"

    def retrieve(self, question: Any) -> list[NodeWithScore]:
        """Blocking."""
        return list(getattr(self.engine, self.ask)(question).source_nodes)

    async def aretrieve(self, question: Any) -> list[NodeWithScore]:
        """In a loop."""
        return list((await getattr(self.engine, f"a{self.ask}")(question)).source_nodes)


def answering(retriever: BaseRetriever, *postprocessors: BaseNodePostprocessor) -> Answering:
    """A `RetrieverQueryEngine` that answers by a model which only repeats."""
    synthesizer = get_response_synthesizer(MockLLM(), response_mode=ResponseMode.COMPACT)
    return Answering(RetrieverQueryEngine(retriever, synthesizer, list(postprocessors)))


def citing(world: World) -> Answering:
    """A `CitationQueryEngine`."""
    index: Any = None  # only asked for a retriever if there is none
    engine = CitationQueryEngine.from_args(index, llm=MockLLM(), retriever=world.retriever(5), citation_chunk_size=64)
    return Answering(engine)


def chatting(retriever: BaseRetriever) -> ContextChatEngine:
    """A chat engine; its memory is not the default one, which leaves a database open."""
    memory = ChatMemoryBuffer(token_limit=10_000)
    return ContextChatEngine(retriever, MockLLM(), memory, prefix_messages=[])


def fusing(mode: FUSION_MODES, **options: Any) -> Callable[[World], Any]:
    """A `QueryFusionRetriever` of two retrievers and three questions."""
    llm = Scripted("sea and snow\nsand sky sky")
    return lambda world: QueryFusionRetriever(
        [world.retriever(4), world.retriever(7)],
        llm=llm,
        mode=mode,
        similarity_top_k=9,
        num_queries=3,
        **options,
    )


def routing(world: World) -> RouterRetriever:
    """A `RouterRetriever` that asks both of its retrievers."""
    tools = [RetrieverTool(world.retriever(k), ToolMetadata("of chunks", f"k{k}")) for k in (3, 6)]
    return RouterRetriever(All(), tools, llm=MockLLM())


def recursing(world: World) -> RecursiveRetriever:
    """A `RecursiveRetriever` from a pointer to chunks."""
    return RecursiveRetriever("root", {"root": world.pointing(), "chunks": world.retriever(5)})


def hyde(world: World) -> TransformRetriever:
    """A `TransformRetriever` that puts a question in two ways."""
    transform = HyDEQueryTransform(Scripted("snow snow snow sea"), include_original=True)
    return TransformRetriever(world.retriever(5), transform)


CONSUMERS: dict[str, Callable[[World], Any]] = {
    "engine": lambda world: answering(world.retriever(5)),
    "reranker": lambda world: answering(world.retriever(8), Longest()),
    "llm-rerank": lambda world: answering(
        world.retriever(8), LLMRerank(Scripted("Doc: 6, Relevance: 9\nDoc: 2, Relevance: 7"))
    ),
    "citations": citing,
    "chat": lambda world: Answering(chatting(world.retriever(5)), "chat"),
    "fusion-simple": fusing(FUSION_MODES.SIMPLE),
    "fusion-rrf": fusing(FUSION_MODES.RECIPROCAL_RANK),
    "fusion-relative": fusing(FUSION_MODES.RELATIVE_SCORE),
    "fusion-blocking": fusing(FUSION_MODES.DIST_BASED_SCORE, use_async=False),
    "auto-merging": lambda world: AutoMergingRetriever(cast("Any", world.retriever(10)), world.storage),
    "router": routing,
    "recursive": recursing,
    "objects": lambda world: world.pointing(object_map={"chunks": world.retriever(5)}),
    "transform": hyde,
}

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "until": {"until": MaxResults(50)},
    "postprocessors": {"node_postprocessors": [Passing()]},
    "filters": {
        "filters": MetadataFilters(
            filters=[MetadataFilter(key="no-such", value=None, operator=FilterOperator.IS_EMPTY)]
        )
    },
}
KINDS["all"] = {name: value for options in KINDS.values() for name, value in options.items()}
"""Options that change nothing of the result, but the way it is come by: one plain query, or a search of many pulls."""


@pytest.fixture(scope="module")
def engine(local_server: LocalServer) -> Iterator[EmbeddedEngine]:
    """The chunks, and in a namespace of its own the pointer; in process, and served."""
    local_server.add("consumers", type="dense", dimension=len(TOPICS) + 1)
    engine = local_server.engines["consumers"]
    assert isinstance(engine, EmbeddedEngine)
    here = in_process(engine)
    ResumableRetriever(here, embed_model=Words()).insert_nodes(chunks())
    ResumableRetriever(here, embed_model=Words(), namespace="pointers").insert_nodes(pointers())
    yield engine
    del local_server.engines["consumers"]
    engine.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # here, not in the midst of another module


def in_process(engine: EmbeddedEngine) -> Index:
    """A client in this process; closing it closes nothing."""
    hold = SharedEngine(None, engine)
    return Index._over(InProcessTransport(hold, lambda: hold))


@dataclass
class Maker:
    """Makes retrievers over the engine, by one way, and closes them."""

    location: dict[str, Any]
    made: list[ResumableRetriever] = field(default_factory=list)

    def __call__(self, top_k: int = 5, **options: Any) -> ResumableRetriever:
        """A retriever."""
        arguments = {"embed_model": Words(), **self.location, "similarity_top_k": top_k, **options}
        self.made.append(ResumableRetriever(**arguments))
        return self.made[-1]

    def world(self, **options: Any) -> World:
        """Where consumers get retrievers with these options."""
        return World(
            lambda top_k: self(top_k, **options), lambda **more: self(1, namespace="pointers", **options, **more)
        )


@pytest.fixture(params=WAYS)
async def make(
    request: pytest.FixtureRequest, engine: EmbeddedEngine, local_server: LocalServer
) -> AsyncIterator[Maker]:
    """Makes retrievers in process, then over HTTP; afterwards the index holds no open query."""
    served = {"url": local_server.index_url("consumers"), "token": local_server.token}
    maker = Maker(served if request.param == "http" else {"index": in_process(engine)})
    yield maker
    for retriever in maker.made:
        await retriever.aclose()
    maker.made.clear()
    assert 0 == engine.open_queries()


@pytest.fixture(scope="module")
def theirs() -> World:
    """LlamaIndex's own index in memory."""
    model = Words()
    over_chunks, over_pointers = (VectorStoreIndex(made, embed_model=model) for made in (chunks(), pointers()))
    return World(
        lambda top_k: over_chunks.as_retriever(similarity_top_k=top_k),
        lambda **options: VectorIndexRetriever(over_pointers, similarity_top_k=1, **options),
    )


def shown(nodes: list[NodeWithScore]) -> list[Any]:
    """Nodes, to compare: all but vectors, scores, and ids that are made at random."""
    found = [{**node.node.to_dict(), "embedding": None, "id_": None} for node in nodes]
    for node in found:
        node["metadata"].pop("retrieval_score", None)
    return found


def ids(nodes: list[NodeWithScore]) -> list[str]:
    """The ids of nodes."""
    return [node.node_id for node in nodes]


def in_thread(call: Callable[[], Any]) -> Any:
    """The result of a call in a thread that has no event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("kind", ["plain", "all"])
class TestConsumers:
    """Every consumer, over retrievers that ask once and over those that search on, in process and over HTTP."""

    @pytest.mark.parametrize("consumer", CONSUMERS)
    def test_blocking(self, make: Maker, theirs: World, consumer: str, kind: str) -> None:
        """Without a loop it gives what it gives over LlamaIndex's own index, as often as it is asked."""
        expected = in_thread(lambda: shown(CONSUMERS[consumer](theirs).retrieve(QUESTION)))
        ours = CONSUMERS[consumer](make.world(**KINDS[kind]))
        assert [expected] * 2 == [in_thread(lambda: shown(ours.retrieve(QUESTION))) for _ in range(2)]
        assert expected

    @pytest.mark.parametrize("consumer", CONSUMERS)
    async def test_in_a_loop(self, make: Maker, theirs: World, consumer: str, kind: str) -> None:
        """In a running loop both of its colours do, whichever of ours they lead to."""
        expected = in_thread(lambda: shown(CONSUMERS[consumer](theirs).retrieve(QUESTION)))
        ours = CONSUMERS[consumer](make.world(**KINDS[kind]))
        assert expected == shown(await ours.aretrieve(QUESTION))
        assert expected == shown(ours.retrieve(QUESTION))
        assert expected == shown(await ours.aretrieve(QUESTION))

    @pytest.mark.parametrize("consumer", ["engine", "fusion-rrf", "router", "auto-merging", "objects"])
    def test_one_loop_after_another(self, make: Maker, theirs: World, consumer: str, kind: str) -> None:
        """One consumer serves several loops, one after another and side by side."""
        expected = in_thread(lambda: shown(CONSUMERS[consumer](theirs).retrieve(QUESTION)))
        ours = CONSUMERS[consumer](make.world(**KINDS[kind]))

        def anew() -> list[Any]:
            return shown(asyncio.run(ours.aretrieve(QUESTION)))

        assert [expected] * 2 == [anew(), anew()]
        with ThreadPoolExecutor(2) as pool:
            assert [expected] * 2 == list(pool.map(lambda _: anew(), range(2)))


class TestScores:
    """What consumers read off scores."""

    def test_they_are_the_index_s(self, make: Maker, theirs: World) -> None:
        """Scores are cosines brought to 0..1, in the order of the rows."""
        expected = [(1 + (node.score or 0.0)) / 2 for node in theirs.retriever(24).retrieve(QUESTION)]
        assert expected == pytest.approx([node.score for node in make(24).retrieve(QUESTION)], abs=1e-6)

    async def test_cutoff(self, make: Maker) -> None:
        """A `SimilarityPostprocessor` takes away behind an engine; in the retriever, what it takes is made up for."""
        everything = make(24).retrieve(QUESTION)
        cutoff = everything[9].score or 0.0
        low = SimilarityPostprocessor(similarity_cutoff=cutoff)
        passing = ids([node for node in everything if (node.score or 0.0) >= cutoff])
        assert 10 <= len(passing) < 20
        assert ids(everything[:4]) == ids(answering(make(4), low).retrieve(QUESTION))
        assert passing == ids(answering(make(20), low).retrieve(QUESTION))
        assert passing == ids(await answering(make(20), low).aretrieve(QUESTION))
        assert passing == ids(make(20, node_postprocessors=[low]).retrieve(QUESTION))

    async def test_zero_is_a_score(self) -> None:
        """A row that is as far away as can be has the score 0.0, and is neither dropped nor raised."""
        opposite = [
            TextNode(id_="text", text="a", embedding=[-1.0, 0.0]),
            IndexNode(id_="index", text="b", index_id="b", embedding=[-1.0, 0.0]),
        ]
        question = QueryBundle("?", embedding=[1.0, 0.0])
        with Index.embedded(type="dense", dimension=2) as index:
            retriever = ResumableRetriever(index, embed_model=Words(), similarity_top_k=2)
            retriever.insert_nodes(opposite)
            found = [retriever.retrieve(question), await retriever.aretrieve(question)]
            passed = answering(retriever, SimilarityPostprocessor(similarity_cutoff=0.0)).retrieve(question)
            with retriever.open(question) as search:
                found += [search.fetch_next(2)]
            for nodes in [*found, passed]:
                assert {"text": 0.0, "index": 0.0} == {node.node_id: node.score for node in nodes}


class TestQuestions:
    """What becomes of a question."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_bundles_are_not_changed(self, make: Maker, kind: str) -> None:
        """No way of asking changes a bundle, so that others, with other models, may be asked with it."""
        retriever = make(3, **KINDS[kind])
        bundles = [
            QueryBundle(QUESTION),
            QueryBundle("unused", custom_embedding_strs=["sky", "sea sea"]),
            QueryBundle(QUESTION, image_path="cloud.png", embedding=[1.0, 0.5, 0.0, 0.0, 1.0]),
        ]
        for bundle in bundles:
            before = copy.deepcopy(bundle)
            expected = ids(retriever.retrieve(bundle))
            assert expected == ids(await retriever.aretrieve(bundle))
            with retriever.open(bundle) as search:
                assert expected == ids(search.fetch_next(3))
            async with retriever.aopen(bundle) as asearch:
                assert expected == ids(await asearch.fetch_next(3))
            engine = RefillingQueryEngine.from_args(retriever, llm=MockLLM(), min_nodes=3)
            assert expected == ids(engine.retrieve(bundle)) == ids(await engine.aretrieve(bundle))
            assert before == bundle

    @pytest.mark.parametrize("question", ["", QueryBundle(""), QueryBundle("x", custom_embedding_strs=[])])
    async def test_empty(self, make: Maker, question: Any) -> None:
        """An empty question is refused by name in every way of asking."""
        retriever = make(3)
        engine = answering(retriever)
        with retriever.open(question) as search:
            for call in (retriever.retrieve, engine.retrieve, lambda _: search.fetch_next(1)):
                with pytest.raises(ClientError, match="the question is empty"):
                    call(question)
        async with retriever.aopen(question) as asearch:
            for acall in (retriever.aretrieve, engine.aretrieve, lambda _: asearch.fetch_next(1)):
                with pytest.raises(ClientError, match="the question is empty"):
                    await acall(question)

    @pytest.mark.parametrize("name", ["_retrieve", "_aretrieve"])
    def test_the_name_of_the_parameter(self, name: str) -> None:
        """LlamaIndex passes the question by position here and by name there, so that it must be called the same."""
        assert list(inspect.signature(getattr(BaseRetriever, name)).parameters) == list(
            inspect.signature(getattr(ResumableRetriever, name)).parameters
        )

    async def test_tools(self, make: Maker) -> None:
        """The text of a tool's call is searched as it comes: a `RetrieverTool` puts words around it, which stay."""
        model = Words(queries=[])
        retriever = make(3, embed_model=model)
        tool = RetrieverTool.from_defaults(retriever)
        expected = ids(retriever.retrieve("sky"))
        for output in (tool.call(input="sky"), await tool.acall(input="sky")):
            assert expected == ids(output.raw_output)
        engine = QueryEngineTool.from_defaults(answering(retriever).engine)
        assert expected == ids(engine.call(input="sky").raw_output.source_nodes)
        direct, blocking, asynchronous, unwrapped = model.queries
        assert ("sky", "sky") == (direct, unwrapped)
        assert blocking == asynchronous
        assert "input is sky" in blocking


class TestFreshNodes:
    """Consumers change what they are given."""

    @staticmethod
    def spoil(nodes: list[NodeWithScore]) -> None:
        """Do to nodes what consumers do, and worse."""
        for node in nodes:
            node.score = -1.0
            node.node.metadata["more"].append("changed")
            node.node.metadata["new"] = 1
            node.node.relationships.clear()
            node.node.set_content("changed")

    @pytest.mark.parametrize("kind", KINDS)
    async def test_nothing_comes_back(self, make: Maker, kind: str) -> None:
        """What is done to nodes shows in no later call, be it of the retriever, of a search or of a cursor."""
        retriever = make(4, **KINDS[kind])
        expected = [node.to_dict() for node in make(8).retrieve(QUESTION)]
        for _ in range(2):
            for nodes in (retriever.retrieve(QUESTION), await retriever.aretrieve(QUESTION)):
                assert expected[:4] == [node.to_dict() for node in nodes]
                self.spoil(nodes)
        with retriever.open(QUESTION) as search:
            self.spoil(search.fetch_next(2))
            cursor = search.cursor()
            page = search.fetch_next(2)
            assert expected[2:4] == [node.to_dict() for node in page]
            self.spoil(page)
            assert expected[4:8] == [node.to_dict() for node in search.fetch_next(4)]
        for _ in range(2):
            async with retriever.aresume(json.loads(json.dumps(cursor))) as again:
                page = await again.fetch_next(6)
                assert expected[2:8] == [node.to_dict() for node in page]
                self.spoil(page)

    def test_a_reranker_in_the_loop(self, make: Maker) -> None:
        """A postprocessor of the retriever that changes nodes changes those of its own call only."""
        reranking = make(3, node_postprocessors=[Longest()])
        first, second = reranking.retrieve(QUESTION), reranking.retrieve(QUESTION)
        assert [node.to_dict() for node in first] == [node.to_dict() for node in second]
        assert "retrieval_score" in first[0].node.metadata
        assert "retrieval_score" not in make(3).retrieve(QUESTION)[0].node.metadata


class TestLoopsAndProcesses:
    """Where a retriever is used, and where it is taken."""

    async def test_searches_in_a_loop(self, make: Maker) -> None:
        """A blocking search works in a running loop, next to a native one; each goes on from the other's cursor."""
        retriever = make()
        expected = ids(make(12).retrieve(QUESTION))
        with retriever.open(QUESTION) as blocking:
            async with retriever.aopen(QUESTION) as asynchronous:
                pages = [ids(blocking.fetch_next(3)), ids(await asynchronous.fetch_next(3))]
                pages += [ids(blocking.fetch_next(3)), ids(await asynchronous.fetch_next(3))]
                assert [expected[:3]] * 2 + [expected[3:6]] * 2 == pages
                async with retriever.aresume(blocking.cursor()) as other:
                    assert expected[6:] == ids(await other.fetch_next(6))
            with retriever.resume(asynchronous.cursor()) as last:
                assert expected[6:] == ids(last.fetch_next(6))

    def test_a_search_in_each_loop(self, make: Maker) -> None:
        """Searches of one retriever in one loop after another, the second from the cursor of the first."""
        retriever = make()
        expected = ids(make(6).retrieve(QUESTION))

        async def first() -> tuple[list[str], Any]:
            async with retriever.aopen(QUESTION) as search:
                return ids(await search.fetch_next(3)), search.cursor()

        async def second(cursor: Any) -> list[str]:
            async with retriever.aresume(cursor) as search:
                return ids(await search.fetch_next(3))

        page, cursor = asyncio.run(first())
        assert expected == page + asyncio.run(second(cursor))

    def test_a_loop_of_ones_own(self, make: Maker) -> None:
        """A fusion without a running loop runs our native side in the thread's own loop, several times."""
        fusion = fusing(FUSION_MODES.RECIPROCAL_RANK)(make.world())

        def several() -> list[list[str]]:
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            try:
                return [ids(fusion.retrieve(QUESTION)) for _ in range(2)]
            finally:
                loop.close()

        expected = in_thread(lambda: ids(fusion.retrieve(QUESTION)))
        assert [expected] * 2 == in_thread(several)

    @pytest.mark.parametrize("kind", ["plain", "until", "postprocessors"])
    def test_pickle(self, engine: EmbeddedEngine, local_server: LocalServer, kind: str) -> None:
        """A retriever that was used, in both colours, pickles without its clients and finds the same again."""
        location: dict[str, Any] = {"url": local_server.index_url("consumers"), "token": local_server.token}
        options = {"embed_model": Words(), "similarity_top_k": 4, **KINDS[kind]}
        with ResumableRetriever(**location, **options) as retriever:
            expected = ids(retriever.retrieve(QUESTION))
            assert expected == ids(asyncio.run(retriever.aretrieve(QUESTION)))
            pickled = pickle.dumps(retriever)
        assert b"httpx" not in pickled
        with pickle.loads(pickled) as again:  # noqa: S301 - our own
            assert expected == ids(again.retrieve(QUESTION))
            assert expected == ids(asyncio.run(again.aretrieve(QUESTION)))
        assert 0 == engine.open_queries()


@pytest.fixture
def watching() -> Iterator[tuple[Listening, Any]]:
    """A handler of all events and one of all spans."""
    events, spans = Listening(seen=[]), SimpleSpanHandler()
    root = get_dispatcher()
    root.add_event_handler(events)
    root.add_span_handler(spans)
    yield events, spans
    root.event_handlers.remove(events)
    root.span_handlers.remove(spans)


class TestTraces:
    """What others see of a retrieval."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_spans(self, make: Maker, watching: tuple[Listening, Any], kind: str) -> None:
        """Both colours have an inner span of their own, within the outer one."""
        retriever = make(3, **KINDS[kind])
        retriever.retrieve(QUESTION)
        await retriever.aretrieve(QUESTION)
        spans = watching[1].completed_spans
        outer = {name: span.id_ for span in spans for name in ("retrieve", "aretrieve") if f".{name}-" in span.id_}
        inner = {name: span.parent_id for span in spans for name in outer if f"._{name}-" in span.id_}
        assert ({"retrieve", "aretrieve"}, outer) == (set(outer), inner)

    async def test_no_token(self, engine: EmbeddedEngine, local_server: LocalServer, watching: Any) -> None:
        """The token is in no representation, event, span, callback, cursor, configuration or error."""
        debug = LlamaDebugHandler(print_trace_on_end=False)
        location: dict[str, Any] = {"url": local_server.index_url("consumers"), "token": TOKEN}
        options: dict[str, Any] = {"embed_model": Words(), "callback_manager": CallbackManager([debug])}
        said: list[Any] = []
        async with ResumableRetriever(**location, **options) as retriever:
            answering(retriever).retrieve(QUESTION)
            await answering(retriever).aretrieve(QUESTION)
            with retriever.open(QUESTION) as search:
                search.fetch_next(3)
                said += [search, search.report, search.cursor(), search.detach()]
            said += [retriever, vars(retriever), retriever.to_config(), retriever.index]
        with ResumableRetriever(**{**location, "token": f"not-{TOKEN}"}, **options) as refused:
            with pytest.raises(RefusedError) as raised:
                refused.retrieve(QUESTION)
            said += [raised.value, vars(raised.value)]
        events, spans = watching
        said += [event.model_dump() for event in events.seen]
        said += [span.model_dump() for span in [*spans.completed_spans, *spans.dropped_spans]]
        said += [event.payload for pair in debug.get_event_pairs() for event in pair]
        assert 20 < len(said)
        assert [] == [one for one in said if TOKEN in f"{one!r} {one}"]
        assert 0 == engine.open_queries()


def recorded_nodes() -> list[dict[str, Any]]:
    """The nodes that the store was given, as LlamaIndex reads them back: a document as a `TextNode`."""
    read = [
        TextNode(id_=n.node_id, text=n.get_content(), metadata=n.metadata) if n.node_id == "document" else n
        for n in written()
    ]
    return [node.to_dict() for node in read]


class TestRecordedStore:
    """Rows of the real `llama-index-vector-stores-upstash` 0.6.0; how they were recorded says their file."""

    @pytest.fixture(params=WAYS)
    def location(self, request: pytest.FixtureRequest, local_server: LocalServer) -> Iterator[dict[str, Any]]:
        """An index that was sent what the store sent, and where it is."""
        local_server.add("recorded", type="dense", dimension=2)
        engine = local_server.engines["recorded"]
        assert isinstance(engine, EmbeddedEngine)
        url = local_server.index_url("recorded")
        over_http = request.param == "http"
        wire = Wire(engine, url, local_server.token) if over_http else Wire(engine)
        for path, body in RECORDED:
            assert "Success" == wire.result(path.removeprefix("/"), body.encode())
        yield {"url": url, "token": local_server.token} if over_http else {"index": in_process(engine)}
        assert 0 == engine.open_queries()
        del local_server.engines["recorded"]
        engine.close()

    async def test_no_document_is_not_a_document(self, location: dict[str, Any]) -> None:
        """The nodes of a document are removed, but not all those that the store has written under no document."""
        async with ResumableRetriever(**location, embed_model=Words()) as retriever:
            count = retriever.index.info().vector_count
            with pytest.raises(ClientError, match="Nothing was removed"):
                retriever.delete_ref_doc("None")
            with pytest.raises(ClientError, match="Nothing was removed"):
                await retriever.adelete_ref_doc("None")
            assert count == retriever.index.info().vector_count
            assert (1, 0) == (retriever.delete_ref_doc("report"), await retriever.adelete_ref_doc("report"))
            assert count - 1 == retriever.index.info().vector_count
        with pytest.raises(ClientError, match="doc_ids= holds 'None'"):
            ResumableRetriever(**location, embed_model=Words(), doc_ids=["None"])

    @pytest.mark.parametrize("kind", KINDS)
    async def test_the_same_nodes(self, location: dict[str, Any], kind: str) -> None:
        """Every way of retrieving reads back the very nodes that were written, in both colours."""
        nearest = QueryBundle("?", embedding=[1.0, 0.0])
        expected = recorded_nodes()
        count = len(expected)
        async with ResumableRetriever(
            **location, embed_model=Words(), similarity_top_k=count, **KINDS[kind]
        ) as retriever:
            found = [retriever.retrieve(nearest), await retriever.aretrieve(nearest)]
            with retriever.open(nearest) as search:
                found += [search.fetch_next(2) + search.fetch_until(MaxResults(2)) + list(search)]
            async with retriever.aopen(nearest) as asearch:
                first = await asearch.fetch_next(1)
                cursor = json.loads(json.dumps(asearch.cursor()))
                found += [first + [node async for page in asearch.pages(3) for node in page]]
            with retriever.resume(cursor) as resumed:
                found += [first + resumed.fetch_next(count)]
            async with retriever.aresume(cursor) as aresumed:
                found += [first + await aresumed.fetch_until(MaxResults(count - 1))]
            engine = RefillingQueryEngine.from_args(retriever, llm=MockLLM(), min_nodes=count)
            found += [engine.retrieve(nearest), await engine.aretrieve(nearest)]
        assert [expected] * 8 == [[node.node.to_dict() for node in nodes] for nodes in found]

    def test_batches(self, location: dict[str, Any]) -> None:
        """The store sends each batch with those before it; what came twice is there once."""
        with ResumableRetriever(**location, embed_model=Words(), namespace="batches", similarity_top_k=9) as retriever:
            found = retriever.retrieve(QueryBundle("?", embedding=[1.0, 0.0]))
        assert recorded_nodes()[1:3] == [node.node.to_dict() for node in found]

    def test_narrowed(self, location: dict[str, Any]) -> None:
        """They are found by their document, by their id, and by what the user said of them."""
        nearest = QueryBundle("?", embedding=[1.0, 0.0])
        draft = MetadataFilters(filters=[MetadataFilter(key="title", value="Über's")])
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({"doc_ids": ["report"]}, ["full"]),
            ({"node_ids": ["media", "blank"]}, ["media", "blank"]),
            ({"filters": draft}, ["full"]),
            ({"filter": "kind = 'pointer'"}, ["index"]),
        ]
        for options, expected in cases:
            with ResumableRetriever(**location, embed_model=Words(), similarity_top_k=9, **options) as retriever:
                assert expected == ids(retriever.retrieve(nearest))
