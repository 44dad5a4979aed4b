"""The source of the cookbook keeps the promises of sources."""

import runpy
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from nextk.sessions import SearchQuery
from nextk.stores import Source
from nextk.testing import AsyncSourceCompliance, SourceCompliance

PATH = Path(__file__).parents[2] / "cookbook" / "a_source_of_your_own.py"
RECIPE: dict[str, Any] = runpy.run_path(str(PATH))
ROWS = 9


class Notes:
    """The parts of a suite over the notes of the recipe."""

    @pytest.fixture(autouse=True)
    def close_sources(self) -> Iterator[None]:
        """Close the database of every source at the end of a test."""
        self.opened: list[Any] = []
        yield
        for source in self.opened:
            source.database.close()

    def source(self) -> Source:
        """Return a source over a few of the notes."""
        source: Source = RECIPE["NotesSource"](RECIPE["TEXTS"][:ROWS])
        self.opened.append(source)
        return source

    def query(self) -> SearchQuery:
        """Return a query whose words stand in every note."""
        return SearchQuery(data="a busy harbour!")

    def expected(self) -> Collection[str]:
        """Return the ids of all notes."""
        return [str(number) for number in range(1, ROWS + 1)]


class TestOwnSource(Notes, SourceCompliance):
    """The blocking suite."""

    def test_a_query_without_words(self) -> None:
        """A query without words finds nothing, and is no error of the database."""
        assert self.source().query(SearchQuery(data="?!"), 5) == []


class TestAsyncOwnSource(Notes, AsyncSourceCompliance):
    """The asynchronous suite."""


def test_it_is_short() -> None:
    """The recipe needs no more than sixty lines."""
    assert len(PATH.read_text(encoding="utf-8").splitlines()) <= 60
