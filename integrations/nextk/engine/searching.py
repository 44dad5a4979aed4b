"""The searching of the embedded engine. A search takes a snapshot under the lock and works on it without the lock.

The ranking of a resumable query is fixed when the query starts. Records that are written later do not enter it. Records
that are deleted later, or whose metadata no longer passes the filter, are left out of the pages.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nextk.bodies import Query
from nextk.engine import dense, records, search
from nextk.engine.abandonment import require_wanted
from nextk.engine.base import BaseEngine
from nextk.engine.columns import Snapshot
from nextk.engine.filter.columns import Field, FieldValues
from nextk.engine.filter.evaluate import evaluate, fields_of
from nextk.engine.filter.syntax import parse
from nextk.engine.filter.timer import FilterTimer
from nextk.engine.pages import load_until
from nextk.engine.parts import in_parts
from nextk.engine.passing import filtered
from nextk.engine.resumable_queries import FoundRecords, ResumableQueries
from nextk.engine.schema import Schema
from nextk.engine.values import Match

_FILTER_PART = 2_048  # values of metadata fields that are read at once


@dataclass(frozen=True, slots=True)
class _TakenSnapshot:
    """That which a search has taken under the lock.

    Attributes:
        snapshot: The slots of the namespace.
        values: The values of the fields of the filter in these slots; `None` if they are too large for memory.
        schema: The schema of the index.
        key: The key of the namespace.
        changes: The number of changes to records so far.
    """

    snapshot: Snapshot
    values: Mapping[Field, FieldValues] | None
    schema: Schema
    key: int
    changes: int


class SearchingEngine(BaseEngine, ResumableQueries):
    """The part of the embedded engine that answers queries and holds the resumable ones.

    The arguments are those of `BaseEngine`.
    """

    def _search(self, namespace: str, query: Query) -> FoundRecords | None:
        """Take the snapshot that is searched.

        Returns:
            A function that ranks the snapshot without the lock, and one that reads the records of its rows; `None` if
            the namespace does not exist, or if nothing was ever written.
        """
        require_wanted()
        self._open_queries.sweep()
        node = parse(query.filter)
        if self.schema.undecided:
            return None
        components = records.components_of(query, self.schema, self._models)
        timer = FilterTimer(self._filter_timeout)
        taken = self._take(namespace, components, query.filter, timer)
        if taken is None:
            return None
        visible = taken.snapshot
        if node is not None:
            if taken.values is None:
                passing = visible.with_rows(self._passing(query.filter, visible.visible_rows(), timer))
            else:
                with self._working(timer):
                    passing = evaluate(node, taken.values, visible.visible_mask(), timer.check)
            visible = visible.restricted_to(passing)
        rank_dense = dense.ranking if query.exact else self._pools.ranking
        rank = functools.partial(search.order, components, taken.schema, taken.snapshot, visible, rank_dense)
        return rank, functools.partial(self._load, key=taken.key, query=query, changes=taken.changes)

    def _take(
        self, namespace: str, components: search.QueryComponents, filter: str, timer: FilterTimer
    ) -> "_TakenSnapshot | None":
        """Take the snapshot of a namespace that is searched, once the values of the filter's fields are in memory.

        The lock is free between some parts of them, so neither writes nor other searches wait for all of them.

        Returns:
            The snapshot; `None` if the namespace does not exist.
        """
        fields = fields_of(parse(filter))

        def part() -> tuple[_TakenSnapshot | None] | None:
            cache = self._cache.current()
            schema, key = cache.schema, cache.keys.get(namespace)
            records.refuse_dimension(components, schema)  # under the lock, because a first write may decide it
            if key is None:
                return (None,)
            columns, changes = cache.columns(key), self._storage.record_cache.changes
            snapshot, held = columns.snapshot, columns.fields
            if held.too_large & fields:
                return (_TakenSnapshot(snapshot, None, schema, key, changes),)
            rows, live, read = snapshot.rows, snapshot.visible, self._storage.cells
            with self._working(timer) if fields else contextlib.nullcontext():
                complete = held.read_part(fields, rows, live, read, _FILTER_PART)
            self._field_budget.use(held, fields)
            if not complete or held.too_large & fields:
                return None
            return (_TakenSnapshot(snapshot, held.values(fields), schema, key, changes),)

        return in_parts(self._lock, part, timer.check, grows=True)

    def _passing(self, filter: str, rows: Sequence[int], timer: FilterTimer) -> list[int]:
        """Return those of some rows that pass a filter, which SQLite evaluates part by part.

        The lock is free between some parts. A row that is written meanwhile passes or not by what it is then.

        Args:
            filter: The filter.
            rows: The rows. Those that do not exist any more are left out.
            timer: The timer of the search.
        """
        timer.keeps = False
        read_part = filtered(self._storage, filter, rows, timer.check)

        def part() -> tuple[list[int]] | None:
            self._cache.current()
            with self._working(timer):
                return read_part()

        return in_parts(self._lock, part, timer.check)

    @contextlib.contextmanager
    def _working(self, timer: FilterTimer) -> Iterator[None]:
        """Count the time until the block is left as work on a filter."""
        with self._filter_seconds.measure(), timer.working():
            yield

    def _load(self, rows: Sequence[int], limit: int, *, key: int, query: Query, changes: int) -> Mapping[int, Match]:
        """Read the records of rows that still exist, still pass the filter, and are not damaged.

        Args:
            rows: The rows, which are read in their order.
            limit: The number of records at which to stop. Some more may be returned.
            key: The key of the namespace.
            query: The query.
            changes: The changes that were counted when the query began, and all of the rows passed its filter.
        """
        with self._lock:
            self._cache.current()
            return load_until(limit, rows, lambda part: self._storage.load(key, part, query, query.filter, changes))
