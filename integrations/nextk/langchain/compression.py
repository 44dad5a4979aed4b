"""Compression that refills: a search goes on until enough documents have passed LangChain's document compressors."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from nextk.arguments import require_count
from nextk.errors import ClientError
from nextk.langchain.retriever import ResumableRetriever
from nextk.langchain.settings import DEFAULT_K
from nextk.langchain.tracing import Tracing, atrace_shortfall, trace_shortfall
from nextk.sessions import Report
from nextk.sessions.config import UNBOUNDED, Overrides, SearchConfig
from nextk.until import Candidate, Policy
from nextk.until.policy import BatchObserver, PolicyState
from nextk.until.reranking import Stability

log = logging.getLogger("nextk.langchain")

WINDOW = 20
"""The default number of further documents after which all documents are reranked."""


class ResumableCompressionRetriever(BaseRetriever):
    """A `ContextualCompressionRetriever` that goes on until enough documents survive, or until the best are settled.

    LangChain's own retriever retrieves once. What its compressor drops is missing from the answer, and a reranker never
    sees the documents that it would have liked better but that were not retrieved. This retriever goes on with the same
    search, and stops it when there is enough.

    Setup:
        ```bash
        pip install 'nextk[langchain]'
        ```

    Key init args:
        base_compressor: Any LangChain document compressor: a filter, an extractor, a reranker, or a pipeline of them.
        base_retriever: The `ResumableRetriever` whose search goes on. Its `until` decides which documents the
            compressor is shown; it is shown none that an `Accepted` denies. How many documents the policy or the
            retriever's `k` asks for plays no part here, but a policy of scores alone also ends the search.
        mode: `"filter"` compresses each page once, and goes on until `min_documents` have survived. `"rerank"`
            compresses all documents anew after every `window`, and goes on until the best `min_documents` have been the
            same for `patience` windows. Unset: `"filter"`.
        min_documents: The number of documents that there have to be; unset: 4. In filter mode, the rest of the last
            page may bring some more. In rerank mode, exactly this many are returned.
        patience: The number of windows for which the best documents have to stay the same; unset: 2. It is used in
            rerank mode only.
        window: The number of documents in a window; unset: 20. It is used in rerank mode only.
        max_results: The largest number of documents that the compressor is shown in one call; unset: as the
            `base_retriever` has it, and by default 200, or more if `min_documents` needs more.
        max_pulls: The largest number of pages that one call pulls; unset: as the `base_retriever` has it.
        deadline: The number of seconds after which a call pulls no further page, including the seconds of the
            compressor; unset: as the `base_retriever` has it.

    A call that one of the three bounds ends, or that reaches the end of the index, may return fewer documents than
    `min_documents`. The log then says why: as a warning if it was a bound, which the trace names as well.

    Whatever the compressor returns is returned as it is: with a rewritten text, with other metadata, or without an id.
    If it splits a document, each part is returned and counts as one document. In filter mode, documents come in the
    order of the search, or in the order that the compressor gives to a page. In rerank mode, the compressor is given
    copies, so that what it writes into them does not pile up. A document counts as the same from one window to the next
    if its id and its text are the same. If the texts differ each time (a model that extracts at a temperature), the
    best documents never settle, and the bounds end the search.

    A reranker's own `top_n` must not be below `min_documents`. A bound of the compressor that has another name, such as
    `k` of `EmbeddingsFilter`, must not be below it either, but that is not checked.

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

    An exception of the compressor or of a check reaches the caller as it is. Nothing is left open then, and the next
    call searches anew.

    Raises:
        ClientError: If the compressor has a `top_n` below `min_documents`.
        ValidationError: If an argument is of the wrong type.
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
        filter: Any = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        def compress(documents: list[Document]) -> Sequence[Document]:
            shown = self._shown(documents)
            return self.base_compressor.compress_documents(shown, query, callbacks=run_manager.get_child())

        state = self._new_state(min_documents, compress)
        search_config = self._search_config(state.room, overrides)
        tracing = self._tracing(query, run_manager.get_child())
        resolved = self.base_retriever._resolve(filter, namespace)  # noqa: SLF001 - of the same package
        with resolved.session(query, search_config, tracing=tracing) as search:
            search.fetch_until(_stopping(state, search_config.until))
            if rest := state.rest():
                state.read(compress(rest))
        trace_shortfall(run_manager, search.report.shortfall)
        return state.result(search.report)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        min_documents: int | None = None,
        filter: Any = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> list[Document]:
        async def compress(documents: list[Document]) -> Sequence[Document]:
            shown = self._shown(documents)
            return await self.base_compressor.acompress_documents(shown, query, callbacks=run_manager.get_child())

        state = self._new_state(min_documents, compress)
        search_config = self._search_config(state.room, overrides)
        tracing = self._tracing(query, run_manager.get_child())
        resolved = self.base_retriever._resolve(filter, namespace)  # noqa: SLF001 - of the same package
        async with resolved.async_session(query, search_config, tracing=tracing) as search:
            await search.fetch_until(_stopping(state, search_config.until))
            if rest := state.rest():
                state.read(await compress(rest))
        await atrace_shortfall(run_manager, search.report.shortfall)
        return state.result(search.report)

    def _count(self, min_documents: int | None) -> int:
        """Return how many documents there have to be.

        Raises:
            ClientError: If it is not a whole number of at least 1, or if the compressor never returns so many.
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
        """Return what the compressor is given: copies in rerank mode, where it gets the same documents many times."""
        return documents if self.mode == "filter" else [document.model_copy(deep=True) for document in documents]

    def _search_config(self, room: int, overrides: Overrides) -> SearchConfig:
        """Return the policy and the bounds of one call, which end it with what it has.

        Args:
            room: The number of documents that the compressor has to be shown at least, if the call does not say
                otherwise.
            overrides: The settings of this call.

        Raises:
            ClientError: If `until` is not a policy, or if a bound is not above 0.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        own = {"max_results": self.max_results, "max_pulls": self.max_pulls, "deadline": self.deadline}
        search_config = self.base_retriever._search_config(cast("Overrides", {**own, **given}))  # noqa: SLF001 - of the same package
        # Bounds of the search as a whole would raise LimitReached; and `result` knows better what is too little.
        search_config = replace(search_config, limits=UNBOUNDED, warns=False)
        return search_config if "max_results" in given else search_config.with_room_for(room)

    def _tracing(self, query: str, callbacks: Any) -> Tracing:
        return self.base_retriever._tracing(query, {"callbacks": callbacks})  # noqa: SLF001 - of the same package


class _Compression(Policy):
    """The policy of one call; its state also holds what the call returns."""

    def __init__(self, state: "_CompressionState") -> None:
        self._state = state

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        return self._state


def _stopping(state: "_CompressionState", until: Policy | None) -> Policy:
    """Return the policy that stops when there is enough, or when a policy of scores in `until` says so."""
    leaves = [] if until is None else until.leaves()
    policy: Policy = state.policy
    return reduce(or_, [leaf for leaf in leaves if leaf.scores_only], policy)


class _CompressionState(BatchObserver):
    """The state of one call: which documents the compressor has been shown, and what it has returned.

    Args:
        count: The number of documents that there have to be.
        first_pull: The number of matches that the first page is to bring.
        compress: The compressor, as a function or as a coroutine function.

    Attributes:
        count: The number of documents that there have to be.
        room: The number of documents that the compressor has to be shown at least before there can be enough.
        documents: The documents that the compressor has returned.
    """

    def __init__(self, count: int, first_pull: int, compress: Callable[[list[Document]], Any]) -> None:
        super().__init__(_Compression(self))
        self.first_pull = first_pull
        self.observe = compress
        self.documents: list[Document] = []
        self.count = self.room = count

    def read(self, answer: object) -> None:
        """Read what the compressor has returned."""
        raise NotImplementedError

    def rest(self) -> list[Document]:
        """Return the documents that the compressor has to be given once more at the end."""
        return []

    def result(self, report: Report) -> list[Document]:
        """Return what the call returns; the log says why if a bound has ended the search, or there are too few."""
        found, shortfall = len(self.documents), report.shortfall
        if shortfall is not None:
            log.warning("%d documents of %d: %s", found, self.count, shortfall)
        elif found < self.count:
            log.info("%d documents of %d, after %d rows: %s", found, self.count, report.pulled, report.stop_reason)
        return self.documents


class _FilterMode(_CompressionState):
    """The state of a call in filter mode: every page is compressed once."""

    def learn(self, candidates: list[Candidate], answer: Any) -> None:  # noqa: ARG002
        self.unobserved = []
        self.read(answer)

    def read(self, answer: object) -> None:
        self.documents += _documents_in(answer)

    def enough(self) -> bool:
        return len(self.documents) >= self.count


class _RerankMode(_CompressionState):
    """The state of a call in rerank mode: all documents are compressed after every window; `unobserved` stays full."""

    def __init__(self, count: int, window: int, patience: int, compress: Callable[[list[Document]], Any]) -> None:
        super().__init__(count, window, compress)
        self.room = count + (patience + 1) * window
        self._window = window
        self._stability = Stability(patience)
        self._compressed = 0

    def next_batch(self, *, flush: bool) -> list[Candidate]:  # noqa: ARG002
        return self.unobserved if len(self.unobserved) == self._compressed + self._window else []

    def learn(self, candidates: list[Candidate], answer: Any) -> None:
        self._compressed = len(candidates)
        self.read(answer)
        if len(self.documents) == self.count:
            self._stability.update((document.id, document.page_content) for document in self.documents)

    def read(self, answer: object) -> None:
        self.documents = _documents_in(answer)[: self.count]

    def rest(self) -> list[Document]:
        return [candidate.item for candidate in self.unobserved] if len(self.unobserved) > self._compressed else []

    def enough(self) -> bool:
        return self._stability.reached


def _documents_in(answer: object) -> list[Document]:
    """Return the documents in what a compressor has returned.

    Raises:
        ClientError: If it is not a list of documents.
    """
    documents: list[Any] = list(answer) if isinstance(answer, Sequence) else [answer]
    if odd := [one for one in documents if not isinstance(one, Document)]:
        message = f"the compressor returned {type(odd[0]).__name__}: it has to return a list of Documents"
        raise ClientError(message)
    return documents
