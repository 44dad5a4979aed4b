"""From the results of `nextk.dispatch` to the public types, for an engine in this process.

Scores and sparse values are the floats that a client gets over HTTP, digit by digit: the shortest decimals that name
their float32. Dense vectors equal those over HTTP as float32, bit by bit, but are not shortened: 384,000 numbers of a
large page would cost as much as the search itself.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from nextk.engine.values import Match, SparseArrays
from nextk.types import FetchResult, QueryResult, SparseVector


def public_result(result: Any) -> Any:
    """Return a result in which each record is a `QueryResult` or a `FetchResult`, ready for `Operation.parse`.

    All objects in it are new, so a caller that changes them changes nothing else.

    Args:
        result: What `nextk.dispatch.dispatch` returned. The records of a list are all matches of a query, with their
            scores, or all stored records, without; `None` stands for a record that does not exist.
    """
    if isinstance(result, dict):
        return {key: public_result(value) for key, value in result.items()}
    if isinstance(result, Match):
        return _fetch_results([result])[0]
    if not isinstance(result, list):
        return result
    first = next((part for part in result if part is not None), None)
    if isinstance(first, list):
        return [public_result(part) for part in result]
    if isinstance(first, Match):
        return _fetch_results(result) if first.score is None else _query_results(result)
    return result


def _query_results(matches: Sequence[Match]) -> list[QueryResult | dict[str, Any]]:
    """Convert the matches of a page together, because numbers are shortened faster by the thousand than one by one."""
    scores = _shortest(np.array([match.score for match in matches], np.float32))
    if None in scores:  # not finite: refused by whoever parses the result, in the words in which HTTP's is
        return [{"id": match.id, "score": score} for match, score in zip(matches, scores, strict=True)]
    return [
        QueryResult(
            match.id,
            score,
            None if match.vector is None else match.vector.tolist(),
            None if match.metadata is None else orjson.loads(match.metadata),
            match.data,
            sparse,
        )
        for match, score, sparse in zip(matches, scores, _sparse_vectors(matches), strict=True)
    ]


def _fetch_results(records: Sequence[Match | None]) -> list[FetchResult | None]:
    sparse = iter(_sparse_vectors([record for record in records if record is not None]))
    return [
        None
        if record is None
        else FetchResult(
            record.id,
            None if record.vector is None else record.vector.tolist(),
            None if record.metadata is None else orjson.loads(record.metadata),
            record.data,
            next(sparse),
        )
        for record in records
    ]


def _sparse_vectors(matches: Sequence[Match]) -> list[SparseVector | None]:
    sparse = [match.sparse_vector for match in matches if match.sparse_vector is not None]
    if not sparse:
        return [None] * len(matches)
    values = iter(_shortest(np.concatenate([part.values for part in sparse])))
    return [None if match.sparse_vector is None else _sparse_vector(match.sparse_vector, values) for match in matches]


def _sparse_vector(sparse: SparseArrays, values: Iterator[float]) -> SparseVector:
    return SparseVector(sparse.indices.tolist(), list(islice(values, len(sparse.values))))


def _shortest(array: NDArray[np.float32]) -> list[Any]:
    """Return the elements of an array as the shortest decimals that name them; `None` for NaN and infinity."""
    floats: list[Any] = orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))
    return floats
