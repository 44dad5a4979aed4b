"""Sparse search: the score is the inner product over the dimensions that a record and the query share.

A record that shares no dimension with the query is not a match at all, which differs from a match with a score of 0.
"""

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.ranking import ABSENT, LazyRanking
from nextk.engine.values import SparseArrays

_DENSE_PART = 3  # if more than one slot in so many matches, a score for every slot takes less room than the matches


def ranking(snapshot: Snapshot, query: SparseArrays, statistics: Snapshot | None) -> LazyRanking:
    """Rank all visible records that share a dimension with the query; the arguments are those of `scores`."""
    matching, found = scores(snapshot, query, statistics)
    if len(matching) * _DENSE_PART < len(snapshot.rows):
        return LazyRanking(snapshot.rows[matching], found)
    every = np.full(len(snapshot.rows), ABSENT)
    every[matching] = found
    return LazyRanking(snapshot.rows, every)


def scores(
    snapshot: Snapshot, query: SparseArrays, statistics: Snapshot | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score every visible record that shares a dimension with the query.

    Args:
        snapshot: The rows to search.
        query: The dimensions and values of the query; the contributions of a repeated dimension are added up.
        statistics: All rows of the namespace, from which the inverse document frequency of each dimension is taken to
            weight the query; `None` leaves the query unweighted.

    Returns:
        The slots of the matches, int64 (m,), ascending; and their scores, float32 (m,). Each value of the query is
        weighted in float32, then multiplied and added in float32, in the order of the query (protocol §5.2).
    """
    total = np.zeros(len(snapshot.rows), np.float32)
    shared = np.zeros(len(snapshot.rows), np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = query.values if statistics is None else query.values * _idf(statistics, query.indices)
        for dimension, weight in zip(query.indices.tolist(), weights, strict=True):
            for slots, values in snapshot.postings.of(dimension):
                total[slots] += weight * values
                shared[slots] = True
    matching = np.flatnonzero(shared if snapshot.visible is None else shared & snapshot.visible)
    return matching, np.nan_to_num(total[matching])  # a reply cannot express infinity


def _idf(statistics: Snapshot, dimensions: NDArray[np.int32]) -> NDArray[np.float32]:
    containing = np.array([statistics.frequency(dimension) for dimension in dimensions.tolist()], np.float64)
    return inverse_frequencies(statistics.count, containing)


def inverse_frequencies(count: int, containing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weight of each dimension by inverse document frequency, `ln(1 + (N - n + 0.5) / (n + 0.5))`.

    Args:
        count: The number of records, `N`.
        containing: How many of them contain each dimension, `n`; float64 (dimensions,).
    """
    return np.log1p((count - containing + 0.5) / (containing + 0.5)).astype(np.float32)
