"""Tables of vectors on a server of the tests, and the exact order of their rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from nextk.postgres.ranked_query import VectorOperator

DIMENSION = 8
ROWS = 600


class RankedTable:
    """A table with the columns `id`, `embedding`, `body` and `bucket`, which is the id modulo 100.

    Args:
        dsn: The connection string of the server.
        schema: The schema, which is made.
        name: The name of the table.
        index: The words of `CREATE INDEX ... USING` for the column of the embeddings; `None` for no index.
        kind: The type of the embeddings.

    Attributes:
        name: The schema and the name.
        vectors: The vectors of the rows, float32 (rows, dimension).
    """

    def __init__(
        self, dsn: str, schema: str, *, name: str = "articles", index: str | None = "hnsw", kind: str = "vector"
    ) -> None:
        self.dsn, self.name = dsn, (schema, name)
        self.vectors = np.random.default_rng(5).normal(size=(ROWS, DIMENSION)).astype(np.float32)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            columns = "(id bigint PRIMARY KEY, embedding {}({}), body text, bucket int, metadata jsonb)"
            create = sql.SQL("CREATE TABLE {} " + columns)
            connection.execute(create.format(sql.Identifier(*self.name), sql.SQL(kind), DIMENSION))
            copy = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(*self.name))
            with connection.cursor().copy(copy) as rows:
                for number, vector in enumerate(self.vectors):
                    rows.write_row((number, literal(vector), f"text {number}", number % 100, f'{{"n": {number}}}'))
            if index is not None:
                options = sql.SQL(" WITH (lists = 10)" if index == "ivfflat" else "")
                build = sql.SQL("CREATE INDEX ON {} USING {} (embedding {}_cosine_ops){}")
                words = (sql.Identifier(*self.name), sql.SQL(index), sql.SQL(kind), options)
                connection.execute(build.format(*words))
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*self.name)))

    def distances(
        self, vector: Sequence[float], operator: VectorOperator = VectorOperator.COSINE
    ) -> np.ndarray[Any, Any]:
        """The distances of all rows to a vector, by their ids."""
        query = np.asarray(vector, dtype=np.float64)
        rows = self.vectors.astype(np.float64)
        match operator:
            case VectorOperator.COSINE:
                found = 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
            case VectorOperator.EUCLIDEAN:
                found = np.linalg.norm(rows - query, axis=1)
            case VectorOperator.INNER_PRODUCT:
                found = -rows @ query
            case VectorOperator.TAXICAB:
                found = np.abs(rows - query).sum(axis=1)
        return np.asarray(found)

    def order(self, vector: Sequence[float], below: int = 100) -> list[str]:
        """The keys of the rows whose bucket is below a number, nearest first."""
        nearest = np.argsort(self.distances(vector), kind="stable")
        return [str(number) for number in nearest if number % 100 < below]


def literal(vector: Sequence[float] | np.ndarray[Any, Any]) -> str:
    """A vector as pgvector reads it."""
    return f"[{','.join(str(float(number)) for number in vector)}]"
