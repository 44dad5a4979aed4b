"""Clients that write rows, and clients that make plain queries."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from nextk import Index, Vector
from nextk.errors import QueryNotFound, TooManyQueries, TransportError
from nextk.sessions import SearchQuery
from tests.simulation.choices import Choices
from tests.simulation.clock import SimulatedLoop, blocking
from tests.simulation.network import actor
from tests.simulation.plan import HoarderPlan
from tests.simulation.trace import Trace
from tests.support.searches import Shape

_WRITES = 9
_QUESTIONS = 3
_HOARDED_IDLE = 3_600  # seconds, the longest that a server allows
_VERSIONS = 1_000  # that one client may write


def versioned(shape: Shape, number: int, version: int) -> Vector:
    """Return a version of a row. Each version has another vector.

    Args:
        shape: The index.
        number: The number of the row.
        version: The number of the version.
    """
    record = shape.record(number, version)
    return replace(record, metadata={"number": number, "version": version})


def quiet(shape: Shape, number: int) -> Vector:
    """Return a row of the namespace that nobody writes to.

    Args:
        shape: The index.
        number: The number of the row.
    """
    return replace(versioned(shape, number, 0), id=f"s{number}")


class Writer:
    """A client that upserts and deletes rows; no two clients write the same ones.

    Args:
        name: Its name.
        number: Its number, from 1.
        rows: The number of rows that it may write.
        shape: The index that it writes to.

    Attributes:
        acknowledged: The marks of its writes that the server has acknowledged.
    """

    def __init__(self, name: str, number: int, rows: int, shape: Shape) -> None:
        self.acknowledged: set[str] = set()
        self._name = name
        self._number = number
        self._rows = rows
        self._shape = shape

    async def run(self, index: Index, choices: Choices, loop: SimulatedLoop, trace: Trace) -> None:
        """Write, and go on after each write that fails.

        Args:
            index: The index.
            choices: The choices of the run.
            loop: The event loop.
            trace: The trace of the run.
        """
        actor.set(self._name)
        for count in range(_WRITES):
            dice = choices.dice("write", self._name, count)
            await asyncio.sleep(dice.uniform(0, 4))
            # The rows with the remainders 1 and 2 are written to, by one client each; the others never.
            numbers = sorted(dice.sample(range(self._number, self._rows + 9, 3), dice.randint(1, 3)))
            version = self._number * _VERSIONS + count
            deletes, blocks = dice.random() < 0.4, dice.random() < 0.5
            marks = {f"r{number} {'deleted' if deletes else version}" for number in numbers}
            ids = [f"r{number}" for number in numbers]
            argument: Any = ids if deletes else [versioned(self._shape, number, version) for number in numbers]
            client: Any = index if blocks else index.to_async()
            call = client.delete if deletes else client.upsert
            try:
                await (blocking(call, argument) if blocks else call(argument))
            except TransportError as error:
                trace.note(loop.time(), self._name, f"is told: {error}", "errors told")
            else:
                self.acknowledged |= marks
                trace.counts["acknowledged writes"] += 1


async def hoard(plan: HoarderPlan, index: Index, choices: Choices, loop: SimulatedLoop, trace: Trace) -> None:
    """Open queries that may be idle for long, hold them, and stop them; some may be gone by then.

    Args:
        plan: The plan of the client.
        index: The index.
        choices: The choices of the run.
        loop: The event loop.
        trace: The trace of the run.
    """
    actor.set(plan.name)
    handles = []
    for number in range(plan.count):
        await asyncio.sleep(choices.dice("hoard", plan.name, number).uniform(0, 5))
        try:
            _, handle = await index.to_async().resumable_query(
                top_k=2, max_idle=_HOARDED_IDLE, **plan.question.parameters()
            )
        except (TransportError, TooManyQueries, QueryNotFound) as error:  # stopped before its start was repeated
            trace.note(loop.time(), plan.name, f"is told: {type(error).__name__}: {error}", "hoarders refused")
        else:
            handles.append(handle)
    await asyncio.sleep(plan.holds)
    for handle in handles:
        async with handle:
            trace.note(loop.time(), plan.name, "lets a query go")


@dataclass(frozen=True)
class Page:
    """The result of a plain query.

    Attributes:
        question: The query.
        count: The number of matches that were requested.
        ids: The ids that came.
    """

    question: SearchQuery
    count: int
    ids: list[str]


async def ask(
    name: str, index: Index, question: SearchQuery, choices: Choices, loop: SimulatedLoop, trace: Trace
) -> list[Page]:
    """Make plain queries, and return what each has found.

    Args:
        name: The name of the client.
        index: The index.
        question: The query.
        choices: The choices of the run.
        loop: The event loop.
        trace: The trace of the run.
    """
    actor.set(name)
    pages = []
    for number in range(_QUESTIONS):
        dice = choices.dice("ask", name, number)
        await asyncio.sleep(dice.uniform(0, 8))
        count, fields = dice.randint(1, 30), question.parameters()
        try:
            if dice.random() < 0.5:
                matches = await blocking(lambda: index.query(top_k=count, **fields))  # noqa: B023 - called at once
            else:
                matches = await index.to_async().query(top_k=count, **fields)
        except TransportError as error:
            trace.note(loop.time(), name, f"is told: {error}", "errors told")
        else:
            pages.append(Page(question, count, [match.id for match in matches]))
    return pages
