"""The cost of writing: `upsert` into an embedded index on disk, compared with SQLite alone.

Run by hand: `python -m tests.benchmarks.writing`. Every case writes records of 384 dimensions, 1,000 in one request and
one durable transaction, first as new records and then as replacements of the same ids. "SQLite alone" is one
`executemany` and one commit for each 1,000 of the same blobs into a table of two columns, with the same durability, in
turns with the other cases of one run. Figures are microseconds a record, medians over rounds; the ratios to SQLite
alone are what to look at.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nextk import Index, Vector
from nextk.types import Data

RECORDS, BATCH, DIMENSION, ROUNDS = 5_000, 1_000, 384, 5
HEADINGS = ("case", "CPU", "to SQLite", "wall", "replacing: CPU", "to SQLite", "wall")
WIDTHS = (26, 10, 11, 10, 16, 11, 10)

Write: TypeAlias = Callable[[Sequence[Any]], object]
Times: TypeAlias = tuple[float, float]
"""CPU and wall time, in microseconds a record."""


def main() -> None:
    """Measure and print."""
    given = cases()
    rounds: dict[str, list[tuple[Times, Times]]] = {name: [] for name in given}
    for _ in range(ROUNDS):
        for name, records in given.items():
            rounds[name].append(_measured(name, records))
    print(f"{RECORDS:,} records, {BATCH:,} in one request, {DIMENSION} dimensions; microseconds a record")
    print("".join(f"{title:>{width}}" for title, width in zip(HEADINGS, WIDTHS, strict=True)))
    bare = rounds["SQLite alone"]
    for name, measured in rounds.items():
        cells: list[str] = [name]
        for phase in (0, 1):
            cpu, wall = (statistics.median(each[phase][clock] for each in measured) for clock in (0, 1))
            ratio = statistics.median(
                mine[phase][0] / other[phase][0] for mine, other in zip(measured, bare, strict=True)
            )
            cells += [f"{cpu:.1f}", f"{ratio:.2f}", f"{wall:.1f}"]
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)))


def cases() -> dict[str, list[Any]]:
    """Return the records of each case by its name, as they are given to `upsert`, or to SQLite."""
    matrix = np.random.default_rng(0).standard_normal((RECORDS, DIMENSION)).astype(np.float32)
    ids = [f"record {number}" for number in range(RECORDS)]
    lists = matrix.tolist()
    metadata = [{"title": f"Title {number}", "page": number} for number in range(RECORDS)]
    words = np.random.default_rng(1).integers(0, 5_000, (RECORDS, 12))
    return {
        "SQLite alone": [(id_, row.tobytes()) for id_, row in zip(ids, matrix, strict=True)],
        "arrays": [Vector(id_, row) for id_, row in zip(ids, matrix, strict=True)],
        "arrays of 64-bit floats": [Vector(id_, row.astype(np.float64)) for id_, row in zip(ids, matrix, strict=True)],
        "lists": [Vector(id_, row) for id_, row in zip(ids, lists, strict=True)],
        "dicts with lists": [{"id": id_, "vector": row} for id_, row in zip(ids, lists, strict=True)],
        "arrays with metadata": [Vector(*each) for each in zip(ids, matrix, metadata, strict=True)],
        "texts, static and bm25": [
            Data(id_, " ".join(f"word{word}" for word in row)) for id_, row in zip(ids, words.tolist(), strict=True)
        ],
    }


def _measured(name: str, records: list[Any]) -> tuple[Times, Times]:
    """Return the times of writing records for the first time, and of replacing them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        if name == "SQLite alone":
            connection = _bare_table(path)
            try:
                return _times(lambda batch: _write_bare(connection, batch), records)
            finally:
                connection.close()
        models: dict[str, Any] = {"embedding": "static", "sparse_embedding": "bm25"} if name.startswith("texts") else {}
        with Index.embedded(path, **models) as index:
            return _times(index.upsert, records)


def _times(write: Write, records: list[Any]) -> tuple[Times, Times]:
    inserting, replacing = (_time(write, records) for _ in range(2))
    return inserting, replacing


def _time(write: Write, records: list[Any]) -> Times:
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(records), BATCH):
        write(records[start : start + BATCH])
    each = 1e6 / len(records)
    return (time.process_time() - cpu) * each, (time.perf_counter() - wall) * each


def _bare_table(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE records (id TEXT PRIMARY KEY, vector BLOB)")
    return connection


def _write_bare(connection: sqlite3.Connection, batch: Sequence[tuple[str, bytes]]) -> None:
    with connection:
        connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", batch)


if __name__ == "__main__":
    main()
