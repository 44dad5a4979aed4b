"""The part of the engine on PostgreSQL that searches, once or page by page.

The ranking of a resumable query is fixed when the query starts. Records that are written later do not enter it. Records
that are deleted later, or whose metadata no longer passes the filter, are left out of the pages.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from psycopg import sql

from nextk.bodies import Query
from nextk.engine import records, search
from nextk.engine.abandonment import require_wanted
from nextk.engine.fusion import Order
from nextk.engine.open_query import QueryStart
from nextk.engine.pages import LoadRows, RepeatablePage, load_until
from nextk.engine.protocol import QueryShares
from nextk.engine.schema import Schema, Similarity
from nextk.engine.search import QueryComponents
from nextk.engine.shares import Share
from nextk.engine.values import Match, TextVectors
from nextk.errors import RefusedError
from nextk.postgres.base import BasePostgresEngine
from nextk.postgres.cursor_order import CursorOrder
from nextk.postgres.fragments import Fragment, joined
from nextk.postgres.layout import HALF_DIMENSIONS, INDEXED_DIMENSIONS
from nextk.postgres.namespaces import Namespace
from nextk.postgres.ranked_query import RankedQuery, VectorOperator
from nextk.postgres.ranking import OPERATORS, rank_by_lists
from nextk.postgres.records import passing
from nextk.postgres.refusals import refusing_failures
from nextk.postgres.scan import ScanOptions
from nextk.types import QueryMode

__all__ = ["SearchingPostgresEngine"]

_ALL = Fragment(sql.SQL("TRUE"))
_GATHERED_PART = 20  # a namespace with less than this part of all records is sorted, since an index would find others
_EVERY_TUPLE = 2_147_483_647

IDLE_MARGIN = 60.0
"""The seconds that PostgreSQL leaves an open query beyond its `max_idle`.

So the process, which may give pages without asking PostgreSQL, ends its own queries first. PostgreSQL ends those that
nobody sweeps, because no call comes, or because the process hangs.
"""


@refusing_failures
class SearchingPostgresEngine(BasePostgresEngine):
    """The part of the engine that searches. The arguments are those of `BasePostgresEngine`."""

    def query(self, namespace: str, query: Query) -> list[Match]:
        """Return the best `top_k` matches, best first."""
        found = self._search(namespace, query)
        if found is None:
            return []
        rank, load = found
        order = rank(depth=max(search.ONE_SHOT_DEPTH, query.top_k))
        with contextlib.ExitStack() as stack:
            if isinstance(order, CursorOrder):
                stack.callback(order.close)
            return RepeatablePage(query.top_k).read(order, load)

    def start(
        self, namespace: str, query: Query, max_idle: int, uuid: str | None = None, *, owner: str = ""
    ) -> tuple[str, list[Match]]:
        """Open a resumable query and read its first page of `top_k` matches, or read it again.

        Args:
            namespace: The namespace to search.
            query: The query.
            max_idle: The seconds after which the query is dropped if nobody fetches from it.
            uuid: The uuid that the query is to have. If it is that of a query which this search has opened, the first
                page of that query is read again. `None` (the default) lets the engine choose.
            owner: The kind of client, whose open queries in a namespace are counted together. Default `""`.

        Returns:
            The uuid of the query (`""` if the namespace does not exist), and the first page, best first.

        Raises:
            TooManyQueries: `max_open_queries` queries are open already, or half as many with the same owner in the
                same namespace, and none of them has been idle for long enough to make room.
            QueryNotFound: The query with this `uuid` was stopped already.
            RefusedError: The query with this `uuid` is another search, or has gone on to another page; or `max_idle`
                is longer than the engine allows.
        """
        if max_idle > self._max_idle:
            message = f"Invalid maxIdle: at most {self._max_idle} seconds are allowed, got {max_idle}"
            raise RefusedError(message, 422)
        digest = b"" if uuid is None else search.digest(namespace, query)
        search_ = functools.partial(self._search, namespace, query, max_idle)
        share = Share(owner, namespace)
        return self._open_queries.start(QueryStart(search_, max_idle, query.top_k, uuid, digest, share))

    def require_open(self, uuid: str) -> None:
        """Raise `QueryNotFound` unless the resumable query is open in this process."""
        self._open_queries.require(uuid)

    def fetch_next(self, uuid: str, count: int, page_number: int | None = None) -> list[Match]:
        """Return the next `count` matches of an open query, best first; fewer if the query is nearly exhausted.

        Args:
            uuid: The uuid of the query.
            count: The number of matches.
            page_number: The number of the page, counted from the first page, which is 1. That of the last page reads
                it again. `None` (the default) for the next page.

        Raises:
            QueryNotFound: The query was stopped, has expired, has lost its connection, was opened by another process,
                or never existed.
            RefusedError: The page is neither the last one nor the next one, the last one had another `count`, or it has
                failed and has to be requested again first.
        """
        return self._open_queries.fetch_next(uuid, count, page_number)

    def stop(self, uuid: str) -> None:
        """Stop an open query. Raises `QueryNotFound` if it was stopped already, has expired, or never existed."""
        self._open_queries.stop(uuid)

    def open_queries(self) -> int:
        """Return the number of open resumable queries."""
        return len(self._open_queries)

    def query_shares(self) -> QueryShares:
        """Return how many resumable queries each share has open, and how many were dropped to make room."""
        return QueryShares(self._open_queries.shares(), self._open_queries.evicted)

    def sweep(self) -> None:
        """Drop the resumable queries that have been idle for longer than their `max_idle`."""
        self._open_queries.sweep()

    def embed_query(self, text: str, mode: QueryMode) -> TextVectors:
        """Embed the text of a query by the models of the index, and search nothing; see `records.embed_query`."""
        return records.embed_query(text, mode, self.schema, self._models)

    def _search(
        self, namespace: str, query: Query, max_idle: int | None = None
    ) -> tuple[Callable[..., Order], LoadRows] | None:
        """Find out what is searched.

        Args:
            namespace: The namespace to search.
            query: The query.
            max_idle: The seconds that a resumable query may be idle; `None` for a query of one page.

        Returns:
            A function that ranks the records, and one that reads the records of rows; `None` if the namespace does not
            exist, or if nothing was ever written.
        """
        require_wanted()
        self._open_queries.sweep()
        condition = passing(query.filter)
        schema = self.schema
        if schema.undecided:
            return None
        components = records.components_of(query, schema, self._models)
        records.refuse_dimension(components, schema)
        if not self._has_tables:
            return None
        with self._database.worker() as connection:
            found = self._namespaces.find(connection, namespace)
        if found is None:
            return None
        exact = self._exact or query.exact
        rank = functools.partial(self._rank, components, schema, found, condition, max_idle=max_idle, exact=exact)
        return rank, functools.partial(self._load, key=found.key, query=query, condition=condition or _ALL)

    def _rank(
        self,
        components: QueryComponents,
        schema: Schema,
        namespace: Namespace,
        condition: Fragment | None,
        *,
        max_idle: int | None,
        exact: bool,
        depth: int = 0,
    ) -> Order:
        if not exact and self._goes_on(components, schema, namespace):
            inside = Fragment(sql.SQL("namespace = %s"), (namespace.key,))
            assert components.vector is not None, "it is a dense search"
            query = RankedQuery(
                (self._tables.schema, self._tables.records_name),
                "row",
                "dense",
                VectorOperator(OPERATORS[schema.similarity]),
                components.vector.tolist(),
                where=joined(" AND ", [inside] if condition is None else [inside, condition]),
                half=len(components.vector) if len(components.vector) > INDEXED_DIMENSIONS else None,
            )
            options = self._scan_options(namespace, filtered=condition is not None)
            if max_idle is not None:
                options = replace(options, idle_timeout=max_idle + IDLE_MARGIN)
            return CursorOrder(self._database, query, schema.similarity, options)
        with self._database.snapshot() as connection:
            return rank_by_lists(connection, self._tables, namespace.key, components, schema, condition, depth)

    def _goes_on(self, components: QueryComponents, schema: Schema, namespace: Namespace) -> bool:
        """Return whether a search is a scan by an index, which goes on in PostgreSQL, and not a full list."""
        return (
            namespace.records > self._exact_rows
            and components.sparse is None
            and components.vector is not None
            and len(components.vector) <= HALF_DIMENSIONS
            and not (schema.similarity is Similarity.COSINE and not components.vector.any())
        )

    def _scan_options(self, namespace: Namespace, *, filtered: bool) -> ScanOptions:
        """Return the settings of a scan, by the part of all records that the namespace has."""
        with self._database.worker() as connection:
            total = self._namespaces.total(connection)
        if namespace.records * _GATHERED_PART < total:
            return ScanOptions(exact=True)
        return ScanOptions() if filtered else ScanOptions(max_scan_tuples=_EVERY_TUPLE)

    def _load(
        self, rows: Sequence[int], limit: int, *, key: int, query: Query, condition: Fragment
    ) -> Mapping[int, Match]:
        """Read the records of rows that still exist and still pass the filter.

        Args:
            rows: The rows, which are read in their order.
            limit: The number of records at which to stop. Some more may be returned.
            key: The key of the namespace.
            query: The query.
            condition: The condition of its filter.
        """
        if not len(rows):
            return {}
        table = self._record_table
        with self._database.worker() as connection:
            return load_until(limit, rows, lambda part: table.load(connection, key, part, query, condition))
