"""Searches of a LangChain vector store by maximal marginal relevance, which values diversity besides nearness."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from nextk.arguments import require_count, require_number
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.extras import require
from nextk.langchain.arguments import refuse_unknown
from nextk.langchain.index_store import IndexStore
from nextk.langchain.settings import DEFAULT_K, ResolvedSettings
from nextk.langchain.store_searches import Filter, dense_settings, paired, query_vector
from nextk.sessions import RetrievalMode
from nextk.types import QueryMode, QueryResult

FETCH_K = 20
"""The number of candidates by default, as everywhere in LangChain."""
LAMBDA_MULT = 0.5
"""The weight of nearness by default, as everywhere in LangChain."""

_KNOWN = ("k", "fetch_k", "lambda_mult", "filter", "namespace")
_NO_DENSE = "MMR compares dense vectors, and this store searches sparse vectors alone: make a store with embedding="
_NO_QUERY_VECTOR = (
    "MMR compares the query's vector with those of the documents, and this store has no dense model in this process "
    "to make it: make the store with embedding=, or call max_marginal_relevance_search_by_vector"
)


@dataclass(frozen=True, slots=True)
class MarginalSearch:
    """One search by maximal marginal relevance.

    Attributes:
        resolved: The settings of a search of dense vectors.
        k: The largest number of documents.
        fetch_k: The number of candidates.
        lambda_mult: The weight of nearness, 0 to 1.
    """

    resolved: ResolvedSettings[Document]
    k: int
    fetch_k: int
    lambda_mult: float

    def by_vector(self, vector: list[float]) -> list[Document]:
        """Search by a vector, float (dimension,)."""
        query = replace(self.resolved.template, vector=vector, include_vectors=True)
        return self._select(vector, self.resolved.connection.query(query, self.fetch_k))

    async def aby_vector(self, vector: list[float]) -> list[Document]:
        """Search by a vector without blocking the event loop."""
        query = replace(self.resolved.template, vector=vector, include_vectors=True)
        candidates = await self.resolved.connection.aquery(query, self.fetch_k)
        return await asyncio.to_thread(self._select, vector, candidates)

    def by_text(self, query: str) -> list[Document]:
        """Search by a text.

        Raises:
            ClientError: No model in this process embeds it.
        """
        resolved = self.resolved
        filled = resolved.embedder.embed(query, resolved.template, resolved.connection)
        if filled.vector is not None:
            return self.by_vector(filled.vector)
        embedder = resolved.connection.query_embedder()
        vector = None if embedder is None else embedder.embed_query(query, QueryMode.DENSE)[0]
        return self.by_vector(_required(vector))

    async def aby_text(self, query: str) -> list[Document]:
        """Search by a text without blocking the event loop; see `by_text`."""
        resolved = self.resolved
        filled = await resolved.embedder.aembed(query, resolved.template, resolved.connection)
        if filled.vector is not None:
            return await self.aby_vector(filled.vector)
        embedder = resolved.connection.query_embedder()
        vector = None if embedder is None else (await embedder.aembed_query(query, QueryMode.DENSE))[0]
        return await self.aby_vector(_required(vector))

    def _select(self, vector: list[float], candidates: Sequence[QueryResult]) -> list[Document]:
        """Choose among the candidates, which come with their vectors."""
        found = paired(self.resolved.reader, lambda match: match.vector or []).read(candidates)
        if not found:
            return []
        query, vectors = _comparable(vector, [numbers for _, numbers in found])
        chosen = maximal_marginal_relevance(query, vectors, self.lambda_mult, self.k)
        return [found[position][0] for position in chosen]


class MarginalSearches(IndexStore):
    """The part of the vector store that searches by maximal marginal relevance."""

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = DEFAULT_K,
        fetch_k: int = FETCH_K,
        lambda_mult: float = LAMBDA_MULT,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return documents that match a query well and differ from each other.

        The candidates are the documents whose dense vectors are nearest, also in a hybrid index; LangChain's own
        function chooses among them. Needs `pip install 'nextk[local]'` for numpy.

        Args:
            query: The text of the query.
            k: The largest number of documents.
            fetch_k: The number of candidates, at most 1,000; at least `k` are taken. The time grows with `k` squared
                times `fetch_k`: 100 out of 1,000 may take seconds.
            lambda_mult: The weight of nearness, from 0 for the greatest diversity to 1 for none.
            filter: A filter on metadata, as for `similarity_search`.
            namespace: The namespace to search; `None` for the store's own.
            **unknown: No other keyword is taken.

        Raises:
            ClientError: If a number is out of range, or if the index embeds by a model that is not in this process, so
                that the query's vector is not known.
            TypeError: If there is another keyword.
        """
        refuse_unknown("max_marginal_relevance_search", unknown, _KNOWN)
        return self._marginal_search(k, fetch_k, lambda_mult, filter, namespace).by_text(query)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = DEFAULT_K,
        fetch_k: int = FETCH_K,
        lambda_mult: float = LAMBDA_MULT,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return documents without blocking the event loop; see `max_marginal_relevance_search`."""
        refuse_unknown("amax_marginal_relevance_search", unknown, _KNOWN)
        return await self._marginal_search(k, fetch_k, lambda_mult, filter, namespace).aby_text(query)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        fetch_k: int = FETCH_K,
        lambda_mult: float = LAMBDA_MULT,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return documents that are near to a vector and differ from each other.

        Args:
            embedding: The vector, float (dimension,).
            k: The largest number of documents.
            fetch_k: The number of candidates, at most 1,000; at least `k` are taken.
            lambda_mult: The weight of nearness, from 0 for the greatest diversity to 1 for none.
            filter: A filter on metadata, as for `similarity_search`.
            namespace: The namespace to search; `None` for the store's own.
            **unknown: No other keyword is taken.
        """
        refuse_unknown("max_marginal_relevance_search_by_vector", unknown, _KNOWN)
        search = self._marginal_search(k, fetch_k, lambda_mult, filter, namespace)
        return search.by_vector(query_vector(embedding))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        fetch_k: int = FETCH_K,
        lambda_mult: float = LAMBDA_MULT,
        filter: Filter = None,
        *,
        namespace: str | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return documents without blocking the event loop; see `max_marginal_relevance_search_by_vector`."""
        refuse_unknown("amax_marginal_relevance_search_by_vector", unknown, _KNOWN)
        search = self._marginal_search(k, fetch_k, lambda_mult, filter, namespace)
        return await search.aby_vector(query_vector(embedding))

    def _marginal_search(
        self, k: int, fetch_k: int, lambda_mult: float, filter: Filter, namespace: str | None
    ) -> MarginalSearch:
        """Return the search.

        Raises:
            ClientError: A number is out of range.
        """
        require_count(k, "k")
        require_count(fetch_k, "fetch_k")
        count = max(k, fetch_k)
        if count > MAX_ROWS:
            message = (
                f"MMR compares all candidates with each other, and takes at most {MAX_ROWS:,} of them, not {count:,}"
            )
            raise ClientError(message)
        require_number(lambda_mult, "lambda_mult", 0, 1)
        resolved = self._resolve(filter, namespace)
        if resolved.embedder.mode is RetrievalMode.SPARSE and self._embeddings is None:
            raise ClientError(_NO_DENSE)
        return MarginalSearch(dense_settings(resolved), k, count, lambda_mult)


def _comparable(query: list[float], vectors: list[list[float]]) -> tuple[Any, Any]:
    """Return the vectors as arrays in which none is zero, for which LangChain's function has no cosine.

    Each vector gets two more numbers, in which zero vectors differ from all others: their cosine with these is 0.

    Args:
        query: The vector of the query, float (dimension,).
        vectors: The vectors of the candidates.

    Returns:
        The query, float (dimension + 2,), and the candidates, float (candidates, dimension + 2).
    """
    numpy: Any = require("numpy", extra="local")
    rows = numpy.pad(numpy.array(vectors, float), ((0, 0), (0, 2)))
    rows[~rows.any(axis=1), -1] = 1
    row = numpy.pad(numpy.array(query, float), (0, 2))
    if not row.any():
        row[-2] = 1
    return row, rows


def _required(vector: list[float] | None) -> list[float]:
    if vector is None:
        raise ClientError(_NO_QUERY_VECTOR)
    return vector
