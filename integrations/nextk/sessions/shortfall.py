"""The shortfall of a call: how much it has brought when a limit ended it before there was enough.

Private; `Shortfall` is public by way of `nextk.sessions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NO_ROOM = "no_room"
"""The reason if the server had no room for a resumable query, and a plain one could not bring enough."""
STORE_LIMIT = "store_limit"
"""The reason if the store gives only so many rows of one search."""

_REMEDIES = {
    "max_results": "give a larger max_results=",
    "max_pulls": "give a larger max_pulls=, or put into filter= what the index can check by itself",
    "deadline": "give a longer deadline=",
    STORE_LIMIT: "narrow the search by a filter, since the store gives no more rows of one search",
    NO_ROOM: "stop searches that are not needed any more, and search again",
}


def dropped_in_words(dropped: Mapping[str, int]) -> str:
    """Return numbers of dropped matches in words for a log; `""` if there are none.

    Args:
        dropped: The numbers by cause: the name of a policy, or `"no_text"`.
    """
    return ", ".join(f"{count} dropped by {cause}" for cause, count in dropped.items())


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A call that a limit ended before its policy had enough, or before there were as many results as requested.

    As a string it is one sentence for a log, which says how much came and how to get more. It names policies and
    limits, and holds no text, no id and no query.

    Attributes:
        reason: The limit that ended the call: `"max_results"`, `"max_pulls"` or `"deadline"`; `"store_limit"` if the
            store gives no more rows of one search; or `"no_room"` if the server had no room for a resumable query and a
            plain one, which returns at most 1,000 matches, was used.
        bound: The value of that limit; `None` for `"no_room"`.
        pulls: The number of pages that the call requested.
        pulled: The number of matches with a new id on these pages.
        kept: The number of results that the call returned.
        dropped: The number of matches that the call dropped, by cause: the name of a policy, or `"no_text"`.
    """

    reason: str
    bound: float | None = None
    pulls: int = 0
    pulled: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        no_room = "a server without room for a resumable query"
        cause = no_room if self.bound is None else f"{self.reason}={self.bound:.12g}"
        pages = "1 page" if self.pulls == 1 else f"{self.pulls} pages"
        dropped = dropped_in_words(self.dropped) or "none dropped"
        return (
            f"{cause} ended a search before it had enough: {self.kept} rows kept, {self.pulled} pulled in {pages}, "
            f"{dropped}. To get more, {_REMEDIES[self.reason]}"
        )
