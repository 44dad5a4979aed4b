"""Requests a second that `nextk serve` answers, and the CPU time of the server for each of them.

Run by hand on Linux: `python tests/benchmarks/serving.py`. The server runs in one process and the clients in this one,
each with a connection of its own on which it sends one request after the other. All read whole records, ten at a time,
from the documentation of Python: plain hybrid and dense queries by text, and further pages of resumable queries.
Compare the numbers of clients with each other, since they come from one run.
"""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.cli.writing import MODELS, fill
from tests.support.server_process import RawConnection, ServerProcess, serving

CLIENTS = (1, 8, 32)
SIZE = 10
SECONDS = 6.0

Work = Callable[[RawConnection, "itertools.cycle[str]"], AsyncIterator[None]]


def question(text: str, mode: str) -> dict[str, Any]:
    """Return the body of a query for whole records."""
    return {"data": text, "topK": SIZE, "queryMode": mode, "includeMetadata": True, "includeData": True}


def queries(mode: str) -> Work:
    """Return the work of a client that sends one query after the other."""

    async def work(connection: RawConnection, texts: "itertools.cycle[str]") -> AsyncIterator[None]:
        while True:
            await connection.post("query-data", question(next(texts), mode))
            yield

    return work


def pages(mode: str) -> Work:
    """Return the work of a client that reads pages of a resumable query, of which only the further ones count."""

    async def work(connection: RawConnection, texts: "itertools.cycle[str]") -> AsyncIterator[None]:
        while True:
            opened = await connection.post("resumable-query-data", question(next(texts), mode))
            body = {"uuid": opened["uuid"], "additionalK": SIZE}
            while await connection.post("resumable-query-next", body):
                yield
            await connection.post("resumable-query-end", {"uuid": opened["uuid"]})

    return work


WORKS = {
    "query hybrid": queries("HYBRID"),
    "query dense": queries("DENSE"),
    "next hybrid": pages("HYBRID"),
    "next dense": pages("DENSE"),
}


async def load(server: ServerProcess, work: Work, clients: int, texts: "itertools.cycle[str]") -> list[float]:
    """Let so many clients work for `SECONDS`, and return the seconds that each request took, sorted."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS

    async def run() -> None:
        connection = await RawConnection.open(server)
        began = time.perf_counter()
        async for _ in work(connection, texts):
            now = time.perf_counter()
            taken.append(now - began)
            began = now
            if now > end:
                break
        await connection.close()

    await asyncio.gather(*(run() for _ in range(clients)))
    return sorted(taken)


def measure(server: ServerProcess, name: str, clients: int, texts: "itertools.cycle[str]") -> None:
    """Measure one kind of work with so many clients, and print the figures."""
    before, began = server.cpu_seconds(), time.perf_counter()
    taken = asyncio.run(load(server, WORKS[name], clients, texts))
    seconds, cpu = time.perf_counter() - began, server.cpu_seconds() - before
    middle, late = (1_000 * taken[int(part * (len(taken) - 1))] for part in (0.5, 0.99))
    print(
        f"{name:14}{clients:4} clients{len(taken) / seconds:8.0f} a second{1_000 * cpu / len(taken):8.2f} ms CPU"
        f"   p50{middle:7.1f}   p99{late:7.1f} ms",
        flush=True,
    )


def main() -> None:
    """Build the index, serve it, and measure everything. Arguments are passed on to `nextk serve`."""
    with tempfile.TemporaryDirectory() as folder:
        with Index.embedded(Path(folder, "docs.nextk"), **MODELS) as index:
            passages = list(standard_library())
            fill(index, passages)
        texts = itertools.cycle([each.title for each in passages[::30]])
        print(f"{len(passages):,} records")
        with serving(Path(folder), *sys.argv[1:]) as server:
            measure(server, "query hybrid", 1, texts)  # warms up
            for name, clients in itertools.product(WORKS, CLIENTS):
                measure(server, name, clients, texts)


if __name__ == "__main__":
    main()
