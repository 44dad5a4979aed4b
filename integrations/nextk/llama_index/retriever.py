"""The retriever: LlamaIndex's contract over a search that can go on."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Unpack

from llama_index.core import instrumentation
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle, QueryType
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from nextk.arguments import choose
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.llama_index.filters import translate
from nextk.llama_index.from_store import FromStores
from nextk.llama_index.instrumentation import AsyncObservedSession, ObservedSession, observed
from nextk.llama_index.mode import mode_of, top_k_of
from nextk.llama_index.nodes import node_reader
from nextk.llama_index.policies import MetadataPolicy, always_on
from nextk.llama_index.question import Embedder, bundle_from_texts, bundle_of, cursor_texts
from nextk.llama_index.writing import Writing
from nextk.retrievers.connection import ClosingMixin, Connection
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.sessions import (
    AsyncRetrievalSession,
    Limits,
    RetrievalMode,
    RetrievalSession,
    SearchConfig,
    SearchQuery,
)
from nextk.sessions.config import DEADLINE, DEFAULT_MAX_IDLE, MAX_PULLS, MAX_RESULTS, Overrides
from nextk.sessions.cursor import ReadCursor
from nextk.sessions.recovery import MAX_RECOVERY
from nextk.types import FusionAlgorithm, WeightingStrategy
from nextk.until import MaxResults, Policy

dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]


class ResumableRetriever(FromStores, Writing, ClosingMixin, BaseRetriever):
    """A retriever over a vector index that can go on where its first results end.

    `retrieve` is one plain query, and nothing is kept open. `open` starts a search that is continued on demand: the
    next nodes, in order, none twice and none left out, without searching again.

    Who embeds: `embed_model` and `sparse_embedding`, if either is given; with `embedding=True` the index. With none of
    the three the index, if it has a text model; else `Settings.embed_model`, which is read when a question needs it.

    Records written by LlamaIndex's Upstash store come back as the nodes that they were; those of LangChain's stores and
    raw `data` become `TextNode`s. Those without any text are left out, with a warning in the log.

    For agents there is `ResumableSearchToolSpec`. LlamaIndex's `RetrieverTool` works, too, but it asks for "input is
    ..." instead of the question, and cannot go on.

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
        index: An `Index` or an `AsyncIndex`; both calling styles work over either.
        url: Where it is instead; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: Its token; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        similarity_top_k: How many nodes one call returns at the most; absent: 2, or with `until` as many as that
            decides.
        embed_model: The dense model.
        embedding: `True`: the index embeds the text.
        sparse_embedding: The sparse model: a `BaseSparseEmbedding`, an object whose `embed_query(text)` gives `indices`
            and `values`, or a function from a list of texts to sparse vectors (a `sparse_query_fn`).
        retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; absent: whatever the models allow.
        vector_store_query_mode: LlamaIndex's word for it: `"default"` is dense, `"sparse"` and `"text_search"` are
            sparse, `"hybrid"` is both.
        alpha: LlamaIndex's weight of the dense half: 1 is dense, 0 is sparse, and nothing between is supported.
        hybrid_top_k: Instead of `similarity_top_k` in a hybrid search.
        fusion: `"rrf"` or `"dbsf"`: how a hybrid search joins its two lists.
        weighting: `"idf"`: weigh the sparse query by the rarity of its terms.
        filter: Only records whose metadata passes, as in `"lang = 'de' AND year > 2020"`.
        filters: LlamaIndex's `MetadataFilters`, besides: every operator, nested, as LlamaIndex's in-memory store means
            them. What the index cannot be told is checked here, and pulling goes on until enough nodes passed.
        doc_ids: Only nodes of these source documents. Empty is absent, as everywhere in LlamaIndex: to permit nothing,
            do not ask.
        node_ids: Only these nodes. Likewise.
        node_postprocessors: What they leave of a page counts, and pulling goes on until there are enough nodes. The
            order is that of the search; what reorders belongs into the query engine.
        namespace: Where in the index to search.
        until: A policy of `nextk.until`: one call then goes on, page by page, until it has enough, and what the policy
            does not keep is never handed out, by an opened search neither.
        max_results: What bounds such a call: nodes.
        max_pulls: Likewise, pages.
        deadline: Likewise, seconds.
        max_idle: Seconds without a pull after which the index may drop an opened search.
        max_recovery: How many rows may be pulled again after a fault, or for a cursor.
        text_key: The metadata keys that may hold the text of a record without a node; else it is its `data`.
        callback_manager: As for every retriever of LlamaIndex.
        object_map: Likewise.
        objects: Likewise.
        verbose: Likewise.

    Raises:
        ClientError: The arguments contradict each other, one is unknown, the mode needs a model that is missing, or
            there is no index.
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
        filter: str = "",
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
        text_key: str | Sequence[str] = TEXT_KEYS,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager, object_map, objects, verbose)
        mode = mode_of(retrieval_mode, vector_store_query_mode, alpha)
        self._embedder = Embedder(embed_model, sparse_embedding, mode, embedding=embedding)
        translation = translate(filters, doc_ids, node_ids)
        self._pushed_down = translation.filter
        self._residual = None if translation.residual is None else MetadataPolicy(translation.residual)
        self._postprocessors = list(node_postprocessors)
        self._template = SearchQuery(
            mode=self._embedder.mode,
            filter=self._joined(filter),
            namespace=namespace,
            fusion=choose(FusionAlgorithm, fusion, "fusion"),
            weighting=choose(WeightingStrategy, weighting, "weighting"),
        )
        guards = Limits(max_results, max_pulls, deadline)
        self._search_config = SearchConfig(until, guards, max_idle=max_idle, max_recovery=max_recovery)
        self._url, self._own_filter = url, filter
        self._text_keys = [text_key] if isinstance(text_key, str) else list(text_key)
        self._cap: int | None = None
        top_k = top_k_of(similarity_top_k, hybrid_top_k, self._template.mode)
        if top_k is not None:
            self.similarity_top_k = top_k
        self._connection = Connection(index, url, token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r}, similarity_top_k={self.similarity_top_k})"

    @property
    def similarity_top_k(self) -> int:
        """How many nodes one call returns at the most; it may be set."""
        return DEFAULT_SIMILARITY_TOP_K if self._cap is None else self._cap

    @similarity_top_k.setter
    def similarity_top_k(self, count: int) -> None:
        if count < 1:
            message = f"similarity_top_k={count} must be at least 1"
            raise ClientError(message)
        self._cap = count

    @property
    def index(self) -> Index:
        """The index that is searched, for blocking calls."""
        return self._connection.index

    def to_config(self) -> dict[str, Any]:
        """What this retriever is set to, as JSON: `ResumableRetriever(**config, ...)` is one like it.

        It has no token and no model, no policy, no postprocessors and no `MetadataFilters`, nor where an index in this
        process is: those are given anew.
        """
        template, search_config = self._template, self._search_config
        words = {"retrieval_mode": template.mode, "fusion": template.fusion, "weighting": template.weighting}
        return {
            "url": self._url,
            "similarity_top_k": self._cap,
            **{name: None if word is None else word.value.lower() for name, word in words.items()},
            "filter": self._own_filter,
            "namespace": template.namespace,
            **asdict(search_config.guards),
            "max_idle": search_config.max_idle,
            "max_recovery": search_config.max_recovery,
            "text_key": list(self._text_keys),
        }

    def open(
        self,
        query: QueryType,
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[NodeWithScore]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The question.
            filter: Instead of the retriever's own.
            namespace: Likewise.
            **overrides: `until`, instead of the retriever's own: what it does not keep, no call hands out. And bounds
                of this search as a whole, then `LimitReached`: `max_results` nodes, `max_pulls` pages, `deadline`
                seconds from the first pull. Absent: no bound, but the retriever's own on each `fetch_until`.

        Returns:
            The session; leave it by `with`, so that the index need not keep the search. An `IndexNode` comes as it is:
            only `retrieve` follows it to its object.
        """
        template = self._template_for(filter, namespace)
        return self._session(bundle_of(query), template, self._search_config.with_overrides(**overrides))

    def aopen(
        self,
        query: QueryType,
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[NodeWithScore]:
        """The same for an event loop: `async with retriever.aopen(query) as search`."""
        template = self._template_for(filter, namespace)
        return self._asession(bundle_of(query), template, self._search_config.with_overrides(**overrides))

    def resume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[NodeWithScore]:
        """Go on with a search from its cursor, in any process and as often as wanted; each time the same rows come.

        Args:
            cursor: From `cursor()` or `detach()` of a session of this retriever, or of one like it.
            filter: As it was when the cursor was made, if it was not the retriever's own; a cursor holds none.
            namespace: Likewise.
            **overrides: As for `open`. Nodes and pages of before count.

        Raises:
            ClientError: It is no cursor, was edited, or belongs to another index, filter, namespace, fusion or
                weighting.
        """
        template, read = self._template_for(filter, namespace), ReadCursor.of(cursor)
        return self._session(
            bundle_from_texts(read.query_texts), template, self._search_config.with_overrides(**overrides), read
        )

    def aresume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[NodeWithScore]:
        """The same for an event loop: `async with retriever.aresume(cursor) as search`."""
        template, read = self._template_for(filter, namespace), ReadCursor.of(cursor)
        return self._asession(
            bundle_from_texts(read.query_texts), template, self._search_config.with_overrides(**overrides), read
        )

    def _joined(self, filter: str) -> str:
        """A filter of the caller's, and what is pushed down of `filters`; either may hold an OR."""
        parts = [part for part in (filter, self._pushed_down) if part]
        return parts[0] if len(parts) == 1 else " AND ".join(f"({part})" for part in parts)

    def _template_for(self, filter: str | None, namespace: str | None) -> SearchQuery:
        return self._template.within(filter=None if filter is None else self._joined(filter), namespace=namespace)

    def _always_on(self, bundle: QueryBundle, *, awaited: bool) -> Policy | None:
        return always_on(self._residual, self._postprocessors, bundle, awaited=awaited)

    def _session(
        self,
        bundle: QueryBundle,
        template: SearchQuery,
        search_config: SearchConfig,
        cursor: ReadCursor | None = None,
    ) -> RetrievalSession[NodeWithScore]:
        return ObservedSession(
            self,
            bundle,
            self._connection.index,
            template,
            node_reader(self._text_keys),
            embed=lambda template: self._embedder.embed(bundle, template, self._connection),
            texts=cursor_texts(bundle),
            config=replace(search_config, always=self._always_on(bundle, awaited=False)),
            cursor=cursor,
        )

    def _asession(
        self,
        bundle: QueryBundle,
        template: SearchQuery,
        search_config: SearchConfig,
        cursor: ReadCursor | None = None,
    ) -> AsyncRetrievalSession[NodeWithScore]:
        return AsyncObservedSession(
            self,
            bundle,
            self._connection.async_index,
            template,
            node_reader(self._text_keys),
            embed=lambda template: self._embedder.aembed(bundle, template, self._connection),
            texts=cursor_texts(bundle),
            config=replace(search_config, always=self._always_on(bundle, awaited=True)),
            cursor=cursor,
        )

    # A span of this class, because tracers tell a retrieval by the class that does it.
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

    @property
    def _plain(self) -> bool:
        """Whether one plain query answers."""
        return self._search_config.until is None and self._residual is None and not self._postprocessors

    # Blocking through and through, because LlamaIndex also calls it inside a running loop.
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._plain:
            with self._session(query_bundle, self._template, self._search_config.capped(self._cap)) as search:
                # not by its own method: the base class tells of this retrieval already
                return RetrievalSession.fetch_until(search, self._enough())
        question = self._embedder.embed(query_bundle, self._template, self._connection)
        matches = self._connection.index.query(top_k=self.similarity_top_k, **question.parameters())
        return node_reader(self._text_keys).read(matches)

    @dispatcher.span  # the base class gives one to `_retrieve` only
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._plain:
            async with self._asession(query_bundle, self._template, self._search_config.capped(self._cap)) as search:
                return await AsyncRetrievalSession.fetch_until(search, self._enough())
        question = await self._embedder.aembed(query_bundle, self._template, self._connection)
        matches = await self._connection.async_index.query(top_k=self.similarity_top_k, **question.parameters())
        return node_reader(self._text_keys).read(matches)

    def _enough(self) -> Policy | None:
        return MaxResults(self.similarity_top_k) if self._search_config.until is None else None

    def _current_connection(self) -> Connection:
        return self._connection
