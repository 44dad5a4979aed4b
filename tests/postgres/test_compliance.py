"""Sessions keep their promises over indexes on PostgreSQL, whether these rank full lists or go on by a cursor."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from nextk import Index
from nextk.sessions import Cursor, RetrievalSession
from nextk.testing import SessionCompliance
from tests.support.postgres_indexes import postgres_index
from tests.support.searches import SHAPES, Shape, open_session


class OnPostgres:
    """An index of some records, and searches of it."""

    shape: Shape
    rows = 9
    exact_rows = 0

    @pytest.fixture(autouse=True)
    def _database(self, postgres_server: Any, postgres_schema: str) -> None:
        self.database = (postgres_server.dsn, postgres_schema)

    def expected(self) -> Collection[str]:
        """The ids of all records that a search finds."""
        return [f"r{number}" for number in range(self.rows)]

    @contextlib.contextmanager
    def index(self) -> Iterator[Index]:
        """An index with the records."""
        options = {"exact_rows": self.exact_rows}
        with postgres_index(*self.database, "default", options, **self.shape.schema) as index:
            index.reset()
            index.upsert(self.shape.records()[: self.rows])
            yield index

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A search by vectors."""
        return open_session(index, self.shape.question)

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return open_session(index, self.shape.question, cursor=cursor)


class TestGoingOn(OnPostgres, SessionCompliance):
    """Dense searches that go on in PostgreSQL."""

    shape = SHAPES["dense"]


class TestHybrid(OnPostgres, SessionCompliance):
    """Hybrid searches, whose lists are read once and fused into one order."""

    shape = SHAPES["hybrid"]
