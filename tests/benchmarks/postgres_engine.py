"""Deep pulls by the engine on PostgreSQL, beside a cursor by hand over its table.

    PYTHONPATH=$PWD/integrations:$PWD python -m tests.benchmarks.postgres_engine [ROWS [DIMENSION]]

P1 is a first page of 10 matches; P2 are 10 matches and then 9 pages of 100. Neither brings metadata or data. The
searches take turns, and the ratio is that of one turn.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg

from nextk.bodies import Query, Record
from nextk.postgres.engine import PostgresEngine
from tests.support.postgres_indexes import postgres_engine
from tests.support.postgres_server import postgres_running

SCHEMA = "measured"
QUERIES = 40
P1, P2 = [10], [10, *[100] * 9]


def by_hand(connection: psycopg.Connection[Any], sizes: list[int], vector: list[float]) -> int:
    """Pull by a cursor as one writes it. Returns the number of rows."""
    text, count = f"[{','.join(map(repr, vector))}]", 0
    with connection.transaction():
        connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        connection.execute("SET LOCAL hnsw.ef_search = 100")
        connection.execute("SET LOCAL enable_sort = off")
        select = f"SELECT id, dense <=> %s FROM {SCHEMA}.records_1 ORDER BY dense <=> %s"  # noqa: S608
        connection.execute(f"DECLARE pages CURSOR FOR {select}".encode(), (text, text))
        for size in sizes:
            count += len(connection.execute(f"FETCH {size} FROM pages".encode()).fetchall())
    return count


def ours(engine: PostgresEngine, sizes: list[int], vector: list[float]) -> int:
    """Pull by the engine. Returns the number of matches."""
    uuid, page = engine.start("", Query(vector=np.array(vector, np.float32), top_k=sizes[0]), 60)
    count = len(page) + sum(len(engine.fetch_next(uuid, size)) for size in sizes[1:])
    engine.stop(uuid)
    return count


def main(rows: int = 20_000, dimension: int = 64) -> None:
    """Fill an index, and compare."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(100, dimension))
    vectors = centres[random.integers(0, 100, rows)] + 0.7 * random.normal(size=(rows, dimension))
    queries = (vectors[:QUERIES] + 0.3 * random.normal(size=(QUERIES, dimension))).tolist()
    with (
        postgres_running() as server,
        postgres_engine(server.dsn, SCHEMA, type="dense") as engine,
        psycopg.connect(server.dsn, autocommit=True) as connection,
    ):
        for first in range(0, rows, 1_000):
            part = vectors[first : first + 1_000].tolist()
            engine.upsert("", [Record(id=f"r{number}", vector=vector) for number, vector in enumerate(part, first)])
        connection.execute(f"VACUUM ANALYZE {SCHEMA}.records_1".encode())
        for name, sizes in (("P1", P1), ("P2", P2), ("P1", P1), ("P2", P2)):
            hand = functools.partial(by_hand, connection, sizes)
            compare(name, queries, hand, functools.partial(ours, engine, sizes))


def compare(name: str, queries: list[list[float]], *ways: Callable[[list[float]], int]) -> None:
    """Print how long both take."""
    times: list[list[float]] = [[], []]
    for turn, vector in enumerate(queries):
        for way in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            ways[way](vector)
            times[way].append(1_000 * (time.perf_counter() - began))
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    hand, own = map(statistics.median, times)
    print(f"{name}  by hand {hand:6.2f} ms  engine {own:6.2f} ms  ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
