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

from nextk.loops import LoopLock
from nextk.retrieval.book import Book, Patch, View, patched

_MOST_STEPS = 128


class Step:
    """The calls of one step.

    Attributes:
        turn: Whose turn it is, among threads.
        aturn: The same among tasks.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.aturn = LoopLock()
        self._patches: dict[str, Patch] = {}

    def view(self, call: str, book: Book) -> View:
        """The state as a call is to see it.

        A call that is made again, because a step is retried or an earlier checkpoint is taken up, sees what it saw the
        first time, so it finds the same; what was shown by the calls after it, it leaves out all the same.

        Args:
            call: The id of the tool call.
            book: As it was before the step.
        """
        patches = list(self._patches.items())
        earlier = list(itertools.takewhile(lambda item: item[0] != call, patches))
        for _, patch in earlier:
            book = patched(book, patch)
        later = [id_ for _, patch in patches[len(earlier) + 1 :] for id_ in patch["shown"]]
        return View(book, frozenset(later))

    def record(self, call: str, patch: Patch) -> None:
        """Let the calls to come see what this one has changed."""
        self._patches[call] = patch


class Steps:
    """The steps of late, by whatever tells one from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[str, Step] = OrderedDict()

    def step(self, key: str | None) -> Step:
        """The step of a key; `None` is nobody else's."""
        if key is None:
            return Step()
        with self._lock:
            step = self._steps.setdefault(key, Step())
            self._steps.move_to_end(key)
            while len(self._steps) > _MOST_STEPS:
                self._steps.popitem(last=False)
            return step
