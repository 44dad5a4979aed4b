"""The embedded engine: one index with its namespaces and its open queries, guarded by one lock.

A write goes to storage first, and to memory once it is durable. A search takes a snapshot under the lock and works on
it without the lock. The ranking of a resumable query is fixed when the query starts. Records that are written later do
not enter it. Records that are deleted later, or whose metadata no longer passes the filter, are left out of the pages.
"""

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from nextk.bodies import MAX_ROWS, Delete, Fetch, Include, Query, Range, Record, TextRecord, Update
from nextk.engine import pages, records, search
from nextk.engine.cache import EngineCache
from nextk.engine.columns import Columns
from nextk.engine.failures import refusing_failures
from nextk.engine.filter.syntax import parse
from nextk.engine.fusion import Order
from nextk.engine.open_queries import Clock, OpenQueries
from nextk.engine.protocol import RangePage, Stats
from nextk.engine.rest_timer import RestTimer
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage
from nextk.engine.stored import StoredRecord
from nextk.engine.text import DenseModel, SparseModel
from nextk.engine.values import Match
from nextk.errors import RefusedError

MAX_OPEN_QUERIES = 100
MAX_NAMESPACES = 10_000
_VECTORS = Include.model_validate({"includeVectors": True})


@refusing_failures
class EmbeddedEngine:
    """The engine of an index in this process. A failure of its storage is a `RefusedError` of the call that meets it.

    Args:
        storage: The storage that holds the records.
        name: The name by which error messages call the index.
        dense_model: The model that embeds texts as dense vectors, or `None`.
        sparse_model: The model that embeds texts as sparse vectors, or `None`.
        max_open_queries: The number of resumable queries that may be open at the same time.
        max_namespaces: The number of namespaces at which no further one is made. The default namespace counts.
        clock: The clock that measures the idle time of resumable queries, in seconds; tests replace it.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        name: str = "default",
        dense_model: DenseModel | None = None,
        sparse_model: SparseModel | None = None,
        max_open_queries: int = MAX_OPEN_QUERIES,
        max_namespaces: int = MAX_NAMESPACES,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self._max_namespaces = max_namespaces
        self._storage = storage
        self._cache = EngineCache(storage)
        self._models = records.Models(dense_model, sparse_model)
        self._lock = threading.RLock()
        self._open_queries = OpenQueries(max_open_queries, clock)
        self._rest_timer = RestTimer(self._rest)
        storage.after_commit = self._rest_timer.start

    @property
    def schema(self) -> Schema:
        """The fixed properties of the index, such as its type and its similarity function."""
        return self._cache.schema

    @property
    def id(self) -> str:
        """A random name that the index was given when it was created."""
        return self._storage.id

    def complete_schema(self, complete: Callable[[Schema], Schema]) -> None:
        """Store what a later opening of the index decides about its schema.

        Args:
            complete: Returns the completed schema for the present one, or raises to change nothing.
        """
        with self._lock:
            cache = self._cache.current()
            schema = complete(cache.schema)
            if schema == cache.schema:
                return
            cache.invalidate()
            if self._storage.read_only:
                self._storage.keep_schema(schema)
            else:
                with self._storage.transaction():
                    self._storage.save_schema(schema)
            cache.schema = schema
            cache.validate({})

    # Writing

    def upsert(self, namespace: str, records_: Sequence[Record]) -> None:
        """Store all of the records or none of them. The last of several records with the same id wins."""
        schema = self.schema
        self._write(namespace, records.each(lambda record: records.from_vectors(record, schema), records_))

    def upsert_data(self, namespace: str, texts: Sequence[TextRecord]) -> None:
        """Embed texts and store them as records, all of them or none."""
        self._write(namespace, records.from_texts(texts, self.schema, self._models))

    def update(self, namespace: str, update: Update) -> bool:
        """Change parts of one record. Returns `False` if the record does not exist."""
        while (stored := self._stored(namespace, update.id)) is not None:
            # Embedding is slow, so it happens without the lock.
            updated = records.apply_update(stored, update, self.schema, self._models)
            with self._lock:
                now = self._stored(namespace, update.id)
                if now is not None and now.columns() == stored.columns():  # no other write has changed the record
                    self._write(namespace, [updated])
                    return True
        return False

    def delete(self, namespace: str, selection: Delete) -> int:
        """Delete records by ids, by a prefix of their ids or by a filter. Returns the number of deleted records."""
        records.require_one_selector(selection)
        with self._lock:
            cache = self._cache.current()
            key = cache.keys.get(namespace)
            if key is None:
                return 0
            rows, columns = self._storage.rows_selected(key, selection), cache.columns(key)
            cache.invalidate(key)
            with self._storage.transaction(frees_space=True):
                deleted = self._storage.delete(rows)
            columns.remove(rows)
            cache.validate({key: columns})
            return deleted

    def reset(self, namespace: str | None) -> None:
        """Delete all records of one namespace, or of every namespace if `namespace` is `None`.

        A namespace that does not exist is not created.
        """
        with self._lock:
            cache = self._cache.current()
            keys = [key for name, key in cache.keys.items() if namespace in (None, name)]
            cache.invalidate(*keys)
            with self._storage.transaction(frees_space=True):
                for key in keys:
                    self._storage.clear(key)
            cache.validate({key: Columns() for key in keys})

    def _write(self, namespace: str, stored: Sequence[StoredRecord]) -> None:
        latest = list({record.id: record for record in stored}.values())
        with self._lock:
            cache = self._cache.current()
            schema = records.complete_schema(cache.schema, stored)
            key = cache.keys.get(namespace)
            if key is None:
                self._require_room()
            columns = Columns() if key is None else cache.columns(key)
            cache.invalidate(key)
            with self._storage.transaction():
                key = key or self._storage.add_namespace(namespace)
                rows = self._storage.upsert(key, latest)
                if schema != cache.schema:
                    self._storage.save_schema(schema)
            batch = [(row, record.vector, record.sparse) for row, record in zip(rows, latest, strict=True)]
            columns.append(batch)
            cache.keys[namespace] = key
            cache.schema = schema
            cache.validate({key: columns})

    def _require_room(self) -> None:
        """Raise `RefusedError` if the index has as many namespaces as it may have."""
        if len(self._cache.keys) >= self._max_namespaces:
            message = (
                f"The index {self.name} has {len(self._cache.keys)} namespaces, and no more than {self._max_namespaces}"
                " are allowed: delete one that is not needed; a server may be started with a higher --max-namespaces"
            )
            raise RefusedError(message, 422)

    def _stored(self, namespace: str, id_: str) -> StoredRecord | None:
        with self._lock:
            key = self._cache.current().keys.get(namespace)
            return None if key is None else self._storage.read(key, id_)

    # Searching

    def query(self, namespace: str, query: Query) -> list[Match]:
        """Return the best `top_k` matches, best first."""
        found = self._search(namespace, query)
        if found is None:
            return []
        key, rank = found
        return self._read(rank(depth=max(search.ONE_SHOT_DEPTH, query.top_k)), query.top_k, key, query)

    def start(self, namespace: str, query: Query, max_idle: int) -> tuple[str, list[Match]]:
        """Open a resumable query and read its first page of `top_k` matches.

        Args:
            namespace: The namespace to search.
            query: The query.
            max_idle: The seconds after which the query is dropped if nobody fetches from it.

        Returns:
            The uuid of the query (`""` if the namespace does not exist), and the first page, best first.

        Raises:
            TooManyQueries: `max_open_queries` queries are open already.
        """
        found = self._search(namespace, query)
        if found is None:
            return "", []
        key, rank = found
        self._open_queries.require_room()
        read = functools.partial(self._read, key=key, query=query)
        return self._open_queries.start(rank(), read, max_idle, query.top_k)

    def require_open(self, uuid: str) -> None:
        """Raise `QueryNotFound` unless the resumable query is open."""
        self._open_queries.require(uuid)

    def fetch_next(self, uuid: str, count: int) -> list[Match]:
        """Return the next `count` matches of an open query, best first; fewer if the query is nearly exhausted.

        Raises:
            QueryNotFound: The query was stopped, has expired, or never existed.
        """
        return self._open_queries.fetch_next(uuid, count)

    def stop(self, uuid: str) -> None:
        """Stop an open query.

        Raises:
            QueryNotFound: The query was stopped already, has expired, or never existed.
        """
        self._open_queries.stop(uuid)

    def open_queries(self) -> int:
        """Return the number of open resumable queries."""
        return len(self._open_queries)

    def sweep(self) -> None:
        """Drop the resumable queries that have been idle for longer than their `max_idle`."""
        self._open_queries.sweep()

    def _search(self, namespace: str, query: Query) -> tuple[int, Callable[..., Order]] | None:
        """Take the snapshot that is searched.

        Returns:
            The key of the namespace, and a function that ranks the snapshot without the lock; `None` if the namespace
            does not exist, or if nothing was ever written.
        """
        self._open_queries.sweep()
        if self.schema.undecided:
            parse(query.filter)
            return None
        components = records.components_of(query, self.schema, self._models)
        filtered = parse(query.filter) is not None
        with self._lock:
            cache = self._cache.current()
            schema, key = cache.schema, cache.keys.get(namespace)
            records.refuse_dimension(components, schema)  # under the lock, because a first write may decide it
            if key is None:
                return None
            all_rows = cache.columns(key).snapshot()
            visible = all_rows
            if filtered:
                visible = all_rows.restricted_to(self._storage.rows_where(key, query.filter))
        return key, functools.partial(search.order, components, schema, all_rows, visible)

    def _read(self, order: Order, count: int, key: int, query: Query) -> list[Match]:
        """Read the next `count` matches that still exist, still pass the filter, and are not damaged."""

        def load(rows: Sequence[int]) -> Mapping[int, Match]:
            with self._lock:
                self._cache.current()
                return self._storage.load(key, rows, query, query.filter)

        return pages.read(order, count, load)

    # Reading

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
            count = 0 if key is None else len(self._cache.columns(key))
            return self._storage.random(key, count, _VECTORS) if key is not None and count else None

    def stats(self) -> Stats:
        """Return the size of the index in bytes and the number of records in each namespace."""
        with self._lock:
            cache = self._cache.current()
            counts = {name: len(cache.columns(key)) for name, key in cache.keys.items()}
            return Stats(self._storage.size(), counts)

    # Namespaces

    def list_namespaces(self) -> list[str]:
        """Return the names of all namespaces, the default namespace first."""
        with self._lock:
            return list(self._cache.current().keys)

    def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace and its records. Open queries on it have no further pages.

        Raises:
            RefusedError: The namespace does not exist, or is the default one.
        """
        if not namespace:
            message = "The default namespace cannot be deleted; reset it instead"
            raise RefusedError(message, 422)
        with self._lock:
            key = self._require_namespace(namespace)
            self._cache.invalidate(key)
            with self._storage.transaction(frees_space=True):
                self._storage.drop_namespace(key)
            del self._cache.keys[namespace]
            self._cache.validate({})

    def rename_namespace(self, namespace: str, new: str, *, replace: bool) -> bool:
        """Rename a namespace. Open queries on it go on.

        Args:
            namespace: The name of the namespace.
            new: The new name.
            replace: Whether an existing namespace of the new name is deleted first.

        Returns:
            `False` if the namespace already has that name.

        Raises:
            RefusedError: The namespace does not exist, one of the two is the default one, or the new name is taken and
                `replace` is false.
        """
        if not namespace or not new:
            message = "The default namespace can be neither renamed nor replaced"
            raise RefusedError(message, 422)
        with self._lock:
            key = self._require_namespace(namespace)
            if namespace == new:
                return False
            target = self._cache.keys.get(new)
            if target is not None and not replace:
                message = f"Namespace {new} for the index {self.name} already exists; set deleteExisting to replace it"
                raise RefusedError(message, 422)
            self._cache.invalidate(target)
            with self._storage.transaction():
                if target is not None:
                    self._storage.drop_namespace(target)
                self._storage.rename_namespace(key, new)
            self._cache.rename(namespace, new)
            return True

    def close(self) -> None:
        """Close the storage. Further calls do nothing."""
        self._rest_timer.stop()
        with self._lock:
            self._storage.close()

    def _rest(self) -> bool:
        with self._lock:
            return self._storage.rest()

    def _require_namespace(self, namespace: str) -> int:
        key = self._cache.current().keys.get(namespace)
        if key is None:
            message = f"Namespace {namespace} for the index {self.name} does not exist"
            raise RefusedError(message, 404)
        return key
