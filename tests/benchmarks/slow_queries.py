"""Measure how slow queries of one index affect everybody else, and how long a server takes to stop meanwhile.

Run by hand on Linux: `python -m tests.benchmarks.slow_queries`. Clients keep a large index busy with filters that take
seconds and with batches of a hundred queries. Beside them somebody searches a small index, reads further pages of an
open query of the large one, and asks for the health of the server. Then the server gets SIGTERM while all of that goes
on. With `--in-file`, SQLite evaluates the filters, as it does where their fields are too large for memory.
"""

import asyncio
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from nextk import Index, Vector
from tests.benchmarks.load.probe import probing
from tests.benchmarks.load.timings import percentile
from tests.support.server_process import RawConnection, ServerProcess, serving

ROWS = {"large": 60_000, "small": 1_000}
DIMENSION = 64
HAMMERS = 16
SECONDS = 15.0
PAUSE = 0.02
IN_FILE = """
import sys
from nextk.cli.main import main
from nextk.engine.base import BaseEngine
BaseEngine.__init__.__kwdefaults__["filter_column_bytes"] = 0
sys.exit(main())
"""
FILTER = " OR ".join(f"words GLOB '*{a}*{b}*{c}*q*z*'" for a, b, c in itertools.permutations("vwxk", 3))
QUERY = {"vector": [1.0] * DIMENSION, "topK": 10}


def build(folder: Path) -> None:
    """Make both indexes."""
    dice = random.Random(1)  # noqa: S311 - no secret depends on it
    for name, rows in ROWS.items():
        with Index.embedded(folder / f"{name}.nextk", type="dense", dimension=DIMENSION) as index:
            index.upsert(
                Vector(
                    str(number),
                    [dice.gauss(0, 1) for _ in range(DIMENSION)],
                    {"words": " ".join("".join(dice.choices("abcdefghijklmnoprstuvwxyz", k=6)) for _ in range(40))},
                )
                for number in range(rows)
            )


class Hammers:
    """Clients that keep the large index busy, in a thread of their own, until the server has ended.

    Args:
        server: The server.

    Attributes:
        statuses: The number of replies by what was asked and their status.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.statuses: Counter[str] = Counter()
        self._server = server
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        await asyncio.gather(*(self._hammer(filtered=number % 2 == 0) for number in range(HAMMERS)))

    async def _hammer(self, *, filtered: bool) -> None:
        kind, body = ("filter", QUERY | {"filter": FILTER}) if filtered else ("batch", [QUERY] * 100)
        try:
            connection = await RawConnection.open(self._server)
            while True:
                status, _ = await connection.send("indexes/large/query", json.dumps(body).encode())
                self.statuses[f"{kind} {status}"] += 1
        except (OSError, asyncio.IncompleteReadError):  # the server has ended
            self.statuses[f"{kind} without an answer"] += 1


async def ask(server: ServerProcess, path: str, body: dict[str, Any], begin: str = "") -> list[float]:
    """Send a request again and again, and return the seconds that each took."""
    connection, taken = await RawConnection.open(server), list[float]()
    if begin:
        body = body | {"uuid": (await connection.post(begin, QUERY))["uuid"]}
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        status, reply = await connection.send(path, json.dumps(body).encode())
        assert 200 == status, reply
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE)
    await connection.close()
    return taken


async def ask_all(server: ServerProcess) -> dict[str, list[float]]:
    """Ask everything at the same time."""
    search, page = await asyncio.gather(
        ask(server, "indexes/small/query", QUERY),
        ask(server, "indexes/large/resumable-query-next", {"additionalK": 10}, "indexes/large/resumable-query"),
    )
    return {"search of the small index": search, "page of the large index": page}


def measure(server: ServerProcess, when: str) -> None:
    """Measure what everybody else notices, and print it."""
    with probing(server.port) as health:
        taken = asyncio.run(ask_all(server))
    for kind, seconds in {**taken, "/healthz": health}.items():
        middle, late, worst = (1_000 * percentile(seconds, part) for part in (0.5, 0.99, 1.0))
        print(f"{when:9}{kind:26}{len(seconds):5}   p50{middle:8.1f}   p99{late:8.1f}   max{worst:8.1f} ms", flush=True)


def main() -> None:
    """Build the indexes, serve them, and measure everything."""
    program = ("-c", IN_FILE) if "--in-file" in sys.argv else ("-m", "nextk")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        with serving(Path(folder), program=program) as server:
            measure(server, "idle")
            hammers = Hammers(server)
            hammers.thread.start()
            time.sleep(1)
            measure(server, "hammered")
            before = hammers.statuses.copy()
            began = time.perf_counter()
        print(f"stopped after {time.perf_counter() - began:.1f} s")
        hammers.thread.join()
        print(f"answered before: {dict(before)}; afterwards: {dict(hammers.statuses - before)}")


if __name__ == "__main__":
    main()
