"""The part of the engine on PostgreSQL that writes records: each call is one transaction, all of it or nothing."""

import logging
from collections.abc import Sequence

import psycopg
from psycopg import sql

from nextk.bodies import Delete, Record, TextRecord, Update
from nextk.engine import records
from nextk.engine.abandonment import require_wanted
from nextk.engine.schema import Schema
from nextk.engine.stored import StoredRecord
from nextk.postgres import sparse
from nextk.postgres.base import BasePostgresEngine
from nextk.postgres.database import DatabaseConnection
from nextk.postgres.fragments import Fragment
from nextk.postgres.layout import create_vector_index, has_vector_index
from nextk.postgres.metadata_text import refuse_nul
from nextk.postgres.namespaces import Namespace
from nextk.postgres.records import RecordTable, passing, with_ids, with_prefix

__all__ = ["WritingPostgresEngine"]

log = logging.getLogger("nextk.postgres")


class WritingPostgresEngine(BasePostgresEngine):
    """The part of the engine that writes. The arguments are those of `BasePostgresEngine`."""

    def upsert(self, namespace: str, records_: Sequence[Record]) -> None:
        """Store all of the records or none of them. The last of several records with the same id wins."""
        self._write(namespace, records.from_vectors(records_, self.schema))

    def upsert_data(self, namespace: str, texts: Sequence[TextRecord]) -> None:
        """Embed texts and store them as records, all of them or none."""
        self._write(namespace, records.from_texts(texts, self.schema, self._models))

    def update(self, namespace: str, update: Update) -> bool:
        """Change parts of one record. Returns `False` if the record does not exist."""
        while (stored := self._stored(namespace, update.id)) is not None:
            # Embedding is slow, so it happens outside of the transaction.
            updated = records.apply_update(stored, update, self.schema, self._models)
            _require_storable([updated])
            with self._database.writing() as connection:
                found = self._namespaces.lock(connection, namespace)
                now = None if found is None else self._record_table.read(connection, found.key, update.id)
                if found is not None and now is not None and now.columns() == stored.columns():
                    self._store(connection, found, [updated], same_sparse=updated.sparse is stored.sparse)
                    return True
        return False

    def delete(self, namespace: str, selection: Delete) -> int:
        """Delete records by ids, by a prefix of their ids or by a filter. Returns the number of deleted records.

        Others that write to the namespace wait until that is done.
        """
        records.require_one_selector(selection)
        condition = _selected(selection)
        if not self._has_tables:
            return 0
        with self._database.writing() as connection:
            found = self._namespaces.lock(connection, namespace)
            if found is None:
                return 0
            rows = self._record_table.rows_where(connection, found.key, condition)
            if not rows:
                return 0
            if self._stored_schema.sparse:
                sparse.remove(connection, self._tables.schema, self._tables.number, found.key, rows)
            deleted = self._record_table.delete(connection, found.key, rows)
            self._namespaces.count(connection, found, deleted=deleted)
            return deleted

    def reset(self, namespace: str | None) -> None:
        """Delete all records of one namespace, or of every namespace if `namespace` is `None`.

        A namespace that does not exist is not created.
        """
        with self._database.writing() as connection:
            if namespace is None:
                chosen = self._namespaces.lock_all(connection)
            else:
                found = self._namespaces.lock(connection, namespace)
                chosen = [] if found is None else [found]
            for each in chosen:
                self._clear(connection, each)

    def _write(self, namespace: str, stored: Sequence[StoredRecord]) -> None:
        latest = list({record.id: record for record in stored}.values())
        _require_storable(latest)
        refuse_nul(namespace, "namespace")
        require_wanted()  # before anything is written, since a write is finished whoever waits
        with self._database.writing() as connection:
            schema = self._settle_schema(connection, latest)
            table = self._record_table if schema == self._stored_schema else RecordTable(self._tables, schema)
            found = self._namespaces.lock_or_add(connection, namespace)
            self._store(connection, found, latest, table)
        self._adopt(schema)
        if schema.dense and found.records + len(latest) > self._exact_rows and not self._knows_vector_index:
            self._index_vectors(schema)

    def _index_vectors(self, schema: Schema) -> None:
        """Make the index of the dense vectors, now that a namespace is larger than full lists are made for.

        Without it, searches are right, and slow. So what keeps this role from making it is logged, and fails no write.
        """
        try:
            with self._database.writing() as connection:
                if not has_vector_index(connection, self._tables):
                    create_vector_index(connection, self._tables, schema)
        except psycopg.Error as error:
            log.warning(
                "index=%s has no index of its vectors, so searches of large namespaces sort all records, because it"
                " cannot be made (%s): let a role that owns its tables write a record",
                self.name,
                error.diag.message_primary,
            )
        self._knows_vector_index = True

    def _store(
        self,
        connection: DatabaseConnection,
        namespace: Namespace,
        latest: Sequence[StoredRecord],
        table: RecordTable | None = None,
        *,
        same_sparse: bool = False,
    ) -> None:
        """Store records whose ids are distinct. The namespace is locked. The sparse vectors may be known to stay."""
        writes_sparse = latest[0].sparse is not None and not same_sparse
        if writes_sparse:
            ids = [record.id for record in latest]
            sparse.remove_ids(connection, self._tables.schema, self._tables.number, namespace.key, ids)
        written = (table or self._record_table).upsert(connection, namespace, latest)
        if writes_sparse:
            vectors = [record.sparse for record in latest if record.sparse is not None]
            sparse.write(connection, self._tables.schema, self._tables.number, namespace.key, written.rows, vectors)
        if written.inserted:
            self._namespaces.count(connection, namespace, inserted=written.inserted)

    def _stored(self, namespace: str, id_: str) -> StoredRecord | None:
        if not self._has_tables:
            return None
        with self._database.worker() as connection:
            found = self._namespaces.find(connection, namespace)
            return None if found is None else self._record_table.read(connection, found.key, id_)


def _require_storable(stored: Sequence[StoredRecord]) -> None:
    """Raise `RefusedError` if the id or the text of a record has the NUL character, which PostgreSQL cannot store."""
    for record in stored:
        refuse_nul(record.id, "id")
        if record.data is not None:
            refuse_nul(record.data, "data")


def _selected(selection: Delete) -> Fragment:
    if selection.ids is not None:
        return with_ids(selection.ids)
    if selection.prefix is not None:
        return with_prefix(selection.prefix)
    return passing(selection.filter or "") or Fragment(sql.SQL("TRUE"))
