"""The LlamaIndex vector store: what it removes and reads by documents, ids and filters, and whose records these are."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from llama_index.core.schema import BaseNode, Document, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilters

from nextk import Index
from nextk.errors import ClientError
from nextk.llama_index import ResumableVectorStore
from tests.support.llama_index_colours import Coloured, coloured, ids_of
from tests.support.llama_index_filter_oracle import O, joined, one
from tests.support.recorded_upstash_store import RECORDED, written
from tests.support.texts import odd_texts
from tests.support.transports import Opener


def node(id: str, document: str | None = None, **metadata: Any) -> TextNode:
    """Return a node of a document, with a vector."""
    made = TextNode(id_=id, text=f"text of {id[:9]}", metadata=metadata, embedding=[1.0, float(len(id))])
    if document is not None:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return made


def opened(open_index: Opener, **options: Any) -> Coloured:
    """Return an empty store over a dense index."""
    return coloured(open_index("dense", dimension=2), **options)


async def filled(open_index: Opener, nodes: Sequence[BaseNode], **options: Any) -> Coloured:
    """Return a store that holds nodes."""
    store = opened(open_index, **options)
    await store.call("add", nodes)
    return store


class TestDelete:
    """Removing a document."""

    @pytest.mark.parametrize("namespace", ["", "n"])
    async def test_a_document(self, open_index: Opener, namespace: str) -> None:
        """Every node of the document goes, however many there are, and no other; a second time nothing happens."""
        nodes: list[BaseNode] = [node(f"a{position}", "a") for position in range(5)]
        store = await filled(open_index, [*nodes, node("b", "b"), node("c")], namespace=namespace)
        for _ in range(2):
            assert await store.call("delete", "a") is None
            assert {"b", "c"} == await store.stored()

    async def test_a_document_that_was_not_split(self, open_index: Opener) -> None:
        """A node without a source document is removed by its own id; one that has a source keeps standing."""
        whole = Document(text="whole", id_="whole", embedding=[1.0, 0.0])
        store = await filled(open_index, [whole, node("other"), node("child", "parent")])
        await store.call("delete", "child")
        assert {"whole", "other", "child"} == await store.stored()
        await store.call("delete", "whole")
        assert {"other", "child"} == await store.stored()

    async def test_none_is_no_document(self, open_index: Opener) -> None:
        """Nodes without a source document are stored as of `"None"`, and only a document of that very name goes."""
        store = await filled(open_index, [node("a"), node("b", "None"), node("None"), node("c", "x")])
        await store.call("delete", "None")
        assert {"a", "c"} == await store.stored()

    @pytest.mark.parametrize("name", ["nul\0", "long" * 2_000, "x' OR ref_doc_id != '", '🜁 \\ " *?['], ids=range(4))
    async def test_odd_names(self, open_index: Opener, name: str) -> None:
        """A document of any name is removed, also one that no filter can name; many nodes are read for that."""
        store = opened(open_index)
        nodes = [node(f"{position}", name if position % 7 == 0 else "x") for position in range(1_050)]
        if "\0" in name:  # no index stores it
            nodes = [node(f"{position}", "x") for position in range(1_050)]
        await store.call("add", nodes, batch_size=1_000)
        await store.call("delete", name)
        expected = {each.node_id for each in nodes if each.ref_doc_id == "x"}
        assert len(expected) == (await store.index.info()).vector_count
        assert expected >= await store.stored()

    async def test_what_names_no_document(self, open_index: Opener) -> None:
        """An empty id, and what is no text, name no document."""
        store = await filled(open_index, [node("a")])
        for wrong in ("", None, 5):
            with pytest.raises(ClientError, match="names no source document"):
                await store.call("delete", wrong)
        assert {"a"} == await store.stored()

    async def test_a_namespace_that_does_not_exist(self, open_index: Opener) -> None:
        """In a namespace that holds nothing yet, there is nothing to remove or to find, and no error."""
        store = opened(open_index, namespace="absent")
        await store.call("delete", "a")
        await store.call("delete", "None")
        await store.call("delete_nodes", ["a"])
        await store.call("clear")
        assert [] == await store.call("get_nodes")
        assert [] == (await store.query(query_embedding=[1.0, 0.0])).ids


@given(name=odd_texts.filter(bool))
@settings(max_examples=60)
def test_any_name(name: str) -> None:
    """A document of any name is removed, and no document of another name."""
    with Index.embedded(type="dense", dimension=2) as index:
        store = ResumableVectorStore(index)
        store.add([node("a", name), node("c", f"{name}x")])
        store.delete(name)
        assert ["c"] == ids_of(store.get_nodes())


class TestDeleteNodes:
    """Removing nodes by their ids and by filters."""

    async def test_by_ids(self, open_index: Opener) -> None:
        """The nodes of these ids go, in requests of at most 1,000 ids; ids that do not exist are passed over."""
        store = await filled(open_index, [node(str(position)) for position in range(1_020)])
        sent = open_index.record(store.index).sent
        await store.call("delete_nodes", [str(position) for position in range(10, 1_020)] + ["absent"] * 9)
        assert ["delete"] * 2 == sent
        assert set(map(str, range(10))) == await store.stored()
        await store.call("delete_nodes", [])
        await store.call("delete_nodes", [], one("a", O.NE, 1))
        assert set(map(str, range(10))) == await store.stored()

    async def test_by_filters(self, open_index: Opener) -> None:
        """Filters that the index can say are one request; the others are checked here, page by page."""
        nodes = [node(str(position), place=position, odd=str(position % 2)) for position in range(1_100)]
        store = await filled(open_index, nodes)
        sent = open_index.record(store.index).sent
        await store.call("delete_nodes", filters=one("place", O.GTE, 1_080))
        assert ["delete"] == sent
        await store.call("delete_nodes", filters=one("odd", O.LT, "1"))
        assert ["delete", "range", "range", "delete"] == sent
        assert {str(position) for position in range(1, 1_080, 2)} == await store.stored()

    async def test_by_both(self, open_index: Opener) -> None:
        """With ids and filters, only nodes go for which both hold."""
        store = await filled(open_index, [node(name, kind=name[0]) for name in ("a1", "a2", "b1", "b2")])
        await store.call("delete_nodes", ["a1", "b1", "c1"], one("kind", O.EQ, "a"))
        assert {"a2", "b1", "b2"} == await store.stored()
        await store.call("delete_nodes", ["b1"], one("kind", O.GT, "a"))
        assert {"a2", "b2"} == await store.stored()

    @pytest.mark.parametrize(
        "filters", [None, joined("and"), joined("or", joined("and"), one("a", O.EQ, 1))], ids=range(3)
    )
    async def test_everything_is_not_meant(self, open_index: Opener, filters: MetadataFilters | None) -> None:
        """Without anything that restricts, nothing is removed: that is `clear`."""
        store = await filled(open_index, [node("a")])
        with pytest.raises(ClientError, match=r"clear\(\) removes every node"):
            await store.call("delete_nodes", filters=filters)
        assert {"a"} == await store.stored()

    async def test_clear(self, open_index: Opener) -> None:
        """All records of the store's own namespace go, and no others."""
        other = await filled(open_index, [node("a")])
        store = coloured(other.index, namespace="n")
        await store.call("add", [node("b"), node("c")])
        await store.call("clear")
        assert (set(), {"a"}) == (await store.stored(), await other.stored())


class TestGetNodes:
    """Reading nodes without a search."""

    async def test_by_ids(self, open_index: Opener) -> None:
        """The nodes come in the order of the ids, none twice, without those that do not exist."""
        nodes = [node(str(position), "d", place=position) for position in range(1_020)]
        store = await filled(open_index, nodes)
        asked = [str(position) for position in range(1_019, 5, -1)]
        found = await store.call("get_nodes", ["7", "absent", *asked, "7"])
        assert ["7", *(name for name in asked if name != "7")] == ids_of(found)
        [first, *_] = found
        assert {**nodes[7].to_dict(), "embedding": None} == first.to_dict()
        assert [] == await store.call("get_nodes", [])

    async def test_by_filters(self, open_index: Opener) -> None:
        """All nodes that pass come, in the order of insertion, whichever operator says so."""
        nodes = [node(str(position), place=position, name=f"N{position}") for position in range(1_100)]
        store = await filled(open_index, nodes)
        for filters, expected in (
            (one("place", O.LT, 3), ["0", "1", "2"]),
            (one("name", O.TEXT_MATCH_INSENSITIVE, "n109"), ["109", *map(str, range(1_090, 1_100))]),
            (joined("not", one("name", O.GT, "N1")), ["0", "1"]),
        ):
            assert expected == ids_of(await store.call("get_nodes", filters=filters))
        assert ["3"] == ids_of(await store.call("get_nodes", ["5", "3", "x"], one("place", O.LT, 5)))
        assert [str(position) for position in range(1_100)] == ids_of(await store.call("get_nodes"))

    async def test_records_of_others(self, open_index: Opener) -> None:
        """A record without a node becomes a `TextNode` of its text, and one without a text is left out."""
        store = opened(open_index, text_key="body")
        await store.index.upsert(
            [("a", [1.0, 0.0], {"body": "of a", "k": 1}), ("b", [1.0, 0.0], {"k": 1}, "of b"), ("c", [1.0, 0.0], {})]
        )
        found = await store.call("get_nodes", filters=one("k", O.EQ, 1))
        assert [("a", "of a", {"k": 1}), ("b", "of b", {"k": 1})] == [(n.node_id, n.text, n.metadata) for n in found]
        assert ["a", "b"] == ids_of(await store.call("get_nodes"))
        await store.call("delete", "b")
        assert {"a", "c"} == await store.stored()


class TestIds:
    """The ids of nodes that others have written."""

    async def test_under_another_key(self, open_index: Opener) -> None:
        """A node that was written under another key than its own id is found, read and removed by this key."""
        store = await filled(open_index, [node("n")])
        [record] = await store.index.fetch("n", include_metadata=True)
        assert record is not None
        await store.index.upsert([("m", [0.0, 1.0], record.metadata)])
        assert ["m"] == (await store.query(query_embedding=[0.0, 1.0], similarity_top_k=1)).ids
        assert {"n", "m"} == set(ids_of(await store.call("get_nodes")))
        assert ["m"] == ids_of(await store.call("get_nodes", ["m"]))
        await store.call("delete_nodes", ["m"])
        assert {"n"} == await store.stored()


class TestRecordedStore:
    """Records that the real `llama-index-vector-stores-upstash` 0.6.0 has written; how says their file."""

    async def recorded(self, open_index: Opener) -> Coloured:
        """Return a store over an index that was sent what that store sent."""
        store = opened(open_index)
        for path, body in RECORDED[:1]:
            assert "/upsert" == path
            await store.index.upsert(json.loads(body))
        return store

    async def test_they_are_read(self, open_index: Opener) -> None:
        """They are found, nearest first, and read by their ids and by what the user said of them, as they were."""
        store = await self.recorded(open_index)
        names = [each.node_id for each in written()]
        found = await store.query(query_embedding=[1.0, 0.0], similarity_top_k=9)
        assert names == found.ids
        read = [each.to_dict() for each in found.nodes or []]
        assert read == [each.to_dict() for each in await store.call("get_nodes", names)]
        kept = [each for each in written() if not isinstance(each, Document)]
        assert [each.to_dict() for each in kept] == [each for each in read if each["id_"] != "document"]
        assert ["full"] == ids_of(await store.call("get_nodes", filters=one("title", O.EQ, "Über's")))

    async def test_they_are_updated(self, open_index: Opener) -> None:
        """A node that is added under the id of one of them takes its place."""
        store = await self.recorded(open_index)
        changed = TextNode(id_="keys", text="Water.", embedding=[0.0, 1.0])
        await store.call("add", [changed])
        [found] = await store.call("get_nodes", ["keys"])
        assert ("Water.", 7) == (found.text, len(await store.stored()))
        assert ["keys"] == (await store.query(query_embedding=[0.0, 1.0], similarity_top_k=1)).ids

    async def test_they_are_removed(self, open_index: Opener) -> None:
        """They go by their source document, as a document that was not split, by their ids and by filters."""
        store = await self.recorded(open_index)
        for method, *arguments in (
            ("delete", "report"),
            ("delete", "document"),
            ("delete", "None"),
            ("delete_nodes", ["keys"]),
            ("delete_nodes", None, one("kind", O.IN, ["media"])),
        ):
            await store.call(str(method), *arguments)
        assert {"index", "image", "blank"} == await store.stored()
