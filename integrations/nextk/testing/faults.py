"""What goes wrong, and when: plain data and decisions, shared by the faulty transport and the faulty server."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

_MAX_IDLE = 86_400  # the longest time that an index lets a query idle, in seconds

ERROR_PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
"""What a gateway answers in an index's place."""
ERROR_STATUS = 502
"""And with which status."""


class Fault(Enum):
    """One thing that can go wrong with a request."""

    DROP_REQUEST = "drop request"
    """The connection breaks before the index has seen the request."""
    DROP_REPLY = "drop reply"
    """The connection breaks after the index has done what was asked: a page is gone."""
    ERROR_PAGE = "error page"
    """The index has done what was asked, and a gateway answers 502 with HTML in its place."""
    DELAY = "delay"
    """The index has done what was asked, and its reply comes late."""
    EXPIRE = "expire"
    """Before the request arrives, every open query has been idle for too long."""
    EVICT = "evict"
    """Before the request arrives, someone else has stopped the query that it speaks of."""
    RESTART = "restart"
    """Before the request arrives, the index has started anew: no query is open any more."""

    @property
    def loses_reply(self) -> bool:
        """Whether the index does what was asked, and the client does not learn of it."""
        return self in (Fault.DROP_REPLY, Fault.ERROR_PAGE)

    @property
    def ends_query(self) -> bool:
        """Whether an open query is gone afterwards, and the client is told so."""
        return self in (Fault.EXPIRE, Fault.EVICT, Fault.RESTART)


class RequestKind(Enum):
    """Which requests are counted."""

    START = "start"
    """Opening a resumable query; brings its first page."""
    NEXT = "next"
    """The next page of an open query."""
    PAGE = "page"
    """Either of them: what brings a page."""
    STOP = "stop"
    """Ending a query."""

    @classmethod
    def of(cls, command: str) -> Self | None:
        """What a command is; `None` for those that have nothing to do with resumable queries."""
        return cls(_KINDS[command]) if command in _KINDS else None

    @property
    def counted_as(self) -> tuple["RequestKind", ...]:
        """The moments that a request of this kind counts as."""
        return (self,) if self is RequestKind.STOP else (self, RequestKind.PAGE)


_KINDS = {
    "resumable-query": "start",
    "resumable-query-data": "start",
    "resumable-query-next": "next",
    "resumable-query-end": "stop",
}


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault, and the request that it hits.

    Attributes:
        fault: What goes wrong.
        at: Which requests are counted.
        nth: Which of them it hits, from 1; repeats and those of recoveries count, too.
    """

    fault: Fault
    at: RequestKind = RequestKind.PAGE
    nth: int = 1


class ManualClock:
    """Seconds that pass only when told to: the clock of an engine under test."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """The seconds that have passed."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def pass_max_idle(self) -> None:
        """Let more time pass than any query may idle."""
        self.advance(_MAX_IDLE + 1)


class FaultPlan:
    """Which faults happen, which have happened, and what they left behind. Safe to use from several threads.

    Args:
        planned: The faults; of several that hit the same request only the first one happens.
        clock: That of the engine, for `Fault.EXPIRE`; absent: one of its own. An engine that reads another clock lets
            the query go all the same, as if it had been stopped.
        delay: Seconds by which `Fault.DELAY` holds a reply back.

    Attributes:
        injected: What has happened, with the kind of request and its number among those: never `RequestKind.PAGE`.
    """

    def __init__(self, *planned: PlannedFault, clock: ManualClock | None = None, delay: float = 0.05) -> None:
        self.clock = clock or ManualClock()
        self.delay = delay
        self.injected: list[PlannedFault] = []
        self._planned = list(planned)
        self._counts: Counter[RequestKind] = Counter()
        self._open: set[str] = set()
        self._lost: set[str] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"FaultPlan({', '.join(map(repr, self._planned))}), injected {self.injected}"

    @property
    def open(self) -> frozenset[str]:
        """The queries that are open, as far as requests through this plan opened and ended them."""
        with self._lock:
            return frozenset(self._open)

    @property
    def lost(self) -> frozenset[str]:
        """Those of them that nobody can stop: the reply that names them never arrived. They expire."""
        with self._lock:
            return frozenset(self._open & self._lost)

    def count(self, at: RequestKind) -> int:
        """How many requests of a kind there have been."""
        with self._lock:
            return self._counts[at]

    def inject(self, fault: Fault, at: RequestKind = RequestKind.PAGE) -> None:
        """Let a fault hit the next request of a kind, or the one after those that are due already."""
        with self._lock:
            due = [inject.nth for inject in self._planned if inject.at is at]
            self._planned.append(PlannedFault(fault, at, max([self._counts[at], *due]) + 1))

    # What a faulty transport or server tells, and asks

    def on_request(self, kind: RequestKind) -> Fault | None:
        """Count a request; what goes wrong with it."""
        with self._lock:
            self._counts.update(kind.counted_as)
            hit = [inject for inject in self._planned if inject.at in kind.counted_as]
            fault = next((inject.fault for inject in hit if inject.nth == self._counts[inject.at]), None)
            if fault is not None:
                self.injected.append(PlannedFault(fault, kind, self._counts[kind]))
        if fault is Fault.EXPIRE:
            self.clock.pass_max_idle()
        return fault

    def queries_to_end(self, fault: Fault | None, uuid: str | None) -> Sequence[str]:
        """The queries that a fault ends before a request arrives, which speaks of `uuid`."""
        with self._lock:
            if fault is Fault.EVICT:
                gone = self._open & {uuid}
            else:
                gone = set(self._open) if fault in (Fault.EXPIRE, Fault.RESTART) else set()
            self._open -= gone
        return sorted(gone)

    def started(self, uuid: str) -> None:
        """The index has opened a query; its reply is not yet delivered."""
        if uuid:  # else the namespace does not exist, and nothing is open
            with self._lock:
                self._open.add(uuid)
                self._lost.add(uuid)

    def delivered(self, uuid: str) -> None:
        """The client has learnt of a query."""
        with self._lock:
            self._lost.discard(uuid)

    def ended(self, uuid: str) -> None:
        """A query is not open any more."""
        with self._lock:
            self._open.discard(uuid)
