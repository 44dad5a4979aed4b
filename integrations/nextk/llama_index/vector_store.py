"""The LlamaIndex vector store: LlamaIndex's contract for stores, over an index whose searches can go on."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from pydantic import PrivateAttr

from nextk.arguments import NONE, NoOthers, choose, choose_or_none
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.llama_index.arguments import refuse_others, refuse_wrong, text_key_list
from nextk.llama_index.index_embedding import EmbeddedByIndex
from nextk.llama_index.lazy_connection import LazyConnection
from nextk.llama_index.mode import mode_of
from nextk.llama_index.node_writer import NodeWriter
from nextk.llama_index.policies import Restrictions
from nextk.llama_index.question import Embedder
from nextk.llama_index.record_store import RecordStore
from nextk.llama_index.store_over_index import StoreOverIndex
from nextk.llama_index.store_query import MMR_OPTIONS, read_query
from nextk.llama_index.store_search import StoreSearcher
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.retrievers.writing import BATCH, require_batch_size
from nextk.sessions import Limits, RetrievalMode, SearchQuery
from nextk.sessions.config import DEADLINE
from nextk.types import FusionAlgorithm, WeightingStrategy

_ADD = ("batch_size", "show_progress")
_MODES = ("retrieval_mode", "vector_store_query_mode", "alpha")
_MODELS = ("embed_model", "sparse_embedding", "embedding")
_SHARED = ("namespace", "fusion", "weighting", "filter", "text_key", "deadline", "exact")


class ResumableVectorStore(StoreOverIndex):
    """A LlamaIndex vector store over a vector index, for everything of LlamaIndex's that wants a store.

    That is `VectorStoreIndex`, `StorageContext`, `IngestionPipeline`, `VectorIndexAutoRetriever` and whatever is built
    on them. A query returns the nodes, the scores and the order of `Index.query`. It is one plain query if the index
    can answer it alone; with filters that the index cannot be told, or for more than 1,000 nodes, it goes on page by
    page until there are enough. `ResumableRetriever.from_index` and `from_vector_store` return a retriever over the
    same index, whose searches go on after the first results; it finds and writes the same records.

    Who embeds: with `embedding=True` the index does, and so it does without any model if it has a text model of its
    own, about which it is asked once. It is then given the text of nodes and of queries, and vectors that LlamaIndex
    brings are not used. Otherwise a node or a query that brings a vector keeps it, as LlamaIndex's nodes and queries
    always do; `embed_model`, or else `Settings.embed_model`, makes the vectors that are missing.

    `VectorStoreIndex` and `IngestionPipeline` want a model even so. For an index that embeds they are given
    `store.embed_model`, which costs nothing and needs no download. What searches by a vector alone, without the text,
    such as the retrievers of `DocumentSummaryIndex` and `PropertyGraphIndex` and HyDE, needs a real `embed_model`.

    Once a `VectorStoreIndex` was given index or image nodes, its `as_retriever` narrows each search to these, by
    `node_ids`, over every store that holds text. `VectorIndexRetriever(index)` and `from_index` do not.

    Modes of a query: `default` searches dense vectors, `sparse` and `text_search` search sparse vectors, `hybrid` both,
    and `mmr` chooses from dense results by LlamaIndex's own maximal marginal relevance. Its keywords
    (`vector_store_kwargs`) are `mmr_threshold` (0 to 1, default 0.5), and `mmr_prefetch_k` or `mmr_prefetch_factor`
    (default 4), which say from how many results it chooses.

    Examples:
        ```python
        from llama_index.core import Document, VectorStoreIndex
        from nextk import Index
        from nextk.llama_index import ResumableRetriever, ResumableVectorStore

        store = ResumableVectorStore(Index.embedded(embedding="static", sparse_embedding="bm25"))
        index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
        index.insert(Document(text="The sky is blue.", metadata={"lang": "en"}))
        index.as_retriever(vector_store_query_mode="hybrid").retrieve("Why is the sky blue?")

        with ResumableRetriever.from_index(index).open("Why is the sky blue?") as search:
            nodes = search.fetch_next(5)
        ```

    Coming from `UpstashVectorStore` of `llama-index-vector-stores-upstash`, whose records are read, updated and removed
    as they are:

    | there | here |
    | --- | --- |
    | `UpstashVectorStore(url, token)` | `ResumableVectorStore(url=url, token=token)`, or the environment's |
    | `namespace=`, `batch_size=` | the same; each record is sent once |
    | mode `default` alone | also `sparse`, `text_search`, `hybrid` and `mmr` |
    | `==`, `>`, ..., `in` and `nin` in one AND or OR, values unescaped | all of `MetadataFilters`, nested, escaped |
    | `doc_ids` and `node_ids` of a query are passed over | they hold |
    | `delete` raises | `delete`, `delete_nodes`, `get_nodes` and `clear` |
    | asynchronous methods block | natively asynchronous |

    Args:
        index: An `Index` or an `AsyncIndex`. Blocking and asynchronous calls work over either.
        url: The URL of the index, instead of `index`; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: The token for that URL; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        namespace: The namespace of the index in which the store searches and stores.
        embed_model: The dense model for nodes and queries that bring no vector.
        embedding: `True` if the index embeds the text.
        sparse_embedding: The sparse model, of any kind that `ResumableRetriever` takes. To store nodes by it, it needs
            `embed_documents(texts)`, or to be a function from a list of texts to sparse vectors.
        fusion: How a hybrid search joins its two ranked lists: `"rrf"` or `"dbsf"`; absent: the index's default.
        weighting: `"idf"` weighs the sparse query by the rarity of its terms, `"none"` does not; absent: as the index
            wants it, which is asked once.
        filter: A filter on metadata in the index's language, as in `"lang = 'de' AND year > 2020"`, which holds for
            every query besides the query's own filters. It does not hold for what is read or removed otherwise.
        text_key: The metadata keys that may hold the text of a record without a node. A record without any of them has
            its text in its `data`. Records without any text are left out, with a warning in the log.
        batch_size: The number of records in one request of `add`, 1 to 1,000.
        deadline: The number of seconds after which a query that goes on page by page pulls no further page; `None` for
            no bound. If it ends a query before there is enough, the log warns, and a `ShortfallEvent` tells tracers.
        exact: Whether nodes come in exact order although the index searches large namespaces approximately; see
            `ResumableRetriever`.
        **unknown: No other argument is taken.

    Attributes:
        stores_text: `True`: the index holds the whole nodes, so that LlamaIndex keeps no docstore for them.
        is_embedding_query: Whether LlamaIndex is to embed queries: it is not with `embedding=True`.

    Raises:
        ClientError: If arguments contradict each other or are of another kind, or if there is no index.
        TypeError: If an argument is unknown. The message says which one may be meant.
    """

    url: str | None
    embedding: Literal[True] | None
    fusion: str | None
    weighting: str | None
    filter: str
    text_key: list[str]
    batch_size: int
    deadline: float | None
    exact: bool

    _embed_model: BaseEmbedding | None = PrivateAttr()
    _sparse_embedding: Any = PrivateAttr()
    _embedder: Embedder = PrivateAttr()
    _template: SearchQuery = PrivateAttr()

    def __init__(
        self,
        index: Index | AsyncIndex | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        namespace: str = "",
        embed_model: BaseEmbedding | None = None,
        embedding: Literal[True] | None = None,
        sparse_embedding: Any = None,
        fusion: FusionAlgorithm | str | None = None,
        weighting: WeightingStrategy | str | None = None,
        filter: str = "",
        text_key: str | Sequence[str] = TEXT_KEYS,
        batch_size: int = BATCH,
        deadline: float | None = DEADLINE,
        exact: bool = False,
        **unknown: Unpack[NoOthers],
    ) -> None:
        known = [name for name in inspect.signature(ResumableVectorStore.__init__).parameters if name != "self"]
        refuse_others(type(self).__name__, unknown, known[:-1])
        refuse_wrong(type(self), {}, embed_model=embed_model, embedding=embedding, filters=None)
        embedder = Embedder(embed_model, sparse_embedding, embedding=embedding, keeps_given=True)
        template = SearchQuery(
            filter=filter,
            namespace=namespace,
            fusion=choose(FusionAlgorithm, fusion, "fusion"),
            weighting=choose_or_none(WeightingStrategy, weighting, "weighting"),
            weighting_of_index=weighting is None,
            exact=exact,
        )
        require_batch_size(batch_size)
        Limits(deadline=deadline)  # refuses what is no number of seconds
        connection = LazyConnection(index, url, token)
        settings: dict[str, Any] = {
            "is_embedding_query": embedding is None,
            "url": url,
            "namespace": namespace,
            "embedding": embedding,
            "fusion": _word(template.fusion),
            "weighting": None if weighting is None else _word(template.weighting) or NONE,
            "filter": filter,
            "text_key": text_key_list(text_key),
            "batch_size": batch_size,
            "deadline": deadline,
            "exact": template.exact,
        }
        super().__init__(**settings)
        self._connection, self._embed_model, self._sparse_embedding = connection, embed_model, sparse_embedding
        self._embedder, self._template = embedder, template

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex writes it down."""
        return "ResumableVectorStore"

    @property
    def embed_model(self) -> BaseEmbedding:
        """The model to give to `VectorStoreIndex` and to an `IngestionPipeline`: the store's own, if it has one.

        For an index that embeds, it is a model that costs nothing and whose vectors are never stored; without
        `embedding=True` the index is asked once whether it embeds. Otherwise it is `Settings.embed_model`.

        Raises:
            ClientError: If nobody embeds.
        """
        if self._embed_model is not None:
            return self._embed_model
        if self._embedder.leaves_it_to_index(self._current_connection(), None):
            return EmbeddedByIndex()
        return self._embedder.dense_model()

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes, each under its `node_id`. Of several nodes with one id, the last one stays.

        Args:
            nodes: The nodes.
            **kwargs: `batch_size`, the number of records in one request, instead of the store's own; and
                `show_progress`, whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.

        Returns:
            The id of each node, in order.

        Raises:
            ClientError: If it is no list of nodes; if nobody embeds; if a node is none that JSON can express; or if the
                embeddings that nodes bring are not all of one length and of numbers that float32 holds. Nothing is
                stored then, and the message names the node by its position and its id.
            RefusedError: If a node is too large. Nothing is stored then.
            NextKError: If a batch was not stored. A note on the exception says how many batches were.
            TypeError: If there is another keyword.
        """
        refuse_others("add", kwargs, _ADD)
        return self._writer().insert(nodes, **{"batch_size": self.batch_size, **kwargs})

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes without blocking the event loop; see `add`."""
        refuse_others("async_add", kwargs, _ADD)
        return await self._writer().ainsert(nodes, **{"batch_size": self.batch_size, **kwargs})

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove every node of a source document; and the node whose own id it is, if that has no source document.

        The latter is a `Document` that was stored without being split.

        Args:
            ref_doc_id: The id of the document, which may be any text. For one that no filter can name, because it is
                very long, holds a NUL, or is `"None"`, all records of the namespace are read.
            **delete_kwargs: No keyword is taken.

        Raises:
            ClientError: If the id is empty, or no text.
            TypeError: If a keyword is given.
        """
        refuse_others("delete", delete_kwargs, ())
        self._records().delete_document(ref_doc_id)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of a source document without blocking the event loop; see `delete`."""
        refuse_others("adelete", delete_kwargs, ())
        await self._records().adelete_document(ref_doc_id)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Remove nodes by their ids or by filters. If both are given, both have to hold.

        Args:
            node_ids: The ids. Those that do not exist are passed over, and an empty list removes nothing.
            filters: The filters, every operator, with the meaning that they have for a query. What no filter of the
                index can say is checked here, and all records of the namespace are read for that.
            **delete_kwargs: No keyword is taken.

        Raises:
            ClientError: If neither says which nodes are meant: `clear` removes all of them.
            TypeError: If a keyword is given.
        """
        refuse_others("delete_nodes", delete_kwargs, ())
        self._records().delete(node_ids, filters)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Remove nodes without blocking the event loop; see `delete_nodes`."""
        refuse_others("adelete_nodes", delete_kwargs, ())
        await self._records().adelete(node_ids, filters)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes by their ids or by filters, or all nodes. If both are given, both have to hold.

        Args:
            node_ids: The ids. Those that do not exist are left out.
            filters: The filters, every operator, with the meaning that they have for a query. All records of the
                namespace are read for them, if there are no ids.

        Returns:
            The nodes, without vectors, in the order of the ids, or else in that of their insertion.
        """
        return self._records().get(node_ids, filters)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Return nodes without blocking the event loop; see `get_nodes`."""
        return await self._records().aget(node_ids, filters)

    def clear(self) -> None:
        """Remove every record of the store's namespace, whoever wrote it."""
        self._records().clear()

    async def aclear(self) -> None:
        """Remove every record of the store's namespace without blocking the event loop; see `clear`."""
        await self._records().aclear()

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the nodes that are nearest to a query.

        Args:
            query: The query: its text or vector, its mode, filters and sizes. `similarity_top_k` may be any number.
                With filters, ids of nodes or of documents alone, it finds what passes them, in no order and without
                scores, over an index that has dense vectors.
                Empty lists of `doc_ids` and `node_ids` count as absent, as everywhere in LlamaIndex.
            **kwargs: `mmr_threshold`, `mmr_prefetch_k` and `mmr_prefetch_factor`, for the mode `mmr`.

        Returns:
            The nodes, their scores and their ids, best first.

        Raises:
            ClientError: If the query is empty, nobody embeds it, or it asks for what no index can do: another mode, an
                `alpha` between 0 and 1, `sparse_top_k`, `embedding_field` or `output_fields`.
            TypeError: If there is another keyword.
        """
        refuse_others("query", kwargs, MMR_OPTIONS)
        return self._searcher().search(read_query(query, kwargs, self._template))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the nodes that are nearest to a query without blocking the event loop; see `query`."""
        refuse_others("aquery", kwargs, MMR_OPTIONS)
        return await self._searcher().asearch(read_query(query, kwargs, self._template))

    def retriever_settings(self, given: Mapping[str, Any], embed_model: BaseEmbedding | None = None) -> dict[str, Any]:
        """Return the arguments of a `ResumableRetriever` that searches as this store does, unless told otherwise.

        Args:
            given: Arguments of the retriever, which take the place of the store's settings; a `filter` holds besides
                the store's own. Without a mode among them, the retriever is dense, as a query of the mode `default` is.
            embed_model: The model that embeds queries for the store, as that of a `VectorStoreIndex` does; absent: the
                store's own. It is left out if the index embeds, about which it is asked once.
        """
        rest = {name: value for name, value in given.items() if not (name in _MODELS and value is None)}
        mode = mode_of(*(rest.pop(name, None) for name in _MODES)) or RetrievalMode.DENSE
        connection = self._current_connection()
        settings: dict[str, Any] = {"index": connection.index, "retrieval_mode": mode}
        settings |= {name: getattr(self, name) for name in _SHARED}
        if not rest.keys() & set(_MODELS) and self._embedder.leaves_it_to_index(connection, mode):
            settings["embedding"] = True
        elif "embedding" not in rest:
            settings |= {"embed_model": embed_model or self._embed_model, "sparse_embedding": self._sparse_embedding}
        if "filter" in rest:
            rest["filter"] = Restrictions(self.filter, None, ()).joined(rest["filter"])
        return settings | rest

    def _writer(self) -> NodeWriter:
        return NodeWriter(self._current_connection(), self._embedder, self.namespace)

    def _records(self) -> RecordStore:
        return RecordStore(self._current_connection(), self.namespace, self.text_key)

    def _searcher(self) -> StoreSearcher:
        return StoreSearcher(self._current_connection(), self._embedder, self.text_key, self.deadline)


def _word(member: FusionAlgorithm | WeightingStrategy | None) -> str | None:
    return None if member is None else str(member).lower()
