"""The LlamaIndex retriever: its calls, its sessions, who embeds, and what it refuses."""

import asyncio
import copy
import importlib
import logging
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document as ChainDocument
from llama_index.core import instrumentation
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import (
    Document,
    IndexNode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.settings import Settings
from llama_index.core.sparse_embeddings.mock_sparse_embedding import MockSparseEmbedding
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.core.vector_stores.utils import node_to_metadata_dict

from nextk import Index, Vector, langchain
from nextk.errors import ClientError, MissingExtraError, RefusedError
from nextk.llama_index import ResumableRetriever
from nextk.types import SparseVector
from tests.support.sentence_index import QUESTION, TEXTS, open_queries
from tests.support.transports import Recording

loops_to_keep_free: set[int] = set()


def refuse_to_block() -> None:
    """Fail if called in a thread whose event loop must not be blocked."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    assert id(loop) not in loops_to_keep_free, "the event loop was blocked"


@pytest.fixture
async def free_loop() -> AsyncIterator[None]:
    """From here on, nothing may block the running event loop."""
    loops_to_keep_free.add(id(asyncio.get_running_loop()))
    yield
    loops_to_keep_free.clear()


def letters(text: str) -> list[float]:
    """Counts three letters; the 1 keeps every vector from being zero."""
    return [float(text.count(letter)) for letter in "aes"] + [1.0]


class Letters(BaseEmbedding):
    """A dense model; its blocking half refuses to block an event loop."""

    def _get_query_embedding(self, query: str) -> list[float]:
        refuse_to_block()
        return letters(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return letters(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        refuse_to_block()
        return letters(text)


def initials(texts: list[str]) -> list[SparseVector]:
    """A sparse model: the words of a text by their first letters; refuses to block an event loop."""
    refuse_to_block()
    found = [sorted({ord(word[0]) for word in text.lower().split()}) for text in texts]
    return [SparseVector(indices, [1.0] * len(indices)) for indices in found]


@pytest.fixture(scope="module")
def shared_vectors() -> Iterator[Index]:
    """A hybrid index without models, of vectors that `Letters` and `initials` made."""
    with Index.embedded(dimension=4) as index:
        sparse = initials(TEXTS)
        index.upsert(
            [
                Vector(f"t{position}", letters(text), {"text": text}, sparse_vector=sparse[position])
                for position, text in enumerate(TEXTS)
            ]
        )
        yield index


@pytest.fixture
def vectors(shared_vectors: Index) -> Iterator[Index]:
    """The same; afterwards it holds no open query."""
    yield shared_vectors
    assert 0 == open_queries(shared_vectors)


@pytest.fixture(autouse=True)
def settings_without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has set a model, so that asking for the default one fails."""
    monkeypatch.setattr(Settings, "_embed_model", None)
    monkeypatch.delenv("IS_TESTING", raising=False)
    monkeypatch.setitem(sys.modules, "llama_index.embeddings.openai", None)


def ids(nodes: list[NodeWithScore]) -> list[str]:
    """The ids of nodes."""
    return [node.node_id for node in nodes]


def bodies_of(index: Index) -> tuple[Index, list[Any]]:
    """A client of the same index, and the bodies of what it sends."""
    bodies: list[Any] = []
    recording: Any = Recording(index._transport)
    recording._note = lambda operation: None if operation.body is None else bodies.append(operation.body)
    return Index._over(recording), bodies


class TestRetrieve:
    """One call."""

    def test_class(self) -> None:
        """It is a retriever of LlamaIndex."""
        assert issubclass(ResumableRetriever, BaseRetriever)

    def test_one_plain_query(self, index: Index) -> None:
        """A call is one query and holds nothing open; what an index can embed is asked once."""
        recording = Recording(index._transport)
        retriever = ResumableRetriever(Index._over(recording))
        for _ in range(2):
            assert 2 == len(retriever.retrieve(QUESTION))
        assert ["info", "query-data", "query-data"] == recording.sent

    def test_similarity_top_k(self, index: Index) -> None:
        """How many is the retriever's, and may be set later, to at least 1."""
        retriever = ResumableRetriever(index, similarity_top_k=5)
        assert (5, 5) == (retriever.similarity_top_k, len(retriever.retrieve(QUESTION)))
        retriever.similarity_top_k = 3
        assert 3 == len(retriever.retrieve(QUESTION))
        with pytest.raises(ClientError, match="must be a whole number, at least 1"):
            retriever.similarity_top_k = 0
        with pytest.raises(ClientError, match="must be a whole number, at least 1"):
            ResumableRetriever(index, similarity_top_k=0)

    async def test_either_colour_in_a_loop(self, index: Index) -> None:
        """Both colours of calls work over both colours of index, the blocking one where a loop is running, too."""
        expected = ids(ResumableRetriever(index).retrieve(QUESTION))
        for either in (index, index.to_async()):
            assert expected == ids(ResumableRetriever(either).retrieve(QUESTION))
            assert expected == ids(await ResumableRetriever(either).aretrieve(QUESTION))

    def test_several_loops(self, index: Index) -> None:
        """One retriever serves one event loop after another."""
        retriever = ResumableRetriever(index)
        assert ids(asyncio.run(retriever.aretrieve(QUESTION))) == ids(asyncio.run(retriever.aretrieve(QUESTION)))

    @pytest.mark.usefixtures("free_loop")
    async def test_nothing_blocks_the_loop(self, vectors: Index) -> None:
        """Dense models are awaited, and sparse ones that only block go to a thread."""
        retriever = ResumableRetriever(vectors, embed_model=Letters(), sparse_embedding=initials)
        nodes = await retriever.aretrieve(QUESTION)
        async with retriever.aopen(QUESTION) as search:
            assert ids(nodes) == ids(await search.fetch_next(2))

    async def test_filter_and_namespace(self, index: Index) -> None:
        """Filter and namespace are the retriever's; a session may have others."""
        retriever = ResumableRetriever(index, filter="place < 2", similarity_top_k=9)
        assert {"t0", "t1"} == set(ids(retriever.retrieve(QUESTION)))
        with retriever.open(QUESTION, filter="place = 5") as search:
            assert ["t5"] == ids(search.fetch_next(9))
        async with retriever.aopen(QUESTION, namespace="absent") as asearch:
            assert [] == await asearch.fetch_next(9)
        assert [] == ResumableRetriever(index, namespace="absent").retrieve(QUESTION)

    def test_in_a_query_engine(self, index: Index) -> None:
        """It feeds a query engine."""
        synthesizer = get_response_synthesizer(MockLLM(), response_mode=ResponseMode.COMPACT)
        engine = RetrieverQueryEngine(ResumableRetriever(index, similarity_top_k=3), synthesizer)
        assert 3 == len(engine.query(QUESTION).source_nodes)

    async def test_spans_and_callbacks(self, index: Index) -> None:
        """Both colours have an inner span of their own, and callbacks see each call."""
        debug = LlamaDebugHandler(print_trace_on_end=False)
        retriever = ResumableRetriever(index, callback_manager=CallbackManager([debug]))
        spans: Any = SimpleSpanHandler()
        root: Any = instrumentation.get_dispatcher()  # type: ignore[attr-defined]
        root.add_span_handler(spans)
        try:
            retriever.retrieve(QUESTION)
            await retriever.aretrieve(QUESTION)
        finally:
            root.span_handlers.remove(spans)
        names = {span.id_.partition("-")[0] for span in spans.completed_spans}
        expected = {"retrieve", "_retrieve", "aretrieve", "_aretrieve"}
        assert expected <= {name.rpartition(".")[2] for name in names}
        assert 2 == len(debug.get_event_pairs(CBEventType.RETRIEVE))

    def test_objects(self) -> None:
        """A node that points to an object is followed by `retrieve`; a session hands out the node itself."""
        pointer = IndexNode(text="about the sky", index_id="target")
        target = TextNode(id_="target-node", text="The sky is blue.")
        with ResumableRetriever.from_nodes([pointer], object_map={"target": target}) as retriever:
            assert ["target-node"] == ids(retriever.retrieve("sky"))
            with retriever.open("sky") as search:
                [found] = search.fetch_next(1)
            assert isinstance(found.node, IndexNode)


class TestBundles:
    """Questions in LlamaIndex's own form."""

    @pytest.mark.parametrize("question", ["", QueryBundle(""), QueryBundle("x", custom_embedding_strs=[])])
    @pytest.mark.parametrize("arguments", [{}, {"embed_model": Letters()}, {"sparse_embedding": initials}])
    async def test_empty(self, index: Index, question: Any, arguments: dict[str, Any]) -> None:
        """An empty question is refused by name, before anything is sent."""
        retriever = ResumableRetriever(index, **arguments)
        with pytest.raises(ClientError, match="the question is empty"):
            retriever.retrieve(question)
        with pytest.raises(ClientError, match="the question is empty"):
            await retriever.aretrieve(question)

    async def test_several_texts(self, vectors: Index) -> None:
        """A question put in several ways is searched by the mean of its vectors and by its own words, as LlamaIndex."""
        recorded, bodies = bodies_of(vectors)
        retriever = ResumableRetriever(recorded, embed_model=Letters(), sparse_embedding=initials)
        bundle = QueryBundle("keywords", custom_embedding_strs=["aa e", "s"])
        before = copy.deepcopy(bundle)
        assert ids(retriever.retrieve(bundle)) == ids(await retriever.aretrieve(bundle))
        assert before == bundle
        assert [[1.0, 0.5, 0.5, 1.0]] * 2 == [body["vector"] for body in bodies]
        assert [{"indices": [ord("k")], "values": [1.0]}] * 2 == [body["sparseVector"] for body in bodies]

    async def test_given_embedding(self, vectors: Index) -> None:
        """A bundle's own embedding is used where a dense vector is needed, and no model is asked."""
        recorded, bodies = bodies_of(vectors)
        bundle = QueryBundle(QUESTION, custom_embedding_strs=["a", "b"], embedding=[1.0, 0.0, 0.0, 0.0])
        for retriever in (ResumableRetriever(recorded), ResumableRetriever(recorded, embed_model=MockEmbedding(9))):
            retriever.retrieve(bundle)
            await retriever.aretrieve(bundle)
        retriever.retrieve(QueryBundle("", embedding=np.array(bundle.embedding)))  # type: ignore[arg-type]
        assert [bundle.embedding] * 5 == [body["vector"] for body in bodies if body is not None]

    async def test_text_for_the_index(self, index: Index) -> None:
        """An index that embeds is sent the one text; several are refused, and an embedding is not its own."""
        recorded, bodies = bodies_of(index)
        retriever = ResumableRetriever(recorded, embedding=True)
        retriever.retrieve(QueryBundle("a", custom_embedding_strs=["b"], embedding=[1.0]))
        await retriever.aretrieve(QueryBundle("a"))
        assert ["b", "a"] == [body["data"] for body in bodies]
        with pytest.raises(ClientError, match="2 custom_embedding_strs"):
            retriever.retrieve(QueryBundle("a", custom_embedding_strs=["b", "c"]))


class TestModels:
    """Who embeds, and in which mode."""

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            ({"embed_model": Letters()}, {"vector"}),
            ({"sparse_embedding": initials}, {"sparseVector"}),
            ({"embed_model": Letters(), "sparse_embedding": initials}, {"vector", "sparseVector"}),
            (
                {"embed_model": Letters(), "sparse_embedding": initials, "vector_store_query_mode": "default"},
                {"vector"},
            ),
            (
                {"embed_model": Letters(), "sparse_embedding": initials, "retrieval_mode": "sparse"},
                {"sparseVector"},
            ),
            ({"sparse_embedding": MockSparseEmbedding()}, {"sparseVector"}),
        ],
    )
    async def test_own_models(self, vectors: Index, arguments: dict[str, Any], parts: set[str]) -> None:
        """The models that are given decide what is searched by, in both colours; a mode narrows it."""
        recorded, bodies = bodies_of(vectors)
        retriever = ResumableRetriever(recorded, fusion="dbsf", weighting="idf", **arguments)
        assert ids(retriever.retrieve(QUESTION)) == ids(await retriever.aretrieve(QUESTION))
        assert [parts, parts] == [{"vector", "sparseVector", "data"} & body.keys() for body in bodies]
        assert {("DBSF", "IDF")} == {(body["fusionAlgorithm"], body["weightingStrategy"]) for body in bodies}

    @pytest.mark.parametrize(
        ("given_mode", "sent"),
        [
            ("default", "DENSE"),
            (VectorStoreQueryMode.SPARSE, "SPARSE"),
            ("text_search", "SPARSE"),
            ("HYBRID", "HYBRID"),
        ],
    )
    def test_query_modes(self, index: Index, given_mode: Any, sent: str) -> None:
        """LlamaIndex's modes say which components are searched."""
        recorded, bodies = bodies_of(index)
        ResumableRetriever(recorded, embedding=True, vector_store_query_mode=given_mode).retrieve(QUESTION)
        assert [sent] == [body["queryMode"] for body in bodies]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ({"vector_store_query_mode": "mmr"}, "vector_store_query_mode='mmr' is not supported"),
            ({"vector_store_query_mode": "semantic_hybrid"}, "is not supported; these are: 'default', 'sparse'"),
            ({"vector_store_query_mode": "both"}, "vector_store_query_mode='both' is not one of"),
            ({"vector_store_query_mode": "hybrid", "retrieval_mode": "dense"}, "contradict each other"),
            ({"retrieval_mode": "both"}, "retrieval_mode='both' is not one of 'dense', 'sparse', 'hybrid'"),
            ({"retrieval_mode": "dense", "sparse_embedding": initials}, "retrieval_mode='dense' needs embed_model="),
            ({"retrieval_mode": "sparse", "embed_model": Letters()}, "retrieval_mode='sparse' needs sparse_embedding="),
            ({"embedding": True, "embed_model": Letters()}, "leave out embed_model= and sparse_embedding="),
            ({"fusion": "max"}, "fusion='max' is not one of 'rrf', 'dbsf'"),
            ({"weighting": "bm25"}, "weighting='bm25' is not one of 'idf'"),
            ({"sparse_embedding": 3}, "sparse_embedding cannot be 3"),
            ({"token": "t"}, "leave them out, or leave out index="),
        ],
    )
    def test_contradictions(self, index: Index, arguments: dict[str, Any], complaint: str) -> None:
        """What cannot work is refused when the retriever is made, naming the argument."""
        with pytest.raises(ClientError, match=complaint):
            ResumableRetriever(index, **arguments)

    async def test_settings(self, vectors: Index) -> None:
        """The model of the settings is used for an index without one, and read when a question needs it."""
        retriever = ResumableRetriever(vectors)
        Settings.embed_model = Letters()
        expected = ids(ResumableRetriever(vectors, embed_model=Letters()).retrieve(QUESTION))
        assert expected == ids(retriever.retrieve(QUESTION)) == ids(await retriever.aretrieve(QUESTION))

    async def test_settings_are_not_asked_needlessly(self, index: Index) -> None:
        """An index with a text model needs no other."""
        Settings.embed_model = MockEmbedding(3)
        assert 2 == len(ResumableRetriever(index).retrieve(QUESTION))
        assert 2 == len(await ResumableRetriever(index).aretrieve(QUESTION))

    async def test_nobody_embeds(self, vectors: Index) -> None:
        """Without any model the first use says which argument is missing."""
        retriever = ResumableRetriever(vectors)
        with pytest.raises(ClientError, match=r"pass embed_model=, or set Settings\.embed_model"):
            retriever.retrieve(QUESTION)
        with pytest.raises(ClientError, match=r"pass embed_model=, or set Settings\.embed_model"):
            await retriever.aretrieve(QUESTION)
        with pytest.raises(ClientError, match="pass sparse_embedding="):
            ResumableRetriever(vectors, retrieval_mode="sparse").retrieve(QUESTION)


class TestNodes:
    """From rows to nodes."""

    @pytest.fixture
    def node(self) -> TextNode:
        """A node with what rows of plain text do not have."""
        return TextNode(
            id_="llama",
            text="of LlamaIndex",
            metadata={"doc_id": "mine", "tags": ["a", {"b": None}]},
            excluded_embed_metadata_keys=["tags"],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="D1")},
        )

    @pytest.fixture
    def retriever(self, node: TextNode) -> Iterator[ResumableRetriever]:
        """A retriever over rows of every layout, nearest to 1 first."""
        rows = [
            Vector("llama", [1.0], node_to_metadata_dict(node)),
            Vector("chain", [0.9], {"text": "of LangChain", "a": 1}),
            Vector("js", [0.8], {"_pageContentLC": "of LangChain.js", "a": 1}),
            Vector("raw", [0.7], {"a": 1}, "of the index"),
            Vector("none", [0.6], {"a": 1}),
            Vector("orphan", [0.5], node_to_metadata_dict(TextNode(id_="orphan", text="without a parent"))),
        ]
        with Index.embedded(type="dense", dimension=1, similarity="dot_product") as index:
            index.upsert(rows)
            yield ResumableRetriever(index, embed_model=MockEmbedding(1), similarity_top_k=10)

    def test_every_layout(
        self, retriever: ResumableRetriever, node: TextNode, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A stored node comes back as it was; other rows become nodes of their text and metadata."""
        with caplog.at_level(logging.WARNING, "nextk"):
            nodes = [found.node for found in retriever.retrieve("?")]
        assert node == nodes[0]
        assert "D1" == nodes[0].ref_doc_id
        assert [
            ("chain", "of LangChain", {"a": 1}),
            ("js", "of LangChain.js", {"a": 1}),
            ("raw", "of the index", {"a": 1}),
            ("orphan", "without a parent", {}),
        ] == [(found.node_id, found.get_content(), found.metadata) for found in nodes[1:]]
        assert nodes[-1].ref_doc_id is None
        assert 1 == len(caplog.messages)
        assert "1 of 6 rows" in caplog.messages[0]

    def test_fresh_nodes(self, retriever: ResumableRetriever) -> None:
        """What a caller does to a node shows in no other."""
        [first, *_] = retriever.retrieve("?")
        first.score = 9.0
        first.node.metadata["tags"].append("changed")
        assert ["a", {"b": None}] == retriever.retrieve("?")[0].node.metadata["tags"]

    def test_text_key(self, retriever: ResumableRetriever) -> None:
        """The text may be under another key."""
        other = ResumableRetriever(
            retriever.index, embed_model=MockEmbedding(1), text_key="_pageContentLC", similarity_top_k=9
        )
        assert ["llama", "js", "raw", "orphan"] == ids(other.retrieve("?"))


class TestConfiguration:
    """Copies, pickles and secrets."""

    def test_secrets(self) -> None:
        """The token shows in no representation."""
        retriever = ResumableRetriever(url="http://127.0.0.1:1", token="secret-token")
        assert "ResumableRetriever(Index(HttpTransport('http://127.0.0.1:1')), similarity_top_k=2)" == repr(retriever)
        assert "secret-token" not in repr(vars(retriever))

    def test_pickle(self) -> None:
        """A retriever by URL pickles, and finds its index again."""
        retriever = ResumableRetriever(
            url="http://127.0.0.1:1", token="t", embed_model=Letters(), sparse_embedding=initials
        )
        assert repr(retriever) == repr(pickle.loads(pickle.dumps(retriever)))  # noqa: S301 - our own

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_copies(self, index: Index, copied: Any) -> None:
        """Copies search the same index, and may be given another size."""
        retriever = ResumableRetriever(index)
        again = copied(retriever)
        again.similarity_top_k = 1
        assert (2, 1) == (len(retriever.retrieve(QUESTION)), len(again.retrieve(QUESTION)))

    async def test_closing(self, index: Index) -> None:
        """An index that was handed over stays open when its retriever is closed."""
        with ResumableRetriever(index) as retriever:
            pass
        async with retriever:
            pass
        assert 2 == len(retriever.retrieve(QUESTION))


class TestOpen:
    """Searches that are continued."""

    def test_pages_are_one_long_call(self, index: Index) -> None:
        """Pages, one after the other, are what one large call gives."""
        expected = ids(ResumableRetriever(index, similarity_top_k=100).retrieve(QUESTION))
        retriever = ResumableRetriever(index, max_idle=7)
        with retriever.open(QueryBundle(QUESTION)) as search:
            assert ids(retriever.retrieve(QUESTION)) == expected[:2] == ids(search.fetch_next(2))
            assert expected[2:] == ids(list(search))
        assert len(TEXTS) == len(expected)

    def test_max_idle(self, index: Index) -> None:
        """How long the index keeps the search is the retriever's."""
        recorded, bodies = bodies_of(index)
        with ResumableRetriever(recorded, embedding=True, max_idle=7).open(QUESTION) as search:
            search.fetch_next(1)
        assert 7 == bodies[0]["maxIdle"]


class TestFromNodes:
    """A retriever in one line."""

    def test_both_frameworks_read_it(self) -> None:
        """Nodes come back whole, and LangChain reads their text and the user's metadata."""
        node = TextNode(id_="n", text="The sky is blue.", metadata={"topic": "sky", "text": "caption"})
        before = node.model_dump()
        with ResumableRetriever.from_nodes([node, TextNode(text="Grass.")], similarity_top_k=1) as retriever:
            assert [node] == [found.node for found in retriever.retrieve("sky")]
            chain = langchain.ResumableRetriever(index=retriever.index, k=1)
            expected = ChainDocument("The sky is blue.", id="n", metadata={"topic": "sky", "text": "caption"})
            assert [expected] == chain.invoke("sky")
            with chain.open("sky", filter="topic = 'sky'") as search:
                assert [expected] == search.fetch_next(5)
        assert before == node.model_dump()

    def test_metadata_is_embedded(self) -> None:
        """What LlamaIndex embeds of a node is found: its metadata too, unless it is excluded."""
        shown = TextNode(id_="shown", text="body", metadata={"title": "whale"})
        hidden = TextNode(
            id_="hidden", text="body", metadata={"title": "whale"}, excluded_embed_metadata_keys=["title"]
        )
        with ResumableRetriever.from_nodes([shown, hidden], retrieval_mode="sparse", similarity_top_k=5) as retriever:
            assert ["shown"] == ids(retriever.retrieve("whale"))

    async def test_own_models(self) -> None:
        """Models that are given are the index's own, and it closes with its retriever."""
        nodes = [TextNode(text=text) for text in TEXTS]
        made = ResumableRetriever.from_nodes(nodes, Letters(), sparse_embedding=initials, namespace="ns")
        async with made as retriever:
            assert 2 == len(await retriever.aretrieve(QUESTION))
            assert "ns" in retriever.index.list_namespaces()
        with pytest.raises(ClientError, match="this index is closed"):
            retriever.retrieve(QUESTION)

    def test_documents_are_split(self) -> None:
        """Documents are split as LlamaIndex does, or as told, or not at all."""
        long = Document(text="The sky is blue. " * 1_000, id_="long")
        with ResumableRetriever.from_documents([long]) as retriever:
            assert 1 < retriever.index.info().vector_count
            assert {"long"} == {found.node.ref_doc_id for found in retriever.retrieve("sky")}
        with ResumableRetriever.from_documents([Document(text="sky", id_="a")], transformations=[]) as retriever:
            assert [("a", "sky")] == [(found.node_id, found.text) for found in retriever.retrieve("sky")]

    def test_wrong_arguments(self, tmp_path: Path) -> None:
        """What is wrong is refused, and the file is let go of."""
        nodes = [TextNode(text="a")]
        with pytest.raises(ClientError, match="similarity_top_k"):
            ResumableRetriever.from_nodes(nodes, path=tmp_path / "i", similarity_top_k=0)
        with pytest.raises(RefusedError, match="Metadata is"):
            ResumableRetriever.from_nodes([TextNode(text="a" * 60_000)], path=tmp_path / "i")
        with ResumableRetriever.from_nodes(nodes, path=tmp_path / "i") as retriever:
            assert ids(retriever.retrieve("a")) == [nodes[0].node_id]


def test_missing_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LlamaIndex the import names the command that installs it."""
    monkeypatch.delitem(sys.modules, "nextk.llama_index")
    monkeypatch.setitem(sys.modules, "llama_index.core", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nextk\[llama-index\]'"):
        importlib.import_module("nextk.llama_index")
