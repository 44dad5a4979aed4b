"""The LlamaIndex vector store: what it removes and reads by documents, ids and filters, and whose records these are."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from llama_index.core.schema import BaseNode, Document, NodeRelationship, RelatedNodeInfo, TextNode

from nextk import Index
from nextk.errors import ClientError
from nextk.llama_index import ResumableVectorStore
from tests.support.llama_index_colours import Coloured, coloured, ids_of
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
