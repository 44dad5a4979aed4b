"""Ten permitted documents, where only some percent are: a session with a check, against over-fetching and restarting.

Run by hand: `python tests/benchmarks/permitted.py`. Every way asks the same exact index the same questions and checks
the rows it gets in the same order. Printed for each, over all questions: how often it came back with fewer than ten
although ten exist (short), rows moved and requests made at the median and at the 90th percentile, and CPU time of this
process as a ratio to the session's. What is not short is the same ten documents, the nearest permitted ones: recall 1.

Permissions are random by passage, or by cluster: whole modules of the documentation, as permissions usually are.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.operations import Operation
from nextk.sessions import RetrievalMode, RetrievalSession, RowReader, SearchQuery
from nextk.types import Data, QueryMode, QueryResult
from nextk.until import Accepted

WANTED = 10
QUESTIONS = 100
PERCENT = (20, 10, 5, 2)
FACTORS = (2, 5, 10)
MOST = 1_000  # rows that an index returns at once

Permitted = set[str]


@dataclass
class Spent:
    """What one way took for one question."""

    rows: int
    requests: int
    found: list[str]


class Counting:
    """A transport that counts what it carries."""

    def __init__(self, index: Index) -> None:
        self.inner = index._transport
        self.orphans, self.closing_hooks, self.identity = (
            self.inner.orphans,
            self.inner.closing_hooks,
            self.inner.identity,
        )
        self.requests = 0

    def send(self, operation: Operation[QueryResult]) -> QueryResult:
        """Count, and carry."""
        self.requests += 1
        return self.inner.send(operation)


@dataclass
class Bench:
    """The index, the questions, and who may see what."""

    index: Index
    questions: list[str]
    groups: dict[str, list[str]]
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - no secret depends on it

    def permit(self, percent: int, *, clustered: bool) -> Permitted:
        """Choose what may be seen: so many percent of the passages, one by one or by whole modules."""
        every = [id_ for group in self.groups.values() for id_ in group]
        count = len(every) * percent // 100
        if not clustered:
            return set(self.dice.sample(every, count))
        permitted: Permitted = set()
        for name in self.dice.sample(sorted(self.groups), len(self.groups)):
            if len(permitted) + len(self.groups[name]) <= count:
                permitted.update(self.groups[name])
        return permitted

    def query(self, question: str, top_k: int) -> list[str]:
        """Ids of a plain query."""
        matches = self.index.query(
            data=question, top_k=top_k, query_mode=QueryMode.DENSE, include_metadata=True, include_data=True
        )
        return [match.id for match in matches]

    def by_session(self, question: str, permitted: Permitted) -> Spent:
        """A session that goes on until ten are permitted."""
        counting = Counting(self.index)
        asked = SearchQuery(data=question, mode=RetrievalMode.DENSE)
        reading = RowReader(lambda match: match.id)
        with RetrievalSession(Index._over(counting), asked, reading) as search:  # type: ignore[arg-type]
            found = search.fetch_until(Accepted(WANTED, lambda ids: [id_ in permitted for id_ in ids]))
            rows = search.report.pulled
        return Spent(rows, counting.requests, found)

    def by_factor(self, question: str, permitted: Permitted, factor: int) -> Spent:
        """One query for some times ten."""
        rows = self.query(question, WANTED * factor)
        return Spent(len(rows), 1, [id_ for id_ in rows if id_ in permitted][:WANTED])

    def by_restarting(self, question: str, permitted: Permitted) -> Spent:
        """Query after query, each for twice as many."""
        top_k, moved, requests = WANTED, 0, 0
        while True:
            rows = self.query(question, min(top_k, MOST))
            moved, requests = moved + len(rows), requests + 1
            found = [id_ for id_ in rows if id_ in permitted][:WANTED]
            if len(found) == WANTED or top_k >= MOST:
                return Spent(moved, requests, found)
            top_k *= 2


def build() -> Bench:
    """The documentation of Python, and the first lines of some of it as questions."""
    read_texts = list(standard_library())
    index = Index.embedded(embedding="static")
    for first in range(0, len(read_texts), 500):
        index.upsert([Data(read_text.id, read_text.text) for read_text in read_texts[first : first + 500]])
    groups: dict[str, list[str]] = {}
    for read_text in read_texts:
        groups.setdefault(read_text.parent, []).append(read_text.id)
    dice = random.Random(1)  # noqa: S311
    questions = [read_text.text.strip().splitlines()[0][:200] for read_text in dice.sample(read_texts, QUESTIONS)]
    return Bench(index, questions, groups)


def at(values: list[int]) -> str:
    """The median and the 90th percentile."""
    return f"{statistics.median(values):7.0f} {statistics.quantiles(values, n=10)[-1]:7.0f}"


def main() -> None:
    """Measure and print."""
    bench = build()
    ways: dict[str, Callable[[str, Permitted], Spent]] = {"session": bench.by_session}
    for factor in FACTORS:
        ways[f"over-fetch x{factor}"] = lambda question, permitted, factor=factor: bench.by_factor(  # type: ignore[misc]
            question, permitted, factor
        )
    ways["restart, doubling"] = bench.by_restarting
    sizes = [len(group) for group in bench.groups.values()]
    print(f"{sum(sizes):,} passages in {len(sizes)} modules, {len(bench.questions)} questions, {WANTED} wanted")
    print(f"{'':40}{'rows':>15}{'requests':>17}")
    print(f"{'permitted':22}{'way':20}short {'p50':>7} {'p90':>7}  {'p50':>7} {'p90':>7}   CPU")
    for clustered in (False, True):
        for percent in PERCENT:
            permitted = bench.permit(percent, clustered=clustered)
            unit = 0.0
            best: list[list[str]] = []
            for name, way in ways.items():
                began = time.process_time()
                spent = [way(question, permitted) for question in bench.questions]
                taken = time.process_time() - began
                unit = unit or taken
                best = best or [one.found for one in spent]
                short = sum(len(one.found) < WANTED for one in spent) / len(spent)
                for one, nearest in zip(spent, best, strict=True):
                    assert one.found == nearest[: len(one.found)] or len(nearest) < WANTED, "another order"
                shape = f"{percent:2} % {'by module' if clustered else 'random'}"
                rows, requests = at([one.rows for one in spent]), at([one.requests for one in spent])
                print(f"{shape:22}{name:20}{short:5.0%} {rows}  {requests} {taken / unit:5.1f}")
    bench.index.close()


if __name__ == "__main__":
    main()
