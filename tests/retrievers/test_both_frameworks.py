"""The parts that both retrievers share: record text, sparse models, connections, storing; and that both agree."""

import asyncio
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextk import AsyncIndex, Index, langchain, llama_index
from nextk.arguments import choose
from nextk.errors import ClientError
from nextk.retrievers.connection import Connection, has_text_models
from nextk.retrievers.record_text import TEXT_KEYS, RecordText, read_text
from nextk.retrievers.sparse_model import SparseQueryModel
from nextk.retrievers.writing import open_embedded
from nextk.sessions import RetrievalMode, RowReader, resolve_mode
from nextk.stores import content_id
from nextk.types import (
    Data,
    DenseIndexInfo,
    FusionAlgorithm,
    InfoResult,
    QueryResult,
    SparseIndexInfo,
    SparseVector,
)
from tests.support.local_server import LocalServer
from tests.support.sentence_index import QUESTION, TEXTS, sentences
from tests.support.transports import Recording


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An embedded hybrid index of 66 texts."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture(autouse=True)
def nothing_left_open(index: Index) -> Iterator[None]:
    """After every test the index holds no open query."""
    yield
    transport: Any = index._transport
    assert 0 == transport._shared_engine.engine.open_queries()


class TestPassage:
    """Reading the text of a row, whoever wrote it."""

    @pytest.mark.parametrize(
        ("metadata", "data", "expected"),
        [
            ({"text": "T", "a": 1}, None, RecordText("T", {"a": 1})),
            ({"_pageContentLC": "T", "a": 1}, None, RecordText("T", {"a": 1})),
            ({"text": "T", "_pageContentLC": "P"}, None, RecordText("T", {"_pageContentLC": "P"})),
            ({"text": "T"}, "D", RecordText("T", {})),
            ({"text": None, "a": 1}, "D", RecordText("D", {"text": None, "a": 1})),
            ({"text": 3}, None, None),
            ({"a": 1}, "D", RecordText("D", {"a": 1})),
            (None, "D", RecordText("D", {})),
            (None, "", RecordText("", {})),
            ({"a": 1}, None, None),
            (None, None, None),
            ({"_node_content": "{"}, "D", RecordText("D", {"_node_content": "{"})),
            ({"_node_content": "[1]"}, None, None),
            ({"_node_content": 5}, None, None),
        ],
    )
    def test_layouts(self, metadata: dict[str, Any] | None, data: str | None, expected: RecordText | None) -> None:
        """A metadata key that holds a text is taken out and wins over data; without either there is no passage."""
        assert expected == read_text(QueryResult("x", 0.5, metadata=metadata, data=data), TEXT_KEYS)

    @pytest.mark.parametrize(
        ("own", "parent", "expected"),
        [
            ({"a": 1}, "None", {"a": 1}),
            ({"a": 1}, "D1", {"a": 1, "document_id": "D1", "doc_id": "D1", "ref_doc_id": "D1"}),
            ({"doc_id": "mine"}, "None", {"doc_id": "mine"}),
            ({"doc_id": "mine"}, "D1", {"doc_id": "mine", "document_id": "D1", "ref_doc_id": "D1"}),
            ({"text": "caption"}, "None", {"text": "caption"}),
        ],
    )
    @pytest.mark.parametrize("shape", [{"text": "T"}, {"text_resource": {"text": "T"}}])
    def test_llama_index_node(
        self, own: dict[str, Any], parent: str, expected: dict[str, Any], shape: dict[str, Any]
    ) -> None:
        """A stored node gives its text and the user's metadata: no "None" parent, no node, nothing overwritten."""
        metadata = {
            **own,
            "_node_content": json.dumps({"metadata": own, **shape}),
            "_node_type": "TextNode",
            **dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), parent),
        }
        assert RecordText("T", expected) == read_text(QueryResult("x", 0.5, metadata=metadata, data="other"), TEXT_KEYS)

    @pytest.mark.parametrize(("data", "text"), [("D", "D"), (None, "")])
    def test_node_without_text(self, data: str | None, text: str) -> None:
        """A node without a text of its own is still a row: with its data, or empty."""
        match = QueryResult("x", 0.5, metadata={"_node_content": '{"text_resource": null}'}, data=data)
        assert RecordText(text, {}) == read_text(match, TEXT_KEYS)

    def test_the_match_is_not_changed(self) -> None:
        """Reading a row leaves the match as it was."""
        match = QueryResult("x", 0.5, metadata={"text": "T", "a": 1})
        read_text(match, TEXT_KEYS)
        assert {"text": "T", "a": 1} == match.metadata

    def test_rows_without_text_are_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        """Rows without text are left out, and one warning says how many."""
        matches = [QueryResult("a", 0.9, data="A"), QueryResult("b", 0.8), QueryResult("c", 0.7, metadata={"k": 1})]
        with caplog.at_level(logging.WARNING, "nextk.sessions"):
            reader = RowReader(lambda match: read_text(match, TEXT_KEYS), text_keys=TEXT_KEYS)
            assert [RecordText("A", {})] == reader.read(matches)
        where = "neither as data nor in metadata under 'text', '_pageContentLC'"
        assert [f"2 of 3 rows hold no text, {where}: they are left out"] == caplog.messages


class Blocking:
    """A sparse model that only blocks, and refuses to do so in an event loop."""

    def embed_query(self, text: str) -> SparseVector:
        """The length of the text in dimension 7."""
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return SparseVector([7], [float(len(text))])


class Native(Blocking):
    """A sparse model with an asynchronous method."""

    async def aembed_query(self, text: str) -> SparseVector:
        """The same under another dimension, to tell it apart."""
        return SparseVector([8], [float(len(text))])


class Dictionary:
    """A sparse model in LlamaIndex's manner."""

    def get_query_embedding(self, text: str) -> dict[int, float]:
        """The length of the text in dimension 7."""
        return {7: float(len(text))}


class TestSparseModel:
    """Sparse models of every make."""

    @pytest.mark.parametrize(
        "model",
        [
            Blocking(),
            Native(),
            Dictionary(),
            lambda texts: [SparseVector([7], [float(len(text))]) for text in texts],
            lambda texts: [(np.array([7]), np.array([len(text)], np.float32)) for text in texts],
            lambda texts: [{np.int64(7): np.float32(len(text))} for text in texts],
            lambda texts: ([[7]] * len(texts), [[float(len(text))] for text in texts]),
        ],
        ids=["object", "with-async", "llama-index", "vectors", "arrays", "dicts", "qdrant"],
    )
    def test_makes(self, model: Any) -> None:
        """Each make gives the same plain vector."""
        assert SparseVector([7], [3.0]) == SparseQueryModel(model).embed("sky")

    @pytest.mark.parametrize(("model", "dimension"), [(Blocking(), 7), (Dictionary(), 7), (Native(), 8)])
    async def test_asynchronous(self, model: Any, dimension: int) -> None:
        """An asynchronous method is used where there is one; what only blocks goes to a thread."""
        assert SparseVector([dimension], [5.0]) == await SparseQueryModel(model).aembed("ocean")

    @pytest.mark.parametrize("model", [3, "bm25", Blocking])
    def test_what_is_no_model(self, model: object) -> None:
        """What cannot embed is refused at once, naming the argument."""
        with pytest.raises(ClientError, match=r"^sparse_embedding cannot be "):
            SparseQueryModel(model)

    @pytest.mark.parametrize("result", [[3], [None], [[0.5, 0.5]]])
    def test_what_is_no_vector(self, result: Any) -> None:
        """A model that returns something else is told what was expected."""
        with pytest.raises(ClientError, match=r"^sparse_embedding returned \w+ where a sparse vector was expected"):
            SparseQueryModel(lambda _texts: result).embed("sky")


class TestWords:
    """Modes and enums as callers write them."""

    @pytest.mark.parametrize("given_word", ["rrf", "RRF", FusionAlgorithm.RRF])
    def test_any_spelling(self, given_word: str) -> None:
        """A member is known by itself, or by its word in any letter case."""
        assert FusionAlgorithm.RRF is choose(FusionAlgorithm, given_word, "fusion")

    def test_unknown(self) -> None:
        """An unknown word is refused with the known ones."""
        with pytest.raises(ClientError, match=r"^fusion='max' is not one of 'rrf', 'dbsf'$"):
            choose(FusionAlgorithm, "max", "fusion")

    @pytest.mark.parametrize(
        ("requested", "dense", "sparse", "expected"),
        [
            (None, True, False, RetrievalMode.DENSE),
            (None, False, True, RetrievalMode.SPARSE),
            (None, True, True, RetrievalMode.HYBRID),
            (None, False, False, None),
            (RetrievalMode.HYBRID, False, False, RetrievalMode.HYBRID),
            (RetrievalMode.DENSE, True, True, RetrievalMode.DENSE),
            (RetrievalMode.DENSE, False, True, "retrieval_mode='dense' needs d="),
            (RetrievalMode.HYBRID, True, False, "retrieval_mode='hybrid' needs s="),
            (RetrievalMode.HYBRID, False, True, "retrieval_mode='hybrid' needs d="),
            (RetrievalMode.SPARSE, True, False, "retrieval_mode='sparse' needs s="),
        ],
    )
    def test_mode_from_models(
        self, requested: RetrievalMode | None, dense: bool, sparse: bool, expected: RetrievalMode | str | None
    ) -> None:
        """Models decide the mode; one that lacks a model is refused, naming the argument."""
        keywords = {"dense": dense, "sparse": sparse, "dense_name": "d", "sparse_name": "s"}
        if isinstance(expected, RetrievalMode) or expected is None:
            assert expected == resolve_mode(requested, **keywords)  # type: ignore[arg-type]
        else:
            with pytest.raises(ClientError, match=expected):
                resolve_mode(requested, **keywords)  # type: ignore[arg-type]


class TestSource:
    """The index behind a retriever."""

    @pytest.mark.parametrize(
        ("dense", "sparse", "mode", "expected"),
        [
            ("m", "m", None, True),
            ("m", "", None, False),
            ("m", "", RetrievalMode.DENSE, True),
            ("m", "", RetrievalMode.SPARSE, False),
            ("", "m", RetrievalMode.SPARSE, True),
            ("m", "", RetrievalMode.HYBRID, False),
            ("m", None, None, True),
            (None, "m", RetrievalMode.SPARSE, True),
            ("m", None, RetrievalMode.SPARSE, False),
            (None, "m", RetrievalMode.DENSE, False),
            (None, None, None, True),
        ],
    )
    def test_text_models(
        self, dense: str | None, sparse: str | None, mode: RetrievalMode | None, expected: bool
    ) -> None:
        """An index embeds a question if every component that is searched has a model."""
        info = InfoResult(
            *(0, 0, 0, 2, "COSINE"),
            dense_index=None if dense is None else DenseIndexInfo(2, "COSINE", dense),
            sparse_index=None if sparse is None else SparseIndexInfo(sparse),
        )
        assert expected == has_text_models(info, mode)

    def test_either_colour(self, index: Index) -> None:
        """Whichever colour is given, both are there, over the same transport."""
        for source in (Connection(index), Connection(index.to_async())):
            assert isinstance(source.index, Index)
            assert isinstance(source.async_index, AsyncIndex)
            assert index._transport is source.index._transport is source.async_index._transport

    async def test_what_is_handed_over_stays_open(self) -> None:
        """Closing a source closes an index only if it is owned."""
        index = Index.embedded(type="dense", dimension=2)
        Connection(index).close()
        await Connection(index).aclose()
        assert 0 == index.info().vector_count
        await Connection(index, owned=True).aclose()
        with pytest.raises(ClientError, match="this index is closed"):
            index.info()

    def test_index_and_url(self, index: Index) -> None:
        """An index and a URL contradict each other."""
        with pytest.raises(ClientError, match=r"leave them out, or leave out index="):
            Connection(index, "http://127.0.0.1:1")

    def test_a_token_from_the_environment_is_not_pickled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A source pickles as what it was made from."""
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", "secret-token")
        pickled = pickle.dumps(Connection())
        assert b"secret-token" not in pickled
        assert "Index(HttpTransport('http://127.0.0.1:1'))" == repr(pickle.loads(pickled))  # noqa: S301 - our own


class TestBuilding:
    """An index in one line."""

    def test_batches_and_repeats(self) -> None:
        """More rows than an upsert takes are stored in batches; of several with one id the last one stays."""
        with Index.embedded(type="dense", embedding=lambda texts: [[1.0, 2.0]] * len(texts)) as index:
            recording = Recording(index._transport)
            index._transport = recording
            retriever = langchain.ResumableRetriever(index=index, embedding=True, namespace="ns")
            numbers = range(2_000)
            ids = [str(number % 1_500) for number in numbers]
            retriever.add_texts([f"v{number}" for number in numbers], ids=ids, batch_size=1_000)
            assert ["upsert-data"] * 2 == recording.sent
            assert 1_500 == index.info().vector_count
            found = index.fetch(["0", "499", "500"], namespace="ns", include_data=True)
            assert ["v1500", "v1999", "v500"] == [record.data for record in found if record is not None]

    def test_nothing_to_store(self) -> None:
        """No records are no request."""
        with Index.embedded(type="dense", dimension=2) as index:
            recording = Recording(index._transport)
            langchain.ResumableRetriever(index=Index._over(recording), embedding=True).add_texts([])
            assert [] == recording.sent
            assert 0 == index.info().vector_count

    def test_content_id(self) -> None:
        """An id depends on text and metadata, not on the order of keys, and is the same in every process."""
        assert "71910b6b-7fa5-5ec9-a4d9-f97197237885" == content_id("a", {"x": 1, "y": "ü"})
        assert content_id("a", {"x": 1, "y": 2}) == content_id("a", {"y": 2, "x": 1})
        assert 4 == len(
            {content_id("a", {}), content_id("b", {}), content_id("a", {"x": 1}), content_id("a", {"x": 2})}
        )

    def test_reopening(self, tmp_path: Path) -> None:
        """An index at a path is added to."""
        for text in ("one", "two"):
            with open_embedded(tmp_path / "i", None, None, None, same_model=False) as index:
                index.upsert([Data(text, text)])
        with Index.embedded(tmp_path / "i") as index:
            assert 2 == index.info().vector_count


MODES = ["dense", "sparse", "hybrid"]


class TestAgreement:
    """Both frameworks give the same answer."""

    @pytest.mark.parametrize("mode", [None, *MODES])
    async def test_equal_ids(self, index: Index, mode: Any) -> None:
        """The same question has the same ids and scores in both frameworks, both colours, at once and page by page."""
        chain = langchain.ResumableRetriever(index=index, retrieval_mode=mode, k=12, score_key="score")
        llama = llama_index.ResumableRetriever(index, retrieval_mode=mode, similarity_top_k=12)
        documents = chain.invoke(QUESTION)
        expected = [(document.id, document.metadata["score"]) for document in documents]
        assert len(expected) == 12
        assert documents == await chain.ainvoke(QUESTION)
        nodes = [llama.retrieve(QUESTION), await llama.aretrieve(QUESTION)]
        with llama.open(QUESTION) as search:
            nodes.append([node for size in (5, 1, 6) for node in search.fetch_next(size)])
        for found in nodes:
            assert expected == [(node.node_id, node.score) for node in found]
        with chain.open(QUESTION) as chain_search:
            assert documents == [document for size in (5, 1, 6) for document in chain_search.fetch_next(size)]
        async with chain.aopen(QUESTION) as achain, llama.aopen(QUESTION) as allama:
            assert documents == await achain.fetch_next(12)
            assert expected == [(node.node_id, node.score) for node in await allama.fetch_next(12)]

    @pytest.mark.parametrize("make", [langchain.ResumableRetriever, llama_index.ResumableRetriever])
    def test_a_dropped_search_is_noticed(self, index: Index, make: Callable[..., Any]) -> None:
        """A search that is neither left nor stopped warns, and the index is freed by the next call."""
        search = make(index=index).open(QUESTION)
        search.fetch_next(1)
        with pytest.warns(ResourceWarning, match="was dropped while open"):
            del search
        index.info()

    @pytest.mark.parametrize("make", [langchain.ResumableRetriever, llama_index.ResumableRetriever])
    async def test_by_url(self, local_server: LocalServer, make: Callable[..., Any]) -> None:
        """A retriever by URL searches a server, also once unpickled, and closes its connections."""
        url = local_server.add("adapters", type="hybrid", embedding="static", sparse_embedding="bm25")
        with Index(url, local_server.token) as served:
            served.upsert([Data(text, text) for text in TEXTS[:9]])
        async with pickle.loads(pickle.dumps(make(url=url, token=local_server.token))) as retriever:  # noqa: S301
            with retriever.open(QUESTION) as search:
                found = search.fetch_next(4) + search.fetch_next(9)
            async with retriever.aopen(QUESTION) as asearch:
                assert found == await asearch.fetch_next(4) + await asearch.fetch_next(9)
        assert len(found) == 9
        engine: Any = local_server.engines.pop("adapters")
        assert 0 == engine.open_queries()
        engine.close()
