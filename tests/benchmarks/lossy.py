"""Sixty pages of ten over a connection that loses requests and replies.

Run by hand: `python tests/benchmarks/lossy.py`. It takes a few minutes. Over HTTP, each request is lost with the
probability p before the server sees it, and the reply to each request that has arrived is lost with the probability p,
too: with p = 15 %, 27.75 % of the requests remain without a reply. Every request counts: starts, pages, stops and
`info`, lost or not. A run ends at the first error that reaches its caller. What was served is compared with the order
without faults each time.

The client of a row has had a reply of the server before, since it wrote the records; so it knows whether the server
numbers its pages. The rows that say "cold" have a new client for each run: if the reply to its first start is lost, the
query of that start stays open until it expires. Pauses are counted by a clock that is advanced instead of waiting.
"""

import asyncio
import logging
import statistics
from collections import Counter
from dataclasses import dataclass

from nextk import Index
from nextk.testing import FaultPlan
from nextk.testing.server import FaultyServer
from tests.support.lossy import KINDS, PAGES, SIZE, LossyRun, losing, lossy_run, records, undisturbed
from tests.support.searches import SHAPES

PROBABILITIES = (0.01, 0.05, 0.15, 0.34)
SEEDS = range(20)


@dataclass
class Line:
    """One line of the table: the runs of all seeds, and the queries that they left open."""

    runs: list[LossyRun]
    left_open: int

    def __str__(self) -> str:
        requests = [run.requests for run in self.runs]
        errors = Counter(run.error for run in self.runs if run.error)
        named = ", ".join(f"{count} {name}" for name, count in errors.items()) or "none"
        waited = statistics.median(run.recovery.waited for run in self.runs)
        finished = sum(run.finished for run in self.runs)
        return (
            f"{finished:3}/{len(self.runs)}{statistics.median(requests):10.0f}{max(requests):8}"
            f"{self.left_open:7}{waited:9.1f}   {named}"
        )


def measure(server: FaultyServer, warm: Index, kind: str, probability: float, *, cold: bool) -> Line:
    """Run every seed against a server.

    Args:
        server: The server.
        warm: The client that wrote the records.
        kind: The kind of the search.
        probability: The probability of each loss.
        cold: Whether each run has a new client.
    """
    clock, expected, runs, left_open = server.app.plan.clock, undisturbed(warm, kind), [], 0
    for seed in SEEDS:
        index = Index(server.url, server.token, retry_interval=0) if cold else warm
        plan = server.app.plan = losing(seed, probability, clock)
        run = asyncio.run(lossy_run(index, kind, plan))
        server.app.plan = FaultPlan(clock=clock)
        index.info()  # stops what was left to the next request
        assert expected[: len(run.served)] == run.served, "something was skipped or repeated"
        runs.append(run)
        left_open += server.engine.open_queries()
        clock.pass_max_idle()
        server.engine.sweep()
        if cold:
            index.close()
    return Line(runs, left_open)


def main() -> None:
    """Measure and print."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it says of each reply that it was broken off
    print(f"{PAGES} pages of {SIZE}, {len(SEEDS)} seeds; requests: median and worst; open: left in all runs together")
    titles = f"{'server':14}{'search':16}{'p':>6}{'finished':>10}{'requests':>10}"
    print(f"{titles}{'worst':>8}{'open':>7}{'pauses':>9}   errors")
    for numbered in (True, False):
        name = "numbered" if numbered else "not numbered"
        for kind in KINDS:
            schema = SHAPES[KINDS[kind]].schema
            server = FaultyServer(FaultPlan(), numbered_pages=numbered, **schema)
            with server, Index(server.url, server.token, retry_interval=0) as index:
                index.upsert(records(kind))
                for probability in PROBABILITIES:
                    line = measure(server, index, kind, probability, cold=False)
                    print(f"{name:14}{kind:16}{probability:6.0%}    {line}", flush=True)
                if kind == "dense" and numbered:
                    line = measure(server, index, kind, 0.15, cold=True)
                    print(f"{name:14}{kind + ', cold':16}{0.15:6.0%}    {line}", flush=True)


if __name__ == "__main__":
    main()
