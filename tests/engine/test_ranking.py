"""Rankings: their order, what they hold, and that estimates never decide it."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextk.engine import ranking
from nextk.engine.ranking import ABSENT, LazyRanking, descending

SCORES = st.sampled_from([0.0, -0.0, 1.0, 0.5, 0.50000006, -2.0, 3.4028235e38, -3.4028235e38, 1e-45, -1e-45])
"""Few different scores, so that many are equal: both zeros, neighbours, the largest, the smallest."""


@given(st.lists(SCORES, max_size=80), st.randoms(use_true_random=False))
def test_descending(scores: list[float], random: Random) -> None:
    """Rows are ordered by score, highest first, and rows of equal score by number, in whatever order they come."""
    rows = list(range(len(scores)))
    random.shuffle(rows)
    order = descending(np.array(rows, np.int64), np.array(scores, np.float32))
    exact = np.array(scores, np.float32).tolist()
    assert sorted(range(len(rows)), key=lambda position: (-exact[position], rows[position])) == order.tolist()


@st.composite
def estimated(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Draw exact scores, of which some may be absent, estimates of them, and the bound on their error."""
    exact = np.array(draw(st.lists(st.integers(-20, 20), max_size=60)), np.float32)
    error = draw(st.sampled_from([0.0, 0.5, 3.0, 1e3]))
    shifts = draw(st.lists(st.floats(-1, 1, width=16), min_size=len(exact), max_size=len(exact)))
    estimates = exact + np.array(shifts, np.float32) * np.float32(error)
    absent = draw(st.lists(st.booleans(), min_size=len(exact), max_size=len(exact)))
    estimates[np.array(absent, np.bool_)] = ABSENT
    return exact, estimates.astype(np.float32), error * (1 + 2**-10)


class Exact:
    """Exact scores, float32 (n,), of which all may be settled at any time."""

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self.scores = scores
        self.settled: NDArray[np.float32] | None = None

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of positions."""
        return self.scores[positions]


class TestLazyRanking:
    """Rows that are sorted only as far as they are taken."""

    @given(
        estimated(),
        st.lists(st.integers(1, 30), min_size=1, max_size=5),
        st.integers(1, 8),
        st.none() | st.integers(0, 4),
    )
    def test_any_estimates(
        self,
        drawn: tuple[NDArray[np.float32], NDArray[np.float32], float],
        sizes: list[int],
        chunk: int,
        settled_at: int | None,
    ) -> None:
        """Every row comes once, in the order of the exact scores, however wrong estimates are within their bound."""
        exact, estimates, error = drawn
        rows = np.arange(len(exact))[::-1] * 3
        present = np.flatnonzero(estimates > ABSENT)
        expected = present[descending(rows[present], exact[present])]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "_SMALLEST_CHUNK", chunk)
            patch.setattr(ranking, "_FIRST_CHUNK", chunk)
            rescore, pages = Exact(exact), []
            lazy = LazyRanking(rows, estimates, error, rescore)
            for number, size in enumerate((*sizes, 60, 1)):
                if number == settled_at:
                    rescore.settled = exact
                pages.append(lazy.take(size))
        assert rows[expected].tolist() == [row for page in pages for row in page.rows.tolist()]
        assert exact[expected].tolist() == [score for page in pages for score in page.scores.tolist()]
        assert sizes[0] == len(pages[0]) or len(present) < sizes[0]

    def test_memory(self) -> None:
        """Four bytes a row are held while the first pages are taken, and hardly any once all rows were."""
        count = 200_000
        rows, scores = np.arange(count), np.random.default_rng(0).random(count, np.float32)
        lazy = LazyRanking(rows, scores)
        for _ in range(10):
            lazy.take(100)
            held = lazy._scores.nbytes + lazy._ready.rows.nbytes + lazy._ready.scores.nbytes
            assert held <= 4.5 * count
        while len(lazy.take(50_000)):
            pass
        assert lazy._rows.nbytes + lazy._scores.nbytes + lazy._ready.rows.nbytes == 0
