"""Values that callers store: one rule for all ways in, which names what it refuses before anything is stored."""

import dataclasses
import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import Document as NodeDocument
from llama_index.core.schema import IndexNode, NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from nextk import Index, langchain, llama_index
from nextk.errors import ClientError, NextKError
from nextk.types import Data

Records = list[tuple[str, dict[str, Any]]]
"""The ids and the metadata of the records to store."""
Way = Callable[[Index, Records], Any]


async def upsert(index: Index, records: Records) -> None:
    """Store records by the client."""
    index.upsert([Data(id_, "text", metadata) for id_, metadata in records])


async def add_texts(index: Index, records: Records) -> None:
    """Store records as texts of LangChain, a few in one request."""
    ids, metadatas = zip(*records, strict=True)
    retriever = langchain.ResumableRetriever(index=index)
    retriever.add_texts(["text"] * len(records), metadatas, ids=ids, batch_size=100)


async def aadd_texts(index: Index, records: Records) -> None:
    """Store records as texts of LangChain without blocking, a few in one request."""
    ids, metadatas = zip(*records, strict=True)
    retriever = langchain.ResumableRetriever(index=index)
    await retriever.aadd_texts(["text"] * len(records), iter(metadatas), ids=ids, batch_size=100)


async def add_documents(index: Index, records: Records) -> None:
    """Store records as documents of LangChain."""
    documents = [Document("text", id=id_, metadata=metadata) for id_, metadata in records]
    langchain.ResumableRetriever(index=index).add_documents(documents, batch_size=100)


async def aadd_documents(index: Index, records: Records) -> None:
    """Store records as documents of LangChain without blocking."""
    documents = [Document("text", id=id_, metadata=metadata) for id_, metadata in records]
    await langchain.ResumableRetriever(index=index).aadd_documents(documents, batch_size=100)


async def insert_nodes(index: Index, records: Records) -> None:
    """Store records as nodes of LlamaIndex."""
    nodes = [TextNode(id_=id_, text="text", metadata=metadata) for id_, metadata in records]
    llama_index.ResumableRetriever(index).insert_nodes(nodes, batch_size=100)


async def ainsert_nodes(index: Index, records: Records) -> None:
    """Store records as nodes of LlamaIndex without blocking."""
    nodes = [TextNode(id_=id_, text="text", metadata=metadata) for id_, metadata in records]
    await llama_index.ResumableRetriever(index).ainsert_nodes(nodes, batch_size=100)


async def insert_each(retriever: llama_index.ResumableRetriever, nodes: Any) -> list[str]:
    """Store nodes by the blocking method, the default number in one request."""
    return retriever.insert_nodes(nodes)


async def ainsert_each(retriever: llama_index.ResumableRetriever, nodes: Any) -> list[str]:
    """Store nodes by the asynchronous method, the default number in one request."""
    return await retriever.ainsert_nodes(nodes)


class OddVectors(Embeddings):
    """A model that makes one vector for the text `x` and another for all others."""

    def __init__(self, wrong: list[float]) -> None:
        self._wrong = wrong

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vector of each text."""
        return [self._wrong if text == "x" else [1.0, 2.0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        return self.embed_documents([text])[0]


class OddNodeVectors(MockEmbedding):
    """A model of LlamaIndex that makes one vector for the text `x` and another for all others."""

    wrong: list[float]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self.wrong if text == "x" else [1.0, 2.0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embedding(text)


async def add_vectors(index: Index, ids: list[str], wrong: list[float]) -> None:
    """Store a text for each id by LangChain, a hundred in one request; `x` gets the wrong vector."""
    langchain.ResumableRetriever(index=index, embedding=OddVectors(wrong)).add_texts(ids, ids=ids, batch_size=100)


async def aadd_vectors(index: Index, ids: list[str], wrong: list[float]) -> None:
    """Store a text for each id by LangChain without blocking, as `add_vectors` does."""
    retriever = langchain.ResumableRetriever(index=index, embedding=OddVectors(wrong))
    await retriever.aadd_texts(ids, ids=ids, batch_size=100)


async def insert_vectors(index: Index, ids: list[str], wrong: list[float]) -> None:
    """Store a node for each id by LlamaIndex, a hundred in one request; `x` gets the wrong vector."""
    retriever = llama_index.ResumableRetriever(index, embed_model=OddNodeVectors(embed_dim=2, wrong=wrong))
    retriever.insert_nodes([TextNode(id_=id_, text=id_) for id_ in ids], batch_size=100)


async def ainsert_vectors(index: Index, ids: list[str], wrong: list[float]) -> None:
    """Store a node for each id by LlamaIndex without blocking, as `insert_vectors` does."""
    retriever = llama_index.ResumableRetriever(index, embed_model=OddNodeVectors(embed_dim=2, wrong=wrong))
    await retriever.ainsert_nodes([TextNode(id_=id_, text=id_) for id_ in ids], batch_size=100)


async def store_documents(index: Index, documents: Any) -> None:
    """Store documents of LangChain."""
    langchain.ResumableRetriever(index=index).add_documents(documents)


async def astore_documents(index: Index, documents: Any) -> None:
    """Store documents of LangChain without blocking."""
    await langchain.ResumableRetriever(index=index).aadd_documents(documents)


async def make_of_documents(_index: Index, documents: Any) -> None:
    """Make a retriever over documents of LangChain."""
    langchain.ResumableRetriever.from_documents(documents).close()


async def store_nodes(index: Index, nodes: Any) -> None:
    """Store nodes of LlamaIndex."""
    llama_index.ResumableRetriever(index).insert_nodes(nodes)


async def astore_nodes(index: Index, nodes: Any) -> None:
    """Store nodes of LlamaIndex without blocking."""
    await llama_index.ResumableRetriever(index).ainsert_nodes(nodes)


async def make_of_node_documents(_index: Index, documents: Any) -> None:
    """Make a retriever over documents of LlamaIndex."""
    llama_index.ResumableRetriever.from_documents(documents).close()


STORING: list[Any] = [
    *[
        pytest.param(store, Document("text"), "Documents", id=f"langchain {store.__name__}")
        for store in (store_documents, astore_documents, make_of_documents)
    ],
    *[
        pytest.param(store, NodeDocument(text="text"), "nodes", id=f"llama_index {store.__name__}")
        for store in (store_nodes, astore_nodes, make_of_node_documents)
    ],
]
"""How to store several documents or nodes, one that can be stored, and the word for several."""

WAYS = [upsert, add_texts, aadd_texts, add_documents, aadd_documents, insert_nodes, ainsert_nodes]
every_way = pytest.mark.parametrize("store", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def index() -> Any:
    """An empty index that embeds text."""
    with Index.embedded(embedding=lambda texts: [[1.0, 0.0]] * len(texts)) as index:
        yield index


@dataclasses.dataclass
class Point:
    """An object of the caller's own."""

    x: int = 1


@every_way
async def test_numbers_of_numpy(index: Index, store: Way) -> None:
    """Numbers, flags and arrays of numpy become plain numbers, flags and lists, whichever way they come in."""
    given = {
        "n": np.int64(7),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "a": np.array([[1, 2], [3, 4]]),
        "deep": [{"m": np.uint8(3)}, (np.float64(0.1),)],
    }
    await store(index, [("x", given)])
    expected = {"n": 7, "f": 0.5, "b": True, "a": [[1, 2], [3, 4]], "deep": [{"m": 3}, [0.1]]}
    [found] = index.fetch("x", include_metadata=True)
    assert found is not None
    assert found.metadata is not None
    assert expected == {key: found.metadata[key] for key in expected}
    assert isinstance(given["n"], np.int64)  # what the caller has is not changed
    assert [found] == index.range(include_metadata=True).vectors
    assert ["x"] == [match.id for match in index.query(data="x", filter="n = 7 AND b = true AND a[1][0] = 3")]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (dt.date(2026, 1, 2), "metadata.when is a date; give an ISO string or a number"),
        ([{"l": uuid.UUID(int=1)}], "metadata.when[0].l is a UUID; give its text"),
        (decimal.Decimal("0.1"), "metadata.when is a Decimal; give a float or a text"),
        ({1, 2}, "metadata.when is a set; give a list"),
        (b"x", "metadata.when is bytes; give a text"),
        (Point(), "metadata.when is a Point; give dataclasses.asdict(...)"),
        (math.nan, "metadata.when is nan, for which JSON has no word"),
        (np.array([1.0, -math.inf]), "metadata.when[1] is -inf, for which JSON has no word"),
        ("x\ud800", "metadata.when is 'x\\ud800', which has lone surrogates"),
        (2**63, "metadata.when is a whole number beyond 64 bits"),
        ([0, [-(2**63) - 1]], "metadata.when[1][0] is a whole number beyond 64 bits"),
        ("a\0b", "Metadata must not contain the NUL character; metadata.when does"),
        ("x" * 50_000, None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:30],
)
@every_way
async def test_the_bad_one_is_named(index: Index, store: Way, value: Any, fault: str | None) -> None:
    """Of 600 records the one that cannot be stored is named by its position and its id, and none is stored."""
    records: Records = [(f"r{position}", {"n": position}) for position in range(600)]
    records[417] = ("x", {"n": 1, "when": value})
    with pytest.raises(NextKError) as caught:
        await store(index, records)
    assert f"record 417 (id 'x'): {fault or ''}" in str(caught.value)
    assert " bytes" in str(caught.value) or fault is not None
    assert 0 == index.info().vector_count


@pytest.mark.parametrize("metadata", [None, [], "text"], ids=repr)
@pytest.mark.parametrize("store", [add_texts, aadd_texts], ids=lambda way: way.__name__)
async def test_metadata_that_is_no_dict(index: Index, store: Way, metadata: Any) -> None:
    """`None`, or anything else that is no dict, among metadatas is refused by its position."""
    with pytest.raises(ClientError, match=r"^record 1 \(id 'b'\): metadata has to be a dict, not "):
        await store(index, [("a", {}), ("b", metadata)])
    assert 0 == index.info().vector_count


@pytest.mark.parametrize("bad", [{"when": dt.date(2026, 1, 1)}, {"k": "a\0b"}], ids=["date", "NUL"])
@pytest.mark.parametrize(
    "make",
    [
        lambda bad, path: langchain.ResumableRetriever.from_texts(["a", "b"], metadatas=[{}, bad], path=path),
        lambda bad, path: langchain.ResumableRetriever.from_documents([Document("a", metadata=bad)], path=path),
        lambda bad, path: llama_index.ResumableRetriever.from_nodes([TextNode(text="a", metadata=bad)], path=path),
    ],
    ids=["from_texts", "from_documents", "from_nodes"],
)
def test_no_index_is_made(make: Callable[..., Any], bad: dict[str, Any], tmp_path: Path) -> None:
    """Records that cannot be stored are refused before an index is made for them."""
    with pytest.raises(NextKError, match=r"^record \d"):
        make(bad, tmp_path / "index")
    assert [] == list(tmp_path.iterdir())


class TestLaterBatches:
    """An index refuses a record of a later batch, which only the model's vector makes unfit."""

    @pytest.mark.parametrize("repeated", [0, 3], ids=["distinct", "repeated ids"])
    @pytest.mark.parametrize("wrong", [[1.0, 2.0, 3.0], [math.nan, 1.0], [1e39, 1.0], [2.0]], ids=repr)
    @pytest.mark.parametrize(
        "store", [add_vectors, aadd_vectors, insert_vectors, ainsert_vectors], ids=lambda way: way.__name__
    )
    async def test_the_position_is_the_callers(self, store: Any, wrong: list[float], repeated: int) -> None:
        """The record is named by its position in the caller's list, and the note says how many batches are stored."""
        ids = [f"r{min(position, 240)}" if position < 240 + repeated else f"r{position}" for position in range(300)]
        ids[217] = "x"
        with Index.embedded(dimension=2) as index:
            with pytest.raises(NextKError, match=r"^(upsert: )?record 217 \(id 'x'\): ") as caught:
                await store(index, ids, wrong)
            assert 200 == index.info().vector_count
            [note] = caught.value.__notes__
            whole = 300 - max(0, repeated - 1)
            assert note.startswith(f"2 of 3 batches are stored (200 of {whole} records), the next one whole or not at ")

    @pytest.mark.parametrize("store", [add_vectors, insert_vectors], ids=lambda way: way.__name__)
    async def test_records_that_later_ones_replace(self, store: Any) -> None:
        """Records that later ones with their ids replace are not sent, but count in positions."""
        ids = ["twice"] * 150 + [f"r{position}" for position in range(150)] + ["x"]
        with Index.embedded(dimension=2) as index:
            with pytest.raises(NextKError, match=r"record 300 \(id 'x'\): "):
                await store(index, ids, [2.0])
            assert 100 == index.info().vector_count


class TestOtherObjects:
    """Objects that are no documents, and no nodes, among those to store."""

    @pytest.mark.parametrize(
        "bad", [None, "text", 5, {"text": "a"}, NodeWithScore(node=TextNode())], ids=lambda bad: type(bad).__name__
    )
    @pytest.mark.parametrize(("store", "good", "name"), STORING)
    async def test_one_of_another_type(self, index: Index, store: Any, good: Any, name: str, bad: object) -> None:
        """An object of another type is named by its position and its type, with what to give; nothing is stored."""
        told = rf"^record 2 is of the type {type(bad).__name__}: give a list of {name}"
        with pytest.raises(ClientError, match=told):
            await store(index, [good, good, bad, good])
        assert 0 == index.info().vector_count

    @pytest.mark.parametrize(("store", "good", "name"), STORING)
    async def test_one_without_its_list(self, index: Index, store: Any, good: Any, name: str) -> None:
        """One object in the place of a list, or what is no list, is refused in words that ask for a list."""
        for one in (good, None, "text"):
            with pytest.raises(ClientError, match=rf"^give a list of {name}, not one {type(one).__name__}$"):
                await store(index, one)
        assert 0 == index.info().vector_count


class TestNodes:
    """LlamaIndex's nodes."""

    def test_an_index_node_with_an_object(self, index: Index) -> None:
        """An index node is stored without its object, which the retriever finds by `objects=`; the error says so."""
        inner = llama_index.ResumableRetriever(index, similarity_top_k=1, filter="inner = true")
        leading = IndexNode(id_="x", text="where to look", index_id="chapter", obj=inner)
        outer = llama_index.ResumableRetriever(index, similarity_top_k=1, filter="inner = false", objects=[leading])
        inner.insert_nodes([TextNode(id_="i", text="what is there", metadata={"inner": True})])
        with pytest.raises(
            ClientError, match=r"^record 1 \(id 'x'\): an IndexNode .* obj=None, and .* objects=\[\.\.\.\]"
        ):
            outer.insert_nodes([TextNode(text="a"), leading])
        assert 1 == index.info().vector_count
        bare = leading.model_copy(update={"obj": None, "metadata": {"inner": False}})
        outer.insert_nodes([bare])
        assert ["what is there"] == [found.text for found in outer.retrieve("look")]

    def test_an_index_node_that_leads_to_a_node(self, index: Index) -> None:
        """A node is an object that can be stored, so its index node is stored and followed as it is."""
        retriever = llama_index.ResumableRetriever(index)
        retriever.insert_nodes([IndexNode(text="where to look", index_id="y", obj=TextNode(text="what is there"))])
        assert ["what is there"] == [found.text for found in retriever.retrieve("look")]

    def test_metadata_of_related_nodes(self, index: Index) -> None:
        """The metadata of related nodes follow the same rule."""
        nodes = [TextNode(id_=str(number), text="a") for number in range(2)]
        for node, value in zip(nodes, (np.int64(3), dt.date(2026, 1, 1)), strict=True):
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="d", metadata={"k": value})
        retriever = llama_index.ResumableRetriever(index)
        with pytest.raises(ClientError, match=r"^record 1 \(id '1'\): metadata.k is a date"):
            retriever.insert_nodes(nodes)
        assert ["0"] == retriever.insert_nodes(nodes[:1])
        [found] = retriever.retrieve("a")
        assert found.node.source_node is not None
        assert {"k": 3} == found.node.source_node.metadata

    @pytest.mark.parametrize(
        ("node", "fault"),
        [
            (
                TextNode(id_="x", text="x" * 60_000),
                r"Metadata is 60,\d+ bytes with the node and its text in it; .* smaller",
            ),
            (TextNode(id_="", text="x"), r"id_='' is no id"),
            (TextNode(id_="x" * 1_001, text="x"), r"its id has 1,001 bytes; at most 1,000 are allowed"),
            (TextNode(id_="x", text="x\ud800"), r"the node cannot be written as JSON"),
        ],
        ids=["long", "no id", "long id", "surrogates"],
    )
    def test_what_cannot_be_stored(self, index: Index, node: TextNode, fault: str) -> None:
        """A node that is too large, or has no id, is named before the first request, and nothing is stored."""
        many = [TextNode(text="a"), node]
        with pytest.raises(NextKError, match=rf"^record 1 \(id '.*'\): {fault}"):
            llama_index.ResumableRetriever(index).insert_nodes(many, batch_size=1)
        assert 0 == index.info().vector_count

    @pytest.mark.parametrize("store", [insert_each, ainsert_each], ids=["blocking", "asynchronous"])
    @pytest.mark.parametrize(
        ("embedding", "fault"),
        [
            ([math.nan, 1.0], "has the value nan at position 0, which is no number"),
            ([1.0, -math.inf], "has the value -inf at position 1, which is no number"),
            ([1e39, 1.0], r"has the value 1e\+39 at position 0, which is no number"),
            ([1.0, 2.0, 3.0], r"has 3 numbers, and that of record 0 \(id 'r0'\) has 2"),
            ([1.0], r"has 1 numbers, and that of record 0 \(id 'r0'\) has 2"),
            ([], "is empty: give None"),
        ],
        ids=repr,
    )
    async def test_embeddings_that_cannot_be_stored(self, store: Any, embedding: Any, fault: str) -> None:
        """Of 600 nodes with embeddings the one whose embedding no index stores is named, and none is stored."""
        nodes = [TextNode(id_=f"r{position}", text="a", embedding=[1.0, 2.0]) for position in range(600)]
        nodes[417] = TextNode(id_="x", text="a", embedding=embedding)
        with Index.embedded(dimension=2) as index:
            retriever = llama_index.ResumableRetriever(index, embed_model=MockEmbedding(embed_dim=2))
            with pytest.raises(ClientError, match=rf"^record 417 \(id 'x'\): its embedding {fault}"):
                await store(retriever, nodes)
            assert 0 == index.info().vector_count

    @pytest.mark.parametrize("store", [insert_each, ainsert_each], ids=["blocking", "asynchronous"])
    async def test_embeddings_that_are_not_used(self, index: Index, store: Any) -> None:
        """Where the index embeds, the embeddings that nodes bring do not matter."""
        nodes = [TextNode(id_="a", text="a", embedding=[math.nan]), TextNode(id_="b", text="a", embedding=[])]
        assert ["a", "b"] == await store(llama_index.ResumableRetriever(index), nodes)
        assert 2 == index.info().vector_count

    @pytest.mark.parametrize("store", [insert_each, ainsert_each], ids=["blocking", "asynchronous"])
    async def test_embeddings_of_any_numbers(self, store: Any) -> None:
        """Whole numbers and numpy's arrays can be embeddings, and nodes without one are embedded beside them."""
        nodes = [TextNode(id_=str(number), text="a") for number in range(3)]
        nodes[1].embedding, nodes[2].embedding = [1, 2], np.array([3.0, 4.0])  # type: ignore[assignment]
        with Index.embedded(dimension=2) as index:
            await store(llama_index.ResumableRetriever(index, embed_model=MockEmbedding(embed_dim=2)), nodes)
            found = index.fetch(["0", "1", "2"], include_vectors=True)
            assert [[0.5, 0.5], [1.0, 2.0], [3.0, 4.0]] == [record and record.vector for record in found]

    async def test_any_iterable(self, index: Index) -> None:
        """Nodes may come from any iterable, which is read once; the id of each is returned."""
        retriever = llama_index.ResumableRetriever(index)
        assert ["a", "b"] == retriever.insert_nodes(TextNode(id_=id_, text="x") for id_ in "ab")
        assert ["c", "d"] == await retriever.ainsert_nodes(TextNode(id_=id_, text="x") for id_ in "cd")
        assert 4 == index.info().vector_count

    def test_a_nul_in_a_text_is_kept(self, index: Index) -> None:
        """The text of a node is kept as JSON, in which the NUL character can be written."""
        retriever = llama_index.ResumableRetriever(index)
        retriever.insert_nodes([TextNode(text="a\0b")])
        assert ["a\0b"] == [found.text for found in retriever.retrieve("a")]
