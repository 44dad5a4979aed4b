"""What a search asks of whoever drives it. The search decides; a session does the I/O, in its own colour."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from nextk.sessions.query import SearchQuery
from nextk.types import QueryResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Embed:
    """Fill in the text or the vectors of a question: embed. Answered by the whole `SearchQuery`."""

    template: SearchQuery


@dataclass(frozen=True, slots=True)
class FetchInfo:
    """Look up whether a question that leaves its mode to the index is answered by fused lists. Answered by a bool."""


@dataclass(frozen=True, slots=True)
class Start:
    """Open the query and take its first page."""

    size: int


@dataclass(frozen=True, slots=True)
class Next:
    """Take the next page of the open query."""

    size: int


@dataclass(frozen=True, slots=True)
class PlainQuery:
    """Take one page by a plain query, which keeps nothing open."""

    size: int


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of the query, which may be open or gone; whatever goes wrong does not matter. Answered by no rows."""


@dataclass(frozen=True, slots=True)
class CallCheck:
    """Ask a check about rows. Answered by what it returned, awaited where that was needed."""

    check: Callable[[list[Any]], Any]
    items: list[Any]


PageEffect: TypeAlias = Start | Next | PlainQuery | Release
PageEffects: TypeAlias = Generator[PageEffect, list[QueryResult], None]
"""Yields what to do; is sent the page or thrown the error."""
Effect: TypeAlias = PageEffect | Embed | FetchInfo | CallCheck
Effects: TypeAlias = Generator[Effect, Any, T]
"""The same for whole calls: is sent the answer of each step."""
