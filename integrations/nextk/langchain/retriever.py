"""The retriever: LangChain's contract over a search that can go on."""

from collections.abc import Mapping
from typing import Any, Self, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from nextk.langchain.from_store import fields_of
from nextk.langchain.settings import DEFAULT_K
from nextk.langchain.streaming import Streaming
from nextk.langchain.writing import Writing
from nextk.sessions import AsyncRetrievalSession, RetrievalSession
from nextk.sessions.config import Overrides
from nextk.sessions.cursor import ReadCursor


class ResumableRetriever(Streaming, Writing):
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
        namespace: Where in it to search, and to store.

    Key init args — the search:
        k: How many documents one call returns at the most; unset: 4, or with `until` as many as that decides.
        filter: Only records whose metadata passes, as in `"lang = 'de' AND year > 2020"`.
        embedding: A LangChain `Embeddings`; or `True`: the index embeds the text. Unset, and without
            `sparse_embedding`: the same as `True` if the index has a text model, else an error at the first use.
        sparse_embedding: A sparse model: an object whose `embed_query(text)` gives `indices` and `values`; to store
            documents by it, `embed_documents(texts)` as well.
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
        document_mapper: A function from a `QueryResult` to a `Document`, instead of both; `None` leaves the row out.

    Instantiate:
        ```python
        from nextk.langchain import ResumableRetriever

        retriever = ResumableRetriever(embedding=True, k=5)
        ```

        Or over texts, without any server:

        ```python
        with ResumableRetriever.from_texts(["The sky is blue.", "Grass is green."], k=1) as local:
            local.invoke("Why is the sky blue?")
        ```

    Store:
        ```python
        from langchain_core.documents import Document

        retriever.add_texts(["The sky is blue."], [{"lang": "en", "public": True}], show_progress=True)
        retriever.add_documents([Document("Grass is green.", id="grass", metadata={"lang": "en"})], namespace="science")
        retriever.delete(["grass"], namespace="science")
        retriever.delete(filter="lang = 'de'")
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
        await retriever.aadd_texts(["The sea is blue, too."])
        ```

    On demand:
        ```python
        with retriever.open("Why is the sky blue?") as search:
            documents = search.fetch_next(5)
            while len(documents) < 50 and not search.exhausted:
                documents += search.fetch_next(5)

        async with retriever.aopen("Why is the sky blue?") as search:
            documents = await search.fetch_next(5)
        ```

    Until there is enough:
        ```python
        from nextk.until import Accepted, TokenBudget


        def is_permitted(documents):
            return [document.metadata.get("public", False) for document in documents]


        retriever.invoke("Why is the sky blue?", until=Accepted(10, is_permitted))

        with retriever.open("Why is the sky blue?") as search:
            documents = search.fetch_until(TokenBudget(6_000))
            cursor = search.cursor()  # JSON

        with retriever.resume(cursor) as search:  # in any process
            documents = search.fetch_next(5)
        ```

    Stream:
        Each page is pulled when the loop asks for it, and leaving the loop stops the search.

        ```python
        for page in retriever.stream("Why is the sky blue?"):
            if any("blue" in document.page_content for document in page):
                break

        async for page in retriever.astream("Why is the sky blue?", k=2, max_results=10):
            print(len(page))
        ```

        Within a chain it hands on what `invoke` returns, so a chain answers the same, streamed or not.

    Trace:
        Every page is a retriever run: of the config given, else of the chain or graph that calls.

        ```python
        with retriever.open("Why is the sky blue?", config={"tags": ["pages"], "run_name": "sky"}) as search:
            search.fetch_next(5)
        ```

    Coming from `UpstashVectorStore` of `langchain_community`:
        Records stay as they are, and what is stored here with `embedding=` is read there as well. A document's `id` is
        set, unlike there; ids that are not given are made of the content.

        | there                                             | here                                              |
        | ------------------------------------------------- | ------------------------------------------------- |
        | `UpstashVectorStore(embedding=, index_url=, ...)` | `ResumableRetriever(embedding=, url=, token=)`    |
        | `store.as_retriever(search_kwargs={"k": 5})`      | `ResumableRetriever.from_vectorstore(store, k=5)` |
        | `store.similarity_search(query, 5, filter)`       | `retriever.invoke(query, k=5, filter=filter)`     |
        | `store.similarity_search_with_score(query)`       | `score_key="score"`, then in the metadata         |
        | `search_type="similarity_score_threshold"`        | `until=MinScore(0.8)`: all of them, not of k      |
        | `UpstashVectorStore.from_texts(..., index_url=)`  | `retriever.add_texts(texts, metadatas)`           |
        | `store.add_documents(documents, ids=)`            | `retriever.add_documents(documents, ids=)`        |
        | `store.delete(ids)`                               | `retriever.delete(ids)`                           |
        | `store.delete(delete_all=True)`, `store.info()`   | `Index(url, token).reset()`, `.info()`            |
        | `search_type="mmr"`                               | not there                                         |

    Raises:
        ClientError: The arguments contradict each other, the mode needs a model that is missing, or there is no index.
        ValidationError: An argument is of the wrong type.
    """

    @classmethod
    def from_vectorstore(cls, store: Any, **kwargs: Any) -> Self:
        """A retriever over the index of LangChain's own Upstash store: same place, models, namespace and text key.

        Args:
            store: A `langchain_community.vectorstores.UpstashVectorStore`.
            **kwargs: Further arguments of the retriever; they win over what the store says.

        Raises:
            ClientError: It is no such store, or its index does not say where it is.
        """
        return cls(**{**fields_of(store), **kwargs})

    def open(
        self,
        query: str,
        *,
        filter: str | None = None,
        namespace: str | None = None,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[Document]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The question.
            filter: Instead of the retriever's own.
            namespace: Likewise.
            config: Each call on the session is a retriever run under it; absent: under the one of the chain or graph
                that calls. Its `run_id` is that of the first one.
            **overrides: `until`, instead of the retriever's own: what it does not keep, no call hands out. And bounds
                of this search as a whole, then `LimitReached`: `max_results` documents, `max_pulls` pages, `deadline`
                seconds from the first pull. Absent: no bound, but the retriever's own on each `fetch_until`.

        Returns:
            The session; leave it by `with`, so that the index need not keep the search.
        """
        search_config, tracing = self._search_config(overrides), self._tracing(query, config)
        return self._resolve(filter, namespace).session(query, search_config, tracing=tracing)

    def aopen(
        self,
        query: str,
        *,
        filter: str | None = None,
        namespace: str | None = None,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[Document]:
        """The same for an event loop: `async with retriever.aopen(query) as search`."""
        search_config, tracing = self._search_config(overrides), self._tracing(query, config)
        return self._resolve(filter, namespace).async_session(query, search_config, tracing=tracing)

    def resume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[Document]:
        """Go on with a search from its cursor, in any process and as often as wanted; each time the same rows come.

        Args:
            cursor: From `cursor()` or `detach()` of a session of this retriever, or of one like it.
            filter: As it was when the cursor was made, if it was not the retriever's own; a cursor holds none.
            namespace: Likewise.
            config: As for `open`.
            **overrides: As for `open`. Documents and pages of before count.

        Raises:
            ClientError: It is no cursor, was edited, or belongs to another index, filter, namespace, fusion or
                weighting.
        """
        search_config, read = self._search_config(overrides), ReadCursor.of(cursor)
        query = read.query_texts[0]
        tracing = self._tracing(query, config)
        return self._resolve(filter, namespace).session(query, search_config, read, tracing)

    def aresume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: str | None = None,
        namespace: str | None = None,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[Document]:
        """The same for an event loop: `async with retriever.aresume(cursor) as search`."""
        search_config, read = self._search_config(overrides), ReadCursor.of(cursor)
        query = read.query_texts[0]
        tracing = self._tracing(query, config)
        return self._resolve(filter, namespace).async_session(query, search_config, read, tracing)

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
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        resolved, k = self._resolve(filter, namespace), self._resolve_k(k)
        if (search_config := self._one_call_config(k, overrides)) is not None:
            with resolved.session(query, search_config) as search:
                return search.fetch_until()
        embedded = resolved.embedder.embed(query, resolved.template, resolved.connection)
        top_k = DEFAULT_K if k is None else k
        return resolved.reader.read(resolved.connection.index.query(top_k=top_k, **embedded.parameters()))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        resolved, k = self._resolve(filter, namespace), self._resolve_k(k)
        if (search_config := self._one_call_config(k, overrides)) is not None:
            async with resolved.async_session(query, search_config) as search:
                return await search.fetch_until()
        embedded = await resolved.embedder.aembed(query, resolved.template, resolved.connection)
        top_k = DEFAULT_K if k is None else k
        return resolved.reader.read(await resolved.connection.async_index.query(top_k=top_k, **embedded.parameters()))
