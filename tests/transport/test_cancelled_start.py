"""Starts that nobody waits for any more, over HTTP: their queries are stopped as soon as they are known."""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any, cast

import anyio
import pytest

from nextk import AsyncIndex
from nextk.engine.engine import EmbeddedEngine
from nextk.transport import http
from nextk.transport.http import HttpTransport
from tests.support.local_server import LocalServer
from tests.support.scripted_server import HANG_UP, TOKEN, Act, ScriptedServer, answer, error, late, result

STARTED = result({"uuid": "u", "scores": [{"id": "a", "score": 0.5}]})
ABSENT = result({"uuid": "", "scores": []})

Start = Callable[[], Coroutine[Any, Any, object]]


async def by_task(start: Start, server: ScriptedServer) -> None:
    """Cancel a task."""
    task = asyncio.create_task(start())
    assert await asyncio.to_thread(server.arrived.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_scope(start: Start, server: ScriptedServer) -> None:
    """Cancel a scope of anyio, which cancels again and again until it is left."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            assert await asyncio.to_thread(server.arrived.wait, 5)
            scope.cancel()
    assert scope.cancelled_caught


async def by_deadline(start: Start, server: ScriptedServer) -> None:
    """Miss a deadline of anyio."""
    with anyio.move_on_after(0.1) as scope:
        await start()
    assert scope.cancelled_caught


async def by_timeout(start: Start, server: ScriptedServer) -> None:
    """Miss a deadline of asyncio."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await start()


async def by_wait_for(start: Start, server: ScriptedServer) -> None:
    """Miss the older kind of deadline of asyncio."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(start(), 0.1)


CANCELLATIONS = [by_task, by_scope, by_deadline, by_timeout, by_wait_for]

Cancellation = Callable[[Start, ScriptedServer], Coroutine[Any, Any, None]]


def transport_of(index: AsyncIndex) -> HttpTransport:
    """The transport of an index that is served."""
    return cast("HttpTransport", index._transport)


@pytest.mark.parametrize("cancel", CANCELLATIONS)
async def test_closing_stops_it(cancel: Cancellation) -> None:
    """Closing waits for the reply, then stops the query that nobody has asked for."""
    with ScriptedServer(late(STARTED, 0.4)) as server:
        async with AsyncIndex(server.url, TOKEN) as index:
            await cancel(lambda: index.resumable_query([1.0]), server)
        assert ["resumable-query", "resumable-query-end"] == server.commands
        assert {"uuid": "u"} == server.seen[-1].body


@pytest.mark.parametrize("cancel", CANCELLATIONS)
async def test_the_next_call_stops_it(cancel: Cancellation) -> None:
    """If the index goes on, the next call after the reply stops the query."""
    with ScriptedServer(late(STARTED, 0.4), result("Success"), result([""])) as server:
        async with AsyncIndex(server.url, TOKEN) as index:
            await cancel(lambda: index.resumable_query([1.0]), server)
            gc.collect()
            await asyncio.wait(list(transport_of(index)._abandoned))
            assert [""] == await index.list_namespaces()
            assert set() == transport_of(index)._abandoned
        assert ["resumable-query", "resumable-query-end", "list-namespaces"] == server.commands


@pytest.mark.parametrize(
    "act",
    [HANG_UP, error(422, "no"), answer(502, b"<html>"), ABSENT, error(429, "later")],
    ids=["broken", "refused", "html", "absent", "429"],
)
async def test_a_start_that_fails(act: Act) -> None:
    """If no query was opened after all, nothing follows: no warning, no repeat, no stop."""
    with ScriptedServer(late(act)) as server:
        async with AsyncIndex(server.url, TOKEN, retries=3, retry_interval=0.0) as index:
            await by_task(lambda: index.resumable_query([1.0]), server)
        gc.collect()
        assert ["resumable-query"] == server.commands


async def test_cancelled_between_two_attempts() -> None:
    """A start that is cancelled before its next attempt makes none."""
    with ScriptedServer(late(error(429, "later"), 0.01)) as server:
        async with AsyncIndex(server.url, TOKEN, retry_interval=5.0) as index:
            with anyio.move_on_after(0.3) as scope:
                await index.resumable_query([1.0])
            assert scope.cancelled_caught
        assert ["resumable-query"] == server.commands


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Closing waits for a start only so long, then leaves its query to expire and says so."""
    caplog.set_level(logging.INFO, "nextk")
    monkeypatch.setattr(http, "CLOSE_TIMEOUT", 0.05)
    with ScriptedServer(late(STARTED, 0.6)) as server:
        async with AsyncIndex(server.url, TOKEN) as index:
            await by_task(lambda: index.resumable_query([1.0]), server)
            starts = list(transport_of(index)._abandoned)
            await index.close()
            await asyncio.wait(starts)
            assert set() == transport_of(index)._abandoned
    assert ["resumable-query"] == server.commands
    assert "is left to expire, if there is one: the event loop has ended, or the index was closed" in caplog.text


def test_the_end_of_the_loop() -> None:
    """If the event loop ends before the reply, the start is cancelled for good, and nothing is said of it."""

    async def leave(index: AsyncIndex, server: ScriptedServer) -> None:
        await by_task(lambda: index.resumable_query([1.0]), server)

    with ScriptedServer(late(STARTED)) as server:
        index = AsyncIndex(server.url, TOKEN)
        asyncio.run(leave(index, server))
        gc.collect()
        assert set() == transport_of(index)._abandoned
        assert ["resumable-query"] == server.commands


async def test_whenever_it_is_cancelled(local_server: LocalServer) -> None:
    """Wherever a start is interrupted, closing leaves no query open on a real server."""
    url = local_server.add("cancelled-start", type="dense", dimension=1)
    engine = local_server.engines["cancelled-start"]
    assert isinstance(engine, EmbeddedEngine)
    async with AsyncIndex(url, local_server.token) as index:
        await index.upsert([("a", [1.0])])
        for steps in range(30):
            task = asyncio.create_task(index.resumable_query([1.0]))
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:  # the reply was faster
                await task.result()[1].stop()
    assert 0 == engine.open_queries()
    del local_server.engines["cancelled-start"]
    engine.close()


async def test_a_cancelled_stop_of_an_orphan_is_made_up_for() -> None:
    """A call that is cancelled while it stops a dropped query leaves that to the next call."""
    with ScriptedServer(late(result("Success"))) as server:
        async with AsyncIndex(server.url, TOKEN) as index:
            index._transport.orphans.append("u")
            await by_task(index.list_namespaces, server)
            assert ["u"] == list(index._transport.orphans)
        assert ["resumable-query-end"] * 2 == server.commands
