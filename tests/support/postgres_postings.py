"""Sparse vectors in PostgreSQL, written and read as the engine does it, but without the rest of the engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from nextk.engine.filter.syntax import parse
from nextk.engine.values import SparseArrays
from nextk.postgres import sparse
from nextk.postgres.filter_sql import filter_fragment

_TABLES = """
CREATE SCHEMA {0};
CREATE TABLE {0}.namespaces (key bigint PRIMARY KEY, records bigint NOT NULL);
INSERT INTO {0}.namespaces VALUES (1, 0), (2, 0), (3, 0);
CREATE TABLE {0}.records_1 (
    namespace bigint NOT NULL, row bigint GENERATED ALWAYS AS IDENTITY, id text NOT NULL, metadata jsonb,
    sparse_indices int4[] NOT NULL, sparse_values float4[] NOT NULL,
    PRIMARY KEY (namespace, row), UNIQUE (namespace, id));
"""


def arrays(indices: Sequence[int], values: Sequence[float]) -> SparseArrays:
    """A sparse vector."""
    return SparseArrays(np.array(indices, np.int32), np.array(values, np.float32))


class PostgresPostings:
    """The sparse vectors of an index with three namespaces, 1 to 3.

    Args:
        dsn: The connection string of the database.
        schema: A database schema that does not exist.
    """

    def __init__(self, dsn: str, schema: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.schema = schema
        with self.connection.transaction():
            self.connection.execute(sql.SQL(_TABLES).format(sql.Identifier(schema)))
            sparse.create(self.connection, schema, 1)

    def join(self, dsn: str) -> "PostgresPostings":
        """Return the vectors as another process sees them, through a connection of its own."""
        other = object.__new__(PostgresPostings)
        other.connection, other.schema = psycopg.connect(dsn, autocommit=True), self.schema
        return other

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in which `{}` is the table of the records."""
        text = sql.SQL(statement).format(sql.Identifier(self.schema, "records_1"))
        cursor = self.connection.execute(text, values)
        return [] if cursor.description is None else cursor.fetchall()

    @contextmanager
    def writing(self, namespace: int) -> Iterator[None]:
        """Hold the lock of a namespace in a transaction, and count its records at the end."""
        name = sql.Identifier(self.schema, "namespaces")
        with self.connection.transaction():
            self.connection.execute(sql.SQL("SELECT FROM {} WHERE key = %s FOR UPDATE").format(name), (namespace,))
            yield
            ((count,),) = self.execute("SELECT count(*) FROM {} WHERE namespace = %s", namespace)
            self.connection.execute(
                sql.SQL("UPDATE {} SET records = %s WHERE key = %s").format(name), (count, namespace)
            )

    def upsert(
        self, vectors: dict[str, SparseArrays], metadata: dict[str, str] | None = None, namespace: int = 1
    ) -> None:
        """Store vectors by their ids, with metadata as JSON."""
        upsert = """
            INSERT INTO {} (namespace, id, metadata, sparse_indices, sparse_values)
            SELECT %s, %s, %s, %s::int[], %s::real[]
            ON CONFLICT (namespace, id) DO UPDATE SET metadata = excluded.metadata,
            sparse_indices = excluded.sparse_indices, sparse_values = excluded.sparse_values
            RETURNING row
            """
        rows = []
        with self.writing(namespace):
            sparse.remove_ids(self.connection, self.schema, 1, namespace, list(vectors))
            for name, vector in vectors.items():
                values = (vector.indices.tolist(), vector.values.tolist())
                ((row,),) = self.execute(upsert, namespace, name, (metadata or {}).get(name), *values)
                rows.append(row)
            sparse.write(self.connection, self.schema, 1, namespace, rows, list(vectors.values()))

    def delete(self, ids: Sequence[str], namespace: int = 1) -> None:
        """Delete records."""
        with self.writing(namespace):
            rows = self.execute("SELECT row FROM {} WHERE namespace = %s AND id = ANY(%s)", namespace, list(ids))
            sparse.remove(self.connection, self.schema, 1, namespace, [row for (row,) in rows])
            self.execute("DELETE FROM {} WHERE namespace = %s AND id = ANY(%s)", namespace, list(ids))

    def reset(self, namespace: int = 1) -> None:
        """Delete all records of a namespace."""
        with self.writing(namespace):
            sparse.clear(self.connection, self.schema, 1, namespace)
            self.execute("DELETE FROM {} WHERE namespace = %s", namespace)

    def scores(
        self, query: SparseArrays, *, weighted: bool = False, filter: str = "", namespace: int = 1
    ) -> list[tuple[str, float]]:
        """Return the ids and scores of all matches in the order of their rows."""
        node = parse(filter)
        passing = None if node is None else filter_fragment(node, sql.Identifier("records", "metadata"))
        rows, found = sparse.scores(
            self.connection, self.schema, 1, namespace, query, weighted=weighted, passing=passing
        )
        assert (np.diff(rows) > 0).all()
        ids = dict(self.execute("SELECT row, id FROM {} WHERE namespace = %s", namespace))
        return [(ids[row], score) for row, score in zip(rows.tolist(), found.tolist(), strict=True)]

    def blocks(self) -> int:
        """Return the number of blocks."""
        name = sql.Identifier(self.schema, "postings_1")
        ((count,),) = self.connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchall()
        return int(count)
