"""Effects: the requests and calls that a search needs. Private.

The search machine decides and does no I/O. It yields one of these effects, a session carries it out (blocking or
awaiting), and sends the answer back in.
"""

from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from nextk.sessions.query import SearchQuery
from nextk.until.effects import CallCheck

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Embed:
    """Fill in the text or the vectors of a query. The answer is the complete `SearchQuery`."""

    template: SearchQuery


@dataclass(frozen=True, slots=True)
class FetchInfo:
    """Fetch the description of the index. The answer is an `InfoResult`."""


@dataclass(frozen=True, slots=True)
class StartQuery:
    """Open the resumable query and fetch its first `count` matches. The answer is the page.

    Attributes:
        count: The number of matches of the first page.
        left_open: How many queries this search may have left open; the more, the sooner the new one is to expire.
        seen: The ids of matches that have come already, which a source that keeps nothing open leaves out.
    """

    count: int
    left_open: int = 0
    seen: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class FetchNext:
    """Fetch the next `count` matches of the open query. The answer is the page.

    Attributes:
        count: The number of matches.
        after_loss: Whether to do so although the reply to an earlier request was lost, so that a page may be skipped.
    """

    count: int
    after_loss: bool = False


@dataclass(frozen=True, slots=True)
class PlainQuery:
    """Fetch `count` matches by a plain query, which keeps nothing open. The answer is the page."""

    count: int


@dataclass(frozen=True, slots=True)
class CanRepeat:
    """Ask whether the start or the page whose reply was lost may be requested again without skipping a page.

    The answer is `True` if the server has said that it numbers pages, and still holds the query.
    """


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds, or until the session is stopped. The answer is not used."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Release:
    """Stop the query, which may be open or gone already; a failure to stop it is ignored. The answer is not used."""


PageEffect: TypeAlias = StartQuery | FetchNext | PlainQuery
Effect: TypeAlias = PageEffect | CanRepeat | Pause | Release | Embed | FetchInfo | CallCheck
Effects: TypeAlias = Generator[Effect, Any, T]
"""A generator that yields the effects of one call, is sent the answer of each, and returns the result of the call."""
