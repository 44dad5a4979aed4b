"""The server half of the protocol: a path and a body become a call of an engine, and what it returns a result.

`dispatch` takes and gives values. The in-process transport calls it with the values of an operation; the HTTP server
decodes bytes before the call and encodes the result after it (`nextk.server.codec`). So what passes in process passes
over HTTP. This file knows the paths of the server half; `nextk.operations` knows those of the client half.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

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
    sized_namespace,
)
from nextk.engine.protocol import Engine
from nextk.errors import RefusedError
from nextk.plain import record_name, shortened
from nextk.types import UNDECIDED, UntilFirstFault

log = logging.getLogger("nextk.dispatch")

FULL, READ_ONLY = "full", "read_only"
"""The owners of open queries: clients that may write, and those that may only read."""

_Model = TypeVar("_Model", bound=BaseModel)
_Result = Any  # dicts, lists, texts and numbers, with an engine's `Match` for each record


class BodyForm(Enum):
    """The form that the body of a command has."""

    NONE = "none"
    """The command takes no parameters; whatever a client sends is ignored."""
    JSON = "json"
    """An object, or a list of objects."""
    SELECTION = "selection"
    """An object; older clients send a bare list of ids instead, or one id without quotes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, taken apart for its command.

    Attributes:
        namespace: The namespace, decoded; `""` for the default one.
        body: The values of the body.
        flags: The query string of the path.
        owner: The kind of client that sends it, by what it may do; the kinds share the open queries.
    """

    namespace: str
    body: object
    flags: str
    owner: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the protocol: the way in which the server answers one path.

    Attributes:
        run: Calls the engine and returns the result.
        writes: Whether it changes anything. Default `False`.
        searches: Whether it ranks the records of a namespace, which keeps a core busy. Default `False`.
        namespaced: Whether a namespace may follow the command in the path. Default `True`.
        form: What the body is. Default `BodyForm.JSON`.
    """

    run: Callable[[Engine, Request], _Result]
    writes: bool = False
    searches: bool = False
    namespaced: bool = True
    form: BodyForm = BodyForm.JSON


def dispatch(engine: Engine, target: str, body: object, *, read_only: bool = False) -> _Result:
    """Answer one request.

    Args:
        engine: The index that answers.
        target: Path and query string, still percent-encoded.
        body: The values of the body: what a JSON reader returns; a dense vector may also be a numpy array. Nothing of
            it is kept, so the caller may change it afterwards.
        read_only: Whether to refuse commands that change anything. Default `False`.

    Returns:
        The result as dicts, lists, texts and numbers. In the place of each record stands a
        `nextk.engine.values.Match`.

    Raises:
        RefusedError: The request is refused, or the engine failed (status 500; the cause is logged).
    """
    try:
        command = find_command(target, read_only=read_only)
        path, _, flags = target.partition("?")
        namespace, owner = _namespace(path.lstrip("/").partition("/")[2]), READ_ONLY if read_only else FULL
        return command.run(engine, Request(namespace, body, flags, owner))
    except RefusedError:
        raise
    except Exception:
        log.exception("a request to %s failed", target.partition("?")[0])
        message = "Internal server error"
        raise RefusedError(message, 500) from None


def find_command(target: str, *, read_only: bool = False) -> Command:
    """Return the command that a path names.

    Args:
        target: Path and query string, still percent-encoded.
        read_only: Whether to refuse commands that change anything. Default `False`.

    Raises:
        RefusedError: No command has this path (status 404), or a read-only request would write (403).
    """
    name, _, namespace = target.partition("?")[0].lstrip("/").partition("/")
    command = COMMANDS.get(name)
    if command is None or (namespace and not command.namespaced):
        message = f"Not found: /{shortened(name)}"
        raise RefusedError(message, 404)
    if read_only and command.writes:
        message = "Forbidden: read-only token cannot perform write operations"
        raise RefusedError(message, 403)
    return command


def _namespace(segments: str) -> str:
    """Decode the namespace of a path, once: two names that differ in their bytes stay two.

    Raises:
        RefusedError: Its bytes are no UTF-8, or too many.
    """
    try:
        return sized_namespace(unquote(segments, errors="strict"))
    except UnicodeDecodeError:
        message = "Invalid namespace: its percent-encoded bytes are not UTF-8"
    except ValueError as error:
        message = f"Invalid namespace: {error}"
    raise RefusedError(message, 422)


def _read(model: type[_Model], value: object) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = _first_fault(error)
        raise RefusedError(_complaint(fault["loc"], fault["msg"]), 422) from None


def _first_fault(error: ValidationError) -> ErrorDetails:
    return error.errors(include_url=False, include_input=False)[0]


def _complaint(location: Sequence[int | str], reason: str) -> str:
    """Return where a fault is and what is wrong with it, in the words of the wire."""
    return f"Invalid {'.'.join(map(str, location)) or 'body'}: {reason.removeprefix('Value error, ')}"


def _items(body: object, limit: int) -> list[Any]:
    """Return an object, or a list of objects, as a list."""
    items = body if isinstance(body, list) else [body]
    if not 1 <= len(items) <= limit:
        message = f"Expected 1 to {limit} items in one request, got {len(items)}"
        raise RefusedError(message, 422)
    return items


@cache
def _list_reader(model: type[_Model]) -> Callable[[list[Any]], list[_Model]]:
    """Return a function that reads a list of objects, up to the first that is wrong."""
    kind: Any = list[model]  # type: ignore[valid-type]
    return TypeAdapter(Annotated[kind, UntilFirstFault()]).validate_python


def _records(model: type[_Model], body: object) -> list[_Model]:
    """Read the records of an upsert. A refusal names the record by its position and its id."""
    items = _items(body, MAX_ROWS)
    try:
        return _list_reader(model)(items)
    except ValidationError as error:
        fault = _first_fault(error)
        position, *location = fault["loc"]
        item = items[int(position)]
        id_ = item.get("id") if isinstance(item, dict) else None
        message = f"{record_name(int(position), id_)}: {_complaint(location, fault['msg'])}"
        raise RefusedError(message, 422) from None


def _upsert(engine: Engine, request: Request) -> _Result:
    engine.upsert(request.namespace, _records(Record, request.body))
    return "Success"


def _upsert_data(engine: Engine, request: Request) -> _Result:
    engine.upsert_data(request.namespace, _records(TextRecord, request.body))
    return "Success"


def _update(engine: Engine, request: Request) -> _Result:
    return {"updated": int(engine.update(request.namespace, _read(Update, request.body)))}


def _query(model: type[Query]) -> Callable[[Engine, Request], _Result]:
    def run(engine: Engine, request: Request) -> _Result:
        queries = [_read(model, item) for item in _items(request.body, MAX_QUERIES)]
        pages = [engine.query(request.namespace, query) for query in queries]
        return pages if len(pages) > 1 else pages[0]  # a batch of one is answered like an object

    return run


def _start(model: type[VectorStart] | type[TextStart]) -> Callable[[Engine, Request], _Result]:
    def run(engine: Engine, request: Request) -> _Result:
        query = _read(model, request.body)
        uuid, page = engine.start(request.namespace, query, query.idle_seconds, query.uuid, owner=request.owner)
        return {"uuid": uuid, "scores": page}

    return run


def _fetch_next(engine: Engine, request: Request) -> _Result:
    try:
        wanted = _read(NextPage, request.body)
    except RefusedError:
        # An unknown query is said to be so, whatever else is wrong with the request.
        engine.require_open(_read(Uuid, request.body).uuid)
        raise
    page = engine.fetch_next(wanted.uuid, wanted.additional_k, wanted.page_number)
    return page if wanted.page_number is None else {"pageNumber": wanted.page_number, "scores": page}


def _stop(engine: Engine, request: Request) -> _Result:
    engine.stop(_read(Uuid, request.body).uuid)
    return "Success"


def _fetch(engine: Engine, request: Request) -> _Result:
    fetch = _read(Fetch, request.body)
    if (fetch.ids is None) == (fetch.prefix is None):
        message = "Only one of ids or prefix must be provided."
        raise RefusedError(message, 422)
    return engine.fetch(request.namespace, fetch)


def _range(engine: Engine, request: Request) -> _Result:
    page = engine.range(request.namespace, _read(Range, request.body))
    return {"nextCursor": page.next_cursor, "vectors": page.matches}


def _random(engine: Engine, request: Request) -> _Result:
    return engine.random(request.namespace)


def _delete(engine: Engine, request: Request) -> _Result:
    return {"deleted": engine.delete(request.namespace, _read(Delete, request.body))}


def _reset(engine: Engine, request: Request) -> _Result:
    everything = any(flag.partition("=")[0] == "all" for flag in request.flags.split("&"))
    engine.reset(None if everything else request.namespace)
    return "Success"


def _info(engine: Engine, _request: Request) -> _Result:
    schema, stats = engine.schema, engine.stats()
    similarity = schema.similarity.value if schema.dense or schema.undecided else ""
    info: dict[str, Any] = {
        "vectorCount": sum(stats.counts.values()),
        "pendingVectorCount": 0,
        "indexSize": stats.size,
        "dimension": schema.dimension or 0,
        "similarityFunction": similarity,
        "indexType": UNDECIDED if schema.type is None else schema.type.value,
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
    # Beside the documented objects, not in them: some clients refuse objects with keys that they do not know.
    more = {
        "fusionOrder": schema.fusion_order.value,
        "numberedPages": True,
        "approximate": stats.approximate,
        "weighting": schema.weighting and schema.weighting.value,
        "embeddingIdentity": schema.embedding_identity,
        "sparseEmbeddingIdentity": schema.sparse_embedding_identity,
    }
    return info | {name: value for name, value in more.items() if value}


def _list_namespaces(engine: Engine, _request: Request) -> _Result:
    return engine.list_namespaces()


def _delete_namespace(engine: Engine, request: Request) -> _Result:
    engine.delete_namespace(request.namespace)
    return "Success"


def _rename_namespace(engine: Engine, request: Request) -> _Result:
    rename = _read(Rename, request.body)
    renamed = engine.rename_namespace(rename.namespace, rename.new_namespace, replace=rename.delete_existing)
    return {"renamed": renamed}


COMMANDS: Mapping[str, Command] = {
    "upsert": Command(_upsert, writes=True),
    "upsert-data": Command(_upsert_data, writes=True),
    "update": Command(_update, writes=True),
    "query": Command(_query(VectorQuery), searches=True),
    "query-data": Command(_query(TextQuery), searches=True),
    "resumable-query": Command(_start(VectorStart), searches=True),
    "resumable-query-data": Command(_start(TextStart), searches=True),
    "resumable-query-next": Command(_fetch_next, namespaced=False),
    "resumable-query-end": Command(_stop, namespaced=False),
    "fetch": Command(_fetch),
    "range": Command(_range),
    "random": Command(_random, form=BodyForm.NONE),
    "delete": Command(_delete, writes=True, form=BodyForm.SELECTION),
    "reset": Command(_reset, writes=True, form=BodyForm.NONE),
    "info": Command(_info, namespaced=False, form=BodyForm.NONE),
    "list-namespaces": Command(_list_namespaces, namespaced=False, form=BodyForm.NONE),
    "delete-namespace": Command(_delete_namespace, writes=True, form=BodyForm.NONE),
    "rename-namespace": Command(_rename_namespace, writes=True, namespaced=False),
}
"""The commands of an index by the first segment of their path."""
