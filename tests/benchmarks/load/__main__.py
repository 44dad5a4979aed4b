"""Let many clients work on `nextk serve` at the same time, check all that they are answered, and print what it costs.

Run by hand on Linux, from the repository: `python -m tests.benchmarks.load [--clients 64] [--seconds 120]`. Two indexes
on disk are served: the documentation of Python, hybrid and with its texts, and 20,000 dense vectors. Five clients of
eight read searches page by page, filtered or not; two send plain queries; one writes, deletes, and reads back. Every id
is held to an exact ranking, and every acknowledged write is read at the end. A process of its own asks for `/healthz`
meanwhile. Then a peer, a plain Starlette route on uvicorn, returns the same bytes to as many clients.
"""

import argparse
import asyncio
import itertools
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.load.clients import Asker, Reader, Writer
from tests.benchmarks.load.connection import Connection
from tests.benchmarks.load.indexes import Search, build
from tests.benchmarks.load.probe import probing
from tests.benchmarks.load.timings import Timings, percentile
from tests.support.server_process import ServerProcess, serving, started
from tests.support.subprocesses import REPOSITORY_PATH

PEER_SECONDS = 15.0
OPEN_QUERIES = 1_000
"""Enough that no client is refused: what is refused at the cap is no matter of load."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="load", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    return parser.parse_args()


async def load(
    server: ServerProcess, searches: Sequence[Search], options: argparse.Namespace
) -> tuple[Timings, list[float]]:
    """Let the clients work. Returns their times and faults, and the memory of the server in MiB, second by second."""
    timings, memory = Timings(), [server.memory()]
    end = time.monotonic() + options.seconds

    async def repeat(work: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < end:
            await work()

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(1)
            memory.append(server.memory())

    connections = [await Connection.open(server, timings) for _ in range(options.clients)]
    works, writers = [], []
    for seed, connection in enumerate(connections):
        if seed % 8 == 0:
            writers.append(Writer(connection, timings, seed))
            works.append(writers[-1].work)
        else:
            client = (Asker if seed % 8 <= 2 else Reader)(connection, searches, timings, seed)
            works.append(client.work)
    await asyncio.gather(watch(), *map(repeat, works))
    for writer in writers:
        await writer.check()
    for connection in connections:
        await connection.close()
    return timings, memory


async def load_peer(server: ServerProcess, mixture: dict[str, int], clients: int) -> Timings:
    """Send requests to the peer, in the mixture that nextk was sent."""
    timings = Timings()
    end = time.monotonic() + PEER_SECONDS
    total = sum(mixture.values())
    kinds = [kind for kind, count in mixture.items() for _ in range(max(1, round(200 * count / total)))]

    async def work(connection: Connection, first: int) -> None:
        for kind in itertools.islice(itertools.cycle(kinds), first, None):
            await connection.call(kind, kind.replace(" ", "%20"), {"topK": 10})
            if time.monotonic() > end:
                break

    connections = [await Connection.open(server, timings) for _ in range(clients)]
    await asyncio.gather(*(work(connection, 7 * number) for number, connection in enumerate(connections)))
    for connection in connections:
        await connection.close()
    return timings


@contextmanager
def peer(folder: Path, replies: dict[str, bytes]) -> Iterator[ServerProcess]:
    """Run the peer while the block runs."""
    kept = folder / "replies.json"
    kept.write_text(json.dumps({kind: reply.decode() for kind, reply in replies.items()}), encoding="utf-8")
    with started(["-m", "tests.benchmarks.load.peer", str(kept)], REPOSITORY_PATH) as server:
        yield server


async def open_queries(server: ServerProcess) -> int:
    """Return the number of queries that are open on a server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    found = re.findall(r"^nextk_open_queries\{[^}]*\} ([0-9.]+)$", text, re.MULTILINE)
    assert found, text
    return int(sum(map(float, found)))


def main() -> None:
    """Build the indexes, run the load and the peer, and print the figures."""
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        searches = build(data)
        with serving(data, "--max-open-queries", str(OPEN_QUERIES)) as server, probing(server.port) as health:
            before = server.cpu_seconds()
            timings, memory = asyncio.run(load(server, searches, options))
            cpu, left_open = server.cpu_seconds() - before, asyncio.run(open_queries(server))
        with peer(folder, timings.replies) as server:
            before = server.cpu_seconds()
            plain = asyncio.run(load_peer(server, timings.counts(), options.clients))
            plain_cpu = server.cpu_seconds() - before
    report(timings, plain)
    ours, theirs = 1e3 * cpu / timings.count, 1e3 * plain_cpu / plain.count
    print(f"CPU: {ours:.2f} ms a request, {theirs:.2f} of the plain route: {ours / theirs:.1f} times")
    half = len(memory) // 2
    first, second = max(memory[:half]), max(memory[half:])
    print(f"memory, MiB: {memory[0]:.0f} at first, at most {first:.0f} in the first half, {second:.0f} in the second")
    print("memory, MiB, every ten seconds:", *(round(size) for size in memory[::10]))
    p50, p99, longest = (1e3 * percentile(health, part) for part in (0.5, 0.99, 1))
    print(f"/healthz: {len(health):,} times, p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {longest:.1f} ms")
    print(f"{timings.count:,} requests, {left_open} queries open at the end, {len(timings.faults)} faults")
    sys.exit(bool(timings.faults or left_open))


def report(timings: Timings, plain: Timings) -> None:
    """Print the times by kind, and the most frequent faults."""
    print("| server | request | number | p50, ms | p99, ms | bytes |\n| --- | --- | --- | --- | --- | --- |")
    print(*timings.lines("nextk"), *plain.lines("plain route"), sep="\n")
    for fault, count in Counter(timings.faults).most_common(20):
        print(f"{count} x {fault}")


if __name__ == "__main__":
    main()
