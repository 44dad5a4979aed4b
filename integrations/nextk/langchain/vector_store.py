"""The LangChain vector store over an index, for everything of LangChain's that wants a store."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, Unpack, overload

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import SecretStr

from nextk.arguments import NoOthers
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.connect import URL_VARIABLE
from nextk.errors import ClientError
from nextk.langchain.arguments import refuse_unknown, require_kinds
from nextk.langchain.documents import parts_of
from nextk.langchain.retriever import ResumableRetriever
from nextk.langchain.store_mmr import MarginalSearches
from nextk.langchain.store_records import Records, capped, given
from nextk.langchain.store_retriever import (
    MMR,
    SIMILARITY,
    refuse_mmr_fields,
    require_search_kwargs,
    search_fields,
)
from nextk.langchain.store_searches import NO_RELEVANCE, Searches
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.sessions import RetrievalMode
from nextk.types import FusionAlgorithm, WeightingStrategy

log = logging.getLogger("nextk.langchain")


class ResumableVectorStore(Searches, MarginalSearches, Records):
    """A LangChain `VectorStore` over an index of nextk's, whose retrievers can go on where their first results end.

    It is for what wants a store: `ParentDocumentRetriever`, `MultiVectorRetriever`, `SelfQueryRetriever`,
    `TimeWeightedVectorStoreRetriever`, `langchain_core.indexing.index`. Its records are those of `ResumableRetriever`,
    so that either of the two finds what the other one has stored. The store of the same name in `nextk.llama_index`
    does this for LlamaIndex.

    Key init args:
        index: An `Index` or an `AsyncIndex`. Blocking and asynchronous calls work over either.
        embedding: A LangChain `Embeddings`; or `True` if the index embeds the text. If both this and
            `sparse_embedding` are unset, the index embeds the text if it has a text model; else the first use raises.
        url: The URL of the index, instead of `index`; unset: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: The token for that URL; unset: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        namespace: The namespace of the index in which the store searches and stores.
        sparse_embedding: A sparse model, as for `ResumableRetriever`.
        retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; unset: every component that there is a model for.
        fusion: How a hybrid search joins its two ranked lists: `"rrf"` or `"dbsf"`; unset: the index's default.
        weighting: `"idf"` weighs the sparse query by the rarity of its terms, `"none"` does not; unset: as the index
            wants it.
        text_key: The metadata keys that may hold the text, which is taken out of the metadata. A record without any of
            them has its text in its `data`. Texts are stored under the first key; where the index embeds, they are
            stored as data, and with `embedding=True` under that key as well, if there is one.
        exact: Whether documents come in exact order although the index searches large namespaces approximately; see
            `ResumableRetriever`.

    Instantiate:
        ```python
        from nextk import Index
        from nextk.langchain import ResumableVectorStore

        store = ResumableVectorStore(embedding=True)  # UPSTASH_VECTOR_REST_URL and ..._TOKEN
        local = ResumableVectorStore(Index.embedded("notes.db", embedding="static", sparse_embedding="bm25"))
        ```

    Use:
        ```python
        from langchain_core.documents import Document

        store.add_documents([Document("Grass is green.", id="grass", metadata={"lang": "en", "year": 2024})])
        store.similarity_search("Which colour is grass?", k=3, filter={"lang": "en", "year": {"$gte": 2020}})
        store.similarity_search_with_relevance_scores("Which colour is grass?", score_threshold=0.7)
        local.max_marginal_relevance_search("Which colour is grass?", k=3, fetch_k=30)  # needs the model at hand
        store.get_by_ids(["grass"])
        store.delete(["grass"])
        ```

        Every method has an asynchronous twin, such as `asimilarity_search`, which blocks no event loop. A keyword that
        a method does not take raises a `TypeError`; none is ignored.

    On demand:
        ```python
        retriever = store.as_retriever(search_kwargs={"k": 5, "filter": {"lang": "en"}})

        with retriever.open("Which colour is grass?") as search:
            documents = search.fetch_next(5)
            documents += search.fetch_next(5)  # the next 5 of the same search
        ```

    Scores:
        `similarity_search_with_score` returns those of the index, higher is better. Relevance scores and score
        thresholds, which have to be between 0 and 1, are those of the dense vectors: over a hybrid index they make a
        search of its dense half, and over an index of sparse vectors alone they are refused.

    Coming from `UpstashVectorStore` of `langchain_community`:
        Records stay as they are: those written there are found, updated and removed here, and the community store reads
        what is stored here by `embedding=`, a model or `True`. Unlike there, the `id` of a document is set, and an id
        that is not given is made of the content, so that a text that is added twice is stored once.

        | there                                                  | here                                              |
        | ------------------------------------------------------ | ------------------------------------------------- |
        | `UpstashVectorStore(embedding=, index_url=, ...)`      | `ResumableVectorStore(embedding=, url=, token=)`  |
        | `UpstashVectorStore(index=, async_index=)`             | `ResumableVectorStore(index)`, for both colours   |
        | `store.similarity_search(query, 5, "lang = 'de'")`     | unchanged; or with `filter={"lang": "de"}`        |
        | `query_mode=`, `fusion_algorithm=` of each search      | `retrieval_mode=`, `fusion=` of the store         |
        | `store.as_retriever(search_kwargs={"k": 5})`           | unchanged; its searches can go on                 |
        | `search_type="similarity_score_threshold"`             | unchanged; by dense scores, beyond the first `k`  |
        | `search_type="mmr"`                                    | unchanged; LangChain's own retriever              |
        | `store.add_texts(..., embedding_chunk_size=)`          | `store.add_texts(..., batch_size=)`               |
        | `store.delete(ids)`, `store.delete(delete_all=True)`   | unchanged                                         |
        | `UpstashVectorStore.from_texts(..., index_url=)`       | `from_texts(..., url=, token=)`                   |
        | `UpstashVectorStore.from_texts(texts, embedding)`      | `ResumableVectorStore(embedding=).add_texts`      |
        | `store.info()`                                         | `store.index.info()`                              |

    Raises:
        ClientError: If arguments contradict each other, if the mode needs a model that is missing, or if there is no
            index.
        TypeError: If an argument is unknown.
    """

    def __init__(
        self,
        index: Index | AsyncIndex | None = None,
        embedding: Embeddings | Literal[True] | None = None,
        *,
        url: str | None = None,
        token: str | SecretStr | None = None,
        namespace: str = "",
        sparse_embedding: Any = None,
        retrieval_mode: RetrievalMode | Literal["dense", "sparse", "hybrid"] | None = None,
        fusion: FusionAlgorithm | Literal["rrf", "dbsf"] | None = None,
        weighting: WeightingStrategy | Literal["idf", "none"] | None = None,
        text_key: str | Sequence[str] = TEXT_KEYS,
        exact: bool = False,
        **unknown: Unpack[NoOthers],
    ) -> None:
        refuse_unknown(type(self).__name__, dict(unknown), self.retriever_fields)
        require_kinds(index, embedding)
        retriever = ResumableRetriever(
            index=index,
            embedding=embedding,
            url=url,
            token=SecretStr(token) if isinstance(token, str) else token,
            namespace=namespace,
            sparse_embedding=sparse_embedding,
            retrieval_mode=retrieval_mode,
            fusion=fusion,
            weighting=weighting,
            exact=exact,
            text_key=text_key,
        )
        self._adopt(retriever, embedding)

    @overload  # type: ignore[override]
    def as_retriever(
        self, *, search_type: Literal["mmr"], search_kwargs: Mapping[str, Any] | None = None, **fields: Any
    ) -> VectorStoreRetriever: ...
    @overload
    def as_retriever(
        self,
        *,
        search_type: Literal["similarity", "similarity_score_threshold"] = "similarity",
        search_kwargs: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> ResumableRetriever: ...
    def as_retriever(
        self, *, search_type: str = SIMILARITY, search_kwargs: Mapping[str, Any] | None = None, **fields: Any
    ) -> ResumableRetriever | VectorStoreRetriever:
        """Make a retriever over this store's records, with its models and its connection.

        What insists on LangChain's own retriever, such as `VectorStoreRetrieverMemory`, or reads its `search_kwargs` or
        `vectorstore`, takes `VectorStoreRetriever(vectorstore=store)`, which finds the same documents, but does not go
        on.

        Args:
            search_type: `"similarity"`; `"similarity_score_threshold"`, which needs a `score_threshold`; or `"mmr"`,
                for which LangChain's own retriever is made, since what follows diverse documents is not defined.
            search_kwargs: `k`, `filter` and `namespace` of each search; `score_threshold`, from 0 to 1, which becomes
                `until=MinScore(...)` in a search of dense vectors: without a `k` everything that is as near comes, up
                to `max_results` (200), not only what is among the first 4; `fetch_k` and `lambda_mult` for MMR.
            **fields: Further fields of `ResumableRetriever`, such as `until`, `score_key`, `tags`.

        Raises:
            ClientError: If the search type or a keyword is unknown, if a setting is given twice, or if there is a score
                threshold and the store searches sparse vectors alone.
            ValidationError: If a field is of the wrong type, or unknown.
        """
        keywords = require_search_kwargs(search_type, search_kwargs)
        fields["tags"] = fields.get("tags") or self._get_retriever_tags()
        if search_type == MMR:
            refuse_mmr_fields(fields)
            return VectorStoreRetriever(vectorstore=self, search_type=MMR, search_kwargs=keywords, **fields)
        settings = self.retriever_settings()
        if "score_threshold" in keywords:
            if self._resolve(None, None).embedder.mode is RetrievalMode.SPARSE:
                raise ClientError(NO_RELEVANCE)
            if settings["embedding"] is True:
                settings["embedding"] = None  # so that the index is asked, when there is a query, for a dense model
        retriever = ResumableRetriever(**{**settings, **search_fields(keywords, fields)})
        retriever._connection = self._connection.borrowed()  # noqa: SLF001 - closing the retriever closes no store
        return retriever

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Callable[[list[str]], Any] | Literal[True] | str | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a store, and store texts in it.

        With `index`, `url` or `token` these are stored there. Without any of the three, a hybrid index in this process
        is made, also where the environment names another one: in the file `path`, or in memory. It owns the models and
        embeds by itself (needs `pip install 'nextk[local]'`); close the store then.

        Args:
            texts: The texts to store.
            embedding: The dense model. In an index in this process it may be anything that `Index.embedded` takes;
                absent: `"static"`, which needs no download.
            metadatas: The metadata of each text, as for `add_texts`.
            ids: An id for each text, as for `add_texts`.
            **kwargs: Further arguments of the store; `batch_size` and `show_progress` of `add_texts`; and, for an index
                in this process, `path`, `sparse_embedding` and `same_model`, as for `ResumableRetriever.from_texts`.

        Raises:
            ClientError: If the texts cannot be stored, for the reasons given at `add_texts`.
            MissingExtraError: If the engine is not installed, and no other index is given.
        """
        embedded, options = _from_texts_options(cls, metadatas, ids, kwargs)
        if embedded:
            retriever = ResumableRetriever.from_texts(texts, _owned_model(embedding), **options, **kwargs)
            return cls._of_retriever(retriever, embedding)
        store = cls(embedding=embedding, **kwargs)  # type: ignore[arg-type]
        try:
            store.add_texts(texts, **options)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Callable[[list[str]], Any] | Literal[True] | str | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a store and store texts in it without blocking the event loop; see `from_texts`."""
        embedded, options = _from_texts_options(cls, metadatas, ids, kwargs)
        if embedded:
            retriever = await ResumableRetriever.afrom_texts(texts, _owned_model(embedding), **options, **kwargs)
            return cls._of_retriever(retriever, embedding)
        store = cls(embedding=embedding, **kwargs)  # type: ignore[arg-type]
        try:
            await store.aadd_texts(texts, **options)
        except BaseException:
            store.close()  # not aclose(): a cancelled scope may not let us wait
            raise
        return store

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Callable[[list[str]], Any] | Literal[True] | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a store, and store documents in it, as `from_texts` does with texts.

        Args:
            documents: The documents to store. The own id of a document is kept, unless `ids` has one for it.
            embedding: The dense model, as for `from_texts`.
            **kwargs: Further arguments of `from_texts`.
        """
        texts, metadatas, ids = parts_of(documents, kwargs.pop("ids", None))
        return cls.from_texts(texts, embedding, metadatas, ids=ids, **kwargs)

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Callable[[list[str]], Any] | Literal[True] | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a store and store documents in it without blocking the event loop; see `from_documents`."""
        texts, metadatas, ids = parts_of(documents, kwargs.pop("ids", None))
        return await cls.afrom_texts(texts, embedding, metadatas, ids=ids, **kwargs)

    @classmethod
    def _of_retriever(cls, retriever: ResumableRetriever, embedding: object) -> Self:
        """Return a store over the index of a retriever, which it closes."""
        store = cls(**{name: getattr(retriever, name) for name in cls.retriever_fields})
        cls._adopt(store, retriever, embedding)
        return store


_LOCATION = ("index", "url", "token")
_STORING = ("batch_size", "show_progress")
_EMBEDDED = ("path", "same_model")


def _from_texts_options(
    store: type[ResumableVectorStore], metadatas: Iterable[dict[str, Any]] | None, ids: Any, kwargs: dict[str, Any]
) -> tuple[bool, dict[str, Any]]:
    """Return whether `from_texts` makes an index of its own, and the options of storing.

    Args:
        store: The class of the store.
        metadatas: The metadata of each text.
        ids: The id of each text.
        kwargs: The other arguments, of which those that belong to storing are taken out.

    Raises:
        ClientError: There is an index, and an argument that is for one that is made.
        TypeError: An argument is unknown.
    """
    known = (*store.retriever_fields, *_EMBEDDED, *_STORING)
    refuse_unknown("from_texts", {name: value for name, value in kwargs.items() if name not in known}, known)
    options = {name: kwargs.pop(name) for name in _STORING if name in kwargs}
    embedded = all(kwargs.get(name) is None for name in _LOCATION)
    for name in _LOCATION if embedded else _EMBEDDED:
        if kwargs.pop(name, None) and not embedded:
            message = f"{name}= is for an index in this process, and another one is given: leave one of them out"
            raise ClientError(message)
    if embedded and kwargs.get("path") is None and os.environ.get(URL_VARIABLE):
        log.warning(
            "from_texts stores in an index in memory, not in the one that %s names: for that one, call "
            "ResumableVectorStore(embedding=...).add_texts(...)",
            URL_VARIABLE,
        )
    return embedded, {"metadatas": given(metadatas), "ids": given(ids), **capped(options)}


def _owned_model(embedding: Any) -> Any:
    """Return the model for an index in this process, in which `True`, for the index's own, stands for the default."""
    return None if embedding is True else embedding
