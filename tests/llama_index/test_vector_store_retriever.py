"""A retriever over the LlamaIndex vector store: the same search, which goes on."""

from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import IndexNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from nextk import Index
from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever, ResumableVectorStore
from tests.support.llama_index_colours import coloured, ids_of, words_of
from tests.support.llama_index_stores import DIMENSION, NODES, Digests
from tests.support.sentence_index import QUESTION
from tests.support.transports import Opener, Recording

pytestmark = pytest.mark.usefixtures("settings_without_model")

MODES = ["default", "sparse", "text_search", "hybrid"]


def found(nodes: list[NodeWithScore]) -> list[tuple[str, float | None]]:
    """Return the ids and the scores of nodes."""
    return [(node.node_id, node.score) for node in nodes]


async def retrieve(retriever: BaseRetriever, blocking: bool) -> list[tuple[str, float | None]]:
    """Return what a retriever finds for the question, by its blocking or by its asynchronous method."""
    return found(retriever.retrieve(QUESTION) if blocking else await retriever.aretrieve(QUESTION))


SETTINGS: dict[str, dict[str, Any]] = {
    "by index": {"embedding": True, "fusion": "dbsf", "weighting": "idf"},
    "asked": {"namespace": "n", "filter": "place < 40"},
    "by models": {"embed_model": Digests(), "sparse_embedding": words_of, "text_key": "body", "filter": "even = 'no'"},
    "brought": {"sparse_embedding": words_of, "namespace": "n", "fusion": "dbsf"},
}
"""The settings of a store, by who embeds: an index that is said to, one that is asked, models, LlamaIndex."""


async def indexed(open_index: Opener, who: str) -> tuple[VectorStoreIndex, bool]:
    """Return LlamaIndex's index of the nodes over a store, and whether the client below is blocking."""
    if who in ("by index", "asked"):
        opened = open_index("hybrid", embedding="static", sparse_embedding="bm25")
    else:
        opened = open_index("hybrid", dimension=DIMENSION)
    store = coloured(opened, **SETTINGS[who])
    model = Digests() if who == "brought" or store.store.embedding is None else store.store.embed_model
    index = VectorStoreIndex.from_vector_store(store.store, embed_model=model)
    nodes = [node.model_copy() for node in NODES]
    if store.blocking:
        index.insert_nodes(nodes)
    else:
        await index.ainsert_nodes(nodes)
    return index, store.blocking


class TestTheSameSearch:
    """Over a `VectorStoreIndex`, and over the store alone."""

    @pytest.mark.parametrize("who", SETTINGS)
    @pytest.mark.parametrize("mode", MODES)
    async def test_from_index(self, open_index: Opener, who: str, mode: str) -> None:
        """The retriever finds the nodes and the scores of `as_retriever`, and goes on with them, in every mode."""
        index, blocking = await indexed(open_index, who)
        theirs = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=9)
        expected = await retrieve(theirs, blocking)
        assert len(expected) > 4
        ours = ResumableRetriever.from_index(index, vector_store_query_mode=mode, similarity_top_k=9)
        assert expected == await retrieve(ours, blocking)
        if blocking:
            with ours.open(QUESTION) as search:
                assert expected == found(search.fetch_next(4)) + found(search.fetch_next(5))
                assert "native" == search.report.continuation
        else:
            async with ours.aopen(QUESTION) as asearch:
                assert expected == found(await asearch.fetch_next(4)) + found(await asearch.fetch_next(5))
                assert "native" == asearch.report.continuation

    @pytest.mark.parametrize("who", SETTINGS)
    async def test_without_a_mode(self, open_index: Opener, who: str) -> None:
        """Without a mode it is the store's `default`, dense, from an index as well as from the store."""
        index, blocking = await indexed(open_index, who)
        expected = await retrieve(index.as_retriever(), blocking)
        assert 2 == len(expected)
        assert expected == await retrieve(ResumableRetriever.from_index(index), blocking)
        given: dict[str, Any] = {"embed_model": Digests()} if who == "brought" else {}
        ours = ResumableRetriever.from_vector_store(index.vector_store, **given)
        assert expected == await retrieve(ours, blocking)

    def test_arguments_win(self) -> None:
        """Arguments of the retriever take the place of the store's settings, but for a filter, which holds besides."""
        with Index.embedded(type="dense", dimension=DIMENSION) as index:
            store = ResumableVectorStore(index, embed_model=MockEmbedding(DIMENSION), namespace="n", deadline=5)
            store.add(
                [node.model_copy(update={"embedding": Digests().get_text_embedding(node.text)}) for node in NODES]
            )
            own = Digests()
            retriever = ResumableRetriever.from_vector_store(store, embed_model=own, filter="place < 5", deadline=7)
            nearest = retriever.retrieve(NODES[3].text)
            assert NODES[3].node_id == nearest[0].node_id
            config = retriever.to_config()
            assert ("n", "place < 5", 7, "dense") == tuple(
                config[name] for name in ("namespace", "filter", "deadline", "retrieval_mode")
            )
            narrowed = ResumableVectorStore(index, embed_model=own, namespace="n", filter="place > 2")
            both = ResumableRetriever.from_vector_store(narrowed, filter="place < 5", similarity_top_k=9)
            assert {3, 4} == {found.node.metadata["place"] for found in both.retrieve(NODES[3].text)}
            elsewhere = ResumableRetriever.from_vector_store(store, namespace="", retrieval_mode="dense")
            assert [] == elsewhere.retrieve("a")

    @pytest.mark.parametrize("given", [{"embed_model": Digests()}, {"embedding": True}])
    def test_who_embeds_may_be_said_anew(self, given: dict[str, Any]) -> None:
        """A model that is given to the retriever takes the place of `embedding=True`, and the other way round."""
        with Index.embedded(embedding=Digests().get_text_embedding_batch) as index:
            settings: dict[str, Any] = {"embedding": True} if "embed_model" in given else {"embed_model": Digests()}
            store = ResumableVectorStore(index, **settings)
            store.add(NODES[:5])
            retriever = ResumableRetriever.from_vector_store(store, **given)
            assert NODES[2].node_id == retriever.retrieve(NODES[2].get_content(MetadataMode.EMBED))[0].node_id

    def test_a_model_beside_that_of_an_index(self) -> None:
        """A sparse model is given to the retriever beside the models of the store and of LlamaIndex's index."""
        with Index.embedded(type="hybrid", dimension=DIMENSION) as index:
            ResumableVectorStore(index, embed_model=Digests(), sparse_embedding=words_of).add(NODES[:9])
            store = ResumableVectorStore(index)
            over = VectorStoreIndex.from_vector_store(store, embed_model=Digests())
            options: dict[str, Any] = {"sparse_embedding": words_of, "vector_store_query_mode": "hybrid"}
            expected = ResumableVectorStore(index, embed_model=Digests(), sparse_embedding=words_of).query(
                VectorStoreQuery(query_str=QUESTION, similarity_top_k=2, mode=VectorStoreQueryMode.HYBRID)
            )
            assert expected.ids == ids_of(ResumableRetriever.from_index(over, **options).retrieve(QUESTION))
            dense = ResumableRetriever.from_index(over, alpha=1, embed_model=None).retrieve(QUESTION)
            assert ids_of(over.as_retriever().retrieve(QUESTION)) == ids_of(dense)

    def test_nothing_is_asked_that_is_known(self, index: Index) -> None:
        """An index is asked whether it embeds only where nobody has said so."""
        recording = Recording(index._transport)
        client = Index._over(recording)
        ResumableRetriever.from_vector_store(ResumableVectorStore(client, embedding=True))
        ResumableRetriever.from_vector_store(ResumableVectorStore(client, embed_model=Digests()))
        assert [] == recording.sent
        ResumableRetriever.from_vector_store(ResumableVectorStore(client))
        assert ["info"] == recording.sent

    def test_options_of_other_stores(self, index: Index) -> None:
        """Options that tell the rows of another store apart are refused."""
        store = ResumableVectorStore(index)
        over = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
        with pytest.raises(ClientError, match="key= is for stores of another kind"):
            ResumableRetriever.from_vector_store(store, key="id")
        with pytest.raises(ClientError, match="store_id= is for stores of another kind"):
            ResumableRetriever.from_index(over, store_id="id")

    def test_pointers(self) -> None:
        """The retriever has the objects of the index, and finds text nodes beside the index nodes that lead to them."""
        with Index.embedded(embedding="static") as index:
            store = ResumableVectorStore(index)
            over = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
            target = TextNode(id_="target", text="All about the sky.")
            over.insert_nodes(
                [IndexNode(id_="p", text="sky", index_id="target", obj=target), TextNode(id_="t", text="sea")]
            )
            retriever = ResumableRetriever.from_index(over)
            assert {"target", "t"} == set(ids_of(retriever.retrieve("sky")))
