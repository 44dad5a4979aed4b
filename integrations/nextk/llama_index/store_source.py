"""A source over any vector store of LlamaIndex, and over the docstore that holds the nodes of a store without text."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStore,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from pydantic_core import to_jsonable_python

from nextk.arguments import choose, require_count, shown
from nextk.errors import ClientError
from nextk.llama_index.mode import RETRIEVAL_MODES, query_mode_of
from nextk.llama_index.store_rows import rows_of, to_fetch
from nextk.sessions import RetrievalMode, SearchQuery
from nextk.stores import Continuation, RefetchSource, RowKey, ScoreKind, SourceTraits
from nextk.types import QueryResult

log = logging.getLogger("nextk.llama_index")

_BLOCKING = (BasePydanticVectorStore.aquery, VectorStore.aquery)
_REFUSALS = (NotImplementedError, ValueError, TypeError, AttributeError, AssertionError, LookupError)
"""The exceptions by which stores refuse a filter, or fail over one that they do not know."""
_NAMES = ("collection_name", "index_name", "table_name")
_INNER_PRODUCT = 0  # METRIC_INNER_PRODUCT of FAISS; all its other metrics are distances


@dataclass(frozen=True)
class StoreFilter:
    """The restrictions of a search that LlamaIndex's stores take. A row has to pass all that are given.

    Attributes:
        filters: The filters on metadata; `None` for none.
        doc_ids: The ids of source documents; none for all documents.
        node_ids: The ids of nodes; none for all nodes.
    """

    filters: MetadataFilters | None = None
    doc_ids: Sequence[str] = ()
    node_ids: Sequence[str] = ()

    @classmethod
    def of(cls, given: object) -> "StoreFilter":
        """Return the filter of a query as restrictions; `None` restricts nothing.

        Raises:
            ClientError: If it is neither a `StoreFilter` nor `MetadataFilters`.
        """
        if given is None or isinstance(given, MetadataFilters):
            return cls(given)
        if not isinstance(given, StoreFilter):
            message = f"store_filter={shown(given)} is no MetadataFilters, which are what LlamaIndex's stores take"
            raise ClientError(message)
        return given

    def __bool__(self) -> bool:
        return bool(self.filters is not None or self.doc_ids or self.node_ids)


class VectorStoreSource(RefetchSource):
    """A source over a vector store of LlamaIndex. It goes on with a search by asking for more rows.

    `ResumableRetriever.from_vector_store` and `from_index` make one. Its rows hold the nodes as `item`.

    - **Filters.** `SearchQuery.store_filter` holds `MetadataFilters`, which are handed on to the store. A store that
      refuses them, or fails over them by an error such as `ValueError` or `AttributeError`, is asked without them. Some
      stores ignore them, too. So whoever searches has to check the rows; the retriever does. Its nodes have passed what
      the store takes a filter to mean, and what LlamaIndex's in-memory store does.
    - **Ids.** The id of a row is the `node_id`, if the store or the node's maker has set one; else the id that the
      store gives with the node; else that of `key`; else one that is made of the text and the metadata, so that nodes
      that are alike are handed out once.
    - **Nodes.** A store that answers with ids, not nodes, has them looked up in `docstore`. A row whose node is not
      there has no item, and readers leave it out with a warning.
    - **Scores.** A score is the similarity that the store gives. LlamaIndex wants it higher for nearer nodes, but some
      stores give distances. FAISS says by its metric that it does, and its scores count as ranks then. Where
      similarities rise from the first row to the last, they are distances; the score of a row is then the distance
      times -1. Without similarities, the score is 1/position. Scores of a hybrid search are made of ranks.
    - **Event loops.** A store without an `aquery` of its own runs on a thread, and so does a Qdrant store without an
      asynchronous client.

    Args:
        vector_store: The store: a `BasePydanticVectorStore`, or any object with its `query` method.
        docstore: The docstore that holds the nodes of a store that holds no text.
        node_ids_by_row: The `node_id` of each id that the store gives, as the `index_struct.nodes_dict` of a
            `VectorStoreIndex` has them; absent: the ids of the store are those of the nodes.
        mode: The mode of queries that name none: `"default"`, `"sparse"`, `"text_search"` or `"hybrid"`. Sparse queries
            go to the store as `"text_search"` if that is the mode here.
        alpha: The weight of the dense half of a hybrid search, as the store takes it.
        sparse_top_k: The number of rows of the sparse half of a hybrid search; absent: as many as are asked for.
        hybrid_top_k: The number of rows of one hybrid request, which ends a search early; absent: as many as are asked
            for.
        vector_store_kwargs: Further arguments of the store's `query`.
        key: The metadata key that holds the id of a node without an id, or a function that takes the node.
        store_id: A text that names the store, for cursors; absent: its class and the name of its collection, index or
            table. Stores without such a name, as those in memory, are told apart by it alone.
        scores: The meaning of the scores of searches that are not hybrid; absent: nearness, except for distances of
            FAISS.

    Raises:
        ClientError: If it is no vector store, if a store that holds no text has no docstore, or if an argument is of
            another kind.
    """

    def __init__(
        self,
        vector_store: Any,
        *,
        docstore: BaseDocumentStore | None = None,
        node_ids_by_row: Mapping[str, str] | None = None,
        mode: VectorStoreQueryMode | str | None = None,
        alpha: float | None = None,
        sparse_top_k: int | None = None,
        hybrid_top_k: int | None = None,
        vector_store_kwargs: Mapping[str, Any] | None = None,
        key: RowKey | None = None,
        store_id: str | None = None,
        scores: ScoreKind | str | None = None,
    ) -> None:
        _require_store(vector_store, docstore)
        for name, count in (("sparse_top_k", sparse_top_k), ("hybrid_top_k", hybrid_top_k)):
            if count is not None:
                require_count(count, name)
        self._store = vector_store
        self._docstore = docstore
        self._node_ids = node_ids_by_row
        self._mode = query_mode_of(mode) or VectorStoreQueryMode.DEFAULT
        self._alpha = alpha
        self._sparse_top_k = sparse_top_k
        self._hybrid_top_k = hybrid_top_k
        self._kwargs = dict(vector_store_kwargs or {})
        self._key = key
        self._identity = store_id or _identity_of(vector_store, {"alpha": alpha, **self._kwargs})
        chosen = choose(ScoreKind, scores, "scores")
        self._ranks = chosen is ScoreKind.RANKS or (chosen is None and _gives_distances(vector_store))
        self._refusal_noted = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._store).__name__})"

    @property
    def identity(self) -> str:
        """The `store_id`, else the class of the store, the name of its collection, and what else its queries hold."""
        return self._identity

    @property
    def traits(self) -> SourceTraits:
        """The traits of the store, as far as they can be known."""
        return SourceTraits(
            Continuation.REFETCH,
            scores=ScoreKind.RANKS if self._ranks else None,  # a query in a mode says whether it is fused
            stable_order=False,
            filters=True,
            modes=not self._ranks,
        )

    @property
    def mode(self) -> RetrievalMode:
        """The mode of queries that name none."""
        return RETRIEVAL_MODES[self._mode]

    def needs_vector(self, mode: RetrievalMode | None) -> bool:
        """Return whether queries in a mode need a dense vector: not where the store embeds, or searches words."""
        return bool(getattr(self._store, "is_embedding_query", True)) and (mode or self.mode).dense

    def size(self, query: SearchQuery) -> int | None:
        """Return how many rows the store holds for a query, as far as it says so; `None` if that is not known.

        Args:
            query: The query. How many rows pass a filter, or hold a word of a sparse query, is not known.
        """
        if StoreFilter.of(query.store_filter) or not (query.mode or self.mode).dense:
            return None
        return _size_of(self._store) if self._node_ids is None else len(self._node_ids)

    def query(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Ask the store once for its best rows.

        Args:
            query: The query, with its text as `data` and, if `needs_vector`, the dense vector.
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows, best first, as the store gives them. The filter of the query is not checked here.

        Raises:
            ClientError: If the query lacks the vector, as that of a sparse search that was widened to a dense one does.
        """
        restricted, free = self._requests(query, count)
        try:
            answer = self._store.query(restricted, **self._kwargs)
        except _REFUSALS as error:
            if free is None:
                raise
            answer = self._store.query(free, **self._kwargs)
            self._note_refusal(error)
        wanted = to_fetch(answer, self._node_ids)
        found = self._docstore.get_nodes(wanted, raise_error=False) if wanted and self._docstore else []
        return self._rows(answer, found, count)

    async def aquery(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Ask the store once for its best rows without blocking the event loop; see `query`."""
        if not _is_asynchronous(self._store):
            return await super().aquery(query, count)
        restricted, free = self._requests(query, count)
        try:
            answer = await self._store.aquery(restricted, **self._kwargs)
        except _REFUSALS as error:
            if free is None:
                raise
            answer = await self._store.aquery(free, **self._kwargs)
            self._note_refusal(error)
        wanted = to_fetch(answer, self._node_ids)
        found = await self._docstore.aget_nodes(wanted, raise_error=False) if wanted and self._docstore else []
        return self._rows(answer, found, count)

    def _requests(self, query: SearchQuery, count: int) -> tuple[VectorStoreQuery, VectorStoreQuery | None]:
        """Return a query as the store takes it, and without its filter; `None` if it has none."""
        if query.vector is None and self.needs_vector(query.mode):
            mode = (query.mode or self.mode).value
            message = (
                f"the question lacks its vector, which this store needs for a {mode} search: give embed_model=, or "
                "open another search in this mode"
            )
            raise ClientError(message)
        restrictions = StoreFilter.of(query.store_filter)
        restricted = self._request(query, count, restrictions)
        return restricted, self._request(query, count, StoreFilter()) if restrictions else None

    def _request(self, query: SearchQuery, count: int, restrictions: StoreFilter) -> VectorStoreQuery:
        mode = self._mode if query.mode in (None, self.mode) else query_mode_of(query.mode)
        hybrid = mode is VectorStoreQueryMode.HYBRID
        return VectorStoreQuery(
            query_embedding=query.vector,
            similarity_top_k=count,
            doc_ids=list(restrictions.doc_ids) or None,
            node_ids=list(restrictions.node_ids) or None,
            query_str=query.data,
            mode=mode or self._mode,
            alpha=self._alpha,
            filters=restrictions.filters,
            sparse_top_k=self._sparse_top_k or (None if mode is VectorStoreQueryMode.DEFAULT else count),
            hybrid_top_k=self._hybrid_top_k or (count if hybrid else None),
        )

    def _rows(self, answer: VectorStoreQueryResult, found: Sequence[BaseNode], count: int) -> Sequence[QueryResult]:
        return rows_of(answer, found, self._node_ids, self._key, ranks=self._ranks)[:count]

    def _note_refusal(self, error: Exception) -> None:
        """Say in the log, once, that the store takes no such filter."""
        if not self._refusal_noted:
            self._refusal_noted = True
            kind = type(self._store).__name__
            log.info("%s refuses the filter (%s), so it is asked without, and rows are checked here", kind, error)


def _require_store(store: Any, docstore: object) -> None:
    if isinstance(store, type) or not callable(getattr(store, "query", None)):
        message = f"vector_store={shown(store)} is no vector store of LlamaIndex, which has query(VectorStoreQuery)"
        raise ClientError(message)
    if not getattr(store, "stores_text", True) and docstore is None:
        message = (
            f"this {type(store).__name__} holds no text: make the retriever by from_index(index) of the "
            "VectorStoreIndex over it, or give docstore="
        )
        raise ClientError(message)


def _identity_of(store: Any, settings: Mapping[str, Any]) -> str:
    """Return the class and the name of a store, with those settings of its queries that are given."""
    kind = type(store)
    named = (getattr(store, name, None) for name in _NAMES)
    name = next((each for each in named if isinstance(each, str) and each), None)
    if name is None:
        name = getattr(client_of(store), "name", None)  # a collection of Chroma
    given = {key: value for key, value in settings.items() if value is not None}
    plain = to_jsonable_python(given, fallback=lambda value: type(value).__qualname__)
    parts = [f"{kind.__module__}.{kind.__qualname__}", name if isinstance(name, str) else ""]
    return " ".join([*parts, json.dumps(plain, sort_keys=True)] if given else parts)


def client_of(store: Any) -> Any:
    """Return the client of a store; `None` if it has none, or raises instead of saying so."""
    try:
        return getattr(store, "client", None)
    except Exception:
        return None


def _size_of(store: Any) -> int | None:
    """Return how many rows a store of FAISS, Chroma or Qdrant holds; `None` for other stores."""
    client = client_of(store)
    match type(client).__module__.partition(".")[0]:
        case "faiss":
            return int(client.ntotal)
        case "chromadb":
            return int(client.count())
        case "qdrant_client":
            return int(client.count(store.collection_name).count)
        case _:
            return None


def _gives_distances(store: Any) -> bool:
    """Return whether a store says that it gives distances. FAISS does, by the metric of its index."""
    metric = getattr(client_of(store), "metric_type", None)
    return isinstance(metric, int) and metric != _INNER_PRODUCT


def _is_asynchronous(store: Any) -> bool:
    """Return whether a store has an `aquery` of its own, and what it needs for it."""
    own = getattr(type(store), "aquery", None)
    return own is not None and own not in _BLOCKING and getattr(store, "_aclient", store) is not None
