"""Dropped queries on servers that are slow, silent or gone, and who may stop them."""

import gc
import logging
import socket
import time
from contextlib import ExitStack

import pytest

from nextk import AsyncIndex, Index
from nextk.transport.exit import _empty
from nextk.transport.orphans import Orphans, ServerAddress
from tests.support.scripted_server import HANG_UP, TOKEN, Act, ScriptedServer, error, result
from tests.support.subprocesses import output


def connections(listener: socket.socket) -> int:
    """How many came to a server that accepts none."""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def places() -> list[str]:
    """The servers whose queues are kept in memory."""
    gc.collect()
    return [server.url for server in Orphans._known]


class TestExit:
    """The end of the process."""

    SILENT = """
import atexit, sys, time
atexit.register(lambda: print(time.monotonic() - ended < 5))  # what is registered first is called last
from nextk import Index
for url in sys.argv[1:]:
    for uuid in "abc":
        Index(url, "t")._transport.orphans.append(uuid)
ended = time.monotonic()
"""

    def test_silent_servers(self) -> None:
        """Servers that do not answer share one short time, are asked once each, and leave time for the others."""
        with ExitStack() as stack:
            silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
            server = stack.enter_context(ScriptedServer())
            urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in silent]
            assert "True" == output(self.SILENT, *urls, server.url)
            assert [1] * 4 == [connections(listener) for listener in silent]
            assert {"uuid": "a"} == server.seen[0].body


class TestGivingUp:
    """What cannot be stopped is left to expire."""

    @pytest.mark.parametrize("colour", ["sync", "async"])
    async def test_at_the_first_failure(self, colour: str, caplog: pytest.LogCaptureFixture) -> None:
        """A call that cannot reach the server for one dropped query does not try the others, and says so once."""
        caplog.set_level(logging.INFO, "nextk")
        with ScriptedServer(HANG_UP, result([""])) as server:
            with Index(server.url, TOKEN) as index:
                for uuid in "abc":
                    index._transport.orphans.append(uuid)
                if colour == "sync":
                    assert [""] == index.list_namespaces()
                else:
                    asynchronous = index.to_async()
                    assert [""] == await asynchronous.list_namespaces()
                    await asynchronous.close()
            assert ["resumable-query-end", "list-namespaces"] == server.commands
        [line] = [record.getMessage() for record in caplog.records if record.name == "nextk.transport"]
        assert "left to expire, 3:" in line

    @pytest.mark.parametrize("act", [error(404, "gone"), error(500, "no")], ids=["404", "500"])
    def test_refusals_are_answers(self, act: Act) -> None:
        """A server that answers, whatever it says, is asked for the others, too."""
        with ScriptedServer(act) as server:
            with Index(server.url, TOKEN) as index:
                for uuid in "abc":
                    index._transport.orphans.append(uuid)
            assert ["a", "b", "c"] == [seen.body["uuid"] for seen in server.seen]


class TestQueues:
    """One queue per server, for as long as it is needed."""

    def test_shared(self) -> None:
        """What one index drops, another one of the same server stops; another user of it does not."""
        url = "http://127.0.0.1:1/shared"
        first, second, other = Index(url, TOKEN), Index(url, TOKEN), Index(url, "other")
        assert first._transport.orphans is second._transport.orphans
        assert first._transport.orphans is not other._transport.orphans

    def test_forgotten(self) -> None:
        """A server that no index leads to any more is forgotten."""
        url = "http://127.0.0.1:1/forgotten"
        index = Index(url, TOKEN)
        assert url in places()
        del index
        assert url not in places()

    def test_kept(self) -> None:
        """Unless it has a query to stop: the next index of that server does it, and then it is forgotten."""
        with ScriptedServer() as server:
            Index(server.url, TOKEN)._transport.orphans.append("u")
            assert server.url in places()
            Index(server.url, TOKEN).close()
            assert ["resumable-query-end"] == server.commands
            assert server.url not in places()
        assert server.url not in [queue.server.url for queue in Orphans.waiting.values()]

    def test_appended_while_it_empties(self) -> None:
        """A finaliser that appends just when the queue was found empty is not overlooked."""
        queue = Orphans(ServerAddress("http://127.0.0.1:1", TOKEN))
        super(Orphans, queue).append("u")  # as if its note of it had been overtaken
        queue._update_waiting()
        assert queue is Orphans.waiting.pop(id(queue))

    FORK = """
import os, sys
from nextk import Index
index = Index(sys.argv[1], "t")
index._transport.orphans.append("parent's")
child = os.fork()
if child == 0:
    index.list_namespaces()
    index._transport.orphans.append("child's")
    index.close()
    os._exit(0)
os.waitpid(child, 0)
print(list(index._transport.orphans))
"""

    def test_fork(self) -> None:
        """A forked child stops what it drops itself, and leaves to its parent what that had dropped before."""
        with ScriptedServer(result([""])) as server:
            assert '["parent\'s"]' == output(self.FORK, server.url)
            assert ["list-namespaces", "resumable-query-end", "resumable-query-end"] == server.commands
            assert ["child's", "parent's"] == [seen.body["uuid"] for seen in server.seen[1:]]


async def test_async_close_stops_them() -> None:
    """Closing an asynchronous index that was never used stops what was dropped on its server."""
    with ScriptedServer() as server:
        async with AsyncIndex(server.url, TOKEN) as index:
            index._transport.orphans.append("u")
        assert ["resumable-query-end"] == server.commands


async def test_a_way_that_is_gone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """At the end of the process, queries of a server that cannot be reached any more are left to expire, in words."""
    caplog.set_level(logging.INFO, "nextk")
    monkeypatch.setenv("HTTP_PROXY", "ftp://host")
    monkeypatch.delenv("http_proxy", raising=False)
    queue = Orphans(ServerAddress("http://index.example", TOKEN))
    queue.append("u")
    await _empty(queue, time.monotonic() + 1)
    assert ([], {}) == (list(queue), Orphans.waiting)
    assert "HTTP_PROXY is not the URL of a proxy" in caplog.text
