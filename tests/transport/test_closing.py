"""Closing a served index while others are using it."""

import asyncio
import threading
from typing import Any

import httpx
import pytest

from nextk import AsyncIndex, Index
from tests.support.scripted_server import TOKEN, ScriptedServer, result

STARTED = result({"uuid": "", "scores": []})


class ClosedInBetween:
    """Closes an index between two steps of a call: after it took its connections, before it sends.

    Args:
        monkeypatch: Undoes it after the test.
        client: The class of the connections.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client: type[httpx.Client] | type[httpx.AsyncClient]) -> None:
        self.index: Index | None = None
        self.count = 0
        build: Any = client.build_request

        def build_request(*arguments: Any, **keywords: Any) -> Any:
            index, self.index = self.index, None
            if index is not None:
                self.count += 1
                closing = threading.Thread(target=index.close)
                closing.start()
                closing.join()
            return build(*arguments, **keywords)

        monkeypatch.setattr(client, "build_request", build_request)


def test_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose connections another thread closes before it sends has sent nothing: it goes on with new ones."""
    between = ClosedInBetween(monkeypatch, httpx.Client)
    with ScriptedServer(result([""]), STARTED) as server, Index(server.url, TOKEN, retries=0) as index:
        between.index = index
        assert [""] == index.list_namespaces()
        between.index = index
        assert [] == index.resumable_query([1.0])[0]
        assert (2, ["list-namespaces", "resumable-query"]) == (between.count, server.commands)


def test_while_it_stops_what_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a dropped query get lost that way."""
    between = ClosedInBetween(monkeypatch, httpx.Client)
    with ScriptedServer(result("Success"), result([""])) as server, Index(server.url, TOKEN, retries=0) as index:
        index._transport.orphans.append("u")
        between.index = index
        assert [""] == index.list_namespaces()
        assert ["resumable-query-end", "list-namespaces"] == server.commands


async def test_by_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where another task closes the asynchronous index."""
    send, waiting = httpx.AsyncClient.send, 0

    async def send_late(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        nonlocal waiting
        if waiting:
            waiting -= 1
            await asyncio.create_task(index.close())
        return await send(client, request, **options)

    monkeypatch.setattr(httpx.AsyncClient, "send", send_late)
    with ScriptedServer(result([""]), STARTED) as server:
        async with AsyncIndex(server.url, TOKEN, retries=0) as index:
            waiting = 1
            assert [""] == await index.list_namespaces()
            waiting = 2
            assert [] == (await index.resumable_query([1.0]))[0]
        assert (0, ["list-namespaces", "resumable-query"]) == (waiting, server.commands)


async def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of any other kind comes out as it is, and is not taken for a request that was never sent."""

    def fail(*arguments: Any, **options: Any) -> Any:
        message = "something else"
        raise RuntimeError(message)

    for client in (httpx.Client, httpx.AsyncClient):
        monkeypatch.setattr(client, "send", fail)
    with Index("http://127.0.0.1:1", TOKEN) as index:
        with pytest.raises(RuntimeError, match="something else"):
            index.info()
        asynchronous = index.to_async()
        with pytest.raises(RuntimeError, match="something else"):
            await asynchronous.info()
        await asynchronous.close()
