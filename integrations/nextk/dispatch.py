"""The server half of the protocol: a path and a body become an engine call, and its outcome a reply.

The HTTP server and the in-process transports both call `dispatch` with the same bytes, so that what passes locally
passes on the wire. This file knows the paths of the server half; `nextk.operations` knows those of the client half.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson
from pydantic import BaseModel, ValidationError

from nextk.bodies import (
    MAX_QUERIES,
    MAX_ROWS,
    Delete,
    Fetch,
    NextPage,
    Query,
    Range,
    Record,
    Rename,
    TextQuery,
    TextRecord,
    TextStart,
    Update,
    Uuid,
    VectorQuery,
    VectorStart,
)
from nextk.engine.protocol import Engine
from nextk.engine.values import Match
from nextk.errors import RefusedError

log = logging.getLogger("nextk.dispatch")

_Model = TypeVar("_Model", bound=BaseModel)
_Result = Any  # whatever orjson can write


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the HTTP status and the JSON envelope, encoded."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request, taken apart: what `dispatch` hands to a command."""

    namespace: str
    body: bytes
    flags: str


@dataclass(frozen=True, slots=True)
class Command:
    """One path: what it does, and whether it changes anything."""

    run: Callable[[Engine, Request], _Result]
    writes: bool = False
    namespaced: bool = True


def dispatch(engine: Engine, target: str, body: bytes, *, read_only: bool = False) -> Reply:
    """Answer one request.

    Args:
        engine: The index that is asked.
        target: Path and query string as they came, still percent-encoded.
        body: The bytes of the body, whatever their declared type.
        read_only: Refuse commands that change anything.

    Returns:
        The status and the encoded envelope: `{"result": ...}`, or `{"error": text, "status": number}`.
    """
    try:
        return Reply(200, _encode({"result": _run(engine, target, body, read_only=read_only)}))
    except RefusedError as error:
        return refusal(str(error), error.status)
    except Exception:
        log.exception("a request to %s failed", target.partition("?")[0])
        return refusal("Internal server error", 500)


def refusal(text: str, status: int) -> Reply:
    """The envelope of a failure."""
    return Reply(status, _encode({"error": text, "status": status}))


def _encode(envelope: Mapping[str, Any]) -> bytes:
    # orjson writes a numpy float32 as the shortest decimal that names it, always with a fraction: what the wire asks.
    return orjson.dumps(envelope, option=orjson.OPT_SERIALIZE_NUMPY)


def _run(engine: Engine, target: str, body: bytes, *, read_only: bool) -> _Result:
    path, _, flags = target.partition("?")
    name, _, namespace = path.lstrip("/").partition("/")
    command = COMMANDS.get(name)
    if command is None or (namespace and not command.namespaced):
        message = f"Not found: /{name}"
        raise RefusedError(message, 404)
    if read_only and command.writes:
        message = "Forbidden: read-only token cannot perform write operations"
        raise RefusedError(message, 403)
    return command.run(engine, Request(unquote(namespace), body, flags))


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"Invalid JSON: {error}"
        raise RefusedError(message, 400) from None


def _read(model: type[_Model], value: object) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RefusedError(_complaint(error), 422) from None


def _complaint(error: ValidationError) -> str:
    """Say where the first fault is and what is wrong with it, in the words of the wire."""
    fault = error.errors(include_url=False, include_input=False)[0]
    location = ".".join(str(step) for step in fault["loc"]) or "body"
    return f"Invalid {location}: {fault['msg'].removeprefix('Value error, ')}"


def _items(model: type[_Model], body: bytes, most: int) -> list[_Model]:
    """Read an object, or an array of them, as a list."""
    value = _json(body)
    items = value if isinstance(value, list) else [value]
    if not 1 <= len(items) <= most:
        message = f"Expected 1 to {most} items in one request, got {len(items)}"
        raise RefusedError(message, 422)
    return [_read(model, item) for item in items]


def _match(match: Match) -> dict[str, _Result]:
    """A record as the wire spells it; what is absent is left out."""
    sparse = match.sparse_vector
    fields = {
        "id": match.id,
        "score": match.score,
        "vector": match.vector,
        "sparseVector": None if sparse is None else {"indices": sparse.indices, "values": sparse.values},
        "metadata": None if match.metadata is None else orjson.Fragment(match.metadata),
        "data": match.data,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _upsert(engine: Engine, request: Request) -> _Result:
    engine.upsert(request.namespace, _items(Record, request.body, MAX_ROWS))
    return "Success"


def _upsert_data(engine: Engine, request: Request) -> _Result:
    engine.upsert_data(request.namespace, _items(TextRecord, request.body, MAX_ROWS))
    return "Success"


def _update(engine: Engine, request: Request) -> _Result:
    return {"updated": int(engine.update(request.namespace, _read(Update, _json(request.body))))}


def _query(model: type[Query]) -> Callable[[Engine, Request], _Result]:
    def run(engine: Engine, request: Request) -> _Result:
        queries = _items(model, request.body, MAX_QUERIES)
        pages = [[_match(match) for match in engine.query(request.namespace, query)] for query in queries]
        return pages if len(pages) > 1 else pages[0]  # a batch of one is answered like an object

    return run


def _start(model: type[VectorStart] | type[TextStart]) -> Callable[[Engine, Request], _Result]:
    def run(engine: Engine, request: Request) -> _Result:
        query = _read(model, _json(request.body))
        uuid, page = engine.start(request.namespace, query, query.idle_seconds)
        return {"uuid": uuid, "scores": [_match(match) for match in page]}

    return run


def _fetch_next(engine: Engine, request: Request) -> _Result:
    body = _json(request.body)
    uuid = _read(Uuid, body).uuid
    engine.require_open(uuid)  # an unknown query is said to be so, whatever else is wrong with the request
    return [_match(match) for match in engine.fetch_next(uuid, _read(NextPage, body).additional_k)]


def _stop(engine: Engine, request: Request) -> _Result:
    engine.stop(_read(Uuid, _json(request.body)).uuid)
    return "Success"


def _fetch(engine: Engine, request: Request) -> _Result:
    fetch = _read(Fetch, _json(request.body))
    if (fetch.ids is None) == (fetch.prefix is None):
        message = "Only one of ids or prefix must be provided."
        raise RefusedError(message, 422)
    return [None if match is None else _match(match) for match in engine.fetch(request.namespace, fetch)]


def _range(engine: Engine, request: Request) -> _Result:
    page = engine.range(request.namespace, _read(Range, _json(request.body)))
    return {"nextCursor": page.next_cursor, "vectors": [_match(match) for match in page.matches]}


def _random(engine: Engine, request: Request) -> _Result:
    match = engine.random(request.namespace)
    return None if match is None else _match(match)


def _delete(engine: Engine, request: Request) -> _Result:
    return {"deleted": engine.delete(request.namespace, _read(Delete, _selection(request.body)))}


def _selection(body: bytes) -> object:
    """Read what a delete selects; older clients send a bare array of ids, or one id without quotes."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"ids": [body.decode(errors="replace")]} if body[:1] not in (b"{", b"[", b"") else _json(body)
    if isinstance(value, list):
        return {"ids": value}
    if isinstance(value, dict):
        return value
    return {"ids": [value if isinstance(value, str) else body.decode().strip()]}  # `1.0` is an id, and not `1`


def _reset(engine: Engine, request: Request) -> _Result:
    everything = any(flag.partition("=")[0] == "all" for flag in request.flags.split("&"))
    engine.reset(None if everything else request.namespace)
    return "Success"


def _info(engine: Engine, _request: Request) -> _Result:
    schema, stats = engine.schema, engine.stats()
    similarity = schema.similarity.value if schema.dense else ""
    info = {
        "vectorCount": sum(stats.counts.values()),
        "pendingVectorCount": 0,
        "indexSize": stats.size,
        "dimension": schema.dimension or 0,
        "similarityFunction": similarity,
        "indexType": schema.type.value,
        "namespaces": {name: {"vectorCount": count, "pendingVectorCount": 0} for name, count in stats.counts.items()},
    }
    if schema.dense:
        info["denseIndex"] = {
            "dimension": schema.dimension or 0,
            "similarityFunction": similarity,
            "embeddingModel": schema.embedding,
        }
    if schema.sparse:
        info["sparseIndex"] = {"embeddingModel": schema.sparse_embedding}
    return info


def _list_namespaces(engine: Engine, _request: Request) -> _Result:
    return engine.list_namespaces()


def _delete_namespace(engine: Engine, request: Request) -> _Result:
    engine.delete_namespace(request.namespace)
    return "Success"


def _rename_namespace(engine: Engine, request: Request) -> _Result:
    rename = _read(Rename, _json(request.body))
    renamed = engine.rename_namespace(rename.namespace, rename.new_namespace, replace=rename.delete_existing)
    return {"renamed": renamed}


COMMANDS: Mapping[str, Command] = {
    "upsert": Command(_upsert, writes=True),
    "upsert-data": Command(_upsert_data, writes=True),
    "update": Command(_update, writes=True),
    "query": Command(_query(VectorQuery)),
    "query-data": Command(_query(TextQuery)),
    "resumable-query": Command(_start(VectorStart)),
    "resumable-query-data": Command(_start(TextStart)),
    "resumable-query-next": Command(_fetch_next, namespaced=False),
    "resumable-query-end": Command(_stop, namespaced=False),
    "fetch": Command(_fetch),
    "range": Command(_range),
    "random": Command(_random),
    "delete": Command(_delete, writes=True),
    "reset": Command(_reset, writes=True),
    "info": Command(_info, namespaced=False),
    "list-namespaces": Command(_list_namespaces, namespaced=False),
    "delete-namespace": Command(_delete_namespace, writes=True),
    "rename-namespace": Command(_rename_namespace, writes=True, namespaced=False),
}
"""Every path that an index answers."""
