"""The engine of an index on PostgreSQL: several processes may have it open and write to it at the same time."""

from nextk.bodies import MAX_ROWS, Fetch, Include, Range
from nextk.engine.protocol import RangePage
from nextk.engine.values import Match
from nextk.postgres.refusals import refusing_failures
from nextk.postgres.searching import SearchingPostgresEngine
from nextk.postgres.writing import WritingPostgresEngine

__all__ = ["PostgresEngine"]

_VECTORS = Include.model_validate({"includeVectors": True})


@refusing_failures
class PostgresEngine(WritingPostgresEngine, SearchingPostgresEngine):
    """The engine of an index on PostgreSQL. A failure of PostgreSQL is a `RefusedError` of the call that meets it.

    The arguments are those of `BasePostgresEngine`. Here it reads records by their ids or in order; its bases write and
    search.
    """

    def fetch(self, namespace: str, fetch: Fetch) -> list[Match | None]:
        """Read records by their ids or by a prefix of their ids.

        Returns:
            For ids, one element each, in the given order, `None` if there is no such record; for a prefix, at
            most 1,000 records, those whose ids sort first.
        """
        missing: list[Match | None] = [None] * len(fetch.ids or ())
        if not self._has_tables:
            return missing
        with self._database.worker() as connection:
            found = self._namespaces.find(connection, namespace)
            if found is None:
                return missing
            if fetch.ids is None:
                return self._record_table.with_prefix(connection, found.key, fetch.prefix or "", fetch, MAX_ROWS)
            records = self._record_table.fetch(connection, found.key, fetch.ids, fetch)
        return [records.get(id_) for id_ in fetch.ids]

    def range(self, namespace: str, request: Range) -> RangePage:
        """Read a page of records in insertion order. The cursor is the number of the last record that was read."""
        if not self._has_tables:
            return RangePage("", [])
        with self._database.worker() as connection:
            found = self._namespaces.find(connection, namespace)
            if found is None:
                return RangePage("", [])
            start = int(request.cursor or 0)
            matches, last = self._record_table.after(
                connection, found.key, start, request.prefix, request, request.limit
            )
        return RangePage("" if last is None else str(last), matches)

    def random(self, namespace: str) -> Match | None:
        """Return a random record with its vectors, or `None` if the namespace has no records."""
        if not self._has_tables:
            return None
        with self._database.worker() as connection:
            found = self._namespaces.find(connection, namespace)
            return None if found is None else self._record_table.random(connection, found.key, _VECTORS)
