"""The order of the tool calls of one step, so that each sees what the ones before it have shown.

An agent may call several tools in one step. All of these calls are given the same state, and LangGraph joins their
updates when the last one is done. So that no two calls show one document, and a query that is put twice is continued
rather than repeated, the calls run one after another, and each sees the memory as the calls before it leave it. A step
is known to one process only, and between steps the state says everything. Only if a step is left half done and finished
in another process, the calls that are made there do not see those that were made here.
"""

import itertools
import threading
from collections import OrderedDict

from nextk.agents.memory import MemoryUpdate, MemoryView, SearchMemory, apply_update
from nextk.loop_lock import LoopLock

_MAX_STEPS = 128


class ToolStep:
    """The tool calls of one step.

    Attributes:
        lock: Held by the thread whose call is under way.
        async_lock: Held by the task whose call is under way.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.async_lock = LoopLock()
        self._updates: dict[str, MemoryUpdate] = {}

    def view(self, call_id: str, memory: SearchMemory) -> MemoryView:
        """Return the memory as a call is to see it.

        A call is made a second time if its step is retried or an earlier checkpoint is taken up. It then sees what it
        saw the first time, and so finds the same documents; those that later calls have shown it leaves out.

        Args:
            call_id: The id of the tool call.
            memory: The memory as it was before the step.
        """
        updates = list(self._updates.items())
        earlier = list(itertools.takewhile(lambda item: item[0] != call_id, updates))
        for _, update in earlier:
            memory = apply_update(memory, update)
        shown_later = [id_ for _, update in updates[len(earlier) + 1 :] for id_ in update["shown"]]
        return MemoryView(memory, frozenset(shown_later))

    def record(self, call_id: str, update: MemoryUpdate) -> None:
        """Let the calls to come see the update of this one.

        Args:
            call_id: The id of the tool call.
            update: The change that the call makes.
        """
        self._updates[call_id] = update


class ToolSteps:
    """The latest steps, by a key that tells one step from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[str, ToolStep] = OrderedDict()

    def step(self, key: str | None) -> ToolStep:
        """Return the step of a key, a new one if the key is new.

        Args:
            key: The key of the step; `None` for a step that no other call shares.
        """
        if key is None:
            return ToolStep()
        with self._lock:
            step = self._steps.setdefault(key, ToolStep())
            self._steps.move_to_end(key)
            while len(self._steps) > _MAX_STEPS:
                self._steps.popitem(last=False)
            return step
