"""The retriever: LlamaIndex's contract over a search that can go on."""

import functools
import operator
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

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.llama_index.filters import translate
from nextk.llama_index.mode import mode_of, top_k_of
from nextk.llama_index.narrowing import Filters, NodePostprocessors
from nextk.llama_index.nodes import node_of, nodes_of, text_of
from nextk.llama_index.observing import observed
from nextk.llama_index.origins import Origins
from nextk.llama_index.question import Embedder, bundle_of, bundle_of_put, put_of
from nextk.llama_index.sessions import AsyncObservedSession, ObservedSession
from nextk.llama_index.writing import Writing
from nextk.retrieval import AsyncRetrievalSession, Limits, Question, Reading, RetrievalMode, RetrievalSession, Terms
from nextk.retrieval.cursor import query_of
from nextk.retrieval.question import choose
from nextk.retrieval.rows import TEXT_KEYS
from nextk.retrieval.source import Closing, Source
from nextk.retrieval.terms import DEADLINE, DEFAULT_MAX_IDLE, MAX_PULLS, MAX_RESULTS, Asked
from nextk.retrieval.trail import MAX_RECOVERY
from nextk.types import FusionAlgorithm, WeightingStrategy
from nextk.until import MaxResults, Policy

dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]


class ResumableRetriever(Origins, Writing, Closing, BaseRetriever):
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
        self._embedder = Embedder(embed_model, sparse_embedding, embedding=embedding)
        narrowed = translate(filters, doc_ids, node_ids)
        self._pushed_down = narrowed.filter
        self._meant = None if narrowed.residual is None else Filters(narrowed.residual)
        self._postprocessors = list(node_postprocessors)
        self._blank = Question(
            mode=self._embedder.mode(mode_of(retrieval_mode, vector_store_query_mode, alpha)),
            filter=self._joined(filter),
            namespace=namespace,
            fusion=choose(FusionAlgorithm, fusion, "fusion"),
            weighting=choose(WeightingStrategy, weighting, "weighting"),
        )
        guards = Limits(max_results, max_pulls, deadline)
        self._terms = Terms(until, guards, max_idle=max_idle, max_recovery=max_recovery)
        self._url, self._own_filter = url, filter
        self._text_keys = [text_key] if isinstance(text_key, str) else list(text_key)
        self._cap: int | None = None
        top_k = top_k_of(similarity_top_k, hybrid_top_k, self._blank.mode)
        if top_k is not None:
            self.similarity_top_k = top_k
        self._source = Source(index, url, token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r}, similarity_top_k={self.similarity_top_k})"

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
        return self._source.blocking

    def to_config(self) -> dict[str, Any]:
        """What this retriever is set to, as JSON: `ResumableRetriever(**config, ...)` is one like it.

        It has no token and no model, no policy, no postprocessors and no `MetadataFilters`, nor where an index in this
        process is: those are given anew.
        """
        blank, terms = self._blank, self._terms
        words = {"retrieval_mode": blank.mode, "fusion": blank.fusion, "weighting": blank.weighting}
        return {
            "url": self._url,
            "similarity_top_k": self._cap,
            **{name: None if word is None else word.value.lower() for name, word in words.items()},
            "filter": self._own_filter,
            "namespace": blank.namespace,
            **asdict(terms.guards),
            "max_idle": terms.max_idle,
            "max_recovery": terms.max_recovery,
            "text_key": list(self._text_keys),
        }

    def open(
        self, query: QueryType, *, filter: str | None = None, namespace: str | None = None, **asked: Unpack[Asked]
    ) -> RetrievalSession[NodeWithScore]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The question.
            filter: Instead of the retriever's own.
            namespace: Likewise.
            **asked: `until`, instead of the retriever's own: what it does not keep, no call hands out. And bounds of
                this search as a whole, then `LimitReached`: `max_results` nodes, `max_pulls` pages, `deadline` seconds
                from the first pull. Absent: no bound, but the retriever's own on each `fetch_until`.

        Returns:
            The session; leave it by `with`, so that the index need not keep the search. An `IndexNode` comes as it is:
            only `retrieve` follows it to its object.
        """
        blank = self._within(filter, namespace)
        return self._session(bundle_of(query), blank, self._terms.within(**asked))

    def aopen(
        self, query: QueryType, *, filter: str | None = None, namespace: str | None = None, **asked: Unpack[Asked]
    ) -> AsyncRetrievalSession[NodeWithScore]:
        """The same for an event loop: `async with retriever.aopen(query) as search`."""
        blank = self._within(filter, namespace)
        return self._asession(bundle_of(query), blank, self._terms.within(**asked))

    def resume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> RetrievalSession[NodeWithScore]:
        """Go on with a search from its cursor, in any process and as often as wanted; each time the same rows come.

        Args:
            cursor: From `cursor()` or `detach()` of a session of this retriever, or of one like it.
            filter: As it was when the cursor was made, if it was not the retriever's own; a cursor holds none.
            namespace: Likewise.
            **asked: As for `open`. Nodes and pages of before count.

        Raises:
            ClientError: It is no cursor, was edited, or belongs to another index, filter, namespace, fusion or
                weighting.
        """
        blank = self._within(filter, namespace)
        return self._session(bundle_of_put(query_of(cursor)), blank, self._terms.within(**asked), cursor)

    def aresume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> AsyncRetrievalSession[NodeWithScore]:
        """The same for an event loop: `async with retriever.aresume(cursor) as search`."""
        blank = self._within(filter, namespace)
        return self._asession(bundle_of_put(query_of(cursor)), blank, self._terms.within(**asked), cursor)

    def _reading(self) -> Reading[NodeWithScore]:
        return Reading(lambda match: node_of(match, self._text_keys), text_of)

    def _joined(self, filter: str) -> str:
        """A filter of the caller's, and what is pushed down of `filters`; either may hold an OR."""
        parts = [part for part in (filter, self._pushed_down) if part]
        return parts[0] if len(parts) == 1 else " AND ".join(f"({part})" for part in parts)

    def _within(self, filter: str | None, namespace: str | None) -> Question:
        return self._blank.within(filter=None if filter is None else self._joined(filter), namespace=namespace)

    def _always(self, bundle: QueryBundle, *, native: bool) -> Policy | None:
        """What has to be checked here of every row."""
        policies: list[Policy] = [] if self._meant is None else [self._meant]
        if self._postprocessors:
            policies.append(NodePostprocessors(self._postprocessors, bundle, native))
        return functools.reduce(operator.or_, policies) if policies else None

    def _session(
        self, bundle: QueryBundle, blank: Question, terms: Terms, cursor: Mapping[str, Any] | None = None
    ) -> RetrievalSession[NodeWithScore]:
        return ObservedSession(
            self,
            bundle,
            self._source.blocking,
            blank,
            self._reading(),
            embed=lambda asked: self._embedder.embed(bundle, asked, self._source),
            query=put_of(bundle),
            terms=replace(terms, always=self._always(bundle, native=False)),
            cursor=cursor,
        )

    def _asession(
        self, bundle: QueryBundle, blank: Question, terms: Terms, cursor: Mapping[str, Any] | None = None
    ) -> AsyncRetrievalSession[NodeWithScore]:
        return AsyncObservedSession(
            self,
            bundle,
            self._source.native,
            blank,
            self._reading(),
            embed=lambda asked: self._embedder.aembed(bundle, asked, self._source),
            query=put_of(bundle),
            terms=replace(terms, always=self._always(bundle, native=True)),
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
        return self._terms.until is None and self._meant is None and not self._postprocessors

    # Blocking through and through, because LlamaIndex also calls it inside a running loop.
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._plain:
            with self._session(query_bundle, self._blank, self._terms.capped(self._cap)) as search:
                # not by its own method: the base class tells of this retrieval already
                return RetrievalSession.fetch_until(search, self._enough())
        question = self._embedder.embed(query_bundle, self._blank, self._source)
        matches = self._source.blocking.query(top_k=self.similarity_top_k, **question.parameters())
        return nodes_of(matches, self._text_keys)

    @dispatcher.span  # the base class gives one to `_retrieve` only
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._plain:
            async with self._asession(query_bundle, self._blank, self._terms.capped(self._cap)) as search:
                return await AsyncRetrievalSession.fetch_until(search, self._enough())
        question = await self._embedder.aembed(query_bundle, self._blank, self._source)
        matches = await self._source.native.query(top_k=self.similarity_top_k, **question.parameters())
        return nodes_of(matches, self._text_keys)

    def _enough(self) -> Policy | None:
        return MaxResults(self.similarity_top_k) if self._terms.until is None else None

    def _searched(self) -> Source:
        return self._source
