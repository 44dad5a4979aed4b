"""The price of an embedded index over its engine alone: what the client, the transport and the dispatch add to a call.

Run by hand: `python tests/benchmarks/in_process.py`. "The engine alone" is the engine's own method, called with a
request that is validated already. Both sides take turns within one run, on engines that hold the same 1,000 records of
384 dimensions. Figures are process CPU time, medians over rounds; the ratio is what to look at. The limits are those
that the in-process transport is held to.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nextk import Index, Vector
from nextk.bodies import Record, VectorQuery
from nextk.engine.factory import open_engine

RECORDS, DIMENSION, ROUNDS = 1_000, 384, 31
SCHEMA = {"type": "dense", "dimension": DIMENSION}


@dataclass(frozen=True)
class Case:
    """One call, made in two ways.

    Attributes:
        name: What the table calls it.
        limit: How many times the engine's CPU time the whole call may take.
        engine: Calls the engine alone.
        client: Calls the embedded index.
        repeats: How many calls are timed together. Default 1.
    """

    name: str
    limit: float
    engine: Callable[[], object]
    client: Callable[[], object]
    repeats: int = 1

    def measure(self) -> tuple[float, float, float]:
        """Return the milliseconds of the engine and of the client, and the ratio: medians over rounds."""
        rounds = [(self._cpu(self.engine), self._cpu(self.client)) for _ in range(ROUNDS)]
        engine, client = (statistics.median(side) for side in zip(*rounds, strict=True))
        return engine, client, statistics.median(whole / alone for alone, whole in rounds)

    def _cpu(self, call: Callable[[], object]) -> float:
        began = time.process_time()
        for _ in range(self.repeats):
            call()
        return (time.process_time() - began) / self.repeats * 1_000


def cases(index: Index) -> list[Case]:
    """Return the calls to measure.

    Args:
        index: An empty embedded index of the schema above.
    """
    matrix = np.random.default_rng(0).standard_normal((RECORDS, DIMENSION)).astype(np.float32)
    rows, ids = matrix.tolist(), [str(number) for number in range(RECORDS)]
    engine = open_engine(None, SCHEMA)
    lists = [Vector(id_, row) for id_, row in zip(ids, rows, strict=True)]
    arrays = [Vector(id_, row) for id_, row in zip(ids, matrix, strict=True)]
    # `records` hold arrays, as the dispatch validates them; `of_lists` leave it to the engine to make arrays.
    records = [Record.model_validate({"id": id_, "vector": row}) for id_, row in zip(ids, rows, strict=True)]
    of_lists = [record.model_copy(update={"vector": row}) for record, row in zip(records, rows, strict=True)]
    engine.upsert("", records)
    index.upsert(lists)
    whole = VectorQuery.model_validate({"vector": rows[0], "topK": RECORDS, "includeVectors": True})
    ten = VectorQuery.model_validate({"vector": rows[0], "topK": 10})
    return [
        Case("upsert of lists", 2.5, lambda: engine.upsert("", records), lambda: index.upsert(lists)),
        Case("upsert of lists, both", 2.5, lambda: engine.upsert("", of_lists), lambda: index.upsert(lists)),
        Case("upsert of arrays", 2.5, lambda: engine.upsert("", records), lambda: index.upsert(arrays)),
        Case(
            f"query of {RECORDS:,} with vectors",
            2.2,
            lambda: engine.query("", whole),
            lambda: index.query(rows[0], RECORDS, include_vectors=True),
        ),
        Case("query of 10", 1.4, lambda: engine.query("", ten), lambda: index.query(rows[0], 10), 50),
    ]


def main() -> None:
    """Measure and print."""
    with Index.embedded(**SCHEMA) as index:  # type: ignore[arg-type]
        print(f"{RECORDS:,} records of {DIMENSION} dimensions, {ROUNDS} rounds")
        print(f"{'call':28}{'engine':>12}{'client':>12}{'ratio':>8}{'limit':>8}")
        for case in cases(index):
            engine, client, ratio = case.measure()
            print(f"{case.name:28}{engine:9.2f} ms{client:9.2f} ms{ratio:8.2f}{case.limit:8.1f}")


if __name__ == "__main__":
    main()
