"""A query engine that goes on retrieving until enough nodes have passed its postprocessors."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from llama_index.core import instrumentation
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle

from nextk.arguments import require_count
from nextk.errors import ClientError, LimitReached
from nextk.llama_index.instrumentation import announce
from nextk.llama_index.question import bundle_of
from nextk.llama_index.retriever import ResumableRetriever
from nextk.sessions import AsyncRetrievalSession, Report, RetrievalSession, SearchConfig, Shortfall
from nextk.sessions.config import MAX_PULL
from nextk.until import MaxResults, Policy

log = logging.getLogger("nextk.llama_index")
dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]


class RefillingQueryEngine(RetrieverQueryEngine):
    """A `RetrieverQueryEngine` that retrieves more nodes when its postprocessors have dropped too many.

    A similarity cutoff or a keyword filter may leave few of the nodes that were retrieved, or none, while the next
    nodes in the ranking would pass. This engine goes on with the same search until `min_nodes` have passed or there is
    nothing left.

    After every round, all nodes retrieved so far go through all postprocessors together. So the engine returns what a
    `RetrieverQueryEngine` over a retriever with a larger `similarity_top_k` would return, whether a postprocessor looks
    at each node by itself, compares nodes, or reorders them. Rounds double in size, so that all rounds together cost at
    most twice one pass over all nodes. If enough nodes pass at once, there is one round, of as many nodes as the
    retriever returns.

    The retriever's bounds hold for all rounds together: `max_results` nodes (by default 200 or as many as the first
    round needs, whichever is more), `max_pulls` pages, `deadline` seconds. If one of them ends the search before
    `min_nodes` have passed, the log warns, and tracers are told by a `ShortfallEvent`. The retriever's `until` decides
    which nodes may be retrieved at all, and how far the first round goes. After a round that a policy of scores has
    ended, there is no further round.

    Examples:
        ```python
        engine = RefillingQueryEngine.from_args(
            retriever,
            min_nodes=3,
            node_postprocessors=[KeywordNodePostprocessor(required_keywords=["harbour"])],
        )
        answer = engine.query("How busy is it?")
        ```

    Args:
        retriever: The `ResumableRetriever` whose search goes on.
        response_synthesizer: The synthesizer that makes an answer of the nodes; absent: one over `Settings.llm`.
        node_postprocessors: The postprocessors through which the nodes go, one after another.
        callback_manager: The callback manager, as for every query engine of LlamaIndex.
        min_nodes: The number of nodes that have to pass at least.

    Raises:
        ClientError: If `min_nodes` is not a whole number of at least 1, if a postprocessor never leaves so many, or if
            the retriever cannot go on.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        response_synthesizer: BaseSynthesizer | None = None,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
        callback_manager: CallbackManager | None = None,
        *,
        min_nodes: int,
    ) -> None:
        require_count(min_nodes, "min_nodes")
        for postprocessor in node_postprocessors or []:
            top_n = getattr(postprocessor, "top_n", None)
            if isinstance(top_n, int) and top_n < min_nodes:
                message = f"min_nodes={min_nodes} is never reached: {type(postprocessor).__name__} leaves {top_n}"
                raise ClientError(message)
        super().__init__(retriever, response_synthesizer, node_postprocessors, callback_manager)
        self._min_nodes = min_nodes
        self._refilling = _RefillingRetriever(
            _resumable(retriever), min_nodes, self._apply_node_postprocessors, self._async_apply_node_postprocessors
        )

    @classmethod
    def from_args(cls, retriever: BaseRetriever, *args: Any, min_nodes: int, **kwargs: Any) -> Self:  # type: ignore[override]
        """Make an engine with a response synthesizer for these arguments.

        Args:
            retriever: The `ResumableRetriever` whose search goes on.
            *args: The other positional arguments of `RetrieverQueryEngine.from_args`.
            min_nodes: The number of nodes that have to pass at least.
            **kwargs: The keyword arguments of `RetrieverQueryEngine.from_args`.
        """
        made = RetrieverQueryEngine.from_args(retriever, *args, **kwargs)
        return cls(
            retriever,
            made._response_synthesizer,  # noqa: SLF001 - of the base class
            made._node_postprocessors,  # noqa: SLF001 - of the base class
            made.callback_manager,
            min_nodes=min_nodes,
        )

    def with_retriever(self, retriever: BaseRetriever) -> Self:
        """Return an engine like this one over another retriever."""
        return type(self)(
            retriever,
            self._response_synthesizer,
            self._node_postprocessors,
            self.callback_manager,
            min_nodes=self._min_nodes,
        )

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return the nodes that have passed, as the postprocessors leave them."""
        return self._refilling.retrieve(bundle_of(query_bundle))

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return the nodes that have passed without blocking the event loop; see `retrieve`."""
        return await self._refilling.aretrieve(bundle_of(query_bundle))


def _resumable(retriever: BaseRetriever) -> ResumableRetriever:
    if not isinstance(retriever, ResumableRetriever):
        message = f"{type(retriever).__name__} cannot go on where its results end: give a ResumableRetriever"
        raise ClientError(message)
    return retriever


class _RefillingRetriever(BaseRetriever):
    """All rounds as one retrieval for tracers: one span, one pair of events, one callback."""

    def __init__(
        self,
        retriever: ResumableRetriever,
        min_nodes: int,
        process: Callable[[list[NodeWithScore], QueryBundle], list[NodeWithScore]],
        aprocess: Callable[[list[NodeWithScore], QueryBundle], Awaitable[list[NodeWithScore]]],
    ) -> None:
        super().__init__(retriever.callback_manager)
        self._retriever = retriever
        self._min_nodes = min_nodes
        self._process = process
        self._aprocess = aprocess

    # Blocking through and through, because LlamaIndex also calls it inside a running loop.
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        rounds = _RefillRounds(self._retriever, self._min_nodes)
        template = self._retriever._template  # noqa: SLF001 - of the same package
        with self._retriever._session(query_bundle, template, rounds.search_config) as search:  # noqa: SLF001
            while True:
                try:
                    page = RetrievalSession.fetch_until(
                        search, rounds.policy
                    )  # not by its own method: the rounds are one retrieval
                except LimitReached:
                    if not rounds.bounded(search.report):
                        raise
                    page = []
                if page or not rounds.count:
                    followed = self._retriever._handle_recursive_retrieval(query_bundle, page)  # noqa: SLF001
                    rounds.add(followed)
                    rounds.passed = self._process(rounds.copies(), query_bundle)
                if rounds.over(page, search.report.stop_reason) or search.exhausted:
                    announce(dispatcher, rounds.shortfall(search.report))
                    return rounds.passed

    @dispatcher.span  # the base class gives one to `_retrieve` only
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        rounds = _RefillRounds(self._retriever, self._min_nodes)
        template = self._retriever._template  # noqa: SLF001 - of the same package
        async with self._retriever._asession(query_bundle, template, rounds.search_config) as search:  # noqa: SLF001
            while True:
                try:
                    page = await AsyncRetrievalSession.fetch_until(search, rounds.policy)
                except LimitReached:
                    if not rounds.bounded(search.report):
                        raise
                    page = []
                if page or not rounds.count:
                    followed = await self._retriever._ahandle_recursive_retrieval(query_bundle, page)  # noqa: SLF001
                    rounds.add(followed)
                    rounds.passed = await self._aprocess(rounds.copies(), query_bundle)
                if rounds.over(page, search.report.stop_reason) or search.exhausted:
                    announce(dispatcher, rounds.shortfall(search.report))
                    return rounds.passed

    def _handle_recursive_retrieval(
        self,
        query_bundle: QueryBundle,  # noqa: ARG002 - the source has followed its nodes already
        nodes: list[NodeWithScore],
    ) -> list[NodeWithScore]:
        return nodes

    async def _ahandle_recursive_retrieval(
        self,
        query_bundle: QueryBundle,  # noqa: ARG002 - the source has followed its nodes already
        nodes: list[NodeWithScore],
    ) -> list[NodeWithScore]:
        return nodes


@dataclass
class _RefillRounds:
    """The nodes that were retrieved so far for one query, and the size of the next round. No I/O."""

    retriever: ResumableRetriever
    min_nodes: int
    count: int = 0  # of rounds
    passed: list[NodeWithScore] = field(default_factory=list)
    _nodes: list[NodeWithScore] = field(default_factory=list)

    def __post_init__(self) -> None:
        search_config = self.retriever._search_config  # noqa: SLF001 - of the same package
        self._cap = self.retriever._cap  # noqa: SLF001 - of the same package
        max_pulls = search_config.capped(self._cap).guards.max_pulls
        self._guards = replace(search_config.with_room_for(self._first).guards, max_pulls=max_pulls)
        self._until = search_config.until
        self._began = search_config.clock()
        self._clock = search_config.clock
        self._scores = [] if self._until is None else [leaf for leaf in self._until.leaves() if leaf.scores_only]

    @property
    def _first(self) -> int:
        return max(self.retriever.similarity_top_k, self.min_nodes)

    @property
    def search_config(self) -> SearchConfig:
        """The policy and the bounds of the search: the retriever's bounds, but for all rounds together."""
        search_config = self.retriever._search_config  # noqa: SLF001 - of the same package
        until = self._until
        if until is not None and self._cap is not None:
            until |= MaxResults(self._first)
        return replace(search_config, until=until, guards=self._guards, limits=self._guards, warns=False)

    @property
    def policy(self) -> Policy | None:
        """The policy that ends the next round; `None` leaves that to the search's own policy."""
        if not self.count:
            return MaxResults(self._first) if self._until is None else None
        policy: Policy = MaxResults(min(max(len(self._nodes), self.min_nodes), MAX_PULL))
        for leaf in self._scores:
            policy |= leaf
        return policy

    def bounded(self, report: Report) -> bool:
        """Return whether a bound keeps the search from going on."""
        seconds = self._clock() - self._began
        return self._guards.reached(results=report.kept, pulls=report.pulls, seconds=seconds) is not None

    def shortfall(self, report: Report) -> Shortfall | None:
        """Return how much all rounds have brought, and log it, if a bound has ended them before enough had passed."""
        if len(self.passed) >= self.min_nodes or report.total_shortfall is None:
            return None
        log.warning("%d nodes of %d passed: %s", len(self.passed), self.min_nodes, report.total_shortfall)
        return report.total_shortfall

    def add(self, nodes: Sequence[NodeWithScore]) -> None:
        """Add the nodes of a round. A node to which several of them lead counts once."""
        self.count += 1
        known = {node.node_id for node in self._nodes}
        self._nodes += [node for node in nodes if node.node_id not in known]

    def copies(self) -> list[NodeWithScore]:
        """Return copies of all nodes, which postprocessors may change."""
        return [node.model_copy(deep=True) for node in self._nodes]

    def over(self, page: Sequence[NodeWithScore], stop_reason: str | None) -> bool:
        """Return whether enough nodes have passed, or no more will come."""
        by_scores = stop_reason in {leaf.name for leaf in self._scores}
        return len(self.passed) >= self.min_nodes or not page or by_scores
