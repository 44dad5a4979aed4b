"""The report of a search: how much was pulled, kept and dropped, and why the last call ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nextk.sessions.query import RetrievalMode
from nextk.sessions.shortfall import Shortfall
from nextk.sessions.source import Continuation


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a search: from its start, or from a `widen`, to the next `widen` or to its end.

    Attributes:
        retrieval_mode: The components of the index that this phase searches; `None` leaves the choice to the index.
        began: The number of results that the search had handed out when the phase began.
        pulls: The number of pages that were requested, without those that a recovery requested again.
        pulled: The number of matches on these pages.
        repeated: The number of matches that were left out because their id had come before, in an earlier phase or, on
            an approximate index, in this one.
        kept: The number of results that were handed out.
    """

    retrieval_mode: RetrievalMode | None = None
    began: int = 0
    pulls: int = 0
    pulled: int = 0
    repeated: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """The counts of what a search has done to go on after faults.

    Attributes:
        faults: The number of requests that failed, or found their query gone.
        repeats: The number of requests that were made again, for the same page or the same query.
        replays: How often the query was started again, and its pulls were repeated. A resumed cursor counts.
        merged: How many of the replays requested several pages at once, since their order does not depend on the sizes
            of the pages; the others went page by page.
        rows: The number of matches that were requested again and came.
        waited: The seconds spent in pauses before requests were made again.
        left_open: The number of queries that may have been left open on the server, until they expire, because the
            reply to their start was lost and the server does not find a query by a repeated start.
    """

    faults: int = 0
    repeats: int = 0
    replays: int = 0
    merged: int = 0
    rows: int = 0
    waited: float = 0.0
    left_open: int = 0

    def plus(self, **more: float) -> "RecoveryReport":
        """Return this report with some counts raised.

        Args:
            **more: The numbers to add, by the names of the counts.
        """
        return replace(self, **{name: getattr(self, name) + count for name, count in more.items()})


@dataclass(frozen=True, slots=True)
class Report:
    """A summary of what a search has done so far.

    Attributes:
        pulls: The number of pages that were requested, without those that a recovery requested again.
        pulled: The number of matches on these pages.
        kept: The number of results that were handed out.
        dropped: The number of matches that will never be handed out, by cause: the name of a policy, or `"no_text"`.
        waiting: The number of matches that were pulled and are not decided yet. The next call begins with them.
        repeated: The number of matches that were left out because their id had come before.
        recovered: How often a search that had brought matches was started again, after a fault or from a cursor.
        changed: Whether a recovery found other matches than before, because the data was written to in the meantime.
        reordered: Whether a recovery found the matches in another order than before, or further ones among them, on an
            index that may rank approximately, as the hosted service does. Whether data was written cannot be told.
        exhausted: Whether an empty page has come, and every match is decided or set aside by a policy.
        complete: Whether an exhausted search has seen all matches. `False` if the server had no room for a resumable
            query and a plain query, which returns at most 1,000 matches, was used instead; or if the store gives only
            so many rows of one search (`limit`).
        continuation: The way in which the source goes on with the search: `"native"`, `"exclusion"` or `"refetch"`.
        refetched: The number of rows that were moved although they had come before, because the source could only be
            asked anew.
        limit: The number of rows at which the search ended, because the store gives no more of one search; `None` if
            it did not end so.
        stop_reason: Why the last call ended: the name of a policy or of a limit, or `"exhausted"`. `None` if the call
            returned as many results as requested.
        shortfall: How much the last call has brought if a limit ended it before there was enough; `None` if there was
            enough, or nothing is left.
        phases: The phases of the search: the first one, and one more for every `widen`.
        recovery: The counts of what the search has done to go on after faults.
    """

    pulls: int = 0
    pulled: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    repeated: int = 0
    recovered: int = 0
    changed: bool = False
    reordered: bool = False
    exhausted: bool = False
    complete: bool = True
    continuation: Continuation = Continuation.NATIVE
    refetched: int = 0
    limit: int | None = None
    stop_reason: str | None = None
    shortfall: Shortfall | None = None
    phases: tuple[Phase, ...] = ()
    recovery: RecoveryReport = field(default_factory=RecoveryReport)

    @property
    def total_shortfall(self) -> Shortfall | None:
        """The shortfall of the last call, with the counts of the whole search instead of those of the call."""
        if self.shortfall is None:
            return None
        return replace(self.shortfall, pulls=self.pulls, pulled=self.pulled, kept=self.kept, dropped=dict(self.dropped))
