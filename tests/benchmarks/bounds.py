"""Measure the cost of requests for too much to `nextk serve`: time, memory, and how long others wait meanwhile.

Run by hand on Linux: `python -m tests.benchmarks.bounds`. The server runs in a process of its own. Every request of
`tests.support.attacks` is sent once, and `/healthz` is asked every few milliseconds from another process meanwhile.
"""

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from tests.support.attacks import ATTACKS, TOKENS, Attack, make_indexes
from tests.support.server_process import ServerProcess, serving

PAUSE = 0.005


def watch(url: str, pipe: Connection) -> None:
    """Ask `/healthz` over and over, and send the longest time that it took whenever something arrives in the pipe."""
    longest = 0.0
    with httpx.Client(base_url=url, timeout=600) as client:
        while True:
            began = time.perf_counter()
            client.get("/healthz")
            longest = max(longest, time.perf_counter() - began)
            if pipe.poll(PAUSE):
                if pipe.recv() is None:
                    return
                pipe.send(longest)
                longest = 0.0


def longest_of(pipe: Connection) -> float:
    """Return the longest time that `/healthz` took since the last call."""
    pipe.send("")
    return float(pipe.recv())


def measure(server: ServerProcess, client: httpx.Client, attack: Attack, pipe: Connection) -> None:
    """Send one request, and print what came back and what it cost."""
    content = attack.content()
    longest_of(pipe)
    server.forget_peak()
    before, began = server.memory(), time.perf_counter()
    reply = client.post(f"/{attack.command}", content=content, headers=attack.headers)
    seconds = time.perf_counter() - began
    print(
        f"{str(attack)[:50]:50}{len(content) / 2**20:7.2f} MiB  {reply.status_code} {seconds:7.3f} s"
        f"{server.peak_memory():7.0f} MiB (+{server.peak_memory() - before:4.0f})  /healthz"
        f"{1_000 * longest_of(pipe):6.0f} ms   {reply.json()['error'][:90]}",
        flush=True,
    )


def main() -> None:
    """Serve two indexes and send everything."""
    with tempfile.TemporaryDirectory() as folder:
        make_indexes(Path(folder))
        with serving(Path(folder), "--root", "docs", *TOKENS) as server:
            url = f"http://127.0.0.1:{server.port}"
            ours, theirs = multiprocessing.Pipe()
            watcher = multiprocessing.get_context("spawn").Process(target=watch, args=(url, theirs))
            watcher.start()
            with httpx.Client(base_url=url, timeout=600) as client:
                client.post("/info", headers=ATTACKS[0].headers)
                print(f"at rest: {server.memory():.0f} MiB; /healthz {1_000 * longest_of(ours):.0f} ms")
                for attack in ATTACKS:
                    measure(server, client, attack, ours)
                print(f"afterwards: {server.memory():.0f} MiB")
            ours.send(None)
            watcher.join()


if __name__ == "__main__":
    main()
