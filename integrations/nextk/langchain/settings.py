"""The fields of the LangChain retriever, and how each call resolves them into an embedder, a query and a session."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeVar
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.utils import AnyConfigurableField
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, StrictBool, model_validator

from nextk.arguments import choose, choose_or_none, did_you_mean, require_count, shown
from nextk.async_client import AsyncIndex
from nextk.bodies import MAX_ROWS
from nextk.client import Index
from nextk.errors import ClientError
from nextk.langchain.documents import document_reader
from nextk.langchain.filters import index_filter
from nextk.langchain.qdrant_store import QdrantStoreSource
from nextk.langchain.question import Embedder
from nextk.langchain.source_settings import refuse_index_fields, require_source, source_reader, store_filter
from nextk.langchain.store_source import VectorStoreSource
from nextk.langchain.tracing import AsyncTracedSession, TracedSession, Tracing
from nextk.retrievers.connection import ClosingMixin, Connection
from nextk.retrievers.foreign_names import LANGCHAIN
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.retrievers.source_connection import SourceConnection
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
from nextk.sessions.read_cursor import ReadCursor
from nextk.sessions.recovery_state import MAX_RECOVERY
from nextk.stores import Source
from nextk.types import FusionAlgorithm, QueryResult, WeightingStrategy
from nextk.until import Policy
from nextk.until.policy import require_policy

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_K = 4
"""How many documents one call returns by default, as everywhere in LangChain."""


@dataclass(frozen=True, slots=True)
class ResolvedSettings(Generic[T]):
    """The fields of a retriever as one call finds them. Every field may be set, so each call resolves them once, anew.

    Attributes:
        connection: The connection to the index, or to another source.
        embedder: The embedder of queries.
        template: The query without its text and vectors: mode, filter, namespace, fusion, weighting and exactness.
        reader: The reader that makes matches into documents, or into whatever a call returns.
    """

    connection: Connection | SourceConnection
    embedder: Embedder
    template: SearchQuery
    reader: RowReader[T]

    def reading_by(self, reader: RowReader[U]) -> "ResolvedSettings[U]":
        """Return these settings with another reader, so that a call returns what that one makes."""
        return ResolvedSettings(self.connection, self.embedder, self.template, reader)

    def search(self, query: str, top_k: int) -> list[T]:
        """Run one plain query, which leaves nothing open.

        Args:
            query: The text of the query; not read if the template has a vector.
            top_k: The number of matches.
        """
        filled = self.template
        if not filled.complete:
            filled = self.embedder.embed(query, filled, self.connection)
        return self.reader.read(self.connection.query(filled, top_k))

    async def asearch(self, query: str, top_k: int) -> list[T]:
        """Run one plain query without blocking the event loop; see `search`."""
        filled = self.template
        if not filled.complete:
            filled = await self.embedder.aembed(query, filled, self.connection)
        return self.reader.read(await self.connection.aquery(filled, top_k))

    def session(
        self,
        query: str,
        search_config: SearchConfig,
        cursor: ReadCursor | None = None,
        tracing: Tracing | None = None,
    ) -> RetrievalSession[T]:
        """Begin a search, or go on with one.

        Args:
            query: The text of the query.
            search_config: The policy and the bounds of the search.
            cursor: The cursor of the search that goes on; `None` for a new search.
            tracing: What the runs of the search have in common, if each call on it is to be a run of its own.
        """
        make: Callable[..., Any] = RetrievalSession if tracing is None else partial(TracedSession, tracing)
        session: RetrievalSession[T] = make(
            self.connection.index,
            self.template,
            self.reader,
            embed=lambda template: self.embedder.embed(query, template, self.connection),
            texts=[query],
            config=search_config,
            cursor=cursor,
        )
        return session

    def async_session(
        self,
        query: str,
        search_config: SearchConfig,
        cursor: ReadCursor | None = None,
        tracing: Tracing | None = None,
    ) -> AsyncRetrievalSession[T]:
        """Begin a search for an event loop, or go on with one; see `session`."""
        make: Callable[..., Any] = AsyncRetrievalSession if tracing is None else partial(AsyncTracedSession, tracing)
        session: AsyncRetrievalSession[T] = make(
            self.connection.async_index,
            self.template,
            self.reader,
            embed=lambda template: self.embedder.aembed(query, template, self.connection),
            texts=[query],
            config=search_config,
            cursor=cursor,
        )
        return session


class Settings(ClosingMixin, BaseRetriever):
    """The fields of `ResumableRetriever`, which documents them."""

    # The arguments may hold secrets: the text of a model, for one.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    index: Index | AsyncIndex | None = None
    source: Source | None = None
    url: str | None = None
    token: SecretStr | None = None
    namespace: str = ""
    k: Annotated[int, Field(ge=1)] | None = None
    filter: Any = ""
    embedding: Embeddings | Literal[True] | None = None
    sparse_embedding: Any = None
    retrieval_mode: RetrievalMode | Literal["dense", "sparse", "hybrid"] | None = None
    fusion: FusionAlgorithm | Literal["rrf", "dbsf"] | None = None
    weighting: WeightingStrategy | Literal["idf", "none"] | None = None
    exact: StrictBool = False
    until: Policy | None = None
    max_results: Annotated[int, Field(ge=1)] | None = MAX_RESULTS
    max_pulls: Annotated[int, Field(ge=1)] | None = MAX_PULLS
    deadline: Annotated[float, Field(gt=0)] | None = DEADLINE
    max_idle: Annotated[int, Field(ge=1)] = DEFAULT_MAX_IDLE
    max_recovery: Annotated[int, Field(ge=0)] = MAX_RECOVERY
    cursor_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    text_key: str | Sequence[str] = TEXT_KEYS
    score_key: str | None = None
    document_mapper: Callable[[QueryResult], Document | None] | None = None

    _connection: Connection | SourceConnection | None = PrivateAttr(default=None)

    # Not in a validator, which would make a ValidationError of a ClientError; and hidden from type checkers, to which
    # the fields are the signature.
    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            if fields.get("until") is not None:
                require_policy(fields["until"], "until")
            if "filter" in fields and fields.get("source") is None:
                index_filter(fields["filter"])
            if fields.get("source") is not None:
                require_source(fields["source"])
            for name, kind in (("retrieval_mode", RetrievalMode), ("fusion", FusionAlgorithm)):
                if not isinstance(fields.get(name), str):
                    choose(kind, fields.get(name), name)
            if not isinstance(fields.get("weighting"), str):
                choose_or_none(WeightingStrategy, fields.get("weighting"), "weighting")
            super().__init__(**fields)
            self._resolve()

    @model_validator(mode="before")
    @classmethod
    def _explain(cls, fields: Any) -> Any:
        """Say of an unknown argument, or of a model that only an index takes, what to give instead."""
        for name in fields if isinstance(fields, dict) else ():
            if name not in cls.model_fields:
                message = f"unknown argument {name!r}{did_you_mean(name, cls.model_fields, LANGCHAIN)}"
                raise ValueError(message)
        embedding = fields.get("embedding") if isinstance(fields, dict) else None
        if isinstance(embedding, str) or (callable(embedding) and not isinstance(embedding, Embeddings | bool)):
            message = (
                f"embedding={shown(embedding)} is a model that an index can own, and a retriever cannot: give it to "
                "Index.embedded(path, embedding=...) or from_texts, or give the retriever a LangChain Embeddings"
            )
            raise ValueError(message)
        return fields

    def _resolve(self, filter: Any = None, namespace: str | None = None) -> ResolvedSettings[Document]:
        """Resolve the fields for one call.

        Args:
            filter: The filter of this call; `None` for the retriever's own.
            namespace: The namespace of this call; `None` for the retriever's own.

        Raises:
            ClientError: If the mode needs a model that is missing, if fields contradict each other, or if there is no
                index.
        """
        narrowing = self.filter if filter is None else filter
        namespace = self.namespace if namespace is None else namespace
        if self.source is not None:
            return self._resolve_over(self.source, narrowing, namespace)
        text_keys = self._text_keys
        mode = choose(RetrievalMode, self.retrieval_mode, "retrieval_mode")
        fusion = choose(FusionAlgorithm, self.fusion, "fusion")
        weighting = choose_or_none(WeightingStrategy, self.weighting, "weighting")
        embedder = Embedder(self.embedding, self.sparse_embedding, mode)
        template = SearchQuery(
            mode=embedder.mode,
            filter=index_filter(narrowing),
            namespace=namespace,
            fusion=fusion,
            weighting=weighting,
            weighting_of_index=self.weighting is None,
            exact=self.exact,
        )
        reader = document_reader(text_keys, self.score_key, self.document_mapper)
        return ResolvedSettings(self._current_connection(), embedder, template, reader)

    def _resolve_over(self, source: Source, filter: Any, namespace: str) -> ResolvedSettings[Document]:
        """Resolve the fields for one call over a source that is no index, which takes fewer of them.

        Raises:
            ClientError: If a field is set that only an index takes, or a filter where the source takes none.
        """
        given = {name: getattr(self, name) for name in type(self).model_fields}
        refuse_index_fields(source.traits, {**given, "namespace": namespace})
        mode = choose(RetrievalMode, self.retrieval_mode, "retrieval_mode")
        embedder = Embedder(self.embedding, self.sparse_embedding, mode)
        fusion = choose(FusionAlgorithm, self.fusion, "fusion")
        template = SearchQuery(
            mode=embedder.mode, fusion=fusion, store_filter=store_filter(source.traits, filter), exact=self.exact
        )
        return ResolvedSettings(self._current_connection(), embedder, template, source_reader(self.score_key))

    def _search_config(self, overrides: Overrides) -> SearchConfig:
        """Return the policy and the bounds of one search: the retriever's own, and those that the call overrides.

        Raises:
            ClientError: If `until` is not a policy, or if a bound is not above 0.
            TypeError: If an override is unknown.
        """
        return self._own_search_config().with_overrides(**overrides)

    def _own_search_config(self) -> SearchConfig:
        guards = Limits(self.max_results, self.max_pulls, self.deadline)
        key = None if self.cursor_key is None else self.cursor_key.get_secret_value()
        return SearchConfig(self.until, guards, max_idle=self.max_idle, max_recovery=self.max_recovery, cursor_key=key)

    def _one_call_config(self, k: int | None, overrides: Overrides) -> SearchConfig | None:
        """Return the policy and the bounds of one call that goes on until there is enough; `None` for one plain query.

        More documents than a plain query can bring are pulled page by page.

        Raises:
            ClientError: If there are bounds, and no policy that they could bound.
            TypeError: If an override is unknown.
        """
        paged = k is not None and k > MAX_ROWS
        if self.until is None and not paged and not any(value is not None for value in overrides.values()):
            return None
        search_config = self._own_search_config()
        if k is not None and paged and search_config.until is None and overrides.get("until") is None:
            search_config = search_config.paged(k)
        return search_config.for_one_call(k, **overrides)

    def _resolve_k(self, k: int | None) -> int | None:
        """Return how many documents a call may return: as the call says, else as the retriever says.

        Raises:
            ClientError: If it is not a whole number above 0.
        """
        if k is None:
            return self.k
        require_count(k, "k")
        return k

    def _tracing(self, query: str, config: RunnableConfig | None, run_id: UUID | None = None) -> Tracing:
        """Return what the runs of a search have in common; without a config, that of the calling chain or graph."""
        config = ensure_config(config)
        first = run_id or config.get("run_id")
        return Tracing(query, self.get_name(), self.tags, self.metadata, self._get_ls_params(), config, first)

    def _id_of(self, document: Document) -> str | None:
        """Return the id by which a document is known as shown: its own, else the one that its source makes, if any."""
        if document.id or not isinstance(self.source, VectorStoreSource | QdrantStoreSource):
            return document.id or None
        metadata = {name: value for name, value in (document.metadata or {}).items() if name != self.score_key}
        return self.source.id_of(document.model_copy(update={"metadata": metadata}))

    @property
    def _text_keys(self) -> Sequence[str]:
        return [self.text_key] if isinstance(self.text_key, str) else self.text_key

    def _current_connection(self) -> Connection | SourceConnection:
        """Return the connection to what is searched; a new one if the fields name another index or source."""
        connection = self._connection
        if self.source is not None:
            if not isinstance(connection, SourceConnection) or connection.index is not self.source:
                self._connection = connection = SourceConnection(self.source)
            return connection
        token = None if self.token is None else self.token.get_secret_value()
        if not isinstance(connection, Connection) or not connection.made_from(self.index, self.url, token):
            self._connection = connection = Connection(self.index, self.url, token)
        return connection

    def _index_connection(self) -> Connection:
        """Return the connection to the index, for what only an index can do.

        Raises:
            ClientError: If the retriever searches another source.
        """
        connection = self._current_connection()
        if isinstance(connection, SourceConnection):
            message = (
                f"this retriever only reads {connection!r}: write to the store itself, by its add_documents or its "
                "delete, and the next search finds it"
            )
            raise ClientError(message)
        return connection

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        """Return what a trace says about this retriever."""
        params = super()._get_ls_params(**kwargs)
        store = self.source.store if isinstance(self.source, VectorStoreSource) else self.source
        params["ls_vector_store_provider"] = "nextk" if store is None else type(store).__name__
        embedding = store.embeddings if isinstance(store, VectorStore) else self.embedding
        if isinstance(embedding, Embeddings):
            params["ls_embedding_provider"] = type(embedding).__name__
            names = (getattr(embedding, name, None) for name in ("model", "model_name"))
            if model := next((name for name in names if isinstance(name, str)), None):
                params["ls_embedding_model"] = model
        return params

    def configurable_fields(self, **kwargs: AnyConfigurableField) -> RunnableSerializable[str, list[Document]]:
        """Make fields configurable as LangChain does; the retriever made for each call shares this one's connection."""
        if self.source is not None or {"index", "source", "url", "token"} & kwargs.keys():
            return super().configurable_fields(**kwargs)
        shared = self.model_copy(update={"index": self._index_connection().index, "url": None, "token": None})
        return super(Settings, shared).configurable_fields(**kwargs)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo.update({id(searched): searched for searched in (self.index, self.source)})  # a copy searches the same one
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        """Return what is pickled: the fields and how to find the index again, but nothing that is open.

        Raises:
            ClientError: If the retriever was given an index or a source that is tied to this process.
        """
        try:
            pickle.dumps((self.index, self.source))
        except Exception as error:
            if self.source is not None:
                message = (
                    f"{self.source!r} is tied to this process, so that this retriever cannot be pickled: make it anew "
                    "where it is needed, over the same store"
                )
                raise ClientError(message) from error
            message = (
                "this retriever was given an index object, which is tied to this process: make it by url= and token=, "
                "or by the environment, to pickle it; or pickle retriever.model_copy(update={'index': None}), which "
                "takes its index from the environment where it is read"
            )
            raise ClientError(message) from error
        self._current_connection()
        return super().__getstate__()
