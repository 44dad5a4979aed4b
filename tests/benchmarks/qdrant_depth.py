"""How to go on over Qdrant's graph: leaving out what has come, or asking for more. By hand, on `qdrant-edge-py`.

Run `python -m tests.benchmarks.qdrant_depth [rows]`. All figures are ratios within one run: the time of a way over that
of one call that knew the depth beforehand, and the share of the exact best rows that came.

Exclusion at a fixed `ef` is the cheapest and loses the most rows; with `ef` growing by the ids that are left out, as
`nextk.stores.qdrant` asks, it finds about as many as asking for more, at a part of the time. Its last table tells where
naming the ids costs more than asking for them again by doubling, which decides `MAX_EXCLUDED`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import qdrant_edge as edge  # type: ignore[import-not-found, unused-ignore]
from numpy.typing import NDArray

DIMENSION = 128
QUERIES = 8
BEAM = 100
Way = Callable[[list[float], int, list[int]], list[int]]


class Shard:
    """Clustered vectors in a shard with a graph.

    Args:
        rows: The number of vectors.
        path: An empty folder.
    """

    def __init__(self, rows: int, path: str) -> None:
        dice = np.random.default_rng(7)
        centres = dice.normal(size=(200, DIMENSION))
        vectors = centres[dice.integers(0, 200, rows)] + dice.normal(size=(rows, DIMENSION)) * 0.7
        self.vectors: NDArray[np.float32] = _unit(vectors)
        self.queries = _unit(
            self.vectors[dice.integers(0, rows, QUERIES)] + dice.normal(size=(QUERIES, DIMENSION)) * 0.03
        )
        params = edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Cosine)
        self._shard = edge.EdgeShard.create(path, edge.EdgeConfig(vectors=params))
        for begin in range(0, rows, 2_000):
            points = [
                edge.Point(id=row, vector=self.vectors[row].tolist(), payload={"row": row})
                for row in range(begin, min(rows, begin + 2_000))
            ]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        while self._shard.optimize():
            pass

    def ask(self, vector: list[float], limit: int, ef: int, excluded: list[int], *, payload: bool = True) -> list[int]:
        """Return the best rows without some of them."""
        condition = edge.Filter(must_not=[edge.HasIdCondition(set(excluded))]) if excluded else None
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(vector),
            filter=condition,
            params=edge.SearchParams(hnsw_ef=max(ef, limit)),
            with_payload=payload,
        )
        return [int(point.id) for point in self._shard.query(request)]  # numbers are the only ids here


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def ways(shard: Shard) -> dict[str, Way]:
    """Return the ways of going on, by name."""

    def more(factor: float) -> Way:
        def pull(vector: list[float], count: int, had: list[int]) -> list[int]:
            limit, known = len(had) + count, set(had)
            return [row for row in shard.ask(vector, limit, int(factor * limit), []) if row not in known][:count]

        return pull

    def exclude(ef: Callable[[int], int]) -> Way:
        return lambda vector, count, had: shard.ask(vector, count, ef(len(had)), had)

    return {
        "more rows, ef = k": more(1.0),
        "more rows, ef = 1.3 k": more(1.3),
        "exclude, ef = 100": exclude(lambda _: BEAM),
        "exclude, ef = 400": exclude(lambda _: 4 * BEAM),
        "exclude, ef = 100 + excluded / 2": exclude(lambda excluded: BEAM + excluded // 2),
        "exclude, ef = 100 + excluded": exclude(lambda excluded: BEAM + excluded),
    }


def pages_of(shard: Shard, way: Way, sizes: list[int]) -> tuple[float, float]:
    """Return the recall of a search by pages, and its time over that of one call of the same depth."""
    recalls, ratios = [], []
    for query in shard.queries:
        vector, depth = query.tolist(), sum(sizes)
        begin = time.perf_counter()
        shard.ask(vector, depth, depth, [])
        once = time.perf_counter() - begin
        had: list[int] = []
        begin = time.perf_counter()
        for size in sizes:
            had += way(vector, size, had)
        ratios.append((time.perf_counter() - begin) / once)
        best = set(np.argsort(-(shard.vectors @ query))[:depth].tolist())
        recalls.append(len(best & set(had)) / depth)
    return statistics.mean(recalls), statistics.median(ratios)


def one_page(shard: Shard, excluded: int) -> float:
    """Return the time of a page of 100 by exclusion, over its share of a request that doubles the ids."""
    ratios = []
    for query in shard.queries:
        vector = query.tolist()
        had = shard.ask(vector, excluded, excluded, [], payload=False)
        begin = time.perf_counter()
        shard.ask(vector, 100, BEAM + excluded, had)
        middle = time.perf_counter()
        shard.ask(vector, 2 * excluded, 2 * excluded, [], payload=False)
        ratios.append((middle - begin) / ((time.perf_counter() - middle) * 100 / excluded))
    return statistics.median(ratios)


def main() -> None:
    """Print the tables."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    with tempfile.TemporaryDirectory() as path:
        shard = Shard(rows, path)
        for name, sizes in (("10 + 9 x 100", [10] + [100] * 9), ("30 x 100", [100] * 30)):
            print(f"\n{rows} rows, pages of {name}: recall, time over one call")
            for label, way in ways(shard).items():
                recall, ratio = pages_of(shard, way, sizes)
                print(f"  {label:34} {recall:.3f} {ratio:6.1f} x", flush=True)
        print("\na page of 100 by exclusion, over its share of a request that doubles the ids")
        for excluded in (200, 500, 1_000, 2_000, 5_000, 10_000):
            if 2 * excluded <= rows:
                print(f"  {excluded:6} excluded: {one_page(shard, excluded):.2f} x", flush=True)


if __name__ == "__main__":
    main()
