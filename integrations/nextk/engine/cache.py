"""What an engine keeps of its storage, so as not to read it again: schema, namespaces, and their columns.

A write puts what it is about to change in doubt, and settles it once storage and memory agree again. What is still in
doubt when somebody looks was left so by a write that failed or was interrupted: it is read anew.

Nothing here takes a lock: the engine serialises its calls.
"""

from collections.abc import Mapping
from typing import Self

from nextk.engine import records
from nextk.engine.columns import Columns
from nextk.engine.storage import Storage


class EngineCache:
    """The state of one index.

    Attributes:
        schema: As it was after the last write.
        keys: The key of every namespace by its name, oldest first.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._columns: dict[int, Columns] = {}
        self._stale = False
        self.schema = storage.schema
        self.keys = storage.namespaces()
        for key in self.keys.values():
            self.columns(key)

    def current(self) -> Self:
        """The same, as storage has it: whatever is in doubt is read anew."""
        if self._stale:
            self._storage.roll_back()
            self.schema = self._storage.stored_schema()
            self.keys = self._storage.namespaces()
            self._stale = False
        return self

    def columns(self, key: int) -> Columns:
        """The columns of a namespace, read where memory does not have them."""
        if key not in self._columns:
            self._columns[key] = records.load_columns(self._storage, key)
        return self._columns[key]

    def invalidate(self, *keys: int | None) -> None:
        """Forget the columns of namespaces that are about to change, and mistrust the rest until it is settled."""
        self._stale = True
        for key in keys:
            if key is not None:
                self._columns.pop(key, None)

    def validate(self, columns: Mapping[int, Columns]) -> None:
        """A write is done: keep the columns that it made, and trust memory again."""
        self._columns.update(columns)
        self._stale = False
