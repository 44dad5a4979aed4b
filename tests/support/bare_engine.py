"""A bare engine for tests, without client or transport."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nextk.batches import in_requests
from nextk.bodies import Delete, Record, Update, VectorQuery
from nextk.engine.base import MAX_IDLE
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.file import connect
from nextk.engine.record_cache import RECORD_CACHE_BYTES
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage
from nextk.engine.values import Match


def keep_no_records(engine: EmbeddedEngine) -> None:
    """Let an engine read every record from its file, whenever it needs it."""
    cache = engine._storage.record_cache
    cache.max_bytes = 0
    cache.clear()


def row(match: Match) -> tuple[str, float]:
    """The id and the score of a match."""
    assert match.score is not None
    return match.id, float(match.score)


class Rig:
    """An engine that is driven by request bodies.

    Args:
        type: The type of the index.
        path: The file of the index; `None` keeps it in memory.
        clock: The clock that measures idle times, in seconds.
        max_open_queries: The number of queries that may be open at the same time.
        record_cache_bytes: The memory that written and delivered records may take.
        max_idle: The longest time that a query may be idle, in seconds.
        pool_from: The number of records from which searches have a pool; `None` for the default number.
        schema: The other keywords of `Schema.create`.
    """

    def __init__(
        self,
        type: str = "dense",
        *,
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_open_queries: int = 100,
        record_cache_bytes: int = RECORD_CACHE_BYTES,
        max_idle: int = MAX_IDLE,
        pool_from: int | None = None,
        **schema: Any,
    ) -> None:
        storage = Storage(connect(path, lambda: Schema.create(type=type, **schema)))
        self.engine = EmbeddedEngine(
            storage,
            clock=clock,
            max_open_queries=max_open_queries,
            record_cache_bytes=record_cache_bytes,
            max_idle=max_idle,
            pool_from=pool_from,
        )

    def upsert(self, *records: dict[str, Any], namespace: str = "") -> None:
        """Store records that are given as JSON objects."""
        self.engine.upsert(namespace, [Record.model_validate(record) for record in records])

    def update(self, *, namespace: str = "", **fields: Any) -> bool:
        """Change a record; the update is given as a JSON object."""
        return self.engine.update(namespace, Update.model_validate(fields))

    def delete(self, *, namespace: str = "", **selection: Any) -> int:
        """Delete by `ids`, as many as there are, by `prefix` or by `filter`."""
        parts = [{**selection, "ids": part} for part in in_requests(selection.get("ids", ()))] or [selection]
        return sum(self.engine.delete(namespace, Delete.model_validate(part)) for part in parts)

    def query(self, *, namespace: str = "", **query: Any) -> list[tuple[str, float]]:
        """Return the ids and scores of a plain query."""
        return [row(match) for match in self.engine.query(namespace, VectorQuery.model_validate(query))]

    def start(
        self, *, namespace: str = "", max_idle: int = 3600, uuid: str | None = None, **query: Any
    ) -> tuple[str, list[tuple[str, float]]]:
        """Start a resumable query; return its uuid, and the ids and scores of the first page."""
        opened, page = self.engine.start(namespace, VectorQuery.model_validate(query), max_idle, uuid)
        return opened, [row(match) for match in page]

    def fetch_next(self, uuid: str, count: int, page_number: int | None = None) -> list[tuple[str, float]]:
        """Return the ids and scores of the next page, or of the page with a number."""
        return [row(match) for match in self.engine.fetch_next(uuid, count, page_number)]

    def pages(self, sizes: Sequence[int], **query: Any) -> list[list[tuple[str, float]]]:
        """Run a resumable query: fetch pages of these sizes, then stop it."""
        uuid, first = self.start(**query, topK=sizes[0])
        following = [self.fetch_next(uuid, size) for size in sizes[1:]]
        self.engine.stop(uuid)
        return [first, *following]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left = self.engine.open_queries()
        self.engine.close()
        if error is None:
            assert 0 == left
