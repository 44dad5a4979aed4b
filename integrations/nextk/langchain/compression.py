"""Compression that refills: LangChain's document compressors over a search that can go on."""

import logging
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field

from nextk.arguments import require_count
from nextk.errors import ClientError
from nextk.langchain.retriever import ResumableRetriever
from nextk.langchain.settings import DEFAULT_K
from nextk.sessions import Report
from nextk.sessions.config import Overrides, SearchConfig
from nextk.until import Candidate, Policy
from nextk.until.policy import BatchObserver, PolicyState
from nextk.until.reranking import Stability

log = logging.getLogger("nextk.langchain")

WINDOW = 20
"""After how many further documents all of them are reranked, where nothing says so."""


class ResumableCompressionRetriever(BaseRetriever):
    """A `ContextualCompressionRetriever` that goes on: until enough documents survive, or the best ones are settled.

    LangChain's own retrieves once; what the compressor drops is missing, and what a reranker would have liked better,
    but was not retrieved, it never sees. This one continues the same search, and stops it when there is enough.

    Setup:
        ```bash
        pip install 'nextk[langchain]'
        ```

    Key init args:
        base_compressor: Any LangChain document compressor: a filter, an extractor, a reranker, a pipeline of them.
        base_retriever: The `ResumableRetriever` whose search is continued. Its `until` says which documents the
            compressor is shown: of those that an `Accepted` denies, none. How many it wants plays no part here, nor
            does the retriever's `k`; but a policy of scores alone also ends the search.
        mode: `"filter"`: each page is compressed once, and the search goes on until `min_documents` have survived.
            `"rerank"`: after every `window` documents all of them are compressed anew, and the search goes on until the
            best `min_documents` have been the same ones for `patience` windows.
        min_documents: How many documents there have to be; unset: 4. In filter mode the rest of the last page may
            bring some more; in rerank mode exactly so many are returned.
        patience: For how many windows the best documents have to stay; unset: 2. Only in rerank mode.
        window: How many documents make a window; unset: 20. Only in rerank mode.
        max_results, max_pulls, deadline: What bounds one call: documents that the compressor is shown, pages, and
            seconds, of which the compressor's count too; unset: as `base_retriever` has it. There may then be fewer
            documents than `min_documents`, as when the index has no more; the log (INFO) says why.

    What a compressor returns is returned as it is: with a rewritten text, with other metadata, without an id, and of a
    document that it splits, each part, which counts as one. In filter mode documents come in the order of the search,
    or in that which the compressor gives to a page. In rerank mode it is given copies, so that what it writes into them
    does not pile up; documents are the same for it from one time to the next if id and text are. One whose texts differ
    each time (a model that extracts at a temperature) never settles, and the bounds end the search.

    A reranker's own `top_n` must not be below `min_documents`. The same holds of a filter's bound that has another
    name, as `k` of `EmbeddingsFilter`.

    Instantiate:
        ```python
        from langchain_classic.retrievers.document_compressors import EmbeddingsFilter

        from nextk.langchain import ResumableCompressionRetriever, ResumableRetriever

        retriever = ResumableCompressionRetriever(
            base_compressor=EmbeddingsFilter(embeddings=embeddings, similarity_threshold=0.7),
            base_retriever=ResumableRetriever(embedding=True),
            min_documents=5,
        )
        ```

    Use:
        ```python
        retriever.invoke("Why is the sky blue?")
        retriever.invoke("Why is the sky blue?", min_documents=10, filter="lang = 'en'")
        ```

    Async:
        ```python
        await retriever.ainvoke("Why is the sky blue?")
        ```

    An exception of the compressor, or of a check, is the caller's as it is. Nothing is returned then, nothing is left
    open, and calling again searches anew.

    Raises:
        ClientError: The compressor has a `top_n` below `min_documents`.
        ValidationError: An argument is of the wrong type.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    base_compressor: BaseDocumentCompressor
    base_retriever: ResumableRetriever
    mode: Literal["filter", "rerank"] = "filter"
    min_documents: Annotated[int, Field(ge=1)] = DEFAULT_K
    patience: Annotated[int, Field(ge=1)] = 2
    window: Annotated[int, Field(ge=1)] = WINDOW
    max_results: Annotated[int, Field(ge=1)] | None = None
    max_pulls: Annotated[int, Field(ge=1)] | None = None
    deadline: Annotated[float, Field(gt=0)] | None = None

    if not TYPE_CHECKING:  # not in a validator, which would make a ValidationError of a ClientError

        def __init__(self, **fields: Any) -> None:
            super().__init__(**fields)
            self._count(None)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        min_documents: int | None = None,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        def compress(documents: list[Document]) -> Sequence[Document]:
            shown = self._shown(documents)
            return self.base_compressor.compress_documents(shown, query, callbacks=run_manager.get_child())

        state = self._new_state(min_documents, compress)
        retriever = self._with_bounds(overrides)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        with retriever.open(query, filter=filter, namespace=namespace, config=config) as search:
            search.fetch_until(_stopping(state, retriever.until))
            if rest := state.rest():
                state.read(compress(rest))
        return state.result(search.report)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        min_documents: int | None = None,
        filter: str | None = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        async def compress(documents: list[Document]) -> Sequence[Document]:
            shown = self._shown(documents)
            return await self.base_compressor.acompress_documents(shown, query, callbacks=run_manager.get_child())

        state = self._new_state(min_documents, compress)
        retriever = self._with_bounds(overrides)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        async with retriever.aopen(query, filter=filter, namespace=namespace, config=config) as search:
            await search.fetch_until(_stopping(state, retriever.until))
            if rest := state.rest():
                state.read(await compress(rest))
        return state.result(search.report)

    def _count(self, min_documents: int | None) -> int:
        """How many documents there have to be.

        Raises:
            ClientError: The number is not a whole one of at least 1, or the compressor returns fewer by itself.
        """
        count = self.min_documents if min_documents is None else min_documents
        require_count(count, "min_documents")
        top_n = getattr(self.base_compressor, "top_n", None)
        if isinstance(top_n, int) and top_n < count:
            message = (
                f"{type(self.base_compressor).__name__} returns at most top_n={top_n} documents, and "
                f"min_documents={count}: give it a top_n of at least {count}"
            )
            raise ClientError(message)
        return count

    def _new_state(self, min_documents: int | None, compress: Callable[[list[Document]], Any]) -> "_CompressionState":
        count = self._count(min_documents)
        if self.mode == "filter":
            return _FilterMode(count, count, compress)
        return _RerankMode(count, self.window, self.patience, compress)

    def _shown(self, documents: list[Document]) -> list[Document]:
        """What the compressor is given: in rerank mode it gets the same documents again and again."""
        return documents if self.mode == "filter" else [document.model_copy(deep=True) for document in documents]

    def _with_bounds(self, overrides: Overrides) -> ResumableRetriever:
        """The retriever, with the policy and the bounds of this call.

        Raises:
            ClientError: `until` is not a policy, or a bound is not above 0.
        """
        own = {"max_results": self.max_results, "max_pulls": self.max_pulls, "deadline": self.deadline}
        SearchConfig().with_overrides(**overrides)
        # As the retriever's own, which end a call with what it has: bounds of a search raise LimitReached.
        given = {name: value for name, value in {**own, **overrides}.items() if value is not None}
        return self.base_retriever.model_copy(update=given)


class _Compression(Policy):
    """The policy of one call, whose judge also holds what the call returns."""

    def __init__(self, state: "_CompressionState") -> None:
        self._only = state

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        return self._only


def _stopping(state: "_CompressionState", until: Policy | None) -> Policy:
    """When to stop: when there is enough, or when the scores are too low for anything more."""
    leaves = [] if until is None else until.leaves()
    policy: Policy = state.policy
    return reduce(or_, [leaf for leaf in leaves if leaf.scores_only], policy)


class _CompressionState(BatchObserver):
    """One call.

    Args:
        count: How many documents there have to be.
        rows: How many the first page is to bring.
        compress: The compressor; blocking or not.
    """

    def __init__(self, count: int, rows: int, compress: Callable[[list[Document]], Any]) -> None:
        super().__init__(_Compression(self))
        self.first_pull = rows
        self.observe = compress
        self.documents: list[Document] = []  # what the compressor has returned
        self._count = count

    def read(self, answer: object) -> None:
        """Take in what the compressor has returned."""
        raise NotImplementedError

    def rest(self) -> list[Document]:
        """What it has to be given once more in the end."""
        return []

    def result(self, report: Report) -> list[Document]:
        """What the call returns."""
        found, wanted = len(self.documents), self._count
        if found < wanted:
            log.info("%d documents of %d, after %d rows: %s", found, wanted, report.pulled, report.stop_reason)
        return self.documents


class _FilterMode(_CompressionState):
    """Every page is compressed once."""

    def learn(self, overrides: list[Candidate], answer: Any) -> None:  # noqa: ARG002
        self.unobserved = []
        self.read(answer)

    def read(self, answer: object) -> None:
        self.documents += _documents_in(answer)

    def enough(self) -> bool:
        return len(self.documents) >= self._count


class _RerankMode(_CompressionState):
    """Everything is compressed anew after every window: `unobserved` is never emptied."""

    def __init__(self, count: int, window: int, patience: int, compress: Callable[[list[Document]], Any]) -> None:
        super().__init__(count, window, compress)
        self._window = window
        self._stability = Stability(patience)
        self._compressed = 0

    def next_batch(self, *, flush: bool) -> list[Candidate]:  # noqa: ARG002
        return self.unobserved if len(self.unobserved) == self._compressed + self._window else []

    def learn(self, overrides: list[Candidate], answer: Any) -> None:
        self._compressed = len(overrides)
        self.read(answer)
        if len(self.documents) == self._count:
            self._stability.update((document.id, document.page_content) for document in self.documents)

    def read(self, answer: object) -> None:
        self.documents = _documents_in(answer)[: self._count]

    def rest(self) -> list[Document]:
        return [candidate.item for candidate in self.unobserved] if len(self.unobserved) > self._compressed else []

    def enough(self) -> bool:
        return self._stability.reached


def _documents_in(answer: object) -> list[Document]:
    """What a compressor has returned.

    Raises:
        ClientError: It is not a list of documents.
    """
    said: list[Any] = list(answer) if isinstance(answer, Sequence) else [answer]
    if odd := [one for one in said if not isinstance(one, Document)]:
        message = f"the compressor returned {type(odd[0]).__name__}: it has to return a list of Documents"
        raise ClientError(message)
    return said
