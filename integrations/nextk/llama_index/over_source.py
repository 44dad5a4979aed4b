"""A retriever over a source that is no index: the arguments that it refuses, its filters, and who embeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores.types import FilterCondition, MetadataFilters

from nextk.arguments import shown, written
from nextk.errors import ClientError
from nextk.llama_index.filters import check_of
from nextk.llama_index.mode import mode_of
from nextk.llama_index.policies import MetadataPolicy, Restrictions
from nextk.llama_index.question import Embedder, keyword_text
from nextk.llama_index.searched import SearchArguments, Searched
from nextk.llama_index.store_rows import item_reader
from nextk.llama_index.store_source import StoreFilter, VectorStoreSource
from nextk.retrievers.connection import Connection
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.retrievers.source_connection import SourceConnection
from nextk.sessions import RetrievalMode, SearchQuery
from nextk.stores import Source
from nextk.types import SparseVector

_ONE_PLACE = "a retriever searches one place"
_STORE_RANKS = "the store ranks by itself, as it was set up"
_FOR_THE_STORE = "from_vector_store and from_index hand it on to the store"
_OF_AN_INDEX: Mapping[str, tuple[Any, str]] = {
    "index": (None, _ONE_PLACE),
    "url": (None, _ONE_PLACE),
    "token": (None, _ONE_PLACE),
    "namespace": ("", "a store is one collection: make a store, and a retriever, for each"),
    "embedding": (None, "give the model of the store as embed_model="),
    "fusion": (None, _STORE_RANKS),
    "weighting": (None, _STORE_RANKS),
    "text_key": (TEXT_KEYS, "nodes come as the store holds them"),
    "alpha": (None, _FOR_THE_STORE),
    "hybrid_top_k": (None, _FOR_THE_STORE),
}
"""The arguments that only an index takes: each with its default, and what to do instead."""


def _require_source(source: object) -> None:
    """Refuse what is no source.

    Raises:
        ClientError: If it is none. The message says how to make a retriever of a store.
    """
    if not isinstance(source, Source):
        message = (
            f"source={shown(source)} has to be a Source of nextk.stores: a vector store of LlamaIndex goes into "
            "ResumableRetriever.from_vector_store(store), and a VectorStoreIndex into from_index(index)"
        )
        raise ClientError(message)


def searched_source(source: Source, given: SearchArguments) -> Searched:
    """Return the parts of a retriever over a source.

    Args:
        source: The source.
        given: The arguments of the retriever.

    Raises:
        ClientError: If it is no source, or if an argument is one that only an index takes, or of another kind.
    """
    _require_source(source)
    _refuse_of_index(source, given)
    mode = mode_of(given.retrieval_mode, given.vector_store_query_mode)
    embedder = SourceEmbedder(source, given.embed_model, given.sparse_embedding, mode)
    restrictions = SourceRestrictions.of(source, given)
    template = SearchQuery(mode=embedder.mode, store_filter=restrictions.store_filter, exact=given.exact)
    return Searched(SourceConnection(source), embedder, restrictions, template, item_reader())


def _refuse_of_index(source: Source, given: SearchArguments) -> None:
    """Refuse arguments of a retriever that only an index takes.

    Raises:
        ClientError: If one of them is given. The message names it, and says what to do instead.
    """
    of_llama_index = isinstance(source, VectorStoreSource)
    refused = dict(_OF_AN_INDEX)
    if of_llama_index or not source.traits.modes:
        refused["sparse_embedding"] = None, "the store makes its sparse vectors itself"
    if not (of_llama_index or source.traits.modes):
        refused |= dict.fromkeys(("retrieval_mode", "vector_store_query_mode"), (None, _STORE_RANKS))
    if not source.traits.exact:
        refused["exact"] = False, _STORE_RANKS
    for name, (default, reason) in refused.items():
        value = getattr(given, name)
        if value is not default and (tuple(value) if isinstance(value, list) else value) != default:
            message = f"{name}= is for an index, and this retriever searches a store: {reason}; leave {name}= out"
            raise ClientError(message)


class SourceEmbedder(Embedder):
    """Fills queries in for a source: with their text, and with the vectors that the source needs.

    Args:
        source: The source.
        embed_model: The dense model. Without it, a vector store of LlamaIndex that needs a vector is given that of
            `Settings.embed_model`, and another source the text alone.
        sparse_embedding: The sparse model, of any kind that `SparseQueryModel` takes.
        mode: The mode that the retriever is set to; `None` for the mode of the source, or that the models allow.

    Raises:
        ClientError: If the mode needs a model that is missing, or if the sparse model is of no known kind.
    """

    def __init__(
        self, source: Source, embed_model: BaseEmbedding | None, sparse_embedding: Any, mode: RetrievalMode | None
    ) -> None:
        self._store = source if isinstance(source, VectorStoreSource) else None
        # A vector store makes its sparse vectors itself, so that its modes need no model of the retriever.
        super().__init__(embed_model, sparse_embedding, None if self._store else mode, embedding=None)
        if self._store is not None:
            self.mode = mode or self._store.mode

    def embed(
        self,
        bundle: QueryBundle,
        template: SearchQuery,
        connection: Connection | SourceConnection,  # noqa: ARG002 - a source has nothing to be asked about
    ) -> SearchQuery:
        """Fill a query in.

        Args:
            bundle: The query. Its vector, if it has one, is the dense vector; otherwise it is the mean of the
                embeddings of its `embedding_strs`.
            template: The mode and the filter of the search.
            connection: Not used.

        Returns:
            The template with the text, and with the vectors that are needed.

        Raises:
            ClientError: If the query is empty, or if nobody embeds it for a store that needs a vector.
        """
        dense, sparse = self._needs(template.mode, bundle)
        vector = self.vector_of(bundle) if dense else None
        sparse_vector = self.sparse_vector_of(bundle) if sparse else None
        return _filled(template, bundle, vector, sparse_vector)

    async def aembed(
        self,
        bundle: QueryBundle,
        template: SearchQuery,
        connection: Connection | SourceConnection,  # noqa: ARG002 - a source has nothing to be asked about
    ) -> SearchQuery:
        """Fill a query in without blocking the event loop; see `embed`."""
        dense, sparse = self._needs(template.mode, bundle)
        vector = await self.avector_of(bundle) if dense else None
        sparse_vector = await self.asparse_vector_of(bundle) if sparse else None
        return _filled(template, bundle, vector, sparse_vector)

    def _needs(self, mode: RetrievalMode | None, bundle: QueryBundle) -> tuple[bool, bool]:
        """Return whether a query needs a dense vector, and whether it needs a sparse one."""
        if self._store is not None:
            return self._store.needs_vector(mode), False
        dense = self._dense is not None or bundle.embedding is not None
        return dense and (mode is None or mode.dense), self._sparse is not None and (mode is None or mode.sparse)


def _both(one: MetadataFilters, other: MetadataFilters) -> MetadataFilters:
    """Return filters that hold if both do; without a group in a group, which many stores refuse, where that can be."""
    groups = (one, other)
    flat = all(group.condition in (None, FilterCondition.AND) for group in groups)
    return MetadataFilters(filters=[part for group in groups for part in group.filters] if flat else list(groups))


def _filled(
    template: SearchQuery, bundle: QueryBundle, vector: list[float] | None, sparse_vector: SparseVector | None
) -> SearchQuery:
    """Return a query with its vectors, and its text, which may only be blank beside a dense vector."""
    text = keyword_text(bundle) if vector is None else bundle.query_str
    return replace(template, data=text, vector=vector, sparse_vector=sparse_vector)


@dataclass(frozen=True)
class SourceRestrictions(Restrictions):
    """The restrictions of a retriever over a source. All of `filters`, `doc_ids` and `node_ids` is checked here.

    Attributes:
        store_filter: The restrictions as the source takes them, or its own kind of filter; `None` for none.
        source: The source.
    """

    store_filter: Any = None
    source: Source | None = None

    @classmethod
    def of(cls, source: Source, given: SearchArguments) -> "SourceRestrictions":
        """Return the restrictions that the arguments of a retriever make.

        Args:
            source: The source.
            given: The arguments.

        Raises:
            ClientError: If the source does not take such a filter, or for the reasons given at `filters.translate`.
        """
        check = check_of(given.filters, given.doc_ids, given.node_ids)
        residual = MetadataPolicy(check) if check.restricts else None
        handed_on = None
        if isinstance(source, VectorStoreSource) and check.restricts:
            filters = None if given.filters is None else given.filters.model_copy(deep=True)  # the check has its own
            handed_on = StoreFilter(filters, tuple(given.doc_ids or ()), tuple(given.node_ids or ()))
        own = cls("", residual, given.postprocessors, handed_on, source)
        return own if given.filter is None or given.filter == "" else own.through(given.filter)

    def through(self, filter: Any) -> "SourceRestrictions":
        """Return these restrictions with a filter of one search.

        Args:
            filter: `MetadataFilters` for a vector store of LlamaIndex, which hold besides those of the retriever. For
                another source that takes filters, a filter of its own kind, which replaces the retriever's.

        Raises:
            ClientError: If the source does not take such a filter.
        """
        if not isinstance(self.source, VectorStoreSource):
            self._require_taken(filter)
            return replace(self, store_filter=filter)
        if not isinstance(filter, MetadataFilters):
            message = (
                f"filter={written(filter)} is in the language of an index, and this retriever searches a vector store "
                "of LlamaIndex, which takes MetadataFilters: give the retriever filters=, or one search "
                "open(query, filter=MetadataFilters(...))"
            )
            raise ClientError(message)
        standing = StoreFilter.of(self.store_filter)
        narrow = filter.model_copy(deep=True)
        both = narrow if standing.filters is None else _both(standing.filters, narrow)
        check = check_of(both, standing.doc_ids, standing.node_ids)
        return replace(self, residual=MetadataPolicy(check), store_filter=replace(standing, filters=both))

    def within(
        self, template: SearchQuery, filter: Any, namespace: str | None
    ) -> tuple[SearchQuery, "SourceRestrictions"]:
        """Return the query and the restrictions of one search; see `Restrictions.within` and `through`."""
        if namespace is not None:
            message = "namespace= is for an index, and this retriever searches a store, which is one collection"
            raise ClientError(f"{message}; leave namespace= out")
        if filter is None:
            return template, self
        restrictions = self.through(filter)
        return replace(template, store_filter=restrictions.store_filter), restrictions

    def replacing(self, filter: Any) -> Any:
        """Return the filter with which an open search goes on; `None` keeps the present one.

        Raises:
            ClientError: If it is a vector store of LlamaIndex, whose rows are also checked here, and were for the whole
                search; or if the source takes no filter.
        """
        if filter is None:
            return None
        if isinstance(self.source, VectorStoreSource):
            message = "a search of a vector store keeps its filters: open another one with filter=MetadataFilters(...)"
            raise ClientError(message)
        self._require_taken(filter)
        return filter

    def _require_taken(self, filter: object) -> None:
        if self.source is None or not self.source.traits.filters:
            message = (
                f"filter={written(filter)}: this source takes none; leave filter= out, and give filters= to the "
                "retriever, which are checked here"
            )
            raise ClientError(message)
