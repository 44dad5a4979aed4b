"""Sparse search: the score is the inner product over the dimensions that a record and the query share.

A record that shares no dimension with the query is not a match at all, which differs from a match with a score of 0.
"""

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.values import SparseArrays


def scores(
    snapshot: Snapshot, query: SparseArrays, statistics: Snapshot | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score every record that shares a dimension with the query.

    Args:
        snapshot: The rows to search.
        query: The dimensions and values of the query; the contributions of a repeated dimension are added up.
        statistics: All rows of the namespace, from which the inverse document frequency of each dimension is taken to
            weight the query; `None` leaves the query unweighted.

    Returns:
        The slots of the matches, int64 (m,), ascending; and their scores, float32 (m,). Each value of the query is
        weighted in float32, then multiplied and added in float32, in the order of the query (protocol §5.2).
    """
    count = len(snapshot.rows)
    total = np.zeros(count, np.float32)
    shared = np.zeros(count, np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = query.values if statistics is None else query.values * _idf(statistics, query.indices)
        for dimension, weight in zip(query.indices.tolist(), weights, strict=True):
            for slots, values in snapshot.postings.of(dimension):
                total[slots] += weight * values
                shared[slots] = True
    matching = snapshot.slots[shared[snapshot.slots]]
    return matching, np.nan_to_num(total[matching])  # a reply cannot express infinity


def _idf(statistics: Snapshot, dimensions: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return `ln(1 + (N - n + 0.5) / (n + 0.5))` for each dimension: `n` of the `N` live records contain it."""
    live = np.zeros(len(statistics.rows), np.bool_)
    live[statistics.slots] = True
    containing = np.array(
        [
            sum(int(live[slots].sum()) for slots, _ in statistics.postings.of(dimension))
            for dimension in dimensions.tolist()
        ],
        np.float64,
    )
    return np.log1p((len(statistics.slots) - containing + 0.5) / (containing + 0.5)).astype(np.float32)
