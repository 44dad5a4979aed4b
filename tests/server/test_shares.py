"""Shares of open queries over HTTP: the kinds of token, the metrics, and the options of `nextk serve`."""

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from nextk.cli.main import main
from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.server import listening
from nextk.server.app import create_app
from nextk.testing import ManualClock


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An index with one record in two namespaces and room for four queries."""
    engine = open_engine(None, {"type": "dense", "dimension": 2}, clock=ManualClock(), max_open_queries=4)
    yield engine
    engine.close()


def figures(client: TestClient) -> dict[str, float]:
    """Return the metrics of open queries that are not 0, by their names and labels."""
    pattern = r"^nextk_(\w*(?:open|evicted)_queries\S*) ([0-9.]+)$"
    text = client.get("/metrics").text.replace(',index="pairs"', "").replace('{index="pairs"}', "")
    return {name: float(number) for name, number in re.findall(pattern, text, re.MULTILINE) if float(number)}


def test_each_kind_of_token_has_shares_of_its_own(engine: Engine) -> None:
    """A read-only client may hold half of the queries in a namespace, and the metrics tell who holds how many."""
    client = TestClient(create_app({"pairs": engine}, token="full", read_only_token="reader"))
    client.headers["authorization"] = "Bearer full"
    for namespace in ("", "/notes"):
        client.post(f"/upsert{namespace}", json={"id": "a", "vector": [1, 0]})
    reader = {"authorization": "Bearer reader"}
    statuses = [
        client.post("/resumable-query", json={"vector": [1, 0]}, headers=headers).status_code
        for headers in (reader, reader, reader, {})
    ]
    client.post("/resumable-query/notes", json={"vector": [1, 0]}, headers=reader)
    assert [200, 200, 403, 200] == statuses
    held = {
        'share_open_queries{access="full",namespace="default"}': 1,
        'share_open_queries{access="read_only",namespace="default"}': 2,
        'share_open_queries{access="read_only",namespace="other"}': 1,
    }
    assert {"open_queries": 4, "largest_share_open_queries": 2, **held} == figures(client)


def test_evictions_are_counted() -> None:
    """A query that made room for another one is counted, and its client is told that it does not exist any more."""
    clock = ManualClock()
    engine = open_engine(None, {"type": "dense", "dimension": 2}, clock=clock, max_open_queries=1)
    client = TestClient(create_app({"pairs": engine}), "http://localhost")
    client.post("/upsert", json={"id": "a", "vector": [1, 0]})
    uuid = client.post("/resumable-query", json={"vector": [1, 0]}).json()["result"]["uuid"]
    clock.advance(61)
    client.post("/resumable-query", json={"vector": [1, 0]})
    assert 404 == client.post("/resumable-query-next", json={"uuid": uuid, "additionalK": 1}).status_code
    assert 1 == figures(client)["evicted_queries_total"]
    engine.close()


def test_the_options_reach_the_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nextk serve` takes the number of open queries and the longest idle time."""
    replies: list[tuple[int, str]] = []

    def ask(app: ASGIApp, _listener: object, _limits: object) -> None:
        client = TestClient(app, "http://localhost")
        client.post("/upsert-data", json={"id": "a", "data": "a text"})
        for idle in (7_200, 7_201, 0):
            reply = client.post("/resumable-query-data", json={"data": "text", "maxIdle": idle})
            replies.append((reply.status_code, reply.json().get("error", "")))

    monkeypatch.setattr(listening, "run", ask)
    assert 0 == main(["serve", "--port", "0", "--max-idle", "7200", "--max-open-queries", "2"])
    assert [200, 422, 403] == [status for status, _ in replies]
    assert "Invalid maxIdle: at most 7200 seconds are allowed, got 7201" == replies[1][1]


@pytest.mark.parametrize("seconds", ["3599", "86401", "1h"])
def test_idle_times_that_cannot_be(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Less than the default of the protocol, which its clients send, and more than a day are refused at the start."""
    with pytest.raises(SystemExit):
        main(["serve", "--max-idle", seconds])
    assert "give a whole number of at least 3600 and at most 86400" in capsys.readouterr().err
