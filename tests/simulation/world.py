"""One run: a server, its clients and the network, from the first message until nothing is left open."""

import asyncio
import itertools
import tempfile
import traceback
from collections.abc import Collection, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextk import Index
from nextk.sessions.pool import MAX_OPEN, pool_of
from nextk.transport.http import HttpTransport
from nextk.transport.pacing import Pacing
from tests.simulation.checks import index_of, wrong_page, wrong_rows, wrong_search
from tests.simulation.choices import Choices
from tests.simulation.clock import SimulatedLoop, blocking, sleep
from tests.simulation.network import Network, actor
from tests.simulation.others import Page, Writer, ask, hoard, quiet, versioned
from tests.simulation.plan import Incident, Plan
from tests.simulation.searcher import Found, Searcher
from tests.simulation.server import QUIET, READ_ONLY_TOKEN, TOKEN, SimulatedServer
from tests.simulation.trace import Trace
from tests.simulation.weather import LATE, Weather

_worlds = itertools.count()  # each has an address of its own, since what is left open is remembered by address


@dataclass(frozen=True)
class Run:
    """The outcome of a run.

    Attributes:
        seed: The seed.
        plan: The plan.
        failures: What was wrong, in words; empty if all was right.
        trace: The trace.
        struck: The names of the messages and incidents that were faults.
    """

    seed: int
    plan: Plan
    failures: list[str]
    trace: Trace
    struck: list[str]


def run(seed: int, spared: Collection[str] = ()) -> Run:
    """Run the world of a seed.

    Args:
        seed: The seed.
        spared: The names of messages and incidents that are no faults this time.
    """
    loop = SimulatedLoop()
    try:
        with tempfile.TemporaryDirectory(prefix="nextk-simulation-") as folder:
            world = World(seed, spared, loop, Path(folder))
            return loop.run_until_complete(world.run())
    finally:
        loop.close()


class World:
    """The world of a seed.

    Args:
        seed: The seed.
        spared: The names of messages and incidents that are no faults.
        loop: The event loop that runs it.
        folder: A folder for its index.
    """

    def __init__(self, seed: int, spared: Collection[str], loop: SimulatedLoop, folder: Path) -> None:
        self._choices = choices = Choices(seed)
        self._plan = plan = Plan.of(choices)
        self._spared = spared
        self._loop = loop
        self._trace = Trace()
        path, schema = folder / "world.nextk", plan.shape.schema
        self._server = SimulatedServer(path, schema, loop.time, plan.cap, numbered=plan.numbered)
        self._weather = Weather(choices, plan.risks, spared)
        self._network = Network(loop, self._server, self._weather, self._trace, numbered=plan.numbered)
        address = f"http://world-{next(_worlds)}.test"
        self._indexes = [self._index(address, number) for number in range(len(plan.read_only))]
        self._writers = [
            Writer(name, number, plan.rows, plan.shape) for number, name in enumerate(plan.writers, start=1)
        ]
        self._incidents: list[str] = []

    def _index(self, address: str, number: int) -> Index:
        pacing = Pacing(self._loop.time, sleep, self._choices.dice("jitter", number).random)
        token = READ_ONLY_TOKEN if self._plan.read_only[number] else TOKEN
        transport = HttpTransport(
            address, token, retries=3, retry_interval=1.0, timeout=10.0, route=self._network, pacing=pacing
        )
        return Index._over(transport)

    async def run(self) -> Run:
        """Run it to its end, and check what has to hold."""
        actor.set("world")
        self._fill()
        if self._plan.greets:
            await self._greet()
        incidents = [asyncio.create_task(each) for each in self._happenings()]
        outcomes = await asyncio.gather(*self._clients(), return_exceptions=True)
        for incident in incidents:
            incident.cancel()
        await asyncio.gather(*incidents, return_exceptions=True)
        if not self._server.running:
            self._server.start()
        failures = [_told(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]
        failures += self._wrong_slots()
        await self._close()
        failures += self._wrong_open()
        self._trace.counts["evictions to make room"] += self._server.fairness.evicted
        self._server.expire()
        failures += self._wrong(outcomes)
        self._server.stop()
        choices = self._choices
        return Run(choices.seed, self._plan, failures, self._trace, [*self._weather.struck, *self._incidents])

    def _fill(self) -> None:
        shape, rows = self._plan.shape, self._plan.rows
        index = index_of(self._server.engine)
        index.upsert([versioned(shape, number, 0) for number in range(rows)])
        index.upsert([quiet(shape, number) for number in range(rows)], QUIET)
        self._server.book.rows = {f"r{number}": 0 for number in range(rows)}

    async def _greet(self) -> None:
        """Let each transport have a reply, so that it knows whether the server numbers pages."""
        self._weather.calm = True
        for index in self._indexes:
            await index.to_async().info()
        self._weather.calm = False

    def _clients(self) -> Iterator[Coroutine[Any, Any, Any]]:
        plan, choices, loop, trace = self._plan, self._choices, self._loop, self._trace
        for searcher in plan.searchers:
            yield Searcher(searcher, self._indexes, loop, self._server.book, choices, trace).run()
        for writer in self._writers:
            yield writer.run(self._indexes[0], choices, loop, trace)
        for hoarder in plan.hoarders:
            yield hoard(hoarder, self._indexes[hoarder.place], choices, loop, trace)
        for name in plan.askers:
            yield ask(name, self._indexes[-1], plan.searchers[0].question, choices, loop, trace)

    def _happenings(self) -> Iterator[Coroutine[Any, Any, None]]:
        for incident in self._plan.restarts:
            if incident.name not in self._spared:
                yield self._restart(incident)
        for incident in self._plan.jumps:
            if incident.name not in self._spared:
                yield self._jump(incident)
        for incident in self._plan.evictions:
            if incident.name not in self._spared:
                yield self._evict(incident)

    async def _restart(self, incident: Incident) -> None:
        await asyncio.sleep(incident.time)
        if not self._server.running:
            return
        self._happened(incident, f"the server ends, with {self._server.open_queries()} open queries", "restarts")
        self._server.stop()
        await asyncio.sleep(incident.seconds)
        self._server.start()
        self._trace.note(self._loop.time(), "server", "the server has started")

    async def _jump(self, incident: Incident) -> None:
        await asyncio.sleep(incident.time)
        if not self._server.running:
            return
        before = self._server.open_queries()
        self._server.skew += incident.seconds
        expired = before - self._server.open_queries()
        self._happened(incident, f"its clock jumps by {incident.seconds:.0f} s, {expired} queries expire", "jumps")

    async def _evict(self, incident: Incident) -> None:
        await asyncio.sleep(incident.time)
        if self._server.running and self._server.evict(int(incident.seconds)):
            self._happened(incident, "somebody stops an open query", "evictions")

    def _happened(self, incident: Incident, text: str, kind: str) -> None:
        self._incidents.append(incident.name)
        self._trace.note(self._loop.time(), "server", text, kind)

    async def _close(self) -> None:
        """Close the indexes, and wait until nothing is on its way."""
        self._server.let_nothing_expire()
        for number, index in enumerate(self._indexes):
            actor.set(f"close-{number}")
            await (blocking(index.close) if number % 2 else index.to_async().close())
        await asyncio.sleep(3 * LATE)

    def _wrong_slots(self) -> Iterator[str]:
        """Check that each session has returned its slot, but for those whose queries are parked."""
        for number, index in enumerate(self._indexes):
            pool = pool_of(index._transport)
            pool.clear()
            if pool._free != MAX_OPEN:
                yield f"transport {number} has {MAX_OPEN - pool._free} slots that nobody has returned"

    def _wrong_open(self) -> Iterator[str]:
        """Check that no query is open before it expires, unless the network or a restart has a part in it."""
        left, excused = self._server.open_queries(), self._network.excused
        if left > excused and self._server.starts == 1:  # a restart forgets which queries were stopped
            yield f"{left} queries are open, and {excused} of them may be"

    def _wrong(self, outcomes: list[Any]) -> Iterator[str]:
        yield from self._left()
        engine, written = self._server.engine, bool(self._plan.writers)
        for outcome in outcomes:
            if isinstance(outcome, Found):
                plain = self._network.has_queried(outcome.plan.name)
                is_quiet = bool(outcome.plan.question.namespace)
                yield from wrong_search(outcome, engine, written=written and not is_quiet, plain=plain)
            elif isinstance(outcome, list):
                pages: list[Page] = outcome
                for page in pages:
                    yield from wrong_page(page, engine, written=written and not page.question.namespace)
        yield from self._server.fairness.unfair
        yield from self._server.lifetimes.wrong
        if ghosts := self._server.book.ghosts:
            yield f"pages held rows that were not there any more: {ghosts}"
        for writer in self._writers:
            if lost := writer.acknowledged - self._server.book.marks:
                yield f"acknowledged writes were never executed: {sorted(lost)}"
        yield from wrong_rows(self._server.book.rows, engine)

    def _left(self) -> Iterator[str]:
        """Check that nothing is left of the run."""
        if left := self._server.open_queries():
            yield f"{left} queries are left open"
        if orphans := [uuid for index in self._indexes for uuid in index._transport.orphans]:
            yield f"{len(orphans)} dropped queries were neither stopped nor given up"
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            yield f"{len(tasks)} tasks still run"


def _told(error: BaseException) -> str:
    return f"an error that is not permitted: {''.join(traceback.format_exception(error))}"


def command_of(seed: int) -> str:
    """Return the command that runs a seed again and shows its trace.

    Args:
        seed: The seed.
    """
    return f"python -m tests.simulation --first {seed} --seeds 1 --trace"
