"""Deep pulls from a table of PostgreSQL: our scan beside a cursor by hand, and the time that each takes.

    PYTHONPATH=$PWD/integrations:$PWD python -m tests.benchmarks.postgres_scan [ROWS [DIMENSION]]

Both have `hnsw.ef_search = 100` and a relaxed iterative scan, and bring the text and the metadata. P1 is a first page
of 10 rows; P2 are 10 rows and then 9 pages of 100. The searches take turns, and the ratios are those of one turn.
"Deep" is P2, or less where fewer rows pass; "rows" are those that came, of those that there are.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from nextk.postgres.fragments import Fragment
from nextk.postgres.ranked_query import RankedQuery, VectorOperator
from nextk.postgres.scan import RankedScan
from tests.support.postgres_server import postgres_running

QUERIES = 30
P1, P2 = [10], [10, *[100] * 9]
Found = tuple[list[int], float]


def fill(connection: psycopg.Connection[Any], vectors: np.ndarray[Any, Any]) -> None:
    """Make the table and its index."""
    rows, dimension = vectors.shape
    columns = f"id bigint PRIMARY KEY, embedding vector({dimension}), body text, metadata jsonb, bucket int"
    connection.execute(f"CREATE TABLE articles ({columns})".encode())
    began = time.perf_counter()
    with connection.cursor().copy("COPY articles FROM STDIN") as copy:
        for number, vector in enumerate(vectors):
            body, bucket = f"text {number} " * 8, number % 1_000
            copy.write_row((number, literal(vector), body, f'{{"bucket": {bucket}}}', bucket))
    print(f"{rows:,} rows of {dimension} dimensions by COPY: {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    connection.execute("SET maintenance_work_mem = '1GB'")
    connection.execute("CREATE INDEX ON articles USING hnsw (embedding vector_cosine_ops)")
    connection.execute("VACUUM ANALYZE articles")
    print(f"the HNSW index: {time.perf_counter() - began:.1f} s", flush=True)


def literal(vector: np.ndarray[Any, Any]) -> str:
    """A vector as pgvector reads it."""
    return f"[{','.join(f'{number:.6g}' for number in vector)}]"


def by_hand(connection: psycopg.Connection[Any], vector: list[float], sizes: list[int], below: int | None) -> Found:
    """A cursor as one writes it."""
    began, found = time.perf_counter(), list[int]()
    text = f"[{','.join(map(repr, vector))}]"
    where = "" if below is None else "WHERE bucket < %s "
    values = [text, *([] if below is None else [below]), text]
    with connection.transaction():
        connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        connection.execute("SET LOCAL hnsw.ef_search = 100")
        connection.execute("SET LOCAL enable_sort = off")
        select = f"SELECT id, embedding <=> %s, body, metadata FROM articles {where}ORDER BY embedding <=> %s"  # noqa: S608
        connection.execute(f"DECLARE pages CURSOR FOR {select}".encode(), values)
        for size in sizes:
            rows = connection.execute(f"FETCH {size} FROM pages".encode()).fetchall()
            found += [row[0] for row in rows]
    return found, time.perf_counter() - began


def ours(connection: psycopg.Connection[Any], vector: list[float], sizes: list[int], below: int | None) -> Found:
    """Our scan."""
    began, found = time.perf_counter(), list[int]()
    where = None if below is None else Fragment(sql.SQL("bucket < %s"), (below,))
    columns = ("body", "metadata")
    query = RankedQuery(("articles",), "id", "embedding", VectorOperator.COSINE, vector, columns, where)
    with RankedScan(connection, query) as scan:
        for size in sizes:
            found += [int(row.key) for row in scan.fetch_next(size)]
    return found, time.perf_counter() - began


def compare(
    connection: psycopg.Connection[Any],
    name: str,
    queries: list[tuple[list[float], np.ndarray[Any, Any]]],
    sizes: list[int],
    below: int | None = None,
) -> None:
    """Print what both bring, and how long they take."""
    ways: dict[str, Callable[..., Found]] = {"by hand": by_hand, "ours": ours}
    times: dict[str, list[float]] = {way: [] for way in ways}
    recalls: dict[str, list[float]] = {way: [] for way in ways}
    rows: dict[str, list[int]] = {way: [] for way in ways}
    passing = 0
    for turn, (vector, order) in enumerate(queries):
        exact = order if below is None else order[order % 1_000 < below]
        passing = len(exact)
        count = min(passing, sum(sizes))
        for way in sorted(ways, reverse=bool(turn % 2)):
            found, seconds = ways[way](connection, vector, sizes, below)
            times[way].append(1_000 * seconds)
            recalls[way].append(len(set(found[:count]) & set(exact[:count].tolist())) / count)
            rows[way].append(len(found))
    ratio = statistics.median(b / a for a, b in zip(times["by hand"], times["ours"], strict=True))
    for way in ways:
        print(
            f"{name:12} {way:8} {statistics.median(times[way]):8.2f} ms  recall {statistics.mean(recalls[way]):.3f}"
            f"  worst {min(recalls[way]):.3f}  rows {min(rows[way]):5} of {min(passing, sum(sizes))}"
            f"{f'  ratio {ratio:.2f}' if way == 'ours' else ''}",
            flush=True,
        )


def main(rows: int = 100_000, dimension: int = 128) -> None:
    """Fill a table, and compare."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(300, dimension)).astype(np.float32)
    vectors = centres[random.integers(0, 300, rows)] + 0.7 * random.normal(size=(rows, dimension)).astype(np.float32)
    asked = vectors[random.integers(0, rows, QUERIES)] + 0.3 * random.normal(size=(QUERIES, dimension))
    lengths = np.linalg.norm(vectors, axis=1)
    queries = [(query.tolist(), np.argsort(-(vectors @ query.astype(np.float32)) / lengths)) for query in asked]
    with postgres_running() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        try:
            fill(connection, vectors)
            for _ in range(2):
                compare(connection, "P1", queries, P1)
                compare(connection, "P2", queries, P2)
            for below, share in ((500, "50 %"), (100, "10 %"), (10, "1 %"), (1, "0.1 %")):
                compare(connection, f"{share} P1", queries, P1, below)
                pages = rows * below // 100_000
                compare(connection, f"{share} deep", queries, [10, *[100] * min(pages + 1, 9)], below)
        finally:
            connection.execute("DROP TABLE IF EXISTS articles")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
