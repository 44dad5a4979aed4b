"""The retriever: LangChain's contract over a search that can go on."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.langchain.documents import documents_of, records_of
from nextk.langchain.question import Embedder
from nextk.retrieval import AsyncRetrievalSession, Question, RetrievalMode, RetrievalSession
from nextk.retrieval.building import open_embedded, store
from nextk.retrieval.question import choose
from nextk.retrieval.rows import TEXT_KEYS
from nextk.retrieval.session import DEFAULT_MAX_IDLE
from nextk.retrieval.source import Closing, Source
from nextk.types import FusionAlgorithm, QueryResult, WeightingStrategy

DEFAULT_K = 4
"""How many documents one call returns where nothing says so, as everywhere in LangChain."""


class ResumableRetriever(Closing, BaseRetriever):
    """A retriever over a vector index that can go on where its first results end.

    `invoke` is one plain query, and nothing is kept open. `open` starts a search that is continued on demand: the next
    documents, in order, none twice and none left out, without searching again.

    Setup:
        Install the extra, and name an Upstash Vector index, or any server that speaks its protocol. An index in this
        process needs neither; see `from_texts`.

        ```bash
        pip install 'nextk[langchain]'
        export UPSTASH_VECTOR_REST_URL=https://...
        export UPSTASH_VECTOR_REST_TOKEN=...
        ```

    Key init args — the index:
        index: An `Index` or an `AsyncIndex`; both calling styles work over either.
        url, token: Where it is instead; absent: the environment's `UPSTASH_VECTOR_REST_URL` and `..._TOKEN`.
        namespace: Where in it to search.

    Key init args — the search:
        k: How many documents one call returns; unset: 4.
        filter: Only records whose metadata passes, as in `"lang = 'de' AND year > 2020"`.
        embedding: A LangChain `Embeddings`; or `True`: the index embeds the text. Unset, and without
            `sparse_embedding`: the same as `True` if the index has a text model, else an error at the first use.
        sparse_embedding: A sparse model: an object whose `embed_query(text)` gives `indices` and `values`.
        retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; unset: whatever the models allow.
        fusion: `"rrf"` or `"dbsf"`: how a hybrid search joins its two lists.
        weighting: `"idf"`: weigh the sparse query by the rarity of its terms.
        max_idle: Seconds without a pull after which the index may drop an opened search.

    Key init args — the documents:
        text_key: The metadata keys that may hold the text, which is taken out of the metadata; else it is the record's
            `data`. Records written by LangChain's and LlamaIndex's Upstash stores are read as they are; those without
            any text are left out, with a warning in the log.
        score_key: The metadata key to put the score under; unset: nowhere.

    Instantiate:
        ```python
        from nextk.langchain import ResumableRetriever

        retriever = ResumableRetriever(embedding=True, k=5)
        ```

        Or over texts, without any server:

        ```python
        retriever = ResumableRetriever.from_texts(["The sky is blue.", "Grass is green."], k=1)
        ```

    Use:
        ```python
        retriever.invoke("Why is the sky blue?")
        retriever.invoke("Why is the sky blue?", k=20, filter="lang = 'en'", namespace="science")
        ```

        Other keyword arguments are a `TypeError`, never ignored.

    Async:
        ```python
        await retriever.ainvoke("Why is the sky blue?")
        ```

    On demand:
        ```python
        with retriever.open("Why is the sky blue?") as search:
            documents = search.fetch_next(5)
            while not enough(documents) and not search.exhausted:
                documents += search.fetch_next(5)

        async with retriever.aopen("Why is the sky blue?") as search:
            documents = await search.fetch_next(5)
        ```

    Raises:
        ClientError: The arguments contradict each other, the mode needs a model that is missing, or there is no index.
        ValidationError: An argument is of the wrong type.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    index: Index | AsyncIndex | None = None
    url: str | None = None
    token: SecretStr | None = None
    namespace: str = ""
    k: Annotated[int, Field(ge=1)] | None = None
    filter: str = ""
    embedding: Embeddings | Literal[True] | None = None
    sparse_embedding: Any = None
    retrieval_mode: RetrievalMode | Literal["dense", "sparse", "hybrid"] | None = None
    fusion: FusionAlgorithm | Literal["rrf", "dbsf"] | None = None
    weighting: WeightingStrategy | Literal["idf"] | None = None
    max_idle: Annotated[int, Field(ge=1)] = DEFAULT_MAX_IDLE
    text_key: str | Sequence[str] = TEXT_KEYS
    score_key: str | None = None

    _source: Source | None = PrivateAttr(default=None)

    # Not in a validator, which would make a ValidationError of a ClientError; and hidden from type checkers, to which
    # the fields are the signature.
    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            super().__init__(**fields)
            self._blank()
            self._searched()

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        path: str | os.PathLike[str] | None = None,
        sparse_embedding: Any = None,
        **kwargs: Any,
    ) -> Self:
        """A retriever over texts, in a hybrid index in this process. Needs `pip install 'nextk[local]'`.

        The index owns the models and embeds by itself. The retriever owns the index: `close()` it, or use `with`.

        Args:
            texts: What is to be found. Stored in batches of 1,000.
            embedding: The dense model: a LangChain `Embeddings`, or whatever `Index.embedded` takes; absent:
                `"static"`, which needs no download.
            metadatas: One for each text; JSON.
            ids: One for each text. Absent, or where one is `None`: made of the text and its metadata, so that what is
                equal in both is stored once, and storing it again changes nothing.
            path: The index's file, made or added to; absent: in memory.
            sparse_embedding: The sparse model, as `Index.embedded` takes it; absent: `"bm25"`, with
                `weighting="idf"`, without which BM25 is not whole.
            **kwargs: Further arguments of the retriever. `namespace` is also where the texts are stored.

        Raises:
            ClientError: The numbers of texts, metadatas and ids differ, or metadata is not JSON.
            MissingExtraError: The engine is not installed.
        """
        records = records_of(texts, metadatas, ids)
        if sparse_embedding is None:
            kwargs.setdefault("weighting", "idf")
        kwargs.setdefault("text_key", ())  # the text is the data, so all of the metadata is the user's
        index = open_embedded(path, embedding, sparse_embedding)
        try:
            retriever = cls(index=index, embedding=True, **kwargs)
            retriever._source = Source(index, owned=True)
            store(index, records, retriever.namespace)
        except BaseException:
            index.close()
            raise
        return retriever

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A retriever over documents, as `from_texts` makes it; a document's own id is kept."""
        return cls.from_texts(
            [document.page_content for document in documents],
            embedding,
            [document.metadata for document in documents],
            ids=[document.id for document in documents],
            **kwargs,
        )

    def open(
        self, query: str, *, filter: str | None = None, namespace: str | None = None
    ) -> RetrievalSession[Document]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The question.
            filter: Instead of the retriever's own.
            namespace: Likewise.

        Returns:
            The session; leave it by `with`, so that the index need not keep the search.
        """
        ask = functools.partial(self._question, query, filter, namespace)
        return RetrievalSession(self._searched().blocking, ask, self._documents, self.max_idle)

    def aopen(
        self, query: str, *, filter: str | None = None, namespace: str | None = None
    ) -> AsyncRetrievalSession[Document]:
        """The same for an event loop: `async with retriever.aopen(query) as search`."""
        ask = functools.partial(self._aquestion, query, filter, namespace)
        return AsyncRetrievalSession(self._searched().native, ask, self._documents, self.max_idle)

    # BaseRetriever reads this signature: it passes an argument of `invoke` on because it stands here, and one that does
    # not is Python's own TypeError.
    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
        filter: str | None = None,
        namespace: str | None = None,
    ) -> list[Document]:
        question = self._question(query, filter, namespace)
        return self._documents(self._searched().blocking.query(top_k=self._count(k), **question.parameters()))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
        filter: str | None = None,
        namespace: str | None = None,
    ) -> list[Document]:
        question = await self._aquestion(query, filter, namespace)
        return self._documents(await self._searched().native.query(top_k=self._count(k), **question.parameters()))

    def _count(self, asked: int | None) -> int:
        return next((count for count in (asked, self.k) if count is not None), DEFAULT_K)

    def _blank(self, filter: str | None = None, namespace: str | None = None) -> Question:
        """What every question of this retriever has in common.

        Raises:
            ClientError: The mode needs a model that is missing, or the models contradict each other.
        """
        return Question(
            mode=self._embedder().mode(choose(RetrievalMode, self.retrieval_mode, "retrieval_mode")),
            filter=self.filter if filter is None else filter,
            namespace=self.namespace if namespace is None else namespace,
            fusion=choose(FusionAlgorithm, self.fusion, "fusion"),
            weighting=choose(WeightingStrategy, self.weighting, "weighting"),
        )

    def _embedder(self) -> Embedder:
        """Made anew each time, because every field may be set."""
        return Embedder(self.embedding, self.sparse_embedding)

    def _question(self, query: str, filter: str | None, namespace: str | None) -> Question:
        return self._embedder().embed(query, self._blank(filter, namespace), self._searched())

    async def _aquestion(self, query: str, filter: str | None, namespace: str | None) -> Question:
        return await self._embedder().aembed(query, self._blank(filter, namespace), self._searched())

    def _documents(self, matches: Sequence[QueryResult]) -> list[Document]:
        text_keys = [self.text_key] if isinstance(self.text_key, str) else self.text_key
        return documents_of(matches, text_keys, self.score_key)

    def _searched(self) -> Source:
        """The index; found anew where a copy was given another one."""
        token = None if self.token is None else self.token.get_secret_value()
        if self._source is None or not self._source.made_from(self.index, self.url, token):
            self._source = Source(self.index, self.url, token)
        return self._source

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        """What a trace says of this retriever."""
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = "nextk"
        if isinstance(self.embedding, Embeddings):
            params["ls_embedding_provider"] = type(self.embedding).__name__
        return params

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo[id(self.index)] = self.index  # a copy searches the same index
        return super().__deepcopy__(memo)
