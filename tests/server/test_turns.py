"""Searches and writes take turns on a server, and nothing else ever waits for them."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.bodies import Query
from nextk.dispatch import COMMANDS
from nextk.engine.values import Match
from nextk.errors import ClientError
from nextk.server.app import create_app
from nextk.server.turns import ClientLeft, Turns, usable_cores
from tests.support.local_server import TOKEN, LocalServer

T = TypeVar("T")

BUSY = sorted(name for name, command in COMMANDS.items() if command.searches or command.writes)
OTHERS = sorted(COMMANDS.keys() - set(BUSY))
QUERY = {"vector": [1.0], "topK": 1}


class Gate:
    """Blocking calls that wait until the gate is opened.

    Attributes:
        running: The number of calls that wait at the gate.
        most: The largest number of calls that waited at the same time.
        made: What the calls were told, in the order in which they began.
    """

    def __init__(self) -> None:
        self.running = self.most = 0
        self.made: list[Any] = []
        self._is_open = False
        self._changed = threading.Condition()

    def call(self, told: T) -> T:
        """Wait until the gate is open, and return what the call was told."""
        with self._changed:
            self.made.append(told)
            self._count(1)
            self._changed.wait_for(lambda: self._is_open)
            self._count(-1)
        return told

    def open(self) -> None:
        """Let all calls pass, also those that come later."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    async def until_running(self, count: int) -> None:
        """Wait until so many calls wait at the gate."""
        await asyncio.to_thread(self._until_running, count)

    def _until_running(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.running == count)

    def _count(self, change: int) -> None:
        self.running += change
        self.most = max(self.most, self.running)
        self._changed.notify_all()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open in the end, so that no thread waits for ever."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def turns() -> Iterator[Turns]:
    """Two turns."""
    turns = Turns(2, "test")
    yield turns
    turns.close()


async def stays() -> bool:
    """A client that never leaves."""
    await asyncio.Event().wait()
    return True


def taken(turns: Turns, gate: Gate, *told: T) -> list[asyncio.Task[T]]:
    """Start a task for a call of each of these."""
    return [asyncio.create_task(turns.run("docs", functools.partial(gate.call, each), stays)) for each in told]


# The turns


@given(count=st.integers(1, 4), calls=st.integers(0, 12))
async def test_at_most_so_many_calls_run_and_all_are_made_in_order(count: int, calls: int) -> None:
    """Calls begin in the order in which they came, never more at a time than there are turns."""
    turns, gate = Turns(count, "test"), Gate()
    tasks = taken(turns, gate, *range(calls))
    await gate.until_running(min(count, calls))
    gate.open()
    assert await asyncio.gather(*tasks) == list(range(calls))
    assert gate.most == min(count, calls)
    if count == 1:
        assert gate.made == list(range(calls))
    turns.close()


async def test_a_task_that_is_cancelled_while_it_waits_gives_its_turn_back(gate: Gate, turns: Turns) -> None:
    """Its call is never made, and those behind it are."""
    running = taken(turns, gate, "first", "second")
    await gate.until_running(2)
    cancelled, next_one = taken(turns, gate, "cancelled", "next one")
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gate.open()
    assert await asyncio.gather(*running, next_one) == ["first", "second", "next one"]
    assert "cancelled" not in gate.made


async def test_a_task_that_is_cancelled_while_its_call_runs_ends_with_the_call(gate: Gate, turns: Turns) -> None:
    """Nothing goes on unseen, so that an engine can be closed when all tasks have ended."""
    (task,) = taken(turns, gate, "running")
    await gate.until_running(1)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.running == 0


async def test_the_call_of_a_client_that_leaves_while_it_waits_is_not_made(gate: Gate, turns: Turns) -> None:
    """The turn goes to the next one, and the watch for the client ends with the wait."""
    before = asyncio.all_tasks()
    running = taken(turns, gate, "first", "second")
    await gate.until_running(2)
    leaving = asyncio.Event()

    async def leaves() -> bool:
        return await leaving.wait()

    task = asyncio.create_task(turns.run("docs", lambda: gate.call("left"), leaves))
    (next_one,) = taken(turns, gate, "next one")
    leaving.set()
    with pytest.raises(ClientLeft):
        await task
    gate.open()
    assert await asyncio.gather(*running, next_one) == ["first", "second", "next one"]
    assert "left" not in gate.made
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_client_whose_leaving_cannot_be_told_is_answered(gate: Gate, turns: Turns) -> None:
    """A call is made unless it is certain that its client has left."""

    async def cannot_tell() -> bool:
        return False

    running = taken(turns, gate, "first", "second")
    await gate.until_running(2)
    task = asyncio.create_task(turns.run("docs", lambda: gate.call("third"), cannot_tell))
    await asyncio.sleep(0.01)
    gate.open()
    assert await asyncio.gather(*running, task) == ["first", "second", "third"]


async def test_a_call_that_fails_gives_its_turn_back(turns: Turns) -> None:
    """The error reaches the caller, and as many calls can run as before."""

    def fail() -> None:
        message = "of the call"
        raise LookupError(message)

    for _ in range(5):
        with pytest.raises(LookupError, match="of the call"):
            await turns.run("docs", fail, stays)
    assert await turns.run("docs", lambda: "made", stays) == "made"


async def test_calls_after_a_close_have_new_threads() -> None:
    """Turns that were closed run later calls, as those of an application that starts again, and count them."""
    made = Turns(1, "test")
    for _ in range(2):
        assert 1 == await made.run("docs", lambda: 1, stays)
        made.close()
    assert {} == made.waiting()


def test_a_core_at_least() -> None:
    """The number of cores is known on every system."""
    assert usable_cores() >= 1


# The server


@pytest.fixture
async def slow(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with two turns, whose plain queries wait at the gate."""
    with LocalServer(search_threads=2) as server:
        server.add("slow", type="dense", dimension=1)
        engine = server.engines["slow"]
        answer = engine.query

        def query(namespace: str, query: Query) -> list[Match]:
            return answer(*gate.call((namespace, query)))

        monkeypatch.setattr(engine, "query", query)
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
            yield client
            gate.open()


async def take_all_turns(client: httpx.AsyncClient, gate: Gate) -> list[asyncio.Task[httpx.Response]]:
    """Take both turns by queries that go on until the gate is opened."""
    tasks = [asyncio.create_task(client.post("/query", json=QUERY)) for _ in range(2)]
    await gate.until_running(2)
    return tasks


async def until_metrics_say(client: httpx.AsyncClient, line: str) -> None:
    """Read the metrics of the server until they have a line. They are read although all turns are taken."""
    for _ in range(1_000):
        if line in (await client.get("/metrics")).text.splitlines():
            return
        await asyncio.sleep(0.005)
    pytest.fail(f"the metrics never said {line}")


async def test_open_queries_go_on_while_searches_take_all_turns(slow: httpx.AsyncClient, gate: Gate) -> None:
    """The next page of an open query is served, and the query is stopped."""
    await slow.post("/upsert", json=[{"id": "a", "vector": [1.0]}, {"id": "b", "vector": [2.0]}])
    opened = (await slow.post("/resumable-query", json=QUERY)).json()["result"]["uuid"]
    running = await take_all_turns(slow, gate)
    page = await slow.post("/resumable-query-next", json={"uuid": opened, "additionalK": 5})
    assert ["b"] == [row["id"] for row in page.json()["result"]]
    assert (await slow.post("/resumable-query-end", json={"uuid": opened})).json() == {"result": "Success"}
    gate.open()
    assert [reply.status_code for reply in await asyncio.gather(*running)] == [200, 200]


@pytest.mark.parametrize("path", [*OTHERS, "healthz", "metrics", "no-such-command"])
async def test_what_neither_searches_nor_writes_is_answered_at_once(
    slow: httpx.AsyncClient, gate: Gate, path: str
) -> None:
    """The server answers, be it by a refusal, while searches take all turns and more of them wait."""
    running = await take_all_turns(slow, gate)
    waiting = asyncio.create_task(slow.post("/query", json=QUERY))
    reply = await slow.request("GET", f"/{path}", content=b"{}")
    assert reply.status_code in (200, 404, 422)
    assert not any(task.done() for task in running)
    gate.open()
    assert [reply.status_code for reply in await asyncio.gather(*running, waiting)] == [200, 200, 200]


@pytest.mark.parametrize("command", BUSY)
async def test_every_search_and_every_write_waits_for_its_turn(
    slow: httpx.AsyncClient, gate: Gate, command: str
) -> None:
    """A command that keeps a core busy is not answered before another one has ended, not even by a refusal."""
    running = await take_all_turns(slow, gate)
    waiting = asyncio.create_task(slow.post(f"/{command}", json={}))
    await until_metrics_say(slow, 'nextk_waiting_requests{index="slow"} 1.0')
    assert not waiting.done()
    gate.open()
    await asyncio.gather(*running, waiting)


async def test_a_search_whose_client_left_while_it_waited_is_not_made(slow: httpx.AsyncClient, gate: Gate) -> None:
    """The metrics count it as left, and its turn goes to a client that stayed."""
    running = await take_all_turns(slow, gate)
    impatient = [asyncio.create_task(slow.post("/query/left", json=QUERY)) for _ in range(3)]
    patient = asyncio.create_task(slow.post("/query/stayed", json=QUERY))
    await until_metrics_say(slow, 'nextk_waiting_requests{index="slow"} 4.0')
    for task in impatient:
        task.cancel()
    await until_metrics_say(slow, 'nextk_requests_total{command="query",index="slow",status="499"} 3.0')
    await until_metrics_say(slow, 'nextk_waiting_requests{index="slow"} 1.0')
    gate.open()
    assert [reply.status_code for reply in await asyncio.gather(*running, patient)] == [200, 200, 200]
    assert ["", "", "stayed"] == [namespace for namespace, _ in gate.made]


async def test_clients_that_leave_while_their_searches_run_take_no_turn_with_them(
    slow: httpx.AsyncClient, gate: Gate
) -> None:
    """Both searches end for nobody, and the next ones are made."""
    for task in await take_all_turns(slow, gate):
        task.cancel()
    gate.open()
    replies = await asyncio.gather(*(slow.post("/query", json=QUERY) for _ in range(4)))
    assert [reply.status_code for reply in replies] == [200] * 4


@pytest.mark.parametrize("search_threads", [0, -1, 1.5, True])
def test_a_number_of_threads_that_cannot_be_is_refused(search_threads: object) -> None:
    """The error names the argument and says what fits."""
    with pytest.raises(ClientError, match=r"^search_threads=.* must be a whole number, at least 1"):
        create_app({}, search_threads=search_threads)  # type: ignore[arg-type]
