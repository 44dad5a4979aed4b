"""The cost of the checksums: a page of 1,000 records read and checked, compared with the same page unchecked.

Run by hand: `python -m tests.benchmarks.checksums`. "Unchecked" reads the same columns and takes their word for it;
"bare" reads only the columns that were asked for.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from nextk.bodies import Include
from nextk.engine import stored
from nextk.engine.file import connect
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage
from nextk.engine.stored import StoredRecord

RECORDS, PAGE, ROUNDS = 20_000, 1_000, 41
HEADINGS = ("dimension", "asked for", "bare", "unchecked", "checked", "to unchecked", "to bare")
EVERYTHING = {"includeVectors": True, "includeMetadata": True, "includeData": True}


def seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    random = np.random.default_rng(0)
    print("".join(f"{title:>14}" for title in HEADINGS))
    for dimension in (256, 1_536):
        with tempfile.TemporaryDirectory() as folder:
            storage = Storage(connect(Path(folder) / "index", lambda: Schema.create(type="dense", dimension=dimension)))  # noqa: B023
            records = [
                StoredRecord(f"record {n}", vector, None, f'{{"title": "Title {n}", "page": {n}}}', "Some words. " * 50)
                for n, vector in enumerate(random.standard_normal((RECORDS, dimension)).astype(np.float32))
            ]
            with storage.transaction():
                storage.upsert(1, records)
            for name, fields in (("ids", {}), ("everything", EVERYTHING)):
                print(f"{dimension:14}{name:>14}{measured(storage, random, Include.model_validate(fields))}")
            storage.close()


def measured(storage: Storage, random: np.random.Generator, include: Include) -> str:
    """Return the microseconds for each record of a page, and the ratios, as medians over rounds."""
    rounds = []
    for _ in range(ROUNDS):
        rows = random.choice(RECORDS, PAGE, replace=False) + 1
        columns = stored.COLUMNS if include.include_data else "row, id"
        statement = f"SELECT {columns} FROM {stored.TABLES} WHERE TRUE"  # noqa: S608
        bare = seconds(lambda: list(storage._run(statement, (), rows.tolist())))  # noqa: B023
        with mock.patch.object(stored, "is_whole", bool):
            unchecked = seconds(lambda: storage.load(1, rows.tolist(), include))  # noqa: B023
        checked = seconds(lambda: storage.load(1, rows.tolist(), include))  # noqa: B023
        rounds.append((bare, unchecked, checked, checked / unchecked, checked / bare))
    *times, to_unchecked, to_bare = (statistics.median(column) for column in zip(*rounds, strict=True))
    figures = "".join(f"{each / PAGE * 1e6:11.2f} us" for each in times)
    return f"{figures}{to_unchecked:14.2f}{to_bare:14.2f}"


if __name__ == "__main__":
    main()
