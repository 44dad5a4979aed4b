"""A server that does not know numbered pages, as tests of a client need it: over HTTP and on the transport."""

import dataclasses
import json
import uuid
from typing import Any

import httpx
import pytest

from nextk import Index
from nextk.operations import Operation
from nextk.testing import FaultPlan, FaultyTransport, RequestKind, faulty
from nextk.testing.server import FaultyServer
from nextk.testing.unnumbered import UnnumberedApp
from nextk.transport.numbering import HEADER
from nextk.types import InfoResult
from tests.support.searches import SHAPES, Bench

SHAPE = SHAPES["dense"]
OWN_UUID = str(uuid.UUID(int=7))
INFO = {"vectorCount": 3, "numberedPages": True, "fusionOrder": "GLOBAL"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body of the request, or with `INFO`, in two parts and with the header of the extension."""
    body = (await receive())["body"]
    declared = int(dict(scope["headers"])[b"content-length"])
    assert declared == len(body)
    result = INFO if scope["path"].endswith("/info") else json.loads(body)
    reply = json.dumps({"result": result}).encode()
    headers = [(HEADER.lower().encode(), b"1"), (b"content-length", str(len(reply)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply[:5], "more_body": True})
    await send({"type": "http.response.body", "body": reply[5:]})


@pytest.mark.parametrize(
    ("path", "sent", "seen"),
    [
        ("/resumable-query/space", {"uuid": OWN_UUID, "topK": 4}, {"topK": 4}),
        ("/indexes/a/resumable-query-data", {"uuid": OWN_UUID, "data": "é"}, {"data": "é"}),
        ("/resumable-query-next", {"uuid": OWN_UUID, "pageNumber": 2}, {"uuid": OWN_UUID}),
        ("/resumable-query-end", {"uuid": OWN_UUID}, {"uuid": OWN_UUID}),
        ("/upsert", [{"id": "a", "uuid": "b"}], [{"id": "a", "uuid": "b"}]),
        ("/indexes/a/info", {}, {"vectorCount": 3, "fusionOrder": "GLOBAL"}),
    ],
)
async def test_the_extension_is_taken_away(path: str, sent: Any, seen: Any) -> None:
    """Requests arrive without the fields of the extension, and replies without its header and its part of `info`."""
    transport = httpx.ASGITransport(app=UnnumberedApp(echo))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        reply = await client.post(path, json=sent)
    assert {"result": seen} == reply.json()
    assert HEADER not in reply.headers
    assert len(reply.content) == int(reply.headers["content-length"])


def test_a_start_gets_a_uuid_of_the_server() -> None:
    """A server that does not know the extension gives a query a uuid of its own, so that a lost start is lost."""
    plan = FaultPlan()
    with FaultyServer(plan, numbered_pages=False, **SHAPE.schema) as server, Index(server.url, server.token) as index:
        index.upsert(SHAPE.records())
        headers = {"Authorization": f"Bearer {server.token}"}
        vector = SHAPE.question.parameters()["vector"]
        start = {"vector": [float(value) for value in vector], "topK": 2, "uuid": OWN_UUID}
        reply = httpx.post(f"{server.url}/resumable-query", json=start, headers=headers)
        assert OWN_UUID != reply.json()["result"]["uuid"]
        assert (1, frozenset()) == (len(plan.open), plan.lost)


def test_a_query_with_a_uuid_of_the_client_is_never_lost() -> None:
    """A client that has made the uuid of a query can stop it whether or not a reply arrives, so it is not lost."""
    plan = FaultPlan()
    plan.started(OWN_UUID, known=True)
    assert (frozenset({OWN_UUID}), frozenset()) == (plan.open, plan.lost)


class Telling(FaultyTransport):
    """A transport to an index that says of itself all that `info` can say."""

    def send(self, operation: Operation[Any]) -> Any:
        """Carry an operation, and complete its answer."""
        value = super().send(operation)
        if isinstance(value, InfoResult):
            return dataclasses.replace(value, fusion_order="BATCH", numbered_pages=True)
        return value


@pytest.mark.parametrize(("numbered", "shown"), [(True, ("BATCH", True)), (False, ("BATCH", False))])
def test_the_transport_says_it_too(numbered: bool, shown: tuple[str, bool]) -> None:
    """On the transport, the same is said by its attribute `numbering` and by `info`."""
    with Bench.build(SHAPE).index as index:
        inner = Telling(index._transport, FaultPlan())
        client = faulty(Index._over(inner), FaultPlan(), numbered_pages=numbered)
        assert numbered is client._transport.numbering.said
        found = client.info()
        assert shown == (found.fusion_order, found.numbered_pages)
        assert index.info().vector_count == found.vector_count


def test_requests_are_counted_as_ever() -> None:
    """A server that does not number pages serves pages, and its requests are counted."""
    plan = FaultPlan()
    with FaultyServer(plan, numbered_pages=False, **SHAPE.schema) as server, Index(server.url, server.token) as index:
        index.upsert(SHAPE.records())
        page, handle = index.resumable_query(top_k=3, **SHAPE.question.parameters())
        with handle:
            assert (3, 2) == (len(page), len(handle.fetch_next(2)))
    assert (2, 1) == (plan.count(RequestKind.PAGE), plan.count(RequestKind.STOP))
