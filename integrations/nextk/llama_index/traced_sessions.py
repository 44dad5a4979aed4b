"""Sessions whose every call LlamaIndex's tracers and callbacks see as a retrieval."""

from typing import TYPE_CHECKING, Any

from llama_index.core.schema import NodeWithScore, QueryBundle

from nextk.sessions import AsyncRetrievalSession, RetrievalSession
from nextk.until import Policy

if TYPE_CHECKING:
    from nextk.llama_index.retriever import ResumableRetriever


class ObservedSession(RetrievalSession[NodeWithScore]):
    """A search whose calls go through its retriever, because tracers tell a retrieval by the class that does it.

    Args:
        retriever: Whose search it is.
        query_bundle: The question.
        *args: As for `RetrievalSession`.
        **kwargs: Likewise.
    """

    def __init__(self, retriever: "ResumableRetriever", query_bundle: QueryBundle, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._retriever = retriever
        self._query_bundle = query_bundle

    def fetch_next(self, n: int) -> list[NodeWithScore]:
        """As `RetrievalSession.fetch_next`, seen by tracers."""
        return self._retriever._pull(self._query_bundle, self, super().fetch_next, n)  # noqa: SLF001 - its other half

    def fetch_until(self, policy: Policy | None = None) -> list[NodeWithScore]:
        """As `RetrievalSession.fetch_until`, seen by tracers."""
        return self._retriever._pull(self._query_bundle, self, super().fetch_until, policy)  # noqa: SLF001 - likewise

    def _fetch_one(self) -> list[NodeWithScore]:
        return self._retriever._pull(self._query_bundle, self, super()._fetch_one)  # noqa: SLF001 - likewise


class AsyncObservedSession(AsyncRetrievalSession[NodeWithScore]):
    """The same for an event loop.

    Args:
        retriever: Whose search it is.
        query_bundle: The question.
        *args: As for `AsyncRetrievalSession`.
        **kwargs: Likewise.
    """

    def __init__(self, retriever: "ResumableRetriever", query_bundle: QueryBundle, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._retriever = retriever
        self._query_bundle = query_bundle

    async def fetch_next(self, n: int) -> list[NodeWithScore]:
        """As `AsyncRetrievalSession.fetch_next`, seen by tracers."""
        return await self._retriever._apull(self._query_bundle, self, super().fetch_next, n)  # noqa: SLF001 - its other half

    async def fetch_until(self, policy: Policy | None = None) -> list[NodeWithScore]:
        """As `AsyncRetrievalSession.fetch_until`, seen by tracers."""
        return await self._retriever._apull(self._query_bundle, self, super().fetch_until, policy)  # noqa: SLF001 - likewise

    async def _fetch_one(self) -> list[NodeWithScore]:
        return await self._retriever._apull(self._query_bundle, self, super()._fetch_one)  # noqa: SLF001 - likewise
