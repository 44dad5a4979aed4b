"""Rank the rows of a namespace, as they are at one moment, by a query."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextk.bodies import Query
from nextk.engine import dense, fusion, sparse
from nextk.engine.columns import Snapshot
from nextk.engine.rank_fusion import rank_fusion
from nextk.engine.schema import FusionOrder, Schema, Similarity
from nextk.engine.threshold import SparseMatches, ThresholdOrder
from nextk.engine.values import SparseArrays
from nextk.types import FusionAlgorithm

_DIGESTED = sorted(Query.model_fields.keys() - {"vector", "sparse_vector"})

ONE_SHOT_DEPTH = 100
"""The candidates that a one-shot hybrid query on an index of batch order takes from each ranked list, at least."""


@dataclass(frozen=True, slots=True)
class QueryComponents:
    """The vectors that a query searches by: a dense one, a sparse one, or both.

    Attributes:
        vector: The dense vector, float32 (dimension,), or `None`.
        sparse: The sparse vector, or `None`.
        weighted: Whether sparse values are weighted by inverse document frequency.
        fusion: The algorithm that fuses the two ranked lists of a hybrid query.
    """

    vector: NDArray[np.float32] | None
    sparse: SparseArrays | None
    weighted: bool
    fusion: FusionAlgorithm


RankDense = Callable[[Snapshot, NDArray[np.float32], Similarity], fusion.Order]
"""Ranks the visible rows of a snapshot by a dense vector, as `dense.ranking` does."""


def order(
    components: QueryComponents,
    schema: Schema,
    all_rows: Snapshot,
    visible: Snapshot,
    rank_dense: RankDense = dense.ranking,
    depth: int = 0,
) -> fusion.Order:
    """Rank the rows that match a query.

    Args:
        components: The vectors of the query, at least one.
        schema: The schema of the index, which decides the similarity and the fusion order.
        all_rows: All rows of the namespace, for the statistics of inverse document frequency.
        visible: The rows that pass the filter.
        rank_dense: Ranks the rows by a dense vector, for that alone or for a global order by DBSF. By default, in exact
            order.
        depth: The candidates that a batch order takes from each ranked list, at least.

    Returns:
        The matches, best first.
    """
    statistics = all_rows if components.weighted else None
    if components.sparse is None:
        assert components.vector is not None
        return rank_dense(visible, components.vector, schema.similarity)
    if components.vector is None:
        return sparse.ranking(visible, components.sparse, statistics)
    if schema.fusion_order is FusionOrder.BATCH:
        legs = [
            dense.ranking(visible, components.vector, schema.similarity),
            sparse.ranking(visible, components.sparse, statistics),
        ]
        return fusion.BatchOrder(legs, components.fusion, depth)
    matching, matching_scores = sparse.scores(visible, components.sparse, statistics)
    if components.fusion is FusionAlgorithm.DBSF:
        exact = dense.ExactScores(components.vector, schema.similarity)
        matches = SparseMatches(visible, exact, matching, matching_scores)
        return ThresholdOrder(rank_dense(visible, components.vector, schema.similarity), matches)
    return rank_fusion(visible, components.vector, schema.similarity, matching, matching_scores)


def digest(namespace: str, query: Query) -> bytes:
    """Return a digest, 16 bytes, that is equal for requests for the same search and the same fields of its records.

    Args:
        namespace: The namespace to search.
        query: The query, from which fields that only a resumable start has are left out.
    """
    values = [getattr(query, name) for name in _DIGESTED]
    arrays: list[NDArray[Any]] = [] if query.vector is None else [query.vector]
    if query.sparse_vector is not None:
        arrays += [np.array(query.sparse_vector.indices, np.int32), query.sparse_vector.values]
    shapes = [(array.dtype.str, len(array)) for array in arrays]
    hashed = blake2b(repr([namespace, values, shapes]).encode(), digest_size=16)
    for array in arrays:
        hashed.update(array.tobytes())
    return hashed.digest()
