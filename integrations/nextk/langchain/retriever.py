"""The retriever: LangChain's contract over a search that can go on."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from nextk.langchain.documents import records_of
from nextk.langchain.settings import Settings
from nextk.retrieval import AsyncRetrievalSession, RetrievalSession
from nextk.retrieval.building import open_embedded, store
from nextk.retrieval.cursor import query_of
from nextk.retrieval.source import Source
from nextk.retrieval.terms import Asked

DEFAULT_K = 4
"""How many documents one call returns where nothing says so, as everywhere in LangChain."""


class ResumableRetriever(Settings):
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
        k: How many documents one call returns at the most; unset: 4, or with `until` as many as that decides.
        filter: Only records whose metadata passes, as in `"lang = 'de' AND year > 2020"`.
        embedding: A LangChain `Embeddings`; or `True`: the index embeds the text. Unset, and without
            `sparse_embedding`: the same as `True` if the index has a text model, else an error at the first use.
        sparse_embedding: A sparse model: an object whose `embed_query(text)` gives `indices` and `values`.
        retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; unset: whatever the models allow.
        fusion: `"rrf"` or `"dbsf"`: how a hybrid search joins its two lists.
        weighting: `"idf"`: weigh the sparse query by the rarity of its terms.
        until: A policy of `nextk.until`: one call then goes on, page by page, until it has enough, and what the policy
            does not keep is never handed out, by an opened search neither.
        max_results, max_pulls, deadline: What bounds such a call: documents, pages, seconds; unset: 200, 10, 10.
        max_idle: Seconds without a pull after which the index may drop an opened search.
        max_recovery: How many rows may be pulled again after a fault, or for a cursor.

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

    Until there is enough:
        ```python
        from nextk.until import Accepted, TokenBudget

        retriever.invoke("Why is the sky blue?", until=Accepted(10, is_permitted))

        with retriever.open("Why is the sky blue?") as search:
            documents = search.fetch_until(TokenBudget(6_000))
            cursor = search.cursor()  # JSON

        with retriever.resume(cursor) as search:  # in any process
            documents = search.fetch_next(5)
        ```

    Raises:
        ClientError: The arguments contradict each other, the mode needs a model that is missing, or there is no index.
        ValidationError: An argument is of the wrong type.
    """

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
        self,
        query: str,
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> RetrievalSession[Document]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The question.
            filter: Instead of the retriever's own.
            namespace: Likewise.
            **asked: `until`, instead of the retriever's own: what it does not keep, no call hands out. And bounds of
                this search as a whole, then `LimitReached`: `max_results` documents, `max_pulls` pages, `deadline`
                seconds from the first pull. Absent: no bound, but the retriever's own on each `fetch_until`.

        Returns:
            The session; leave it by `with`, so that the index need not keep the search.
        """
        terms = self._terms().within(**asked)
        return self._session(query, self._blank(filter, namespace), terms)

    def aopen(
        self,
        query: str,
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> AsyncRetrievalSession[Document]:
        """The same for an event loop: `async with retriever.aopen(query) as search`."""
        terms = self._terms().within(**asked)
        return self._asession(query, self._blank(filter, namespace), terms)

    def resume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> RetrievalSession[Document]:
        """Go on with a search from its cursor, in any process and as often as wanted; each time the same rows come.

        Args:
            cursor: From `cursor()` or `detach()` of a session of this retriever, or of one like it.
            filter: As it was when the cursor was made, if it was not the retriever's own; a cursor holds none.
            namespace: Likewise.
            **asked: As for `open`. Documents and pages of before count.

        Raises:
            ClientError: It is no cursor, was edited, or belongs to another index, filter, namespace, fusion or
                weighting.
        """
        terms = self._terms().within(**asked)
        return self._session(query_of(cursor)[0], self._blank(filter, namespace), terms, cursor)

    def aresume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> AsyncRetrievalSession[Document]:
        """The same for an event loop: `async with retriever.aresume(cursor) as search`."""
        terms = self._terms().within(**asked)
        return self._asession(query_of(cursor)[0], self._blank(filter, namespace), terms, cursor)

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
        **asked: Unpack[Asked],
    ) -> list[Document]:
        blank, k = self._blank(filter, namespace), self.k if k is None else k
        terms = self._terms().for_one_call(k, **asked)
        if terms.until is not None:
            with self._session(query, blank, terms) as search:
                return search.fetch_until()
        question = self._embedder().embed(query, blank, self._searched())
        return self._documents(
            self._searched().blocking.query(top_k=DEFAULT_K if k is None else k, **question.parameters())
        )

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
        filter: str | None = None,
        namespace: str | None = None,
        **asked: Unpack[Asked],
    ) -> list[Document]:
        blank, k = self._blank(filter, namespace), self.k if k is None else k
        terms = self._terms().for_one_call(k, **asked)
        if terms.until is not None:
            async with self._asession(query, blank, terms) as search:
                return await search.fetch_until()
        question = await self._embedder().aembed(query, blank, self._searched())
        return self._documents(
            await self._searched().native.query(top_k=DEFAULT_K if k is None else k, **question.parameters())
        )
