"""The client half of the protocol, without I/O: a call becomes an `Operation`, a reply becomes a value.

This is the only file that knows the paths and bodies of the client half; `nextk.dispatch` knows those of the server
half. Local checks raise `ClientError` only for what no server would accept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar, Unpack
from urllib.parse import quote

from pydantic import TypeAdapter

from nextk.errors import ClientError
from nextk.payloads import QueryFields, Upsertable, choice, query_fields, record_fields, sparse_field, vector_field
from nextk.types import (
    DeleteResult,
    DenseLike,
    FetchResult,
    InfoResult,
    MetadataUpdateMode,
    QueryRequest,
    QueryResult,
    RangeResult,
    SparseLike,
)

T = TypeVar("T")

Started = tuple[str, list[QueryResult]]
"""What a resumable start returns: the uuid (`""` where the namespace does not exist) and the first page."""


class Repeat(Enum):
    """When an operation whose reply did not arrive may be sent again.

    `ALWAYS`: doing it twice is the same as once.
    `UNLESS_SENT`: it moves a cursor or opens one; only if the server surely did not see it.
    `STOP`: as `ALWAYS`, and to hear "no such query" from a repeat means that an earlier one got through.
    """

    ALWAYS = "always"
    UNLESS_SENT = "unless sent"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One request as a value.

    Attributes:
        path: Path and query string, percent-encoded, without a leading slash.
        body: The JSON body, or `None` for none.
        parse: Reads the `result` of the reply; raises `ValueError` if it is not of the documented shape.
        repeat: When it may be sent again.
    """

    path: str
    body: Any
    parse: Callable[[Any], T]
    repeat: Repeat = Repeat.ALWAYS

    @property
    def command(self) -> str:
        """The first part of the path."""
        return self.path.partition("?")[0].partition("/")[0]

    @property
    def starts(self) -> bool:
        """Whether it opens a resumable query, so that a result nobody waits for leaves one open."""
        return self.command in ("resumable-query", "resumable-query-data")

    @property
    def continues(self) -> bool:
        """Whether it speaks of an open resumable query."""
        return self.command in ("resumable-query-next", "resumable-query-end")


def target(command: str, namespace: str | None) -> str:
    """A command's path in a namespace, percent-encoded segment by segment."""
    if not namespace:
        return command
    try:
        segments = [quote(segment, safe="") for segment in namespace.split("/")]
    except (UnicodeEncodeError, AttributeError) as error:
        message = f"namespace={namespace!r} is not text that can be sent"
        raise ClientError(message) from error
    # Dot segments would be folded away on the way; encoded they arrive.
    return "/".join([command, *(part.replace(".", "%2E") if set(part) == {"."} else part for part in segments)])


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Reads wire data as a type; built once per type, when first needed."""
    return TypeAdapter(kind).validate_python


def _reads(kind: Any) -> Callable[[Any], Any]:
    def read(result: Any) -> Any:
        return _reader(kind)(result)

    return read


_matches: Callable[[Any], list[QueryResult]] = _reads(list[QueryResult])
_text: Callable[[Any], str] = _reads(str)


def _nothing(_result: Any) -> None:
    return None


def _started(result: Any) -> Started:
    if not isinstance(result, dict):
        message = "a resumable query's result is not an object"
        raise TypeError(message)
    return _text(result.get("uuid")), _matches(result.get("scores"))


def upsert(vectors: Sequence[Upsertable], namespace: str | None) -> Operation[str]:
    """Store records: vectors, or texts for the index to embed, but not both in one call."""
    embed, records = record_fields(vectors)
    return Operation(target("upsert-data" if embed else "upsert", namespace), records, _text)


def query(namespace: str | None, **fields: Unpack[QueryFields]) -> Operation[list[QueryResult]]:
    """The best matches of one query."""
    embed, body = query_fields(**fields)
    return Operation(target("query-data" if embed else "query", namespace), body, _matches)


def query_many(queries: Sequence[QueryRequest], namespace: str | None) -> Operation[list[list[QueryResult]]]:
    """Several queries in one request: all by vectors, or all by text."""
    # Other keys are ignored, as the documented SDK does.
    known = QueryRequest.__annotations__
    given: list[dict[str, Any]] = [{key: request[key] for key in known if key in request} for request in queries]  # type: ignore[literal-required]
    parts = [query_fields(**fields) for fields in given]
    if not parts:
        message = "query_many needs at least one query"
        raise ClientError(message)
    if len({embed for embed, _ in parts}) > 1:
        message = "query_many takes queries by text or by vectors, not both in one call"
        raise ClientError(message)
    path = target("query-data" if parts[0][0] else "query", namespace)
    if len(parts) == 1:  # a batch of one is answered without the outer list, so it is not sent as one
        return Operation(path, parts[0][1], lambda result: [_matches(result)])
    return Operation(path, [body for _, body in parts], _reads(list[list[QueryResult]]))


def start(namespace: str | None, *, max_idle: int, **fields: Unpack[QueryFields]) -> Operation[Started]:
    """Open a resumable query."""
    embed, body = query_fields(**fields)
    path = target("resumable-query-data" if embed else "resumable-query", namespace)
    return Operation(path, {**body, "maxIdle": max_idle}, _started, Repeat.UNLESS_SENT)


def fetch_next(uuid: str, count: int) -> Operation[list[QueryResult]]:
    """The next page of a resumable query."""
    return Operation("resumable-query-next", {"uuid": uuid, "additionalK": count}, _matches, Repeat.UNLESS_SENT)


def stop(uuid: str) -> Operation[None]:
    """End a resumable query."""
    return Operation("resumable-query-end", {"uuid": uuid}, _nothing, Repeat.STOP)


def update(
    namespace: str | None,
    *,
    id: int | str,
    vector: DenseLike | None,
    data: str | None,
    metadata: Mapping[str, Any] | None,
    metadata_update_mode: MetadataUpdateMode,
    sparse_vector: SparseLike | None,
) -> Operation[bool]:
    """Change parts of one record."""
    body = {
        "id": id,
        "vector": vector_field(vector),
        "sparseVector": sparse_field(sparse_vector),
        "data": data,
        "metadata": metadata,
        "metadataUpdateMode": choice(MetadataUpdateMode, metadata_update_mode),
    }
    body = {key: value for key, value in body.items() if value is not None}
    return Operation(target("update", namespace), body, lambda result: _reader(dict[str, int])(result)["updated"] == 1)


def fetch(
    namespace: str | None,
    *,
    ids: int | str | Sequence[int | str] | None,
    prefix: str | None,
    include_vectors: bool,
    include_metadata: bool,
    include_data: bool,
) -> Operation[list[FetchResult | None]]:
    """Records by id or by prefix."""
    body: dict[str, Any] = {
        "includeVectors": include_vectors,
        "includeMetadata": include_metadata,
        "includeData": include_data,
    }
    if ids is not None:
        body["ids"] = _ids(ids)
    if prefix is not None:
        body["prefix"] = prefix
    return Operation(target("fetch", namespace), body, _reads(list[FetchResult | None]))


def range_(
    namespace: str | None,
    *,
    cursor: str,
    limit: int,
    prefix: str | None,
    include_vectors: bool,
    include_metadata: bool,
    include_data: bool,
) -> Operation[RangeResult]:
    """Records in insertion order, from a cursor on."""
    _require_positive("limit", limit)
    body = {
        "cursor": cursor,
        "limit": limit,
        "includeVectors": include_vectors,
        "includeMetadata": include_metadata,
        "includeData": include_data,
    }
    if prefix is not None:
        body["prefix"] = prefix
    return Operation(target("range", namespace), body, _reads(RangeResult))


def delete(
    namespace: str | None,
    *,
    ids: int | str | Sequence[int | str] | None,
    prefix: str | None,
    filter: str | None,
) -> Operation[DeleteResult]:
    """Remove records by id, by prefix or by filter."""
    body: dict[str, Any] = {}
    if ids is not None:
        body["ids"] = _ids(ids)
    if prefix is not None:
        body["prefix"] = prefix
    if filter is not None:
        body["filter"] = filter
    return Operation(target("delete", namespace), body, _reads(DeleteResult))


def reset(namespace: str | None, *, all: bool) -> Operation[str]:
    """Empty a namespace, or all of them."""
    return Operation("reset?all" if all else target("reset", namespace), None, _text)


def info() -> Operation[InfoResult]:
    """What the index holds."""
    return Operation("info", None, _reads(InfoResult))


def list_namespaces() -> Operation[list[str]]:
    """The names of all namespaces."""
    return Operation("list-namespaces", None, _reads(list[str]))


def delete_namespace(namespace: str) -> Operation[None]:
    """Remove a namespace."""
    if not namespace:
        message = "the default namespace cannot be deleted; use reset()"
        raise ClientError(message)
    return Operation(target("delete-namespace", namespace), None, _nothing)


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        message = f"{name}={value!r} must be a whole number greater than 0"
        raise ClientError(message)


def _ids(ids: int | str | Sequence[int | str]) -> list[int | str]:
    if isinstance(ids, (int, str)):
        return [ids]
    if isinstance(ids, Iterable):
        return list(ids)
    message = f"ids={ids!r} must be an id or a list of ids"
    raise ClientError(message)
