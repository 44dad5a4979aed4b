"""The client half of the protocol, without I/O: calls become operations, and results become public types.

An `Operation` holds plain values; the transports decide whether they are written as JSON. Only this file knows the
paths and bodies of the client half; `nextk.dispatch` knows those of the server half. Checks here raise `ClientError`
only for what no server would accept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import Annotated, Any, Generic, TypeVar, Unpack
from urllib.parse import quote

from pydantic import TypeAdapter

from nextk.arguments import choose, did_you_mean, elements_of, id_list, require_count, require_kind, written
from nextk.errors import ClientError
from nextk.payloads import QueryFields, Upsertable, query_fields, record_fields, sparse_field, vector_field
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
    UntilFirstFault,
)

T = TypeVar("T")

Started = tuple[str, list[QueryResult]]
"""The result of a resumable start: the uuid (`""` if the namespace does not exist) and the first page."""


class Repeat(Enum):
    """When an operation whose reply did not arrive may be sent again.

    `ALWAYS`: always, since to do it twice has the effect of doing it once.
    `UNLESS_SENT`: only if the server surely did not see it, since it opens or advances a resumable query.
    `NUMBERED`: always, and also when the server has failed: it gives the query that has the uuid of the start, or the
        page that has the number, again.
    `STOP`: always; the refusal "no such query" of a repeat means that an earlier attempt succeeded.
    """

    ALWAYS = "always"
    UNLESS_SENT = "unless sent"
    NUMBERED = "numbered"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a resumable query, as it arrived.

    Attributes:
        matches: Its matches, best first.
        numbered: Whether the server has said which number the page has. If it was asked for a page by number and did
            not, it has ignored the number, and this is the page that follows those that it gave before.
    """

    matches: list[QueryResult]
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One request to an index.

    Attributes:
        path: Path and query string, percent-encoded, without a leading slash.
        body: The values of the body: an object, or a list of objects. Arrays and scalars of numpy are allowed. `None`
            for no body.
        parse: Turns the `result` of the reply into public types; raises `ValueError`, `TypeError` or `KeyError` if it
            is not of the documented shape.
        repeat: When the operation may be sent again.
        patient: Whether the transport sends it again and waits. `False` for one attempt only, whatever the transport
            was told: whoever sends the operation repeats it and waits.
    """

    path: str
    body: Any
    parse: Callable[[Any], T]
    repeat: Repeat = Repeat.ALWAYS
    patient: bool = True

    @property
    def command(self) -> str:
        """The first segment of the path."""
        return self.path.partition("?")[0].partition("/")[0]

    @property
    def starts(self) -> bool:
        """Whether the operation opens a resumable query, which stays open if its result is lost."""
        return self.command in ("resumable-query", "resumable-query-data")

    @property
    def continues(self) -> bool:
        """Whether the operation continues or stops a resumable query."""
        return self.command in ("resumable-query-next", "resumable-query-end")

    @property
    def own_uuid(self) -> str | None:
        """The uuid that the client has made for the query which this starts; `None` if there is none."""
        uuid = self.body.get("uuid") if self.starts else None
        return uuid if isinstance(uuid, str) else None


def target(command: str, namespace: str | None) -> str:
    """Return the path of a command in a namespace, percent-encoded segment by segment.

    Args:
        command: The command.
        namespace: The namespace; `None` or `""` for the default one.

    Raises:
        ClientError: The namespace is not text, or holds lone surrogates.
    """
    if namespace is None:
        return command
    try:
        segments = [quote(segment, safe="") for segment in str.split(namespace, "/")]
    except (UnicodeEncodeError, TypeError) as error:  # 0 and b"" must not mean the default namespace
        message = f"namespace={written(namespace)} is not text that can be sent"
        raise ClientError(message) from error
    if segments == [""]:
        return command
    # Dot segments would be folded away on the way; encoded they arrive.
    return "/".join([command, *(part.replace(".", "%2E") if set(part) == {"."} else part for part in segments)])


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return a function that reads a type from wire data; built once per type, when it is first needed."""
    return TypeAdapter(kind).validate_python


def _reads(kind: Any) -> Callable[[Any], Any]:
    def read(result: Any) -> Any:
        return _reader(kind)(result)

    return read


_Matches = Annotated[list[QueryResult], UntilFirstFault()]

_matches: Callable[[Any], list[QueryResult]] = _reads(_Matches)
_lists_of_matches: Callable[[Any], list[list[QueryResult]]] = _reads(Annotated[list[_Matches], UntilFirstFault()])
_records: Callable[[Any], list[FetchResult | None]] = _reads(Annotated[list[FetchResult | None], UntilFirstFault()])
_texts: Callable[[Any], list[str]] = _reads(Annotated[list[str], UntilFirstFault()])
_text: Callable[[Any], str] = _reads(str)


def _nothing(_result: Any) -> None:
    return None


def _started(result: Any) -> Started:
    if not isinstance(result, dict):
        message = "a resumable query's result is not an object"
        raise TypeError(message)
    return _text(result.get("uuid")), _matches(result.get("scores"))


def _next_page(result: Any) -> Page:
    return Page(_matches(result))


def _page_of_number(number: int, result: Any) -> Page:
    if not isinstance(result, dict):
        return _next_page(result)
    if result.get("pageNumber") != number:
        message = f"page {number} was requested, and the reply has the number {written(result.get('pageNumber'))}"
        raise ValueError(message)
    return Page(_matches(result.get("scores")), numbered=True)


def upsert(vectors: Iterable[Upsertable], namespace: str | None, embeds: bool | None = None) -> Operation[str]:
    """Return the operation that stores records: vectors, or texts for the index to embed; see `record_fields`."""
    embeds, records = record_fields(vectors, embeds)
    return Operation(target("upsert-data" if embeds else "upsert", namespace), records, _text)


def query(namespace: str | None, **fields: Unpack[QueryFields]) -> Operation[list[QueryResult]]:
    """Return the operation that finds the best matches of one query."""
    embed, body = query_fields(**fields)
    return Operation(target("query-data" if embed else "query", namespace), body, _matches)


def query_many(queries: Sequence[QueryRequest], namespace: str | None) -> Operation[list[list[QueryResult]]]:
    """Return the operation that runs several queries in one request: all by vectors, or all by text."""
    listed = None if isinstance(queries, str | bytes | Mapping) else elements_of(queries)
    if listed is None:
        message = f"queries={written(queries)} has to be a list of dicts, one for each query"
        raise ClientError(message)
    parts = [_one_of_many(position, request) for position, request in enumerate(listed)]
    if not parts:
        message = "query_many needs at least one query"
        raise ClientError(message)
    if len({embed for embed, _ in parts}) > 1:
        message = "query_many takes queries by text or by vectors, not both in one call"
        raise ClientError(message)
    path = target("query-data" if parts[0][0] else "query", namespace)
    if len(parts) == 1:  # a batch of one is answered without the outer list, so it is not sent as one
        return Operation(path, parts[0][1], lambda result: [_matches(result)])
    return Operation(path, [body for _, body in parts], _lists_of_matches)


def _one_of_many(position: int, request: QueryRequest) -> tuple[bool, dict[str, Any]]:
    """Return one query of a batch as `query_fields` does; its errors name the query by its position."""
    known = _known_fields(position, request)
    try:
        return query_fields(**known)
    except ClientError as error:
        message = f"query {position}: {error}"
        raise ClientError(message) from None


def _known_fields(position: int, request: QueryRequest) -> QueryRequest:
    """Return one query of a batch, in which every key is a parameter of a query.

    Raises:
        ClientError: It is no dict, or has another key. The message names the key and the nearest parameter.
    """
    if not isinstance(request, Mapping):
        message = f"query {position} of query_many has to be a dict of the parameters of query, not {written(request)}"
        raise ClientError(message)
    for key in request:
        if key == "namespace":
            message = f"query {position} has the key 'namespace': all queries search one, query_many(namespace=...)"
            raise ClientError(message)
        if key not in QueryRequest.__annotations__:
            message = (
                f"query {position} has the unknown key {written(key)}{did_you_mean(key, QueryRequest.__annotations__)}"
            )
            raise ClientError(message)
    return request


def start(
    namespace: str | None, *, max_idle: int, uuid: str | None = None, **fields: Unpack[QueryFields]
) -> Operation[Started]:
    """Return the operation that opens a resumable query, which expires after `max_idle` seconds without a call.

    Args:
        namespace: The namespace to search; `None` or `""` for the default one.
        max_idle: The seconds without a call after which the server may drop the query.
        uuid: The uuid that the query is to have, so that the start may be repeated; only for a server that numbers
            pages (see `nextk.transport.numbering`). `None` lets the server choose.
        **fields: The query.
    """
    embed, body = query_fields(**fields)
    path = target("resumable-query-data" if embed else "resumable-query", namespace)
    body = {**body, "maxIdle": max_idle}
    if uuid is None:
        return Operation(path, body, _started, Repeat.UNLESS_SENT)
    return Operation(path, {**body, "uuid": uuid}, _started, Repeat.NUMBERED)


def fetch_next(uuid: str, count: int, page_number: int | None = None, *, patient: bool = True) -> Operation[Page]:
    """Return the operation that fetches a page of a resumable query.

    Args:
        uuid: The query.
        count: How many matches the page has at the most.
        page_number: The number of the page, so that the request may be repeated; only for a server that numbers pages
            (see `nextk.transport.numbering`). `None` for whichever page is next.
        patient: Whether the transport repeats the request, and waits in between. Default `True`.
    """
    path = "resumable-query-next"
    body: dict[str, Any] = {"uuid": uuid, "additionalK": count}
    if page_number is None:
        return Operation(path, body, _next_page, Repeat.UNLESS_SENT, patient)
    body["pageNumber"] = page_number
    return Operation(path, body, partial(_page_of_number, page_number), Repeat.NUMBERED, patient)


def stop(uuid: str) -> Operation[None]:
    """Return the operation that stops a resumable query."""
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
    """Return the operation that changes parts of one record; its value says whether the record exists."""
    body = {
        "id": id,
        "vector": vector_field(vector),
        "sparseVector": sparse_field(sparse_vector),
        "data": data,
        "metadata": metadata,
        "metadataUpdateMode": choose(MetadataUpdateMode, metadata_update_mode, "metadata_update_mode"),
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
    """Return the operation that fetches records by id or by prefix."""
    body: dict[str, Any] = {
        "includeVectors": include_vectors,
        "includeMetadata": include_metadata,
        "includeData": include_data,
    }
    if ids is not None:
        body["ids"] = id_list(ids)
    if prefix is not None:
        body["prefix"] = prefix
    return Operation(target("fetch", namespace), body, _records)


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
    """Return the operation that fetches records in the order of their insertion, from a cursor on."""
    require_count(limit, "limit")
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
    """Return the operation that removes records by id, by prefix or by filter."""
    body: dict[str, Any] = {}
    if ids is not None:
        body["ids"] = id_list(ids)
    if prefix is not None:
        body["prefix"] = prefix
    if filter is not None:
        body["filter"] = filter
    return Operation(target("delete", namespace), body, _reads(DeleteResult))


def reset(namespace: str | None, *, all: bool) -> Operation[str]:
    """Return the operation that empties one namespace, or all of them."""
    path = target("reset", namespace)
    return Operation("reset?all" if require_kind(all, bool, "all") else path, None, _text)


def info() -> Operation[InfoResult]:
    """Return the operation that fetches the properties and the size of the index."""
    return Operation("info", None, _reads(InfoResult))


def list_namespaces() -> Operation[list[str]]:
    """Return the operation that lists the names of all namespaces."""
    return Operation("list-namespaces", None, _texts)


def delete_namespace(namespace: str) -> Operation[None]:
    """Return the operation that removes a namespace.

    Raises:
        ClientError: It is the default namespace.
    """
    path = target("delete-namespace", namespace)
    if path == "delete-namespace":
        message = "the default namespace cannot be deleted; use reset()"
        raise ClientError(message)
    return Operation(path, None, _nothing)
