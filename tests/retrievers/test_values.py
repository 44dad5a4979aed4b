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
from llama_index.core.schema import IndexNode, NodeRelationship, RelatedNodeInfo, TextNode

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
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "metadata.when is a datetime; give an ISO string or a number"),
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
    """What cannot be stored is refused before an index is made for it."""
    with pytest.raises(NextKError, match=r"^record \d"):
        make(bad, tmp_path / "index")
    assert [] == list(tmp_path.iterdir())


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
