"""Opening a search that is continued on demand, and resuming one from its cursor."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack, cast

from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType

from nextk.llama_index.instrumentation import AsyncObservedSession, ObservedSession
from nextk.llama_index.policies import Restrictions
from nextk.llama_index.question import Embedder, bundle_from_texts, bundle_of, cursor_texts
from nextk.retrievers.connection import Connection
from nextk.retrievers.source_connection import SourceConnection
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.sessions.config import Overrides
from nextk.sessions.read_cursor import ReadCursor

if TYPE_CHECKING:
    from nextk.llama_index.retriever import ResumableRetriever


class Opening:
    """The part of LlamaIndex's retriever that opens and resumes searches."""

    _connection: Connection | SourceConnection
    _embedder: Embedder
    _reader: RowReader[NodeWithScore]
    _restrictions: Restrictions
    _search_config: SearchConfig
    _template: SearchQuery

    def open(
        self,
        query: QueryType,
        *,
        filter: Any = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[NodeWithScore]:
        """Start a search that is continued on demand. Nothing is sent before the first pull.

        Args:
            query: The query, as a text or as a bundle.
            filter: A filter on metadata for this search, in the index's language; `None` for the retriever's own. The
                retriever's `filters` hold in both cases. Over a vector store of LlamaIndex it is `MetadataFilters`,
                and over another source whatever that takes.
            namespace: The namespace to search; `None` for the retriever's own.
            **overrides: Settings of this search alone. `until` is a policy instead of the retriever's own; what it does
                not keep is never handed out. `max_results` (nodes), `max_pulls` (pages) and `deadline` (seconds from
                the first pull) bound the search as a whole: a call that can bring nothing within them raises
                `LimitReached`. Without them, only each `fetch_until` is bounded, by the retriever's own bounds.
                `max_recovery` replaces the retriever's own.

        Returns:
            The session. Leave it by `with`, so that the index need not keep the search open. It returns an `IndexNode`
            as it is; only `retrieve` follows it to its object.

        Raises:
            ClientError: If `until` is not a policy, if a bound is not above 0, or if what is searched takes no such
                filter or no namespace.
            TypeError: If another keyword argument is given.
        """
        template, restrictions = self._restrictions.within(self._template, filter, namespace)
        config = self._search_config.with_overrides(**overrides)
        return self._session(bundle_of(query), template, config, restrictions=restrictions)

    def aopen(
        self,
        query: QueryType,
        *,
        filter: Any = None,
        namespace: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[NodeWithScore]:
        """Start a search for an event loop, used as `async with retriever.aopen(query) as search`; see `open`."""
        template, restrictions = self._restrictions.within(self._template, filter, namespace)
        config = self._search_config.with_overrides(**overrides)
        return self._asession(bundle_of(query), template, config, restrictions=restrictions)

    def resume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: Any = None,
        namespace: str | None = None,
        without_policies: bool = False,
        **overrides: Unpack[Overrides],
    ) -> RetrievalSession[NodeWithScore]:
        """Go on with a search from its cursor, in any process, any number of times. Each time, the same nodes come.

        Args:
            cursor: The cursor, from `cursor()` or `detach()` of a session of this retriever or of one like it.
            filter: The filter of the search that the cursor is from; `None` if that was the retriever's own.
            namespace: The namespace of the search that the cursor is from; `None` if that was the retriever's own.
            without_policies: Whether the search may go on without what dropped nodes when the cursor was made: its
                `until`, or the retriever's `until`, `filters` and node postprocessors. They must not differ otherwise.
            **overrides: Settings of this search alone, as for `open`. The bounds count from the start of the search.

        Returns:
            The session. Leave it by `with`, so that the index need not keep the search open.

        Raises:
            ClientError: If it is not a cursor, was edited or not signed with the `cursor_key`, or if it belongs to
                another index, filter, namespace, fusion, weighting or policy (`PolicyMismatch`).
        """
        template, restrictions = self._restrictions.within(self._template, filter, namespace)
        config = self._search_config.with_overrides(**overrides)
        read = ReadCursor.of(cursor, config.cursor_key, without_policies=without_policies)
        return self._session(bundle_from_texts(read.query_texts), template, config, read, restrictions)

    def aresume(
        self,
        cursor: Mapping[str, Any],
        *,
        filter: Any = None,
        namespace: str | None = None,
        without_policies: bool = False,
        **overrides: Unpack[Overrides],
    ) -> AsyncRetrievalSession[NodeWithScore]:
        """Go on with a search for an event loop, used as `async with retriever.aresume(cursor)`; see `resume`."""
        template, restrictions = self._restrictions.within(self._template, filter, namespace)
        config = self._search_config.with_overrides(**overrides)
        read = ReadCursor.of(cursor, config.cursor_key, without_policies=without_policies)
        return self._asession(bundle_from_texts(read.query_texts), template, config, read, restrictions)

    def _session(
        self,
        bundle: QueryBundle,
        template: SearchQuery,
        config: SearchConfig,
        cursor: ReadCursor | None = None,
        restrictions: Restrictions | None = None,
    ) -> RetrievalSession[NodeWithScore]:
        return ObservedSession(
            cast("ResumableRetriever", self),
            bundle,
            self._connection.index,
            template,
            self._reader,
            embed=lambda template: self._embedder.embed(bundle, template, self._connection),
            texts=cursor_texts(bundle),
            config=replace(config, always=(restrictions or self._restrictions).policy(bundle, awaited=False)),
            cursor=cursor,
        )

    def _asession(
        self,
        bundle: QueryBundle,
        template: SearchQuery,
        config: SearchConfig,
        cursor: ReadCursor | None = None,
        restrictions: Restrictions | None = None,
    ) -> AsyncRetrievalSession[NodeWithScore]:
        return AsyncObservedSession(
            cast("ResumableRetriever", self),
            bundle,
            self._connection.async_index,
            template,
            self._reader,
            embed=lambda template: self._embedder.aembed(bundle, template, self._connection),
            texts=cursor_texts(bundle),
            config=replace(config, always=(restrictions or self._restrictions).policy(bundle, awaited=True)),
            cursor=cursor,
        )
