"""On what terms a search goes on: its policy, its bounds, and what a fault may cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

from nextk.errors import ClientError
from nextk.requests import MAX_ROWS
from nextk.retrieval.trail import MAX_RECOVERY
from nextk.until.policy import Policy, require_count, require_number, require_policy

DEFAULT_MAX_IDLE = 120
"""Seconds without a pull after which the index may drop a search: short, since open queries are few."""
MAX_RESULTS, MAX_PULLS, DEADLINE = 200, 10, 10.0
"""What bounds a call that goes on until a policy has enough."""
PAGE = 10
"""How many rows a first pull brings where nothing says how many are needed."""
MAX_PULL = 200
"""Up to how many rows the pulls of one call grow, each twice the one before, while rows are being dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; `None` for none.

    Attributes:
        max_results: Rows that are handed out.
        max_pulls: Pages that are asked for, without those of recoveries.
        deadline: Seconds, looked at between two pulls; one that is on its way is not broken off.

    Raises:
        ClientError: A bound is not above 0.
    """

    max_results: int | None = None
    max_pulls: int | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_results", "max_pulls"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name)
        if self.deadline is not None:
            require_number(self.deadline, "deadline", 0)

    def spent(self, *, results: int, pulls: int, seconds: float) -> str | None:
        """The name of a bound that is reached."""
        if self.max_results is not None and results >= self.max_results:
            return "max_results"
        if self.max_pulls is not None and pulls >= self.max_pulls:
            return "max_pulls"
        return "deadline" if self.deadline is not None and pulls and seconds >= self.deadline else None


UNBOUNDED = Limits()
"""No bound at all."""


class Asked(TypedDict, total=False):
    """What may be asked of one search, besides what its retriever asks of every one; `None` is as absent.

    Attributes:
        until: A policy, instead of the retriever's own.
        max_results: How many rows the search hands out in all.
        max_pulls: How many pages it asks for in all.
        deadline: Seconds that it goes on, from the first pull.
    """

    until: Policy | None
    max_results: int | None
    max_pulls: int | None
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one search.

    Attributes:
        until: The policy of the search. Every call keeps only what it keeps; `fetch_until()` also stops with it.
        guards: What bounds each call that goes on until a policy has enough; it then ends with what it has.
        limits: What bounds the search as a whole; a call that can bring nothing within them raises `LimitReached`.
        max_idle: Seconds without a pull after which the index may drop the query.
        max_recovery: How many rows may be pulled again after a fault.
        clock: Seconds, for the deadlines.

    Raises:
        ClientError: `until` is not a policy, or a number is out of range.
    """

    until: Policy | None = None
    guards: Limits = Limits(MAX_RESULTS, MAX_PULLS, DEADLINE)
    limits: Limits = UNBOUNDED
    max_idle: int = DEFAULT_MAX_IDLE
    max_recovery: int = MAX_RECOVERY
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    def __post_init__(self) -> None:
        if self.until is not None:
            require_policy(self.until, "until")
        require_count(self.max_idle, "max_idle")
        require_count(self.max_recovery, "max_recovery", 0)

    def within(self, **asked: Unpack[Asked]) -> "Terms":
        """The same terms with another policy, and with bounds that the caller asks for: those hold for every call.

        Raises:
            ClientError: `until` is not a policy, or a bound is not above 0.
        """
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        until = given.pop("until", self.until)
        return replace(self, until=until, guards=replace(self.guards, **given), limits=replace(self.limits, **given))

    def refuse_bounds(self) -> None:
        """Refuse bounds that were asked for where one plain query answers.

        Raises:
            ClientError: There are some.
        """
        if self.limits != UNBOUNDED:
            message = "max_results, max_pulls and deadline bound a search that has a policy: give until= as well"
            raise ClientError(message)

    def capped(self, count: int | None) -> "Terms":
        """The same terms for one call that returns at most so many rows; `None` changes nothing."""
        if count is None:
            return self
        most = self.guards.max_results
        return replace(self, guards=replace(self.guards, max_results=count if most is None else min(count, most)))


@dataclass(slots=True)
class Growth:
    """How many rows the next pull of a call asks for.

    What is dropped cannot be known, so a call that drops rows asks for twice as many each time: few round trips for
    the rare, few surplus rows for the common.
    """

    first: int
    dropping: bool
    _last: int = 0

    def size(self, missing: int) -> int:
        """The next size.

        Args:
            missing: How many rows are missing as far as is known; 0 where a policy decides.
        """
        if not self.dropping:
            return min(missing, MAX_ROWS)
        grown = min(2 * self._last, MAX_PULL) if self._last else min(self.first, MAX_PULL)
        self._last = min(max(grown, missing), MAX_ROWS)
        return self._last


def require_size(count: object) -> int:
    """Refuse a page of no rows.

    Raises:
        ClientError: The number is not a whole one of at least 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        message = f"fetch_next({count!r}): ask for at least 1"
        raise ClientError(message)
    return count
