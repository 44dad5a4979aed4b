"""A server that numbers pages, over HTTP: what is sent again, and that another server is sent nothing of it."""

import asyncio
import logging
import threading
from collections.abc import Awaitable as Waiting
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest

from nextk import AsyncIndex, Index
from nextk.engine.engine import EmbeddedEngine
from nextk.errors import PageUncertain, QueryNotFound, RefusedError, TooManyQueries, TransportError
from nextk.transport import http, in_process
from tests.support.scripted_server import (
    HANG_UP,
    SLAM,
    TOKEN,
    Act,
    ScriptedServer,
    answer,
    error,
    headed,
    late,
    numbered,
    result,
)

Client = Callable[..., AsyncIndex]

MATCHES = [{"id": "a", "score": 0.5}]
STARTED = result({"uuid": "u", "scores": MATCHES})
INFO = {
    "vectorCount": 1,
    "pendingVectorCount": 0,
    "indexSize": 1,
    "dimension": 1,
    "similarityFunction": "COSINE",
    "namespaces": {},
}
SAYS_SO = result({**INFO, "numberedPages": True})
NO_SUCH_QUERY = error(404, "Resumable query with uuid u does not exist")


def page(number: int, *names: str) -> Act:
    """Answer with a page and its number."""
    return numbered(result({"pageNumber": number, "scores": [{"id": name, "score": 0.25} for name in names]}))


def bodies(server: ScriptedServer, command: str) -> list[Any]:
    """The bodies of the requests of a command, in order."""
    return [seen.body for seen in server.seen if seen.path == f"/{command}"]


def pages_requested(server: ScriptedServer) -> list[tuple[int | None, int]]:
    """The number and the count of each request for a page."""
    return [(body.get("pageNumber"), body["additionalK"]) for body in bodies(server, "resumable-query-next")]


LOSSES: dict[str, Act] = {
    "hangs up after reading": HANG_UP,
    "hangs up at once": SLAM,
    "a gateway's page": answer(502, b"<html>Bad gateway</html>", "text/html"),
    "JSON of a gateway": answer(503, b'{"message": "no upstream"}'),
    "JSON 500": numbered(error(500, "Internal server error")),
    "a body cut short": numbered(answer(200, b'{"result": []}', cut=5)),
    "an empty body": numbered(answer(200, b"")),
    "JSON without an envelope": answer(200, b'{"answer": 42}'),
    "429": numbered(error(429, "Exceeded rate limit")),
}


@pytest.mark.parametrize("act", LOSSES.values(), ids=LOSSES)
class TestLosses:
    """A reply that is lost, in every way."""

    async def test_page(self, client: Client, act: Act) -> None:
        """A lost page is requested again by its number, and the next one follows it."""
        with ScriptedServer(numbered(STARTED), act, page(2, "b"), page(3, "c")) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                async with handle:
                    assert ["b"] == [match.id for match in await handle.fetch_next(1)]
                    assert ["c"] == [match.id for match in await handle.fetch_next(2)]
            lost = [] if act is SLAM else [(2, 1)]
            assert [*lost, (2, 1), (3, 2)] == pages_requested(server)

    async def test_page_for_good(self, client: Client, act: Act) -> None:
        """If it stays lost, the caller is told, and the next call requests the same page."""
        with ScriptedServer(numbered(STARTED), act, page(2, "b")) as server:
            async with client(server, 0) as index:
                _, handle = await index.resumable_query([1.0], 1)
                async with handle:
                    with pytest.raises((TransportError, RefusedError)) as caught:
                        await handle.fetch_next(1)
                    assert type(caught.value) in (TransportError, RefusedError)
                    assert ["b"] == [match.id for match in await handle.fetch_next(1)]
            assert (2, 1) == pages_requested(server)[-1]

    async def test_start(self, client: Client, act: Act) -> None:
        """A lost start is sent again with the uuid of the first attempt."""
        with ScriptedServer(SAYS_SO, act, numbered(STARTED)) as server:
            async with client(server) as index:
                await index.info()
                first, handle = await index.resumable_query([1.0], 1)
                await handle.stop()
            assert ["a"] == [match.id for match in first]
            sent = bodies(server, "resumable-query")
            assert len({body["uuid"] for body in sent}) == 1
            assert str(UUID(sent[0]["uuid"])) == sent[0]["uuid"]

    async def test_start_for_good(self, client: Client, act: Act) -> None:
        """A start that stays lost is stopped by the next call, unless the server surely opened no query."""
        with ScriptedServer(SAYS_SO, act) as server:
            async with client(server, 0) as index:
                await index.info()
                with pytest.raises((TransportError, RefusedError)):
                    await index.resumable_query([1.0], 1)
            ended = [body["uuid"] for body in bodies(server, "resumable-query-end")]
            if act is SLAM:  # the script has not read which query it was
                assert len(ended) == 1
            else:
                opened = [] if act is LOSSES["429"] else [body["uuid"] for body in bodies(server, "resumable-query")]
                assert opened == ended


CALLS: dict[str, tuple[Callable[[AsyncIndex], Waiting[Any]], Any]] = {
    "query": (lambda index: index.query([1.0]), MATCHES),
    "query-data": (lambda index: index.query(data="x"), MATCHES),
    "upsert": (lambda index: index.upsert([("a", [1.0])]), "Success"),
    "upsert-data": (lambda index: index.upsert([("a", "x")]), "Success"),
    "update": (lambda index: index.update("a", data="x"), {"updated": 1}),
    "delete": (lambda index: index.delete("a"), {"deleted": 1}),
    "fetch": (lambda index: index.fetch("a"), [None]),
    "range": (lambda index: index.range(), {"nextCursor": "", "vectors": []}),
    "reset": (lambda index: index.reset(), "Success"),
    "info": (lambda index: index.info(), INFO),
    "list-namespaces": (lambda index: index.list_namespaces(), [""]),
    "delete-namespace/x": (lambda index: index.delete_namespace("x"), "Success"),
}


class TestOtherServers:
    """A server that has not said that it numbers pages."""

    @pytest.mark.parametrize("query", [{"vector": [1.0]}, {"data": "x"}], ids=["vector", "text"])
    async def test_nothing_of_it_is_sent(self, client: Client, query: dict[str, Any]) -> None:
        """Whatever it was asked before, its starts carry no uuid, its pages no number, and nothing else has either."""
        acts = [act for _, value in CALLS.values() for act in (HANG_UP, result(value))]
        with ScriptedServer(*acts, STARTED, result(MATCHES), HANG_UP) as server:
            async with client(server) as index:
                for call, _ in CALLS.values():
                    await call(index)
                _, handle = await index.resumable_query(top_k=1, **query)
                await handle.fetch_next(1)
                with pytest.raises(PageUncertain):
                    await handle.fetch_next(1)
                await handle.stop()
            continued = ("/resumable-query-next", "/resumable-query-end")
            others = [seen for seen in server.seen if seen.path not in continued]
            start = "/resumable-query" if "vector" in query else "/resumable-query-data"
            assert {start, *(f"/{command}" for command in CALLS)} == {seen.path for seen in others}
            assert not [seen for seen in others if "uuid" in str(seen.body) or "pageNumber" in str(seen.body)]
            assert [{"uuid": "u", "additionalK": 1}] * 2 == bodies(server, "resumable-query-next")
            assert [{"uuid": "u"}] == bodies(server, "resumable-query-end")
            assert not [seen for seen in server.seen if "nextk" in str(seen.headers.keys()).lower()]

    async def test_another_version(self, client: Client) -> None:
        """A server that has a version of the extension which we do not know is sent nothing of ours."""
        with ScriptedServer(headed(STARTED, "Nextk-Numbered-Pages", "2"), result(MATCHES)) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                await handle.fetch_next(1)
                await handle.stop()
            assert [(None, 1)] == pages_requested(server)

    async def test_it_takes_the_place_of_one_that_does(self, client: Client) -> None:
        """A reply without the header ends it, even a refusal; from then on nothing of it is sent."""
        with ScriptedServer(numbered(STARTED), error(422, "no"), result("Success"), STARTED, result(MATCHES)) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                with pytest.raises(RefusedError):
                    await handle.fetch_next(0)
                await handle.stop()
                _, other = await index.resumable_query([1.0], 1)
                await other.fetch_next(1)
                await other.stop()
            assert [(2, 0), (None, 1)] == pages_requested(server)
            assert [] == [body["uuid"] for body in bodies(server, "resumable-query") if "uuid" in body]

    async def test_it_answers_a_repeat(self, client: Client) -> None:
        """If it answers a repeat, the page may be the one after the lost one: it is not delivered, nor any other."""
        with ScriptedServer(numbered(STARTED), HANG_UP, result([{"id": "c", "score": 0.1}])) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                for _ in range(2):
                    with pytest.raises(PageUncertain):
                        await handle.fetch_next(1)
                await handle.stop()
            assert [(2, 1)] * 2 == pages_requested(server)

    async def test_it_answers_a_later_call(self, client: Client) -> None:
        """If the caller requests the page again and the other server answers, no page is delivered."""
        with ScriptedServer(numbered(STARTED), HANG_UP, result([{"id": "c", "score": 0.1}])) as server:
            async with client(server, 0) as index:
                _, handle = await index.resumable_query([1.0], 1)
                with pytest.raises(TransportError):
                    await handle.fetch_next(1)
                for _ in range(2):
                    with pytest.raises(PageUncertain):
                        await handle.fetch_next(1)
                await handle.stop()
            assert [(2, 1)] * 2 == pages_requested(server)

    async def test_it_does_not_know_the_query(self, client: Client) -> None:
        """A server that was started anew does not know the query: the caller is told so."""
        with ScriptedServer(numbered(STARTED), HANG_UP, NO_SUCH_QUERY) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                with pytest.raises(QueryNotFound):
                    await handle.fetch_next(1)
            assert ["resumable-query", *["resumable-query-next"] * 2] == server.commands


class TestKnowing:
    """How a client learns that a server numbers pages."""

    @pytest.mark.parametrize("act", [error(422, "no"), error(404, "no such thing")], ids=["422", "404"])
    async def test_by_a_refusal(self, client: Client, act: Act) -> None:
        """Every reply of the server itself says so, a refusal too."""
        with ScriptedServer(numbered(act), numbered(STARTED)) as server:
            async with client(server) as index:
                with pytest.raises(RefusedError):
                    await index.query([1.0, 2.0])
                _, handle = await index.resumable_query([1.0], 1)
                await handle.stop()
            assert "uuid" in bodies(server, "resumable-query")[0]

    async def test_by_info_behind_a_proxy(self, client: Client) -> None:
        """Behind a proxy that removes headers, `info` says so, and replies without a header do not take it back."""
        with ScriptedServer(SAYS_SO, result([""]), STARTED, HANG_UP, page(2, "b")) as server:
            async with client(server) as index:
                assert (await index.info()).numbered_pages
                await index.list_namespaces()
                _, handle = await index.resumable_query([1.0], 1)
                assert ["b"] == [match.id for match in await handle.fetch_next(1)]
                await handle.stop()
            assert [(2, 1)] * 2 == pages_requested(server)

    async def test_info_saves_a_page(self, client: Client) -> None:
        """A page that was lost before is requested by its number once `info` has said that the server numbers pages."""
        with ScriptedServer(STARTED, result(MATCHES), HANG_UP, SAYS_SO, page(3, "c")) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                await handle.fetch_next(1)
                with pytest.raises(PageUncertain):
                    await handle.fetch_next(4)
                await index.info()
                assert ["c"] == [match.id for match in await handle.fetch_next(5)]
                await handle.stop()
            assert [(None, 1), (None, 4), (3, 4)] == pages_requested(server)


class TestHandles:
    """Handles with a page that did not arrive."""

    async def test_leaving_the_block(self, client: Client) -> None:
        """Leaving the block stops a query whose page is outstanding, and "no such query" is no error then."""
        with ScriptedServer(numbered(STARTED), HANG_UP, NO_SUCH_QUERY) as server:
            async with client(server, 0) as index:
                _, handle = await index.resumable_query([1.0], 1)
                with pytest.raises(TransportError):
                    async with handle:
                        await handle.fetch_next(1)
            assert "resumable-query-end" == server.commands[-1]

    async def test_an_explicit_stop(self, client: Client) -> None:
        """An explicit stop frees the query; if the server has dropped it with the lost page, that is success."""
        with ScriptedServer(numbered(STARTED), HANG_UP, NO_SUCH_QUERY) as server:
            async with client(server, 0) as index:
                _, handle = await index.resumable_query([1.0], 1)
                with pytest.raises(TransportError):
                    await handle.fetch_next(1)
                await handle.stop()
            assert 3 == server.connections

    async def test_somebody_else_has_advanced_it(self, client: Client) -> None:
        """If somebody else has advanced the query, the handle refuses further pages and can be stopped."""
        with ScriptedServer(numbered(STARTED), numbered(error(409, "the query is at page 5"))) as server:
            async with client(server) as index:
                _, handle = await index.resumable_query([1.0], 1)
                for _ in range(2):
                    with pytest.raises(PageUncertain):
                        await handle.fetch_next(1)
                await handle.stop()
            assert 3 == server.connections

    async def test_retry_after(self, client: Client) -> None:
        """The error of a page says when the server wants to be asked again, whether it numbers pages or not."""
        busy = headed(error(503, "busy"), "Retry-After", "7")
        for started, kind in ((numbered(STARTED), RefusedError), (STARTED, PageUncertain)):
            with ScriptedServer(started, busy) as server:
                async with client(server, 0) as index:
                    _, handle = await index.resumable_query([1.0], 1)
                    async with handle:
                        with pytest.raises(kind) as caught:
                            await handle.fetch_next(1)
            assert 7.0 == caught.value.retry_after

    def test_threads(self) -> None:
        """Threads that share a handle wait while one of them repeats its page, and get disjoint pages."""
        with ScriptedServer(numbered(STARTED), late(HANG_UP), page(2, "b"), page(3, "c")) as server:
            with Index(server.url, TOKEN, 2, 0.0) as index, ThreadPoolExecutor(2) as pool:
                _, handle = index.resumable_query([1.0], 1)
                with handle:
                    pages = list(pool.map(handle.fetch_next, [1, 1]))
            assert [["b"], ["c"]] == sorted([match.id for match in each] for each in pages)
            assert [(2, 1), (2, 1), (3, 1)] == pages_requested(server)

    async def test_cancelled(self) -> None:
        """A page that is cancelled while it is repeated ends the query, as any cancelled page does."""
        with ScriptedServer(numbered(STARTED), HANG_UP, late(page(2, "b"))) as server:
            async with AsyncIndex(server.url, TOKEN, 2, 0.0) as index:
                _, handle = await index.resumable_query([1.0], 1)
                task = asyncio.create_task(handle.fetch_next(1))
                assert await asyncio.to_thread(server.arrived.wait, 5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(RefusedError, match="stopped"):
                    await handle.fetch_next(1)
            assert ["resumable-query", *["resumable-query-next"] * 2, "resumable-query-end"] == server.commands


def interrupting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next request of a blocking client when its reply has come, as Ctrl-C might."""
    whole = httpx.Client.send

    def send(*arguments: Any, **keywords: Any) -> httpx.Response:
        monkeypatch.undo()
        whole(*arguments, **keywords).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(httpx.Client, "send", send)


class TestInterrupts:
    """Ctrl-C amid a request of a blocking client."""

    def test_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupted page is requested again, so that the search may go on."""
        with ScriptedServer(numbered(STARTED), page(2, "b", "c"), page(2, "b", "c")) as server:
            with Index(server.url, TOKEN) as index:
                _, handle = index.resumable_query([1.0], 1)
                with handle:
                    interrupting(monkeypatch)
                    with pytest.raises(KeyboardInterrupt):
                        handle.fetch_next(2)
                    pages = [handle.fetch_next(1), handle.fetch_next(1)]
            assert [["b"], ["c"]] == [[match.id for match in each] for each in pages]
            assert [(2, 2)] * 2 == pages_requested(server)

    def test_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The query of an interrupted start is stopped by the next call."""
        with ScriptedServer(SAYS_SO, numbered(STARTED)) as server:
            with Index(server.url, TOKEN) as index:
                index.info()
                interrupting(monkeypatch)
                with pytest.raises(KeyboardInterrupt):
                    index.resumable_query([1.0], 1)
            [start] = bodies(server, "resumable-query")
            assert [{"uuid": start["uuid"]}] == bodies(server, "resumable-query-end")


class TestCancelledStarts:
    """Starts that nobody waits for any more, and whose query has a uuid of our own."""

    @pytest.mark.parametrize(
        ("act", "stops"),
        [
            (HANG_UP, 1),
            (answer(502, b"<html>"), 1),
            (numbered(STARTED), 1),
            (numbered(result({"uuid": "", "scores": []})), 0),
            (numbered(error(422, "no")), 0),
        ],
        ids=["broken", "html", "started", "absent", "refused"],
    )
    async def test_closing_stops_it(self, act: Act, stops: int) -> None:
        """Closing stops a query that a cancelled start may have opened, even if its reply was lost."""
        with ScriptedServer(SAYS_SO, late(act)) as server:
            async with AsyncIndex(server.url, TOKEN, 0, 0.0) as index:
                await index.info()
                task = asyncio.create_task(index.resumable_query([1.0]))
                assert await asyncio.to_thread(server.arrived.wait, 5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            [start] = bodies(server, "resumable-query")
            uuid = "u" if act.reply and b'"u"' in act.reply else start["uuid"]
            assert [{"uuid": uuid}] * stops == bodies(server, "resumable-query-end")

    async def test_between_two_attempts(self) -> None:
        """A start that is cancelled before its next attempt may have been served by the one before."""
        with ScriptedServer(SAYS_SO, HANG_UP) as server:
            async with AsyncIndex(server.url, TOKEN, 3, 60.0) as index:
                await index.info()
                with anyio.move_on_after(0.3) as scope:
                    await index.resumable_query([1.0])
                assert scope.cancelled_caught
            [start] = bodies(server, "resumable-query")
            assert [{"uuid": start["uuid"]}] == bodies(server, "resumable-query-end")

    async def test_a_server_that_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Closing waits for the reply only so long; the query can be named without it, so nothing is left to expire."""
        caplog.set_level(logging.INFO, "nextk")
        monkeypatch.setattr(http, "CLOSE_TIMEOUT", 0.05)
        with ScriptedServer(SAYS_SO, late(numbered(STARTED), 0.6)) as server:
            index = AsyncIndex(server.url, TOKEN, 0, 0.0)
            await index.info()
            task = asyncio.create_task(index.resumable_query([1.0]))
            assert await asyncio.to_thread(server.arrived.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await index.close()
            monkeypatch.undo()
            await index.close()
            [start] = bodies(server, "resumable-query")
            assert [{"uuid": start["uuid"]}] == bodies(server, "resumable-query-end")
        assert "left to expire" not in caplog.text

    async def test_in_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In process, closing stops the query of a start that still runs by the uuid that was made for it."""
        monkeypatch.setattr(in_process, "CLOSE_TIMEOUT", 0.0)
        reached, go_on, stopped = threading.Event(), threading.Event(), []
        start = EmbeddedEngine.start

        def gated(engine: EmbeddedEngine, *arguments: Any, **keywords: Any) -> Any:
            reached.set()
            assert go_on.wait(5)
            return start(engine, *arguments, **keywords)

        def noted(engine: EmbeddedEngine, uuid: str) -> None:
            stopped.append(uuid)
            go_on.set()

        monkeypatch.setattr(EmbeddedEngine, "start", gated)
        monkeypatch.setattr(EmbeddedEngine, "stop", noted)
        index = AsyncIndex.embedded(type="dense", dimension=1)
        await index.upsert([("a", [1.0])])
        task = asyncio.create_task(index.resumable_query([1.0]))
        assert await asyncio.to_thread(reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await index.close()
        [uuid] = stopped
        assert str(UUID(uuid)) == uuid


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_server_without_room(client: Client, retries: int) -> None:
    """A start that was only ever put off by 429 has opened nothing, so nothing is stopped."""
    with ScriptedServer(SAYS_SO, *[numbered(error(429, "later"))] * (retries + 1)) as server:
        async with client(server, retries) as index:
            await index.info()
            with pytest.raises(TooManyQueries):
                await index.resumable_query([1.0], 1)
        assert [] == bodies(server, "resumable-query-end")
