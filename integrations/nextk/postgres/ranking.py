"""Rank the records of a namespace by full lists, which are read once and need no connection from then on.

Every list is read by one statement, or within one transaction that sees one state of the tables, so it is a snapshot.
It takes 12 bytes a record in memory. Its order is exact, up to the rounding of the distances, which pgvector sums up in
float32.
"""

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from nextk.engine import fusion
from nextk.engine.ranking import LazyRanking
from nextk.engine.schema import FusionOrder, Schema, Similarity
from nextk.engine.search import QueryComponents
from nextk.postgres import sparse
from nextk.postgres.database import DatabaseConnection
from nextk.postgres.fragments import Fragment
from nextk.postgres.layout import Tables
from nextk.types import FusionAlgorithm

__all__ = ["rank_by_lists", "scores_of_distances"]

OPERATORS = {Similarity.COSINE: "<=>", Similarity.EUCLIDEAN: "<->", Similarity.DOT_PRODUCT: "<#>"}
"""The operators of pgvector by the similarity."""

_HEADER, _TRAILER = 19, 2  # bytes of PostgreSQL's binary format before the first row, and behind the last one
_ROW = np.dtype([("fields", ">i2"), ("row_size", ">i4"), ("row", ">i8"), ("size", ">i4"), ("distance", ">f8")])
_LARGEST = float(np.finfo(np.float32).max)


def rank_by_lists(
    connection: DatabaseConnection,
    tables: Tables,
    key: int,
    components: QueryComponents,
    schema: Schema,
    passing: Fragment | None,
    depth: int = 0,
) -> fusion.Order:
    """Rank the records of a namespace that pass a condition.

    Args:
        connection: A connection in a transaction that sees one state of the tables.
        tables: The names of the tables.
        key: The key of the namespace.
        components: The vectors of the query, at least one.
        schema: The schema of the index.
        passing: The condition; `None` for all records.
        depth: The candidates that a batch order takes from each ranked list, at least.
    """
    if components.sparse is None:
        assert components.vector is not None, "a query has a vector"
        return LazyRanking(*_dense(connection, tables, key, components.vector, schema.similarity, passing))
    matching, matching_scores = sparse.scores(
        connection, tables.schema, tables.number, key, components.sparse, weighted=components.weighted, passing=passing
    )
    if components.vector is None:
        return LazyRanking(matching, matching_scores)
    rows, scores = _dense(connection, tables, key, components.vector, schema.similarity, passing)
    if schema.fusion_order is FusionOrder.BATCH:
        legs = [LazyRanking(rows, scores), LazyRanking(matching, matching_scores)]
        return fusion.BatchOrder(legs, components.fusion, depth)
    order = np.argsort(rows)
    rows, scores = rows[order], scores[order]
    positions = np.searchsorted(rows, matching)
    if components.fusion is FusionAlgorithm.RRF:
        return fusion.global_ranks(rows, scores, positions, matching_scores)
    fused = _scale_of(scores)(scores)
    fused[positions] += _scale_of(matching_scores)(matching_scores)
    return LazyRanking(rows, fused.astype(np.float32))


def scores_of_distances(distances: NDArray[np.float64], similarity: Similarity) -> NDArray[np.float32]:
    """Return the scores, float32 (n,), for the distances that pgvector's operators give.

    A vector of zeros has no cosine, and the products of very large components have no sum in float32: the distance is
    NaN then, and the score 0.5, as if the vectors were at a right angle.
    """
    if similarity is Similarity.COSINE:
        scores = 1 - np.clip(distances, 0, 2) / 2
    elif similarity is Similarity.EUCLIDEAN:
        scores = 1 / (1 + distances**2)
    else:
        scores = np.clip((1 - distances) / 2, -_LARGEST, _LARGEST)
    scores[np.isnan(scores)] = 0.5
    return scores.astype(np.float32)


def _dense(
    connection: DatabaseConnection,
    tables: Tables,
    key: int,
    vector: NDArray[np.float32],
    similarity: Similarity,
    passing: Fragment | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows of all records that pass, in any order, and their scores."""
    condition = passing or Fragment(sql.SQL("TRUE"))
    statement = sql.SQL(
        "COPY (SELECT row, dense {} %s FROM {} AS records WHERE namespace = %s AND {}) TO STDOUT (FORMAT binary)"
    ).format(sql.SQL(OPERATORS[similarity]), tables.records, condition.sql)
    with connection.cursor() as cursor, cursor.copy(statement, (vector, key, *condition.values)) as copy:
        content = b"".join(copy)
    found = np.frombuffer(content[_HEADER : len(content) - _TRAILER], _ROW)
    scores = scores_of_distances(found["distance"].astype(np.float64), similarity)
    return found["row"].astype(np.int64), scores


def _scale_of(scores: NDArray[np.float32]) -> fusion.FrozenScale:
    """Return the scale of a full list by its best scores."""
    return fusion.FrozenScale.of(np.sort(scores)[::-1][: fusion.STATISTICS_WINDOW])
