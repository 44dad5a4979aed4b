"""Exact searches over HTTP: only a server that is known to have them is sent one, so that none is ignored."""

from collections.abc import Callable
from typing import Any

import pytest

from nextk import AsyncIndex, Index
from nextk.errors import ClientError, RefusedError, TransportError
from nextk.testing import FaultPlan
from nextk.testing.server import FaultyServer
from tests.support.scripted_server import HANG_UP, Act, ScriptedServer, error, numbered, result
from tests.support.transports import Awaitable
from tests.transport.test_numbered_pages import INFO, SAYS_SO, Client

MATCHES = result([{"id": "a", "score": 0.5}])
CALLS: dict[str, Callable[[AsyncIndex], Any]] = {
    "query": lambda index: index.query([1.0], exact=True),
    "query_many": lambda index: index.query_many(queries=[{"vector": [1.0], "exact": True}, {"vector": [1.0]}]),
    "resumable_query": lambda index: index.resumable_query([1.0], exact=True),
}
BY_CALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
REFUSAL = "this server has no exact search.*Leave exact= out"


def paths(server: ScriptedServer) -> list[str]:
    """Return the commands that a server has seen, in order."""
    return [seen.path.removeprefix("/") for seen in server.seen]


@BY_CALL
async def test_a_server_that_has_said_nothing(client: Client, call: Callable[[AsyncIndex], Any]) -> None:
    """It is asked first; one that does not number pages is sent no exact search, then or later."""
    with ScriptedServer(result(INFO)) as server:
        async with client(server) as index:
            for _ in range(2):
                with pytest.raises(ClientError, match=REFUSAL):
                    await call(index)
        assert ["info"] == paths(server)


@BY_CALL
async def test_a_server_that_is_known_not_to_have_it(client: Client, call: Callable[[AsyncIndex], Any]) -> None:
    """One whose `info` was read is not asked again, and goes on answering other searches."""
    with ScriptedServer(result(INFO), MATCHES) as server:
        async with client(server) as index:
            await index.info()
            with pytest.raises(ClientError, match=REFUSAL):
                await call(index)
            assert ["a"] == [match.id for match in await index.query([1.0])]
        assert ["info", "query"] == paths(server)


@pytest.mark.parametrize("act", [SAYS_SO, numbered(result(INFO | {"numberedPages": True}))], ids=["info", "header"])
async def test_a_server_that_has_it(client: Client, act: Act) -> None:
    """One that says so is sent the search after one question, and further ones without any."""
    with ScriptedServer(act, numbered(MATCHES), numbered(MATCHES)) as server:
        async with client(server) as index:
            for _ in range(2):
                assert ["a"] == [match.id for match in await index.query([1.0], exact=True)]
        assert ["info", "query", "query"] == paths(server)
        assert [True, True] == [seen.body["exact"] for seen in server.seen[1:]]


async def test_a_server_that_has_said_so_by_a_header(client: Client) -> None:
    """One that has answered anything with the header is not asked."""
    with ScriptedServer(numbered(MATCHES), numbered(MATCHES)) as server:
        async with client(server) as index:
            await index.query([1.0])
            await index.query([1.0], exact=True)
        assert ["query", "query"] == paths(server)


async def test_a_server_that_was_replaced(client: Client) -> None:
    """Once the header stays away, the server is asked anew, since it is another one."""
    with ScriptedServer(numbered(MATCHES), MATCHES, result(INFO)) as server:
        async with client(server) as index:
            for _ in range(2):
                await index.query([1.0])
            with pytest.raises(ClientError, match=REFUSAL):
                await index.query([1.0], exact=True)
        assert ["query", "query", "info"] == paths(server)


@pytest.mark.parametrize(
    ("act", "kind"), [(HANG_UP, TransportError), (error(401, "Unauthorized"), RefusedError)], ids=["lost", "refused"]
)
@BY_CALL
async def test_no_answer(client: Client, call: Callable[[AsyncIndex], Any], act: Act, kind: type[Exception]) -> None:
    """If the question is not answered, the call fails as the question did, and the search is not sent."""
    with ScriptedServer(act) as server:
        async with client(server, 0) as index:
            with pytest.raises(kind):
                await call(index)
        assert ["info"] == paths(server)


@BY_CALL
async def test_a_server_like_the_hosted_one(colour: str, call: Callable[[AsyncIndex], Any]) -> None:
    """The stand-in of `nextk.testing` for a server without numbered pages has no exact search either."""
    with FaultyServer(FaultPlan(), numbered_pages=False, type="dense", dimension=1) as server:
        where, token = server.url, server.token
        index: Any = AsyncIndex(where, token) if colour == "async" else Awaitable(Index(where, token))
        async with index:
            with pytest.raises(ClientError, match=REFUSAL):
                await call(index)
