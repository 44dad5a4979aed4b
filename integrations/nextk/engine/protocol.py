"""What the rest of nextk may ask of an engine, embedded or not.

The methods take validated requests (`nextk.bodies`) and refuse with `nextk.errors.RefusedError` in the service's own
words. They block; an engine is safe to call from several threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nextk.bodies import Delete, Fetch, Query, Range, Record, TextRecord, Update
from nextk.engine.schema import Schema
from nextk.engine.values import Match


@dataclass(frozen=True, slots=True)
class RangePage:
    """Records in insertion order; `next_cursor` is `""` once nothing is left."""

    next_cursor: str
    matches: list[Match]


@dataclass(frozen=True, slots=True)
class Stats:
    """What an engine holds: bytes, and records per namespace."""

    size: int
    counts: Mapping[str, int]


class Engine(Protocol):
    """One index."""

    name: str

    @property
    def id(self) -> str:
        """A random name given to the index when it was made."""
        ...

    @property
    def schema(self) -> Schema:
        """The fixed properties of the index."""
        ...

    def upsert(self, namespace: str, records: Sequence[Record]) -> None:
        """Store records, whole and together, replacing those of the same id."""
        ...

    def upsert_data(self, namespace: str, records: Sequence[TextRecord]) -> None:
        """Embed texts and store them."""
        ...

    def update(self, namespace: str, update: Update) -> bool:
        """Change parts of one record; `False` where it does not exist."""
        ...

    def query(self, namespace: str, query: Query) -> list[Match]:
        """The best `top_k` matches, best first."""
        ...

    def start(self, namespace: str, query: Query, max_idle: int) -> tuple[str, list[Match]]:
        """Open a resumable query: its uuid (`""` where the namespace does not exist) and the first page."""
        ...

    def require_open(self, uuid: str) -> None:
        """Raise `QueryNotFound` unless the resumable query is open."""
        ...

    def fetch_next(self, uuid: str, count: int) -> list[Match]:
        """The next `count` matches of an open query; fewer near the end, none after it."""
        ...

    def stop(self, uuid: str) -> None:
        """End an open query."""
        ...

    def fetch(self, namespace: str, fetch: Fetch) -> list[Match | None]:
        """Records by id, one slot each, or by prefix."""
        ...

    def range(self, namespace: str, request: Range) -> RangePage:
        """Records in insertion order."""
        ...

    def random(self, namespace: str) -> Match | None:
        """Some record, or none where there is none."""
        ...

    def delete(self, namespace: str, selection: Delete) -> int:
        """Remove records; how many were there."""
        ...

    def reset(self, namespace: str | None) -> None:
        """Empty one namespace, or every one for `None`."""
        ...

    def stats(self) -> Stats:
        """Size and counts."""
        ...

    def list_namespaces(self) -> list[str]:
        """Every namespace, the default one first."""
        ...

    def delete_namespace(self, namespace: str) -> None:
        """Remove a namespace and its records."""
        ...

    def rename_namespace(self, namespace: str, new: str, *, replace: bool) -> bool:
        """Give a namespace another name; `False` where it has that name already."""
        ...

    def open_queries(self) -> int:
        """How many resumable queries are open."""
        ...

    def sweep(self) -> None:
        """Drop resumable queries that have been idle for too long."""
        ...

    def close(self) -> None:
        """Release what the engine holds; calling it again does nothing."""
        ...
