"""Points of Qdrant: their ids, the rows that are made of them, and the requests that find them. Private, no I/O."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nextk.arguments import shown
from nextk.errors import ClientError
from nextk.payloads import plain_list
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.stores.rows import StoreRow
from nextk.types import FusionAlgorithm

if TYPE_CHECKING:
    from qdrant_client import models

_WHOLE_NUMBER = re.compile(r"[0-9]+")
_LEAST_EF = 128
"""The `hnsw_ef` of a first page: with fewer, rows are missed that are among the best."""


def point_id(row_id: str) -> int | str:
    """Return the id of a point by the id of its row: points have whole numbers or UUIDs, and rows their texts."""
    return int(row_id) if _WHOLE_NUMBER.fullmatch(row_id) else row_id


def ef_at(count: int, excluded: int) -> int:
    """Return the `hnsw_ef` of a request: the more points are excluded, the farther the graph has to be searched.

    Args:
        count: The number of rows that are asked for.
        excluded: The number of points that are excluded.
    """
    return max(_LEAST_EF, count + excluded)


def row_of(point: Any, text_key: str, metadata_key: str | None, *, descending: bool) -> StoreRow:
    """Return the row of a scored point.

    Args:
        point: The point, with its payload.
        text_key: The key of the payload that holds the text.
        metadata_key: The key of the payload that holds the metadata; `None` if it is all of the payload but the text.
        descending: Whether a higher score is nearer. Distances are made negative, so that it is.
    """
    payload = point.payload or {}
    if metadata_key is None:
        metadata = {key: value for key, value in payload.items() if key != text_key}
    else:
        found = payload.get(metadata_key)
        metadata = dict(found) if isinstance(found, Mapping) else {}
    text = payload.get(text_key)
    return StoreRow(
        str(point.id),
        point.score if descending else -point.score,
        metadata=metadata,
        data=text if isinstance(text, str) else None,
    )


def request_of(
    query: SearchQuery,
    count: int,
    excluded: Sequence[str],
    *,
    using: str | None,
    filter_of: Callable[[Any], Any],
    search_params: "models.SearchParams | None",
) -> dict[str, Any]:
    """Return the arguments of `query_points` for a search of one vector.

    Args:
        query: The query, with a dense or a sparse vector.
        count: The number of points.
        excluded: The ids of the rows that are left out.
        using: The name of the vector in the collection; `None` for the one without a name.
        filter_of: A function that makes a filter of Qdrant of the filter of the query.
        search_params: How the graph of dense vectors is searched; `None` for no graph.
    """
    from qdrant_client import models

    sparse = query.sparse_vector
    vector: Any = query.vector
    if sparse is not None:
        vector = models.SparseVector(
            indices=plain_list(sparse.indices, "indices"), values=plain_list(sparse.values, "values")
        )
    return {
        "query": vector,
        "using": using,
        "query_filter": _filter_of(query.store_filter, excluded, filter_of),
        "search_params": search_params,
        "limit": count,
        "with_payload": True,
    }


def exact_request(request: dict[str, Any], found: int) -> dict[str, Any] | None:
    """Return the request that makes sure of the end; `None` if it is none that may have missed points.

    The graph may not reach the points that are left when many are excluded, so a short answer is no sign of the end.

    Args:
        request: The request that was made.
        found: The number of points that it has found.
    """
    if request["search_params"] is None or found >= request["limit"]:
        return None
    from qdrant_client import models

    return {**request, "search_params": models.SearchParams(exact=True)}


def _filter_of(given: Any, excluded: Sequence[str], filter_of: Callable[[Any], Any]) -> "models.Filter | None":
    from qdrant_client import models

    must: list[Any] = [] if given is None else [filter_of(given)]
    must_not: list[Any] = [models.HasIdCondition(has_id=[point_id(id_) for id_ in excluded])] if excluded else []
    return models.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def as_filter(given: Any) -> "models.Filter":
    """Return a filter of Qdrant, given as it is or as the dict that it is written as.

    Raises:
        ClientError: It is neither.
    """
    from pydantic import ValidationError
    from qdrant_client import models

    if isinstance(given, models.Filter):
        return given
    try:
        return models.Filter.model_validate(given)
    except ValidationError as error:
        message = (
            f"filter={shown(given)} is no qdrant_client.models.Filter, nor a dict of one, such as "
            '{"must": [{"key": "lang", "match": {"value": "de"}}]}'
        )
        raise ClientError(message) from error


def legs_of(query: SearchQuery, *, dense: bool, sparse: bool) -> list[SearchQuery]:
    """Return the searches of one vector that a query is made of, the dense one first.

    Args:
        query: The query.
        dense: Whether the source has a dense vector.
        sparse: Whether the source has a sparse vector.

    Raises:
        ClientError: The query lacks a vector that its mode needs, or the source does; or it asks for another fusion.
    """
    mode = query.mode or _mode_of(query)
    if mode is None:
        message = "Qdrant is searched by vectors: give the retriever embedding=, sparse_embedding=, or both"
        raise ClientError(message)
    if query.fusion not in (None, FusionAlgorithm.RRF):
        message = (
            f"fusion={query.fusion.value!r} is for an index: both searches of a store are fused by their ranks, rrf"
        )
        raise ClientError(message)
    parts = (("dense", mode.dense, query.vector, dense), ("sparse", mode.sparse, query.sparse_vector, sparse))
    for name, needed, vector, there in parts:
        if needed and vector is None:
            message = (
                f"retrieval_mode={mode.value!r} needs a {name} vector, and the query has none: give a model for it"
            )
            raise ClientError(message)
        if needed and not there:
            message = f"retrieval_mode={mode.value!r} needs {name}=, the name of that vector in the collection"
            raise ClientError(message)
    legs = []
    if mode.dense:
        legs.append(replace(query, mode=RetrievalMode.DENSE, sparse_vector=None))
    if mode.sparse:
        legs.append(replace(query, mode=RetrievalMode.SPARSE, vector=None))
    return legs


def _mode_of(query: SearchQuery) -> RetrievalMode | None:
    given = (query.vector is not None, query.sparse_vector is not None)
    modes = {
        (True, True): RetrievalMode.HYBRID,
        (True, False): RetrievalMode.DENSE,
        (False, True): RetrievalMode.SPARSE,
    }
    return modes.get(given)
