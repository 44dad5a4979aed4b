"""The memory of `nextk serve` under mixed load, and what is left of it afterwards.

Run by hand on Linux: `python tests/benchmarks/memory.py [SECONDS]`. Clients query, pull pages, replace records, delete
some and store them again, all at the same time, over an index with as many records at the end as at the start. The
resident memory of the server is printed while they work, when they have left, when their queries are stopped, and after
`malloc_trim`, which returns the free pages of the heap to the system: what it frees was fragmentation, no leak. Set
MALLOC_ARENA_MAX=1 to see what the arenas of the threads contribute.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nextk import Index
from nextk.cli.corpus import Passage, standard_library
from nextk.cli.writing import MODELS, fill
from tests.support.server_process import RawConnection, ServerProcess, serving

SIZE = 10
WARM_UP_SECONDS, REPORT_SECONDS = 3.0, 10.0
CLIENTS = {"query": 8, "pull": 8, "replace": 2, "delete": 2}

# The server, with two signals: SIGUSR1 trims the heap, SIGUSR2 prints what the objects of Python hold.
PROGRAM = """
import ctypes, gc, signal, sys, threading
from nextk.cli.main import main

def trim(*_):
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)

def report(*_):
    import numpy
    gc.collect()
    arrays = {id(each): each for holder in gc.get_objects() for each in gc.get_referents(holder)
              if isinstance(each, numpy.ndarray) and each.base is None}
    held = sum(each.nbytes for each in arrays.values()) / 2**20
    print(f"{len(gc.get_objects()):,} objects, {len(arrays):,} arrays of {held:.0f} MiB,"
          f" {threading.active_count()} threads", file=sys.stderr, flush=True)

signal.signal(signal.SIGUSR1, trim)
signal.signal(signal.SIGUSR2, report)
sys.exit(main())
"""

Work = Callable[[RawConnection, "itertools.cycle[Passage]"], Awaitable[None]]


def question(passage: Passage) -> dict[str, Any]:
    """Return the body of a hybrid query for whole records."""
    return {"data": passage.title, "topK": SIZE, "includeMetadata": True, "includeData": True}


def record(passage: Passage) -> dict[str, Any]:
    """Return a passage as a record to store."""
    return {"id": passage.id, "data": passage.text, "metadata": {"title": passage.title, "parent": passage.parent}}


async def query(connection: RawConnection, passages: "itertools.cycle[Passage]") -> None:
    """Send one plain query."""
    await connection.post("query-data", question(next(passages)))


async def pull(connection: RawConnection, passages: "itertools.cycle[Passage]") -> None:
    """Open a query, read nine further pages, and stop it."""
    opened = await connection.post("resumable-query-data", question(next(passages)))
    for _ in range(9):
        await connection.post("resumable-query-next", {"uuid": opened["uuid"], "additionalK": SIZE})
    await connection.post("resumable-query-end", {"uuid": opened["uuid"]})


async def replace(connection: RawConnection, passages: "itertools.cycle[Passage]") -> None:
    """Store records again, which replaces them."""
    await connection.post("upsert-data", [record(each) for each in itertools.islice(passages, 20)])


async def delete(connection: RawConnection, passages: "itertools.cycle[Passage]") -> None:
    """Delete records, and store them again."""
    chosen = list(itertools.islice(passages, 20))
    await connection.post("delete", {"ids": [each.id for each in chosen]})
    await connection.post("upsert-data", [record(each) for each in chosen])


WORKS: dict[str, Work] = {"query": query, "pull": pull, "replace": replace, "delete": delete}


async def load(server: ServerProcess, seconds: float, passages: "itertools.cycle[Passage]") -> None:
    """Let all clients work for some seconds, and print the memory of the server meanwhile."""
    end = time.perf_counter() + seconds
    done = dict.fromkeys(WORKS, 0)

    async def run(name: str) -> None:
        connection = await RawConnection.open(server)
        while time.perf_counter() < end:
            await WORKS[name](connection, passages)
            done[name] += 1
        await connection.close()

    async def watch() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            say(server, f"{seconds - end + time.perf_counter():.0f} s of load")

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(run(name) for name, count in CLIENTS.items() for _ in range(count)))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    print("done:", ", ".join(f"{count:,} of {name}" for name, count in done.items()))


def say(server: ServerProcess, when: str) -> None:
    """Print the memory of the server."""
    print(f"{when:28}{server.memory():8.0f} MiB", flush=True)


def signalled(server: ServerProcess, number: signal.Signals) -> None:
    """Send the server a signal, and give it a second to act."""
    os.kill(server.pid, number)
    time.sleep(1)


def main() -> None:
    """Build the index, serve it, and load it twice: only what grows without a bound grows as much the second time."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    with tempfile.TemporaryDirectory() as folder:
        with Index.embedded(Path(folder, "docs.nextk"), **MODELS) as index:
            passages = list(standard_library())
            fill(index, passages)
        in_turn = itertools.cycle(passages)
        with serving(Path(folder), program=("-c", PROGRAM)) as server:
            say(server, "started")
            asyncio.run(load(server, WARM_UP_SECONDS, in_turn))
            say(server, "warm")
            for number in (1, 2):
                signalled(server, signal.SIGUSR2)
                asyncio.run(load(server, seconds, in_turn))
                say(server, f"after load {number}")
                signalled(server, signal.SIGUSR2)
                signalled(server, signal.SIGUSR1)
                say(server, "trimmed")


if __name__ == "__main__":
    main()
