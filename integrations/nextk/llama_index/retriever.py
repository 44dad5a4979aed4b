"""The LlamaIndex retriever: LlamaIndex's contract for retrievers, over a search that can go on."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Unpack

from llama_index.core import instrumentation
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from nextk.arguments import NONE, NoOthers, written
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.llama_index.arguments import RefusingKeywords, postprocessor_list, refuse_wrong, text_key_list
from nextk.llama_index.from_store import FromStores
from nextk.llama_index.instrumentation import announce, observed
from nextk.llama_index.mode import TopK, top_k_of
from nextk.llama_index.opening import Opening
from nextk.llama_index.over_source import searched_source
from nextk.llama_index.searched import SearchArguments, searched_index
from nextk.llama_index.writing import Writing
from nextk.retrievers.connection import ClosingMixin, Connection
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.retrievers.source_connection import SourceConnection
from nextk.sessions import (
    AsyncRetrievalSession,
    Limits,
    RetrievalMode,
    RetrievalSession,
    SearchConfig,
)
from nextk.sessions.config import DEADLINE, DEFAULT_MAX_IDLE, MAX_PULLS, MAX_RESULTS
from nextk.sessions.recovery_state import MAX_RECOVERY
from nextk.stores import Source
from nextk.types import FusionAlgorithm, WeightingStrategy
from nextk.until import MaxResults, Policy

dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]


class ResumableRetriever(FromStores, TopK, Opening, Writing, ClosingMixin, RefusingKeywords, BaseRetriever):
    """A LlamaIndex retriever over a vector index or a vector store that can go on where its first results end.

    `from_index` makes one of a `VectorStoreIndex`, and `from_vector_store` of a vector store, whichever it is.

    `retrieve` is one plain query; with a policy, postprocessors, filters that the index cannot be told, or a
    `similarity_top_k` above 1,000, it goes on page by page. Nothing stays open afterwards. `open` starts a search that
    is continued on demand: it returns the next nodes, in order, none twice and none left out, without searching again.
    The retriever of the same name in `nextk.langchain` does this for LangChain.

    Who embeds: with `embed_model` or `sparse_embedding`, these models embed; with `embedding=True`, the index does.
    Without any of the three, the index embeds if it has a text model; else `Settings.embed_model`, which is read when a
    query needs it.

    Records written by LlamaIndex's Upstash store come back as the nodes that they were. Records of LangChain's stores
    and raw `data` become `TextNode`s. Records without any text are left out, with a warning in the log.

    If `max_results`, `max_pulls` or `deadline` ends a call before there is enough, the log warns and says what to do,
    and a `ShortfallEvent` tells tracers.

    For agents there is `ResumableSearchToolSpec`. LlamaIndex's `RetrieverTool` works, too, but it makes the model write
    "input is ..." instead of the query, and it cannot go on.

    Examples:
        ```python
        retriever = ResumableRetriever(embedding=True, similarity_top_k=5)  # UPSTASH_VECTOR_REST_URL and ..._TOKEN
        nodes = retriever.retrieve("Why is the sky blue?")

        with retriever.open("Why is the sky blue?") as search:
            nodes = search.fetch_next(5)
            while not enough(nodes) and not search.exhausted:
                nodes += search.fetch_next(5)
        ```

    Args:
        index: An `Index` or an `AsyncIndex`. Blocking and asynchronous calls work over either.
        url: The URL of the index, instead of `index`; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: The token for that URL; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        similarity_top_k: The largest number of nodes that one call returns, pulled page by page if it is above 1,000;
            absent: 2, or with `until` as many as the policy decides.
        embed_model: The dense model.
        embedding: `True` if the index embeds the text.
        sparse_embedding: The sparse model: a `BaseSparseEmbedding`; an object whose `embed_query(text)` returns an
            object with `indices` and `values`; or a function from a list of texts to sparse vectors (a
            `sparse_query_fn`).
        retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; absent: every component that there is a model for.
        vector_store_query_mode: LlamaIndex's word for the mode: `"default"` is dense, `"sparse"` and `"text_search"`
            are sparse, `"hybrid"` is hybrid.
        alpha: LlamaIndex's weight of the dense half of a hybrid search: 1 is a dense search, 0 is a sparse search, and
            no value between is supported.
        hybrid_top_k: The largest number of nodes that one call returns in a hybrid search, instead of
            `similarity_top_k`.
        fusion: How a hybrid search joins its two ranked lists: `"rrf"` or `"dbsf"`; absent: the index's default.
        weighting: `"idf"` weighs the sparse query by the rarity of its terms, `"none"` does not; absent: as the index
            wants it, which is asked once, and none for an index that does not say.
        filter: A filter on metadata in the index's language, as in `"lang = 'de' AND year > 2020"`. Only records that
            pass it are found. A source takes its own kind of filter here, if it takes any.
        filters: LlamaIndex's `MetadataFilters`, which hold besides `filter`: every operator, nested, with the meaning
            that LlamaIndex's in-memory store gives them. What the index cannot check is checked here, and pulling goes
            on until enough nodes have passed.
        doc_ids: The ids of source documents; only their nodes are found. An empty list counts as absent, as everywhere
            in LlamaIndex, so a caller who may see nothing must not query at all. `"None"` is refused, because
            LlamaIndex stores it with every node that has no source document.
        node_ids: The ids of nodes; only these are found. An empty list counts as absent, as everywhere in LlamaIndex.
        node_postprocessors: Node postprocessors. Only nodes that survive them count, and pulling goes on until there
            are enough. The order is that of the search; a postprocessor that reorders belongs in the query engine.
        namespace: The namespace of the index in which the retriever searches and stores.
        until: A policy of `nextk.until`. One call then goes on, page by page, until the policy has enough. What the
            policy does not keep is never handed out, and an opened search does not hand it out either.
        max_results: The largest number of nodes that a call returns with `until`, postprocessors, or filters that are
            checked here. Its default, 200, gives way to a `similarity_top_k`; another number holds as well.
        max_pulls: The largest number of pages that such a call pulls. Its default, 10, gives way to a
            `similarity_top_k`; another number holds as well.
        deadline: The number of seconds after which such a call pulls no further page.
        max_idle: The number of seconds without a pull after which the index may drop an opened search.
        max_recovery: The largest number of matches to request again after a fault, or to go on from a cursor.
        cursor_key: The secret text with which cursors are signed; a cursor that was not signed with it is refused.
        text_key: The metadata keys that may hold the text of a record without a node. A record without any of them has
            its text in its `data`.
        callback_manager: The callback manager, as for every retriever of LlamaIndex.
        object_map: The objects to which index nodes lead, by node id, as for every retriever of LlamaIndex.
        objects: The index nodes that lead to objects, as for every retriever of LlamaIndex.
        verbose: Whether to print the steps of a recursive retrieval, as for every retriever of LlamaIndex.
        source: A source of `nextk.stores` that is searched instead of an index. Arguments that only an index takes are
            refused then, and `filters`, `doc_ids` and `node_ids` are all checked here.
        exact: Whether nodes come in exact order although the index searches large namespaces approximately, so that a
            few come a page late. It costs a scan of all vectors. Indexes that are embedded or on PostgreSQL and
            `nextk serve` know it, and no `source` of another kind does.
        **unknown: No other argument is taken.

    Raises:
        ClientError: If arguments contradict each other, are of another kind, or lack an index or a model for the mode;
            or if `doc_ids` hold `"None"`.
        TypeError: If an argument is unknown. The message says which one may be meant.
    """

    def __init__(
        self,
        index: Index | AsyncIndex | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        similarity_top_k: int | None = None,
        embed_model: BaseEmbedding | None = None,
        embedding: Literal[True] | None = None,
        sparse_embedding: Any = None,
        retrieval_mode: RetrievalMode | str | None = None,
        vector_store_query_mode: VectorStoreQueryMode | str | None = None,
        alpha: float | None = None,
        hybrid_top_k: int | None = None,
        fusion: FusionAlgorithm | str | None = None,
        weighting: WeightingStrategy | str | None = None,
        filter: Any = "",
        filters: MetadataFilters | None = None,
        doc_ids: Sequence[str] | None = None,
        node_ids: Sequence[str] | None = None,
        node_postprocessors: Sequence[BaseNodePostprocessor] = (),
        namespace: str = "",
        until: Policy | None = None,
        max_results: int | None = MAX_RESULTS,
        max_pulls: int | None = MAX_PULLS,
        deadline: float | None = DEADLINE,
        max_idle: int = DEFAULT_MAX_IDLE,
        max_recovery: int = MAX_RECOVERY,
        cursor_key: str | None = None,
        text_key: str | Sequence[str] = TEXT_KEYS,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
        source: Source | None = None,
        exact: bool = False,
        **unknown: Unpack[NoOthers],
    ) -> None:
        refuse_wrong(type(self), unknown, embed_model=embed_model, embedding=embedding, filters=filters)
        super().__init__(callback_manager, object_map, objects, verbose)
        given = SearchArguments(
            index=index,
            url=url,
            token=token,
            embed_model=embed_model,
            embedding=embedding,
            sparse_embedding=sparse_embedding,
            retrieval_mode=retrieval_mode,
            vector_store_query_mode=vector_store_query_mode,
            alpha=alpha,
            hybrid_top_k=hybrid_top_k,
            fusion=fusion,
            weighting=weighting,
            filter=filter,
            filters=filters,
            doc_ids=doc_ids,
            node_ids=node_ids,
            namespace=namespace,
            text_key=text_key_list(text_key),
            postprocessors=postprocessor_list(node_postprocessors),
            exact=exact,
        )
        searched = searched_index(given) if source is None else searched_source(source, given)
        self._connection, self._embedder = searched.connection, searched.embedder
        self._restrictions, self._template = searched.restrictions, searched.template
        self._reader = searched.reader
        self._url, self._own_filter, self._text_keys = url, filter, given.text_key
        guards = Limits(max_results, max_pulls, deadline)
        self._search_config = SearchConfig(
            until, guards, max_idle=max_idle, max_recovery=max_recovery, cursor_key=cursor_key
        )
        self._plain = until is None and not self._restrictions.checked_here  # the index decides what is returned
        top_k = top_k_of(similarity_top_k, hybrid_top_k, self._template.mode)
        if top_k is not None:
            self.similarity_top_k = top_k

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r}, similarity_top_k={written(self.similarity_top_k)})"

    @property
    def index(self) -> Index:
        """The index that is searched, for blocking calls.

        Raises:
            ClientError: If the retriever searches another source.
        """
        if isinstance(self._connection, SourceConnection):
            message = f"this retriever searches {self._connection!r}, and has no index: see its source"
            raise ClientError(message)
        return self._connection.index

    @property
    def source(self) -> Source | None:
        """The source that is searched; `None` for an index."""
        return self._connection.index if isinstance(self._connection, SourceConnection) else None

    def to_config(self) -> dict[str, Any]:
        """Return the settings of this retriever as JSON values: `ResumableRetriever(**config, ...)` makes one like it.

        The settings hold no token, cursor key, model, policy, postprocessor or `MetadataFilters`, and not the location
        of an index in this process. These are given anew.
        """
        template, search_config = self._template, self._search_config
        left_open = template.weighting_of_index or self.source is not None
        weighting = None if left_open else template.weighting or NONE
        named = {"retrieval_mode": template.mode, "fusion": template.fusion, "weighting": weighting}
        return {
            "url": self._url,
            "similarity_top_k": self._cap,
            **{name: None if member is None else str(member).lower() for name, member in named.items()},
            "filter": self._own_filter,
            "namespace": template.namespace,
            "exact": template.exact,
            **asdict(search_config.guards),
            "max_idle": search_config.max_idle,
            "max_recovery": search_config.max_recovery,
            "text_key": list(self._text_keys),
        }

    # A span of this class, because tracers know a retrieval by the class that does it.
    @dispatcher.span
    def _pull(
        self,
        query_bundle: QueryBundle,
        search: RetrievalSession[NodeWithScore],
        call: Callable[..., list[NodeWithScore]],
        *args: Any,
    ) -> list[NodeWithScore]:
        with observed(dispatcher, self.callback_manager, query_bundle) as pull:
            pull.nodes = call(*args)
            pull.report = search.report
        return pull.nodes

    @dispatcher.span
    async def _apull(
        self,
        query_bundle: QueryBundle,
        search: AsyncRetrievalSession[NodeWithScore],
        call: Callable[..., Awaitable[list[NodeWithScore]]],
        *args: Any,
    ) -> list[NodeWithScore]:
        with observed(dispatcher, self.callback_manager, query_bundle) as pull:
            pull.nodes = await call(*args)
            pull.report = search.report
        return pull.nodes

    # Blocking through and through, because LlamaIndex also calls it inside a running loop.
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._is_one_query:
            with self._session(query_bundle, self._template, self._one_call_config()) as search:
                # not by its own method: the base class reports this retrieval already
                nodes = RetrievalSession.fetch_until(search)
            announce(dispatcher, search.report.shortfall)
            return nodes
        embedded = self._embedder.embed(query_bundle, self._template, self._connection)
        return self._reader.read(self._connection.query(embedded, self.similarity_top_k))

    @dispatcher.span  # the base class gives one to `_retrieve` only
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._is_one_query:
            async with self._asession(query_bundle, self._template, self._one_call_config()) as search:
                nodes = await AsyncRetrievalSession.fetch_until(search)
            announce(dispatcher, search.report.shortfall)
            return nodes
        embedded = await self._embedder.aembed(query_bundle, self._template, self._connection)
        return self._reader.read(await self._connection.aquery(embedded, self.similarity_top_k))

    @property
    def _is_one_query(self) -> bool:
        """Whether a call is one plain query. A source takes any number of rows, an index at most 1,000."""
        return self._plain and (self.source is not None or self._fits_one_query)

    def _one_call_config(self) -> SearchConfig:
        """Return the policy and the bounds of one call that goes on page by page."""
        if self._plain:
            return self._search_config.paged(self.similarity_top_k)
        search_config = self._search_config.capped(self._cap)
        return replace(search_config, until=search_config.until or MaxResults(self.similarity_top_k))

    def _current_connection(self) -> Connection | SourceConnection:
        return self._connection
