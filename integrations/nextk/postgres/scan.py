"""A ranked scan over a table: the nearest rows, page by page, until all have come.

    fetch_next ──> cursor over an index ──ends──> was it an index of vectors? ──> cursor that sorts the rest ──> end

The first cursor runs over pgvector's iterative scan, where the table has an index for it. That scan is approximate, and
it ends without a sign once it has visited a number of tuples or has used up its memory. So its end is not taken for
one: the rows that have not come are gathered, sorted exactly, and delivered from a second cursor. Both cursors are of
one transaction, which sees one state of the table. No row is lost, and none comes twice; those that the index has
missed come late.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import Connection, Cursor, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from nextk.errors import ClientError, QueryNotFound, RefusedError
from nextk.postgres.failures import explaining_postgres
from nextk.postgres.fragments import Fragment
from nextk.postgres.ranked_query import RankedQuery, uses_vector_index
from nextk.postgres.read_ahead import RankedRow, ReadAhead

__all__ = ["IterativeOrder", "RankedScan", "ScanOptions"]

VISITED_SHARE = 20
"""With a condition, an index may visit a twentieth of the rows before what passes is gathered and sorted. Measured on
100,000 rows of 128 dimensions: to visit a row by the index takes 8 us, and to gather and sort takes 60 ms where few
rows pass and 185 ms where all do. So a search takes at most about twice as long as by the better of both ways."""
LEAST_VISITED = 2_000
"""The number of tuples that an index may visit at least."""
_AHEAD_OF_CONDITION = 10
_UNLIMITED = 2_147_483_647
_numbers = itertools.count(1)


class IterativeOrder(StrEnum):
    """The order in which pgvector's iterative scan brings the rows."""

    RELAXED = "relaxed_order"
    """Nearly that of the distances. It finds more, and what is out of order is repaired by reading ahead."""
    STRICT = "strict_order"
    """Exactly that of the distances: a row that is found too late is left to the exact scan at the end."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """The settings of a ranked scan.

    Attributes:
        order: The order of the iterative scan.
        read_ahead: The number of rows that are read ahead of those that are delivered, so that their order can be
            repaired. Default for a relaxed order: half of `ef_search`, so that a first page and what is read ahead of
            it come by one round of the index; 10 with a condition, where each row may cost many visits. 0 for a strict
            order.
        ef_search: The number of candidates of each round of an HNSW index, `hnsw.ef_search`, 1 to 1,000.
        max_scan_tuples: The number of tuples that the index visits before the rest is gathered and sorted. Default:
            a twentieth of the rows of the table, and at least 2,000, with a condition; no limit without one, because
            each tuple is a row then.
        scan_mem_multiplier: The memory of the index scan, as a multiple of `work_mem`; the scan goes on by sorting
            once it is used up.
        exact: Whether all rows are gathered and sorted from the start, and no index of vectors is used.
        idle_timeout: The seconds without a request after which PostgreSQL may end the scan; `None` for its own setting.
    """

    order: IterativeOrder = IterativeOrder.RELAXED
    read_ahead: int | None = None
    ef_search: int = 100
    max_scan_tuples: int | None = None
    scan_mem_multiplier: int = 4
    exact: bool = False
    idle_timeout: float | None = None

    def window(self, query: RankedQuery) -> int:
        """Return the number of rows that are read ahead.

        Args:
            query: The search.
        """
        if self.read_ahead is not None:
            return self.read_ahead
        if self.exact or self.order is IterativeOrder.STRICT:
            return 0
        return self.ef_search // 2 if query.where is None else _AHEAD_OF_CONDITION

    def settings(self, query: RankedQuery) -> dict[str, sql.Composable]:
        """Return the settings of PostgreSQL for the time of the scan, each with the expression of its value.

        Args:
            query: The search.
        """
        lists = "off" if self.order is IterativeOrder.STRICT else self.order.value  # IVFFlat has no strict order
        settings = {
            "hnsw.iterative_scan": self.order.value,
            "ivfflat.iterative_scan": lists,
            "hnsw.ef_search": str(self.ef_search),
            "hnsw.scan_mem_multiplier": str(self.scan_mem_multiplier),
            # Whatever does not sort takes the order from an index; without one, PostgreSQL sorts all the same.
            "enable_sort": "off",
            "jit": "off",
        }
        if self.idle_timeout is not None:
            settings["idle_in_transaction_session_timeout"] = f"{max(1, round(self.idle_timeout * 1000))}ms"
        return {
            "hnsw.max_scan_tuples": self._limit(query),
            **{name: sql.Literal(value) for name, value in settings.items()},
        }

    def _limit(self, query: RankedQuery) -> sql.Composable:
        if self.max_scan_tuples is not None or query.where is None:
            return sql.Literal(str(self.max_scan_tuples or _UNLIMITED))
        limit = (
            "round(least({most}, greatest({least}, "
            "(SELECT reltuples / {share} FROM pg_class WHERE oid = to_regclass({table})))))::text"
        )
        return sql.SQL(limit).format(
            most=_UNLIMITED, least=LEAST_VISITED, share=VISITED_SHARE, table=query.quoted_table
        )


class RankedScan:
    """The nearest rows of a table, fetched page by page.

    ```python
    with RankedScan(connection, query) as scan:
        rows = scan.fetch_next(10)
        rows += scan.fetch_next(100)
    ```

    Args:
        connection: A connection in no transaction. The scan begins one, and ends it when it is closed; until then the
            connection is the scan's alone.
        query: The search.
        options: The settings; absent: the defaults.
        without: The keys of rows that are left out.

    Raises:
        ClientError: The connection is in a transaction.
    """

    def __init__(
        self,
        connection: Connection[Any],
        query: RankedQuery,
        *,
        options: ScanOptions | None = None,
        without: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        self._query = query
        self._options = options or ScanOptions()
        self._without = list(without)
        self._searched = f"the table {query.quoted_table}"
        self._waiting = ReadAhead(self._options.window(query))
        self._came = dict.fromkeys(self._without)  # keys, in the order in which they came
        self._cursor: sql.Identifier | None = None
        self._sorting = False  # whether the cursor is the one that sorts
        self._ended = self._lost = False
        if connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            message = "the connection is in a transaction, and a scan needs one of its own: commit it, or take another"
            raise ClientError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fetch_next(self, count: int) -> list[RankedRow]:
        """Fetch the next rows.

        Args:
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows. Fewer, and then none, say that all rows have come.

        Raises:
            QueryNotFound: The scan is closed, has failed before, or was idle for too long.
            PageUncertain: The connection is lost.
            RefusedError: PostgreSQL refuses the search; the message says what to do.
        """
        if self._lost:
            message = f"this search of {self._searched} has ended: start it again"
            raise QueryNotFound(message, 404)
        try:
            with explaining_postgres(self._searched):
                while not self._ended and (missing := self._waiting.missing(count)):
                    self._advance(missing)
        except BaseException:
            self._lost = True  # the transaction is over, or a reply is still to come
            raise
        return self._waiting.take(count, ended=self._ended)

    def close(self) -> None:
        """End the scan and its transaction; a connection that is lost is closed, which raises nothing."""
        self._lost = True
        try:
            self._connection.rollback()
        except psycopg.Error:
            self._connection.close()

    def _advance(self, count: int) -> None:
        """Let the next rows wait, and take the next step where a cursor has no more."""
        if self._cursor is None:
            self._begin()
            self._sorting = self._options.exact
            query = self._query
            self._declare((query.by_sorting if self._sorting else query.by_index)(self._without))
        assert self._cursor is not None
        fetch = sql.SQL("FETCH FORWARD {} FROM {}").format(sql.Literal(count), self._cursor)
        found = self._execute(fetch).fetchall()
        self._add(found)
        if len(found) < count:
            self._end_cursor()

    def _begin(self) -> None:
        """Begin the transaction, and set what holds for it alone. A setting that does not take effect is refused."""
        settings = self._options.settings(self._query)
        begin = "BEGIN" if self._connection.autocommit else "SET TRANSACTION"
        # PostgreSQL reads the vector before it carries anything out, and loads pgvector for it: a setting that pgvector
        # does not have, or a value that it does not take, is an error then. Set before that, it would only warn, later.
        statement = sql.SQL("{} ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT '[1]'::vector IS NULL, {}").format(
            sql.SQL(begin),
            sql.SQL(", ").join(
                sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in settings.items()
            ),
        )
        self._execute(statement)

    def _execute(self, statement: sql.Composed, values: Sequence[Any] | None = None) -> Cursor[TupleRow]:
        """Carry a statement out. Its rows are tuples, whatever the connection makes of rows otherwise."""
        cursor: Cursor[TupleRow] = Cursor(self._connection, row_factory=tuple_row)
        # Statements that a server has prepared are lost behind a pooler that changes servers.
        return cursor.execute(statement, values, prepare=False)

    def _declare(self, statement: Fragment) -> None:
        self._cursor = sql.Identifier(f"nextk_{next(_numbers)}")
        declare = sql.SQL("DECLARE {} NO SCROLL CURSOR FOR {}").format(self._cursor, statement.sql)
        self._execute(declare, statement.values)

    def _end_cursor(self) -> None:
        """Go on by sorting what is left, unless the cursor has brought all rows."""
        if self._sorting or not self._may_lack_rows():
            self._ended = True
            return
        assert self._cursor is not None
        restore = sql.SQL("CLOSE {}; SET LOCAL enable_sort = on").format(self._cursor)
        self._execute(restore)
        self._sorting = True
        self._declare(self._query.by_sorting(list(self._came)))

    def _may_lack_rows(self) -> bool:
        statement = self._query.by_index(self._without)
        explain = sql.SQL("EXPLAIN (FORMAT JSON) DECLARE {} NO SCROLL CURSOR FOR {}").format(
            sql.Identifier("nextk_plan"), statement.sql
        )
        plan = self._execute(explain, statement.values).fetchone()
        return plan is None or uses_vector_index(plan[0])

    def _add(self, found: Sequence[tuple[Any, ...]]) -> None:
        came, new = self._came, list[RankedRow]()
        for row in found:
            key = row[0]
            if key is None:
                message = f"a row of {self._searched} has no {self._query.key}: name a key column without NULLs"
                raise RefusedError(message, 400)
            if key not in came:
                came[key] = None
                new.append(RankedRow(key, row[1], row[2:]))
        self._waiting.add(new)
