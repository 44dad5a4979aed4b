"""The state that all recoveries of one search share: their counts, and how much they may cost. Private."""

from collections.abc import Callable

from nextk.sessions.link import BaseLink
from nextk.sessions.report import RecoveryReport
from nextk.types import InfoResult

MAX_RECOVERY = 1_000
"""The number of matches that a recovery may request again."""


class RecoveryState:
    """The state that all recoveries of one search share.

    Args:
        max_recovery: The number of matches that a recovery may request again: the sum of the sizes of its pulls. `None`
            for any number.
        clock: Returns the time in seconds.
        chance: Returns a random number from 0 to 1 for each pause.
        link: The link to what is searched, of which the traits and the limit are read.
        exact: Whether the query wants exact order.

    Attributes:
        counts: The counts of the recoveries so far.
        info: The description of the index; `None` before it was needed.
    """

    def __init__(
        self,
        max_recovery: int | None,
        clock: Callable[[], float],
        chance: Callable[[], float],
        link: BaseLink,
        *,
        exact: bool,
    ) -> None:
        self.link = link
        self.exact = exact
        self.max_recovery = max_recovery
        self.clock = clock
        self.chance = chance
        self.counts = RecoveryReport()
        self.info: InfoResult | None = None

    def count(self, **more: float) -> None:
        """Add to the counts, by their names."""
        self.counts = self.counts.plus(**more)
