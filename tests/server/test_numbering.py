"""Numbered pages as they are on the wire: bodies, statuses and the header, and nothing new for whoever does not ask."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from nextk.engine.factory import open_engine
from nextk.server.app import create_app
from nextk.testing.server import ServerThread
from nextk.transport.numbering import HEADER

UUID = "0b54a7a2-6c5f-4b8e-9d0a-2f6f3c1e7d11"
TOKEN = "secret"

Post = Callable[..., httpx.Response]


@pytest.fixture
def post() -> Iterator[Post]:
    """A function that posts a body to a server of ten records, whose order is that of their ids."""
    engine = open_engine(None, {"type": "dense", "dimension": 2}, name="a")
    app = create_app({"a": engine}, token=TOKEN, read_only_token="reader", max_body=2_000)
    with ServerThread(app) as server, httpx.Client(base_url=server.url) as client:

        def send(command: str, body: Any = None, token: str = TOKEN) -> httpx.Response:
            return client.post(f"/{command}", json=body, headers={"Authorization": f"Bearer {token}"})

        send("upsert", [{"id": str(number), "vector": [1.0, float(number)]} for number in range(10)])
        yield send
    engine.close()


def start(**more: Any) -> dict[str, Any]:
    """Return the body of a start."""
    return {"vector": [1.0, 0.0], "topK": 2, **more}


def ids(reply: httpx.Response) -> list[str]:
    """Return the ids of a page, numbered or not."""
    result = reply.json()["result"]
    return [match["id"] for match in (result["scores"] if isinstance(result, dict) else result)]


def test_pages(post: Post) -> None:
    """A page is given with its number, and given again to whoever repeats the request; so is the page of the start."""
    first = post("resumable-query", start(uuid=UUID))
    assert UUID == first.json()["result"]["uuid"]
    assert first.content == post("resumable-query", start(uuid=UUID)).content
    request = {"uuid": UUID, "additionalK": 2, "pageNumber": 2}
    second = post("resumable-query-next", request)
    assert ({"pageNumber", "scores"}, 2) == (second.json()["result"].keys(), second.json()["result"]["pageNumber"])
    assert second.content == post("resumable-query-next", request).content
    assert ["2", "3"] == ids(second)
    assert ["4"] == ids(post("resumable-query-next", {"uuid": UUID, "additionalK": 1}))
    assert ["4"] == ids(post("resumable-query-next", {"uuid": UUID, "additionalK": 1, "pageNumber": 3}))
    assert {"result": "Success"} == post("resumable-query-end", {"uuid": UUID}).json()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"additionalK": 2, "pageNumber": 1}, "its last page is 2"),
        ({"additionalK": 2, "pageNumber": 4}, "its last page is 2"),
        ({"additionalK": 3, "pageNumber": 2}, "was requested with additionalK 2"),
    ],
)
def test_other_pages(post: Post, body: dict[str, Any], words: str) -> None:
    """A page that is neither the last nor the next one is refused by 409, and the query stays where it is."""
    post("resumable-query", start(uuid=UUID))
    post("resumable-query-next", {"uuid": UUID, "additionalK": 2, "pageNumber": 2})
    refused = post("resumable-query-next", {"uuid": UUID, **body})
    assert 409 == refused.status_code
    assert words in refused.json()["error"]
    assert ["4", "5"] == ids(post("resumable-query-next", {"uuid": UUID, "additionalK": 2, "pageNumber": 3}))


def test_other_starts(post: Post) -> None:
    """A start with the uuid of another search, of one that has gone on, or of one that was stopped is refused."""
    post("resumable-query", start(uuid=UUID))
    for more in ({"topK": 3}, {"vector": [1.0, 1.0]}, {"filter": "n = 1"}, {"includeMetadata": True}):
        assert 409 == post("resumable-query", start(uuid=UUID) | more).status_code
    assert 409 == post("resumable-query/other", start(uuid=UUID)).status_code
    post("resumable-query-next", {"uuid": UUID, "additionalK": 2})
    assert 409 == post("resumable-query", start(uuid=UUID)).status_code
    post("resumable-query-end", {"uuid": UUID})
    assert 404 == post("resumable-query", start(uuid=UUID)).status_code


@pytest.mark.parametrize("uuid", ["", "x", UUID.upper(), f"{UUID}\n", UUID.replace("-", ""), 5, True, [], {}])
def test_no_uuid(post: Post, uuid: Any) -> None:
    """A start is refused by 422, and opens nothing, if its uuid is not in the canonical form."""
    assert 422 == post("resumable-query", start(uuid=uuid)).status_code


@pytest.mark.parametrize("number", [0, -1, 10**30, "2", True, 2.0, []])
def test_no_number(post: Post, number: Any) -> None:
    """A request is refused by 422 if its page number is not a whole number from 1 on. The query does not advance."""
    post("resumable-query", start(uuid=UUID))
    request = {"uuid": UUID, "additionalK": 2}
    assert 422 == post("resumable-query-next", request | {"pageNumber": number}).status_code
    assert ["2", "3"] == ids(post("resumable-query-next", request | {"pageNumber": 2}))


def test_whoever_does_not_ask(post: Post) -> None:
    """A client that sends neither uuid nor number, or `null`, gets the bodies of the documented protocol."""
    for absent in ({}, {"uuid": None}):
        opened = post("resumable-query", start(**absent)).json()["result"]
        assert {"uuid", "scores"} == opened.keys()
        number: dict[str, Any] = {"pageNumber": None} if absent else {}
        page = post("resumable-query-next", {"uuid": opened["uuid"], "additionalK": 2, **number})
        assert b'{"result":[{"id":"2"' == page.content[:20]
        post("resumable-query-end", {"uuid": opened["uuid"]})


def test_the_header(post: Post) -> None:
    """Every reply of an index says that pages are numbered, refusals too."""
    replies = [
        post("info"),
        post("info", token="wrong"),
        post("reset", token="reader"),
        post("nonsense"),
        post("query", {"vector": [1.0]}),
        post("upsert", "x" * 3_000),
    ]
    assert [200, 401, 403, 404, 422, 413] == [reply.status_code for reply in replies]
    assert ["1"] * 6 == [reply.headers.get(HEADER) for reply in replies]


@pytest.mark.parametrize(
    ("schema", "order"), [({}, "GLOBAL"), ({"type": "hybrid", "dimension": 2, "fusion_order": "batch"}, "BATCH")]
)
def test_info(schema: dict[str, Any], order: str) -> None:
    """`info` says that pages are numbered and how hybrid queries are fused, also before the first write."""
    engine = open_engine(None, schema, name="a")
    with ServerThread(create_app({"a": engine})) as server:
        info = httpx.post(f"{server.url}/info").json()["result"]
    assert (True, order) == (info["numberedPages"], info["fusionOrder"])
    engine.close()
