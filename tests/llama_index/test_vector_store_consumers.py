"""LlamaIndex's own consumers of stores run over the vector store, and a retriever over it goes on after them."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import HierarchicalNodeParser, SentenceSplitter, get_leaf_nodes
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.retrievers import (
    AutoMergingRetriever,
    RecursiveRetriever,
    VectorIndexAutoRetriever,
    VectorIndexRetriever,
)
from llama_index.core.schema import Document, IndexNode, NodeWithScore, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import MetadataInfo, VectorStoreInfo
from pydantic import PrivateAttr

from nextk.llama_index import ResumableRetriever
from tests.support.llama_index_colours import Coloured, by_texts, by_vectors, ids_of
from tests.support.llama_index_stores import NODES, Digests
from tests.support.sentence_index import QUESTION
from tests.support.transports import Opener

pytestmark = pytest.mark.usefixtures("settings_without_model")


class Scripted(MockLLM):
    """A model that always says the same."""

    _answer: str = PrivateAttr()

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Say it."""
        return CompletionResponse(text=self._answer)


@pytest.fixture(params=["index", "model"])
async def store(request: pytest.FixtureRequest, open_index: Opener) -> AsyncIterator[Coloured]:
    """An empty store, over an index that embeds, then over one of vectors that LlamaIndex brings; both colours work."""
    made = by_texts(open_index, embedding=True) if request.param == "index" else by_vectors(open_index)
    yield made
    made.store.client.close()
    await made.store.aclient.close()


def model_of(store: Coloured) -> BaseEmbedding:
    """Return the model that LlamaIndex is given beside a store."""
    return store.store.embed_model


def over(store: Coloured) -> VectorStoreIndex:
    """Return LlamaIndex's index over a store, as it is made of a store alone."""
    return VectorStoreIndex.from_vector_store(store.store, embed_model=model_of(store), transformations=[])


async def called(store: Coloured, owner: Any, method: str, *args: Any, **keywords: Any) -> Any:
    """Call a method in the colour of the store, by the name of the blocking one."""
    if store.blocking:
        return getattr(owner, method)(*args, **keywords)
    return await getattr(owner, f"a{method}")(*args, **keywords)


def copies(nodes: Sequence[TextNode]) -> list[TextNode]:
    """Return copies of nodes, which consumers may change."""
    return [node.model_copy() for node in nodes]


async def goes_on(store: Coloured, index: VectorStoreIndex, texts: int) -> None:
    """Assert that a retriever over the index continues the search of its own retriever, to its end."""
    theirs = VectorIndexRetriever(index, similarity_top_k=1_000)
    expected = ids_of(await called(store, theirs, "retrieve", QUESTION))
    ours = ResumableRetriever.from_index(index)
    pages: list[NodeWithScore] = []
    if store.blocking:
        with ours.open(QUESTION) as search:
            pages += [node for page in search.pages(2) for node in page]
    else:
        async with ours.aopen(QUESTION) as asearch:
            pages += [node async for page in asearch.pages(2) for node in page]
    assert expected == ids_of(pages)
    assert texts == len(expected)


class TestVectorStoreIndex:
    """LlamaIndex's index over the store."""

    async def test_storage_context(self, store: Coloured) -> None:
        """Nodes that are indexed with the store in a storage context are found from another index over the store."""
        context = StorageContext.from_defaults(vector_store=store.store)
        nodes = copies(NODES)
        given = nodes if store.blocking else []
        index = VectorStoreIndex(given, storage_context=context, embed_model=model_of(store), insert_batch_size=50)
        if not store.blocking:
            await index.ainsert_nodes(nodes)
        assert {node.node_id for node in NODES} == await store.stored()
        retriever = index.as_retriever(similarity_top_k=5)
        found = await called(store, retriever, "retrieve", NODES[7].get_content())
        assert 5 == len(found)
        again = over(store).as_retriever(similarity_top_k=5)
        assert ids_of(found) == ids_of(await called(store, again, "retrieve", NODES[7].get_content()))
        await goes_on(store, index, len(NODES))

    async def test_as_over_memory(self, open_index: Opener) -> None:
        """It finds what it finds over LlamaIndex's in-memory store: the order, and the scores but for their scale."""
        store = by_vectors(open_index)
        await store.call("add", copies(NODES))
        memory = VectorStoreIndex(copies(NODES), embed_model=Digests()).as_retriever(similarity_top_k=9)
        expected = memory.retrieve(QUESTION)
        found = await called(store, over(store).as_retriever(similarity_top_k=9), "retrieve", QUESTION)
        assert ids_of(expected) == ids_of(found)
        assert [(1 + (node.score or 0)) / 2 for node in expected] == pytest.approx([n.score for n in found], abs=1e-5)

    async def test_removing(self, store: Coloured) -> None:
        """Documents and nodes that are removed from the index are gone from the store."""
        index = over(store)
        await called(store, index, "insert_nodes", copies(NODES[:12]))
        await called(store, index, "delete_ref_doc", "d1", delete_from_docstore=True)
        await called(store, index, "delete_nodes", [NODES[0].node_id])
        kept = {node.node_id for node in NODES[:12] if node.ref_doc_id != "d1"} - {NODES[0].node_id}
        assert kept == await store.stored()
        await goes_on(store, index, len(kept))

    async def test_refreshing(self, store: Coloured) -> None:
        """Documents that have changed are replaced, new ones are added, and the others are left alone."""
        index = over(store)
        documents = [Document(id_=name, text=f"The {name} is old.") for name in ("sky", "sea", "sand")]
        assert [True] * 3 == await called(store, index, "refresh_ref_docs", documents)
        changed = [documents[0], Document(id_="sea", text="The sea is new."), Document(id_="snow", text="Snow is new.")]
        assert [False, True, True] == await called(store, index, "refresh_ref_docs", changed)
        texts = [node.get_content() for node in await store.call("get_nodes")]
        assert {"The sky is old.", "The sand is old.", "The sea is new.", "Snow is new."} == set(texts)
        assert 4 == len(texts)
        await goes_on(store, index, 4)

    async def test_query_engine(self, store: Coloured) -> None:
        """A query engine answers from the nodes of the store, after its postprocessors."""
        index = over(store)
        await called(store, index, "insert_nodes", copies(NODES))
        engine = index.as_query_engine(
            llm=MockLLM(),
            similarity_top_k=4,
            vector_store_query_mode="hybrid",
            node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.0001)],
        )
        answer = await called(store, engine, "query", QUESTION)
        assert 4 == len(answer.source_nodes)
        assert answer.source_nodes[0].node.get_content() in str(answer)


class TestIngestionPipeline:
    """LlamaIndex's pipeline into the store."""

    @pytest.mark.parametrize("split", [True, False], ids=["split", "whole"])
    async def test_upserts(self, store: Coloured, split: bool) -> None:
        """With a docstore, an unchanged document is left alone, and a changed one replaces its nodes."""
        pipeline = self.pipeline(store, split, DocstoreStrategy.UPSERTS)
        first = [Document(id_=name, text=f"The {name} is old. " * 9) for name in ("sky", "sea")]
        added = await called(store, pipeline, "run", documents=first)
        before = await store.stored()
        assert {node.node_id for node in added} == before
        assert (len(before) > 2) == split
        assert [] == list(await called(store, pipeline, "run", documents=first))
        await called(store, pipeline, "run", documents=[Document(id_="sea", text="The sea is new."), first[0]])
        nodes = await store.call("get_nodes")
        of_sky = [node.node_id for node in nodes if "sky" in node.get_content()]
        assert before >= set(of_sky)
        assert ["The sea is new."] == [node.get_content() for node in nodes if node.node_id not in of_sky]
        await goes_on(store, over(store), len(nodes))

    @pytest.mark.parametrize("split", [True, False], ids=["split", "whole"])
    async def test_upserts_and_delete(self, store: Coloured, split: bool) -> None:
        """A document that is missing from the next run is removed, with all its nodes."""
        pipeline = self.pipeline(store, split, DocstoreStrategy.UPSERTS_AND_DELETE)
        documents = [Document(id_=name, text=f"The {name} is old. " * 9) for name in ("sky", "sea", "sand")]
        await called(store, pipeline, "run", documents=documents)
        changed = [documents[0], Document(id_="sand", text="The sand is new.")]
        await called(store, pipeline, "run", documents=changed)
        nodes = await store.call("get_nodes")
        assert {"sky", "sand"} == {node.ref_doc_id or node.node_id for node in nodes}
        assert [] == [node for node in nodes if "sand is old" in node.get_content()]
        await goes_on(store, over(store), len(nodes))

    async def test_duplicates(self, store: Coloured) -> None:
        """With the strategy for duplicates alone, and without a docstore, everything new is added."""
        documents = [Document(id_=name, text=f"The {name}.") for name in ("sky", "sea")]
        for strategy in (DocstoreStrategy.DUPLICATES_ONLY, None):
            pipeline = self.pipeline(store, False, strategy)
            await called(store, pipeline, "run", documents=documents, show_progress=False)
            assert {"sky", "sea"} == await store.stored()

    @staticmethod
    def pipeline(store: Coloured, split: bool, strategy: DocstoreStrategy | None) -> IngestionPipeline:
        """Return a pipeline into a store; without a strategy, one without a docstore."""
        steps: list[Any] = [SentenceSplitter(chunk_size=20, chunk_overlap=0)] if split else []
        docstore = None if strategy is None else SimpleDocumentStore()
        return IngestionPipeline(
            transformations=[*steps, model_of(store)],
            vector_store=store.store,
            docstore=docstore,
            docstore_strategy=strategy or DocstoreStrategy.UPSERTS,
            disable_cache=True,
        )


class TestRetrievers:
    """LlamaIndex's retrievers over its index over the store."""

    @pytest.mark.parametrize(
        ("filters", "passes"),
        [
            ([{"key": "even", "value": "yes", "operator": "=="}], lambda node: node.metadata["even"] == "yes"),
            ([{"key": "even", "value": "no", "operator": ">"}], lambda node: node.metadata["even"] == "yes"),
            ([{"key": "place", "value": [3, 4], "operator": "in"}], lambda node: node.metadata["place"] in (3, 4)),
        ],
        ids=["pushed down", "checked here", "a list"],
    )
    async def test_auto_retriever(self, store: Coloured, filters: list[Any], passes: Any) -> None:
        """A model writes the query and its filters, and only nodes that pass come."""
        index = over(store)
        await called(store, index, "insert_nodes", copies(NODES))
        spec = json.dumps({"query": "sky", "filters": filters, "top_k": 4})
        known = [MetadataInfo(name=name, type="str", description=name) for name in ("even", "place")]
        retriever = VectorIndexAutoRetriever(
            index,
            VectorStoreInfo(content_info="sentences", metadata_info=known),
            llm=Scripted(spec),
            similarity_top_k=4,
        )
        found = await called(store, retriever, "retrieve", "What is there about the sky?")
        assert min(4, len([node for node in NODES if passes(node)])) == len(found)
        assert all(passes(node.node) for node in found)
        await goes_on(store, index, len(NODES))

    async def test_auto_retriever_without_words(self, store: Coloured) -> None:
        """If the model leaves the query empty, the vector that the retriever has for this case is searched by."""
        index = over(store)
        await called(store, index, "insert_nodes", copies(NODES[:9]))
        vector = (await store.record(NODES[4].node_id)).vector
        retriever = VectorIndexAutoRetriever(
            index,
            VectorStoreInfo(content_info="sentences", metadata_info=[]),
            llm=Scripted('{"query": "", "filters": []}'),
            default_empty_query_vector=vector,
            empty_query_top_k=1,
        )
        assert [NODES[4].node_id] == ids_of(await called(store, retriever, "retrieve", "anything"))

    async def test_auto_retriever_of_filters_alone(self, store: Coloured) -> None:
        """If the model makes filters of the whole question, what passes them is found."""
        index = over(store)
        await called(store, index, "insert_nodes", copies(NODES[:9]))
        retriever = VectorIndexAutoRetriever(
            index,
            VectorStoreInfo(content_info="sentences", metadata_info=[]),
            llm=Scripted('{"query": "", "filters": [{"key": "even", "value": "yes", "operator": "=="}]}'),
            empty_query_top_k=20,
        )
        found = await called(store, retriever, "retrieve", "all with even places")
        assert [0, 2, 4, 6, 8] == sorted(node.metadata["place"] for node in found)

    async def test_recursive_retriever(self, store: Coloured) -> None:
        """Index nodes of the store lead to what they point at: another retriever, or a node."""
        index = over(store)
        await called(store, index, "insert_nodes", [IndexNode(id_="pointer", text="the sky", index_id="detail")])
        detail = VectorStoreIndex([TextNode(id_="target", text="All about the sky.")], embed_model=Digests())
        root = index.as_retriever(similarity_top_k=1)
        recursive = RecursiveRetriever("root", {"root": root, "detail": detail.as_retriever()})
        assert ["target"] == ids_of(await called(store, recursive, "retrieve", "sky"))
        assert ["pointer"] == ids_of(await called(store, ResumableRetriever.from_index(index), "retrieve", "sky"))

    async def test_objects(self, store: Coloured) -> None:
        """An index node with an object leads to it; the objects stay in the index, whose retrievers all have them."""
        index = over(store)
        target = TextNode(id_="target", text="All about the sky.")
        nodes = [IndexNode(id_="pointer", text="sky", index_id="t", obj=target), TextNode(id_="plain", text="sea")]
        await called(store, index, "insert_nodes", nodes)
        # LlamaIndex's `as_retriever` narrows the search to the index nodes, over every store that holds text.
        assert ["target"] == ids_of(await called(store, index.as_retriever(), "retrieve", "sky"))
        ours = ResumableRetriever.from_index(index)
        assert {"target", "plain"} == set(ids_of(await called(store, ours, "retrieve", "sky")))

    async def test_auto_merging_retriever(self, store: Coloured) -> None:
        """Leaves that are found together are merged into the parent that the docstore holds."""
        text = " ".join(f"The {word} is near the sea." for word in ("sky", "sand", "snow", "rain", "wind") * 2)
        parser = HierarchicalNodeParser.from_defaults(chunk_sizes=[128, 20], chunk_overlap=0)
        nodes = parser.get_nodes_from_documents([Document(id_="all", text=text)])
        context = StorageContext.from_defaults(vector_store=store.store)
        context.docstore.add_documents(nodes)
        index = VectorStoreIndex([], storage_context=context, embed_model=model_of(store))
        leaves = get_leaf_nodes(nodes)
        await called(store, index, "insert_nodes", leaves)
        assert len(leaves) > 3
        for base in (
            index.as_retriever(similarity_top_k=len(leaves)),
            ResumableRetriever.from_index(index, similarity_top_k=len(leaves)),
        ):
            merging: BaseRetriever = AutoMergingRetriever(base, context)  # type: ignore[arg-type]
            [found] = await called(store, merging, "retrieve", QUESTION)
            assert text == found.get_content()
        await goes_on(store, index, len(leaves))
