"""The configuration of a search: its policy, its limits, and how much a recovery may cost. Private.

`Limits` and `SearchConfig` are public, by way of `nextk.sessions`.
"""

import operator
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

from nextk.arguments import did_you_mean, require_callable, require_count, require_kind, require_number, written
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.plain import is_utf8
from nextk.sessions.recovery_state import MAX_RECOVERY
from nextk.until.counting import MaxResults
from nextk.until.policy import Policy, require_policy

DEFAULT_MAX_IDLE = 120
"""The seconds without a pull after which the index may drop a query: few, since an index allows few open queries."""
_MIN_LOWERED_IDLE = 10
"""The seconds to which `max_idle` is lowered at most."""
MAX_RESULTS, MAX_PULLS, DEADLINE = 200, 10, 10.0
"""The default limits of a call that goes on until a policy has enough."""
DEFAULT_PAGE = 10
"""The number of matches in a first pull if nothing says how many are needed."""
MAX_PULL = 200
"""The largest number of matches to which the pulls of one call grow, each twice the last, while matches are dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a call, or of a search as a whole.

    Attributes:
        max_results: The number of results that are handed out at most; `None` (the default) for no limit.
        max_pulls: The number of pages that are requested at most, without those that a recovery requests again; `None`
            (the default) for no limit.
        deadline: The time in seconds after which no further page is requested; `None` (the default) for no limit. A
            request that is under way is not interrupted.

    Raises:
        ClientError: A limit is not above 0, or not a number of its kind.
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
        """Return the name of a limit that is reached, or `None`.

        Args:
            results: The number of results that were handed out.
            pulls: The number of pages that were requested.
            seconds: The time that has passed. A deadline counts from the first page on.
        """
        if self.max_results is not None and results >= self.max_results:
            return "max_results"
        if self.max_pulls is not None and pulls >= self.max_pulls:
            return "max_pulls"
        return "deadline" if self.deadline is not None and pulls and seconds >= self.deadline else None


UNBOUNDED = Limits()
"""No limit at all."""


class Overrides(TypedDict, total=False):
    """Settings of one search that differ from those of its retriever. `None` leaves a setting as it is.

    Attributes:
        until: The policy that takes the place of the retriever's own.
        max_results: The number of results that the search hands out in all.
        max_pulls: The number of pages that the search requests in all.
        deadline: The seconds that the search goes on, counted from the first pull.
        max_recovery: The number of matches that may be requested again after a fault, or for a cursor.
    """

    until: Policy | None
    max_results: int | None
    max_pulls: int | None
    deadline: float | None
    max_recovery: int | None


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The configuration of one search.

    Attributes:
        until: The policy of the search. Every call keeps only the results that this policy keeps, and `fetch_until()`
            stops when it has enough. Default: no policy.
        always: Another policy, which every call applies to its results but which never stops a call; a retriever uses
            it for further checks. If both policies call checks, this one sees what `until` has permitted. Default: no
            policy.
        guards: The limits of each call that goes on until a policy has enough; the call then returns what it has.
            Default: 200 results, 10 pulls, 10 seconds. `report.shortfall` tells of a call that one of them ended.
        limits: The limits of the search as a whole; a call that can return nothing within them raises `LimitReached`.
            Default: no limits.
        max_idle: The seconds without a pull after which the index may drop the query; default 120.
        max_recovery: The number of matches that may be requested again after a fault, or for a cursor; `None` for any
            number; default 1,000.
        cursor_key: The key with which cursors are signed. A cursor that was not signed with it is refused. Default: no
            key; the digest of a cursor then notices accidents, but no edit on purpose.
        clock: A function that returns the time in seconds, for the deadlines; default `time.monotonic`.
        sleep: A function that waits for some seconds before a request that failed is repeated. What it returns is
            awaited in an asynchronous session, if it is awaitable. Default: a wait that ends as soon as the session is
            stopped.
        chance: A function that returns a random number from 0 to 1, for the jitter of such a wait; default
            `random.random`.
        cap: The number of results of a call that goes on until a policy has enough, at most. It is what the caller has
            asked for, so a call that reaches it is not short, as one is that a guard ends. Default: no cap.
        warns: Whether the log warns of such a call if a guard ends it. Default: `True`; `False` is for a caller that
            reads `report.shortfall`.

    Raises:
        ClientError: `until` or `always` is not a policy, another attribute is not of its type, a number is out of
            range, or `cursor_key` is not a text.
    """

    until: Policy | None = None
    guards: Limits = Limits(MAX_RESULTS, MAX_PULLS, DEADLINE)
    limits: Limits = UNBOUNDED
    max_idle: int = DEFAULT_MAX_IDLE
    max_recovery: int | None = MAX_RECOVERY
    cursor_key: str | None = field(default=None, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)
    sleep: Callable[[float], Any] | None = field(default=None, compare=False)
    chance: Callable[[], float] = field(default=random.random, compare=False)
    always: Policy | None = None
    cap: int | None = None
    warns: bool = True

    def __post_init__(self) -> None:
        for name in ("until", "always"):
            if getattr(self, name) is not None:
                require_policy(getattr(self, name), name)
        for name in ("guards", "limits"):
            require_kind(getattr(self, name), Limits, name)
        require_callable(self.clock, "clock")
        require_callable(self.chance, "chance")
        if self.sleep is not None:
            require_callable(self.sleep, "sleep")
        require_kind(self.warns, bool, "warns")
        require_count(self.max_idle, "max_idle")
        if self.max_recovery is not None:
            require_count(self.max_recovery, "max_recovery", 0)
        _require_key(self.cursor_key)
        if self.cap is not None:
            require_count(self.cap, "cap")

    def idle_after(self, left_open: int) -> int:
        """Return the `max_idle` of a query that is started after others may have been left open.

        Each of them takes the place of a query until it expires, and an index allows few. So the next ones are made to
        expire sooner: after a fourth of the time for each that was lost, though not below 10 seconds.

        Args:
            left_open: How many queries may have been left open.
        """
        return max(self.max_idle >> 2 * left_open, min(self.max_idle, _MIN_LOWERED_IDLE))

    @property
    def max_results(self) -> int | None:
        """The number of results of a call that goes on until a policy has enough, by the cap and by the guard."""
        return min((n for n in (self.cap, self.guards.max_results) if n is not None), default=None)

    @property
    def always_on(self) -> list[Policy]:
        """The single policies that every call applies to its results: those of `until`, then those of `always`."""
        return [leaf for policy in (self.until, self.always) if policy is not None for leaf in policy.leaves()]

    def with_overrides(self, **overrides: Unpack[Overrides]) -> "SearchConfig":
        """Return this configuration with the caller's policy, and with the caller's limits of the search as a whole.

        Args:
            **overrides: The settings that differ, by the names of `Overrides`.

        Raises:
            ClientError: `until` is not a policy, or a limit is not above 0.
            TypeError: There is no setting of that name.
        """
        config, given = self._apply(overrides)
        return replace(config, limits=replace(self.limits, **given))

    def for_one_call(self, n: int | None, **overrides: Unpack[Overrides]) -> "SearchConfig":
        """Return this configuration for a search of one call, which the caller's limits end without an error.

        Args:
            n: The number of results that the call may return; `None` leaves it to the policy.
            **overrides: The settings that differ, by the names of `Overrides`.

        Raises:
            ClientError: `until` is not a policy, or a limit is not above 0; or there are limits, and no policy whose
                call they could limit.
            TypeError: There is no setting of that name.
        """
        config, given = self._apply(overrides)
        if given and config.until is None:
            message = f"{' and '.join(given)} can only bound a call that has a policy: give until= too, or k= instead"
            raise ClientError(message)
        return config.capped(n, given)

    def _apply(self, overrides: Overrides) -> tuple["SearchConfig", dict[str, Any]]:
        given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
        _refuse_unknown(overrides)
        until = given.pop("until", self.until)
        recovery = given.pop("max_recovery", self.max_recovery)
        return replace(self, until=until, max_recovery=recovery, guards=replace(self.guards, **given)), given

    def capped(self, n: int | None, given: Collection[str] = ()) -> "SearchConfig":
        """Return this configuration for a call that returns at most `n` results.

        The guards on results and pulls are there for a call of which nobody has said how many results it may return.
        So `n` takes the place of either that has its default value. One that the caller has set otherwise holds
        besides `n`, and so does the deadline. Without a guard on pulls, a fault on a late page may cost all pages
        before it once more, if `max_recovery` has its default value.

        Args:
            n: The number of results; `None` changes nothing.
            given: The names of the guards that the call itself sets, which hold even if they have their default value.
        """
        if n is None:
            return self
        defaults = {"max_results": MAX_RESULTS, "max_pulls": MAX_PULLS}
        lifted = [name for name, value in defaults.items() if name not in given and getattr(self.guards, name) == value]
        guards = replace(self.guards, **dict.fromkeys(lifted))
        return replace(self, cap=n, guards=guards, max_recovery=self._recovery_within(guards))

    def paged(self, n: int) -> "SearchConfig":
        """Return this configuration for a call without a policy, whose `n` results are too many for one query.

        The other guards are for calls with a policy, so the deadline alone bounds it. A fault on a late page may cost
        the pages before it once more, if `max_recovery` has its default value.

        Args:
            n: The number of results.
        """
        guards = Limits(deadline=self.guards.deadline)
        return replace(self, until=MaxResults(n), guards=guards, max_recovery=self._recovery_within(guards))

    def _recovery_within(self, guards: Limits) -> int | None:
        """Return how much a recovery may cost in a call with these guards: without one on pulls, no default holds."""
        return None if guards.max_pulls is None and self.max_recovery == MAX_RECOVERY else self.max_recovery

    def with_room_for(self, n: int) -> "SearchConfig":
        """Return this configuration with a guard on results that leaves room for `n`, if it has its default value.

        Args:
            n: The number of results that have to be there before somebody else decides whether they are enough.
        """
        if self.guards.max_results != MAX_RESULTS:
            return self
        return replace(self, guards=replace(self.guards, max_results=max(n, MAX_RESULTS)))


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    known = Overrides.__annotations__
    unknown = next((name for name in overrides if name not in known), None)
    if unknown is not None:
        near = did_you_mean(unknown, ("filter", "namespace", *known), _FOREIGN_NAMES)
        hint = near if near.startswith(" (") else ""
        message = (
            f"unexpected keyword argument {unknown!r}{hint}: one search takes filter, namespace, {', '.join(known)}, "
            "and a single call k; everything else belongs to the retriever"
        )
        raise TypeError(message)


def _require_key(key: object) -> None:
    if key is not None and not (isinstance(key, str) and key.strip() and is_utf8(key)):
        message = "cursor_key= is a secret text, for example from secrets.token_hex(32), or None for no signature"
        raise ClientError(message)


_COUNT = "a single call takes k, and an opened search is asked by fetch_next(n)"
WRITE_FILTER = "give filter=, a string such as \"lang = 'de'\""
FOREIGN_SETTINGS = {
    "search_type": "a threshold is until=MinScore(0.8) of nextk.until; there is no MMR",
    **dict.fromkeys(("score_threshold", "similarity_cutoff"), "give until=MinScore(0.8) of nextk.until"),
    "where": WRITE_FILTER,
}
"""The names that other retrievers have for settings of a search and of a retriever, and what to give here."""
_FOREIGN_NAMES = {
    **FOREIGN_SETTINGS,
    **dict.fromkeys(("k", "top_k", "similarity_top_k", "n_results", "limit"), _COUNT),
    "search_kwargs": "give what is in it by itself, as in k=5, filter=...",
    "filters": WRITE_FILTER,
}
"""The names that other retrievers have for the settings of one call, and what to give here."""


def require_n(n: object) -> int:
    """Return the `n` of `fetch_next(n)` as an int. It may be an integer of numpy.

    Raises:
        ClientError: `n` is not a whole number of at least 1.
    """
    try:
        number = operator.index(n)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if isinstance(n, bool) or number < 1:
        message = f"fetch_next({written(n)}): ask for at least 1, a whole number"
        raise ClientError(message)
    return number


@dataclass(slots=True)
class PullGrowth:
    """The number of matches that the next pull of a call requests.

    How many matches will be dropped, or have been handed out before, cannot be known. So a call that leaves matches out
    requests twice as many each time: few round trips if few matches are kept, few surplus matches if most are.

    Attributes:
        first: The number to begin with, if matches may be dropped.
        dropping: Whether matches may be dropped.
        short: Whether the last pull brought fewer new matches than it requested.
    """

    first: int
    dropping: bool
    short: bool = False
    _last: int = 0

    def next_count(self, missing: int) -> int:
        """Return the number of matches to request next.

        Args:
            missing: The number of results that are missing as far as is known; 0 if a policy decides.
        """
        if self._last and (self.dropping or self.short):
            count = max(missing, min(2 * self._last, MAX_PULL))
        else:
            count = max(missing, min(self.first, MAX_PULL)) if self.dropping else missing
        self._last = min(count, MAX_ROWS)
        return self._last
