"""What a retriever is set to, and what follows from it for every search: the fields, and no more of LangChain."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.langchain.documents import document_of, documents_of, text_of
from nextk.langchain.question import Embedder
from nextk.retrieval import AsyncRetrievalSession, Limits, Question, Reading, RetrievalMode, RetrievalSession, Terms
from nextk.retrieval.question import choose
from nextk.retrieval.rows import TEXT_KEYS
from nextk.retrieval.source import Closing, Source
from nextk.retrieval.terms import DEADLINE, DEFAULT_MAX_IDLE, MAX_PULLS, MAX_RESULTS
from nextk.retrieval.trail import MAX_RECOVERY
from nextk.types import FusionAlgorithm, QueryResult, WeightingStrategy
from nextk.until import Policy


class Settings(Closing, BaseRetriever):
    """The fields of `ResumableRetriever`, which documents them."""

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
    until: Policy | None = None
    max_results: Annotated[int, Field(ge=1)] | None = MAX_RESULTS
    max_pulls: Annotated[int, Field(ge=1)] | None = MAX_PULLS
    deadline: Annotated[float, Field(gt=0)] | None = DEADLINE
    max_idle: Annotated[int, Field(ge=1)] = DEFAULT_MAX_IDLE
    max_recovery: Annotated[int, Field(ge=0)] = MAX_RECOVERY
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

    def _terms(self) -> Terms:
        guards = Limits(self.max_results, self.max_pulls, self.deadline)
        return Terms(self.until, guards, max_idle=self.max_idle, max_recovery=self.max_recovery)

    def _session(
        self, query: str, blank: Question, terms: Terms, cursor: Mapping[str, Any] | None = None
    ) -> RetrievalSession[Document]:
        source, embedder = self._searched(), self._embedder()
        return RetrievalSession(
            source.blocking,
            blank,
            self._reading(),
            embed=lambda asked: embedder.embed(query, asked, source),
            query=[query],
            terms=terms,
            cursor=cursor,
        )

    def _asession(
        self, query: str, blank: Question, terms: Terms, cursor: Mapping[str, Any] | None = None
    ) -> AsyncRetrievalSession[Document]:
        source, embedder = self._searched(), self._embedder()
        return AsyncRetrievalSession(
            source.native,
            blank,
            self._reading(),
            embed=lambda asked: embedder.aembed(query, asked, source),
            query=[query],
            terms=terms,
            cursor=cursor,
        )

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

    @property
    def _text_keys(self) -> Sequence[str]:
        return [self.text_key] if isinstance(self.text_key, str) else self.text_key

    def _reading(self) -> Reading[Document]:
        text_keys, score_key = self._text_keys, self.score_key
        return Reading(lambda match: document_of(match, text_keys, score_key), text_of)

    def _documents(self, matches: Sequence[QueryResult]) -> list[Document]:
        return documents_of(matches, self._text_keys, self.score_key)

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
