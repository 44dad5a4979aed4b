"""Faults by chance, the same ones for the same seed."""

import random
from collections.abc import Iterable

from nextk.errors import ClientError
from nextk.testing.faults import Fault, FaultPlan, ManualClock, RequestKind


class RandomFaults(FaultPlan):
    """A plan by which requests fail by chance: all of them, or those of some kinds.

    Every request draws two numbers, whatever they decide: one for the way to the index and one for the way back. With
    probability `drop_request` the index never sees the request. If it has seen it, at most one thing happens to the
    reply; the other probabilities are of that. So with `drop_request=0.15` and `drop_reply=0.15`, 27.75 % of the
    requests remain without a reply. The same seed and the same sequence of requests bring the same faults. Repeated
    requests are requests like any others.

    Args:
        seed: The seed of the random numbers.
        drop_request: The probability of `Fault.DROP_REQUEST`. Default 0.
        drop_reply: The probability of `Fault.DROP_REPLY`. Default 0.
        truncate: The probability of `Fault.TRUNCATE`. Default 0.
        error_page: The probability of `Fault.ERROR_PAGE`. Default 0.
        late: The probability of `Fault.DELAY`. Default 0.
        reset: The probability of `Fault.RESET`. Default 0.
        at: The kinds of requests that may be hit. Default: every kind.
        delay: The number of seconds by which a late reply is held back. Default 0.05.
        clock: The clock of the engine; `None` (the default) for a new one.

    Raises:
        ClientError: A probability is not from 0 to 1, or those of the reply are more than 1 in all.
    """

    def __init__(
        self,
        seed: int,
        *,
        drop_request: float = 0.0,
        drop_reply: float = 0.0,
        truncate: float = 0.0,
        error_page: float = 0.0,
        late: float = 0.0,
        reset: float = 0.0,
        at: Iterable[RequestKind] = tuple(RequestKind),
        delay: float = 0.05,
        clock: ManualClock | None = None,
    ) -> None:
        super().__init__(clock=clock, delay=delay)
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - faults that can be repeated, no secrets
        self._at = frozenset(at)
        self._drop_request = drop_request
        self._of_reply = {
            Fault.DROP_REPLY: drop_reply,
            Fault.TRUNCATE: truncate,
            Fault.ERROR_PAGE: error_page,
            Fault.DELAY: late,
            Fault.RESET: reset,
        }
        chances = (drop_request, *self._of_reply.values())
        if not all(0 <= chance <= 1 for chance in chances) or sum(self._of_reply.values()) > 1:
            message = f"probabilities have to be from 0 to 1, and those of the reply at most 1 in all, not {chances}"
            raise ClientError(message)

    def __repr__(self) -> str:
        return f"RandomFaults({self._seed}), injected {self.injected}"

    def _fault_of(self, kind: RequestKind) -> Fault | None:
        drawn, planned = self._draw(), super()._fault_of(kind)
        return drawn if planned is None and not self._at.isdisjoint(kind.counted_as) else planned

    def _draw(self) -> Fault | None:
        request, reply = self._random.random(), self._random.random()
        if request < self._drop_request:
            return Fault.DROP_REQUEST
        for fault, chance in self._of_reply.items():
            if reply < chance:
                return fault
            reply -= chance
        return None
