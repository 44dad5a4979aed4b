"""The report of a search: how much was pulled, kept and dropped, and why the last call ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nextk.sessions.query import RetrievalMode
from nextk.sessions.shortfall import Shortfall


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
        exhausted: Whether an empty page has come, and every match is decided or set aside by a policy.
        complete: Whether an exhausted search has seen all matches. `False` if the server had no room for a resumable
            query and a plain query, which returns at most 1,000 matches, was used instead.
        stop_reason: Why the last call ended: the name of a policy or of a limit, or `"exhausted"`. `None` if the call
            returned as many results as requested.
        shortfall: How much the last call has brought if a limit ended it before there was enough; `None` if there was
            enough, or nothing is left.
        phases: The phases of the search: the first one, and one more for every `widen`.
    """

    pulls: int = 0
    pulled: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    repeated: int = 0
    recovered: int = 0
    changed: bool = False
    exhausted: bool = False
    complete: bool = True
    stop_reason: str | None = None
    shortfall: Shortfall | None = None
    phases: tuple[Phase, ...] = ()

    @property
    def total_shortfall(self) -> Shortfall | None:
        """The shortfall of the last call, with the counts of the whole search instead of those of the call."""
        if self.shortfall is None:
            return None
        return replace(self.shortfall, pulls=self.pulls, pulled=self.pulled, kept=self.kept, dropped=dict(self.dropped))
