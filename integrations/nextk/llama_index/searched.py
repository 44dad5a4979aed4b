"""The parts of a retriever that depend on what it searches, made of its arguments. Here: over an index. Private."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from nextk.arguments import choose, choose_or_none
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.llama_index.filters import translate
from nextk.llama_index.mode import mode_of
from nextk.llama_index.nodes import node_reader
from nextk.llama_index.policies import MetadataPolicy, Restrictions
from nextk.llama_index.question import Embedder
from nextk.retrievers.connection import Connection
from nextk.retrievers.source_connection import SourceConnection
from nextk.sessions import RetrievalMode, RowReader, SearchQuery
from nextk.types import FusionAlgorithm, WeightingStrategy


@dataclass(frozen=True)
class SearchArguments:
    """The arguments of a retriever that say what is searched and how, under their names, as the caller gave them."""

    index: Index | AsyncIndex | None
    url: str | None
    token: str | None
    embed_model: BaseEmbedding | None
    embedding: Literal[True] | None
    sparse_embedding: Any
    retrieval_mode: RetrievalMode | str | None
    vector_store_query_mode: VectorStoreQueryMode | str | None
    alpha: float | None
    hybrid_top_k: int | None
    fusion: FusionAlgorithm | str | None
    weighting: WeightingStrategy | str | None
    filter: Any
    filters: MetadataFilters | None
    doc_ids: Sequence[str] | None
    node_ids: Sequence[str] | None
    namespace: str
    text_key: Sequence[str]
    postprocessors: Sequence[BaseNodePostprocessor]
    exact: bool


@dataclass(frozen=True)
class Searched:
    """The parts of a retriever that depend on what it searches.

    Attributes:
        connection: The connection to it.
        embedder: Who fills queries in.
        restrictions: The restrictions that hold for every search.
        template: A query without text and vectors.
        reader: The reader that makes nodes of rows.
    """

    connection: Connection | SourceConnection
    embedder: Embedder
    restrictions: Restrictions
    template: SearchQuery
    reader: RowReader[NodeWithScore]


def searched_index(given: SearchArguments) -> Searched:
    """Return the parts of a retriever over an index.

    Raises:
        ClientError: If arguments contradict each other, are of another kind, or lack an index or a model for the mode.
    """
    mode = mode_of(given.retrieval_mode, given.vector_store_query_mode, given.alpha)
    embedder = Embedder(given.embed_model, given.sparse_embedding, mode, embedding=given.embedding)
    translation = translate(given.filters, given.doc_ids, given.node_ids)
    residual = None if translation.residual is None else MetadataPolicy(translation.residual)
    restrictions = Restrictions(translation.filter, residual, given.postprocessors)
    template = SearchQuery(
        mode=embedder.mode,
        filter=restrictions.joined(given.filter),
        namespace=given.namespace,
        fusion=choose(FusionAlgorithm, given.fusion, "fusion"),
        weighting=choose_or_none(WeightingStrategy, given.weighting, "weighting"),
        weighting_of_index=given.weighting is None,
        exact=given.exact,
    )
    connection = Connection(given.index, given.url, given.token)
    return Searched(connection, embedder, restrictions, template, node_reader(given.text_key))
