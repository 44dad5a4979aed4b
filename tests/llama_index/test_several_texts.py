"""Questions that LlamaIndex puts in several ways, over an index that embeds: what it is then searched by."""

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.query.query_transform import (
    DecomposeQueryTransform,
    HyDEQueryTransform,
    StepDecomposeQueryTransform,
)
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import MultiStepQueryEngine, RetrieverQueryEngine, TransformQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from nextk import Index
from nextk.engine.factory import open_engine
from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever
from nextk.types import QueryMode
from tests.support.local_server import LocalServer
from tests.support.sentence_index import QUESTION, TEXTS, WORDS

BUNDLE = QueryBundle(QUESTION, custom_embedding_strs=["snow snow on the sand", "fire", QUESTION])
NODES = [TextNode(id_=f"t{position}", text=text) for position, text in enumerate(TEXTS)]


class Words(BaseEmbedding):
    """A model that counts words and does not normalise its vectors."""

    def _get_query_embedding(self, query: str) -> list[float]:
        return [float(query.count(word)) for word in WORDS] + [1.0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_query_embedding(text)


@pytest.fixture(scope="module")
def retriever() -> Iterator[ResumableRetriever]:
    """A retriever over an index that owns a model of LlamaIndex's."""
    with ResumableRetriever.from_nodes(NODES, Words(), similarity_top_k=8) as made:
        yield made


def found(nodes: list[NodeWithScore]) -> list[tuple[str, float | None]]:
    """The ids and scores of nodes."""
    return [(node.node_id, node.score) for node in nodes]


def expected(retriever: ResumableRetriever, mode: str) -> list[tuple[str, float]]:
    """The ids and scores of a search by the mean that LlamaIndex takes, and by the keywords of the question."""
    index: Any = retriever.index
    _, sparse = index._transport.embed_query(BUNDLE.query_str, QueryMode.HYBRID)
    dense = Words().get_agg_embedding_from_queries(BUNDLE.embedding_strs)
    vectors = {"dense": {"vector": dense}, "sparse": {"sparse_vector": sparse}}
    chosen = vectors.get(mode) or vectors["dense"] | vectors["sparse"]
    return [(match.id, match.score) for match in index.query(top_k=8, weighting_strategy="IDF", **chosen)]


@pytest.mark.parametrize("mode", [None, "dense", "sparse", "hybrid"])
async def test_the_vectors(retriever: ResumableRetriever, mode: str | None) -> None:
    """The index is searched by the mean of the embeddings and by the keywords of the question, in every way."""
    searching = ResumableRetriever(retriever.index, embedding=True, retrieval_mode=mode, similarity_top_k=8)
    wanted = expected(retriever, mode or "hybrid")
    assert wanted == found(searching.retrieve(BUNDLE)) == found(await searching.aretrieve(BUNDLE))
    with searching.open(BUNDLE) as search:
        first = search.fetch_next(3)
        cursor = search.cursor()
    async with searching.aresume(cursor) as asearch:
        assert wanted == found(first) + found(await asearch.fetch_next(5))
    assert BUNDLE == QueryBundle(QUESTION, custom_embedding_strs=["snow snow on the sand", "fire", QUESTION])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("mode", [None, "hybrid"])
def test_an_index_of_one_kind(kind: str, mode: str | None) -> None:
    """An index of dense vectors alone is searched by the mean, and one of sparse vectors by the question's keywords."""
    models: dict[str, Any] = {"embedding": Words()} if kind == "dense" else {"sparse_embedding": "bm25"}
    with Index.embedded(type=kind, **models) as index:
        searching = ResumableRetriever(index, embedding=True, retrieval_mode=mode, similarity_top_k=8)
        searching.insert_nodes(NODES)
        mean = Words().get_agg_embedding_from_queries(BUNDLE.embedding_strs)
        query: dict[str, Any] = {"vector": mean} if kind == "dense" else {"data": QUESTION}
        wanted = [(match.id, match.score) for match in index.query(top_k=8, **query)]
        assert wanted == found(searching.retrieve(BUNDLE))


async def test_a_dot_product() -> None:
    """The mean is not normalised, as LlamaIndex does not: a dot product sees its length."""
    with Index.embedded(embedding=Words(), similarity="dot_product") as index:
        searching = ResumableRetriever(index, similarity_top_k=8)
        searching.insert_nodes(NODES)
        mean = Words().get_agg_embedding_from_queries(BUNDLE.embedding_strs)
        wanted = [(match.id, match.score) for match in index.query(vector=mean, top_k=8)]
        assert wanted == found(searching.retrieve(BUNDLE)) == found(await searching.aretrieve(BUNDLE))


class TestConsumers:
    """LlamaIndex's own transforms."""

    @pytest.mark.parametrize("include_original", [True, False])
    async def test_hyde(self, retriever: ResumableRetriever, include_original: bool) -> None:
        """HyDE answers over `from_nodes` with its defaults, and in both colours alike."""
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
        hyde = TransformQueryEngine(engine, HyDEQueryTransform(MockLLM(), include_original=include_original))
        answers: Any = [hyde.query(QUESTION), await hyde.aquery(QUESTION)]
        assert 8 == len(answers[0].source_nodes)
        assert found(answers[0].source_nodes) == found(answers[1].source_nodes)

    @pytest.mark.parametrize("transform", [DecomposeQueryTransform, StepDecomposeQueryTransform])
    def test_decomposing(self, retriever: ResumableRetriever, transform: Any) -> None:
        """So do transforms that put another question in the place of the first one."""
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
        made = transform(MockLLM())
        synthesizer = get_response_synthesizer(MockLLM())
        for asking in (
            TransformQueryEngine(engine, made, {}),
            MultiStepQueryEngine(engine, made, synthesizer, num_steps=1, stop_fn=lambda _: False),
        ):
            answer: Any = asking.query(QUESTION)
            assert 8 <= len(answer.source_nodes)

    def test_fusion(self, retriever: ResumableRetriever) -> None:
        """A fusion of retrievers passes such a question on."""
        fusing = QueryFusionRetriever(
            [retriever, retriever], llm=MockLLM(), mode=FUSION_MODES.SIMPLE, num_queries=1, use_async=False
        )
        assert {id_ for id_, _ in found(fusing.retrieve(BUNDLE))} <= {
            id_ for id_, _ in found(retriever.retrieve(BUNDLE))
        }

    def test_images_and_vectors(self, retriever: ResumableRetriever) -> None:
        """A picture plays no part, and a vector that another retriever has left in the bundle does not either."""
        bundle = QueryBundle(QUESTION, "sky.png", BUNDLE.custom_embedding_strs, [1.0, 2.0])
        assert found(retriever.retrieve(BUNDLE)) == found(retriever.retrieve(bundle))


async def test_behind_a_server(local_server: LocalServer) -> None:
    """An index that embeds behind a server has no way to make one vector of several texts, and `embed_model` has."""
    engine = open_engine(None, {"embedding": "static", "sparse_embedding": "bm25"}, name="several-texts")
    local_server.engines["several-texts"] = engine
    with Index(local_server.index_url("several-texts"), local_server.token, retries=0) as index:
        remote = ResumableRetriever(index)
        with pytest.raises(ClientError, match=r"has 3 custom_embedding_strs: pass embed_model="):
            remote.retrieve(BUNDLE)
        with pytest.raises(ClientError, match=r"has 3 custom_embedding_strs: pass embed_model="):
            await remote.aretrieve(BUNDLE)
        assert [] == ResumableRetriever(index, retrieval_mode="sparse").retrieve(BUNDLE)
    del local_server.engines["several-texts"]
    engine.close()
