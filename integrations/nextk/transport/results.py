"""From the results of `nextk.dispatch` to the public types, for an engine in this process.

Scores and sparse values are the floats that a client gets over HTTP, digit by digit: the shortest decimals that name
their float32. Dense vectors equal those over HTTP as float32, bit by bit, but are not shortened: 384,000 numbers of a
large page would cost as much as the search itself.
"""

from collections.abc import Iterable, Iterator, Sequence
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
        result: What `nextk.dispatch.dispatch` returned.
    """
    if isinstance(result, dict):
        return {key: public_result(value) for key, value in result.items()}
    if isinstance(result, Match):
        return _records([result])[0]
    if isinstance(result, list) and any(isinstance(part, list) for part in result):
        return [public_result(part) for part in result]
    return _records(result) if isinstance(result, list) else result


def _records(found: list[Any]) -> list[Any]:
    """Convert the matches of a list together, because numbers are shortened faster by the thousand than one by one."""
    matches = [match for match in found if isinstance(match, Match)]
    if not matches:
        return found
    scores, sparse = _scores(matches), _sparse_vectors(matches)
    converted = (_record(*parts) for parts in zip(matches, scores, sparse, strict=True))
    return [next(converted) if isinstance(match, Match) else match for match in found]


def _record(
    match: Match, score: float | None, sparse: SparseVector | None
) -> QueryResult | FetchResult | dict[str, Any]:
    vector = None if match.vector is None else match.vector.tolist()
    metadata = None if match.metadata is None else orjson.loads(match.metadata)
    if match.score is None:
        return FetchResult(match.id, vector, metadata, match.data, sparse)
    if score is None:  # not finite: refused by whoever parses the result, in the words in which HTTP's is
        return {"id": match.id, "score": None}
    return QueryResult(match.id, score, vector, metadata, match.data, sparse)


def _scores(matches: Sequence[Match]) -> Iterable[float | None]:
    if matches[0].score is None:
        return [None] * len(matches)
    return _shortest(np.array([match.score for match in matches], np.float32))


def _sparse_vectors(matches: Sequence[Match]) -> Iterable[SparseVector | None]:
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
