"""How many searches one process keeps open on an index, and which open ones wait to be taken up again.

An index allows about a hundred open queries to all its users together. A session takes a permit from its first pull to
its end; a search that is detached keeps its permit, until somebody takes it up or its room is needed.
"""

import asyncio
import os
import threading
import weakref
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from nextk.errors import TooManyQueries
from nextk.transport import Carrier

MAX_OPEN = 32
"""Searches that one process keeps open on one carrier."""
PATIENCE = 5.0
"""Seconds to wait for one of them to end."""


class Permit:
    """Leave to keep one search open. Dropped, it is given back."""

    def __init__(self, budget: "Budget") -> None:
        self._budget: Budget | None = budget
        self._pid = os.getpid()

    def release(self) -> None:
        """Give it back; calling it again does nothing, and it never waits, so that a finaliser may call it."""
        budget, self._budget = self._budget, None
        if budget is not None and self._pid == os.getpid():
            budget.give_back()

    def void(self) -> None:
        """Its room has been given to somebody else."""
        self._budget = None

    __del__ = release


@dataclass(slots=True)
class Parked:
    """A detached search that is still open on the server.

    Attributes:
        uuid: Of its query.
        rows: What was pulled and is not decided.
        set_aside: How many of them were set aside, the first ones.
        permit: The leave to keep it open.
    """

    uuid: str
    rows: list[Any]
    set_aside: int
    permit: Permit


class Budget:
    """The searches that are open on one carrier.

    Args:
        orphans: Where the uuids of parked searches go that are to be stopped.
        capacity: How many may be open, the parked ones included.
        patience: Seconds to wait for one of them to end.
    """

    def __init__(self, orphans: deque[str], capacity: int = MAX_OPEN, patience: float = PATIENCE) -> None:
        self._returned: deque[None] = deque()  # permits that nobody has taken note of yet
        self._orphans = orphans
        self._capacity = capacity
        self._patience = patience
        self._reset()

    def _after_fork(self) -> None:
        """In a forked child: what is open is its parent's."""
        if self._pid != os.getpid():
            self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._returned.clear()
        self._lock = threading.Lock()
        self._free = self._capacity
        self._waiting: deque[Future[None]] = deque()
        self._parked: OrderedDict[str, Parked] = OrderedDict()

    def acquire(self) -> Permit:
        """Take a permit, and wait for one where that is needed.

        Raises:
            TooManyQueries: There is none, and none has come back in time.
        """
        turn = self._ask()
        try:
            turn.result(self._patience)
        except TimeoutError:
            self._too_late(turn)
        except BaseException:
            self._withdraw(turn)
            raise
        return Permit(self)

    async def aacquire(self) -> Permit:
        """The same without blocking the event loop."""
        turn = self._ask()
        if not turn.done():
            try:
                async with asyncio.timeout(self._patience):
                    await asyncio.shield(asyncio.wrap_future(turn))
            except TimeoutError:
                self._too_late(turn)
            except BaseException:
                self._withdraw(turn)
                raise
        return Permit(self)

    def _ask(self) -> "Future[None]":
        self._after_fork()
        turn: Future[None] = Future()
        with self._lock:
            self._collect()
            if not self._free and self._parked:
                self._evict()
            if self._free:
                self._free -= 1
                turn.set_result(None)
            else:
                self._waiting.append(turn)
        self._settle()
        return turn

    def _too_late(self, turn: "Future[None]") -> None:
        """Raise, unless the turn has come in the last moment."""
        if turn.cancel():
            message = (
                f"{self._capacity} searches are open on this index, and none has ended within {self._patience:g} s: "
                "leave each by `with`, or stop() it"
            )
            raise TooManyQueries(message)

    def _withdraw(self, turn: "Future[None]") -> None:
        if not turn.cancel():
            self.give_back()

    def give_back(self) -> None:
        """Let the next one have it; never waits."""
        self._returned.append(None)
        self._settle()

    def _settle(self) -> None:
        """Take note of what was given back. Whoever holds the lock meanwhile does so when leaving."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        while self._returned:
            self._returned.popleft()
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if turn.set_running_or_notify_cancel():
                turn.set_result(None)
                return
        self._free += 1

    def park(self, key: str, parked: Parked) -> None:
        """Keep a search open until it is claimed, or its room is needed."""
        self._after_fork()
        with self._lock:
            twin = self._parked.pop(key, None)
            self._parked[key] = parked
            if self._waiting:  # its room is needed already
                self._evict()
                self._free -= 1
                self._pass_on()
        self._settle()
        if twin is not None:
            self._drop(twin)

    def claim(self, key: str) -> Parked | None:
        """Take a parked search up; whoever asks first gets it."""
        self._after_fork()
        with self._lock:
            parked = self._parked.pop(key, None)
        self._settle()
        return parked

    def _evict(self) -> None:
        """Give the room of the search that was parked first to somebody else."""
        _, oldest = self._parked.popitem(last=False)
        self._orphans.append(oldest.uuid)
        oldest.permit.void()
        self._free += 1

    def _drop(self, parked: Parked) -> None:
        self._orphans.append(parked.uuid)
        parked.permit.release()

    def abandon(self) -> None:
        """Let every parked search be stopped, once nobody can park or claim any more; takes no lock."""
        if self._pid == os.getpid():
            for parked in list(self._parked.values()):
                self._orphans.append(parked.uuid)

    def clear(self) -> None:
        """Let every parked search be stopped; in a forked child they are its parent's to stop."""
        self._after_fork()
        with self._lock:
            parked = list(self._parked.values())
            self._parked.clear()
        for each in parked:
            self._drop(each)


_budgets: "weakref.WeakKeyDictionary[Carrier, Budget]" = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _make_anew() -> None:
    global _making  # noqa: PLW0603 - another thread may have held it when this process was forked
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_make_anew)


def budget_of(carrier: Carrier) -> Budget:
    """The budget of a carrier, shared by both colours; closing the carrier stops what is parked."""
    with _making:
        budget = _budgets.get(carrier)
        if budget is None:
            budget = _budgets[carrier] = Budget(carrier.orphans)
            carrier.leaving.append(budget.clear)
            weakref.finalize(carrier, budget.abandon)  # at exit, too
        return budget
