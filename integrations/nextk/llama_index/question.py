"""A question of LlamaIndex's as an index takes it: query bundles, and who embeds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import QueryBundle, QueryType
from llama_index.core.settings import Settings

from nextk.errors import ClientError
from nextk.retrievers.connection import Connection
from nextk.retrievers.sparse_model import SparseQueryModel
from nextk.retrievers.writing import aembed_sparsely, embed_sparsely
from nextk.sessions import RetrievalMode, SearchQuery, resolve_mode
from nextk.types import SparseVector


class Embedder:
    """Gives a question its text or its vectors: by the models, if there are any, else by the index or the settings.

    Args:
        embed_model: The dense model.
        sparse_embedding: The sparse model, of any kind that `SparseQueryModel` takes.
        embedding: `True`: the index embeds the text.

    Raises:
        ClientError: The index is to embed and there is a model, or the sparse one is of no known kind.
    """

    def __init__(
        self, embed_model: BaseEmbedding | None, sparse_embedding: Any, *, embedding: Literal[True] | None
    ) -> None:
        if embedding is not None and (embed_model is not None or sparse_embedding is not None):
            message = "embedding=True leaves all embedding to the index: leave out embed_model= and sparse_embedding="
            raise ClientError(message)
        self._dense = embed_model
        self._sparse_given = sparse_embedding
        self._sparse = None if sparse_embedding is None else SparseQueryModel(sparse_embedding)
        self._index_embeds = embedding is not None

    def mode(self, requested: RetrievalMode | None) -> RetrievalMode | None:
        """The mode of a search by these models, as `resolve_mode` decides it.

        Raises:
            ClientError: The mode needs a model that is missing.
        """
        return resolve_mode(
            requested,
            dense=self._dense is not None,
            sparse=self._sparse is not None,
            dense_name="embed_model",
            sparse_name="sparse_embedding",
        )

    def embed(self, bundle: QueryBundle, template: SearchQuery, connection: Connection) -> SearchQuery:
        """Fill in a question.

        Args:
            bundle: What is asked; a vector that it has already is used.
            template: The mode, and all else that the search is to have.
            connection: The index; asked, once, whether it embeds text, where there is no model.

        Raises:
            ClientError: The question is empty, or nobody embeds it.
        """
        if not self._given and (self._index_embeds or connection.embeds_text(template.mode)):
            return replace(template, data=single_text(bundle))
        vector = sparse_vector = None
        if _needs_dense(template):
            vector = bundle.embedding or self._dense_model().get_agg_embedding_from_queries(embedding_texts(bundle))
        if _needs_sparse(template):
            sparse_vector = self._sparse_model().embed(embedding_texts(bundle))
        return replace(template, vector=vector, sparse_vector=sparse_vector)

    async def aembed(self, bundle: QueryBundle, template: SearchQuery, connection: Connection) -> SearchQuery:
        """The same without blocking the event loop."""
        if not self._given and (self._index_embeds or await connection.aembeds_text(template.mode)):
            return replace(template, data=single_text(bundle))
        vector = sparse_vector = None
        if _needs_dense(template):
            vector = bundle.embedding or await self._dense_model().aget_agg_embedding_from_queries(
                embedding_texts(bundle)
            )
        if _needs_sparse(template):
            sparse_vector = await self._sparse_model().aembed(embedding_texts(bundle))
        return replace(template, vector=vector, sparse_vector=sparse_vector)

    def vectors(
        self, texts: Sequence[str], given: Sequence[list[float] | None], connection: Connection
    ) -> tuple[list[list[float]] | None, list[SparseVector] | None] | None:
        """The vectors of documents: dense and sparse, those of them that there are models for.

        Args:
            texts: What is embedded.
            given: The dense vectors that there are already.
            connection: The index; asked, once, whether it embeds text, where there is no model.

        Returns:
            `None` where the index embeds.

        Raises:
            ClientError: Nobody embeds.
        """
        if not self._given and (self._index_embeds or connection.embeds_text(None)):
            return None
        dense = None
        if self._dense is not None or self._sparse is None:
            missing = [text for text, vector in zip(texts, given, strict=True) if vector is None]
            made = iter(self._dense_model().get_text_embedding_batch(missing) if missing else [])
            dense = [next(made) if vector is None else vector for vector in given]
        return dense, None if self._sparse_given is None else embed_sparsely(self._sparse_given, texts)

    async def avectors(
        self, texts: Sequence[str], given: Sequence[list[float] | None], connection: Connection
    ) -> tuple[list[list[float]] | None, list[SparseVector] | None] | None:
        """The same without blocking the event loop."""
        if not self._given and (self._index_embeds or await connection.aembeds_text(None)):
            return None
        dense = None
        if self._dense is not None or self._sparse is None:
            missing = [text for text, vector in zip(texts, given, strict=True) if vector is None]
            made = iter(await self._dense_model().aget_text_embedding_batch(missing) if missing else [])
            dense = [next(made) if vector is None else vector for vector in given]
        return dense, None if self._sparse_given is None else await aembed_sparsely(self._sparse_given, texts)

    @property
    def _given(self) -> bool:
        return self._dense is not None or self._sparse is not None

    def _dense_model(self) -> BaseEmbedding:
        if self._dense is not None:
            return self._dense
        try:
            return Settings.embed_model
        except (ImportError, ValueError) as error:
            message = "this index embeds no text for such a search: pass embed_model=, or set Settings.embed_model"
            raise ClientError(message) from error

    def _sparse_model(self) -> SparseQueryModel:
        if self._sparse is None:
            message = "this index embeds no text for such a search: pass sparse_embedding="
            raise ClientError(message)
        return self._sparse


def _needs_dense(template: SearchQuery) -> bool:
    return template.mode is None or template.mode.dense


def _needs_sparse(template: SearchQuery) -> bool:
    return template.mode is not None and template.mode.sparse


def bundle_of(query: QueryType) -> QueryBundle:
    """The question as LlamaIndex hands it on, whichever way it was asked."""
    return QueryBundle(query) if isinstance(query, str) else query


def cursor_texts(bundle: QueryBundle) -> list[str]:
    """The question as cursors keep it: its text, then the other ways in which it is put."""
    return [bundle.query_str, *(bundle.custom_embedding_strs or [])]


def bundle_from_texts(texts: Sequence[str]) -> QueryBundle:
    """The question that a cursor keeps."""
    return QueryBundle(texts[0], custom_embedding_strs=list(texts[1:]) or None)


def embedding_texts(bundle: QueryBundle) -> list[str]:
    """The ways in which a question is put.

    Raises:
        ClientError: There is none.
    """
    texts = [text for text in bundle.embedding_strs if text]
    if not texts:
        message = "the question is empty"
        raise ClientError(message)
    return texts


def single_text(bundle: QueryBundle) -> str:
    """The one way in which a question is put.

    Raises:
        ClientError: There is none, or more than one.
    """
    texts = embedding_texts(bundle)
    if len(texts) > 1:
        message = (
            f"the index embeds one text, but the question has {len(texts)} custom_embedding_strs: "
            "pass embed_model=, which can take their mean"
        )
        raise ClientError(message)
    return texts[0]
