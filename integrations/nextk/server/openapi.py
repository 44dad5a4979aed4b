"""The description of a server in the format of OpenAPI 3.1, which `/openapi.json` returns.

It is made from the tables by which the server answers: the commands of `nextk.dispatch`, the models of their bodies,
the limits of bodies, and the methods. The shapes of results and the statuses of refusals have tables of their own,
beside this file; tests hold the server to them.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nextk.bodies import MAX_NAMESPACE_BYTES
from nextk.dispatch import COMMANDS
from nextk.server import docs_page
from nextk.server.body_limits import body_limit
from nextk.server.body_shapes import MODELS, body_content, model_schemas
from nextk.server.refusal_shapes import OF_EVERY_PATH, OF_NO_OPERATION, REFUSALS, RefusalShape, statuses_of
from nextk.server.reply_shapes import RESULTS, SHARED, object_of, reference
from nextk.server.routing import BACKUP, METHODS
from nextk.transport import numbering

PATH = "/openapi.json"
"""The path of the description."""

_ROOT: list[dict[str, Any]] = [{"url": "/"}]
_JSON = "application/json"
_OTHER_METHODS = "other methods"
_ABOUT = """\
The protocol of Upstash Vector, as this server speaks it. An index answers below a base URL of its own, so that a client
needs nothing else. A path may go on with the name of a namespace; without one the command is for the default namespace.

Every command answers each of the methods that are listed for it in the same way, whatever the declared type of the
body; other methods are refused with the status 405. A success is `{"result": ...}`, and a refusal is
`{"error": "what to do", "status": 422}` with the same number as its HTTP status."""


@dataclass(frozen=True, slots=True)
class _Words:
    """The words about a command.

    Attributes:
        tag: The group of commands that it belongs to.
        summary: What it does.
    """

    tag: str
    summary: str


WORDS: Mapping[str, _Words] = {
    "upsert": _Words("records", "Store records, all of the request or none; a record replaces the one with its id"),
    "upsert-data": _Words("records", "Embed texts by the models of the index, and store them as records"),
    "update": _Words("records", "Change the fields of one record that are given"),
    "query": _Words("searches", "Find the records that are nearest to a vector, or to each of several"),
    "query-data": _Words("searches", "Find the records that are nearest to a text, or to each of several"),
    "resumable-query": _Words("searches", "Open a query by a vector that goes on, and read its first page"),
    "resumable-query-data": _Words("searches", "Open a query by a text that goes on, and read its first page"),
    "resumable-query-next": _Words("searches", "Read the next page of an open query, or its last page again"),
    "resumable-query-end": _Words("searches", "Stop an open query"),
    "fetch": _Words("records", "Read records by their ids, or by a prefix of their ids"),
    "range": _Words("records", "Read a page of all records, in the order in which they were stored"),
    "random": _Words("records", "Read a random record with its vectors"),
    "delete": _Words("records", "Delete records by ids, by a prefix of their ids, or by a filter"),
    "reset": _Words("records", "Delete all records of a namespace, or of the whole index"),
    "info": _Words("index", "Read the properties of the index, and its sizes"),
    "list-namespaces": _Words("index", "Read the names of all namespaces"),
    "delete-namespace": _Words("index", "Delete a namespace and its records"),
    "rename-namespace": _Words("index", "Rename a namespace"),
}
"""The words about each command."""


def describe(indexes: Sequence[str], root: str | None, *, protected: bool, max_body: int) -> dict[str, Any]:
    """Return the description of a server.

    Args:
        indexes: The names of the indexes.
        root: The name of the index at the root; `None` if none is.
        protected: Whether the server requires a token.
        max_body: How many bytes the body of an upsert may have.
    """
    at_root: list[dict[str, Any]] = [{"url": "/", "description": f"the index {root}"}] if root in indexes else []
    servers = [*at_root, *_servers(indexes)] or _ROOT
    return {**_description(protected, max_body), "servers": servers}


def _servers(indexes: Sequence[str]) -> Iterator[dict[str, Any]]:
    names = [quote(name, safe="") for name in indexes]
    if names:
        index = {"default": names[0], "enum": names, "description": "the name of the index"}
        yield {"url": "/indexes/{index}", "variables": {"index": index}, "description": "any index by its name"}


@functools.lru_cache(maxsize=8)
def _description(protected: bool, max_body: int) -> dict[str, Any]:
    """Return all but the base URLs, which may change while the server runs."""
    paths = {path: _path_item(name, path, protected=protected) for name in COMMANDS for path in _paths(name)}
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "nextk", "version": "1", "description": _ABOUT},
        "paths": {**paths, f"/{BACKUP}": _backup(protected=protected), **_own_paths(protected=protected)},
        "components": {
            "schemas": {**model_schemas(), **SHARED},
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "requestBodies": {name: _request_body(name, max_body) for name in MODELS},
            "responses": {
                **{name: _result(name) for name in COMMANDS},
                **{shape.name: _refusal(status, shape) for status, shape in REFUSALS.items()},
            },
        },
    }
    if protected:
        description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"token": []}]
    return description


def _paths(name: str) -> Iterator[str]:
    """Return the paths of a command: for the default namespace, which cannot be deleted, and for any other."""
    if name != "delete-namespace":
        yield f"/{name}"
    if COMMANDS[name].namespaced:
        yield f"/{name}/{{namespace}}"


def _path_item(name: str, path: str, *, protected: bool) -> dict[str, Any]:
    names = [parameter for parameter in ("namespace",) if f"{{{parameter}}}" in path]
    names += ["all"] if name == "reset" else []
    item: dict[str, Any] = {method.lower(): _operation(name, path, method, protected=protected) for method in METHODS}
    return {**item, "parameters": [reference(parameter, "parameters") for parameter in names]}


def _operation(name: str, path: str, method: str, *, protected: bool) -> dict[str, Any]:
    words = WORDS[name]
    operation: dict[str, Any] = {
        "operationId": "-".join([method.lower(), name, *(["in-namespace"] if "{" in path else [])]),
        "summary": words.summary,
        "tags": [words.tag if method == "POST" else _OTHER_METHODS],
        "responses": {"200": reference(name, "responses"), **_refusals(statuses_of(name, protected=protected))},
    }
    if name in MODELS:
        operation["requestBody"] = reference(name, "requestBodies")
    return operation


def _refusals(statuses: Sequence[int]) -> dict[str, Any]:
    return {str(status): reference(REFUSALS[status].name, "responses") for status in statuses}


def _request_body(name: str, max_body: int) -> dict[str, Any]:
    size = body_limit(name, max_body).size
    return {"required": True, "description": f"At most {size:,} bytes.", "content": body_content(name)}


def _result(name: str) -> dict[str, Any]:
    content = {_JSON: {"schema": object_of({"result": RESULTS[name]})}}
    links = {"links": _AFTER_START} if name in ("resumable-query", "resumable-query-data") else {}
    return {"description": "The result.", "headers": _NUMBERED, "content": content, **links}


def _refusal(status: int, shape: RefusalShape) -> dict[str, Any]:
    examples = {
        f"example{number}": {"value": {"error": words, "status": status}}
        for number, words in enumerate(shape.words, start=1)
    }
    more = {401: "WWW-Authenticate", 405: "Allow"}.get(status)
    headers = _NUMBERED if more is None else {**_NUMBERED, more: reference(more, "headers")}
    content = {_JSON: {"schema": reference("Refusal"), "examples": examples}}
    return {"description": shape.meaning, "headers": headers, "content": content}


def _backup(*, protected: bool) -> dict[str, Any]:
    """Return the path at which an index sends a copy of itself."""
    statuses = [status for status in REFUSALS if status not in OF_NO_OPERATION and (protected or status != 401)]
    file = {
        "description": "The file of the index, as it is at one moment.",
        "headers": {"Content-Digest": reference("Content-Digest", "headers")},
        "content": {"application/vnd.sqlite3": {}},
    }
    summary = "Receive a copy of the index, with the full token"
    responses = {"200": file, **_refusals(statuses)}
    return {"get": {"operationId": "get-backup", "summary": summary, "tags": ["index"], "responses": responses}}


def _own_paths(*, protected: bool) -> dict[str, Any]:
    """Return the paths of the server itself, which stand beside those of the index at the root."""
    refused = [401 if protected else 403]
    health = {_JSON: {"schema": object_of({"status": {"const": "ok"}})}}
    metrics = {"text/plain": {"schema": {"type": "string"}}}
    openapi = {_JSON: {"schema": {"type": "object"}}}
    page = {"text/html": {"schema": {"type": "string"}}}
    return {
        "/healthz": _own("health", "Tell that the server is up", health, [], security=[]),
        "/metrics": _own("metrics", "Read the metrics, in the format of Prometheus", metrics, refused),
        PATH: _own("openapi", "Read this description", openapi, refused),
        docs_page.PATH: _own("docs", "Read this description as a page", page, refused),
    }


def _own(name: str, summary: str, content: dict[str, Any], refused: list[int], **more: Any) -> dict[str, Any]:
    refusals = _refusals(sorted([*OF_EVERY_PATH, *refused]))
    responses = {"200": {"description": "The reply.", "content": content}, **refusals}
    operation = {"summary": summary, "tags": ["server"], "responses": responses, **more}
    methods = {method: {"operationId": f"{method}-{name}", **operation} for method in ("get", "head")}
    return {"servers": _ROOT, **methods}


_NUMBERED = {numbering.HEADER: reference(numbering.HEADER, "headers")}
_HEADERS = {
    numbering.HEADER: {
        "description": "The version of the extension by which pages are numbered and may be requested again.",
        "required": True,
        "schema": {"const": numbering.VERSION},
    },
    "WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}},
    "Allow": {"required": True, "schema": {"type": "string"}},
    "Content-Digest": {
        "description": "The SHA-256 of the file, as in RFC 9530.",
        "required": True,
        "schema": {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"},
    },
}
_UUID = "$response.body#/result/uuid"
_AFTER_START = {
    "next": {"operationId": "post-resumable-query-next", "requestBody": {"uuid": _UUID, "additionalK": 10}},
    "end": {"operationId": "post-resumable-query-end", "requestBody": {"uuid": _UUID}},
}
_PARAMETERS = {
    "namespace": {
        "name": "namespace",
        "in": "path",
        "required": True,
        "description": f"The name of a namespace, of at most {MAX_NAMESPACE_BYTES:,} bytes of UTF-8. It is "
        "percent-encoded, but a slash may stand as it is.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAMESPACE_BYTES},
    },
    "all": {
        "name": "all",
        "in": "query",
        "description": "If it is there, with any value or none, the records of every namespace are deleted.",
        "allowEmptyValue": True,
        "schema": {"type": "string"},
    },
}
