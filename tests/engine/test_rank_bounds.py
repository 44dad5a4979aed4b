"""Ranks of lists of which estimates are known, against a sort of the exact scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextk.engine.rank_bounds import RankBounds
from nextk.engine.ranking import ABSENT, descending


def shares(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return contributions of ranks that fall with them."""
    return np.asarray(1.0 / (2 + ranks), np.float64)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 300),
    values=st.sampled_from([1, 3, 40, 10_000]),
    magnitude=st.sampled_from([1e-40, 1e-3, 1.0, 1e37]),
    error=st.sampled_from([0.0, 1e-5, 1e-3, 0.1, 10.0]),
    present=st.sampled_from([1.0, 0.5, 0.0]),
    chosen=st.sampled_from([0.02, 0.3, 1.0]),
)
def test_ranks(
    seed: int, count: int, values: int, magnitude: float, error: float, present: float, chosen: float
) -> None:
    """Exact ranks are those of a sort, and no row contributes more than its bound, however much the estimates err."""
    random = np.random.default_rng(seed)
    exact = (random.integers(values, size=count) / values * magnitude).astype(np.float32)
    bound = error * magnitude * (1 + 1e-5)
    estimates = (exact + error * magnitude * random.uniform(-1, 1, count)).astype(np.float32) if error else exact.copy()
    absent = random.random(count) > present
    exact[absent] = estimates[absent] = ABSENT
    bound += float(np.spacing(np.abs(estimates[~absent]).max(initial=0))) if error else 0.0
    bounds = RankBounds(estimates, bound)
    rows = random.permutation(count)
    ranks = np.empty(count, np.int64)
    ranks[descending(rows, exact)] = np.arange(count)
    positions = np.flatnonzero(~absent & (random.random(count) < chosen))
    found = bounds.exact(positions, count, lambda near: near[descending(rows[near], exact[near])])
    assert found is not None
    assert ranks[positions].tolist() == found.tolist()
    highest = bounds.highest_shares(shares)
    assert bool((highest[~absent] >= shares(ranks[~absent]).astype(np.float32)).all())
    assert absent.tolist() == bounds.absent().tolist()
    best = np.flatnonzero(~absent & (ranks < 5))
    assert set(best.tolist()) <= set(bounds.best(5).tolist()) if not error else True


@pytest.mark.parametrize(("most", "found"), [(9, None), (10, [0])], ids=["too many", "few enough"])
def test_too_many(most: int, found: list[int] | None) -> None:
    """If more rows are near by than may be sorted, there are no exact ranks."""
    scores = np.append(np.full(10, 0.5, np.float32), np.float32(0.9))
    ranks = RankBounds(scores, 0.01).exact(np.array([0]), most, lambda near: near)
    assert found == (None if ranks is None else [int(rank) - 1 for rank in ranks])
