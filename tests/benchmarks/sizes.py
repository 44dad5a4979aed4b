"""How large an embedded index may become: opening, memory, first and next pages by the number of records.

    python tests/benchmarks/sizes.py [10000x384] [100000x384] [1000000x128]

Each index is hybrid: clustered dense vectors, and sparse ones of nine words each whose frequencies fall as in texts. It
is written to a temporary file, and opened anew in a process of its own. "Open" is the CPU time from there to the end of
the first search, which reads the vectors; "memory" is what the process has grown by then. A first page and a next page
have ten results; their times are medians of CPU time. For comparison, "numpy" is one product of the matrix of all
vectors with the query, and the choice of the best ten.
"""

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextk import Index, Vector
from nextk.handle import ResumableQueryHandle
from nextk.types import SparseVector

SIZES = ("10000x384", "100000x384", "1000000x128")
WORDS, WORDS_IN_TEXT, WORDS_IN_QUERY = 30_000, 9, 6
SEARCHES, QUERY_SEED = 15, 2**31
COLUMNS = (
    "records",
    "numbers",
    "written, us each",
    "open, s",
    "memory, MiB",
    "dense, ms",
    "sparse, ms",
    "hybrid, ms",
    "next page, ms",
    "numpy, ms",
)


def vectors(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Return clustered vectors of length 1, float32 (count, dimension)."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    centres = shared.standard_normal((2_000, 32)) @ shared.standard_normal((32, dimension))
    found = centres[own.integers(0, len(centres), count)] + own.standard_normal((count, dimension))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def words(count: int, size: int, seed: int) -> list[SparseVector]:
    """Return sparse vectors of so many words each; a word is the rarer, the greater its number."""
    chance = np.random.default_rng(seed)
    drawn = np.floor(WORDS ** chance.random((count, size))).astype(int)
    weights = chance.uniform(0.5, 2, (count, size))
    return [
        SparseVector(*map(list, zip(*dict(zip(d, w, strict=True)).items(), strict=True)))
        for d, w in zip(drawn.tolist(), weights.tolist(), strict=True)
    ]


def build(path: Path, count: int, dimension: int) -> float:
    """Write an index, and return the CPU time in microseconds a record."""
    with Index.embedded(path, type="hybrid", dimension=dimension, similarity="cosine") as index:
        spent = 0.0
        for first in range(0, count, 10_000):
            size = min(10_000, count - first)
            pairs = zip(vectors(size, dimension, first + 1), words(size, WORDS_IN_TEXT, first + 1), strict=True)
            records = [Vector(str(first + n), vector, sparse_vector=sparse) for n, (vector, sparse) in enumerate(pairs)]
            started = time.process_time()
            index.upsert(records)
            spent += time.process_time() - started
    return 1e6 * spent / count


def median(call: Callable[[int], object]) -> float:
    """Return the median CPU time of a call, in milliseconds."""
    times = []
    for number in range(SEARCHES):
        started = time.process_time()
        call(number)
        times.append(time.process_time() - started)
    return 1e3 * statistics.median(times)


def resident() -> float:
    """Return the memory that this process has, in MiB, as Linux tells it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def measure(path: Path, count: int, dimension: int, replies: Any) -> None:
    """Open an index and measure its searches; run in a process of its own."""
    queries, texts = vectors(SEARCHES, dimension, QUERY_SEED), words(SEARCHES, WORDS_IN_QUERY, QUERY_SEED)
    before, started = resident(), time.process_time()
    with Index.embedded(path, exact=True) as index:
        index.query(queries[0], sparse_vector=texts[0], top_k=10)
        result = {"open": time.process_time() - started, "memory": resident() - before}
        modes: dict[str, Callable[[int], dict[str, Any]]] = {
            "dense": lambda n: {"vector": queries[n]},
            "sparse": lambda n: {"sparse_vector": texts[n]},
            "hybrid": lambda n: {"vector": queries[n], "sparse_vector": texts[n]},
        }
        for mode, search in modes.items():
            result[mode], result[f"{mode} next"] = pages(index, search)
    matrix = vectors(count, dimension, 1)
    result["numpy"] = median(lambda n: np.argpartition(matrix @ queries[n], -10)[-10:])
    replies.send(result)


def pages(index: Index, search: Callable[[int], dict[str, Any]]) -> tuple[float, float]:
    """Return the median times of a first page and of a next page of ten results, in milliseconds."""
    handles: list[ResumableQueryHandle] = []

    def start(number: int) -> None:
        handles.append(index.resumable_query(top_k=10, **search(number))[1])

    first = median(start)
    following = median(lambda number: handles[number].fetch_next(10))
    for handle in handles:
        handle.stop()
    return first, following


def main() -> None:
    """Print a line for each size."""
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for size in sys.argv[1:] or SIZES:
        count, dimension = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "index")
            written = build(path, count, dimension)
            ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(path, count, dimension, theirs)
            )
            process.start()
            found = ours.recv()
            process.join()
        following = max(found[f"{mode} next"] for mode in ("dense", "sparse", "hybrid"))
        print(
            f"| {count:,} | {dimension} | {written:.0f} | {found['open']:.2f} | {found['memory']:.0f} "
            f"| {found['dense']:.1f} | {found['sparse']:.1f} | {found['hybrid']:.1f} | {following:.2f} "
            f"| {found['numpy']:.1f} |"
        )


if __name__ == "__main__":
    main()
