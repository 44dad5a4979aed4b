"""The answers that the engine should give, computed slowly from the definitions of the protocol.

This is plain Python over whole lists and imports nothing of the engine. A ranking is a list of `(position, score)`:
the position of a record counts first insertions from 0, and the score is rounded to float32.
"""

import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence

Ranking = list[tuple[int, float]]
"""Best first: score descending, then insertion order."""

Entries = Sequence[tuple[int, float]]
"""A sparse vector as pairs of an index and a float32 value; indices may repeat."""

LARGEST = 3.4028234663852886e38
"""The largest float32, because a reply cannot express infinity."""

_WINDOW = 1_000


def float32(value: float) -> float:
    """Round a number to the nearest float32, or to the largest one if it lies beyond."""
    bounded = max(-LARGEST, min(LARGEST, value))
    return float(struct.unpack("f", struct.pack("f", bounded))[0])


def ranked(scores: Mapping[int, float]) -> Ranking:
    """Round scores to float32 and sort."""
    rounded = {position: float32(score) for position, score in scores.items()}
    return sorted(rounded.items(), key=lambda item: (-item[1], item[0]))


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def cosine(query: Sequence[float], row: Sequence[float]) -> float:
    """Cosine similarity (protocol §5.1); 0.5 if one of the vectors is zero."""
    norms = _dot(query, query) * _dot(row, row)
    cos = _dot(query, row) / math.sqrt(norms) if norms else 0.0
    return (1 + max(-1.0, min(1.0, cos))) / 2


def euclidean(query: Sequence[float], row: Sequence[float]) -> float:
    """Protocol §5.1."""
    return 1 / (1 + math.fsum((a - b) ** 2 for a, b in zip(query, row, strict=True)))


def dot_product(query: Sequence[float], row: Sequence[float]) -> float:
    """Protocol §5.1."""
    return (1 + _dot(query, row)) / 2


METRICS: Mapping[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "cosine": cosine,
    "euclidean": euclidean,
    "dot_product": dot_product,
}


def dense(metric: str, query: Sequence[float], rows: Mapping[int, Sequence[float]]) -> Ranking:
    """Rank all rows by scores that are computed in float64."""
    return ranked({position: METRICS[metric](query, row) for position, row in rows.items()})


def idf(index: int, rows: Mapping[int, Entries]) -> float:
    """Protocol §5.2: how rare a dimension is among all rows of a namespace."""
    having = sum(any(other == index for other, _ in row) for row in rows.values())
    return math.log(1 + (len(rows) - having + 0.5) / (having + 0.5))


def sparse(
    query: Entries, rows: Mapping[int, Entries], *, weighted: bool, among: Mapping[int, Entries] | None = None
) -> Ranking:
    """Rank the rows that share a dimension with the query; weights, products and sums are float32, term by term.

    A row's repeated dimensions are added up first, as if it had been given the sum (Q21 leaves the order open).

    Args:
        query: The sparse vector of the query.
        rows: The rows to search.
        weighted: Whether the query is weighted by inverse document frequency.
        among: The rows from which the statistics are taken; by default the rows to search.
    """
    scores: dict[int, float] = {}
    for index, value in query:
        weight = float32(value * float32(idf(index, rows if among is None else among))) if weighted else value
        for position, row in rows.items():
            entries = [entry for other, entry in row if other == index]
            if entries:
                total = functools.reduce(lambda left, right: float32(left + right), entries)
                scores[position] = float32(scores.get(position, 0.0) + float32(weight * total))
    return ranked(scores)


def reciprocal_ranks(ranking: Ranking) -> dict[int, float]:
    """Contributions of RRF (protocol §5.3)."""
    return {position: 1 / (60 + rank) for rank, (position, _) in enumerate(ranking)}


def _spread(scores: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(scores) / len(scores)
    if len(scores) == 1:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))


def standard_scores(ranking: Ranking) -> dict[int, float]:
    """Contributions of DBSF for a list of candidates (protocol §5.3)."""
    if not ranking:
        return {}
    mean, spread = _spread([score for _, score in ranking])
    if not spread:
        return dict.fromkeys((position for position, _ in ranking), 0.5)
    return {position: (score - (mean - 3 * spread)) / (6 * spread) for position, score in ranking}


def frozen_standard_scores(ranking: Ranking) -> dict[int, float]:
    """Contributions of DBSF for a full list: statistics of its best 1,000 rows, and no contribution is negative."""
    if not ranking:
        return {}
    mean, spread = _spread([score for _, score in ranking[:_WINDOW]])
    if not spread:
        return {position: 0.5 if score >= mean else 0.0 for position, score in ranking}
    return {position: max(0.0, (score - (mean - 3 * spread)) / (6 * spread)) for position, score in ranking}


def fused(shares: Sequence[Mapping[int, float]]) -> Ranking:
    """Add up the contributions of all legs to each record."""
    positions = dict.fromkeys(position for leg in shares for position in leg)
    return ranked({position: math.fsum(leg.get(position, 0.0) for leg in shares) for position in positions})


def global_order(legs: Sequence[Ranking], algorithm: str) -> Ranking:
    """Fuse the full lists into one order."""
    mapping = reciprocal_ranks if algorithm == "RRF" else frozen_standard_scores
    return fused([mapping(leg) for leg in legs])


def batch_pages(legs: Sequence[Ranking], algorithm: str, sizes: Sequence[int]) -> list[Ranking]:
    """Protocol §4.6: every page fuses the best k rows that are left in each leg, and returns k of them."""
    mapping = reciprocal_ranks if algorithm == "RRF" else standard_scores
    returned: set[int] = set()
    pages = []
    for size in sizes:
        left = [[row for row in leg if row[0] not in returned] for leg in legs]
        page = fused([mapping(leg[:size]) for leg in left])[:size]
        returned |= {position for position, _ in page}
        pages.append(page)
    return pages
