"""On what terms a search goes on: its policy, its bounds, and what a fault may cost."""

import difflib
import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

from nextk.arguments import require_count, require_number
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.sessions.recovery import MAX_RECOVERY
from nextk.until.policy import Policy, require_policy

DEFAULT_MAX_IDLE = 120
"""Seconds without a pull after which the index may drop a search: short, since open queries are few."""
MAX_RESULTS, MAX_PULLS, DEADLINE = 200, 10, 10.0
"""What bounds a call that goes on until a policy has enough."""
GUARDS = ("max_results", "max_pulls", "deadline")
"""What the reports call them."""
DEFAULT_PAGE = 10
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
            if not self.deadline:
                message = "deadline=0 leaves no time at all: give seconds, or leave it out"
                raise ClientError(message)

    def reached(self, *, results: int, pulls: int, seconds: float) -> str | None:
        """The name of a bound that is reached."""
        if self.max_results is not None and results >= self.max_results:
            return "max_results"
        if self.max_pulls is not None and pulls >= self.max_pulls:
            return "max_pulls"
        return "deadline" if self.deadline is not None and pulls and seconds >= self.deadline else None


UNBOUNDED = Limits()
"""No bound at all."""


class Overrides(TypedDict, total=False):
    """What may be asked of one search, besides what its retriever asks of every one; `None` is as absent.

    Attributes:
        until: A policy, instead of the retriever's own.
        max_results: How many rows the search hands out in all.
        max_pulls: How many pages it asks for in all.
        deadline: Seconds that it goes on, from the first pull.
        max_recovery: How many rows may be pulled again after a fault, or for a cursor.
    """

    until: Policy | None
    max_results: int | None
    max_pulls: int | None
    deadline: float | None
    max_recovery: int | None


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The terms of one search.

    Attributes:
        until: The policy of the search. Every call keeps only what it keeps; `fetch_until()` also stops with it.
        always: Another policy whose rows-to-keep hold for every call, and that never stops one: what a retriever has to
            check besides. Where both ask checks, this one is asked about what the other has permitted.
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
    always: Policy | None = None

    def __post_init__(self) -> None:
        if self.until is not None:
            require_policy(self.until, "until")
        require_count(self.max_idle, "max_idle")
        require_count(self.max_recovery, "max_recovery", 0)

    @property
    def always_on(self) -> list[Policy]:
        """The policies whose rows-to-keep hold for every call, one by one."""
        return [leaf for policy in (self.until, self.always) if policy is not None for leaf in policy.leaves()]

    def with_overrides(self, **overrides: Unpack[Overrides]) -> "SearchConfig":
        """The same terms with another policy, and with bounds that the caller asks for: of the search as a whole.

        Raises:
            ClientError: `until` is not a policy, or a bound is not above 0.
        """
        config, given = self._apply(overrides)
        return replace(config, limits=replace(self.limits, **given))

    def for_one_call(self, count: int | None, **overrides: Unpack[Overrides]) -> "SearchConfig":
        """The same terms for a search of one call, whose bounds end it with what there is.

        Args:
            count: How many rows it may return; `None` leaves that to the policy.
            **overrides: As for `within`.

        Raises:
            ClientError: As for `within`; or there are bounds, and no policy that they could bound.
        """
        config, given = self._apply(overrides)
        if given and config.until is None:
            message = f"{' and '.join(given)} can only bound a call that has a policy: give until= too, or k= instead"
            raise ClientError(message)
        return config.capped(count)

    def _apply(self, overrides: Overrides) -> tuple["SearchConfig", dict[str, Any]]:
        given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
        _refuse_unknown(overrides)
        until = given.pop("until", self.until)
        recovery = given.pop("max_recovery", self.max_recovery)
        return replace(self, until=until, max_recovery=recovery, guards=replace(self.guards, **given)), given

    def capped(self, count: int | None) -> "SearchConfig":
        """The same terms for one call that returns at most so many rows; `None` changes nothing."""
        if count is None:
            return self
        max_rows = self.guards.max_results
        return replace(
            self, guards=replace(self.guards, max_results=count if max_rows is None else min(count, max_rows))
        )


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    known = Overrides.__annotations__
    unknown = next((name for name in overrides if name not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, ("k", "filter", "namespace", *known), 1, 0.4)
        hint = f" (did you mean {near[0]}?)" if near else ""
        message = (
            f"unexpected keyword argument {unknown!r}{hint}: one search takes filter, namespace, {', '.join(known)}, "
            "and a single call k; everything else belongs to the retriever"
        )
        raise TypeError(message)


def require_size(n: object) -> int:
    """The `n` of `fetch_next(n)` as an int, which may come as an integer of numpy's.

    Raises:
        ClientError: It is not a whole number of at least 1.
    """
    try:
        size = operator.index(n)  # type: ignore[arg-type]
    except TypeError:
        size = 0
    if isinstance(n, bool) or size < 1:
        message = f"fetch_next({n!r}): ask for at least 1, a whole number"
        raise ClientError(message)
    return size


@dataclass(slots=True)
class PullGrowth:
    """How many rows the next pull of a call asks for.

    What is dropped, or has been served before, cannot be known, so a call that leaves rows out asks for twice as many
    each time: few round trips for the rare, few surplus rows for the common.

    Attributes:
        first: The size to begin with, where rows may be dropped.
        dropping: Whether they may.
        short: Whether the last pull brought fewer new rows than were asked for.
    """

    first: int
    dropping: bool
    short: bool = False
    _last: int = 0

    def size(self, missing: int) -> int:
        """The next size.

        Args:
            missing: How many rows are missing as far as is known; 0 where a policy decides.
        """
        if self._last and (self.dropping or self.short):
            wanted = max(missing, min(2 * self._last, MAX_PULL))
        else:
            wanted = max(missing, min(self.first, MAX_PULL)) if self.dropping else missing
        self._last = min(wanted, MAX_ROWS)
        return self._last
