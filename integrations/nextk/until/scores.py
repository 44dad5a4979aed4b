"""Policies that look at scores only.

A search with fused scores refuses them, because fused scores are made of ranks and do not measure nearness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nextk.arguments import require_count, require_number
from nextk.until.policy import Candidate, Policy, PolicyState

_LEAST = 1e-6  # a ratio of 0 would be no threshold


@dataclass(frozen=True)
class MinScore(Policy):
    """Keeps matches that score at least `t`, and stops when the scores stay below it.

    It is also known as a score threshold or similarity cutoff.

    Args:
        t: The lowest score that is kept; higher is nearer, for every kind of index.
        patience: The number of consecutive matches that have to score below `t` before the search stops. More than 1
            makes sense because an approximate index may return matches slightly out of order. Default: 3.

    Raises:
        ClientError: `t` is not a finite number, or `patience` is not a whole number of at least 1.
    """

    scores_only: ClassVar[bool] = True
    t: float
    patience: int = 3

    def __post_init__(self) -> None:
        require_number(self.t, "t")
        require_count(self.patience, "patience")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make a state that compares the scores of one call."""
        return _ThresholdState(self)

    def threshold(self, best_score: float) -> float:  # noqa: ARG002
        """Return the lowest score that is kept, which is `t` for every search.

        Args:
            best_score: The score of the first match of the search.
        """
        return self.t


@dataclass(frozen=True)
class RelativeScore(Policy):
    """Keeps matches that score at least `ratio` times the best score of this search, and stops when none do any more.

    Args:
        ratio: The share of the best score, above 0 and at most 1.
        patience: The number of consecutive matches that have to score below that share before the search stops.
            Default: 3.

    Raises:
        ClientError: `ratio` is not a number above 0 and at most 1, or `patience` is not a whole number of at least 1.
    """

    scores_only: ClassVar[bool] = True
    ratio: float
    patience: int = 3

    def __post_init__(self) -> None:
        require_number(self.ratio, "ratio", _LEAST, 1)
        require_count(self.patience, "patience")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make a state that compares the scores of one call."""
        return _ThresholdState(self)

    def threshold(self, best_score: float) -> float:
        """Return the lowest score that is kept; never more than the best score, which may be negative.

        Args:
            best_score: The score of the first match of the search.
        """
        return min(best_score, self.ratio * best_score)


class _ThresholdState(PolicyState):
    def __init__(self, policy: MinScore | RelativeScore) -> None:
        super().__init__(policy)
        self._below = 0

    def keeps(self, candidate: Candidate) -> bool:
        near = candidate.score >= self.policy.threshold(candidate.best_score)
        self._below = 0 if near else self._below + 1  # counts all matches in order, not only those that are kept
        return bool(near)

    def enough(self) -> bool:
        return bool(self._below >= self.policy.patience)


@dataclass(frozen=True)
class ScoreGap(Policy):
    """Keeps every match, and stops a few matches after the largest gap between two neighbouring scores (adaptive-k).

    The gap is looked for among the next `window` matches; a larger gap may lie further on. If the scores have no gap at
    all, the search stops at the end of the window.

    Args:
        buffer: The number of matches to take after the gap, because relevance does not end sharply; at least 0.
            Default: 5.
        ignore_tail: The share of the window, at its end, in which a gap does not count; from 0 to 0.9. Default: 0.1.
        min_k: The number of matches that have to come before the gap, at least 1. On real data the largest gap of all
            often follows the first match. Default: 3.
        window: The number of matches to look at, at least 2. Default: 50.

    Raises:
        ClientError: A parameter is not a number in its range.

    Source: Adaptive-k, https://arxiv.org/abs/2506.08479
    """

    scores_only: ClassVar[bool] = True
    drops: ClassVar[bool] = False
    buffer: int = 5
    ignore_tail: float = 0.1
    min_k: int = 3
    window: int = 50

    def __post_init__(self) -> None:
        require_count(self.buffer, "buffer", 0)
        require_number(self.ignore_tail, "ignore_tail", 0, 0.9)
        require_count(self.min_k, "min_k")
        require_count(self.window, "window", 2)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make a state that looks at the scores of a window, and then counts matches to the cut."""
        return _GapState(self)

    def cut(self, scores: Sequence[float]) -> int:
        """Return how many of the matches to take, including the buffer. Of equal gaps the first one counts.

        Args:
            scores: The scores of the matches of a window, best first.
        """
        last = int(len(scores) * (1 - self.ignore_tail))
        gaps = [
            (scores[position - 1] - scores[position], -position)
            for position in range(self.min_k, min(last, len(scores) - 1) + 1)
        ]
        gap, position = max(gaps, default=(0.0, 0))
        return min(-position + self.buffer, len(scores)) if gap > 0 else len(scores)


class _GapState(PolicyState):
    def __init__(self, policy: ScoreGap) -> None:
        super().__init__(policy)
        self.lookahead = policy.window
        self._left = policy.window

    def preview(self, scores: Sequence[float]) -> None:
        self._left = self.policy.cut(scores)

    def keeps(self, candidate: Candidate) -> bool:  # noqa: ARG002
        self._left -= 1  # every match counts, whether other policies keep it or not
        return True

    def enough(self) -> bool:
        return self._left <= 0
