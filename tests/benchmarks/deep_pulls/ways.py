"""Ways to go on with a search: each opens a search, which then yields as many further rows as it is asked for."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deep_pulls.corpora import Corpus, Question

Pull: TypeAlias = Callable[[int], list[Any]]
"""Returns that many further rows, as numbers or as texts; fewer if there are no more."""

Ask: TypeAlias = Callable[[int], list[Any]]
"""Returns the best rows of a search, that many of them, from the first one on."""


@dataclass(frozen=True)
class Way:
    """A way to go on with a search.

    Attributes:
        name: What the report calls it.
        search: Opens a search for a question; on leaving, it is closed.
        build_seconds: The CPU seconds that building took.
        bytes_per_row: The memory that building, or opening, took for each row; `None` if it was not measured.
        other_cpu: Returns the CPU seconds that other processes have spent on it.
        most_questions: The number of questions that it is asked, because more would take too long.
    """

    name: str
    search: Callable[[Question], AbstractContextManager[Pull]]
    build_seconds: float = 0.0
    bytes_per_row: float | None = None
    other_cpu: Callable[[], float] = lambda: 0.0
    most_questions: int = 1_000


class OverFetching:
    """Fetch 100 rows at first, and four times as many whenever they are used up, without the rows seen already.

    Args:
        ask: Asks the index.
        most: The number of rows that there are.
    """

    def __init__(self, ask: Ask, most: int) -> None:
        self._ask, self._most = ask, most
        self._asked = 0
        self._seen: set[Any] = set()
        self._waiting: list[Any] = []

    def __enter__(self) -> Pull:
        return self.pull

    def __exit__(self, *exception: object) -> None:
        self._waiting.clear()

    def pull(self, count: int) -> list[Any]:
        """Return the next rows."""
        while len(self._waiting) < count and self._asked < self._most:
            self._asked = min(max(100, 4 * self._asked), self._most)
            fresh = [row for row in self._ask(self._asked) if row not in self._seen]
            self._seen.update(fresh)
            self._waiting += fresh
        page, self._waiting = self._waiting[:count], self._waiting[count:]
        return page


class AskingAgain:
    """Ask at every pull for as many rows as were served, and for the new ones, and drop the rows seen already.

    Args:
        ask: Asks the index.
        most: The number of rows that there are.
    """

    def __init__(self, ask: Ask, most: int) -> None:
        self._ask, self._most = ask, most
        self._seen: dict[Any, None] = {}

    def __enter__(self) -> Pull:
        return self.pull

    def __exit__(self, *exception: object) -> None:
        self._seen.clear()

    def pull(self, count: int) -> list[Any]:
        """Return the next rows."""
        found = self._ask(min(len(self._seen) + count, self._most))
        page = [row for row in found if row not in self._seen][:count]
        self._seen.update(dict.fromkeys(page))
        return page


class KeptScores:
    """Score all rows by one product at the start, and sort what is pulled: the best that plain numpy can do.

    Args:
        corpus: The rows.
        question: The question.
        allowed: The rows that pass the filter, int64; `None` without a filter.
    """

    def __init__(self, corpus: Corpus, question: Question, allowed: NDArray[np.int64] | None = None) -> None:
        self._corpus, self._question, self._allowed = corpus, question, allowed
        self._best = np.empty(0, np.int64)
        self._served = 0

    def __enter__(self) -> Pull:
        vectors, target, allowed = self._corpus.vectors, self._question.vector, self._allowed
        if allowed is None:
            self._scores = vectors @ target
        elif 10 * len(allowed) < len(vectors):  # few rows are gathered, and many are scored with all others
            self._scores = vectors[allowed] @ target
        else:
            self._scores = (vectors @ target)[allowed]
        return self.pull

    def __exit__(self, *exception: object) -> None:
        self._scores = self._scores[:0]

    def pull(self, count: int) -> list[Any]:
        """Return the next rows."""
        need = self._served + count
        if need > len(self._best) < len(self._scores):
            self._order(max(need, 4 * len(self._best), 100))
        page = self._best[self._served : need]
        self._served += len(page)
        rows: list[Any] = (page if self._allowed is None else self._allowed[page]).tolist()
        return rows

    def _order(self, size: int) -> None:
        scores = self._scores
        near = np.arange(len(scores))
        if size < len(scores):  # all rows of the lowest score, so that a later call puts the same ones first
            near = np.flatnonzero(scores >= np.partition(scores, -size)[-size])
        self._best = near[np.lexsort((near, -scores[near]))]
