"""The price of a delivered row: what a page of an open query costs for each of its matches.

Run by hand: `python tests/benchmarks/rows.py [RECORDS]`. A query over an index on disk is drained by pages of one size.
The rows of the first pass come from the file ("cold"), since the index was just opened; those of further passes are in
memory ("warm"). Both include the ranking of the rows, which is also measured alone. The peer builds the same
`QueryResult`s from a dict that holds the ids, the metadata as JSON text and the texts. Only the pages after the first
one are timed, because the start pays for the scan. Figures are process CPU time, the least of several passes but for
"cold"; the ratio is that of a warm row without its ranking to the peer's.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from nextk import Index, Vector
from nextk.bodies import VectorQuery
from nextk.engine.engine import EmbeddedEngine
from nextk.types import QueryResult

RECORDS, DIMENSION, DRAINED = 100_000, 384, 10_000
SIZES = (10, 100, 1_000)
FIELDS: dict[str, dict[str, Any]] = {
    "ids": {},
    "metadata": {"include_metadata": True},
    "metadata, data": {"include_metadata": True, "include_data": True},
}
HEADINGS = ("page", "fields", "cold", "warm", "ranking", "peer", "ratio")
PASSES = 5


def build(path: Path, count: int) -> None:
    """Make an index of random records with metadata of four fields and texts of some 400 characters."""
    random = np.random.default_rng(0)
    with Index.embedded(path, type="dense", dimension=DIMENSION) as index:
        for start in range(0, count, 1_000):
            numbers = range(start, min(start + 1_000, count))
            vectors = random.standard_normal((len(numbers), DIMENSION)).astype(np.float32)
            index.upsert(
                [Vector(f"record {n}", v, metadata(n), text(n)) for n, v in zip(numbers, vectors, strict=True)]
            )


def metadata(number: int) -> dict[str, Any]:
    """Return the metadata of a record."""
    return {"title": f"Title {number}", "page": number, "tags": ["a", "b"], "group": "red"}


def text(number: int) -> str:
    """Return the text of a record."""
    return f"The text of record {number}. " * 15


def drain(index: Index, size: int, fields: dict[str, Any]) -> tuple[float, list[QueryResult]]:
    """Read pages until `DRAINED` rows are there. Returns the CPU microseconds of a row, and the matches."""
    matches, handle = index.resumable_query(vector=np.ones(DIMENSION, np.float32), top_k=size, **fields)
    gc.collect()
    with handle:
        began, first = time.process_time(), len(matches)
        while len(matches) < DRAINED:
            matches.extend(handle.fetch_next(size))
        return (time.process_time() - began) / (len(matches) - first) * 1e6, matches


def ranking(engine: EmbeddedEngine, size: int) -> float:
    """Return the CPU microseconds of a row for its ranking alone, when rows are taken by pages of this size."""
    found = engine._search("", VectorQuery.model_validate({"vector": np.ones(DIMENSION, np.float32)}))
    assert found is not None
    order = found[0]()
    order.take(size)
    began = time.process_time()
    for _ in range(size, DRAINED, size):
        order.take(size)
    return (time.process_time() - began) / (DRAINED - size) * 1e6


def peer(size: int, fields: dict[str, Any], matches: list[QueryResult]) -> float:
    """Return the CPU microseconds of a row for a program that holds the records in a dict."""
    numbers = [int(match.id.removeprefix("record ")) for match in matches]
    held = {n: (f"record {n}", orjson.dumps(metadata(n)).decode(), text(n)) for n in numbers}
    scores = [match.score for match in matches]
    with_metadata, with_data = "include_metadata" in fields, "include_data" in fields

    def built(pairs: list[tuple[int, float]]) -> Iterator[QueryResult]:
        for number, score in pairs:
            id_, encoded, data = held[number]
            read = orjson.loads(encoded) if with_metadata else None
            yield QueryResult(id_, score, None, read, data if with_data else None)

    ranked, kept = iter(list(zip(numbers, scores, strict=True))), []
    gc.collect()
    began = time.process_time()
    while pairs := list(islice(ranked, size)):
        kept.extend(list(built(pairs)))
    return (time.process_time() - began) / len(kept) * 1e6


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        build(path, count)
        print(f"{count:,} records of {DIMENSION} dimensions, {DRAINED:,} rows drained; CPU us a row")
        print(f"{HEADINGS[0]:>6}  {HEADINGS[1]:16}" + "".join(f"{heading:>10}" for heading in HEADINGS[2:]))
        for size in SIZES:
            for name, fields in FIELDS.items():
                with Index.embedded(path) as index:
                    engine = index._transport._open().engine  # type: ignore[attr-defined]
                    cold, matches = drain(index, size, fields)
                    warm = min(drain(index, size, fields)[0] for _ in range(PASSES))
                    alone = min(ranking(engine, size) for _ in range(PASSES))
                beside = min(peer(size, fields, matches) for _ in range(PASSES))
                figures = (cold, warm, alone, beside, (warm - alone) / beside)
                print(f"{size:6}  {name:16}" + "".join(f"{figure:10.2f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
