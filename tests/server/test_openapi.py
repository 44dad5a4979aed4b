"""The description of a server: complete, and true of every reply."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import schemathesis
from schemathesis.schemas import APIOperation
from starlette.routing import Route

import nextk
from nextk.dispatch import COMMANDS, BodyForm
from nextk.server import openapi
from nextk.server.app import create_app
from nextk.server.body_shapes import MODELS
from nextk.server.refusal_shapes import OF_NO_OPERATION, REFUSALS
from nextk.server.reply_shapes import RESULTS
from nextk.server.routing import METHODS
from tests.support.described_server import violations
from tests.support.local_server import READ_ONLY_TOKEN, TOKEN, LocalServer

BEARER = {"Authorization": f"Bearer {TOKEN}"}
UUID = "0b8f6c0e-5b7e-4d0a-9a53-2f1c8f3f6a11"
VECTORS = {"vector": [1, 0], "sparseVector": {"indices": [3, 1], "values": [0.5, 2]}}
INCLUDED = {"includeVectors": True, "includeMetadata": True, "includeData": True}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server with a token and three indexes: `dense`, at the root; `texts`, which embeds; and `a b/ü`, undecided."""
    with LocalServer() as running:
        running.add("dense", type="dense", dimension=2)
        running.add("texts", embedding="static", sparse_embedding="bm25", weighting="none")
        running.add("a b/ü")
        yield running


def description(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the description of a server."""
    reply = httpx.get(f"{url}/openapi.json", headers=headers)
    assert (200, "application/json") == (reply.status_code, reply.headers["content-type"])
    return dict(reply.json())


@pytest.fixture(scope="module")
def described(server: LocalServer) -> dict[str, Any]:
    """The description of the server with a token."""
    return description(server.url, BEARER)


# Complete


def test_it_is_valid_and_of_openapi_3_1(described: dict[str, Any]) -> None:
    """The description passes the schema that OpenAPI 3.1 has for descriptions."""
    assert "3.1.0" == described["openapi"]
    schemathesis.openapi.from_dict(described).validate()
    with pytest.raises(Exception, match="paramters"):
        schemathesis.openapi.from_dict({**described, "paramters": []}).validate()


def test_every_command_is_described() -> None:
    """A command that is added needs words, the shape of its result, and the model of its body if it takes one."""
    assert openapi.WORDS.keys() == RESULTS.keys() == COMMANDS.keys()
    assert MODELS.keys() == {name for name, command in COMMANDS.items() if command.form is not BodyForm.NONE}


def test_every_path_has_its_methods(described: dict[str, Any]) -> None:
    """Every path of the server is there with each method that it answers, and no other path is."""
    paths = {f"/{name}" for name in COMMANDS if name != "delete-namespace"}
    paths |= {f"/{name}/{{namespace}}" for name, command in COMMANDS.items() if command.namespaced}
    own = {route.path: route.methods for route in create_app({}).routes if isinstance(route, Route)}
    found = {
        path: {method.upper() for method in item if method.upper() in METHODS}
        for path, item in described["paths"].items()
    }
    assert {path: set(METHODS) for path in paths} | {"/backup": {"GET"}} | own == found


def test_every_operation_has_an_id_of_its_own(described: dict[str, Any]) -> None:
    """Programs that make clients of the description name their functions by these ids."""
    ids = [operation["operationId"] for item in described["paths"].values() for _, operation in operations(item)]
    assert len(ids) == len(set(ids))


def operations(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the operations of a path by their methods."""
    return ((method, operation) for method, operation in item.items() if method.upper() in METHODS)


def test_every_status_is_described(described: dict[str, Any]) -> None:
    """Whatever status the code of the server can give is among the described refusals."""
    root = Path(nextk.__file__).parent
    files = [root / "dispatch.py", *(root / "server").glob("*.py"), *(root / "engine").rglob("*.py")]
    files.remove(root / "server" / "refusals.py")  # which has words for statuses that nothing gives yet
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    registered = {status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
    given = {node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) is int} & registered
    given |= {HTTPStatus[node.attr].value for node in nodes if isinstance(node, ast.Attribute) if is_status(node.attr)}
    assert sorted(given) == list(REFUSALS)
    assert {shape.name for shape in REFUSALS.values()} <= described["components"]["responses"].keys()


def is_status(name: str) -> bool:
    """Whether a name is that of a status of failures."""
    return name in HTTPStatus.__members__ and HTTPStatus[name] >= HTTPStatus.BAD_REQUEST


def test_nothing_is_described_that_is_not_used(described: dict[str, Any]) -> None:
    """Every component is referred to, except for the refusals of requests that are not made by the description."""
    text = repr(described)
    components = {f"{kind}/{name}" for kind in described["components"] for name in described["components"][kind]} - {
        "securitySchemes/token"
    }
    used = set(re.findall(r"#/components/(\w+/[\w-]+)", text))
    assert {f"responses/{REFUSALS[status].name}" for status in OF_NO_OPERATION} == components - used
    assert set() == used - components


def test_fields_that_a_command_ignores_are_not_described(described: dict[str, Any]) -> None:
    """A query by vector has no text, and a query by text no vector, though the server reads both by one class."""
    schemas = described["components"]["schemas"]
    by_vector, by_text = schemas["VectorStart"]["properties"], schemas["TextStart"]["properties"]
    assert {"data"} == by_text.keys() - by_vector.keys()
    assert {"vector", "sparseVector"} == by_vector.keys() - by_text.keys()


# Of this server


def test_the_base_urls_are_those_of_the_indexes(described: dict[str, Any], server: LocalServer) -> None:
    """The description has the index at the root and all indexes by their names, percent-encoded."""
    at_root, by_name = described["servers"]
    assert ("/", "the index dense") == (at_root["url"], at_root["description"])
    variable = by_name["variables"]["index"]
    assert variable["default"] == "dense"
    assert list(server.engines) == [unquote(name) for name in variable["enum"]]
    for name in variable["enum"]:
        url = server.url + by_name["url"].replace("{index}", name)
        assert 200 == httpx.get(f"{url}/info", headers=BEARER).status_code


def test_a_server_without_indexes_is_described() -> None:
    """An index that is added later is described from then on, and one that is at no root is not said to be there."""
    with LocalServer(token=None, read_only_token=None, root="absent") as empty:
        assert [{"url": "/"}] == description(empty.url)["servers"]
        empty.add("late", type="sparse")
        assert ["/indexes/{index}"] == [each["url"] for each in description(empty.url)["servers"]]


def test_tokens_are_described_where_they_are_needed(described: dict[str, Any]) -> None:
    """With a token every operation but `/healthz` needs it; without one none does."""
    assert [{"token": []}] == described["security"]
    assert {"type": "http", "scheme": "bearer"} == described["components"]["securitySchemes"]["token"]
    assert "401" in described["paths"]["/info"]["get"]["responses"]
    assert [] == described["paths"]["/healthz"]["get"]["security"]
    with LocalServer(token=None, read_only_token=None) as open_server:
        without = description(open_server.url)
    assert "security" not in without
    assert "securitySchemes" not in without["components"]
    assert "401" not in without["paths"]["/info"]["get"]["responses"]
    assert "403" in without["paths"]["/info"]["get"]["responses"]


def test_whoever_may_read_may_read_the_description(server: LocalServer) -> None:
    """The read-only token is enough, no token is not, and a page of another site is refused by an open server."""
    description(server.url, {"Authorization": f"Bearer {READ_ONLY_TOKEN}"})
    assert 401 == httpx.get(f"{server.url}/openapi.json").status_code
    with LocalServer(token=None, read_only_token=None) as open_server:
        description(open_server.url)
        assert 403 == httpx.get(f"{open_server.url}/openapi.json", headers={"Origin": "null"}).status_code


# True


def operation_of(described: dict[str, Any], path: str) -> APIOperation[Any, Any, Any, Any]:
    """Return the operation of a path by POST, which can compare replies with its description."""
    return schemathesis.openapi.from_dict(described)[path]["POST"]


TEXT = {"id": "a", "data": "one sea", "metadata": {"deep": {"list": [1, None, "x"]}}}
REPLIES: list[tuple[str, str, Any, int]] = [
    ("texts", "/upsert-data", [TEXT, {"id": 2, "data": "two seas"}], 200),
    ("dense", "/upsert", {"id": "a", "vector": [1, 0.5], "data": "text", "metadata": {}}, 200),
    ("dense", "/upsert/{namespace}", [{"id": "b", "vector": [0, 1]}], 200),
    ("dense", "/update", {"id": "a", "metadata": {"k": 1}}, 200),
    ("dense", "/update", {"id": "absent", "metadata": {"k": 1}}, 200),
    ("dense", "/query", {"vector": [1, 0], **INCLUDED}, 200),
    ("dense", "/query", [{"vector": [1, 0], **INCLUDED}, {"vector": [0, 1]}], 200),
    ("texts", "/query-data", {"data": "sea", **INCLUDED}, 200),
    ("texts", "/query-data", [{"data": "sea"}, {"data": "sea", "queryMode": "SPARSE"}], 200),
    ("dense", "/resumable-query", {"vector": [1, 0], "topK": 1, **INCLUDED, "uuid": UUID}, 200),
    ("dense", "/resumable-query/{namespace}", {"vector": [1, 0], "topK": 1}, 200),
    ("texts", "/resumable-query-data", {"data": "sea", "topK": 1}, 200),
    ("dense", "/resumable-query-next", {"uuid": UUID, "additionalK": 1}, 200),
    ("dense", "/resumable-query-next", {"uuid": UUID, "additionalK": 1, "pageNumber": 3}, 200),
    ("dense", "/resumable-query-next", {"uuid": UUID, "additionalK": 1, "pageNumber": 9}, 409),
    ("dense", "/resumable-query-end", {"uuid": UUID}, 200),
    ("dense", "/resumable-query-end", {"uuid": UUID}, 404),
    ("texts", "/fetch", {"ids": ["a", "absent"], **INCLUDED}, 200),
    ("texts", "/fetch", {"prefix": "", **INCLUDED}, 200),
    ("texts", "/range", {"limit": 1, **INCLUDED}, 200),
    ("texts", "/random", None, 200),
    ("dense", "/random/{namespace}", None, 200),
    ("texts", "/info", None, 200),
    ("dense", "/info", None, 200),
    ("a b/ü", "/info", None, 200),
    ("dense", "/list-namespaces", None, 200),
    ("dense", "/rename-namespace", {"namespace": "de", "newNamespace": "en"}, 200),
    ("dense", "/rename-namespace", {"namespace": "de", "newNamespace": "en"}, 404),
    ("dense", "/delete", {"ids": ["a"]}, 200),
    ("dense", "/delete", ["a"], 200),
    ("dense", "/delete", b"raw id", 200),
    ("dense", "/delete", b"[", 400),
    ("dense", "/delete", {}, 422),
    ("dense", "/reset", None, 200),
    ("dense", "/delete-namespace/{namespace}", None, 404),
    ("a b/ü", "/upsert/{namespace}", {"id": "a", **VECTORS}, 200),
    ("a b/ü", "/query/{namespace}", {**VECTORS, **INCLUDED, "fusionAlgorithm": "DBSF"}, 200),
    ("a b/ü", "/info", None, 200),
    ("a b/ü", "/delete-namespace/{namespace}", None, 200),
    ("dense", "/fetch", b" " * 7_000_000, 413),
    ("absent", "/info", None, 404),
]


def test_every_result_has_the_shape_that_is_described(described: dict[str, Any], server: LocalServer) -> None:
    """Each command is run with all that a reply can have, on indexes of each kind, and refusals are as described."""
    succeeded = set()
    with httpx.Client(headers=BEARER) as client:
        for index, path, body, status in REPLIES:
            sent = {"content": body} if isinstance(body, bytes) else {"json": body}
            url = f"{server.index_url(quote(index, safe=''))}{path.replace('{namespace}', 'de')}"
            reply = client.post(url, **sent)
            assert (path, status) == (path, reply.status_code), reply.text
            assert str(status) in described["paths"][path]["post"]["responses"]
            operation_of(described, path).validate_response(reply)
            succeeded |= {path.split("/")[1]} if status == HTTPStatus.OK else set()
    assert COMMANDS.keys() == succeeded


@pytest.mark.parametrize(
    ("result", "fits"),
    [
        ('{"result":{"updated":1}}', True),
        ("{}", False),
        ('{"result":{}}', False),
        ('{"result":{"updated":"1"}}', False),
        ('{"result":{"updated":1,"more":1}}', False),
        ('{"result":{"updated":1},"more":1}', False),
    ],
)
def test_a_wrong_shape_would_be_noticed(described: dict[str, Any], result: str, fits: bool) -> None:
    """The comparison is strict: a field that is missing or additional, or of another type, is not as described."""
    headers, stream = (
        {"content-type": "application/json", "nextk-numbered-pages": "1"},
        httpx.ByteStream(result.encode()),
    )
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=stream, headers=headers))
    with httpx.Client(transport=transport) as client:
        reply = client.post("http://localhost/update")
    assert fits == operation_of(described, "/update").is_valid_response(reply)


def test_other_methods_are_refused_as_described(described: dict[str, Any], server: LocalServer) -> None:
    """A method that is not described is answered with 405 and the methods that are."""
    for path, item in described["paths"].items():
        reply = httpx.patch(server.url + path.replace("{namespace}", "de"), headers=BEARER)
        assert 405 == reply.status_code
        assert {method.upper() for method, _ in operations(item)} == set(reply.headers["allow"].split(", "))


def test_whatever_is_sent_the_replies_are_as_described(tmp_path: Path) -> None:
    """Schemathesis finds no failure, no reply that is not described, and nothing accepted that should be refused."""
    with LocalServer(token=None, read_only_token=None) as open_server:
        open_server.add("texts", type="hybrid", embedding="static", sparse_embedding="bm25")
        # Other methods are answered by the same code, and a namespace makes no difference to a body.
        options = ("--include-method", "POST", "--exclude-path-regex", "namespace}")
        assert "" == violations(
            open_server.url, tmp_path, token=None, examples=2, phases="coverage,stateful", options=options
        )


def test_with_a_token_the_replies_are_as_described(tmp_path: Path) -> None:
    """Schemathesis finds nothing either where a token is needed, by another method, and no path that lets others in."""
    with LocalServer() as protected:
        protected.add("pairs", type="dense", dimension=2)
        options = ("--include-method", "GET")
        assert "" == violations(protected.url, tmp_path, token=TOKEN, examples=1, phases="fuzzing", options=options)
