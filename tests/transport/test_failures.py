"""The wire when it fails: what is repeated, what is not, and what a caller is told.

The scripted server misbehaves in every way that `nextk.transport.retries` lists; no page may be asked for twice once
the server may have seen it.
"""

import asyncio
import gc
import json
import logging
import pickle
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from nextk import AsyncIndex, Index, errors
from nextk.engine.engine import EmbeddedEngine
from nextk.errors import (
    AuthenticationError,
    ClientError,
    NextKError,
    PageUncertain,
    QueryNotFound,
    RefusedError,
    TooManyQueries,
    TransportError,
)
from nextk.handle import AsyncResumableQueryHandle
from tests.support.scripted_server import (
    HANG_UP,
    SLAM,
    TOKEN,
    Act,
    ScriptedServer,
    answer,
    error,
    late,
    result,
    unused_url,
)
from tests.support.subprocesses import output, python
from tests.support.transports import Awaitable

PAGE = [{"id": "a", "score": 0.5}]
STARTED = result({"uuid": "u", "scores": PAGE})
NEXT = result([{"id": "b", "score": 0.25}])
HTML = answer(502, b"<html>Bad gateway</html>", "text/html")
CUT = answer(200, b'{"result": [{"id": "b", "score": 0.25}]}', cut=10)
HALF = answer(200, b'{"result": [{"id": "b", "sc')
EMPTY = answer(200, b"")
STRANGE = answer(200, b'{"answer": 42}')
ARRAY = answer(200, b"[]")
MISSHAPEN = result([{"id": "b"}])
TOO_MANY_REQUESTS = error(429, "Exceeded rate limit")
BARE_429 = answer(429, b"slow down", "text/plain")
FAILED = error(500, "Internal server error")
REFUSED = error(422, "Invalid vector dimension: 1, expected: 2")


Client = Callable[..., AsyncIndex]


async def opened(index: AsyncIndex) -> AsyncResumableQueryHandle:
    """A handle whose first page has come."""
    _, handle = await index.resumable_query([1.0], 1)
    return handle


def stopped(handle: AsyncResumableQueryHandle) -> None:
    """Forget a handle that the script has no act for."""
    inner = handle.inner if isinstance(handle, Awaitable) else handle
    inner._state.uuid, inner._state.status = "", type(inner._state.status).STOPPED


UNCERTAIN: dict[str, Act] = {
    "hangs up after reading": HANG_UP,
    "hangs up at once": SLAM,
    "a gateway's page": HTML,
    "JSON 500": FAILED,
    "JSON 503": error(503, "unavailable"),
    "a body cut short": CUT,
    "half of a JSON text": HALF,
    "an empty body": EMPTY,
    "JSON without an envelope": STRANGE,
    "a JSON array": ARRAY,
    "a result of another shape": MISSHAPEN,
}


class TestPages:
    """The start and the pages of a resumable query."""

    @pytest.mark.parametrize("act", UNCERTAIN.values(), ids=UNCERTAIN)
    async def test_lost_page(self, client: Client, act: Act) -> None:
        """A page whose fate is unknown is never asked for again: the handle refuses, but can be stopped."""
        with ScriptedServer(STARTED, act) as server:
            async with client(server) as index:
                handle = await opened(index)
                with pytest.raises(PageUncertain):
                    await handle.fetch_next(1)
                with pytest.raises(PageUncertain):
                    await handle.fetch_next(1)
                assert 2 == server.connections
                await handle.stop()
            assert "resumable-query-end" == server.commands[-1]
            assert {"uuid": "u"} == server.seen[-1].body
            assert 3 == server.connections

    @pytest.mark.parametrize("act", UNCERTAIN.values(), ids=UNCERTAIN)
    async def test_lost_start(self, client: Client, act: Act) -> None:
        """A start whose fate is unknown is never repeated: it would leave a query open that nobody can name."""
        with ScriptedServer(act) as server:
            async with client(server) as index:
                with pytest.raises(PageUncertain):
                    await index.resumable_query([1.0], 1)
            assert 1 == server.connections

    async def test_timeout(self, client: Client) -> None:
        """A page that is late is lost."""
        with ScriptedServer(STARTED, late(NEXT, 0.3)) as server:
            async with client(server, timeout=0.1) as index:
                handle = await opened(index)
                with pytest.raises(PageUncertain):
                    await handle.fetch_next(1)
                await handle.stop()
            assert ["resumable-query", "resumable-query-next", "resumable-query-end"] == server.commands

    @pytest.mark.parametrize("act", [TOO_MANY_REQUESTS, BARE_429], ids=["envelope", "bare"])
    async def test_too_many_requests(self, client: Client, act: Act) -> None:
        """On 429 the server has done nothing, so starts and pages are asked for again."""
        with ScriptedServer(act, act, STARTED, act, NEXT) as server:
            async with client(server) as index:
                page, handle = await index.resumable_query([1.0], 1)
                assert ["a"] == [match.id for match in page]
                assert ["b"] == [match.id for match in await handle.fetch_next(1)]
                await handle.stop()
            assert ["resumable-query"] * 3 + ["resumable-query-next"] * 2 == server.commands[:-1]

    async def test_too_many_requests_for_good(self, client: Client) -> None:
        """If 429 goes on, the page is not lost: the caller may ask again later."""
        with ScriptedServer(STARTED, *[TOO_MANY_REQUESTS] * 3, NEXT) as server:
            async with client(server) as index:
                handle = await opened(index)
                with pytest.raises(RefusedError) as caught:
                    await handle.fetch_next(1)
                assert 429 == caught.value.status
                assert ["b"] == [match.id for match in await handle.fetch_next(1)]
                await handle.stop()

    async def test_never_connected(self, client: Client) -> None:
        """A connection that was never made is tried again; then the caller hears of it, and nothing is lost."""
        index = client(unused_url())
        async with index:
            with pytest.raises(TransportError) as caught:
                await index.resumable_query([1.0], 1)
            assert type(caught.value) is TransportError

    async def test_never_connected_page(self, client: Client) -> None:
        """A page that could not be asked for is not uncertain: the handle goes on when the server is back."""
        server = ScriptedServer(STARTED)
        with server:
            index = client(server)
            handle = await opened(index)
        with pytest.raises(TransportError) as caught:
            await handle.fetch_next(1)
        assert type(caught.value) is TransportError
        assert "OPEN" == handle._state.status.name
        stopped(handle)
        await index.close()

    @pytest.mark.parametrize("act", [REFUSED, error(404, "no such thing")], ids=["422", "404"])
    async def test_refused_start(self, client: Client, act: Act) -> None:
        """A JSON refusal is an answer: its own error at once."""
        with ScriptedServer(act) as server:
            async with client(server) as index:
                with pytest.raises(RefusedError) as caught:
                    await index.resumable_query([1.0], 1)
            body = json.loads(act.reply.partition(b"\r\n\r\n")[2]) if act.reply else {}
            assert (body["error"], body["status"]) == (str(caught.value), caught.value.status)
            assert 1 == server.connections

    async def test_unknown_query(self, client: Client) -> None:
        """A query that the server does not know any more is not found, and stays so."""
        gone = error(404, "Resumable query with uuid u does not exist")
        with ScriptedServer(STARTED, gone) as server:
            async with client(server) as index:
                handle = await opened(index)
                for _ in range(2):
                    with pytest.raises(QueryNotFound) as caught:
                        await handle.fetch_next(1)
                    assert 404 == caught.value.status
            assert 2 == server.connections

    async def test_cap(self, client: Client) -> None:
        """A server without room for another query is told apart from other refusals."""
        act = error(403, "Exceeded max active resumable query limit: 100")
        with ScriptedServer(act) as server:
            async with client(server) as index:
                with pytest.raises(TooManyQueries) as caught:
                    await index.resumable_query([1.0], 1)
            assert (403, 1) == (caught.value.status, server.connections)


class TestStop:
    """Stopping over a bad line."""

    @pytest.mark.parametrize("act", [HANG_UP, SLAM, HTML, EMPTY, CUT], ids=["read", "slam", "html", "empty", "cut"])
    async def test_repeated(self, client: Client, act: Act) -> None:
        """A stop whose answer is lost is sent again; hearing then that there is no such query is success."""
        gone = error(404, "Resumable query with uuid u does not exist")
        with ScriptedServer(STARTED, act, gone) as server:
            async with client(server) as index:
                await (await opened(index)).stop()
            assert 3 == server.connections

    async def test_after_429(self, client: Client) -> None:
        """After a mere 429 nobody has stopped the query yet, so "no such query" is not success."""
        gone = error(404, "Resumable query with uuid u does not exist")
        with ScriptedServer(STARTED, TOO_MANY_REQUESTS, gone) as server:
            async with client(server) as index:
                handle = await opened(index)
                with pytest.raises(QueryNotFound):
                    await handle.stop()

    async def test_first_answer_counts(self, client: Client) -> None:
        """A stop that is refused at once was of no use, and says so."""
        gone = error(404, "Resumable query with uuid u does not exist")
        with ScriptedServer(STARTED, gone) as server:
            async with client(server) as index:
                handle = await opened(index)
                with pytest.raises(QueryNotFound):
                    await handle.stop()

    async def test_leaving_never_raises(self, client: Client) -> None:
        """Leaving the block is quiet whatever the server does, and does not hide the body's error.

        A stop that was lost each time is made once more with the next request, and when the index is closed.
        """
        stopped = result("Success")
        with ScriptedServer(STARTED, *[HTML] * 3, stopped, STARTED, *[HANG_UP] * 3, stopped) as server:
            async with client(server) as index:
                async with await opened(index):
                    pass
                with pytest.raises(ZeroDivisionError):
                    async with await opened(index):
                        raise ZeroDivisionError
            assert 10 == server.connections


REPEATABLE: dict[str, tuple[Callable[[AsyncIndex], Any], Any]] = {
    "query": (lambda index: index.query([1.0]), PAGE),
    "upsert": (lambda index: index.upsert([("a", [1.0])]), "Success"),
    "update": (lambda index: index.update("a", data="x"), {"updated": 1}),
    "delete": (lambda index: index.delete("a"), {"deleted": 1}),
    "fetch": (lambda index: index.fetch("a"), [None]),
    "range": (lambda index: index.range(), {"nextCursor": "", "vectors": []}),
    "reset": (lambda index: index.reset(), "Success"),
    "list-namespaces": (lambda index: index.list_namespaces(), [""]),
    "delete-namespace/x": (lambda index: index.delete_namespace("x"), "Success"),
}


class TestOthers:
    """Everything that may be repeated."""

    @pytest.mark.parametrize("command", REPEATABLE)
    async def test_repeated(self, client: Client, command: str) -> None:
        """What may be done twice is repeated when its answer does not come, and the same request each time."""
        call, value = REPEATABLE[command]
        with ScriptedServer(HANG_UP, HTML, result(value)) as server:
            async with client(server) as index:
                await call(index)
            assert [command] * 3 == server.commands
            assert 1 == len({json.dumps(seen.body) for seen in server.seen})

    @pytest.mark.parametrize("act", [HANG_UP, SLAM, HTML, HALF, CUT, EMPTY], ids=range(6))
    async def test_gives_up(self, client: Client, act: Act) -> None:
        """After `retries` repeats the caller hears of it."""
        with ScriptedServer(act, act, act) as server:
            async with client(server) as index:
                with pytest.raises(TransportError) as caught:
                    await index.query([1.0])
            assert (type(caught.value), 3) == (TransportError, server.connections)

    @pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (-5, 1)])
    async def test_retries(self, client: Client, retries: int, attempts: int) -> None:
        """`retries` counts the repeats; there is always one attempt."""
        with ScriptedServer(*[HANG_UP] * 9) as server:
            async with client(server, retries) as index:
                with pytest.raises(TransportError):
                    await index.info()
            assert attempts == server.connections

    @pytest.mark.parametrize("act", [FAILED, REFUSED], ids=["500", "422"])
    async def test_refusals_are_answers(self, client: Client, act: Act) -> None:
        """A JSON refusal is raised at once, whatever its status."""
        with ScriptedServer(act) as server:
            async with client(server) as index:
                with pytest.raises(RefusedError) as caught:
                    await index.query([1.0])
            assert caught.value.status in (500, 422)
            assert 1 == server.connections

    async def test_429(self, client: Client) -> None:
        """429 is tried again, then raised with its status."""
        with ScriptedServer(TOO_MANY_REQUESTS, result(PAGE), *[BARE_429] * 3) as server:
            async with client(server) as index:
                assert ["a"] == [match.id for match in await index.query([1.0])]
                with pytest.raises(RefusedError) as caught:
                    await index.query([1.0])
            assert (429, 5) == (caught.value.status, server.connections)

    @pytest.mark.parametrize("act", [MISSHAPEN, result(None)], ids=["field", "null"])
    async def test_other_shape(self, client: Client, act: Act) -> None:
        """A result of another shape would be no better the next time."""
        with ScriptedServer(act) as server:
            async with client(server) as index:
                with pytest.raises(TransportError, match="shape"):
                    await index.query([1.0])
            assert 1 == server.connections

    @pytest.mark.parametrize("text", ["Unauthorized: Invalid auth token", "whatever"])
    async def test_unauthorized(self, client: Client, text: str) -> None:
        """401 is an error of its own kind, raised at once."""
        with ScriptedServer(error(401, text)) as server:
            async with client(server) as index:
                with pytest.raises(AuthenticationError) as caught:
                    await index.info()
            assert (text, 401, 1) == (str(caught.value), caught.value.status, server.connections)

    async def test_read_only(self, client: Client) -> None:
        """A token that may not write is told by the words of the refusal."""
        act = error(403, "Forbidden: read-only token cannot perform write operations")
        with ScriptedServer(act) as server:
            async with client(server) as index:
                with pytest.raises(AuthenticationError) as caught:
                    await index.reset()
            assert 403 == caught.value.status

    async def test_request(self, client: Client) -> None:
        """A request has the token, JSON, and nothing that tells about the machine."""
        with ScriptedServer(result(PAGE)) as server:
            async with client(server.url + "/") as index:
                await index.query([1.0])
            [seen] = server.seen
            assert "/query" == seen.path
            assert (f"Bearer {TOKEN}", "application/json") == (
                seen.headers["authorization"],
                seen.headers["content-type"],
            )
            assert not [name for name in seen.headers if "telemetry" in name]


class Gate:
    """Holds up a call until a test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.done = threading.Event()


class Noticed(deque[str]):
    """A deque that tells when something was appended."""

    def __init__(self) -> None:
        super().__init__()
        self.appended = threading.Event()

    def append(self, item: str) -> None:
        """Append, and tell."""
        super().append(item)
        self.appended.set()


@pytest.fixture
def gated_start(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds up starts within the engine when their query is open, since one that is abandoned before opens none."""
    gate, whole = Gate(), EmbeddedEngine.start

    def gated(engine: EmbeddedEngine, *arguments: Any, **options: Any) -> Any:
        try:
            return whole(engine, *arguments, **options)
        finally:
            gate.reached.set()
            assert gate.go_on.wait(5)
            gate.done.set()

    monkeypatch.setattr(EmbeddedEngine, "start", gated)
    return gate


class TestCancellation:
    """Asynchronous calls that nobody waits for any more."""

    async def test_cancelled_page(self) -> None:
        """Cancelling a page stops its query at once, and only then the cancellation goes on."""
        with ScriptedServer(STARTED, late(NEXT)) as server:
            async with AsyncIndex(server.url, TOKEN) as index:
                handle = await opened(index)
                task = asyncio.create_task(handle.fetch_next(1))
                assert await asyncio.to_thread(server.arrived.wait, 5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert ["resumable-query", "resumable-query-next", "resumable-query-end"] == server.commands
                with pytest.raises(RefusedError):
                    await handle.fetch_next(1)
                assert 3 == server.connections

    async def test_cancelled_scope(self) -> None:
        """The same within a cancelled scope, whose every further await would be cancelled, too."""
        with ScriptedServer(STARTED, late(NEXT)) as server:
            async with AsyncIndex(server.url, TOKEN) as index:
                handle = await opened(index)
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(handle.fetch_next, 1)
                        assert await asyncio.to_thread(server.arrived.wait, 5)
                        scope.cancel()
                assert scope.cancelled_caught
                assert "resumable-query-end" == server.commands[-1]
                assert not handle._state.held

    async def test_deadline(self) -> None:
        """A page that misses a deadline of its caller stops its query, within the deadline's own block."""
        with ScriptedServer(STARTED, late(NEXT)) as server:
            async with AsyncIndex(server.url, TOKEN) as index:
                handle = await opened(index)
                with anyio.move_on_after(0.1) as scope:
                    async with handle:
                        await handle.fetch_next(1)
                assert scope.cancelled_caught
                assert ["resumable-query", "resumable-query-next", "resumable-query-end"] == server.commands

    async def test_cancelled_body(self) -> None:
        """A block that is left by cancellation stops its query under a shield."""
        with ScriptedServer(STARTED) as server:
            async with AsyncIndex(server.url, TOKEN) as index:
                with anyio.CancelScope() as scope:
                    async with await opened(index):
                        scope.cancel()
                        await anyio.sleep(5)
                assert scope.cancelled_caught
                assert ["resumable-query", "resumable-query-end"] == server.commands

    async def test_cancelled_stop_that_fails(self) -> None:
        """If the stop of a cancelled page fails, the cancellation is still what comes out."""
        with ScriptedServer(STARTED, late(NEXT), *[HTML] * 9) as server:
            async with AsyncIndex(server.url, TOKEN, 0) as index:
                handle = await opened(index)
                task = asyncio.create_task(handle.fetch_next(1))
                assert await asyncio.to_thread(server.arrived.wait, 5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    async def test_cancelled_while_waiting(self) -> None:
        """A caller that is cancelled while it waits for another one's page disturbs nobody."""
        with ScriptedServer(STARTED, late(NEXT), NEXT) as server:
            async with AsyncIndex(server.url, TOKEN) as index:
                handle = await opened(index)
                first = asyncio.create_task(handle.fetch_next(1))
                assert await asyncio.to_thread(server.arrived.wait, 5)
                second = asyncio.create_task(handle.fetch_next(1))
                await asyncio.sleep(0)
                second.cancel()
                assert ["b"] == [match.id for match in await first]
                with pytest.raises(asyncio.CancelledError):
                    await second
                assert ["b"] == [match.id for match in await handle.fetch_next(1)]
                await handle.stop()

    async def test_cancelled_in_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In process a cancelled page is uncertain as well: its query is stopped when the engine is done with it."""
        async with AsyncIndex.embedded(type="dense", dimension=1) as index:
            await index.upsert([(name, [1.0]) for name in "abc"])
            handle = await opened(index)
            reading, go_on = threading.Event(), threading.Event()
            whole = EmbeddedEngine.fetch_next

            def gated(engine: EmbeddedEngine, uuid: str, count: int, number: int | None = None) -> Any:
                reading.set()
                assert go_on.wait(5)
                return whole(engine, uuid, count, number)

            monkeypatch.setattr(EmbeddedEngine, "fetch_next", gated)
            task = asyncio.create_task(handle.fetch_next(1))
            assert await asyncio.to_thread(reading.wait, 5)
            task.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(RefusedError):
                await handle.fetch_next(1)
            await index.info()
            assert 0 == engine_of(index).open_queries()

    async def test_cancelled_start_in_process(self, gated_start: Gate) -> None:
        """A start that is cancelled while the engine works on it leaves no query behind: the next call stops it."""
        async with AsyncIndex.embedded(type="dense", dimension=1) as index:
            engine, orphans = engine_of(index), Noticed()
            index._transport.orphans = orphans
            await self.cancel_start(index, gated_start)
            gated_start.go_on.set()
            assert await asyncio.to_thread(orphans.appended.wait, 5)
            assert 1 == engine.open_queries()
            await index.info()
            assert 0 == engine.open_queries()

    async def test_cancelled_before_the_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A start that is cancelled before the engine searches opens no query at all."""
        gate, whole = Gate(), EmbeddedEngine.start

        def gated(engine: EmbeddedEngine, *arguments: Any, **options: Any) -> Any:
            gate.reached.set()
            assert gate.go_on.wait(5)
            try:
                return whole(engine, *arguments, **options)
            finally:
                gate.done.set()

        monkeypatch.setattr(EmbeddedEngine, "start", gated)
        async with AsyncIndex.embedded(type="dense", dimension=1) as index:
            await self.cancel_start(index, gate)
            gate.go_on.set()
            assert await asyncio.to_thread(gate.done.wait, 5)
            assert 0 == engine_of(index).open_queries()

    async def test_closed_after_a_cancelled_start(self, gated_start: Gate, tmp_path: Path) -> None:
        """Nor does it if the index is closed meanwhile, and its engine goes on for others."""
        async with AsyncIndex.embedded(tmp_path / "index", type="dense", dimension=1) as other:
            index = AsyncIndex.embedded(tmp_path / "index")
            await self.cancel_start(index, gated_start)
            closing = asyncio.create_task(index.close())
            await asyncio.wait([closing], timeout=0.1)
            gated_start.go_on.set()
            await closing
            assert await asyncio.to_thread(gated_start.done.wait, 5)
            await other.info()
            assert 0 == engine_of(other).open_queries()

    async def cancel_start(self, index: AsyncIndex, gate: Gate) -> None:
        """Cancel a start that the engine is working on."""
        task = asyncio.create_task(index.resumable_query([1.0]))
        assert await asyncio.to_thread(gate.reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_the_loop_is_never_blocked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While an embedded engine works, the event loop goes on."""
        async with AsyncIndex.embedded(type="dense", dimension=1) as index:
            working = threading.Event()
            whole = EmbeddedEngine.list_namespaces

            def gated(engine: EmbeddedEngine) -> list[str]:
                assert working.wait(5)  # set by the loop, which is therefore free
                return whole(engine)

            monkeypatch.setattr(EmbeddedEngine, "list_namespaces", gated)
            names, _ = await asyncio.gather(index.list_namespaces(), asyncio.to_thread(working.set))
            assert [""] == names


def engine_of(index: AsyncIndex) -> EmbeddedEngine:
    """The engine of an embedded index."""
    return cast("EmbeddedEngine", cast("Any", index)._transport._shared_engine.engine)


class TestDropped:
    """Handles that nobody stopped."""

    async def test_next_call(self, client: Client) -> None:
        """The next call stops the queries of dropped handles before it does its own work."""
        with ScriptedServer(STARTED, result("Success"), result([""])) as server:
            async with client(server) as index:
                held = [await opened(index)]
                with pytest.warns(ResourceWarning, match="was dropped while open"):
                    held.clear()
                assert [""] == await index.list_namespaces()
            assert ["resumable-query", "resumable-query-end", "list-namespaces"] == server.commands
            assert {"uuid": "u"} == server.seen[1].body

    async def test_close(self, client: Client) -> None:
        """Closing the index stops them."""
        with ScriptedServer(STARTED) as server:
            async with client(server) as index:
                held = [await opened(index)]
                with pytest.warns(ResourceWarning):
                    held.clear()
            assert ["resumable-query", "resumable-query-end"] == server.commands

    @pytest.mark.parametrize("act", [HANG_UP, HTML, error(404, "gone")], ids=["broken", "html", "gone"])
    async def test_a_stop_that_fails(self, client: Client, act: Act) -> None:
        """A dropped query that cannot be stopped is left to expire; the call that tried is none the worse."""
        with ScriptedServer(STARTED, act, result([""])) as server:
            async with client(server) as index:
                held = [await opened(index)]
                with pytest.warns(ResourceWarning):
                    held.clear()
                assert [""] == await index.list_namespaces()

    EXIT = """
import gc, sys, warnings
warnings.simplefilter("default")
from nextk import Index
index = Index(sys.argv[1], "s3cret-t0ken")
page, handle = index.resumable_query([1.0])
del handle
gc.collect()
print("dropped", flush=True)
"""

    def test_exit(self) -> None:
        """The end of the process stops them."""
        with ScriptedServer(STARTED) as server, python(self.EXIT, server.url) as process:
            printed, complaints = process.communicate()
            assert "dropped" == printed.strip()
            assert "ResourceWarning" in complaints
            assert TOKEN not in complaints
            assert ["resumable-query", "resumable-query-end"] == server.commands

    def test_exit_without_a_server(self) -> None:
        """The end of the process is not held up, nor spoilt, by a server that is gone."""
        with ScriptedServer(STARTED) as server, python(self.EXIT + "sys.stdin.read()", server.url) as process:
            assert process.stdout is not None
            assert "dropped" == process.stdout.readline().strip()
            server.stop()
            _, complaints = process.communicate()
            assert 0 == process.returncode
            assert "Traceback" not in complaints

    @pytest.mark.parametrize(
        "process",
        [
            "child",
            "parent",
        ],
    )
    def test_fork(self, process: str) -> None:
        """A handle that was inherited by a fork is not the child's to stop: dropping it there does nothing."""
        code = f"""
import os, sys, warnings
from nextk import Index
index = Index(sys.argv[1], "t")
page, handle = index.resumable_query([1.0])
child = os.fork()
if child == 0:
    warnings.simplefilter("ignore")
    {"del handle; index.info()" if process == "child" else "pass"}
    os._exit(0)
os.waitpid(child, 0)
print([match.id for match in handle.fetch_next(1)])
handle.stop()
"""
        info = {"vectorCount": 0, "pendingVectorCount": 0, "indexSize": 0, "dimension": 1, "similarityFunction": ""}
        script = [STARTED, *([result(info)] if process == "child" else []), NEXT]
        with ScriptedServer(*script) as server:
            assert "['b']" == output(code, server.url)
            assert 1 == server.commands.count("resumable-query-end")


class TestLoops:
    """One index in several event loops and threads."""

    def test_two_loops(self) -> None:
        """One asynchronous index serves one event loop after the other."""
        with ScriptedServer(*[result([""])] * 4) as server:
            index = AsyncIndex(server.url, TOKEN)

            async def ask() -> list[str]:
                return await index.list_namespaces()

            async def ask_and_close() -> list[str]:
                names = await index.list_namespaces()
                await index.close()
                return names

            assert [[""], [""], [""]] == [asyncio.run(job()) for job in (ask_and_close, ask_and_close, ask_and_close)]

    def test_two_loops_at_once(self) -> None:
        """One asynchronous index serves two event loops in two threads at the same time."""
        with ScriptedServer(late(result([""]), 0.1), late(result([""]), 0.1)) as server:
            index = AsyncIndex(server.url, TOKEN)
            answers: list[Future[list[str]]] = [Future(), Future()]

            async def ask(future: Future[list[str]]) -> None:
                future.set_result(await index.list_namespaces())
                await index.close()

            threads = [threading.Thread(target=lambda future=future: asyncio.run(ask(future))) for future in answers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [[""], [""]] == [future.result(0) for future in answers]

    def test_two_loops_in_process(self) -> None:
        """An embedded index serves several event loops, too."""

        async def ask() -> int:
            return (await index.info()).vector_count

        index = AsyncIndex.embedded(type="dense", dimension=1)
        assert [0, 0] == [asyncio.run(ask()), asyncio.run(ask())]
        asyncio.run(index.close())

    def test_a_loop_that_ended_without_closing(self) -> None:
        """A loop that ended without closing the index does not spoil the next one."""
        with ScriptedServer(*[result([""])] * 2) as server:
            code = """
import asyncio, sys
from nextk import AsyncIndex
index = AsyncIndex(sys.argv[1], "t")
async def ask():
    return await index.list_namespaces()
async def ask_and_close():
    async with index:
        return await ask()
print(asyncio.run(ask()), asyncio.run(ask_and_close()))
"""
            assert "[''] ['']" == output(code, server.url)


FAILURES: dict[str, NextKError] = {
    "client": ClientError("misuse"),
    "locked": errors.IndexLocked("no"),
    "policy": errors.PolicyMismatch("no"),
    "upstash": RefusedError("no", 422),
    "authentication": AuthenticationError("no", 401),
    "not found": QueryNotFound("no", 404),
    "too many": TooManyQueries("no", 403),
    "transport": TransportError("no"),
    "uncertain": PageUncertain("no"),
    "limit": errors.LimitReached("no"),
    "failed": errors.SearchFailed("no"),
    "extra": errors.MissingExtraError("no"),
}


class TestErrors:
    """The errors themselves."""

    @pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
    def test_pickle(self, failure: NextKError) -> None:
        """Every error survives pickling with its words and its status."""
        again = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own
        assert type(again) is type(failure)
        assert (str(failure), vars(failure)) == (str(again), vars(again))

    def test_tree(self) -> None:
        """The tree is the documented one."""
        tree = {name: [base.__name__ for base in getattr(errors, name).__bases__] for name in errors.__all__}
        assert tree == {
            "NextKError": ["Exception"],
            "ClientError": ["NextKError", "ValueError"],
            "IndexLocked": ["ClientError"],
            "PolicyMismatch": ["ClientError"],
            "RefusedError": ["NextKError"],
            "AuthenticationError": ["RefusedError"],
            "QueryNotFound": ["RefusedError"],
            "UpstashError": ["NextKError"],
            "TooManyQueries": ["RefusedError"],
            "TransportError": ["NextKError"],
            "PageUncertain": ["TransportError"],
            "SearchFailed": ["NextKError"],
            "LimitReached": ["NextKError"],
            "MissingExtraError": ["NextKError", "ImportError"],
        }
        raised = {type(failure).__name__ for failure in FAILURES.values()}
        assert raised == set(errors.__all__) - {"NextKError", "UpstashError"}

    @pytest.mark.parametrize("act", [*UNCERTAIN.values(), REFUSED, error(401, "Unauthorized: Invalid auth token")])
    async def test_no_token(self, client: Client, act: Act, caplog: pytest.LogCaptureFixture) -> None:
        """The token shows in no error, representation or log."""
        caplog.set_level(logging.DEBUG)
        with ScriptedServer(STARTED, *[act] * 4) as server:
            async with client(server) as index:
                page, handle = await index.resumable_query([1.0], 1)
                shown = [repr(index), repr(handle), repr(index._transport), repr(page)]
                for call in (handle.fetch_next(1), index.query([1.0])):
                    with pytest.raises(NextKError) as caught:
                        await call
                    failure: BaseException | None = caught.value
                    while failure is not None:
                        shown += [str(failure), repr(failure), repr(vars(failure)), repr(failure.args)]
                        failure = failure.__cause__ or failure.__context__
                    shown.append(repr(pickle.dumps(caught.value)))
                stopped(handle)
        assert TOKEN not in "\n".join([*shown, caplog.text])


def test_nothing_is_collected_late() -> None:
    """Indexes that nobody closed leave no warning behind but those of open handles."""
    with ScriptedServer(result([""])) as server:
        assert [""] == Index(server.url, TOKEN).list_namespaces()
        gc.collect()
