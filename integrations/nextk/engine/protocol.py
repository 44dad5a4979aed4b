"""The interface of an engine, which the rest of nextk relies on.

The methods take validated requests (`nextk.bodies`). A request that the engine refuses raises
`nextk.errors.RefusedError` with the message of the hosted service, and so does one that its storage fails, with the
reason. The methods block, and an engine is safe to call from several threads.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nextk.bodies import Delete, Fetch, Query, Range, Record, TextRecord, Update
from nextk.engine.schema import Schema
from nextk.engine.shares import Share
from nextk.engine.values import Match, TextVectors
from nextk.types import QueryMode


@dataclass(frozen=True, slots=True)
class RangePage:
    """A page of records in insertion order.

    Attributes:
        next_cursor: The cursor of the next page, or `""` if no records are left.
        matches: The records of this page.
    """

    next_cursor: str
    matches: list[Match]


@dataclass(frozen=True, slots=True)
class Stats:
    """The size of an index.

    Attributes:
        size: The bytes that the index takes.
        counts: The number of records in each namespace, by its name.
        approximate: Whether the dense searches of some namespace are so fast that a few records come a page late.
    """

    size: int
    counts: Mapping[str, int]
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class QueryShares:
    """The resumable queries of an index by share.

    Attributes:
        open_queries: The number of open queries of each share that has any.
        evicted: The number of queries that were dropped so far to make room for others.
    """

    open_queries: Mapping[Share, int]
    evicted: int


class Engine(Protocol):
    """An engine serves one index.

    Attributes:
        name: The name by which error messages call the index.
    """

    name: str

    @property
    def pool_from(self) -> int | None:
        """The number of records from which the dense searches of a namespace are approximate.

        It is `None` if nobody has said one.
        """
        ...

    @property
    def exact(self) -> bool:
        """Whether the engine was told that no search is to be approximate."""
        ...

    @property
    def id(self) -> str:
        """A random name that the index was given when it was created."""
        ...

    @property
    def schema(self) -> Schema:
        """The fixed properties of the index, such as its type and its similarity function."""
        ...

    def complete_schema(self, complete: Callable[[Schema], Schema]) -> None:
        """Store what a later opening of the index decides about its schema.

        Args:
            complete: Returns the completed schema for the present one, or raises to change nothing.
        """
        ...

    def upsert(self, namespace: str, records: Sequence[Record]) -> None:
        """Store all of the records or none of them. A record replaces the one that has the same id."""
        ...

    def upsert_data(self, namespace: str, records: Sequence[TextRecord]) -> None:
        """Embed texts and store them as records, all of them or none."""
        ...

    def update(self, namespace: str, update: Update) -> bool:
        """Change parts of one record. Returns `False` if the record does not exist."""
        ...

    def query(self, namespace: str, query: Query) -> list[Match]:
        """Return the best `top_k` matches, best first."""
        ...

    def start(
        self, namespace: str, query: Query, max_idle: int, uuid: str | None = None, *, owner: str = ""
    ) -> tuple[str, list[Match]]:
        """Open a resumable query and read its first page of `top_k` matches, or read it again.

        A start that is repeated with the same `uuid` finds the query that it has opened, and if the first start is
        still being answered, waits for it. A start that fails opens nothing.

        Args:
            namespace: The namespace to search.
            query: The query.
            max_idle: The seconds after which the query is dropped if nobody fetches from it.
            uuid: The uuid that the query is to have. If it is that of a query which this search has opened, the first
                page of that query is read again: the same records as they are now, without those that are gone or no
                longer pass the filter. `None` (the default) lets the engine choose.
            owner: The kind of client, whose open queries in a namespace are counted together. Default `""`.

        Returns:
            The uuid of the query (`""` if the namespace does not exist), and the first page, best first.

        Raises:
            TooManyQueries: As many queries are open as the engine allows, in all or with the same owner in the same
                namespace, and none of them has been idle for long enough to make room.
            QueryNotFound: The query with this `uuid` was stopped already.
            RefusedError: The query with this `uuid` is another search, or has gone on to another page (status 409); or
                `max_idle` is longer than the engine allows (422).
        """
        ...

    def embed_query(self, text: str, mode: QueryMode) -> TextVectors:
        """Embed the text of a query by the models of the index, and search nothing.

        Args:
            text: The text.
            mode: The vectors of a hybrid index that are wanted.

        Returns:
            The dense and the sparse vector; `None` for a kind that the index does not have or the mode leaves out.
        """
        ...

    def require_open(self, uuid: str) -> None:
        """Raise `QueryNotFound` unless the resumable query is open."""
        ...

    def fetch_next(self, uuid: str, count: int, page_number: int | None = None) -> list[Match]:
        """Return the next `count` matches of an open query, best first; fewer if the query is nearly exhausted.

        A request with the number of the last page reads that page again: the same records as they are now, without
        those that are gone or no longer pass the filter. If none of them is left, the page is filled anew with the
        records that follow, so that only an exhausted query has an empty page. A page that fails ends its query,
        because the records on it were lost, but for a request with a number: then it may be requested again. A page
        that is too large for a reply changes nothing, and a smaller one may be requested in its place.

        Args:
            uuid: The uuid of the query.
            count: The number of matches.
            page_number: The number of the page, counted from the first page, which is 1, over all requests, with a
                number or without. `None` (the default) for the next page.

        Raises:
            QueryNotFound: The query was stopped, has expired, or never existed.
            RefusedError: The page is neither the last one nor the next one, the last one had another `count`, or it has
                failed and has to be requested again first (status 409).
        """
        ...

    def stop(self, uuid: str) -> None:
        """Stop an open query.

        Raises:
            QueryNotFound: The query was stopped already, has expired, or never existed.
        """
        ...

    def fetch(self, namespace: str, fetch: Fetch) -> list[Match | None]:
        """Read records by their ids or by a prefix of their ids.

        Returns:
            For ids, one element each, in the given order, `None` if there is no such record; for a prefix, the records.
        """
        ...

    def range(self, namespace: str, request: Range) -> RangePage:
        """Read a page of records in insertion order."""
        ...

    def random(self, namespace: str) -> Match | None:
        """Return a random record, or `None` if the namespace has no records."""
        ...

    def delete(self, namespace: str, selection: Delete) -> int:
        """Delete records by ids, by a prefix of their ids or by a filter. Returns the number of deleted records."""
        ...

    def reset(self, namespace: str | None) -> None:
        """Delete all records of one namespace, or of every namespace if `namespace` is `None`."""
        ...

    def stats(self) -> Stats:
        """Return the size of the index and the number of records in each namespace."""
        ...

    def list_namespaces(self) -> list[str]:
        """Return the names of all namespaces, the default namespace first."""
        ...

    def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace and its records. Open queries on it have no further pages."""
        ...

    def rename_namespace(self, namespace: str, new: str, *, replace: bool) -> bool:
        """Rename a namespace. Open queries on it go on.

        Args:
            namespace: The name of the namespace.
            new: The new name.
            replace: Whether an existing namespace of the new name is deleted first; otherwise the request is refused.

        Returns:
            `False` if the namespace already has that name.
        """
        ...

    def open_queries(self) -> int:
        """Return the number of open resumable queries."""
        ...

    def query_shares(self) -> QueryShares:
        """Return how many resumable queries each share has open, and how many were dropped to make room."""
        ...

    def filter_seconds(self) -> float:
        """Return the seconds that filters have taken so far: to read the values of their fields, and to test them."""
        ...

    def sweep(self) -> None:
        """Drop the resumable queries that have been idle for longer than their `max_idle`."""
        ...

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool, abandoned: Callable[[], bool]) -> None:
        """Copy the index, as it is now, into a file of its own, while it may be searched and written.

        No command of the protocol calls this: no client has a server make a file at a path of the client's choice.

        Args:
            path: The file to make.
            overwrite: Whether an index that is in the file already is replaced.
            abandoned: Returns whether nobody wants the copy any more. Then `concurrent.futures.CancelledError` is
                raised, and nothing is left behind.

        Raises:
            ClientError: The copy cannot be made at this path, or the index cannot be read. Nothing is left behind.
        """
        ...

    def close(self) -> None:
        """Release the resources of the engine. Further calls do nothing."""
        ...
