"""A query of LangChain's as an index takes it: as text or as vectors, depending on who embeds."""

from dataclasses import replace
from typing import Any, Literal

from langchain_core.embeddings import Embeddings

from nextk.errors import ClientError
from nextk.retrievers.connection import Connection
from nextk.retrievers.source_connection import SourceConnection
from nextk.retrievers.sparse_model import SparseQueryModel
from nextk.retrievers.writing import dense_vector_of
from nextk.sessions import RetrievalMode, SearchQuery, resolve_mode
from nextk.sessions.query import require_text

_NO_MODEL = (
    "this index embeds no text for such a search: pass embedding= (a LangChain Embeddings), sparse_embedding=, or both"
)


class Embedder:
    """Embeds queries by the models of a LangChain retriever, or leaves that to the index where there are none.

    Its twin of the same name in `nextk.llama_index` does this by LlamaIndex's models and settings.

    Args:
        embedding: The dense model; `True` if the index embeds the text.
        sparse_embedding: The sparse model, of any kind that `SparseQueryModel` takes.
        retrieval_mode: The mode that the retriever is set to; `None` for the mode that the models allow.

    Attributes:
        mode: The mode of a search, as `resolve_mode` decides it; `None` leaves it to the index.

    Raises:
        ClientError: If the mode needs a model that is missing, if the index is to embed although there is a sparse
            model, or if the sparse model is of no known kind.
    """

    def __init__(
        self,
        embedding: Embeddings | Literal[True] | None,
        sparse_embedding: Any,
        retrieval_mode: RetrievalMode | None = None,
    ) -> None:
        self._dense = embedding if isinstance(embedding, Embeddings) else None
        self._sparse = None if sparse_embedding is None else SparseQueryModel(sparse_embedding)
        self._index_embeds = embedding is True
        if self._index_embeds and self._sparse is not None:
            message = "embedding=True leaves all embedding to the index: leave out sparse_embedding="
            raise ClientError(message)
        self.mode = self._resolve(retrieval_mode)

    def embed(self, query: str, template: SearchQuery, connection: Connection | SourceConnection) -> SearchQuery:
        """Fill a query in.

        Args:
            query: The text of the query.
            template: The mode, the filter and everything else that the search has besides the query.
            connection: The connection to the index. Where there is no model, or no weighting is set, the index is
                asked once whether it embeds text, and which weighting it wants.

        Returns:
            The template with the text, or with the vectors that its mode needs, and with the weighting.

        Raises:
            ClientError: If the query is empty, if nobody embeds it, or if its mode needs a model that is missing.
        """
        dense, sparse = self._models(template.mode)
        require_text(query)
        if dense is None and sparse is None:
            if not self._index_embeds and not connection.embeds_text(template.mode):
                raise ClientError(_NO_MODEL)
            return connection.with_weighting(replace(template, data=query))
        filled = replace(
            template,
            vector=None if dense is None else dense_vector_of(dense.embed_query(query), "embedding"),
            sparse_vector=None if sparse is None else sparse.embed(query),
        )
        return connection.with_weighting(filled)

    async def aembed(self, query: str, template: SearchQuery, connection: Connection | SourceConnection) -> SearchQuery:
        """Fill a query in without blocking the event loop; see `embed`."""
        dense, sparse = self._models(template.mode)
        require_text(query)
        if dense is None and sparse is None:
            if not self._index_embeds and not await connection.aembeds_text(template.mode):
                raise ClientError(_NO_MODEL)
            return await connection.awith_weighting(replace(template, data=query))
        filled = replace(
            template,
            vector=None if dense is None else dense_vector_of(await dense.aembed_query(query), "embedding"),
            sparse_vector=None if sparse is None else await sparse.aembed(query),
        )
        return await connection.awith_weighting(filled)

    def _models(self, mode: RetrievalMode | None) -> tuple[Embeddings | None, SparseQueryModel | None]:
        """Return the dense and the sparse model that a search in a mode needs; neither where the index embeds."""
        if mode is not self.mode:  # `widen` has asked for another mode than the retriever's
            mode = self._resolve(mode)
        dense = self._dense if mode is None or mode.dense else None
        sparse = self._sparse if mode is None or mode.sparse else None
        return dense, sparse

    def _resolve(self, mode: RetrievalMode | None) -> RetrievalMode | None:
        return resolve_mode(
            mode,
            dense=self._dense is not None,
            sparse=self._sparse is not None,
            dense_name="embedding",
            sparse_name="sparse_embedding",
        )
