"""Plans of faults: which requests go wrong, and how. The faulty transport and the faulty server both follow them."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

_MAX_IDLE = 86_400  # the longest time that an index lets a query idle, in seconds

ERROR_PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
"""The body that a gateway answers in place of the index, for `Fault.ERROR_PAGE`."""
ERROR_STATUS = 502
"""The HTTP status of `ERROR_PAGE`."""


class Fault(Enum):
    """One thing that can go wrong with a request."""

    DROP_REQUEST = "drop request"
    """The connection breaks before the index has seen the request."""
    DROP_REPLY = "drop reply"
    """The connection breaks after the index has answered the request: a page is lost."""
    ERROR_PAGE = "error page"
    """The index has answered the request, but the client gets a 502 page with HTML from a gateway instead."""
    TRUNCATE = "truncate"
    """The index has answered the request, and the body of its reply is cut in the middle."""
    RESET = "reset"
    """The index has answered the request, and the connection is reset while the reply is under way."""
    DELAY = "delay"
    """The index has answered the request, and its reply comes late."""
    EXPIRE = "expire"
    """Before the request arrives, every open query has been idle for too long."""
    EVICT = "evict"
    """Before the request arrives, someone else has stopped the query that it names."""
    RESTART = "restart"
    """Before the request arrives, the index has been restarted: no query is open any more."""

    @property
    def loses_reply(self) -> bool:
        """Whether the index executes the request although the client gets no answer from it."""
        return self in (Fault.DROP_REPLY, Fault.ERROR_PAGE, Fault.TRUNCATE, Fault.RESET)

    @property
    def ends_query(self) -> bool:
        """Whether the fault ends an open query, and the index then answers that it does not exist."""
        return self in (Fault.EXPIRE, Fault.EVICT, Fault.RESTART)


class RequestKind(Enum):
    """A kind of request. A plan counts the requests of each kind."""

    START = "start"
    """A request that opens a resumable query; its answer holds the first page."""
    NEXT = "next"
    """A request for the next page of an open query."""
    PAGE = "page"
    """A request that is answered with a page: a `START` or a `NEXT`."""
    STOP = "stop"
    """A request that ends a query."""
    OTHER = "other"
    """Any other request, which has nothing to do with resumable queries."""

    @classmethod
    def of(cls, command: str) -> Self:
        """Return the kind of a command.

        Args:
            command: The path of the command, such as `resumable-query-next`.
        """
        return cls(_KINDS.get(command, "other"))

    @property
    def counted_as(self) -> tuple["RequestKind", ...]:
        """The kinds under which a request of this kind is counted: its own, and `PAGE` if it brings a page."""
        return (self, RequestKind.PAGE) if self in (RequestKind.START, RequestKind.NEXT) else (self,)


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
        fault: The fault that happens.
        at: The kind of the requests that are counted.
        nth: The number of the request that the fault hits, among those of the kind `at`, from 1. Repeated requests and
            the requests of a recovery are counted, too.
    """

    fault: Fault
    at: RequestKind = RequestKind.PAGE
    nth: int = 1


class ManualClock:
    """A clock that stands still until it is advanced, for the engine of an index under test."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """Return the seconds by which the clock has been advanced."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the clock.

        Args:
            seconds: The number of seconds.
        """
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Advance the clock instead of waiting, for code that takes its waiting function as an argument.

        Args:
            seconds: The number of seconds.
        """
        self.advance(seconds)

    def pass_max_idle(self) -> None:
        """Advance the clock by more than the longest `max_idle` that a query can have."""
        self.advance(_MAX_IDLE + 1)


class FaultPlan:
    """The faults that shall happen, the faults that have happened, and the queries that they left open.

    A plan may be used from several threads at once.

    Args:
        planned: The faults. If several of them hit the same request, only the first one happens.
        clock: The clock of the engine, which `Fault.EXPIRE` advances; by default a new one. If the engine reads another
            clock, `Fault.EXPIRE` still ends the query, as if it had been stopped.
        delay: The number of seconds by which `Fault.DELAY` holds back a reply.

    Attributes:
        clock: The clock of the engine.
        delay: The number of seconds by which `Fault.DELAY` holds back a reply.
        injected: The faults that have happened, each with the kind of the request and its number among the requests of
            that kind. The kind is never `RequestKind.PAGE`.
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
        """The uuids of the queries that were opened by requests under this plan and have not been ended by one."""
        with self._lock:
            return frozenset(self._open)

    @property
    def lost(self) -> frozenset[str]:
        """The uuids of the open queries that no client can stop, because the reply with the uuid never arrived."""
        with self._lock:
            return frozenset(self._open & self._lost)

    def count(self, at: RequestKind) -> int:
        """Return the number of requests of a kind so far.

        Args:
            at: The kind of request.
        """
        with self._lock:
            return self._counts[at]

    @property
    def requests(self) -> int:
        """The number of all requests so far, those that were repeated or lost included."""
        with self._lock:
            return sum(count for kind, count in self._counts.items() if kind is not RequestKind.PAGE)

    def inject(self, fault: Fault, at: RequestKind = RequestKind.PAGE) -> None:
        """Plan a fault for the next request of a kind that no other fault is planned for.

        Args:
            fault: The fault that shall happen.
            at: The kind of request that it hits.
        """
        with self._lock:
            due = [planned.nth for planned in self._planned if planned.at is at]
            self._planned.append(PlannedFault(fault, at, max([self._counts[at], *due]) + 1))

    # Called by the faulty transport and the faulty server

    def on_request(self, kind: RequestKind) -> Fault | None:
        """Count a request, and return the fault that hits it; `None` if there is none.

        Args:
            kind: The kind of the request; never `RequestKind.PAGE`.
        """
        with self._lock:
            self._counts.update(kind.counted_as)
            fault = self._fault_of(kind)
            if fault is not None:
                self.injected.append(PlannedFault(fault, kind, self._counts[kind]))
        if fault is Fault.EXPIRE:
            self.clock.pass_max_idle()
        return fault

    def _fault_of(self, kind: RequestKind) -> Fault | None:
        """Return the fault that hits the request that was just counted. The caller holds the lock."""
        hit = [planned for planned in self._planned if planned.at in kind.counted_as]
        return next((planned.fault for planned in hit if planned.nth == self._counts[planned.at]), None)

    def queries_to_end(self, fault: Fault | None, uuid: str | None) -> Sequence[str]:
        """Return the uuids of the queries that a fault ends before the request arrives.

        Args:
            fault: The fault that hits the request, if any.
            uuid: The uuid that the request names, if any.
        """
        with self._lock:
            if fault is Fault.EVICT:
                gone = self._open & {uuid}
            else:
                gone = set(self._open) if fault in (Fault.EXPIRE, Fault.RESTART) else set()
            self._open -= gone
        return sorted(gone)

    def started(self, uuid: str, *, known: bool = False) -> None:
        """Note that the index has opened a query.

        Args:
            uuid: The uuid of the query; `""` if the namespace does not exist, so that no query was opened.
            known: Whether the client has made the uuid itself, so that it can stop the query even if the reply is lost.
                Default `False`.
        """
        if uuid:
            with self._lock:
                self._open.add(uuid)
                if not known:
                    self._lost.add(uuid)

    def delivered(self, uuid: str) -> None:
        """Note that a client has learnt the uuid of a query.

        Args:
            uuid: The uuid of the query.
        """
        with self._lock:
            self._lost.discard(uuid)

    def ended(self, uuid: str) -> None:
        """Note that a query is not open any more.

        Args:
            uuid: The uuid of the query.
        """
        with self._lock:
            self._open.discard(uuid)
