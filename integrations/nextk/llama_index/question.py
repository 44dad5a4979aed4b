"""A query of LlamaIndex's as an index takes it: query bundles as text or as vectors, depending on who embeds."""

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
    """Embeds queries by the models of a LlamaIndex retriever; without any, by the index or `Settings.embed_model`.

    Its twin of the same name in `nextk.langchain` does this by LangChain's models.

    Args:
        embed_model: The dense model.
        sparse_embedding: The sparse model, of any kind that `SparseQueryModel` takes.
        retrieval_mode: The mode that the retriever is set to; `None` for the mode that the models allow.
        embedding: `True` if the index embeds the text.

    Attributes:
        mode: The mode of a search, as `resolve_mode` decides it; `None` leaves it to the index.

    Raises:
        ClientError: If the mode needs a model that is missing, if the index is to embed although there is a model, or
            if the sparse model is of no known kind.
    """

    def __init__(
        self,
        embed_model: BaseEmbedding | None,
        sparse_embedding: Any,
        retrieval_mode: RetrievalMode | None = None,
        *,
        embedding: Literal[True] | None,
    ) -> None:
        if embedding is not None and (embed_model is not None or sparse_embedding is not None):
            message = "embedding=True leaves all embedding to the index: leave out embed_model= and sparse_embedding="
            raise ClientError(message)
        self._dense = embed_model
        self._sparse_given = sparse_embedding
        self._sparse = None if sparse_embedding is None else SparseQueryModel(sparse_embedding)
        self._index_embeds = embedding is not None
        self.mode = resolve_mode(
            retrieval_mode,
            dense=self._dense is not None,
            sparse=self._sparse is not None,
            dense_name="embed_model",
            sparse_name="sparse_embedding",
        )

    def embed(self, bundle: QueryBundle, template: SearchQuery, connection: Connection) -> SearchQuery:
        """Fill a query in.

        Args:
            bundle: The query. If it has a vector already, that is the dense vector.
            template: The mode, the filter and everything else that the search has besides the query.
            connection: The connection to the index. Where there is no model, or no weighting is set, the index is
                asked once whether it embeds text, and which weighting it wants.

        Returns:
            The template with the text, or with the vectors that its mode needs, and with the weighting.

        Raises:
            ClientError: If the query is empty, or if nobody embeds it.
        """
        if not self._given and (self._index_embeds or connection.embeds_text(template.mode)):
            return connection.with_weighting(replace(template, data=single_text(bundle)))
        vector = sparse_vector = None
        if _needs_dense(template):
            vector = bundle.embedding or self._dense_model().get_agg_embedding_from_queries(embedding_texts(bundle))
        if _needs_sparse(template):
            sparse_vector = self._sparse_model().embed(embedding_texts(bundle))
        return connection.with_weighting(replace(template, vector=vector, sparse_vector=sparse_vector))

    async def aembed(self, bundle: QueryBundle, template: SearchQuery, connection: Connection) -> SearchQuery:
        """Fill a query in without blocking the event loop; see `embed`."""
        if not self._given and (self._index_embeds or await connection.aembeds_text(template.mode)):
            return await connection.awith_weighting(replace(template, data=single_text(bundle)))
        vector = sparse_vector = None
        if _needs_dense(template):
            vector = bundle.embedding or await self._dense_model().aget_agg_embedding_from_queries(
                embedding_texts(bundle)
            )
        if _needs_sparse(template):
            sparse_vector = await self._sparse_model().aembed(embedding_texts(bundle))
        return await connection.awith_weighting(replace(template, vector=vector, sparse_vector=sparse_vector))

    def keeps_vectors(self, connection: Connection) -> bool:
        """Return whether documents keep the dense vectors that they have already.

        They do not if the index embeds, or if the retriever has a sparse model alone.

        Args:
            connection: The connection to the index. Where there is no model, the index is asked once whether it embeds
                text.
        """
        return self._stores_dense and (self._given or not (self._index_embeds or connection.embeds_text(None)))

    async def akeeps_vectors(self, connection: Connection) -> bool:
        """Return whether documents keep their dense vectors, without blocking the event loop; see `keeps_vectors`."""
        return self._stores_dense and (self._given or not (self._index_embeds or await connection.aembeds_text(None)))

    def vectors(
        self, texts: Sequence[str], given: Sequence[list[float] | None], connection: Connection
    ) -> tuple[list[list[float]] | None, list[SparseVector] | None] | None:
        """Embed documents by the models.

        Args:
            texts: The texts of the documents.
            given: The dense vector that each document has already; `None` where it has none.
            connection: The connection to the index. Where there is no model, the index is asked once whether it embeds
                text.

        Returns:
            The dense vectors, each float (dimension,), and the sparse ones; one of the two is `None` where there is no
            model for it. `None` alone if the index embeds.

        Raises:
            ClientError: If nobody embeds.
        """
        if not self._given and (self._index_embeds or connection.embeds_text(None)):
            return None
        dense = None
        if self._stores_dense:
            missing = [text for text, vector in zip(texts, given, strict=True) if vector is None]
            made = iter(self._dense_model().get_text_embedding_batch(missing) if missing else [])
            dense = [next(made) if vector is None else vector for vector in given]
        return dense, None if self._sparse_given is None else embed_sparsely(self._sparse_given, texts)

    async def avectors(
        self, texts: Sequence[str], given: Sequence[list[float] | None], connection: Connection
    ) -> tuple[list[list[float]] | None, list[SparseVector] | None] | None:
        """Embed documents by the models without blocking the event loop; see `vectors`."""
        if not self._given and (self._index_embeds or await connection.aembeds_text(None)):
            return None
        dense = None
        if self._stores_dense:
            missing = [text for text, vector in zip(texts, given, strict=True) if vector is None]
            made = iter(await self._dense_model().aget_text_embedding_batch(missing) if missing else [])
            dense = [next(made) if vector is None else vector for vector in given]
        return dense, None if self._sparse_given is None else await aembed_sparsely(self._sparse_given, texts)

    @property
    def _stores_dense(self) -> bool:
        return self._dense is not None or self._sparse is None

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
    """Return a query as a bundle, whether it came as a string or as a bundle."""
    return QueryBundle(query) if isinstance(query, str) else query


def cursor_texts(bundle: QueryBundle) -> list[str]:
    """Return a query as cursors keep it: its text, then its `custom_embedding_strs`, which put it in other words."""
    return [bundle.query_str, *(bundle.custom_embedding_strs or [])]


def bundle_from_texts(texts: Sequence[str]) -> QueryBundle:
    """Return the query that a cursor keeps; the reverse of `cursor_texts`."""
    return QueryBundle(texts[0], custom_embedding_strs=list(texts[1:]) or None)


def embedding_texts(bundle: QueryBundle) -> list[str]:
    """Return the texts to embed of a query: more than one if it is put in several ways.

    Raises:
        ClientError: If the query is empty.
    """
    texts = [text for text in bundle.embedding_strs if text]
    if not texts:
        message = "the question is empty"
        raise ClientError(message)
    return texts


def single_text(bundle: QueryBundle) -> str:
    """Return the one text of a query, for an index that embeds.

    Raises:
        ClientError: If the query is empty, or if it is put in several ways.
    """
    texts = embedding_texts(bundle)
    if len(texts) > 1:
        message = (
            f"the index embeds one text, but the question has {len(texts)} custom_embedding_strs: "
            "pass embed_model=, which can take their mean"
        )
        raise ClientError(message)
    return texts[0]
