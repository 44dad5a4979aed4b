"""A question of LangChain's as an index takes it: who embeds."""

from dataclasses import replace
from typing import Any, Literal

from langchain_core.embeddings import Embeddings

from nextk.errors import ClientError
from nextk.retrievers.connection import Connection
from nextk.retrievers.sparse_model import SparseQueryModel
from nextk.sessions import RetrievalMode, SearchQuery, resolve_mode
from nextk.sessions.query import require_text

_NO_MODEL = (
    "this index embeds no text for such a search: pass embedding= (a LangChain Embeddings), sparse_embedding=, or both"
)


class Embedder:
    """Gives a question its text or its vectors: by the models, if there are any, else by the index.

    Args:
        embedding: The dense model; or `True`: the index embeds the text.
        sparse_embedding: The sparse model, of any kind that `SparseQueryModel` takes.

    Raises:
        ClientError: The index is to embed and there is a sparse model, or that is of no known kind.
    """

    def __init__(self, embedding: Embeddings | Literal[True] | None, sparse_embedding: Any) -> None:
        self._dense = embedding if isinstance(embedding, Embeddings) else None
        self._sparse = None if sparse_embedding is None else SparseQueryModel(sparse_embedding)
        self._index_embeds = embedding is True
        if self._index_embeds and self._sparse is not None:
            message = "embedding=True leaves all embedding to the index: leave out sparse_embedding="
            raise ClientError(message)

    def mode(self, requested: RetrievalMode | None) -> RetrievalMode | None:
        """The mode of a search by these models, as `resolve_mode` decides it.

        Raises:
            ClientError: The mode needs a model that is missing.
        """
        return resolve_mode(
            requested,
            dense=self._dense is not None,
            sparse=self._sparse is not None,
            dense_name="embedding",
            sparse_name="sparse_embedding",
        )

    def embed(self, query: str, template: SearchQuery, connection: Connection) -> SearchQuery:
        """Fill in a question.

        Args:
            query: What is asked.
            template: The mode, and all else that the search is to have.
            connection: The index; asked, once, whether it embeds text, where there is no model.

        Raises:
            ClientError: The question is empty, or nobody embeds it.
        """
        require_text(query)
        mode = self.mode(template.mode)
        dense, sparse = self._models(mode)
        if dense is None and sparse is None:
            if not self._index_embeds and not connection.embeds_text(mode):
                raise ClientError(_NO_MODEL)
            return replace(template, data=query, mode=mode)
        return replace(
            template,
            mode=mode,
            vector=None if dense is None else list(map(float, dense.embed_query(query))),
            sparse_vector=None if sparse is None else sparse.embed([query]),
        )

    async def aembed(self, query: str, template: SearchQuery, connection: Connection) -> SearchQuery:
        """The same without blocking the event loop."""
        require_text(query)
        mode = self.mode(template.mode)
        dense, sparse = self._models(mode)
        if dense is None and sparse is None:
            if not self._index_embeds and not await connection.aembeds_text(mode):
                raise ClientError(_NO_MODEL)
            return replace(template, data=query, mode=mode)
        return replace(
            template,
            mode=mode,
            vector=None if dense is None else list(map(float, await dense.aembed_query(query))),
            sparse_vector=None if sparse is None else await sparse.aembed([query]),
        )

    def _models(self, mode: RetrievalMode | None) -> tuple[Embeddings | None, SparseQueryModel | None]:
        """The models that a search in a mode needs; neither where the index embeds."""
        dense = self._dense if mode is None or mode.dense else None
        sparse = self._sparse if mode is None or mode.sparse else None
        return dense, sparse
