"""What a retriever is set to, and what follows from it for every search: the fields, and no more of LangChain."""

import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.utils import AnyConfigurableField
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from nextk.arguments import choose, require_count
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.langchain.documents import document_of, documents_of, text_of
from nextk.langchain.question import Embedder
from nextk.langchain.tracing import Tracing
from nextk.retrievers.connection import ClosingMixin, Connection
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.sessions import (
    AsyncRetrievalSession,
    Limits,
    RetrievalMode,
    RetrievalSession,
    RowReader,
    SearchConfig,
    SearchQuery,
)
from nextk.sessions.config import DEADLINE, DEFAULT_MAX_IDLE, MAX_PULLS, MAX_RESULTS, Overrides
from nextk.sessions.cursor import ReadCursor
from nextk.sessions.recovery import MAX_RECOVERY
from nextk.types import FusionAlgorithm, QueryResult, WeightingStrategy
from nextk.until import Policy
from nextk.until.policy import require_policy

DEFAULT_K = 4
"""How many documents one call returns where nothing says so, as everywhere in LangChain."""


class Settings(ClosingMixin, BaseRetriever):
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
    document_mapper: Callable[[QueryResult], Document | None] | None = None

    _connection: Connection | None = PrivateAttr(default=None)

    # Not in a validator, which would make a ValidationError of a ClientError; and hidden from type checkers, to which
    # the fields are the signature.
    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            if fields.get("until") is not None:
                require_policy(fields["until"], "until")
            super().__init__(**fields)
            self._template()
            self._row_reader()
            self._get_connection()

    def _search_config(self) -> SearchConfig:
        guards = Limits(self.max_results, self.max_pulls, self.deadline)
        return SearchConfig(self.until, guards, max_idle=self.max_idle, max_recovery=self.max_recovery)

    def _resolve_k(self, k: int | None) -> int | None:
        """How many documents a call may return: as it says, else the retriever.

        Raises:
            ClientError: It is not a whole number above 0.
        """
        if k is None:
            return self.k
        require_count(k, "k")
        return k

    def _one_call_config(self, k: int | None, overrides: Overrides) -> SearchConfig | None:
        """The terms of one call that goes on until a policy has enough; `None` where one plain query answers.

        Raises:
            ClientError: There are bounds, and no policy that they could bound.
        """
        if self.until is None and not any(value is not None for value in overrides.values()):
            return None
        return self._search_config().for_one_call(k, **overrides)

    def _session(
        self,
        query: str,
        template: SearchQuery,
        search_config: SearchConfig,
        cursor: ReadCursor | None = None,
        session_type: Callable[..., RetrievalSession[Document]] = RetrievalSession,
    ) -> RetrievalSession[Document]:
        connection, embedder = self._get_connection(), self._embedder()
        return session_type(
            connection.index,
            template,
            self._row_reader(),
            embed=lambda overrides: embedder.embed(query, overrides, connection),
            texts=[query],
            config=search_config,
            cursor=cursor,
        )

    def _asession(
        self,
        query: str,
        template: SearchQuery,
        search_config: SearchConfig,
        cursor: ReadCursor | None = None,
        session_type: Callable[..., AsyncRetrievalSession[Document]] = AsyncRetrievalSession,
    ) -> AsyncRetrievalSession[Document]:
        connection, embedder = self._get_connection(), self._embedder()
        return session_type(
            connection.async_index,
            template,
            self._row_reader(),
            embed=lambda overrides: embedder.aembed(query, overrides, connection),
            texts=[query],
            config=search_config,
            cursor=cursor,
        )

    def _tracing(self, query: str, config: RunnableConfig | None, run_id: UUID | None = None) -> Tracing:
        """What the runs of a search have in common; without a config, the one that surrounds the call is meant."""
        config = ensure_config(config)
        first = run_id or config.get("run_id")
        return Tracing(query, self.get_name(), self.tags, self.metadata, self._get_ls_params(), config, first)

    def _template(self, filter: str | None = None, namespace: str | None = None) -> SearchQuery:
        """What every question of this retriever has in common.

        Raises:
            ClientError: The mode needs a model that is missing, or the models contradict each other.
        """
        return SearchQuery(
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

    def _row_reader(self) -> RowReader[Document]:
        """How rows are read.

        Raises:
            ClientError: There is a `document_mapper` and a `score_key`.
        """
        if self.document_mapper is not None:
            if self.score_key is not None:
                message = "document_mapper= makes the whole document, the score in it as well: leave out score_key="
                raise ClientError(message)
            return RowReader(self.document_mapper, text_of)
        text_keys, score_key = self._text_keys, self.score_key
        return RowReader(lambda match: document_of(match, text_keys, score_key), text_of)

    def _documents(self, matches: Sequence[QueryResult]) -> list[Document]:
        if self.document_mapper is not None:
            return [document for match in matches if (document := self.document_mapper(match)) is not None]
        return documents_of(matches, self._text_keys, self.score_key)

    def _get_connection(self) -> Connection:
        """The index; found anew where a copy was given another one."""
        token = None if self.token is None else self.token.get_secret_value()
        connection = self._connection
        if connection is None or not connection.made_from(self.index, self.url, token):
            self._connection = connection = Connection(self.index, self.url, token)
        return connection

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        """What a trace says of this retriever."""
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = "nextk"
        if isinstance(self.embedding, Embeddings):
            params["ls_embedding_provider"] = type(self.embedding).__name__
            names = (getattr(self.embedding, name, None) for name in ("model", "model_name"))
            if model := next((name for name in names if isinstance(name, str)), None):
                params["ls_embedding_model"] = model
        return params

    def configurable_fields(self, **kwargs: AnyConfigurableField) -> RunnableSerializable[str, list[Document]]:
        """As LangChain's, which makes a retriever anew for each call: all of them share this one's connections."""
        if {"index", "url", "token"} & kwargs.keys():
            return super().configurable_fields(**kwargs)
        shared = self.model_copy(update={"index": self._get_connection().index, "url": None, "token": None})
        return super(Settings, shared).configurable_fields(**kwargs)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo[id(self.index)] = self.index  # a copy searches the same index
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        """What is pickled: the fields, and how to find the index again, but nothing that is open.

        Raises:
            ClientError: The retriever was given an index, and that is tied to this process.
        """
        try:
            pickle.dumps(self.index)
        except Exception as error:
            message = (
                "this retriever was given an index object, which is tied to this process: make it by url= and token=, "
                "or by the environment, to pickle it; or pickle retriever.model_copy(update={'index': None}), which "
                "takes its index from the environment where it is read"
            )
            raise ClientError(message) from error
        self._get_connection()
        return super().__getstate__()
