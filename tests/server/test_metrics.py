"""`/metrics`: refusals by reason, seconds spent in filters, and what is said about the process."""

import ast
import importlib.metadata
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import nextk.engine
import nextk.server
from nextk import Index
from nextk.bodies import Delete, Record, VectorQuery
from nextk.engine.abandonment import GivenUp
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.engine.filter.seconds import FilterSeconds
from nextk.engine.reply_budget import ReplyRefused
from nextk.errors import AuthenticationError, QueryNotFound, RefusedError, TooManyQueries, TransportError
from nextk.server.app import create_app
from nextk.server.refusals import OTHER, REASONS, reason_of
from tests.support.server_process import serving

READ = {"Authorization": "Bearer reader"}
WRITE = {"Authorization": "Bearer writer"}
UNKNOWN_QUERY = {"uuid": "0b8f6c0e-5b7e-4d0a-9a53-2f1c8f3f6a11", "additionalK": 1}


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    """A dense index of one dimension with three records, which no query may be opened on for long."""
    opened = open_engine(None, {"type": "dense", "dimension": 1}, name="docs", max_open_queries=1)
    assert isinstance(opened, EmbeddedEngine)
    opened.upsert("", [Record(id=str(n), vector=np.ones(1, np.float32), metadata={"n": n}) for n in range(3)])
    yield opened
    opened.close()


@asynccontextmanager
async def client_of(engine: EmbeddedEngine, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a new application over an engine, which ends with its threads."""
    app = create_app({"docs": engine}, **options)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    async with app.router.lifespan_context(app), client:
        yield client


def samples(text: str, name: str, *labels: str) -> dict[Sequence[str], float]:
    """The values of one metric by the values of some of its labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def filter_seconds(client: httpx.AsyncClient) -> float:
    """The seconds in filters that the metrics show."""
    return samples((await client.get("/metrics")).text, "nextk_filter_seconds_total", "index")["docs",]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"method": "POST", "url": "/info"}, ("docs", "unauthorized")),
        ({"method": "POST", "url": "/indexes/nothing/info"}, ("unknown", "unauthorized")),
        ({"method": "GET", "url": "/metrics"}, ("unknown", "unauthorized")),
        ({"method": "PATCH", "url": "/info", "headers": READ}, ("docs", "method_not_allowed")),
        ({"method": "POST", "url": "/indexes/nothing/info", "headers": READ}, ("unknown", "not_found")),
        ({"method": "POST", "url": "/secret-words", "headers": READ}, ("docs", "not_found")),
        ({"method": "POST", "url": "/reset", "headers": READ}, ("docs", "forbidden")),
        ({"method": "POST", "url": "/query", "headers": READ, "content": b"{"}, ("docs", "bad_request")),
        ({"method": "POST", "url": "/query", "headers": READ, "json": {"vector": "x"}}, ("docs", "invalid")),
        ({"method": "POST", "url": "/range", "headers": READ, "content": bytes(70_000)}, ("docs", "too_large")),
        (
            {"method": "POST", "url": "/resumable-query-next", "headers": READ, "json": UNKNOWN_QUERY},
            ("docs", "query_not_found"),
        ),
    ],
    ids=lambda value: f"{value['method']} {value['url']}" if isinstance(value, dict) else value[1],
)
async def test_a_refusal_is_counted_by_its_reason(
    engine: EmbeddedEngine, request_: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Each refused request is counted once, under a word of the server's own and never one of the client's."""
    async with client_of(engine, token="writer", read_only_token="reader") as client:
        assert (await client.request(**request_)).is_client_error
        text = (await client.get("/metrics", headers=READ)).text
    assert {expected: 1.0} == samples(text, "nextk_refusals_total", "index", "reason")
    assert "secret" not in text


async def test_a_page_of_another_site_is_counted_as_such(engine: EmbeddedEngine) -> None:
    """A request of a web page that a server without a token refuses is counted by a reason of its own."""
    async with client_of(engine) as client:
        assert (await client.post("/info", headers={"Host": "evil.example"})).status_code == 403
        text = (await client.get("/metrics")).text
    assert {("other_site",): 1.0} == samples(text, "nextk_refusals_total", "reason")


async def test_queries_that_find_no_room_are_counted_as_such(engine: EmbeddedEngine) -> None:
    """A start that is refused because others are open is told from what a token may not do, which has its status."""
    async with client_of(engine) as client:
        start = {"vector": [1.0], "topK": 1}
        opened = (await client.post("/resumable-query", json=start)).json()["result"]["uuid"]
        assert (await client.post("/resumable-query", json=start)).status_code == 403
        await client.post("/resumable-query-end", json={"uuid": opened})
        text = (await client.get("/metrics")).text
    assert {("too_many_queries",): 1.0} == samples(text, "nextk_refusals_total", "reason")


async def test_answers_are_no_refusals(engine: EmbeddedEngine) -> None:
    """A request that is answered is not counted as refused."""
    async with client_of(engine) as client:
        assert (await client.post("/info")).is_success
        text = (await client.get("/metrics")).text
    assert {} == samples(text, "nextk_refusals_total", "reason")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (AuthenticationError("", 401), "unauthorized"),
        (AuthenticationError("", 403), "other_site"),
        (TooManyQueries("", 403), "too_many_queries"),
        (QueryNotFound("", 404), "query_not_found"),
        (QueryNotFound("", 422), "invalid"),
        (GivenUp("", 503), "given_up"),
        (ReplyRefused("", 422), "large_reply"),
        (RefusedError("", 418), OTHER),
        (RefusedError(""), OTHER),
    ],
    ids=repr,
)
def test_a_reason_goes_by_class_and_status(error: RefusedError, word: str) -> None:
    """A class without a word of its own has that of its base, and what nobody has thought of is `other`."""
    assert word == reason_of(error)


def raised_statuses() -> Iterator[tuple[str, int]]:
    """Every status with which the engine and the server refuse, by file."""
    folders = [Path(str(module.__file__)).parent for module in (nextk.engine, nextk.server)]
    for path in [folders[0].parent / "dispatch.py", *(path for folder in folders for path in folder.rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.strip("_")[0].isupper():
                numbers = [each.value for each in node.args if isinstance(each, ast.Constant)]
                yield from ((path.name, number) for number in numbers if type(number) is int and 400 <= number < 600)


def test_every_refusal_has_a_word() -> None:
    """No status with which the engine or the server refuses is counted as `other`."""
    statuses = list(raised_statuses())
    assert len(statuses) > 30
    known = {status for _, status in REASONS}
    assert [] == [each for each in statuses if each[1] not in known]


@pytest.mark.skipif(sys.platform != "linux", reason="the processes of servers are run on Linux alone")
def test_what_the_application_never_sees_is_counted(tmp_path: Path) -> None:
    """A request that its connection refuses is counted by its reason, too."""
    Index.embedded(tmp_path / "docs.nextk", type="dense", dimension=1).close()
    with serving(tmp_path) as server:
        for head in (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b", b"GET /" + b"x" * 20_000, b"GET / HTTP/3.0"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(head + b"\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 ")
        text = httpx.get(f"http://127.0.0.1:{server.port}/metrics", trust_env=False).text
    expected = {("unknown", "bad_request"): 2.0, ("unknown", "too_large"): 1.0}
    assert expected == samples(text, "nextk_refusals_total", "index", "reason")


# Filters


def test_filter_seconds_count_what_is_given_up_too() -> None:
    """The time in a block counts, however the block is left."""
    times = iter([10.0, 12.5, 20.0, 20.25])
    seconds = FilterSeconds(lambda: next(times))
    with seconds.measure():
        pass
    with pytest.raises(TransportError), seconds.measure():
        raise TransportError
    assert 2.75 == seconds.total


def test_only_filters_are_counted(engine: EmbeddedEngine) -> None:
    """A search without a filter adds nothing; a search, a start and a deletion with one do."""
    query = {"vector": [1.0], "topK": 1}
    engine.query("", VectorQuery.model_validate(query))
    engine.delete("", Delete(ids=["0"]))
    assert 0.0 == engine.filter_seconds()
    filtered = VectorQuery.model_validate({**query, "filter": "n > 0"})
    before = engine.filter_seconds()
    for call in (
        lambda: engine.query("", filtered),
        lambda: engine.stop(engine.start("", filtered, 10)[0]),
        lambda: engine.delete("", Delete(filter="n = 2")),
    ):
        call()
        assert before < (before := engine.filter_seconds())


def test_a_filter_by_the_file_is_counted() -> None:
    """The time of a filter whose fields are too large for memory counts as well."""
    engine = open_engine(None, {"type": "dense", "dimension": 1}, filter_column_bytes=1)
    engine.upsert("", [Record(id="a", vector=np.ones(1, np.float32), metadata={"text": "x" * 100})])
    query = VectorQuery.model_validate({"vector": [1.0], "filter": "text GLOB 'x*'"})
    engine.query("", query)
    before = engine.filter_seconds()
    assert ["a"] == [match.id for match in engine.query("", query)]
    assert before < engine.filter_seconds()
    engine.close()


async def test_the_metrics_show_slow_filters(engine: EmbeddedEngine) -> None:
    """A filter that was given up has a reason of its own, and its seconds are in the metrics."""
    async with client_of(engine) as client:
        assert 0.0 == await filter_seconds(client)
        query = {"vector": [1.0], "filter": "n > 0"}
        assert (await client.post("/query", json=query)).is_success
        spent = await filter_seconds(client)
        assert 0.0 < spent
        engine._filter_timeout = 0.0
        assert (await client.post("/query", json=query)).status_code == 503
        assert spent < await filter_seconds(client)
        text = (await client.get("/metrics")).text
    assert {("docs", "slow_filter"): 1.0} == samples(text, "nextk_refusals_total", "index", "reason")


# The process


async def test_the_metrics_name_the_versions(engine: EmbeddedEngine) -> None:
    """An operator sees which version of nextk answers."""
    async with client_of(engine) as client:
        text = (await client.get("/metrics")).text
    assert {(importlib.metadata.version("nextk"),): 1.0} == samples(text, "nextk_build_info", "version")


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc, so there on Linux alone")
async def test_the_metrics_show_the_memory_of_the_process(engine: EmbeddedEngine) -> None:
    """The resident memory and the open files of the process are among the metrics."""
    async with client_of(engine) as client:
        text = (await client.get("/metrics")).text
    assert samples(text, "process_resident_memory_bytes")[()] > 2**24
    assert samples(text, "process_open_fds")[()] > 2
