"""Pages as LangChain streams them: lazily, each a list of documents, each a run of its own."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Unpack
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from nextk.errors import LimitReached
from nextk.langchain.settings import DEFAULT_K, ResolvedSettings, Settings
from nextk.langchain.tracing import Tracing
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, SearchConfig
from nextk.sessions.config import Overrides

Page = list[Document]


@dataclass(frozen=True)
class _StreamPlan:
    """What pages a stream has, and when it ends."""

    resolved: ResolvedSettings
    search_config: SearchConfig
    size: int | None
    tracing: Tracing

    def over(self, search: RetrievalSession[Document] | AsyncRetrievalSession[Document], began: float) -> bool:
        """Whether no further page is wanted: nothing is left, or a bound is reached."""
        report = search.report
        pulls = 0 if report.waiting else report.pulls  # what has been pulled is handed out
        seconds = self.search_config.clock() - began
        bound = self.search_config.limits.reached(results=report.kept, pulls=pulls, seconds=seconds)
        return search.exhausted or bound is not None


class Streaming(Settings):
    """What hands out page after page."""

    def stream(self, input: str, config: RunnableConfig | None = None, **overrides: Any) -> Iterator[Page]:
        """Page after page of one search, each pulled when it is asked for; leaving the loop stops the search.

        Args:
            input: The question.
            config: Each page is a retriever run under it; its `run_id` is that of the first one.
            **overrides: `k`, how many documents a page holds; absent: as many as `invoke` returns. With a policy, a
                page is what `fetch_until` brings, at most `k` documents if that is set. `filter`, `namespace` and
                `until`, instead of the retriever's own. And bounds of the whole stream: it ends after `max_results`
                documents (absent: the retriever's own, 200), `max_pulls` pulls or `deadline` seconds.

        Returns:
            Pages, none of them empty. Within a chain a retriever hands on only the first of them, as `invoke` does.

        Raises:
            TypeError: Another keyword argument is given.
        """
        return self._pages(self._plan(input, config, **overrides))

    def astream(self, input: str, config: RunnableConfig | None = None, **overrides: Any) -> AsyncIterator[Page]:
        """The same for an event loop. Leaving the loop early stops the search soon; `aclose()` waits for it."""
        return self._apages(self._plan(input, config, **overrides))

    # In a chain, parts of an answer are added up for whoever comes next: pages without end would fill a prompt that
    # `invoke` fills with k documents.
    def transform(self, input: Iterator[str], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Page]:
        """What `invoke` returns, as one part: a chain answers the same, streamed or not."""
        if parts := list(input):
            yield self.invoke(reduce(add, parts), config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[str], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Page]:
        """The same for an event loop."""
        if parts := [part async for part in input]:
            yield await self.ainvoke(reduce(add, parts), config, **kwargs)

    def _pages(self, plan: _StreamPlan) -> Iterator[Page]:
        with plan.resolved.session(plan.tracing.query, plan.search_config) as search:
            began = plan.search_config.clock()
            while not plan.over(search, began):
                with plan.tracing.run() as run:
                    try:
                        page = search.fetch_until() if plan.size is None else search.fetch_next(plan.size)
                    except LimitReached:
                        if not plan.over(search, began):
                            raise
                        return
                    run.documents = page
                    if page and run.followed:  # which needs the page to come while the run lasts
                        yield from reduce(lambda pages, tap: tap(run.run_id, pages), run.taps("iter"), iter([page]))
                        continue
                if not page:
                    return
                yield page

    async def _apages(self, plan: _StreamPlan) -> AsyncIterator[Page]:
        async with plan.resolved.async_session(plan.tracing.query, plan.search_config) as search:
            began = plan.search_config.clock()
            while not plan.over(search, began):
                async with plan.tracing.arun() as run:
                    try:
                        page = await (search.fetch_until() if plan.size is None else search.fetch_next(plan.size))
                    except LimitReached:
                        if not plan.over(search, began):
                            raise
                        return
                    run.documents = page
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
        filter: str | None = None,
        namespace: str | None = None,
        run_id: UUID | None = None,
        **overrides: Unpack[Overrides],
    ) -> _StreamPlan:
        k = self._resolve_k(k)
        search_config = self._search_config(overrides)
        if search_config.limits.max_results is None:  # a chain that drains the stream must not drain the index
            search_config = replace(search_config, limits=replace(search_config.limits, max_results=self.max_results))
        size = (DEFAULT_K if k is None else k) if search_config.until is None else None
        tracing = self._tracing(query, config, run_id)
        return _StreamPlan(self._resolve(filter, namespace), search_config.capped(k), size, tracing)


async def _alone(page: Page) -> AsyncIterator[Page]:
    yield page
