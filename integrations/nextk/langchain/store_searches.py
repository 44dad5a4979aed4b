"""The searches of a LangChain vector store over an index: by text and by vector, with scores and without."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from langchain_core.documents import Document

from nextk.arguments import require_count, written
from nextk.errors import ClientError
from nextk.langchain.arguments import refuse_unknown
from nextk.langchain.index_store import IndexStore
from nextk.langchain.settings import DEFAULT_K, ResolvedSettings
from nextk.sessions import RetrievalMode, RowReader, SearchConfig
from nextk.types import QueryResult

Filter = str | Mapping[str, Any] | None
"""A filter on metadata: a dict, a text in the language of the index, or `None` for none."""

ScoredDocument = tuple[Document, float]

_T = TypeVar("_T")
_SEARCH = ("k", "filter", "namespace")
NO_RELEVANCE = (
    "relevance scores, between 0 and 1, are those of dense vectors, and this store searches sparse vectors alone: "
    "call similarity_search_with_score, whose scores have no bound, or make a store that searches dense vectors"
)


@dataclass(frozen=True, slots=True)
class DocumentSearch:
    """One search of the store: one plain query, or pages where that brings too few.

    Attributes:
        resolved: The settings, whose reader keeps the score of each document.
        k: The largest number of documents.
        paging: The bounds of a search that goes on page by page; `None` for one plain query.
    """

    resolved: ResolvedSettings[ScoredDocument]
    k: int
    paging: SearchConfig | None

    def run(self, query: str) -> list[ScoredDocument]:
        """Search.

        Args:
            query: The text of the query; not read if the settings hold a vector.
        """
        if self.paging is not None:
            with self.resolved.session(query, self.paging) as session:
                return session.fetch_until()
        return self.resolved.search(query, self.k)

    async def arun(self, query: str) -> list[ScoredDocument]:
        """Search without blocking the event loop; see `run`."""
        if self.paging is not None:
            async with self.resolved.async_session(query, self.paging) as session:
                return await session.fetch_until()
        return await self.resolved.asearch(query, self.k)


class Searches(IndexStore):
    """The part of the vector store that searches. Every method has a twin that does not block the event loop."""

    def similarity_search(
        self, query: str, k: int = DEFAULT_K, filter: Filter = None, *, namespace: str | None = None, **unknown: Any
    ) -> list[Document]:
        """Return the documents that match a query best.

        Args:
            query: The text of the query.
            k: The largest number of documents; above 1,000 they are pulled page by page.
            filter: A filter on metadata: a dict such as `{"lang": "de", "year": {"$gt": 2020}}`, or a text in the
                language of the index such as `"lang = 'de' AND year > 2020"`; `None` for none.
            namespace: The namespace to search; `None` for the store's own.
            **unknown: No other keyword is taken.

        Raises:
            ClientError: If the query is empty, if nobody embeds it, or if the filter cannot be written.
            TypeError: If there is another keyword.
        """
        refuse_unknown("similarity_search", unknown, _SEARCH)
        return _documents(self._search(k, filter, namespace).run(query))

    async def asimilarity_search(
        self, query: str, k: int = DEFAULT_K, filter: Filter = None, *, namespace: str | None = None, **unknown: Any
    ) -> list[Document]:
        """Return the documents that match a query best without blocking the event loop; see `similarity_search`."""
        refuse_unknown("asimilarity_search", unknown, _SEARCH)
        return _documents(await self._search(k, filter, namespace).arun(query))

    def similarity_search_with_score(
        self, query: str, k: int = DEFAULT_K, filter: Filter = None, *, namespace: str | None = None, **unknown: Any
    ) -> list[ScoredDocument]:
        """Return the documents that match a query best, each with its score as the index gives it; higher is better.

        Scores of a dense search are between 0 and 1 (by dot product: if the vectors have the length 1), those of a
        sparse search have no bound, and those of a hybrid search are made of ranks.
        `similarity_search_with_relevance_scores` gives comparable ones.

        Args:
            query: The text of the query.
            k: The largest number of documents.
            filter: A filter on metadata, as for `similarity_search`.
            namespace: The namespace to search; `None` for the store's own.
            **unknown: No other keyword is taken.
        """
        refuse_unknown("similarity_search_with_score", unknown, _SEARCH)
        return self._search(k, filter, namespace).run(query)

    async def asimilarity_search_with_score(
        self, query: str, k: int = DEFAULT_K, filter: Filter = None, *, namespace: str | None = None, **unknown: Any
    ) -> list[ScoredDocument]:
        """Return documents with their scores without blocking the event loop; see `similarity_search_with_score`."""
        refuse_unknown("asimilarity_search_with_score", unknown, _SEARCH)
        return await self._search(k, filter, namespace).arun(query)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return the documents whose dense vectors are nearest to a vector.

        Args:
            embedding: The vector, float (dimension,).
            k: The largest number of documents.
            filter: A filter on metadata, as for `similarity_search`.
            namespace: The namespace to search; `None` for the store's own.
            **unknown: No other keyword is taken.
        """
        refuse_unknown("similarity_search_by_vector", unknown, _SEARCH)
        return _documents(self._search_by_vector(embedding, k, filter, namespace).run(""))

    async def asimilarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return the nearest documents without blocking the event loop; see `similarity_search_by_vector`."""
        refuse_unknown("asimilarity_search_by_vector", unknown, _SEARCH)
        return _documents(await self._search_by_vector(embedding, k, filter, namespace).arun(""))

    def similarity_search_by_vector_with_score(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[ScoredDocument]:
        """Return the documents nearest to a vector with their scores; see `similarity_search_by_vector`."""
        refuse_unknown("similarity_search_by_vector_with_score", unknown, _SEARCH)
        return self._search_by_vector(embedding, k, filter, namespace).run("")

    async def asimilarity_search_by_vector_with_score(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[ScoredDocument]:
        """Return the documents nearest to a vector with their scores; see `similarity_search_by_vector`."""
        refuse_unknown("asimilarity_search_by_vector_with_score", unknown, _SEARCH)
        return await self._search_by_vector(embedding, k, filter, namespace).arun("")

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = DEFAULT_K, filter: Filter = None, namespace: str | None = None, **unknown: Any
    ) -> list[ScoredDocument]:
        """Return documents with scores between 0 and 1: those of the dense half of a hybrid index.

        LangChain's public methods add `score_threshold` to this.
        """
        refuse_unknown("similarity_search_with_relevance_scores", unknown, (*_SEARCH, "score_threshold"))
        search = self._dense_search(k, filter, namespace)
        if search.resolved.embedder.mode is None and self._connection.embeds_sparsely_alone():
            raise ClientError(NO_RELEVANCE)
        return search.run(query)

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = DEFAULT_K, filter: Filter = None, namespace: str | None = None, **unknown: Any
    ) -> list[ScoredDocument]:
        refuse_unknown("asimilarity_search_with_relevance_scores", unknown, (*_SEARCH, "score_threshold"))
        search = self._dense_search(k, filter, namespace)
        if search.resolved.embedder.mode is None and await self._connection.aembeds_sparsely_alone():
            raise ClientError(NO_RELEVANCE)
        return await search.arun(query)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return float  # the scores of a dense search are relevance scores already

    def _search(self, k: int, filter: Filter, namespace: str | None) -> DocumentSearch:
        """Return a search in the store's own mode."""
        require_count(k, "k")
        resolved = self._resolve(filter, namespace)
        scored = resolved.reading_by(paired(resolved.reader, lambda match: match.score))
        return DocumentSearch(scored, k, self._retriever._one_call_config(k, {}))  # noqa: SLF001 - as in the base class

    def _dense_search(self, k: int, filter: Filter, namespace: str | None) -> DocumentSearch:
        """Return a search of the dense vectors alone, also over a hybrid index.

        Raises:
            ClientError: The store is one of sparse vectors.
        """
        search = self._search(k, filter, namespace)
        if search.resolved.embedder.mode is RetrievalMode.SPARSE:
            raise ClientError(NO_RELEVANCE)
        return replace(search, resolved=dense_settings(search.resolved))

    def _search_by_vector(
        self, embedding: list[float], k: int, filter: Filter, namespace: str | None
    ) -> DocumentSearch:
        """Return a search by a dense vector of the caller's."""
        search = self._search(k, filter, namespace)
        resolved = dense_settings(search.resolved)
        template = replace(resolved.template, vector=query_vector(embedding))
        return replace(search, resolved=replace(resolved, template=template))


def dense_settings(resolved: ResolvedSettings[_T]) -> ResolvedSettings[_T]:
    """Return the settings of a search of the dense vectors alone, in which nothing is fused and no term is weighed."""
    template = replace(
        resolved.template, mode=RetrievalMode.DENSE, fusion=None, weighting=None, weighting_of_index=False
    )
    return replace(resolved, template=template)


def query_vector(given: object) -> list[float]:
    """Return a vector that a caller searches by.

    Args:
        given: The numbers, in any iterable.

    Raises:
        ClientError: It is no list of finite numbers.
    """
    try:
        vector = None if isinstance(given, str | bytes | Mapping) else list(map(float, given))  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        vector = None
    if vector is None or not all(map(math.isfinite, vector)):
        message = f"embedding={written(given)} has to be a vector, a list of finite numbers"
        raise ClientError(message)
    return vector


def paired(reader: RowReader[Document], value_of: Callable[[QueryResult], _T]) -> RowReader[tuple[Document, _T]]:
    """Return a reader that makes a match into its document and one value of the match.

    Args:
        reader: The reader that makes the document.
        value_of: A function that returns the value of a match, such as its score.
    """

    def convert(match: QueryResult) -> tuple[Document, _T] | None:
        document = reader.convert(match)
        return None if document is None else (document, value_of(match))

    return RowReader(convert, lambda pair: reader.text_of(pair[0]), reader.text_keys)


def _documents(scored: list[ScoredDocument]) -> list[Document]:
    return [document for document, _ in scored]
