"""Sparse search: the inner product over the dimensions that a record and the query share.

A record that shares none is no match at all, which is not the same as a score of 0.
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
        snapshot: What to search.
        query: Dimensions and values; repeated dimensions add up.
        statistics: The whole namespace, to weight the query by inverse document frequency; `None` does not weight.

    Returns:
        The slots that match, ascending, int64 (m,), and their scores, float32 (m,): the query's value is weighted in
        float32, then multiplied and added in float32, in the order of the query (protocol §5.2).
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
    return matching, np.nan_to_num(total[matching])  # a reply has no word for infinity


def _idf(statistics: Snapshot, dimensions: NDArray[np.int32]) -> NDArray[np.float32]:
    """`ln(1 + (N - n + 0.5) / (n + 0.5))` of each dimension, over the live records of the namespace."""
    alive = np.zeros(len(statistics.rows), np.bool_)
    alive[statistics.slots] = True
    having = np.array(
        [sum(int(alive[slots].sum()) for slots, _ in statistics.postings.of(one)) for one in dimensions.tolist()],
        np.float64,
    )
    return np.log1p((len(statistics.slots) - having + 0.5) / (having + 0.5)).astype(np.float32)
