"""A query of LlamaIndex's as an index takes it: query bundles as text or as vectors, depending on who embeds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from llama_index.core.base.embeddings.base import BaseEmbedding, mean_agg
from llama_index.core.schema import QueryBundle, QueryType
from llama_index.core.settings import Settings

from nextk.arguments import elements_of, shown, written
from nextk.errors import ClientError
from nextk.payloads import plain_list
from nextk.retrievers.connection import Connection
from nextk.retrievers.source_connection import SourceConnection
from nextk.retrievers.sparse_model import SparseQueryModel
from nextk.retrievers.writing import aembed_sparsely, embed_sparsely
from nextk.sessions import RetrievalMode, SearchQuery, resolve_mode
from nextk.sessions.query import require_text
from nextk.transport import QueryEmbedder
from nextk.types import QueryMode, SparseVector


class Embedder:
    """Embeds queries by the models of a LlamaIndex retriever; without any, by the index or `Settings.embed_model`.

    Its twin of the same name in `nextk.langchain` does this by LangChain's models.

    Args:
        embed_model: The dense model.
        sparse_embedding: The sparse model, of any kind that `SparseQueryModel` takes.
        retrieval_mode: The mode that the retriever is set to; `None` for the mode that the models allow.
        embedding: `True` if the index embeds the text.
        keeps_given: Whether the dense vectors that documents bring are stored beside the sparse ones where there is a
            sparse model alone, unless the index takes none.

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
        keeps_given: bool = False,
    ) -> None:
        if embedding is not None and (embed_model is not None or sparse_embedding is not None):
            message = "embedding=True leaves all embedding to the index: leave out embed_model= and sparse_embedding="
            raise ClientError(message)
        self._dense = embed_model
        self._sparse_given = sparse_embedding
        self._sparse = None if sparse_embedding is None else SparseQueryModel(sparse_embedding)
        self._index_embeds = embedding is not None
        self._keeps_given = keeps_given
        self.mode = resolve_mode(
            retrieval_mode,
            dense=self._dense is not None,
            sparse=self._sparse is not None,
            dense_name="embed_model",
            sparse_name="sparse_embedding",
        )

    def embed(
        self, bundle: QueryBundle, template: SearchQuery, connection: Connection | SourceConnection
    ) -> SearchQuery:
        """Fill a query in.

        Args:
            bundle: The query. Its `embedding_strs` make the dense vector, as the mean of their embeddings, and its
                `query_str` makes the sparse vector. If it has a vector already, that is the dense vector, except where
                the index embeds: the vector may be that of another retriever's model. An index that embeds is sent a
                single text of `embedding_strs` as it is, for both vectors.
            template: The mode, the filter and everything else that the search has besides the query.
            connection: The connection to the index. Where there is no model, or no weighting is set, the index is
                asked once whether it embeds text, and which weighting it wants.

        Returns:
            The template with the text, or with the vectors that its mode needs, and with the weighting.

        Raises:
            ClientError: If the query is empty, if nobody embeds it, or if it is put in several ways and is left to an
                index whose models are not in this process.
        """
        if self.leaves_it_to_index(connection, template.mode):
            return connection.with_weighting(_filled_by_index(bundle, template, connection))
        vector = sparse_vector = None
        if _needs_dense(template):
            vector = self.vector_of(bundle)
        if _needs_sparse(template):
            sparse_vector = self.sparse_vector_of(bundle)
        return connection.with_weighting(replace(template, vector=vector, sparse_vector=sparse_vector))

    async def aembed(
        self, bundle: QueryBundle, template: SearchQuery, connection: Connection | SourceConnection
    ) -> SearchQuery:
        """Fill a query in without blocking the event loop; see `embed`."""
        if await self.aleaves_it_to_index(connection, template.mode):
            return await connection.awith_weighting(await _afilled_by_index(bundle, template, connection))
        vector = sparse_vector = None
        if _needs_dense(template):
            vector = await self.avector_of(bundle)
        if _needs_sparse(template):
            sparse_vector = await self.asparse_vector_of(bundle)
        return await connection.awith_weighting(replace(template, vector=vector, sparse_vector=sparse_vector))

    def vector_of(self, bundle: QueryBundle) -> list[float]:
        """Return the dense vector of a query, float (dimension,): its own, or else the mean of its embedded texts."""
        if own := _own_vector(bundle):
            return own
        texts = embedding_texts(bundle)  # first, because an empty query is the simpler fault
        return self.dense_model().get_agg_embedding_from_queries(texts)

    async def avector_of(self, bundle: QueryBundle) -> list[float]:
        """Return the dense vector of a query without blocking the event loop; see `vector_of`."""
        if own := _own_vector(bundle):
            return own
        texts = embedding_texts(bundle)
        return await self.dense_model().aget_agg_embedding_from_queries(texts)

    def sparse_vector_of(self, bundle: QueryBundle) -> SparseVector:
        """Return the sparse vector of the words of a query."""
        return self._sparse_model().embed(keyword_text(bundle))

    async def asparse_vector_of(self, bundle: QueryBundle) -> SparseVector:
        """Return the sparse vector of the words of a query without blocking the event loop."""
        return await self._sparse_model().aembed(keyword_text(bundle))

    def dense_model(self) -> BaseEmbedding:
        """Return the dense model: the one that was given, or else `Settings.embed_model`.

        Raises:
            ClientError: If there is none.
        """
        if self._dense is not None:
            return self._dense
        try:
            return Settings.embed_model
        except (ImportError, ValueError) as error:
            message = (
                "this index or store embeds no text for such a search: pass embed_model=, or set Settings.embed_model"
            )
            raise ClientError(message) from error

    def leaves_it_to_index(self, connection: Connection | SourceConnection, mode: RetrievalMode | None) -> bool:
        """Return whether the index embeds.

        Args:
            connection: The connection to the index. Where there is no model, the index is asked once.
            mode: The mode of a search; `None` for every component that the index has.
        """
        return not self._given and (self._index_embeds or connection.embeds_text(mode))

    async def aleaves_it_to_index(self, connection: Connection | SourceConnection, mode: RetrievalMode | None) -> bool:
        """Return whether the index embeds, without blocking the event loop; see `leaves_it_to_index`."""
        return not self._given and (self._index_embeds or await connection.aembeds_text(mode))

    def stores_dense(self, connection: Connection | SourceConnection, *, given: bool) -> bool | None:
        """Return whether documents are stored with dense vectors; `None` if the index embeds them.

        Args:
            connection: The connection to the index. Where there is no model, the index is asked once whether it embeds
                text.
            given: Whether any of the documents has a dense vector already.
        """
        if self.leaves_it_to_index(connection, None):
            return None
        if self._dense is not None or self._sparse is None:
            return True
        return self._keeps_given and given and connection.takes_dense()

    async def astores_dense(self, connection: Connection | SourceConnection, *, given: bool) -> bool | None:
        """Return whether documents are stored with dense vectors, without blocking the event loop."""
        if await self.aleaves_it_to_index(connection, None):
            return None
        if self._dense is not None or self._sparse is None:
            return True
        return self._keeps_given and given and await connection.atakes_dense()

    def vectors(
        self, texts: Sequence[str], given: Sequence[list[float] | None], *, dense: bool
    ) -> tuple[list[list[float]] | None, list[SparseVector] | None]:
        """Embed documents by the models.

        Args:
            texts: The texts of the documents.
            given: The dense vector that each document has already; `None` where it has none.
            dense: Whether they are stored with dense vectors, as `stores_dense` decides it.

        Returns:
            The dense vectors, each float (dimension,), and the sparse ones; one of the two is `None` where the
            documents are stored without it.

        Raises:
            ClientError: If nobody embeds.
        """
        made = None
        if dense:
            missing = [text for text, vector in zip(texts, given, strict=True) if vector is None]
            made = _completed(given, self.dense_model().get_text_embedding_batch(missing) if missing else [])
        return made, None if self._sparse_given is None else embed_sparsely(self._sparse_given, texts)

    async def avectors(
        self, texts: Sequence[str], given: Sequence[list[float] | None], *, dense: bool
    ) -> tuple[list[list[float]] | None, list[SparseVector] | None]:
        """Embed documents by the models without blocking the event loop; see `vectors`."""
        made = None
        if dense:
            missing = [text for text, vector in zip(texts, given, strict=True) if vector is None]
            made = _completed(given, await self.dense_model().aget_text_embedding_batch(missing) if missing else [])
        return made, None if self._sparse_given is None else await aembed_sparsely(self._sparse_given, texts)

    @property
    def _given(self) -> bool:
        return self._dense is not None or self._sparse is not None

    def _sparse_model(self) -> SparseQueryModel:
        if self._sparse is None:
            message = "this index embeds no text for such a search: pass sparse_embedding="
            raise ClientError(message)
        return self._sparse


def _completed(given: Sequence[list[float] | None], made: Sequence[list[float]]) -> list[list[float]]:
    """Return the vectors that were given, with those that were made in the place of each `None`, in order."""
    rest = iter(made)
    return [next(rest) if vector is None else vector for vector in given]


def _needs_dense(template: SearchQuery) -> bool:
    return template.mode is None or template.mode.dense


def _needs_sparse(template: SearchQuery) -> bool:
    return template.mode is not None and template.mode.sparse


def bundle_of(query: QueryType) -> QueryBundle:
    """Return a query as a bundle, whether it came as a string or as a bundle.

    Raises:
        ClientError: It is neither, or a bundle whose `query_str` is no text.
    """
    bundle: Any = QueryBundle(query) if isinstance(query, str) else query
    if not isinstance(bundle, QueryBundle) or not isinstance(bundle.query_str, str):
        message = f"the question is {shown(query)}: give a text, or a QueryBundle of one"
        raise ClientError(message)
    return bundle


def cursor_texts(bundle: QueryBundle) -> list[str]:
    """Return a query as cursors keep it: its text, then its `custom_embedding_strs`, which put it in other words."""
    return [bundle.query_str, *(bundle.custom_embedding_strs or [])]


def bundle_from_texts(texts: Sequence[str]) -> QueryBundle:
    """Return the query that a cursor keeps; the reverse of `cursor_texts`."""
    return QueryBundle(texts[0], custom_embedding_strs=list(texts[1:]) or None)


def embedding_texts(bundle: QueryBundle) -> list[str]:
    """Return the texts to embed of a query: more than one if it is put in several ways. Blank ones are left out.

    Raises:
        ClientError: If the query is empty, or if a text has lone surrogates.
    """
    texts = [text for text in _strings(bundle.embedding_strs) if text.strip()]
    if not texts:
        message = "the question is empty"
        raise ClientError(message)
    for text in texts:
        require_text(text)
    return texts


def _strings(given: object) -> list[str]:
    """Return the texts of a bundle, of which LlamaIndex checks nothing."""
    listed = None if isinstance(given, str) else elements_of(given)
    if listed is None or not all(isinstance(text, str) for text in listed):
        message = f"custom_embedding_strs={written(given)} has to be a list of texts"
        raise ClientError(message)
    return listed


def keyword_text(bundle: QueryBundle) -> str:
    """Return the text of a query for its sparse vector: `query_str`, or all texts to embed if that is blank.

    Raises:
        ClientError: If the query is empty.
    """
    texts = embedding_texts(bundle)
    text = bundle.query_str if bundle.query_str.strip() else " ".join(texts)
    require_text(text)
    return text


def _own_vector(bundle: QueryBundle) -> list[float] | None:
    """Return the dense vector that a query has already; `None` if it has none.

    Raises:
        ClientError: If it is neither a list nor has `tolist()`.
    """
    return None if bundle.embedding is None else plain_list(bundle.embedding, "QueryBundle.embedding") or None


def _filled_by_index(
    bundle: QueryBundle, template: SearchQuery, connection: Connection | SourceConnection
) -> SearchQuery:
    """Fill a query in for an index that embeds: with its one text, or with vectors that the models of the index make.

    Raises:
        ClientError: If the query is empty, or if it is put in several ways and the models are not in this process.
    """
    text = _single_text(bundle, template)
    if text is not None:
        return replace(template, data=text)
    embedder = _embedder_of(connection, bundle)
    dense = [embedder.embed_query(text, QueryMode.DENSE)[0] for text in embedding_texts(bundle)]
    sparse = embedder.embed_query(keyword_text(bundle), QueryMode.SPARSE)[1] if _searches_sparse(template) else None
    return _by_vectors(bundle, template, dense, sparse)


async def _afilled_by_index(
    bundle: QueryBundle, template: SearchQuery, connection: Connection | SourceConnection
) -> SearchQuery:
    """Fill a query in for an index that embeds without blocking the event loop; see `_filled_by_index`."""
    text = _single_text(bundle, template)
    if text is not None:
        return replace(template, data=text)
    embedder = _embedder_of(connection, bundle)
    dense = [(await embedder.aembed_query(text, QueryMode.DENSE))[0] for text in embedding_texts(bundle)]
    sparse = None
    if _searches_sparse(template):
        sparse = (await embedder.aembed_query(keyword_text(bundle), QueryMode.SPARSE))[1]
    return _by_vectors(bundle, template, dense, sparse)


def _single_text(bundle: QueryBundle, template: SearchQuery) -> str | None:
    """Return the one text that an index embeds for a query; `None` if it is put in several ways."""
    if not _needs_dense(template):
        return keyword_text(bundle)
    texts = embedding_texts(bundle)
    return texts[0] if len(texts) == 1 else None


def _searches_sparse(template: SearchQuery) -> bool:
    """Return whether an index that embeds searches sparse vectors, if it has any: without a mode it does."""
    return template.mode is None or template.mode.sparse


def _embedder_of(connection: Connection | SourceConnection, bundle: QueryBundle) -> QueryEmbedder:
    embedder = connection.query_embedder()
    if embedder is None:
        message = (
            f"the index embeds one text, but the question has {len(embedding_texts(bundle))} custom_embedding_strs: "
            "pass embed_model=, which can take their mean (and sparse_embedding= for a hybrid search)"
        )
        raise ClientError(message)
    return embedder


def _by_vectors(
    bundle: QueryBundle, template: SearchQuery, dense: list[list[float] | None], sparse: SparseVector | None
) -> SearchQuery:
    """Fill a query in with the mean of the dense vectors of its texts, as LlamaIndex takes it, and its sparse vector.

    Args:
        bundle: The query.
        template: The query without its vectors.
        dense: The dense vector of each text, float (dimension,); `None` for each if the index has no dense vectors.
        sparse: The sparse vector; `None` if none is searched.
    """
    known = [vector for vector in dense if vector is not None]
    if not known:  # an index of sparse vectors alone, which embeds the words of the query itself
        return replace(template, data=keyword_text(bundle))
    mode = template.mode if sparse is not None or not _needs_sparse(template) else None  # the index is dense alone
    return replace(template, vector=mean_agg(known), sparse_vector=sparse, mode=mode)
