"""The writing of the embedded engine. A write goes to storage first, and to memory once it is durable."""

from collections.abc import Sequence

from nextk.bodies import Delete, Record, TextRecord, Update
from nextk.engine import records
from nextk.engine.abandonment import require_wanted
from nextk.engine.base import BaseEngine
from nextk.engine.columns import Columns
from nextk.engine.filter.syntax import parse
from nextk.engine.namespace_rules import require_room
from nextk.engine.parts import in_parts
from nextk.engine.passing import PassingRows
from nextk.engine.stored import StoredRecord, vector_rows


class WritingEngine(BaseEngine):
    """The part of the embedded engine that stores, changes and deletes records.

    The arguments are those of `BaseEngine`.
    """

    def upsert(self, namespace: str, records_: Sequence[Record]) -> None:
        """Store all of the records or none of them. The last of several records with the same id wins."""
        self._write(namespace, records.from_vectors(records_, self.schema))

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
        """Delete records by ids, by a prefix of their ids or by a filter. Returns the number of deleted records.

        While a filter is evaluated, others may write. A record that is inserted meanwhile is not deleted. Any other one
        is deleted if it passed the filter when that came to it, and still passes in the end.
        """
        records.require_one_selector(selection)
        if selection.filter is not None:
            return self._delete_passing(namespace, selection.filter)
        with self._lock:
            key = self._cache.current().keys.get(namespace)
            return 0 if key is None else self._delete_rows(key, self._storage.rows_selected(key, selection))

    def _delete_passing(self, namespace: str, filter: str) -> int:
        """Delete the records that pass a filter: find them part by part, so that the lock is free in between."""
        parse(filter)
        require_wanted()
        with self._lock:
            self._cache.current()
            found = PassingRows(self._storage, filter, require_wanted)

        def part() -> tuple[int] | None:
            key = self._cache.current().keys.get(namespace)
            if key is None:
                return (0,)
            with self._filter_seconds.measure():
                passing = found.read_part(key)
            return None if passing is None else (self._delete_rows(key, passing),)

        return in_parts(self._lock, part, require_wanted)

    def _delete_rows(self, key: int, rows: Sequence[int]) -> int:
        """Delete the records of rows of a namespace. The caller holds the lock."""
        cache = self._cache
        columns = cache.loaded(key)
        cache.invalidate(key)
        with self._storage.transaction(frees_space=True):
            deleted = self._storage.delete(rows)
        if columns is not None:
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
        require_wanted()  # before anything is written, since a write is finished whoever waits
        with self._lock:
            cache = self._cache.current()
            schema = records.complete_schema(cache.schema, stored)
            key = cache.keys.get(namespace)
            if key is None:
                require_room(self.name, len(self._cache.keys), self._max_namespaces)
            columns = cache.loaded(key)
            cache.invalidate(key)
            with self._storage.transaction():
                key = key or self._storage.add_namespace(namespace)
                rows = self._storage.upsert(key, latest)
                if schema != cache.schema:
                    self._storage.save_schema(schema)
            self._storage.keep_in_memory(rows, latest)
            if columns is not None:
                columns.append(vector_rows(rows, latest))
            cache.keys[namespace] = key
            cache.schema = schema
            cache.validate({key: columns})

    def _stored(self, namespace: str, id_: str) -> StoredRecord | None:
        with self._lock:
            key = self._cache.current().keys.get(namespace)
            return None if key is None else self._storage.read(key, id_)
