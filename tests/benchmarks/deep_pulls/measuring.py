"""Run searches in the same pattern on several ways in turn, and take figures of each."""

import gc
import statistics
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deep_pulls.corpora import Corpus, Question
from tests.benchmarks.deep_pulls.ways import Way

_ROUNDOFF = 2e-6
_OPEN = 20  # searches that are open together when their memory is measured


PATTERNS = {"P1": [10] * 10, "P2": [10] + [100] * 9}
"""The sizes of the pulls: ten pages of ten rows, and one of ten and nine of a hundred."""

DEEPEST = max(map(sum, PATTERNS.values()))
"""The largest number of rows that a search is asked for."""


@dataclass
class Figures:
    """The figures of one way to search with one pattern of pulls. Each list has one number for each question.

    Attributes:
        first_cpu: Milliseconds of CPU time until the first page.
        first_wall: Milliseconds until the first page.
        cpu: Milliseconds of CPU time of all pulls.
        wall: Milliseconds of all pulls.
        first_recall: The share of the best rows that the first page has.
        recall: The share of the best rows that all pages have.
        late: The rows that came after one with a lower score.
        duplicates: The rows that came again.
    """

    first_cpu: list[float] = field(default_factory=list)
    first_wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    first_recall: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Return medians of times, means and minima of recalls, and the numbers of late rows and of duplicates."""
        times = {name: statistics.median(getattr(self, name)) for name in ("first_cpu", "first_wall", "cpu", "wall")}
        return times | {
            "first_recall": statistics.fmean(self.first_recall),
            "first_recall_worst": min(self.first_recall),
            "recall": statistics.fmean(self.recall),
            "recall_worst": min(self.recall),
            "late": sum(self.late),
            "duplicates": sum(self.duplicates),
        }


@dataclass(frozen=True)
class Case:
    """A way, and what it is to find.

    Attributes:
        way: The way.
        truth: The best rows for each question, best first, as many as all pulls may have; int64 each.
        vectors: The vectors of the rows, by which late rows are told; `None` if scores are no dot products.
    """

    way: Way
    truth: Sequence[NDArray[np.int64]]
    vectors: NDArray[np.float32] | None = None


def compare(cases: Sequence[Case], questions: Sequence[Question], sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """Run every question on every way in turn, after one of them to warm up.

    Args:
        cases: The ways, whose names differ, with what they are to find.
        questions: The questions.
        sizes: The sizes of the pulls.

    Returns:
        The summary of the figures of each way, by its name.
    """
    figures = {case.way.name: Figures() for case in cases}
    gc.collect()
    gc.freeze()  # or else every collection reads all rows, which takes a second and leaves the caches cold
    for case in cases:
        _run(case, 0, questions[0], sizes, Figures())
    for number, question in enumerate(questions):
        for case in cases:
            if number < case.way.most_questions:
                _run(case, number, question, sizes, figures[case.way.name])
    gc.unfreeze()
    return {name: each.summary() for name, each in figures.items()}


def _run(case: Case, number: int, question: Question, sizes: Sequence[int], figures: Figures) -> None:
    way, best = case.way, case.truth[number]
    gc.collect()
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time() + way.other_cpu()
    with way.search(question) as pull:
        pages = [pull(sizes[0])]
        first_wall, first_cpu = time.perf_counter(), time.process_time() + way.other_cpu()
        pages += [pull(size) for size in sizes[1:]]
        end_wall, end_cpu = time.perf_counter(), time.process_time() + way.other_cpu()
    gc.enable()
    rows = [int(row) for page in pages for row in page]
    figures.first_wall.append((first_wall - wall) * 1_000)
    figures.first_cpu.append((first_cpu - cpu) * 1_000)
    figures.wall.append((end_wall - wall) * 1_000)
    figures.cpu.append((end_cpu - cpu) * 1_000)
    figures.first_recall.append(recall(rows[: sizes[0]], best[: sizes[0]]))
    figures.recall.append(recall(rows, best[: sum(sizes)]))
    figures.late.append(0 if case.vectors is None else late_rows(case.vectors[rows] @ question.vector))
    figures.duplicates.append(len(rows) - len(set(rows)))


def late_rows(scores: NDArray[np.float32]) -> int:
    """Return how many rows come after one with a lower score, given the scores in the order in which they came."""
    lowest = np.minimum.accumulate(scores)
    return int(np.count_nonzero(scores[1:] > lowest[:-1] + _ROUNDOFF))


def recall(found: Sequence[int], best: NDArray[np.int64]) -> float:
    """Return the share of the best rows that were found; 1 if there are none."""
    return len(set(found) & set(best.tolist())) / len(best) if len(best) else 1.0


def best_rows(corpus: Corpus, question: Question, count: int, allowed: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the nearest rows by dot products in float64, best first; only rows that are allowed."""
    rows = np.arange(len(corpus)) if allowed is None else allowed
    estimates = corpus.vectors @ question.vector
    near = rows
    if count < len(rows):
        chosen = estimates[rows]
        near = rows[chosen >= np.partition(chosen, -count)[-count] - _ROUNDOFF]
    scores = corpus.vectors[near].astype(np.float64) @ question.vector.astype(np.float64)
    return near[np.lexsort((near, -scores))[:count]]


def bytes_per_search(way: Way, questions: Sequence[Question]) -> float:
    """Return the memory that an open search holds after its first page of 10, as Python and numpy count it."""
    with ExitStack() as stack:
        stack.enter_context(way.search(questions[0]))(10)
        gc.collect()
        tracemalloc.start()
        for number in range(_OPEN):
            stack.enter_context(way.search(questions[number % len(questions)]))(10)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return taken / _OPEN


def resident() -> int:
    """Return the bytes of memory that this process has, by `/proc`; 0 where there is none."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4_096 if status.exists() else 0


class Meter:
    """Measures the CPU seconds and the memory that a block takes; a context manager."""

    def __enter__(self) -> Self:
        gc.collect()
        self._memory, self._began = resident(), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.process_time() - self._began
        gc.collect()
        self.bytes = max(resident() - self._memory, 0)
