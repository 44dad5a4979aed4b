"""What a search says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextk.sessions.query import RetrievalMode


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a search: up to where it was widened, or to its end.

    Attributes:
        retrieval_mode: Which components it searches; `None` leaves that to the index.
        began: How many rows the search had kept when it began.
        pulls: Pages that were asked for, without those of recoveries.
        pulled: Rows that they brought.
        repeated: Rows left out because their id had come before: in an earlier leg, or on an approximate index.
        kept: Rows that were handed out.
    """

    retrieval_mode: RetrievalMode | None = None
    began: int = 0
    pulls: int = 0
    pulled: int = 0
    repeated: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a search has done so far.

    Attributes:
        pulls: Pages that were asked for, without those of recoveries.
        pulled: Rows that they brought.
        kept: Rows that were handed out.
        dropped: Rows that never will be, by cause: the name of a policy, or `"no_text"`.
        waiting: Rows that were pulled and are not decided: the next call begins with them.
        repeated: Rows left out because their id had come before.
        recovered: How often a search that had brought rows was asked anew, after a fault or from a cursor.
        changed: Whether a recovery found other rows than before: the data was written to in the meantime.
        exhausted: Whether an empty page has come, and every row is decided or set aside.
        complete: Whether what was exhausted is all there is. `False` where the server had no room for a resumable query
            and a plain one, which returns at most 1,000 rows, had to do.
        stop_reason: Why the last call ended: the name of a policy or of a bound, or `"exhausted"`; `None` where it just
            had as many rows as asked for.
        phases: The parts of the search, one more for every `widen`.
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
    phases: tuple[Phase, ...] = ()
