"""Columns with codes, and pools so small that a few hundred rows already fill several of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from nextk.engine import columns as columns_module
from nextk.engine.columns import Columns, Snapshot
from nextk.engine.pool import kept_codes, pools, ranking
from nextk.engine.pool.codes import VectorCodes
from nextk.engine.pool.protocol import PoolCodes
from nextk.engine.pool.signs import SignCodes
from nextk.engine.ranking import Ranked
from nextk.engine.schema import Similarity
from nextk.engine.values import VectorRows
from tests.support.written_rows import score_bounds

BY_CODES = pytest.mark.parametrize(
    ("similarity", "signs"),
    [*((each, False) for each in Similarity), (Similarity.COSINE, True)],
    ids=[*(each.value for each in Similarity), "signs"],
)
"""Runs a test by every kind of codes: those of faiss for each similarity, and signs."""


@contextmanager
def small_pools(first: int = 8) -> Iterator[None]:
    """Return a context manager within which the first pool of a search has so many candidates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "FIRST_POOL", first)
        yield


@contextmanager
def eager_keeping() -> Iterator[None]:
    """Return a context manager within which codes are stored as soon as there are new ones, in small parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "_UNKEPT_PART", 1_000)
        patch.setattr(kept_codes, "_PART_BYTES", 1_024)
        yield


def columns_of(vectors: NDArray[np.float32]) -> Columns:
    """Return columns that hold vectors, float32 (n, d), as the rows 0, 1, ..."""
    columns = Columns()
    append(columns, vectors, 0)
    return columns


def append(columns: Columns, vectors: NDArray[np.float32], first: int) -> None:
    """Append vectors as rows from `first` on."""
    columns.append(VectorRows(np.arange(first, first + len(vectors)), vectors, None))


def compact(columns: Columns, keeping: int = -1) -> None:
    """Delete every other row, but for `keeping`, so that the slots are numbered anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "_COMPACT_FROM", 1)
        columns.remove(set(columns.snapshot.rows[::2].tolist()) - {keeping})


def codes_of(snapshot: Snapshot, similarity: Similarity) -> VectorCodes:
    """Return the codes of all slots of a snapshot, trained on them."""
    assert snapshot.matrix is not None
    codes = VectorCodes(snapshot.matrix.blocks[0].shape[1], similarity)
    codes.train(snapshot)
    codes.extend(snapshot)
    return codes


def signs_of(snapshot: Snapshot) -> SignCodes:
    """Return the signs of all slots of a snapshot, by the mean of all of them."""
    assert snapshot.matrix is not None
    signs = SignCodes(snapshot.matrix.blocks[0].shape[1])
    signs.train(snapshot)
    signs.extend(snapshot)
    return signs


def any_codes_of(snapshot: Snapshot, similarity: Similarity, signs: bool) -> PoolCodes:
    """Return codes of the kind that `BY_CODES` wants."""
    return signs_of(snapshot) if signs else codes_of(snapshot, similarity)


def is_sorted(page: Ranked) -> bool:
    """Return whether a page is sorted by score, and rows of equal scores by number."""
    keys = list(zip((-page.scores).tolist(), page.rows.tolist(), strict=True))
    return keys == sorted(keys)


def wrong_scores(
    pages: Sequence[Ranked], vectors: NDArray[np.float32], query: NDArray[np.float32], similarity: Similarity
) -> list[int]:
    """Return the rows whose scores are not those of the definition.

    Args:
        pages: Pages of rows.
        vectors: The vector of each row, float32 (n, d).
        query: The query, float32 (d,).
        similarity: The function that scores two vectors.
    """
    rows = np.concatenate([page.rows for page in pages])
    scores = np.concatenate([page.scores for page in pages])
    smallest, largest = score_bounds(similarity.value.lower(), query, vectors[rows])
    return list(rows[(scores < smallest) | (scores > largest)].tolist())
