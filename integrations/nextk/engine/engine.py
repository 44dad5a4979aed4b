"""The embedded engine: one index with its namespaces and its open queries, guarded by one lock."""

from nextk.bodies import MAX_ROWS, Fetch, Include, Range
from nextk.engine.failures import refusing_failures
from nextk.engine.protocol import RangePage
from nextk.engine.searching import SearchingEngine
from nextk.engine.values import Match
from nextk.engine.writing import WritingEngine

_VECTORS = Include.model_validate({"includeVectors": True})


@refusing_failures
class EmbeddedEngine(WritingEngine, SearchingEngine):
    """The engine of an index in this process. A failure of its storage is a `RefusedError` of the call that meets it.

    The arguments are those of `BaseEngine`. Here it reads records by their ids or in order; its bases write and search.
    """

    def fetch(self, namespace: str, fetch: Fetch) -> list[Match | None]:
        """Read records by their ids or by a prefix of their ids.

        Returns:
            For ids, one element each, in the given order, `None` if there is no such record; for a prefix, at
            most 1,000 records, those whose ids sort first. Damaged records are left out of the latter.

        Raises:
            RefusedError: Records that were named by their ids are damaged.
        """
        with self._lock:
            key = self._cache.current().keys.get(namespace)
            if key is None:
                return [None] * len(fetch.ids or ())
            if fetch.ids is None:
                return [*self._storage.load_prefix(key, fetch.prefix or "", fetch, MAX_ROWS)]
            found = self._storage.fetch(key, fetch.ids, fetch)
        return [found.get(id_) for id_ in fetch.ids]

    def range(self, namespace: str, request: Range) -> RangePage:
        """Read a page of records in insertion order. The cursor is the number of the last record that was read.

        Damaged records are left out, so a page may be short, or empty, although there is a next one.
        """
        with self._lock:
            key = self._cache.current().keys.get(namespace)
            if key is None:
                return RangePage("", [])
            start, limit = int(request.cursor or 0), request.limit
            matches, last = self._storage.range(key, start, request.prefix, request, limit)
        return RangePage("" if last is None else str(last), matches)

    def random(self, namespace: str) -> Match | None:
        """Return a random record with its vectors, or `None` if the namespace has no records that are whole."""
        with self._lock:
            key = self._cache.current().keys.get(namespace)
            return None if key is None else self._storage.random(key, _VECTORS)
