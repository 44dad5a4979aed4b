"""From a question and a moment of a namespace to an order of its rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextk.engine import dense, fusion, sparse
from nextk.engine.columns import Snapshot
from nextk.engine.ranking import LazyRanking, ranked
from nextk.engine.schema import FusionOrder, Schema
from nextk.engine.values import SparseArrays
from nextk.types import FusionAlgorithm

ONE_SHOT_DEPTH = 100
"""How deep a one-shot hybrid query of a batch-ordered index looks into each component, at least."""


@dataclass(frozen=True, slots=True)
class QueryComponents:
    """What is searched for: one component, or both.

    Attributes:
        vector: float32 (dimension,), or `None`.
        sparse: Dimensions and values, or `None`.
        weighted: Whether sparse values are weighted by inverse document frequency.
        fusion: How two components are joined.
    """

    vector: NDArray[np.float32] | None
    sparse: SparseArrays | None
    weighted: bool
    fusion: FusionAlgorithm


def order(components: QueryComponents, schema: Schema, whole: Snapshot, seen: Snapshot, depth: int = 0) -> fusion.Order:
    """Rank what matches.

    Args:
        components: What is searched for; at least one component.
        schema: The index's metric and fusion order.
        whole: The namespace, for its statistics.
        seen: The part of it that the filter lets through.
        depth: Candidates per component that a batch order looks at, at least.
    """
    if components.sparse is None:
        assert components.vector is not None
        return dense.ranking(seen, components.vector, schema.similarity)
    matching, scores = sparse.scores(seen, components.sparse, whole if components.weighted else None)
    rows = seen.rows[matching]
    if components.vector is None:
        return LazyRanking(rows, scores)
    if schema.fusion_order is FusionOrder.BATCH:
        legs = [dense.ranking(seen, components.vector, schema.similarity), LazyRanking(rows, scores)]
        return fusion.BatchOrder(legs, components.fusion, depth)
    every = ranked(seen.rows[seen.slots], dense.scores(seen, components.vector, schema.similarity))
    return fusion.global_order([every, ranked(rows, scores)], components.fusion)
