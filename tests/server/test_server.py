"""The HTTP server: envelopes, authorisation, limits, and the official SDK run against it unchanged."""

import asyncio
import importlib
import json
import logging
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import upstash_vector
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

import nextk
import nextk.types
from nextk.engine import keywords
from nextk.engine.factory import open_engine
from nextk.engine.text.bm25 import BM25
from nextk.errors import AuthenticationError, ClientError
from nextk.server import app as server_app
from nextk.server.app import create_app, sweep
from nextk.server.auth import Tokens
from nextk.server.engines import open_engines
from nextk.server.listening import is_loopback, listen, url_of
from nextk.server.routing import METHODS, UNKNOWN, RequestTarget
from nextk.server.spec import DEFAULT, IndexSpec, parse_spec, parse_specs
from tests.support.local_server import READ_ONLY_TOKEN, TOKEN, LocalServer

Send = Callable[..., httpx.Response]

LIMIT = 10_000
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - to be refused


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server with a low limit on bodies; the index of its root is `pairs`: dense, of two dimensions."""
    with LocalServer(max_body=LIMIT) as running:
        running.add("pairs", type="dense", dimension=2)
        yield running


@pytest.fixture
def send(server: LocalServer) -> Iterator[Send]:
    """Send a request to a path, with the full token unless another `token` is given; `None` sends none."""
    server.engines["pairs"].reset(None)
    with httpx.Client(base_url=server.url) as client:

        def request(path: str, body: Any = None, *, method: str = "POST", token: str | None = TOKEN) -> httpx.Response:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            return client.request(method, path, content=content, headers=headers)

        yield request


def refusal(response: httpx.Response) -> tuple[int, str]:
    """The status and the text of a failure, its envelope checked."""
    envelope = response.json()
    assert envelope.keys() == {"error", "status"}
    assert envelope["status"] == response.status_code
    assert response.headers["content-type"] == "application/json"
    return response.status_code, envelope["error"]


# Envelopes


def test_success_is_one_key_and_floats_are_the_shortest_of_float32(send: Send) -> None:
    """A stored 0.1 comes back as 0.1 and a whole number with its fraction, to the byte."""
    assert send("/upsert", {"id": 7, "vector": [0.1, 5]}).content == b'{"result":"Success"}'
    reply = send("/fetch", {"ids": ["7", "absent"], "includeVectors": True})
    assert reply.content == b'{"result":[{"id":"7","vector":[0.1,5.0]},null]}'
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize("method", METHODS)
def test_every_command_answers_every_method(send: Send, method: str) -> None:
    """Clients that follow the documentation and clients that only POST get the same answer; HEAD gets its head."""
    send("/upsert", {"id": "a", "vector": [1, 0]})
    reply = send("/fetch", {"ids": ["a"]}, method=method)
    assert reply.status_code == 200
    assert reply.content == (b"" if method == "HEAD" else b'{"result":[{"id":"a"}]}')


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(send: Send, method: str) -> None:
    """A method that no client uses gets 405 in an envelope, and is told what is allowed."""
    reply = send("/info", method=method)
    assert refusal(reply) == (405, f"Method not allowed: {method}")
    assert reply.headers["allow"] == "GET, HEAD, POST, PUT, DELETE"


@pytest.mark.parametrize("kind", [None, "application/json", "application/x-www-form-urlencoded", "text/csv; charset=x"])
def test_the_declared_content_type_does_not_matter(server: LocalServer, kind: str | None) -> None:
    """A body is read as JSON whatever it is called."""
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({"Content-Type": kind} if kind else {})
    reply = httpx.post(f"{server.url}/fetch", content=b'{"ids": ["nothing"]}', headers=headers)
    assert reply.json() == {"result": [None]}


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"", 400), (b"\xff\xfe", 400), (b'{"vector": [NaN, 0]}', 400), (b"[]", 422)]
)
def test_a_body_that_is_no_request_is_refused(send: Send, body: bytes, status: int) -> None:
    """Malformed JSON gets 400 and an empty batch 422, both in an envelope."""
    assert refusal(send("/query", body))[0] == status


@pytest.mark.parametrize("path", ["/", "/nothing", "/query-all", "/info/ns", "/indexes", "/indexes/", "/indexes/pairs"])
def test_unknown_paths_are_not_found(send: Send, path: str) -> None:
    """A path without a command gets 404 in an envelope."""
    assert refusal(send(path))[0] == 404


def test_the_servers_own_paths_refuse_in_envelopes_too(send: Send) -> None:
    """A wrong method on /healthz is answered like any other failure."""
    assert refusal(send("/healthz", method="DELETE")) == (405, "Method Not Allowed")


# Paths


def test_an_index_answers_below_its_name_and_the_first_one_at_the_root_too(server: LocalServer, send: Send) -> None:
    """Indexes are apart, whichever path leads to them, and one that is added later is found."""
    server.add("words", type="sparse")
    assert send("/indexes/pairs/upsert", {"id": "a", "vector": [1, 0]}).status_code == 200
    kinds = [
        send(path).json()["result"]["indexType"] for path in ("/info", "/indexes/pairs/info", "/indexes/words/info")
    ]
    assert kinds == ["DENSE", "DENSE", "SPARSE"]
    assert send("/info").json()["result"]["vectorCount"] == 1
    assert send("/indexes/words/info").json()["result"]["vectorCount"] == 0
    server.engines.pop("words").close()
    assert refusal(send("/indexes/words/info")) == (404, "Not found: there is no index words")


@pytest.mark.parametrize(
    "path", ["//info", "/indexes/pairs//info", "//indexes//pairs///info", "/info/", "/indexes/%70airs/info"]
)
def test_needless_slashes_and_escapes_do_not_matter(server: LocalServer, path: str) -> None:
    """A base URL that ends in a slash works."""
    reply = httpx.post(server.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert reply.json()["result"]["indexType"] == "DENSE"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_target_keeps_what_belongs_to_the_namespace(namespace: str) -> None:
    """Whatever a namespace holds, its escaped form reaches the dispatcher unchanged."""
    rest = f"query/{quote(namespace)}?flag"
    assert RequestTarget.parse(f"/{rest}") == RequestTarget(None, rest)
    assert RequestTarget.parse(f"/indexes/a%20b/{rest}") == RequestTarget("a b", rest)
    assert RequestTarget.parse(f"/{rest}").command == "query"


def test_a_namespace_may_hold_any_character(send: Send) -> None:
    """Slashes, newlines, question marks and letters of other scripts come back as they were sent."""
    for escaped, name in {"a%2Fb": "a/b", "a/c": "a/c", "x%0Ay": "x\ny", "%3F": "?", "%C3%A9": "é", "%20": " "}.items():
        assert send(f"/upsert/{escaped}", {"id": "a", "vector": [1, 0]}).status_code == 200
        assert name in send("/list-namespaces").json()["result"]
        send(f"/delete-namespace/{escaped}")


def test_an_index_name_that_is_not_utf8_is_refused(send: Send) -> None:
    """Bytes that are no UTF-8 are not replaced: the name is refused, after the token was checked."""
    status, text = refusal(send("/indexes/pairs%FF/info"))
    assert (status, "UTF-8" in text) == (422, True)
    assert refusal(send("/indexes/pairs%FF/info", token=None))[0] == 401


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ({"raw_path": b"/query/a\xff%20\xc3\xa9", "query_string": b"\xfe"}, "/query/a%FF%20%C3%A9?%FE"),
        ({"path": "/query/a b\ufffd%41", "query_string": b"all"}, "/query/a%20b%EF%BF%BD%2541?all"),
        ({"path": "/query/\ud800", "query_string": b""}, "/query/%ED%A0%80"),
    ],
    ids=["raw", "decoded", "surrogates"],
)
def test_bytes_that_a_client_did_not_escape_are_kept(scope: dict[str, Any], target: str) -> None:
    """Every byte of a target reaches the dispatcher, escaped, whether the web server hands out raw paths or not."""
    assert server_app._raw_target(scope) == target


def test_flags_reach_the_command(send: Send) -> None:
    """`/reset?all` empties every namespace, `/reset` one."""
    for path in ("/upsert", "/upsert/ns"):
        send(path, {"id": "a", "vector": [1, 0]})
    send("/reset")
    assert send("/info").json()["result"]["vectorCount"] == 1
    send("/reset?all=true")
    assert send("/info").json()["result"]["vectorCount"] == 0
    send("/delete-namespace/ns")


def test_commands_that_are_not_ours_have_no_name_in_logs() -> None:
    """A client's own words do not become labels."""
    assert RequestTarget.parse("/password123?x").command == UNKNOWN


# Authorisation


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"])
@pytest.mark.parametrize("path", ["/info", "/nothing", "/indexes/nothing/info", "/metrics"])
def test_without_the_token_nothing_is_answered(server: LocalServer, header: str | None, path: str) -> None:
    """A missing or wrong token gets the documented 401, and learns nothing about what exists."""
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    reply = httpx.get(server.url + path, headers=headers)
    assert refusal(reply) == (401, "Unauthorized: Invalid auth token")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["authorization", "Authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_names_are_known_in_any_letter_case(server: LocalServer, header: str, scheme: str) -> None:
    """Header and scheme may be spelt as clients do."""
    assert httpx.get(f"{server.url}/info", headers={header: f"{scheme} {TOKEN}"}).status_code == 200


READS = ["query", "resumable-query", "resumable-query-next", "resumable-query-end", "fetch", "range", "random", "info"]
WRITES = ["upsert", "upsert-data", "update", "delete", "reset", "delete-namespace/ns", "rename-namespace"]


@pytest.mark.parametrize("command", WRITES)
def test_the_read_only_token_may_not_write(send: Send, command: str) -> None:
    """Every command that changes anything gets 403, whatever it says."""
    expected = (403, "Forbidden: read-only token cannot perform write operations")
    assert refusal(send(f"/{command}", {}, token=READ_ONLY_TOKEN)) == expected


@pytest.mark.parametrize("command", [*READS, "list-namespaces"])
def test_the_read_only_token_may_read(send: Send, command: str) -> None:
    """Every other command is answered as for anyone else."""
    read_only, full = (send(f"/{command}", {"ids": []}, token=token) for token in (READ_ONLY_TOKEN, TOKEN))
    assert (read_only.status_code, read_only.content) == (full.status_code, full.content)
    assert read_only.status_code != 403


@pytest.mark.parametrize(("full", "read_only"), [("", None), (None, ""), ("same", "same")])
def test_tokens_that_protect_nothing_are_refused(full: str | None, read_only: str | None) -> None:
    """An empty token and two equal ones are mistakes, not settings."""
    with pytest.raises(ClientError):
        create_app({}, token=full, read_only_token=read_only)


def test_a_token_never_shows() -> None:
    """The representation of tokens holds neither."""
    assert "secret" not in repr(Tokens("secret-1", "secret-2"))


def test_a_read_only_token_alone_closes_the_server() -> None:
    """Without a full token nobody writes, and nobody reads without the other."""
    tokens = Tokens(None, "reader")
    assert tokens.read_only_for({"authorization": "Bearer reader"})
    with pytest.raises(AuthenticationError):
        tokens.read_only_for({})


# Limits


def test_a_body_of_the_limit_is_read_and_a_longer_one_refused(send: Send) -> None:
    """The limit is exact, and the client that sent too much can read why."""
    assert send("/fetch", b'{"ids":[]}'.ljust(LIMIT)).status_code == 200
    expected = (413, f"Request body is larger than {LIMIT} bytes: divide the ids into several requests")
    assert refusal(send("/fetch", b'{"ids":[]}'.ljust(LIMIT + 1))) == expected
    assert refusal(send("/fetch", bytes(200 * LIMIT))) == expected


def test_the_limit_holds_for_a_body_of_undeclared_length(server: LocalServer) -> None:
    """A chunked body is cut off where it passes the limit."""
    chunks = (b" " * 1000 for _ in range(1000))
    reply = httpx.post(f"{server.url}/fetch", content=chunks, headers={"Authorization": f"Bearer {TOKEN}"})
    assert refusal(reply)[0] == 413


def test_a_client_that_leaves_while_sending_harms_nobody(server: LocalServer, send: Send) -> None:
    """A connection that breaks in the middle of a body leaves the server as it was."""
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /upsert HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n"
            connection.sendall(head.encode() + b'{"id": "a", "vec')
    assert send("/info").json()["result"]["vectorCount"] == 0


async def test_a_client_that_left_is_counted_and_sent_nothing() -> None:
    """The application ends quietly when the body breaks off, and the metrics show it."""
    engine = open_engine(None, {"type": "dense"})
    app = create_app({"pairs": engine})
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/upsert", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert sent == []
    async with _client(app) as client:
        text = (await client.get("/metrics")).text
    assert 'nextk_requests_total{command="upsert",index="pairs",status="499"} 1.0' in text
    engine.close()


async def test_a_fault_of_ours_is_an_envelope_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen failure is answered with 500 and without details."""

    def fail(*_arguments: object, **_options: object) -> None:
        message = "secret detail"
        raise RuntimeError(message)

    monkeypatch.setattr(server_app, "answer", fail)
    engine = open_engine(None, {"type": "dense"})
    transport = httpx.ASGITransport(create_app({"pairs": engine}), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert refusal(await client.get("/info")) == (500, "Internal server error")
    engine.close()


# The server's own


def test_health_needs_no_token(server: LocalServer) -> None:
    """A monitor can see that the server is up."""
    reply = httpx.get(f"{server.url}/healthz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


def test_metrics_count_requests_open_queries_and_records(send: Send) -> None:
    """Requests are counted in the metrics, under the names of the index and the command."""
    send("/upsert", [{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}])
    opened_query = send("/resumable-query", {"vector": [1, 0], "topK": 1}).json()["result"]["uuid"]
    send("/query", {"vector": [1, 0, 0]})
    send("/secret-words")
    text = send("/metrics", method="GET", token=READ_ONLY_TOKEN).text
    assert 'nextk_requests_total{command="query",index="pairs",status="422"}' in text
    assert 'nextk_requests_total{command="unknown",index="pairs",status="404"}' in text
    assert 'nextk_request_seconds_count{command="upsert",index="pairs"}' in text
    assert 'nextk_open_queries{index="pairs"} 1.0' in text
    assert 'nextk_records{index="pairs"} 2.0' in text
    assert "secret" not in text
    send("/resumable-query-end", {"uuid": opened_query})


async def test_failures_of_a_storage_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A call that the storage fails is an error in the log, with the reason; one that a client can mend is none."""
    engine = open_engine(None, {"type": "dense", "dimension": 1})
    async with _client(create_app({"pairs": engine})) as client:
        assert (await client.post("/upsert", json={"id": "a"})).status_code == 422
        engine._storage._connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]
        reply = await client.post("/upsert", json={"id": "a", "vector": [1.0], "data": "x" * 100_000})
    assert reply.status_code == 507
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [refusal(reply)[1]]
    engine.close()


async def test_metrics_without_a_storage() -> None:
    """An index whose storage fails has no number of records in the metrics, and all other figures are there."""
    engines = {name: open_engine(None, {"type": "dense"}, name=name) for name in ("broken", "whole")}
    engines["broken"].close()
    async with _client(create_app(engines)) as client:
        text = (await client.get("/metrics")).text
    assert 'nextk_open_queries{index="broken"} 0.0' in text
    assert 'nextk_records{index="broken"}' not in text
    assert 'nextk_records{index="whole"} 0.0' in text
    engines["whole"].close()


def test_two_applications_count_apart() -> None:
    """Every application has a registry of its own, so that one process may hold several."""
    assert create_app({}) is not create_app({})


def test_requests_are_logged_without_secrets(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    """One line per request names index, command, status and milliseconds, and nothing of what was said."""
    with caplog.at_level(logging.INFO, "nextk.server"):
        send("/upsert/private", {"id": "confidential", "vector": [1, 0]})
        send("/info", token="guess")
    lines = [record.getMessage() for record in caplog.records if record.name == "nextk.server"]
    assert [line.rpartition(" ms=")[0] for line in lines] == [
        "index=pairs command=upsert status=200",
        "index=pairs command=info status=401",
    ]
    assert not any(word in caplog.text for word in (TOKEN, "guess", "private", "confidential"))


async def test_idle_queries_are_swept_in_every_engine() -> None:
    """A query that nobody touches is dropped without a request, and one engine's failure does not spare the next."""
    now = [0.0]
    engine = open_engine(None, {"type": "dense", "dimension": 2}, clock=lambda: now[0])
    async with _client(create_app({"pairs": engine})) as client:
        await client.post("/resumable-query", content=b'{"vector": [1, 0], "maxIdle": 5}')
    assert engine.open_queries() == 1
    now[0] = 6.0
    await sweep({"broken": None, "pairs": engine})  # type: ignore[dict-item]
    assert engine.open_queries() == 0
    engine.close()


async def test_sweeping_goes_on_while_the_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background task sweeps again and again, and ends with the server."""
    monkeypatch.setattr(server_app, "SWEEP_SECONDS", 0)
    swept = asyncio.Queue[str]()
    loop = asyncio.get_running_loop()

    class Swept:
        def sweep(self) -> None:
            loop.call_soon_threadsafe(swept.put_nowait, "once")

    app = create_app({"pairs": Swept()})  # type: ignore[dict-item]
    before = asyncio.all_tasks()
    async with app.router.lifespan_context(app):
        assert [await swept.get(), await swept.get()] == ["once", "once"]
    assert asyncio.all_tasks() == before


def _client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


# What to serve


def test_a_spec_is_a_name_a_type_and_schema_keywords() -> None:
    """`--index` takes every keyword that needs no code."""
    assert parse_spec("docs=hybrid") == IndexSpec("docs", {"type": "hybrid"})
    assert parse_spec("a.b-1=dense,dimension=2,similarity=dot_product,embedding=static") == IndexSpec(
        "a.b-1", {"type": "dense", "dimension": 2, "similarity": "dot_product", "embedding": "static"}
    )
    assert parse_spec("x=SPARSE,sparse_embedding=bm25,fusion_order=batch") == IndexSpec(
        "x", {"type": "SPARSE", "sparse_embedding": "bm25", "fusion_order": "batch"}
    )
    assert parse_spec("large=dense,dimension=2,pool_from=32000") == IndexSpec(
        "large", {"type": "dense", "dimension": 2, "pool_from": 32_000}
    )
    for word, exact in (("true", True), ("false", False)):
        assert parse_spec(f"large=dense,exact={word}") == IndexSpec("large", {"type": "dense", "exact": exact})
    assert parse_spec("default=hybrid,embedding=static,sparse_embedding=bm25,weighting=idf") == DEFAULT


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("docs", "give a name and a type"),
        ("docs=", "give a name and a type"),
        ("=dense", "''"),
        ("../etc=dense", "'../etc'"),
        (".hidden=dense", "'.hidden'"),
        ("a b=dense", "'a b'"),
        ("docs=fuzzy", "type='fuzzy'"),
        ("docs=dense,", "''"),
        ("docs=dense,size=3", "'size=3'"),
        ("docs=dense,dimension=two", "dimension='two'"),
        ("docs=dense,dimension=", "dimension=''"),
        ("docs=dense,dimension=-1", "dimension='-1'"),
        ("docs=dense,dimension=0", "dimension=0"),
        ("docs=dense,pool_from=0", "pool_from=0"),
        ("docs=dense,pool_from=all", "pool_from='all'"),
        ("docs=dense,exact=yes", "exact='yes' is neither true nor false"),
        ("docs=dense,exact=true,pool_from=5", "exact=True has no pools"),
        ("docs=dense,dimension=2,dimension=3", "dimension is given twice"),
        ("docs=dense,similarity=manhattan", "similarity='manhattan'"),
        ("docs=dense,similarity", "similarity has no value"),
        ("docs=dense,embedding=ada", "embedding='ada'"),
        ("docs=sparse,sparse_embedding=splade", "sparse_embedding='splade'"),
        ("docs=sparse,embedding=static", "no dense vectors"),
        ("docs=dense,sparse_embedding=bm25", "no sparse vectors"),
        ("docs=hybrid,fusion_order=random", "fusion_order='random'"),
        ("docs=hybrid,embedding=static", "give sparse_embedding too"),
    ],
)
def test_a_wrong_spec_is_refused_by_its_wrong_part(text: str, part: str) -> None:
    """The message quotes the argument and names what is wrong in it."""
    with pytest.raises(ClientError) as caught:
        parse_spec(text)
    assert str(caught.value).startswith(f"--index {text}: ")
    assert part in str(caught.value)


def test_a_name_is_given_once() -> None:
    """Two specs for one name contradict each other."""
    with pytest.raises(ClientError, match="--index a: the name is given twice"):
        parse_specs(["a=dense", "b=dense", "a=sparse"])


def test_without_specs_a_folder_is_served_whole(tmp_path: Any) -> None:
    """The indexes that one run stored are served by the next one by name, each with its own schema."""
    with open_engines(
        [parse_spec("b=dense,dimension=2"), parse_spec("a=sparse")], tmp_path / "new" / "folder"
    ) as engines:
        assert list(engines) == ["b", "a"]
    with open_engines([], tmp_path / "new" / "folder") as engines:
        kinds = [(name, engine.schema.type) for name, engine in engines.items()]
    assert kinds == [("a", "SPARSE"), ("b", "DENSE")]


def test_without_a_folder_one_index_is_served_from_memory() -> None:
    """`nextk serve` alone serves an index that embeds text."""
    with open_engines([], None) as engines:
        assert list(engines) == ["default"]
        assert engines["default"].schema.embeds_text


def test_what_cannot_be_opened_is_said_and_nothing_stays_open(tmp_path: Any) -> None:
    """An empty folder, a file in its place, and a contradiction each get a clear error; other files stay free."""
    with pytest.raises(ClientError, match=r"there is no index .* --index docs=hybrid"), open_engines([], tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ClientError, match="cannot use"), open_engines([DEFAULT], tmp_path / "file"):
        pass
    with open_engines([parse_spec("b=dense")], tmp_path):
        pass
    with pytest.raises(ClientError, match="type='dense'"), open_engines(parse_specs(["a=dense", "b=sparse"]), tmp_path):
        pass
    with open_engines([], tmp_path) as engines:
        assert list(engines) == ["a", "b"]


# Where to listen


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in (EVERY_ADDRESS, "::", "", "192.168.1.5", "example.com", "localhost.example.com")],
)
def test_only_loopback_addresses_are_private(host: str, loopback: bool) -> None:
    """Every other address, and every name but localhost, counts as public."""
    assert is_loopback(host) == loopback


@pytest.mark.parametrize("host", [EVERY_ADDRESS, "::", ""])
def test_a_public_address_needs_a_token(host: str) -> None:
    """Nobody serves the world by accident."""
    with pytest.raises(ClientError, match="without a token: set NEXTK_TOKEN"):
        listen(host, 0, protected=False)


def test_an_address_that_cannot_be_had_is_named() -> None:
    """A port in use or out of range is the user's to change."""
    with listen("127.0.0.1", 0, protected=False) as taken:
        port = taken.getsockname()[1]
        assert url_of(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(ClientError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listen("127.0.0.1", port, protected=False)
    with pytest.raises(ClientError, match=r"port 99999 is not in 0\.\.65535"):
        listen("127.0.0.1", 99999, protected=False)


def test_many_may_connect_before_the_server_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket keeps 2,048 connections waiting, as long as the system permits, from when its URL is known."""
    options: dict[str, Any] = {}
    create_server = socket.create_server

    def note(address: tuple[str, int], **given: Any) -> socket.socket:
        options.update(given)
        return create_server(address, **given)

    monkeypatch.setattr(socket, "create_server", note)
    listen("127.0.0.1", 0, protected=False).close()
    assert options["backlog"] == 2048


LONG = "x" * 5_000


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/{LONG}", {}, 404),
        (f"/indexes/{LONG}/info", {}, 404),
        ("/resumable-query-next", {"uuid": LONG, "additionalK": 1}, 404),
        ("/resumable-query-end", {"uuid": LONG}, 404),
    ],
    ids=["command", "index", "next", "stop"],
)
def test_a_refusal_repeats_only_the_beginning(path: str, body: object, status: int) -> None:
    """A long text of a client is cut in the refusal that repeats it."""
    with LocalServer() as server:
        server.add("pairs", type="dense", dimension=2)
        reply = httpx.post(server.url + path, json=body, headers={"Authorization": f"Bearer {TOKEN}"})
        assert reply.status_code == status
        assert "x" * 100 + "..." in reply.json()["error"]
        assert len(reply.json()["error"]) < 200


# The official SDK, and nextk in its place


def documented_program(sdk: Any, types: Any, url: str, token: str) -> dict[str, Any]:
    """A program as the SDK's documentation writes them; only the import decides what it runs on."""
    index = sdk.Index(url=url, token=token)
    vector, data = sdk.Vector, types.Data
    said: dict[str, Any] = {}
    said["upsert"] = index.upsert(
        [
            vector("1", [0.1, 0.9], sparse_vector=([1, 7], [0.5, 1.5]), metadata={"lang": "de"}, data="eins"),
            vector("2", [0.9, 0.1], sparse_vector=([7], [1.0]), metadata={"lang": "en"}),
            {"id": 3, "vector": [0.5, 0.5], "sparse_vector": ([2], [2.0])},
        ]
    )
    said["upsert ns"] = index.upsert(vectors=[("4", [0.1, 0.1], ([1], [1.0]))], namespace="other")
    hybrid: dict[str, Any] = {"vector": [0.1, 0.9], "sparse_vector": ([7], [1.0])}
    said["query"] = [
        (match.id, match.score, match.metadata, match.data)
        for match in index.query(**hybrid, top_k=2, include_metadata=True, include_data=True)
    ]
    said["filtered"] = [match.id for match in index.query(**hybrid, filter="lang = 'en'")]
    page, handle = index.resumable_query(**hybrid, top_k=1, include_metadata=True)
    with handle:
        said["pages"] = [[match.id for match in part] for part in (page, handle.fetch_next(1), handle.fetch_next(5))]
    said["fetch"] = [None if one is None else one.vector for one in index.fetch(["1", "9"], include_vectors=True)]
    said["range"] = [one.id for one in index.range(limit=10).vectors]
    said["update"] = (index.update("1", metadata={"lang": "fr"}), index.update("9", metadata={}))
    said["delete"] = index.delete(["2", "9"]).deleted
    said["namespaces"] = index.list_namespaces()
    info = index.info()
    said["info"] = (info.vector_count, info.dimension, info.similarity_function, info.namespaces["other"].vector_count)
    index.delete_namespace("other")
    said["reset"] = (index.reset(), index.info().vector_count, index.list_namespaces())
    try:
        index.upsert([data("5", "text")])
    except importlib.import_module(f"{sdk.__name__}.errors").UpstashError as error:
        said["refused"] = str(error)
    (index._client if sdk is upstash_vector else index).close()
    return said


@pytest.mark.parametrize(
    ("sdk", "types"), [(upstash_vector, upstash_vector.types), (nextk, nextk.types)], ids=["upstash", "nextk"]
)
def test_a_documented_program_runs_on_the_official_sdk_and_on_nextk(server: LocalServer, sdk: Any, types: Any) -> None:
    """The official SDK runs unchanged, and the same program runs with only its import changed."""
    url = server.add(f"for-{sdk.__name__}", type="hybrid", dimension=2, similarity="euclidean")
    said = documented_program(sdk, types, url, server.token)
    assert "embedding model" in said.pop("refused")
    scores = [row[1] for row in said["query"]]
    assert scores == sorted(scores, reverse=True)
    assert said.pop("query") == [("1", scores[0], {"lang": "de"}, "eins"), ("2", scores[1], {"lang": "en"}, None)]
    assert said == {
        "upsert": "Success",
        "upsert ns": "Success",
        "filtered": ["2"],
        "pages": [["1"], ["2"], ["3"]],
        "fetch": [[0.1, 0.9], None],
        "range": ["1", "2", "3"],
        "update": (True, False),
        "delete": 1,
        "namespaces": ["", "other"],
        "info": (3, 2, "EUCLIDEAN", 1),
        "reset": ("Success", 0, [""]),
    }


def test_a_model_of_another_version_is_served_if_it_is_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index whose model has another identity by now is served only if it is said that the vectors are the same."""
    specs = parse_specs(["a=sparse,sparse_embedding=bm25"])
    with open_engines(specs, tmp_path):
        pass
    monkeypatch.setattr(keywords, "sparse_model", lambda _: BM25("bm25(version=0)"))
    with pytest.raises(ClientError, match=r"bm25-2.*version=0.*same_model"), open_engines(specs, tmp_path):
        pass
    with open_engines(specs, tmp_path, same_model=True) as engines:
        assert "bm25(version=0)" == engines["a"].schema.sparse_embedding_identity
