"""Write and read the records of one index in its table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, LiteralString, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from nextk.bodies import Include
from nextk.engine.filter.syntax import parse
from nextk.engine.reply_budget import READ_AT_ONCE, spend
from nextk.engine.schema import Schema
from nextk.engine.stored import StoredRecord
from nextk.engine.values import Match, SparseArrays
from nextk.postgres.database import DatabaseConnection
from nextk.postgres.filter_sql import filter_fragment
from nextk.postgres.fragments import Fragment
from nextk.postgres.layout import Tables
from nextk.postgres.metadata_text import to_jsonb
from nextk.postgres.namespaces import Namespace

__all__ = ["RecordTable", "Written", "passing", "with_ids", "with_prefix"]

_EVERYTHING = Include.model_validate({"includeMetadata": True, "includeData": True, "includeVectors": True})
_ALL = Fragment(sql.SQL("TRUE"))


class Written(NamedTuple):
    """The rows of records that were written, in their order, and how many of the records are new."""

    rows: list[int]
    inserted: int


class RecordTable:
    """The table of the records of one index.

    Args:
        tables: The names of the tables.
        schema: The schema of the index, of which the type and the dimension are decided.
    """

    def __init__(self, tables: Tables, schema: Schema) -> None:
        self._schema = schema
        self.tables = tables
        self._columns = [name for name, _ in self._typed_columns()]
        self._replace = sql.SQL("UPDATE {} SET {} WHERE namespace = %s AND row = %s").format(
            tables.records, sql.SQL(", ").join(map(self._assignment, self._columns))
        )
        self._selects: dict[tuple[bool, bool, bool], sql.Composed] = {}

    def upsert(self, connection: DatabaseConnection, namespace: Namespace, records: Sequence[StoredRecord]) -> Written:
        """Insert records, or replace those with the same ids, which keep their rows and their numbers.

        Args:
            connection: A connection, in a transaction.
            namespace: The namespace, which is locked.
            records: The records, whose ids are distinct.
        """
        ids = [record.id for record in records]
        rows = self._rows_of(connection, namespace.key, with_ids(ids))
        new = [record for record in records if record.id not in rows]
        replaced = [(*self._values(record), namespace.key, rows[record.id]) for record in records if record.id in rows]
        if replaced:
            with connection.cursor() as cursor:
                cursor.executemany(self._replace, replaced)
        if new:
            self._copy(connection, namespace, new)
            rows |= self._rows_of(
                connection, namespace.key, Fragment(sql.SQL("number >= %s"), (namespace.next_number,))
            )
        return Written([rows[id_] for id_ in ids], len(new))

    def delete(self, connection: DatabaseConnection, key: int, rows: Sequence[int]) -> int:
        """Delete the records of rows. Returns how many of them existed."""
        statement = sql.SQL("DELETE FROM {} WHERE namespace = %s AND row = ANY(%s)").format(self.tables.records)
        return connection.execute(statement, (key, list(rows))).rowcount

    def clear(self, connection: DatabaseConnection, key: int) -> None:
        """Delete all records of a namespace."""
        statement = sql.SQL("DELETE FROM {} WHERE namespace = %s").format(self.tables.records)
        connection.execute(statement, (key,))

    def rows_where(self, connection: DatabaseConnection, key: int, condition: Fragment) -> list[int]:
        """Return the rows of a namespace that meet a condition."""
        statement = sql.SQL("SELECT row FROM {} AS records WHERE namespace = %s AND {}").format(
            self.tables.records, condition.sql
        )
        return [row for (row,) in connection.execute(statement, (key, *condition.values), binary=True)]

    def read(self, connection: DatabaseConnection, key: int, id: str) -> StoredRecord | None:
        """Return a record whole, or `None` if it does not exist."""
        for _, match in self._matches(connection, key, with_ids([id]), _EVERYTHING):
            return StoredRecord(match.id, match.vector, match.sparse_vector, match.metadata, match.data)
        return None

    def fetch(self, connection: DatabaseConnection, key: int, ids: Sequence[str], include: Include) -> dict[str, Match]:
        """Return records for an answer by their ids. Ids that do not exist are left out.

        Raises:
            RefusedError: The reply is too large.
        """
        found: dict[str, Match] = {}
        for _, match in self._matches(connection, key, with_ids(ids), include):
            spend([match], ids.count(match.id))
            found[match.id] = match
        return found

    def with_prefix(
        self, connection: DatabaseConnection, key: int, prefix: str, include: Include, limit: int
    ) -> list[Match | None]:
        """Return records for an answer: those whose ids start with a prefix, in the order of the ids.

        Args:
            connection: A connection.
            key: The key of the namespace.
            prefix: The prefix.
            include: The fields to read besides the id.
            limit: The largest number of records.
        """
        matches: list[Match | None] = []
        rest = Fragment(sql.SQL("ORDER BY id LIMIT %s"), (limit,))
        for _, match in self._matches(connection, key, with_prefix(prefix), include, rest):
            spend([match])
            matches.append(match)
        return matches

    def load(
        self,
        connection: DatabaseConnection,
        key: int,
        rows: Sequence[int],
        include: Include,
        condition: Fragment = _ALL,
    ) -> dict[int, Match]:
        """Return the records of those rows that still exist, and pass a condition now, by row.

        Args:
            connection: A connection.
            key: The key of the namespace.
            rows: The rows.
            include: The fields to read besides the id.
            condition: The condition.
        """
        # As a text, since psycopg takes ten times as long to make an array of the numbers.
        array = f"{{{','.join(map(str, rows))}}}"
        chosen = Fragment(sql.SQL("row = ANY(%s::int8[]) AND {}").format(condition.sql), (array, *condition.values))
        return dict(self._matches(connection, key, chosen, include))

    def after(
        self, connection: DatabaseConnection, key: int, number: int, prefix: str, include: Include, limit: int
    ) -> tuple[list[Match], int | None]:
        """Return the next records of a namespace in insertion order.

        Args:
            connection: A connection.
            key: The key of the namespace.
            number: The number after which to begin.
            prefix: The prefix that the ids have.
            include: The fields to read besides the id.
            limit: The largest number of records.

        Returns:
            The records, and the number after which the next ones begin, `None` if there are none.
        """
        start = Fragment(sql.SQL("number > %s"), (number,))
        chosen = with_prefix(prefix) if prefix else _ALL
        condition = Fragment(sql.SQL("{} AND {}").format(start.sql, chosen.sql), (*start.values, *chosen.values))
        rest = Fragment(sql.SQL("ORDER BY number LIMIT %s"), (limit + 1,))
        page: list[Match] = []
        last = number
        for its_number, match in self._matches(connection, key, condition, include, rest, "number"):
            if len(page) == limit:
                return page, last
            spend([match])
            page.append(match)
            last = its_number
        return page, None

    def random(self, connection: DatabaseConnection, key: int, include: Include) -> Match | None:
        """Return a random record for an answer, or `None` if there is none."""
        records = self.tables.records
        count = sql.SQL("(SELECT count(*) FROM {} WHERE namespace = %s)").format(records)
        rest = Fragment(sql.SQL("ORDER BY row LIMIT 1 OFFSET floor(random() * {})").format(count), (key,))
        for _, match in self._matches(connection, key, _ALL, include, rest):
            return match
        return None

    def size(self, connection: DatabaseConnection) -> int:
        """Return the bytes that the records take, with their indexes."""
        statement = sql.SQL("SELECT pg_total_relation_size({}::regclass)").format(
            sql.Literal(self.tables.records.as_string())
        )
        found = connection.execute(statement).fetchone()
        return 0 if found is None else int(found[0])

    def _matches(
        self,
        connection: DatabaseConnection,
        key: int,
        condition: Fragment,
        include: Include,
        rest: Fragment = Fragment(sql.SQL("")),  # noqa: B008 - it cannot be changed
        first: LiteralString = "row",
    ) -> Iterator[tuple[int, Match]]:
        """Yield the rows, or the values of another column, and the records of a namespace that meet a condition."""
        statement = sql.SQL("SELECT {}, {} WHERE namespace = %s AND {} {}").format(
            sql.Identifier(first), self._select(include), condition.sql, rest.sql
        )
        with connection.cursor(binary=True) as cursor:
            cursor.execute(statement, (key, *condition.values, *rest.values))
            while found := cursor.fetchmany(READ_AT_ONCE):
                for row, id_, metadata, data, vector, indices, values in found:
                    yield row, Match(id_, None, _vector(vector), _sparse(indices, values), metadata, data)

    def _select(self, include: Include) -> sql.Composed:
        wanted = include.include_metadata, include.include_data, include.include_vectors
        if wanted not in self._selects:
            metadata, data, vectors = wanted
            dense, sparse = vectors and self._schema.dense, vectors and self._schema.sparse
            columns = (
                "id",
                "metadata_text" if metadata else "NULL",
                "data" if data else "NULL",
                "dense" if dense else "NULL",
                *(("sparse_indices", "sparse_values") if sparse else ("NULL", "NULL")),
            )
            chosen = sql.SQL(", ").join(map(sql.SQL, columns))
            self._selects[wanted] = sql.SQL("{} FROM {} AS records").format(chosen, self.tables.records)
        return self._selects[wanted]

    def _typed_columns(self) -> list[tuple[str, str]]:
        """Return the columns that a write sets, with their types, in the order of `_values`."""
        columns = [("metadata", "jsonb"), ("metadata_text", "text"), ("data", "text")]
        columns += [("dense", "vector")] if self._schema.dense else []
        columns += [("sparse_indices", "int4[]"), ("sparse_values", "float4[]")] if self._schema.sparse else []
        return columns

    def _values(self, record: StoredRecord) -> tuple[Any, ...]:
        metadata = None if record.metadata is None else Jsonb(to_jsonb(record.metadata), str.encode)
        values: tuple[Any, ...] = (metadata, record.metadata, record.data)
        if record.vector is not None:
            values += (record.vector,)
        if record.sparse is not None:
            values += (record.sparse.indices.tolist(), record.sparse.values.tolist())
        return values

    def _copy(self, connection: DatabaseConnection, namespace: Namespace, records: Sequence[StoredRecord]) -> None:
        """Insert records whose ids are new."""
        columns = [("namespace", "int8"), ("number", "int8"), ("id", "text"), *self._typed_columns()]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            self.tables.records, sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([type_ for _, type_ in columns])
            for number, record in enumerate(records, namespace.next_number):
                copy.write_row((namespace.key, number, record.id, *self._values(record)))

    def _rows_of(self, connection: DatabaseConnection, key: int, condition: Fragment) -> dict[str, int]:
        """Return the rows of the records that meet a condition by their ids."""
        statement = sql.SQL("SELECT id, row FROM {} WHERE namespace = %s AND {}").format(
            self.tables.records, condition.sql
        )
        return dict(connection.execute(statement, (key, *condition.values), binary=True).fetchall())

    @staticmethod
    def _assignment(column: str) -> sql.Composed:
        casts: dict[str, LiteralString] = {"sparse_indices": "::int4[]", "sparse_values": "::float4[]"}
        return sql.SQL("{} = %s{}").format(sql.Identifier(column), sql.SQL(casts.get(column, "")))


def with_ids(ids: Iterable[str]) -> Fragment:
    """Return the condition that an id is one of some texts."""
    return Fragment(sql.SQL("id = ANY(%s)"), ([id_ for id_ in dict.fromkeys(ids) if "\0" not in id_],))


def with_prefix(prefix: str) -> Fragment:
    """Return the condition that an id begins with a text."""
    if "\0" in prefix:  # PostgreSQL cannot even be asked
        return Fragment(sql.SQL("FALSE"))
    return Fragment(sql.SQL("id ^@ %s"), (prefix,))


def passing(filter: str) -> Fragment | None:
    """Return the condition that metadata pass a filter; `None` if the filter is blank.

    Raises:
        RefusedError: The filter is malformed or too large.
    """
    node = parse(filter)
    return None if node is None else filter_fragment(node, sql.SQL("metadata"))


def _vector(given: Any) -> NDArray[np.float32] | None:
    """Return a dense vector as an array of its own, whichever class pgvector's Python package has for one."""
    if given is None:
        return None
    return np.array(given if isinstance(given, np.ndarray) else given.to_numpy(), np.float32)


def _sparse(indices: Sequence[int] | None, values: Sequence[float] | None) -> SparseArrays | None:
    if indices is None or values is None:
        return None
    return SparseArrays(np.array(indices, np.int32), np.array(values, np.float32))
