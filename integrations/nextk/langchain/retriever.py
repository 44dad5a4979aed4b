"""The LangChain retriever: LangChain's contract for retrievers, over a search that can go on."""

from collections.abc import Mapping
from typing import Any, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from nextk.langchain.from_store import OverStores
from nextk.langchain.settings import DEFAULT_K
from nextk.langchain.streaming import Streaming
from nextk.langchain.tracing import atrace_shortfall, trace_shortfall
from nextk.langchain.writing import Writing
from nextk.sessions import AsyncRetrievalSession, RetrievalSession
from nextk.sessions.config import Overrides
from nextk.sessions.read_cursor import ReadCursor


class ResumableRetriever(Streaming, Writing, OverStores):
    """A LangChain retriever, over a vector index or any vector store, that can go on where its first results end.

    Without a policy, `invoke` is one plain query; with `until`, or a `k` above 1,000, it goes on page by page. Nothing
    stays open afterwards. `open` starts a search that is continued on demand: it returns the next documents, in order,
    none twice and none left out, without searching again. The retriever of the same name in `nextk.llama_index` does
    this for LlamaIndex.

    Setup:
        Install the extra, and name an Upstash Vector index or any server that speaks its protocol. An index in this
        process needs no URL and no token; see `from_texts`. A `VectorStore` that you have, such as Chroma, FAISS or
        Qdrant, is searched where it is; see `from_vectorstore`.

        ```bash
        pip install 'nextk[langchain]'
        export UPSTASH_VECTOR_REST_URL=https://...
        export UPSTASH_VECTOR_REST_TOKEN=...
        ```

    Key init args — the index:
        index: An `Index` or an `AsyncIndex`. Blocking and asynchronous calls work over either.
        url: The URL of the index, instead of `index`; unset: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: The token for that URL; unset: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        namespace: The namespace of the index in which the retriever searches and stores.
        source: Any source of `nextk.stores`, instead of an index. Arguments that only an index takes are then refused,
            and so is writing.

    Key init args — the search:
        k: The largest number of documents that one call returns, pulled page by page if it is above 1,000; unset: 4, or
            with `until` as many as the policy decides.
        filter: A filter on metadata: a text in the index's language, such as `"lang = 'de' AND year > 2020"`, or a dict
            such as `{"lang": "de", "year": {"$gt": 2020}}`. Only records that pass it are found. Over a `source` it is
            whatever the store takes.
        embedding: A LangChain `Embeddings`; or `True` if the index embeds the text. If both this and
            `sparse_embedding` are unset, the index embeds the text if it has a text model; else the first use raises.
        sparse_embedding: A sparse model: an object whose `embed_query(text)` returns an object with `indices` and
            `values`. To store documents by it, it needs `embed_documents(texts)` as well.
        retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; unset: every component that there is a model for.
        fusion: How a hybrid search joins its two ranked lists: `"rrf"` or `"dbsf"`; unset: the index's default.
        weighting: `"idf"` weighs the sparse query by the rarity of its terms, `"none"` does not; unset: as the index
            wants it, which is asked once, and none for an index that does not say.
        exact: Whether documents come in exact order although the index searches large namespaces approximately, so that
            a few come a page late. It costs a scan of all vectors; unset: no. Indexes that are embedded or on
            PostgreSQL and `nextk serve` know it, and no `source` of another kind does.
        until: A policy of `nextk.until`. One call then goes on, page by page, until the policy has enough. What the
            policy does not keep is never handed out, and an opened search does not hand it out either.
        max_results: The largest number of documents that a call with a policy returns. Its default, 200, gives way to a
            `k`; another number holds as well.
        max_pulls: The largest number of pages that a call with a policy pulls. Its default, 10, gives way to a `k`;
            another number holds as well.
        deadline: The number of seconds after which a call with a policy or with a `k` above 1,000 pulls no further
            page; unset: 10.
        max_idle: The number of seconds without a pull after which the index may drop an opened search; unset: 120.
        max_recovery: The largest number of matches that may be requested again after a fault, or to go on from a
            cursor; unset: 1,000.
        cursor_key: The secret text with which cursors are signed; a cursor that was not signed with it is refused.
            Unset: no signature, so that an edited cursor is not told from a true one.

    Key init args — the documents:
        text_key: The metadata keys that may hold the text, which is taken out of the metadata. A record without any of
            them has its text in its `data`. Records written by LangChain's and LlamaIndex's Upstash stores are read as
            they are. Records without any text are left out, with a warning in the log. Texts are stored under the first
            key; where the index embeds, they are stored as data, and with `embedding=True` under that key as well.
        score_key: The metadata key under which a document's score is put; unset: the score is left out.
        document_mapper: A function that makes a `QueryResult` into a `Document`, instead of `text_key` and `score_key`.
            A result for which it returns `None` is left out. It is no permission check, which a cursor would pin: that
            is `until`.

    Instantiate:
        ```python
        from nextk.langchain import ResumableRetriever

        retriever = ResumableRetriever(embedding=True, k=5)
        ```

        A retriever over texts needs no server:

        ```python
        with ResumableRetriever.from_texts(["The sky is blue.", "Grass is green."], k=1) as local:
            local.invoke("Why is the sky blue?")
        ```

        A store that you have is searched where it is, with all that follows here but `namespace` and writing:

        ```python
        from langchain_core.embeddings import DeterministicFakeEmbedding
        from langchain_core.vectorstores import InMemoryVectorStore

        store = InMemoryVectorStore.from_texts(["The sky is blue."], DeterministicFakeEmbedding(size=8))
        ResumableRetriever.from_vectorstore(store, k=5).invoke("Why is the sky blue?")
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

        Any other keyword argument raises a `TypeError`; none is ignored.

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

        Within a chain, the retriever passes on what `invoke` returns, so a chain answers the same, streamed or not.

    Trace:
        Every page is a retriever run under the given config; without one, under that of the calling chain or graph.

        ```python
        with retriever.open("Why is the sky blue?", config={"tags": ["pages"], "run_name": "sky"}) as search:
            search.fetch_next(5)
        ```

        If `max_results`, `max_pulls` or `deadline` ends a call before its policy has enough, the log warns and says
        what to do. The run then has the warning in its metadata as `nextk_shortfall`, and handlers get a custom event
        of that name with the counts.

    Coming from `store.as_retriever()`, over any `VectorStore`:
        The store keeps its documents, and is written to as before.

        | there                                             | here                                              |
        | ------------------------------------------------- | ------------------------------------------------- |
        | `store.as_retriever(search_kwargs={"k": 5})`      | `ResumableRetriever.from_vectorstore(store, k=5)` |
        | `search_kwargs={"filter": filter}`                | `filter=filter`, for one call as well             |
        | `store.similarity_search_with_relevance_scores()` | `score_key="score"`, then in the metadata         |
        | `search_type="similarity_score_threshold"`        | `until=MinScore(0.8)`: not only among the first k |
        | `search_type="mmr"`                               | not there                                         |

    Coming from `UpstashVectorStore` of `langchain_community`:
        What wants a store takes a `ResumableVectorStore`. Records stay as they are, and the community store reads what
        is stored here with `embedding=`. Unlike there, the `id` of a document is set, and an id that is not given is
        made of the content.

        | there                                             | here                                              |
        | ------------------------------------------------- | ------------------------------------------------- |
        | `UpstashVectorStore(embedding=, index_url=, ...)` | `ResumableRetriever(embedding=, url=, token=)`    |
        | `store.as_retriever(search_kwargs={"k": 5})`      | `ResumableRetriever.from_vectorstore(store, k=5)` |
        | `store.similarity_search(query, 5, filter)`       | `retriever.invoke(query, k=5, filter=filter)`     |
        | `store.similarity_search_with_score(query)`       | `score_key="score"`, then in the metadata         |
        | `search_type="similarity_score_threshold"`        | `until=MinScore(0.8)`: not only among the first k |
        | `UpstashVectorStore.from_texts(..., index_url=)`  | `retriever.add_texts(texts, metadatas)`           |
        | `store.add_documents(documents, ids=)`            | `retriever.add_documents(documents, ids=)`        |
        | `store.delete(ids)`                               | `retriever.delete(ids)`                           |
        | `store.delete(delete_all=True)`, `store.info()`   | `Index(url, token).reset()`, `.info()`            |
        | `search_type="mmr"`                               | `ResumableVectorStore`, which has it              |

    Raises:
        ClientError: If arguments contradict each other, if the mode needs a model that is missing, or if there is no
            index.
        ValidationError: If an argument is of the wrong type.
    """

    def open(
        self,
        query: str,
        *,
        filter: Any = None,
        namespace: str | None = None,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[Document]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The text of the query.
            filter: A filter on metadata for this search, a text or a dict, `""` for none; `None` for the retriever's
                own.
            namespace: The namespace to search; `None` for the retriever's own.
            config: The config under which each call on the session is a retriever run; `None` for that of the calling
                chain or graph. Its `run_id` becomes the id of the first run.
            **overrides: Settings of this search alone. `until` is a policy instead of the retriever's own; what it does
                not keep is never handed out. `max_results` (documents), `max_pulls` (pages) and `deadline` (seconds
                from the first pull) bound the search as a whole: a call that can bring nothing within them raises
                `LimitReached`. Without them, only each `fetch_until` is bounded, by the retriever's own bounds.
                `max_recovery` replaces the retriever's own.

        Returns:
            The session. Leave it by `with`, so that the index need not keep the search open.

        Raises:
            ClientError: If `until` is not a policy, or if a bound is not above 0.
            TypeError: If another keyword argument is given.
        """
        search_config, tracing = self._search_config(overrides), self._tracing(query, config)
        return self._resolve(filter, namespace).session(query, search_config, tracing=tracing)

    def aopen(
        self,
        query: str,
        *,
        filter: Any = None,
        namespace: str | None = None,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[Document]:
        """Start a search for an event loop, used as `async with retriever.aopen(query) as search`; see `open`."""
        search_config, tracing = self._search_config(overrides), self._tracing(query, config)
        return self._resolve(filter, namespace).async_session(query, search_config, tracing=tracing)

    def resume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: Any = None,
        namespace: str | None = None,
        without_policies: bool = False,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[Document]:
        """Go on with a search from its cursor, in any process, any number of times. Each time, the same documents come.

        Args:
            cursor: The cursor, from `cursor()` or `detach()` of a session of this retriever or of one like it.
            filter: The filter of the search that the cursor is from; `None` if that was the retriever's own. A cursor
                holds no filter.
            namespace: The namespace of the search that the cursor is from; `None` if that was the retriever's own.
            without_policies: Whether the search may go on without the policies that it had. By default the policy of
                the search, `until` here or the retriever's own, has to be the same as when the cursor was made, if it
                may drop documents: a permission check is not forgotten on the way.
            config: The config under which each call on the session is a retriever run, as for `open`.
            **overrides: Settings of this search alone, as for `open`. Documents and pages from before the cursor was
                made count towards the bounds.

        Returns:
            The session. Leave it by `with`, so that the index need not keep the search open.

        Raises:
            ClientError: If it is not a cursor, if it was edited, if it was not signed with the `cursor_key`, if it
                belongs to another index, filter, namespace, fusion or weighting.
            PolicyMismatch: If a policy that the search had is missing or differs.
        """
        search_config = self._search_config(overrides)
        read = ReadCursor.of(cursor, search_config.cursor_key, without_policies=without_policies)
        query = read.query_texts[0]
        tracing = self._tracing(query, config)
        return self._resolve(filter, namespace).session(query, search_config, read, tracing)

    def aresume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: Any = None,
        namespace: str | None = None,
        without_policies: bool = False,
        config: RunnableConfig | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[Document]:
        """Go on with a search for an event loop, used as `async with retriever.aresume(cursor)`; see `resume`."""
        search_config = self._search_config(overrides)
        read = ReadCursor.of(cursor, search_config.cursor_key, without_policies=without_policies)
        query = read.query_texts[0]
        tracing = self._tracing(query, config)
        return self._resolve(filter, namespace).async_session(query, search_config, read, tracing)

    # BaseRetriever reads this signature: it passes an argument of `invoke` on because it stands here, and one that does
    # not is Python's own TypeError.
    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Any = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        resolved, k = self._resolve(filter, namespace), self._resolve_k(k)
        if (search_config := self._one_call_config(k, overrides)) is not None:
            with resolved.session(query, search_config) as search:
                documents = search.fetch_until()
            trace_shortfall(run_manager, search.report.shortfall)
            return documents
        return resolved.search(query, DEFAULT_K if k is None else k)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Any = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        resolved, k = self._resolve(filter, namespace), self._resolve_k(k)
        if (search_config := self._one_call_config(k, overrides)) is not None:
            async with resolved.async_session(query, search_config) as search:
                documents = await search.fetch_until()
            await atrace_shortfall(run_manager, search.report.shortfall)
            return documents
        return await resolved.asearch(query, DEFAULT_K if k is None else k)
