"""The in-memory copy of an index: its schema, its namespaces and their columns, so that storage is not read again.

The columns of a namespace are read when it is searched for the first time. A write to a namespace that was not searched
yet reads none of them.

A write first marks the cache as stale and removes the columns that it is about to change. Once storage and memory agree
again it stores the new columns and marks the cache as valid. A cache that is still stale at the next access was left so
by a write that failed or was interrupted, and is then read from storage again.

Nothing here takes a lock: the engine serialises its calls.
"""

from collections.abc import Mapping
from typing import Self

from nextk.engine.columns import Columns
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage


class EngineCache:
    """The schema, the namespaces and the columns of one index.

    Attributes:
        schema: The schema after the last write.
        keys: The key of every namespace by its name, oldest first.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._columns: dict[int, Columns] = {}
        self._former: list[Columns] = []  # those that a write is about to change
        self._stale = False
        self.schema = storage.schema
        self.keys = storage.namespaces()
        self._indexes_compared = False

    def current(self) -> Self:
        """Return the cache, after reading the schema and the namespaces from storage again if it is stale.

        Raises:
            RefusedError: The file is not the one that was opened any more.
        """
        self._storage.require_unchanged()
        if self._stale:
            for columns in self._former:  # open queries go on without them
                columns.settle()
            self._former.clear()
            self._storage.roll_back()
            self.schema = self._storage.stored_schema()
            self.keys = self._storage.namespaces()
            self._stale = False
        return self

    def columns(self, key: int) -> Columns:
        """Return the columns of a namespace, and read them from storage if they are not in memory."""
        if key not in self._columns:
            self._columns[key] = _load_columns(self._storage, key, self.schema)
        if not self._indexes_compared:
            self._storage.compare_indexes()
            self._indexes_compared = True
        return self._columns[key]

    def loaded(self, key: int | None) -> Columns | None:
        """Return the columns of a namespace that are in memory already, or `None`.

        Args:
            key: The key of the namespace; `None` for one that is about to be made, whose columns are empty.
        """
        return Columns() if key is None else self._columns.get(key)

    def key_of(self, columns: Columns) -> int | None:
        """Return the key of the namespace whose columns these are; `None` if it has others by now, or is deleted."""
        return next((key for key, held in self._columns.items() if held is columns), None)

    def counts(self) -> dict[str, int]:
        """Return the number of records in each namespace by its name, without reading any of them."""
        in_memory = {key: len(columns) for key, columns in self._columns.items()}
        stored = {} if in_memory.keys() >= set(self.keys.values()) else self._storage.counts()
        counts = stored | in_memory
        return {name: counts.get(key, 0) for name, key in self.keys.items()}

    def invalidate(self, *keys: int | None) -> None:
        """Mark the cache as stale and forget the columns of the namespaces that are about to change.

        Args:
            keys: The keys of the namespaces; `None` stands for a namespace that does not exist yet.

        Raises:
            RefusedError: The file is open for reading only. The cache stays as it is.
        """
        self._storage.require_writable()
        self._stale = True
        for key in keys:
            if key in self._columns:
                self._former.append(self._columns[key])
                del self._columns[key]

    def rename(self, namespace: str, new: str) -> None:
        """Rename a namespace, as a finished write has done, and mark the cache as valid.

        Args:
            namespace: The name of the namespace.
            new: The new name; the namespace that had it is gone.
        """
        self.keys = {new if name == namespace else name: key for name, key in self.keys.items() if name != new}
        self.validate({})

    def validate(self, columns: Mapping[int, Columns | None]) -> None:
        """Store the columns that a finished write has changed, and mark the cache as valid.

        Args:
            columns: The columns by the key of their namespace; `None` for those that are not in memory.
        """
        self._columns.update({key: changed for key, changed in columns.items() if changed is not None})
        self._former.clear()
        self._stale = False


def _load_columns(storage: Storage, key: int, schema: Schema) -> Columns:
    """Read the vectors of a namespace into memory, but for those that are damaged beyond use."""
    columns = Columns()
    columns.reserve(storage.count(key), schema.dimension if schema.dense else None)
    columns.extend(storage.vectors(key, schema))
    return columns
