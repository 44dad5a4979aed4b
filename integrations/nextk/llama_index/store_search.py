"""Searching an index as a vector store of LlamaIndex is searched. Private."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llama_index.core import instrumentation
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import VectorStoreQueryResult

from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.llama_index.instrumentation import announce
from nextk.llama_index.nodes import stored_node_of, text_of
from nextk.llama_index.question import Embedder
from nextk.llama_index.store_query import Mmr, NodeSearch
from nextk.retrievers.connection import Connection
from nextk.sessions import (
    AsyncRetrievalSession,
    Limits,
    RetrievalMode,
    RetrievalSession,
    RowReader,
    SearchConfig,
    SearchQuery,
)
from nextk.transport import QueryEmbedder
from nextk.types import QueryMode, QueryResult
from nextk.until import MaxResults

FloatArray: TypeAlias = npt.NDArray[np.float64]

dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class StoreSearcher:
    """The searches of a vector store: one plain query, or a session where the index alone cannot bring enough.

    Attributes:
        connection: The connection to the index.
        embedder: The embedder of queries.
        text_keys: The metadata keys that may hold the text of a record without a node.
        deadline: The number of seconds after which a session pulls no further page; `None` for no bound.
    """

    connection: Connection
    embedder: Embedder
    text_keys: Sequence[str]
    deadline: float | None

    def search(self, search: NodeSearch) -> VectorStoreQueryResult:
        """Run a search.

        Raises:
            ClientError: If the query is empty, if nobody embeds it, or if MMR has no vector of it.
            NextKError: If the index refuses, or cannot be reached.
        """
        if search.is_filter_alone and not self.connection.has_vectors():
            return _result(search, search.template, [])
        query = self._by_vector(search, self._embed(search))
        if self._is_one_query(search):
            return _result(search, query, self._reader.read(self.connection.query(query, search.count)))
        with RetrievalSession(self.connection.index, query, self._reader, config=self._config(search)) as session:
            nodes = session.fetch_until()
        announce(dispatcher, session.report.shortfall)
        return _result(search, query, nodes)

    async def asearch(self, search: NodeSearch) -> VectorStoreQueryResult:
        """Run a search without blocking the event loop; see `search`."""
        if search.is_filter_alone and not await self.connection.ahas_vectors():
            return _result(search, search.template, [])
        query = await self._aby_vector(search, await self._aembed(search))
        if self._is_one_query(search):
            return await _aresult(search, query, self._reader.read(await self.connection.aquery(query, search.count)))
        index, config = self.connection.async_index, self._config(search)
        async with AsyncRetrievalSession(index, query, self._reader, config=config) as session:
            nodes = await session.fetch_until()
        announce(dispatcher, session.report.shortfall)
        return await _aresult(search, query, nodes)

    @property
    def _reader(self) -> RowReader[NodeWithScore]:
        return RowReader(partial(_node_with_vector, text_keys=self.text_keys), text_of, self.text_keys)

    def _is_one_query(self, search: NodeSearch) -> bool:
        return search.residual is None and search.count <= MAX_ROWS

    def _config(self, search: NodeSearch) -> SearchConfig:
        """Return the bounds of a session that brings all nodes of one search.

        Only the deadline may end it early, and not where nodes are named, each of which is to be found.
        """
        return SearchConfig(
            MaxResults(search.count),
            Limits(deadline=None if search.names_nodes else self.deadline),
            max_recovery=None,
            always=search.residual,
            cap=search.count,
        )

    def _embed(self, search: NodeSearch) -> SearchQuery:
        if search.is_filter_alone:
            return _by_filter(search, self.connection.any_vector())
        if _is_vector_alone(search):
            return replace(search.template, vector=self.embedder.vector_of(search.bundle))
        return self.embedder.embed(search.bundle, search.template, self.connection)

    async def _aembed(self, search: NodeSearch) -> SearchQuery:
        if search.is_filter_alone:
            return _by_filter(search, await self.connection.aany_vector())
        if _is_vector_alone(search):
            return replace(search.template, vector=await self.embedder.avector_of(search.bundle))
        return await self.embedder.aembed(search.bundle, search.template, self.connection)

    def _by_vector(self, search: NodeSearch, query: SearchQuery) -> SearchQuery:
        """Return the query by its vector if MMR needs one and the index was to embed the text."""
        if search.mmr is None or query.data is None:
            return query
        vector, _ = self._model_of_index().embed_query(query.data, QueryMode.DENSE)
        return replace(query, data=None, vector=vector)

    async def _aby_vector(self, search: NodeSearch, query: SearchQuery) -> SearchQuery:
        if search.mmr is None or query.data is None:
            return query
        vector, _ = await self._model_of_index().aembed_query(query.data, QueryMode.DENSE)
        return replace(query, data=None, vector=vector)

    def _model_of_index(self) -> QueryEmbedder:
        embedder = self.connection.query_embedder()
        if embedder is None:
            message = (
                "the mode 'mmr' compares vectors, and the index embeds the text where it is, so that there is no "
                "vector of the query here: search by another mode, or give the store embed_model="
            )
            raise ClientError(message)
        return embedder


def _by_filter(search: NodeSearch, vector: list[float] | None) -> SearchQuery:
    """Return the query of a search for what passes the filters, whose order by an arbitrary vector means nothing.

    Raises:
        ClientError: There is no such vector, because the index has sparse vectors alone.
    """
    if vector is None:
        message = (
            "filters alone are searched for by dense vectors, and this index has none: call get_nodes(filters=...)"
        )
        raise ClientError(message)
    return replace(search.template, mode=RetrievalMode.DENSE, vector=vector, fusion=None, weighting_of_index=False)


def _is_vector_alone(search: NodeSearch) -> bool:
    """Return whether a dense search has a vector and no text, which even an index that embeds is searched by."""
    mode, bundle = search.template.mode, search.bundle
    dense_alone = mode is not None and mode.dense and not mode.sparse
    return dense_alone and not bundle.query_str.strip() and bool(bundle.embedding)


def _node_with_vector(match: QueryResult, text_keys: Sequence[str]) -> NodeWithScore | None:
    """Convert a match into a node, with its dense vector if the match has one."""
    found = stored_node_of(match, text_keys)
    if found is not None and match.vector is not None:
        found.node.embedding = match.vector
    return found


def _result(search: NodeSearch, query: SearchQuery, nodes: Sequence[NodeWithScore]) -> VectorStoreQueryResult:
    if search.mmr is not None:
        nodes = _chosen(search.mmr, query.vector or [], nodes)
    return VectorStoreQueryResult(
        nodes=[found.node for found in nodes],
        similarities=None if search.is_filter_alone else [found.score or 0.0 for found in nodes],
        ids=[found.node.node_id for found in nodes],
    )


async def _aresult(search: NodeSearch, query: SearchQuery, nodes: Sequence[NodeWithScore]) -> VectorStoreQueryResult:
    """Return the result as `_result` does. MMR compares many vectors, so it chooses in a thread."""
    if search.mmr is not None:
        return await asyncio.to_thread(_result, search, query, nodes)
    return _result(search, query, nodes)


def _chosen(mmr: Mmr, vector: Sequence[float], nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    """Choose nodes by LlamaIndex's own MMR. They have its scores, and no longer the vectors that they were chosen by.

    Args:
        mmr: How nodes are chosen.
        vector: The vector of the query, float (dimension,).
        nodes: The candidates, best first, with their vectors.
    """
    choose: Any = get_top_k_mmr_embeddings  # whose vectors may be arrays, too
    scores, positions = choose(
        np.array(vector),
        [np.array(found.node.embedding) for found in nodes],
        similarity_fn=_cosine,
        similarity_top_k=mmr.top_k,
        mmr_threshold=mmr.threshold,
    )
    chosen = [
        NodeWithScore(node=nodes[position].node, score=score) for position, score in zip(positions, scores, strict=True)
    ]
    for each in chosen:
        each.node.embedding = None
    return chosen


def _cosine(left: FloatArray, right: FloatArray) -> float:
    """Return the cosine of two vectors, and 0 if one of them is zero, where LlamaIndex's own has no value."""
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.dot(left, right)) / norms if norms else 0.0
