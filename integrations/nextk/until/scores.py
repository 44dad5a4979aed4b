"""Policies of the scores alone. They are refused on fused scores, which are made of ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nextk.arguments import require_count, require_number
from nextk.until.policy import Candidate, Policy, PolicyState

_LEAST = 1e-6  # a ratio of 0 would be no threshold


@dataclass(frozen=True)
class MinScore(Policy):
    """While scores are at least `t`. Also known as a score threshold, or similarity cutoff.

    Args:
        t: What a row has to score; higher is nearer, for every kind of index.
        patience: After how many rows below it, one after another, to stop: an approximate index may return rows
            slightly out of order.

    Raises:
        ClientError: `t` is not a finite number, or `patience` not a whole one of at least 1.
    """

    scores_only: ClassVar[bool] = True
    t: float
    patience: int = 3

    def __post_init__(self) -> None:
        require_number(self.t, "t")
        require_count(self.patience, "patience")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Compare scores."""
        return _ThresholdState(self)

    def threshold(self, best: float) -> float:  # noqa: ARG002
        """What a row has to score."""
        return self.t


@dataclass(frozen=True)
class RelativeScore(Policy):
    """While scores are at least `ratio` times the best one of this search.

    Args:
        ratio: Above 0 and at most 1.
        patience: After how many rows below it, one after another, to stop.

    Raises:
        ClientError: A parameter is out of its range.
    """

    scores_only: ClassVar[bool] = True
    ratio: float
    patience: int = 3

    def __post_init__(self) -> None:
        require_number(self.ratio, "ratio", _LEAST, 1)
        require_count(self.patience, "patience")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Compare scores."""
        return _ThresholdState(self)

    def threshold(self, best: float) -> float:
        """What a row has to score; never more than the best one, which may be negative."""
        return min(best, self.ratio * best)


class _ThresholdState(PolicyState):
    def __init__(self, policy: MinScore | RelativeScore) -> None:
        super().__init__(policy)
        self._below = 0

    def keeps(self, candidate: Candidate) -> bool:
        near = candidate.score >= self.policy.threshold(candidate.best_score)
        self._below = 0 if near else self._below + 1  # not a count of kept rows: of those on the way
        return bool(near)

    def enough(self) -> bool:
        return bool(self._below >= self.policy.patience)


@dataclass(frozen=True)
class ScoreGap(Policy):
    """Until some rows behind the largest gap between two scores that follow each other (adaptive-k).

    The gap is looked for among the next `window` rows: a larger one may lie further on. Scores without any gap are kept
    to the end of the window. Everything before the stop is kept.

    Args:
        buffer: How many rows to take behind the gap, since what is relevant does not end sharply.
        ignore_tail: The share of the window, at its end, in which a gap does not count.
        min_k: How many rows at least to take before the gap: on real data the largest one often follows the first row.
        window: How many rows to look at.

    Raises:
        ClientError: A parameter is out of its range.

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
        """Look ahead, then count."""
        return _GapState(self)

    def cut(self, scores: Sequence[float]) -> int:
        """How many of these rows to take, the buffer included; of equal gaps the first one counts."""
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
        self._left -= 1  # rows on the way, kept by others or not
        return True

    def enough(self) -> bool:
        return self._left <= 0
