"""Streaming in LangChain's sense: pages of one search, pulled lazily, each a list of documents and a run of its own."""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, TypeAlias, Unpack
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from nextk.errors import LimitReached
from nextk.langchain.settings import DEFAULT_K, ResolvedSettings, Settings
from nextk.langchain.tracing import Tracing
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, SearchConfig, Shortfall
from nextk.sessions.config import Overrides

log = logging.getLogger("nextk.langchain")

DocumentPage: TypeAlias = list[Document]
_Search: TypeAlias = RetrievalSession[Document] | AsyncRetrievalSession[Document]


@dataclass(frozen=True)
class _StreamPlan:
    """The settings of one stream.

    Attributes:
        resolved: The fields of the retriever, as the stream finds them.
        search_config: The policy and the bounds of the stream.
        size: The number of documents of a page; `None` leaves it to the policy.
        tracing: What the runs of the pages have in common.
    """

    resolved: ResolvedSettings[Document]
    search_config: SearchConfig
    size: int | None
    tracing: Tracing

    def over(self, search: _Search, began: float) -> bool:
        """Return whether the stream ends here, because nothing is left or a bound is reached."""
        report = search.report
        pulls = 0 if report.waiting else report.pulls  # matches that were pulled already are still handed out
        seconds = self.search_config.clock() - began
        bound = self.search_config.limits.reached(results=report.kept, pulls=pulls, seconds=seconds)
        return search.exhausted or bound is not None

    def shortfall(self, search: _Search) -> Shortfall | None:
        """Return how much a page has that a limit has ended before the policy had enough; `None` without a policy."""
        return search.report.shortfall if self.size is None else None

    def shortfall_at_the_end(self, search: _Search) -> Shortfall | None:
        """Return how much a stream with a policy has brought that ends because a bound leaves no page, and log it."""
        shortfall = search.report.total_shortfall if self.size is None else None
        if shortfall is not None:
            log.warning("%s", shortfall)
        return shortfall


class Streaming(Settings):
    """The part of the retriever that streams."""

    def stream(self, input: str, config: RunnableConfig | None = None, **overrides: Any) -> Iterator[DocumentPage]:
        """Stream the pages of one search, each pulled when the loop asks for it; leaving the loop stops the search.

        Args:
            input: The text of the query.
            config: The config under which each page is a retriever run. Its `run_id` becomes the id of the first run.
            **overrides: Settings of this stream alone. `k` is the number of documents of a page; without it, a page has
                as many as `invoke` returns. With a policy, a page is what `fetch_until` brings, and has at most `k`
                documents if that is set. `filter`, `namespace` and `until` replace the retriever's own. The stream
                ends after `max_results` documents (without it: the retriever's own, by default 200 or one page,
                whichever is more), `max_pulls` pulls or `deadline` seconds.

        Returns:
            An iterator of pages, none of them empty. Within a chain, the retriever passes on one page alone, which is
            what `invoke` returns.

        Raises:
            TypeError: If another keyword argument is given.
        """
        return self._pages(self._plan(input, config, **overrides))

    def astream(
        self, input: str, config: RunnableConfig | None = None, **overrides: Any
    ) -> AsyncIterator[DocumentPage]:
        """Stream the pages of one search in an event loop; see `stream`.

        Leaving the loop early stops the search soon after; `aclose()` on the iterator waits until it has stopped.
        """
        return self._apages(self._plan(input, config, **overrides))

    # In a chain, LangChain adds the parts of an answer up for the next step: many pages would fill a prompt to which
    # `invoke` gives k documents.
    def transform(
        self, input: Iterator[str], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[DocumentPage]:
        """Yield what `invoke` returns, as one part, so that a chain answers the same, streamed or not."""
        if parts := list(input):
            yield self.invoke(reduce(add, parts), config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[str], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[DocumentPage]:
        """Yield what `ainvoke` returns, as one part, so that a chain answers the same, streamed or not."""
        if parts := [part async for part in input]:
            yield await self.ainvoke(reduce(add, parts), config, **kwargs)

    def _pages(self, plan: _StreamPlan) -> Iterator[DocumentPage]:
        with plan.resolved.session(plan.tracing.query, plan.search_config) as search:
            began = plan.search_config.clock()
            while not plan.over(search, began):
                with plan.tracing.run() as run:
                    try:
                        page = search.fetch_until() if plan.size is None else search.fetch_next(plan.size)
                    except LimitReached:
                        if not plan.over(search, began):
                            raise
                        run.shortfall = plan.shortfall_at_the_end(search)
                        return
                    run.documents, run.shortfall = page, plan.shortfall(search)
                    if page and run.followed:  # which needs the page to come while the run lasts
                        yield from reduce(lambda pages, tap: tap(run.run_id, pages), run.taps("iter"), iter([page]))
                        continue
                if not page:
                    return
                yield page

    async def _apages(self, plan: _StreamPlan) -> AsyncIterator[DocumentPage]:
        async with plan.resolved.async_session(plan.tracing.query, plan.search_config) as search:
            began = plan.search_config.clock()
            while not plan.over(search, began):
                async with plan.tracing.arun() as run:
                    try:
                        page = await (search.fetch_until() if plan.size is None else search.fetch_next(plan.size))
                    except LimitReached:
                        if not plan.over(search, began):
                            raise
                        run.shortfall = plan.shortfall_at_the_end(search)
                        return
                    run.documents, run.shortfall = page, plan.shortfall(search)
                    if page and run.followed:
                        async for seen in reduce(
                            lambda pages, tap: tap(run.run_id, pages), run.taps("aiter"), _alone(page)
                        ):
                            yield seen
                        continue
                if not page:
                    return
                yield page

    def _plan(
        self,
        query: str,
        config: RunnableConfig | None,
        *,
        k: int | None = None,
        filter: Any = None,
        namespace: str | None = None,
        run_id: UUID | None = None,
        **overrides: Unpack[Overrides],
    ) -> _StreamPlan:
        k = self._resolve_k(k)
        search_config = self._search_config(overrides)
        if search_config.limits.max_results is None:  # a chain that drains the stream must not drain the index
            bound = search_config.with_room_for(k or DEFAULT_K).guards.max_results
            search_config = replace(search_config, limits=replace(search_config.limits, max_results=bound))
        size = (DEFAULT_K if k is None else k) if search_config.until is None else None
        tracing = self._tracing(query, config, run_id)
        given = [name for name, value in overrides.items() if value is not None]
        return _StreamPlan(self._resolve(filter, namespace), search_config.capped(k, given), size, tracing)


async def _alone(page: DocumentPage) -> AsyncIterator[DocumentPage]:
    yield page
