"""The base of the embedded engine: its lock, its storage and its cache, and the calls about an index as a whole."""

import os
import threading
import time
from collections.abc import Callable

from nextk.engine import backup, records
from nextk.engine.cache import EngineCache
from nextk.engine.code_keeper import CodeKeeper
from nextk.engine.filter.seconds import FilterSeconds
from nextk.engine.filter.store import FieldBudget
from nextk.engine.namespace_rules import missing_namespace, require_deletable, require_renamable, taken_namespace
from nextk.engine.open_queries import Clock, OpenQueries
from nextk.engine.pool.pools import Pools
from nextk.engine.protocol import Stats
from nextk.engine.record_cache import RECORD_CACHE_BYTES
from nextk.engine.rest_timer import RestTimer
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage
from nextk.engine.text import DenseModel, SparseModel

MAX_OPEN_QUERIES = 100
MAX_NAMESPACES = 10_000
MAX_IDLE = 3_600
"""The longest time that a resumable query may be idle by default, in seconds."""
FILTER_TIMEOUT = 10.0
FILTER_COLUMN_BYTES = 256 * 2**20


class BaseEngine:
    """The half of the embedded engine that handles the index as a whole: schema, namespaces, figures and its end.

    Args:
        storage: The storage that holds the records.
        name: The name by which error messages call the index.
        dense_model: The model that embeds texts as dense vectors, or `None`.
        sparse_model: The model that embeds texts as sparse vectors, or `None`.
        max_open_queries: The number of resumable queries that may be open at the same time. Clients of one kind may
            have half of them in one namespace.
        max_idle: The longest time that a resumable query may be idle, in seconds, up to 86,400.
        max_namespaces: The number of namespaces at which no further one is made. The default namespace counts.
        record_cache_bytes: The memory that records may take which were written, or read for answers; their vectors are
            not among them.
        filter_timeout: The seconds after which a search gives its filter up.
        filter_column_bytes: The memory that metadata fields may take whose values were read for filters.
        rests: Whether a thread brings the journal of an index on disk to rest, once no write has happened for a second.
            `False` leaves that to `close`. Default `True`.
        pool_from: The number of records from which the searches of a namespace by dense vectors have a pool, so that a
            few rows come a page late; see `nextk.engine.pool`. `None` (the default) for the number from which that
            takes less time, see `nextk.engine.pool.threshold`.
        exact: Whether no search has a pool, so that every order is exact. Default `False`.
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
        max_idle: int = MAX_IDLE,
        max_namespaces: int = MAX_NAMESPACES,
        record_cache_bytes: int = RECORD_CACHE_BYTES,
        filter_timeout: float = FILTER_TIMEOUT,
        filter_column_bytes: int = FILTER_COLUMN_BYTES,
        rests: bool = True,
        pool_from: int | None = None,
        exact: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self._max_namespaces = max_namespaces
        self._storage = storage
        storage.record_cache.max_bytes = record_cache_bytes
        self._cache = EngineCache(storage)
        self._models = records.Models(dense_model, sparse_model)
        self._lock = threading.RLock()
        self._filter_timeout = filter_timeout
        self._filter_seconds = FilterSeconds()
        self._field_budget = FieldBudget(filter_column_bytes)
        self._max_idle = max_idle
        self._open_queries = OpenQueries(max_open_queries, clock)
        keeper = None if storage.path is None else CodeKeeper(storage, self._cache, self._lock)
        self._exact = exact
        self._pools = Pools(pool_from, keeper, exact=exact)
        self._rest_timer = RestTimer(self._rest)
        if storage.path is not None and rests:
            storage.after_commit = self._rest_timer.start

    @property
    def schema(self) -> Schema:
        """The fixed properties of the index, such as its type and its similarity function."""
        return self._cache.schema

    @property
    def pool_from(self) -> int | None:
        """The number of records from which the dense searches of a namespace have a pool, as the engine was told."""
        return self._pools.pool_from

    @property
    def exact(self) -> bool:
        """Whether the engine was told that no search is to have a pool."""
        return self._exact

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
            if self._storage.read_only:
                self._storage.keep_schema(schema)
            else:
                cache.invalidate()
                with self._storage.transaction():
                    self._storage.save_schema(schema)
            cache.schema = schema
            cache.validate({})

    def stats(self) -> Stats:
        """Return the size of the index in bytes and the number of records in each namespace."""
        with self._lock:
            counts = self._cache.current().counts()
            dimension = self.schema.dimension
            pooled = dimension is not None and any(self._pools.serve(count, dimension) for count in counts.values())
            return Stats(self._storage.size(), counts, pooled)

    def filter_seconds(self) -> float:
        """Return the seconds that filters have taken so far."""
        return self._filter_seconds.total

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
        require_deletable(namespace)
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
        require_renamable(namespace, new)
        with self._lock:
            key = self._require_namespace(namespace)
            if namespace == new:
                return False
            target = self._cache.keys.get(new)
            if target is not None and not replace:
                raise taken_namespace(new, self.name)
            self._cache.invalidate(target)
            with self._storage.transaction():
                if target is not None:
                    self._storage.drop_namespace(target)
                self._storage.rename_namespace(key, new)
            self._cache.rename(namespace, new)
            return True

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool, abandoned: Callable[[], bool]) -> None:
        """Copy the index, as it is now, into a file of its own; see `nextk.engine.backup.back_up_storage`."""
        backup.back_up_storage(self._storage, self._lock, path, overwrite=overwrite, abandoned=abandoned)

    def close(self) -> None:
        """Close the storage. Further calls do nothing."""
        self._pools.close()  # which may have written codes
        self._rest_timer.stop()
        with self._lock:
            self._storage.close()

    def _rest(self) -> bool:
        with self._lock:
            return self._storage.rest()

    def _require_namespace(self, namespace: str) -> int:
        key = self._cache.current().keys.get(namespace)
        if key is None:
            raise missing_namespace(namespace, self.name)
        return key
