"""The end of a server: requests finish, or are given up with an answer in words."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette

from nextk.bodies import Query
from nextk.engine.abandonment import require_wanted
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.engine.values import Match
from nextk.server.app import create_app
from nextk.server.listening import configure, listen, url_of
from nextk.server.stopping import StoppingServer

QUERY = {"vector": [1.0], "topK": 1}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedEngine]:
    """An index whose queries go on until nobody waits for them."""
    engine = open_engine(None, {"type": "dense", "dimension": 1})
    assert isinstance(engine, EmbeddedEngine)

    def query(_namespace: str, _query: Query) -> list[Match]:
        BEGUN.release()
        while True:
            require_wanted()
            threading.Event().wait(0.001)

    monkeypatch.setattr(engine, "query", query)
    yield engine
    engine.close()


BEGUN = threading.Semaphore(0)


class Watched(StoppingServer):
    """A server that says when it has begun to stop."""

    stopping: asyncio.Event

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, after saying so."""
        self.stopping.set()
        await super().shutdown(sockets)


class Running:
    """A server in the event loop of the test, which gives requests up at once when it is stopped, or never.

    Args:
        app: The application.
        grace: The seconds that requests have to finish.
    """

    def __init__(self, app: Starlette, grace: float) -> None:
        self.listener: socket.socket = listen("127.0.0.1", 0, protected=True)
        self.url = url_of(self.listener)
        self.server = Watched(configure(app, graceful_seconds=1), app.state.give_up, grace)
        self.server.stopping = asyncio.Event()
        self.server.config.timeout_graceful_shutdown = 60  # on a busy machine it takes a while to answer
        self.task = asyncio.create_task(self.server.serve(sockets=[self.listener]))

    async def stop(self) -> None:
        """Stop the server as a signal does, and wait until it has ended."""
        self.server.should_exit = True
        await self.task
        self.listener.close()


async def test_what_runs_and_what_waits_is_given_up_in_words(engine: EmbeddedEngine) -> None:
    """At the deadline running and waiting requests are answered with 503, and the server ends with its threads."""
    others = set(threading.enumerate())  # of applications of other tests, which may not have ended yet
    app = create_app({"docs": engine}, token="t", search_threads=2)
    running = Running(app, grace=0)
    async with httpx.AsyncClient(base_url=running.url, headers={"authorization": "Bearer t"}, timeout=60) as client:
        queries = [asyncio.create_task(client.post("/query", json=QUERY)) for _ in range(6)]
        for _ in range(2):
            await asyncio.to_thread(BEGUN.acquire)
        for _ in range(1_000):
            if 'waiting_requests{index="docs"} 4.0' in (await client.get("/metrics")).text:
                break
        await running.stop()
        replies = await asyncio.gather(*queries)
    assert [503] * 6 == [reply.status_code for reply in replies]
    assert all("The server is being stopped" in reply.json()["error"] for reply in replies)
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("nextk-search"):
            thread.join(60)
            assert not thread.is_alive()


async def test_requests_have_time_to_finish(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the deadline a stopped server lets requests finish, and answers them."""
    go_on = threading.Event()

    def query(_namespace: str, _query: Query) -> list[Match]:
        BEGUN.release()
        go_on.wait()
        require_wanted()
        return [Match("a")]

    monkeypatch.setattr(engine, "query", query)
    running = Running(create_app({"docs": engine}, token="t"), grace=60)
    async with httpx.AsyncClient(base_url=running.url, headers={"authorization": "Bearer t"}, timeout=60) as client:
        reply = asyncio.create_task(client.post("/query", json=QUERY))
        await asyncio.to_thread(BEGUN.acquire)
        stopping = asyncio.create_task(running.stop())
        await running.server.stopping.wait()
        go_on.set()
        assert [{"id": "a"}] == (await reply).json()["result"]
        await stopping
