"""Clients of a server whose replies have a small budget: what they are told, and that they get everything after all."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from nextk import AsyncIndex
from nextk.errors import ClientError, RefusedError
from nextk.server.app import create_app
from tests.support.local_server import LocalServer
from tests.support.transports import Opener

BUDGET = 10_000
REFUSAL = "The reply would be larger than 10000 bytes: request fewer records at a time, or leave out vectors"
ALL: dict[str, Any] = {"include_data": True}
WAYS = ["sync-http", "async-http"]

Call = Callable[[AsyncIndex], Awaitable[Any]]

CALLS: dict[str, tuple[Call, Call]] = {
    "query": (lambda i: i.query([1.0], 20, **ALL), lambda i: i.query([1.0], 5, **ALL)),
    "query without data": (lambda i: i.query([1.0], 20, **ALL), lambda i: i.query([1.0], 20)),
    "query_many": (
        lambda i: i.query_many(queries=[{"vector": [1.0], "top_k": 5, "include_data": True}] * 2),
        lambda i: i.query_many(queries=[{"vector": [1.0], "top_k": 4, "include_data": True}] * 2),
    ),
    "fetch": (lambda i: i.fetch([str(n) for n in range(20)], **ALL), lambda i: i.fetch(["0", "1"], **ALL)),
    "fetch of one id": (lambda i: i.fetch(["0"] * 20, **ALL), lambda i: i.fetch(["0"] * 8, **ALL)),
    "fetch by prefix": (lambda i: i.fetch(prefix="", **ALL), lambda i: i.fetch(prefix="1", include_data=False)),
    "range": (lambda i: i.range("", 20, **ALL), lambda i: i.range("", 5, **ALL)),
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server whose replies have at most 10,000 bytes."""
    with LocalServer(max_reply_bytes=BUDGET) as running:
        yield running


@pytest.fixture(params=WAYS)
async def index(request: pytest.FixtureRequest, server: LocalServer) -> Any:
    """A client of an index of 20 records with 1,000 bytes each; afterwards no query may be open."""
    opener = Opener(request.param, server)
    index = opener("dense")
    await index.upsert([(str(number), [float(number)], {}, "x" * 1_000) for number in range(20)])
    yield index
    assert 0 == await opener.close()


@pytest.mark.parametrize("name", CALLS)
async def test_what_is_too_much_and_what_is_not(index: AsyncIndex, name: str) -> None:
    """A call for too much is refused with words that say what to do, and a call for less succeeds."""
    too_much, less = CALLS[name]
    with pytest.raises(RefusedError, match=REFUSAL) as caught:
        await too_much(index)
    assert 422 == caught.value.status
    assert await less(index)


async def test_pages(index: AsyncIndex) -> None:
    """The handle of a search goes on with smaller pages after a refusal, and gets every record once, in order."""
    with pytest.raises(RefusedError, match=REFUSAL):
        await index.resumable_query([1.0], 20, include_data=True)
    first, handle = await index.resumable_query([1.0], 2, include_data=True)
    found = [match.id for match in first]
    for count in (5, 100, 18, 1, 20, 8, 3, 4, 1):
        if count > 8:
            with pytest.raises(RefusedError, match=REFUSAL):
                await handle.fetch_next(count)
        else:
            found += [match.id for match in await handle.fetch_next(count)]
    assert [match.id for match in await index.query([1.0], 20)] == found
    await handle.stop()


@pytest.mark.parametrize("way", ["sync-in-process", "async-in-process"])
async def test_no_budget_in_process(way: str) -> None:
    """In process nothing is written, so a call returns as many records as it asks for."""
    opener = Opener(way)
    index = opener("dense")
    await index.upsert([(str(number), [1.0], {}, "x" * 100_000) for number in range(700)])
    assert 700 == len(await index.query([1.0], 1_000, include_data=True))
    await opener.close()


def test_a_budget_that_is_none() -> None:
    """A server is not made with a budget that is no whole number of at least 1."""
    for wrong in (0, -1, 1.5, "64"):
        with pytest.raises(ClientError, match="max_reply_bytes"):
            create_app({}, max_reply_bytes=wrong)  # type: ignore[arg-type]
