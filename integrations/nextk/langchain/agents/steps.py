"""What the tool calls of one step know of each other.

An agent may call several tools at once. All of them are given the same state, and what they write is joined when the
last one is done. So that no two show one document, and the same query put twice is continued rather than repeated, they
take turns, and each sees the state as the ones before it leave it. Nothing here outlives the process, and between steps
nothing has to: the state says it all. Only where a step is left half done and taken up in another process, the calls
that are made there do not see those that were made here.
"""

import itertools
import threading
from collections import OrderedDict

from nextk.agents.memory import MemoryUpdate, MemoryView, SearchMemory, apply_update
from nextk.loop_lock import LoopLock

_MAX_STEPS = 128


class ToolStep:
    """The calls of one step.

    Attributes:
        lock: Whose turn it is, among threads.
        async_lock: The same among tasks.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.async_lock = LoopLock()
        self._updates: dict[str, MemoryUpdate] = {}

    def view(self, call: str, memory: SearchMemory) -> MemoryView:
        """The state as a call is to see it.

        A call that is made again, because a step is retried or an earlier checkpoint is taken up, sees what it saw the
        first time, so it finds the same; what was shown by the calls after it, it leaves out all the same.

        Args:
            call: The id of the tool call.
            memory: As it was before the step.
        """
        updates = list(self._updates.items())
        earlier = list(itertools.takewhile(lambda item: item[0] != call, updates))
        for _, update in earlier:
            memory = apply_update(memory, update)
        later = [id_ for _, update in updates[len(earlier) + 1 :] for id_ in update["shown"]]
        return MemoryView(memory, frozenset(later))

    def record(self, call: str, update: MemoryUpdate) -> None:
        """Let the calls to come see what this one has changed."""
        self._updates[call] = update


class ToolSteps:
    """The steps of late, by whatever tells one from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[str, ToolStep] = OrderedDict()

    def step(self, key: str | None) -> ToolStep:
        """The step of a key; `None` is nobody else's."""
        if key is None:
            return ToolStep()
        with self._lock:
            step = self._steps.setdefault(key, ToolStep())
            self._steps.move_to_end(key)
            while len(self._steps) > _MAX_STEPS:
                self._steps.popitem(last=False)
            return step
