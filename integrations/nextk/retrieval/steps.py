"""What a search asks of whoever drives it. The search decides; a session does the I/O, in its own colour."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from nextk.retrieval.question import Question
from nextk.types import QueryResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Fill in the text or the vectors of a question: embed. Answered by the whole `Question`."""

    blank: Question


@dataclass(frozen=True, slots=True)
class Describe:
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
class Once:
    """Take one page by a plain query, which keeps nothing open."""

    size: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Let go of the query, which may be open or gone; whatever goes wrong does not matter. Answered by no rows."""


@dataclass(frozen=True, slots=True)
class Check:
    """Ask a check about rows. Answered by what it returned, awaited where that was needed."""

    check: Callable[[list[Any]], Any]
    items: list[Any]


PageStep: TypeAlias = Start | Next | Once | Abandon
PageSteps: TypeAlias = Generator[PageStep, list[QueryResult], None]
"""Yields what to do; is sent the page or thrown the error."""
Step: TypeAlias = PageStep | Ask | Describe | Check
Steps: TypeAlias = Generator[Step, Any, T]
"""The same for whole calls: is sent the answer of each step."""
