"""The operations that search: one query, several in one request, and the calls of a resumable one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Unpack

from nextk.arguments import did_you_mean, elements_of, written
from nextk.errors import ClientError
from nextk.operations.operation import Operation, Repeat, read_nothing, read_text, reads, target
from nextk.payloads import QueryFields, query_fields
from nextk.types import QueryRequest, QueryResult, UntilFirstFault

Started = tuple[str, list[QueryResult]]
"""The result of a resumable start: the uuid (`""` if the namespace does not exist) and the first page."""


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


_Matches = Annotated[list[QueryResult], UntilFirstFault()]

_matches: Callable[[Any], list[QueryResult]] = reads(_Matches)
_lists_of_matches: Callable[[Any], list[list[QueryResult]]] = reads(Annotated[list[_Matches], UntilFirstFault()])


def _started(result: Any) -> Started:
    if not isinstance(result, dict):
        message = "a resumable query's result is not an object"
        raise TypeError(message)
    return read_text(result.get("uuid")), _matches(result.get("scores"))


def _next_page(result: Any) -> Page:
    return Page(_matches(result))


def _page_of_number(number: int, result: Any) -> Page:
    if not isinstance(result, dict):
        return _next_page(result)
    if result.get("pageNumber") != number:
        message = f"page {number} was requested, and the reply has the number {written(result.get('pageNumber'))}"
        raise ValueError(message)
    return Page(_matches(result.get("scores")), numbered=True)


def query(namespace: str | None, **fields: Unpack[QueryFields]) -> Operation[list[QueryResult]]:
    """Return the operation that finds the best matches of one query."""
    embed, body = query_fields(**fields)
    return Operation(target("query-data" if embed else "query", namespace), body, _matches, exact=_is_exact(body))


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
        body = parts[0][1]
        return Operation(path, body, lambda result: [_matches(result)], exact=_is_exact(body))
    bodies = [body for _, body in parts]
    return Operation(path, bodies, _lists_of_matches, exact=any(map(_is_exact, bodies)))


def _is_exact(body: Mapping[str, Any]) -> bool:
    return "exact" in body


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
        return Operation(path, body, _started, Repeat.UNLESS_SENT, exact=_is_exact(body))
    return Operation(path, {**body, "uuid": uuid}, _started, Repeat.NUMBERED, exact=_is_exact(body))


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
    return Operation("resumable-query-end", {"uuid": uuid}, read_nothing, Repeat.STOP)
