"""A table of PostgreSQL as a source. Private; `PostgresSource` is public, by way of `nextk.stores.postgres`."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nextk.arguments import choose, require_callable, require_count, require_number
from nextk.errors import ClientError
from nextk.extras import require
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, SourceSearch, SourceTraits
from nextk.stores.exclusion_source import ExclusionSource
from nextk.stores.postgres.connections import Connections
from nextk.stores.postgres.searches import AsyncCursorSearch, CursorSearch
from nextk.stores.rows import StoreRow
from nextk.types import QueryResult

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

    from nextk.postgres.ranked_query import RankedQuery
    from nextk.postgres.read_ahead import RankedRow
    from nextk.postgres.scan import RankedScan

MAX_OPEN = 16
"""The number of connections, and so of open searches, of a source."""
MAX_WAIT = 5.0
"""The seconds that a search waits for a connection."""
_ONE_DAY = 86_400.0
_BOUNDS = {
    "ef_search": (1, 1_000),  # of pgvector
    "read_ahead": (0, 1_000_000_000),  # with the rows of a page, it is a number of rows that PostgreSQL can fetch
    "max_scan_tuples": (1, 2_147_483_647),  # of pgvector
    "max_open": (1, None),
}
"""The smallest and the largest of each whole number among the arguments."""


class PostgresSource(ExclusionSource):
    """The rows of a table of PostgreSQL with pgvector 0.8 or newer, read as they stand: no copy, no DDL, no write.

    A search is a cursor of the server over the index of the table: the next page costs its rows alone, all pages see
    one state of the table, and where pgvector's scan ends early, the rest is gathered and sorted, so that every row
    comes. Each open search has a connection until it ends, is stopped, or is idle for too long; the connection's
    snapshot keeps VACUUM from removing what was deleted since. With `stateless=True` nothing is kept between two pages,
    as PgBouncer in transaction mode and serverless functions need it: each page leaves out the rows that have come.

    A process that was forked makes connections of its own, and its sessions begin their searches again.

    ```python
    source = PostgresSource("postgresql://localhost/app", "articles", text="body", metadata="attributes")
    retriever = ResumableRetriever(source=source, embedding=OpenAIEmbeddings())
    ```

    Scores are the cosine similarity, the inner product, or the negative distance. The order of an index is approximate:
    a row that it finds late comes late, and `exact=True` of a search sorts all rows instead.

    Args:
        connection: A connection string of psycopg, or a `psycopg_pool.ConnectionPool`, which stays yours to close.
        table: The name of the table or view, or its schema and name: `("public", "articles")`.
        key: The column whose values tell the rows apart.
        embedding: The column of the vectors, of the type `vector` or `halfvec`.
        text: The column of the text; `None` for none.
        metadata: The column of the metadata, of the type `jsonb` or `json`; `None` (the default) for none.
        metadata_columns: Further columns, each of which becomes metadata under its name.
        operator: The operator of pgvector that ranks: `"<=>"` (the default) by cosine, `"<->"` by distance, `"<#>"` by
            inner product. An index serves one operator alone.
        where: A filter that every search has: SQL with its values, as `(SQL("tenant = %s"), [7])`; or one over the
            metadata, a text in the language of an index or a dict of what a row has to have; `None` for none.
        filter_of: A function that makes such a filter of the `filter=` of a search; absent: it is one.
        item_of: A function that makes the result of a retriever of a row, a LangChain `Document` or a LlamaIndex node;
            absent: the retriever makes it of the text and the metadata.
        stateless: Whether nothing is kept open between two pages.
        ef_search: The number of candidates of each round of an HNSW index, 1 to 1,000.
        read_ahead: The number of rows that are read ahead of the page to repair their order; absent: half of
            `ef_search`, and 10 for a search with a filter.
        strict: Whether pgvector keeps the order by itself, at the price of rows that come at the end alone.
        max_scan_tuples: The number of tuples that an index visits before the rest is gathered and sorted; absent: a
            twentieth of the table for a search with a condition.
        max_open: The number of connections of a pool that is made of a connection string.
        max_wait: The seconds that a search waits for a connection, at most a day.
        store_id: A name for what the table holds, by which cursors are told from those of others; absent: the names of
            the table and of its columns.

    Raises:
        ClientError: An argument is of no use.
        MissingExtraError: psycopg is not installed.
    """

    modes = True

    def __init__(
        self,
        connection: "str | ConnectionPool[Any]",
        table: str | Sequence[str],
        *,
        key: str = "id",
        embedding: str = "embedding",
        text: str | None = "text",
        metadata: str | None = None,
        metadata_columns: Sequence[str] = (),
        operator: str = "<=>",
        where: Any = None,
        filter_of: Callable[[Any], Any] | None = None,
        item_of: Callable[[StoreRow], Any] | None = None,
        stateless: bool = False,
        ef_search: int = 100,
        read_ahead: int | None = None,
        strict: bool = False,
        max_scan_tuples: int | None = None,
        max_open: int = MAX_OPEN,
        max_wait: float = MAX_WAIT,
        store_id: str | None = None,
    ) -> None:
        require("psycopg", "postgres")
        from nextk.postgres.ranked_query import VectorOperator, table_name
        from nextk.postgres.scan import IterativeOrder, ScanOptions
        from nextk.stores.postgres.conditions import condition_of

        for name, function in (("filter_of", filter_of), ("item_of", item_of)):
            if function is not None:
                require_callable(function, name)
        _require_counts(ef_search=ef_search, read_ahead=read_ahead, max_scan_tuples=max_scan_tuples, max_open=max_open)
        require_number(max_wait, "max_wait", 0, _ONE_DAY)
        self._connections = Connections(connection, max_open, max_wait)
        self.table = table_name(table)
        self._key, self._embedding, self._text, self._metadata = key, embedding, text, metadata
        self._metadata_columns = tuple(metadata_columns)
        self._operator = choose(VectorOperator, operator, "operator")
        self._where = None if where is None else condition_of(where, metadata, metadata_columns)
        self._filter_of, self._item_of = filter_of, item_of
        self._stateless = stateless
        self._options = ScanOptions(
            IterativeOrder.STRICT if strict else IterativeOrder.RELAXED, read_ahead, ef_search, max_scan_tuples
        )
        self._store_id = store_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'.'.join(self.table)!r})"

    @property
    def identity(self) -> str:
        """The table, its columns and its standing condition, or the `store_id`."""
        where = "" if self._where is None else f" {self._where.sql.as_string(None)} {self._where.values}"
        columns = f"{self._key!r} {self._embedding!r} {self._operator.value}"
        return self._store_id or f"postgres {'.'.join(map(repr, self.table))} {columns}{where}"

    @property
    def traits(self) -> SourceTraits:
        """Native, with an order that does not depend on the pages; by exclusion if nothing is kept open."""
        continuation = Continuation.EXCLUSION if self._stateless else Continuation.NATIVE
        return SourceTraits(continuation, stable_order=not self._stateless, modes=True, exact=True)

    def close(self) -> None:
        """Close the connections, unless the pool is yours. Searches that are open end."""
        self._connections.close()

    def query_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> list[StoreRow]:
        """Fetch the nearest rows without some of them, in a transaction that ends with the request.

        Args:
            query: The query, with its vector.
            count: The number of rows, at least 1.
            excluded: The keys of the rows that are left out.

        Raises:
            ClientError: The query has no vector, or the filter is of no use.
            RefusedError: PostgreSQL has refused the request; the message says why, and what to do.
            TransportError: No answer came.
        """
        from nextk.postgres.scan import RankedScan

        ranked = self._ranked(query)
        with (
            self._connections.one() as connection,
            RankedScan(connection, ranked, options=self._options_of(query), without=excluded) as scan,
        ):
            return self._rows(scan.fetch_next(count))

    def search(self) -> SourceSearch:
        """Return a new search. Nothing is sent before its first call."""
        return super().search() if self._stateless else CursorSearch(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a new search for an event loop, whose requests run on threads. Nothing is sent before its first."""
        return super().asearch() if self._stateless else AsyncCursorSearch(self)

    def _open_scan(self, query: SearchQuery, max_idle: float) -> "tuple[Connection[Any], RankedScan]":
        """Open a scan on a connection that is to be given back with it."""
        from nextk.postgres.scan import RankedScan

        ranked, options = self._ranked(query), self._options_of(query, max_idle)
        connection = self._connections.take()
        try:
            return connection, RankedScan(connection, ranked, options=options)
        except BaseException:
            self._connections.give_back(connection)
            raise

    def _scan_page(self, scan: "RankedScan", count: int) -> list[QueryResult]:
        return list(self._rows(scan.fetch_next(count)))

    def _close_scan(self, connection: "Connection[Any]", scan: "RankedScan") -> None:
        try:
            scan.close()
        finally:
            self._connections.give_back(connection)

    def _options_of(self, query: SearchQuery, max_idle: float | None = None) -> Any:
        from dataclasses import replace

        return replace(self._options, exact=query.exact, idle_timeout=max_idle)

    def _ranked(self, query: SearchQuery) -> "RankedQuery":
        from nextk.postgres.fragments import joined
        from nextk.postgres.ranked_query import RankedQuery
        from nextk.stores.postgres.conditions import condition_of

        _require_dense(query)
        assert query.vector is not None
        conditions = [] if self._where is None else [self._where]
        if query.store_filter is not None:
            given = query.store_filter if self._filter_of is None else self._filter_of(query.store_filter)
            conditions.append(condition_of(given, self._metadata, self._metadata_columns))
        where = joined(" AND ", conditions) if conditions else None
        named = [name for name in (self._text, self._metadata) if name is not None]
        columns = (*named, *self._metadata_columns)
        return RankedQuery(self.table, self._key, self._embedding, self._operator, query.vector, columns, where)

    def _rows(self, found: "Sequence[RankedRow]") -> list[StoreRow]:
        return [self._row(row) for row in found]

    def _row(self, row: "RankedRow") -> StoreRow:
        values = list(row.values)
        text = values.pop(0) if self._text is not None else None
        own = values.pop(0) if self._metadata is not None else None
        metadata = dict(own) if isinstance(own, Mapping) else {}
        metadata.update(zip(self._metadata_columns, values, strict=True))
        made = StoreRow(row.key, self._score(row.distance), metadata=metadata, data=None if text is None else str(text))
        if self._item_of is not None:
            made.item = self._item_of(made)
        return made

    def _score(self, distance: float) -> float:
        if math.isnan(distance):  # of a vector of zeros, which has no cosine
            return -1.0
        return 1 - distance if self._operator.value == "<=>" else -distance


def _require_counts(ef_search: int, max_open: int, **optional: int | None) -> None:
    """Refuse a whole number that is out of bounds.

    Raises:
        ClientError: There is one. The message names it.
    """
    given = {"ef_search": ef_search, "max_open": max_open}
    given.update((name, number) for name, number in optional.items() if number is not None)
    for name, number in given.items():
        least, most = _BOUNDS[name]
        require_count(number, name, least, most)


def _require_dense(query: SearchQuery) -> None:
    """Refuse a query that is no search of one dense vector.

    Raises:
        ClientError: It has no vector, or is to search sparse ones.
    """
    if query.mode not in (None, RetrievalMode.DENSE) or query.sparse_vector is not None:
        message = "a table of pgvector has dense vectors alone: leave retrieval_mode= and sparse_embedding= out"
        raise ClientError(message)
    if query.vector is None:
        message = "a table of pgvector is searched by vectors: give the retriever the model that made its embeddings"
        raise ClientError(message)
