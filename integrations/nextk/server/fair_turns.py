"""Fair turns: which call of which index runs next, so that one index's slow calls do not keep another's from running.

Indexes take turns, and the calls of one index run in the order in which they came. Beyond the number of calls that may
run there is one spare turn, which is for an index of which nothing runs: however many slow calls an index has, another
one need not wait until they end. This module only decides. It knows no thread.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """The calls that wait for their turn, and those that have it.

    Args:
        count: The number of calls that may run at the same time, besides one of an index of which nothing runs.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: dict[
            str, dict[T, None]
        ] = {}  # the indexes and the calls of each, those whose turn is next first
        self._running: dict[T, str] = {}
        self._running_of: Counter[str] = Counter()

    def add(self, index: str, call: T) -> None:
        """Let a call wait for its turn.

        Args:
            index: The index that it is for.
            call: The call.
        """
        self._waiting.setdefault(index, {})[call] = None

    def remove(self, index: str, call: T) -> None:
        """Forget a call that has ended, or waits no more.

        Args:
            index: The index that it is for.
            call: The call.
        """
        if self._running.pop(call, None) is not None:
            self._running_of[index] -= 1
            return
        calls = self._waiting.get(index, {})
        calls.pop(call, None)
        if not calls:
            self._waiting.pop(index, None)

    def take(self) -> Iterator[T]:
        """Yield the calls whose turn has come; each of them runs from then on."""
        while (index := self._next_index()) is not None:
            calls = self._waiting.pop(index)  # and behind the others, if it has more
            call = next(iter(calls))
            del calls[call]
            if calls:
                self._waiting[index] = calls
            self._running[call] = index
            self._running_of[index] += 1
            yield call

    def waiting(self) -> Mapping[str, int]:
        """Return the number of calls that wait, for each index that has any."""
        return {index: len(calls) for index, calls in list(self._waiting.items())}

    def waiting_calls(self) -> list[T]:
        """Return the calls that wait."""
        return [call for calls in self._waiting.values() for call in calls]

    def _next_index(self) -> str | None:
        running = len(self._running)
        if running > self._count:
            return None
        return next((index for index in self._waiting if running < self._count or not self._running_of[index]), None)
