"""The part of the engine on PostgreSQL that searches, once or page by page.

The ranking of a resumable query is fixed when the query starts. Records that are written later do not enter it. Records
that are deleted later, or whose metadata no longer passes the filter, are left out of the pages.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from psycopg import sql

from nextk.bodies import Query
from nextk.engine import records
from nextk.engine.abandonment import require_wanted
from nextk.engine.fusion import Order
from nextk.engine.pages import load_until
from nextk.engine.resumable_queries import FoundRecords, ResumableQueries
from nextk.engine.schema import Schema, Similarity
from nextk.engine.search import QueryComponents
from nextk.engine.values import Match
from nextk.postgres.base import BasePostgresEngine
from nextk.postgres.cursor_order import CursorOrder
from nextk.postgres.fragments import Fragment, joined
from nextk.postgres.layout import HALF_DIMENSIONS, INDEXED_DIMENSIONS
from nextk.postgres.namespaces import Namespace
from nextk.postgres.ranked_query import RankedQuery, VectorOperator
from nextk.postgres.ranking import OPERATORS, rank_by_lists
from nextk.postgres.records import passing
from nextk.postgres.scan import ScanOptions

__all__ = ["SearchingPostgresEngine"]

_ALL = Fragment(sql.SQL("TRUE"))
_GATHERED_PART = 20  # a namespace with less than this part of all records is sorted, since an index would find others
_EVERY_TUPLE = 2_147_483_647

IDLE_MARGIN = 60.0
"""The seconds that PostgreSQL leaves an open query beyond its `max_idle`.

So the process, which may give pages without asking PostgreSQL, ends its own queries first. PostgreSQL ends those that
nobody sweeps, because no call comes, or because the process hangs.
"""


class SearchingPostgresEngine(BasePostgresEngine, ResumableQueries):
    """The part of the engine that searches. The arguments are those of `BasePostgresEngine`."""

    def _search(self, namespace: str, query: Query) -> FoundRecords | None:
        return self._found(namespace, query, None)

    def _search_resumably(self, namespace: str, query: Query, max_idle: int) -> FoundRecords | None:
        return self._found(namespace, query, max_idle)

    def _found(self, namespace: str, query: Query, max_idle: int | None) -> FoundRecords | None:
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
