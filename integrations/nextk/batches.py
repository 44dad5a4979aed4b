"""Any number of records or ids in one call: the requests that it takes, and how far a call came before a failure."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from nextk import operations
from nextk.arguments import require_kind
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError, NextKError, RefusedError
from nextk.extras import require
from nextk.operations import Operation
from nextk.payloads import Upsertable, estimated_size, record_iterator
from nextk.types import DeleteResult

T = TypeVar("T")

MAX_REQUEST_SIZE = 32 * 2**20
"""The estimated bytes of one request; half of what `nextk serve` takes if it is told nothing, because the size of a
body is known only when it is written."""


@contextmanager
def upsert_requests(
    vectors: Iterable[Upsertable], namespace: str | None, *, show_progress: bool = False
) -> Iterator[Iterator[Operation[str]]]:
    """Divide any number of records into the requests that store them.

    ```python
    with upsert_requests(vectors, namespace) as requests:
        for request in requests:
            transport.send(request)
    ```

    The records are read while they are stored, at most 1,000 ahead. An exception that leaves the block says how many of
    them are stored: by a note, and a `NextKError` by its attribute `stored`. One that names a record by its position in
    a request names it by its position among all.

    Args:
        vectors: The records, in any of the forms of `Upsertable`.
        namespace: The namespace to write to.
        show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.

    Yields:
        The requests. When the next one is taken, the one before it counts as stored.

    Raises:
        ClientError: There are no records, one has none of the forms, or texts to embed and vectors are mixed.
        MissingExtraError: The library for the bar is not installed.
    """
    records = record_iterator(vectors)
    total = len(vectors) if isinstance(vectors, Sized) else None
    with counting(total, show_progress=show_progress) as count:
        yield _requests(records, namespace, count)


def in_requests(ids: Sequence[T]) -> list[Sequence[T]]:
    """Divide ids into lists that one request can name, in order."""
    return [ids[start : start + MAX_ROWS] for start in range(0, len(ids), MAX_ROWS)]


@contextmanager
def fetch_requests(operation: Operation[T]) -> Iterator[list[Operation[T]]]:
    """Divide a fetch into requests that each name as many ids as an index takes, in order.

    An exception that leaves the block says by a note how many ids were read, if any.

    Args:
        operation: The fetch. One that names no more ids than that, or none, is one request.

    Yields:
        The requests. One whose reply was parsed counts as done.
    """
    replies: list[T] = []
    try:
        yield _id_requests(operation, replies)
    except BaseException as error:
        if replies:
            error.add_note(f"the first {len(replies) * MAX_ROWS:,} ids were read; reading everything again is safe")
        raise


@contextmanager
def delete_requests(operation: Operation[DeleteResult]) -> Iterator[list[Operation[DeleteResult]]]:
    """Divide a delete into requests that each name as many ids as an index takes, in order.

    An exception that leaves the block says how many records are removed: by a note, if there was a request before, and
    a `NextKError` by its attribute `deleted`.

    Args:
        operation: The delete. One that names no more ids than that, or none, is one request.

    Yields:
        The requests. One whose reply was parsed counts as done.
    """
    replies: list[DeleteResult] = []
    try:
        yield _id_requests(operation, replies)
    except BaseException as error:
        deleted = sum(reply.deleted for reply in replies)
        if isinstance(error, NextKError):
            error.deleted = deleted
        if replies:
            error.add_note(
                f"{deleted:,} records of the first {len(replies) * MAX_ROWS:,} ids are removed, those of the next "
                "request all or none; removing everything again is safe"
            )
        raise


def _id_requests(operation: Operation[T], replies: list[T]) -> list[Operation[T]]:
    """Divide an operation on ids. The replies are gathered in the list when they are parsed."""

    def parse(value: Any) -> T:
        replies.append(operation.parse(value))
        return replies[-1]

    operation_of_all = replace(operation, parse=parse)
    parts = in_requests(operation.body.get("ids", ()))
    if len(parts) <= 1:
        return [operation_of_all]
    return [replace(operation_of_all, body={**operation.body, "ids": part}) for part in parts]


def _requests(
    records: Iterator[Upsertable], namespace: str | None, count: Callable[[int], None]
) -> Iterator[Operation[str]]:
    embeds: bool | None = None
    while (chunk := list(islice(records, MAX_ROWS))) or embeds is None:
        request = operations.upsert(chunk, namespace, embeds)
        embeds = request.command == "upsert-data"
        for part in _parts(request.body):
            yield replace(request, body=part)
            count(len(part))


def _parts(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide the records of a request into parts that are not too large for one."""
    part: list[dict[str, Any]] = []
    room = MAX_REQUEST_SIZE
    for record in records:
        size = estimated_size(record)
        if part and size > room:
            yield part
            part, room = [], MAX_REQUEST_SIZE
        part.append(record)
        room -= size
    yield part


@contextmanager
def counting(
    total: int | None,
    *,
    positions: Sequence[int] | None = None,
    note: Callable[[int], str] | None = None,
    show_progress: bool = False,
) -> Iterator[Callable[[int], None]]:
    """Count the records that a call stores in several requests, so that an exception says how far it has come.

    Args:
        total: The number of all records; `None` if it is not known.
        positions: The position of each record in the list that the caller gave; `None` if they are stored in its order.
        note: Makes the note of an exception from the number of records that are stored; `None` makes one if there are
            any.
        show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.

    Yields:
        A function to call with the number of records of each request that was stored.

    Raises:
        ClientError: `show_progress` is no boolean.
        MissingExtraError: The library for the bar is not installed.
    """
    stored = 0
    with ExitStack() as stack:
        advance = stack.enter_context(_bar(total)) if require_kind(show_progress, bool, "show_progress") else None

        def count(records: int) -> None:
            nonlocal stored
            stored += records
            if advance is not None:
                advance(records)

        try:
            yield count
        except BaseException as error:
            _name_as_given(error, stored, positions)
            if isinstance(error, NextKError):
                if positions is not None:  # a batch of a retriever may have taken several requests itself
                    stored += error.stored or 0
                error.stored = stored
            if text := _note(stored) if note is None else note(stored):
                error.add_note(text)
            raise


def _note(stored: int) -> str:
    """Say how many records are stored; `""` if there are none, because an error says so by itself."""
    if not stored:
        return ""
    return f"the first {stored:,} records are stored, those of the next request all or none; {REPEATABLE}"


REPEATABLE = "storing everything again is safe, equal ids replace each other"
"""The end of a note: how to go on after the error."""


def _name_as_given(error: BaseException, stored: int, positions: Sequence[int] | None) -> None:
    """Let the error of one request name its record by the position in the list that the caller gave.

    Args:
        error: The error, whose message is changed if it names a record of the request.
        stored: The number of the records before this request.
        positions: The position of each record in the caller's list; `None` if they are stored in its order.
    """
    if not isinstance(error, ClientError | RefusedError) or not (named := _NAMED.match(str(error))):
        return
    position = stored + int(named["position"])
    if positions is not None and position >= len(positions):
        return
    message = f"{named['command']}record {position if positions is None else positions[position]}{named['rest']}"
    error.args = (message, *error.args[1:])


# The beginning of the message of an index, or of the client, which names its command first.
_NAMED = re.compile(r"(?P<command>(?:upsert(?:-data)?: )?)record (?P<position>\d{1,4})(?P<rest>\b.*)", re.DOTALL)


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    progress = require("rich.progress", extra="local")
    console = require("rich.console", extra="local").Console(stderr=True)
    columns = progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn()
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("storing", total=total)
        yield lambda count: bar.advance(task, count)
