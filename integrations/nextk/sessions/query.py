"""The query of a search: text or vectors, a mode and a filter, as plain data. Private.

`SearchQuery`, `RetrievalMode` and `resolve_mode` are public, by way of `nextk.sessions`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from nextk.arguments import require_kind, written
from nextk.errors import ClientError, RefusedError
from nextk.filter_text import quoted
from nextk.plain import INT64, is_utf8
from nextk.types import FusionAlgorithm, QueryMode, SparseVector, WeightingStrategy


class RetrievalMode(StrEnum):
    """The components of an index that a search uses: dense vectors, sparse vectors, or both."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """Accept the values in any letter case."""
        return next((mode for mode in cls if isinstance(value, str) and mode.value == value.lower()), None)

    @property
    def dense(self) -> bool:
        """Whether dense vectors are searched."""
        return self is not RetrievalMode.SPARSE

    @property
    def sparse(self) -> bool:
        """Whether sparse vectors are searched."""
        return self is not RetrievalMode.DENSE


_KINDS: dict[str, type] = {
    "sparse_vector": SparseVector,
    "mode": RetrievalMode,
    "fusion": FusionAlgorithm,
    "weighting": WeightingStrategy,
}


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """The query of a search, without the number of results.

    Without text and vectors it is a template: a retriever keeps its settings as one, and fills it in for each query.

    Attributes:
        data: The text of the query, for an index that embeds it; `None` for a query by vectors.
        vector: The dense vector, float (dimension,).
        sparse_vector: The sparse vector: dimensions and values.
        mode: The components to search; `None` leaves it to the vectors that are given, or to the index.
        filter: A filter on metadata in the language of an `Index`; `""` for none.
        namespace: The namespace to search; `""` for the default one.
        fusion: The way in which a hybrid search fuses its two rankings; `None` for the default of the index.
        weighting: The weighting of sparse values; `None` for no weighting.
        weighting_of_index: Whether `weighting` is left to the index. It is then `None`, until the index is asked or a
            cursor tells it.
        store_filter: A filter as another source than an `Index` takes it, for example a dict or a function; `None` for
            none.
        include_vectors: Whether the matches come with their vectors.
        exact: Whether the matches come in exact order, although the index may search large namespaces approximately.

    Raises:
        ClientError: `filter` or `namespace` is not a string, or another attribute is not of its type.
    """

    data: str | None = None
    vector: list[float] | None = None
    sparse_vector: SparseVector | None = None
    mode: RetrievalMode | None = None
    filter: str = ""
    namespace: str = ""
    fusion: FusionAlgorithm | None = None
    weighting: WeightingStrategy | None = None
    weighting_of_index: bool = False
    store_filter: Any = None
    include_vectors: bool = False
    exact: bool = False

    @property
    def awaits_weighting(self) -> bool:
        """Whether the index has to be asked for its weighting, because the query may search sparse vectors."""
        sparse = self.mode is None or self.mode.sparse if self.data is not None else self._sparse_vector is not None
        return self.weighting_of_index and sparse

    def with_weighting(self, weighting: WeightingStrategy | None) -> "SearchQuery":
        """Return this query with a weighting that is no longer left to the index.

        Args:
            weighting: The weighting of sparse values; `None` for no weighting.
        """
        return replace(self, weighting=weighting, weighting_of_index=False)

    @property
    def complete(self) -> bool:
        """Whether the text, or every vector that the mode needs, is there, and no weighting has to be asked for."""
        if self.awaits_weighting:
            return False
        if self.data is not None:
            return True
        if self.mode is None:
            return self.vector is not None or self.sparse_vector is not None
        dense, sparse = self.vector is not None, self.sparse_vector is not None
        return (dense or not self.mode.dense) and (sparse or not self.mode.sparse)

    @property
    def fused(self) -> bool | None:
        """Whether the scores are fused ranks; `None` if the index decides which components it searches."""
        if self.data is not None:
            return None if self.mode is None else self.mode is RetrievalMode.HYBRID
        return None not in (self._vector, self._sparse_vector)

    @property
    def _vector(self) -> list[float] | None:
        return self.vector if self.mode is None or self.mode.dense else None

    @property
    def _sparse_vector(self) -> SparseVector | None:
        return self.sparse_vector if self.mode is None or self.mode.sparse else None

    def parameters(self) -> dict[str, Any]:
        """Return this query as keyword arguments of `Index.query` and `Index.resumable_query`.

        They request metadata and data with every match.
        """
        return {
            "data": self.data,
            "vector": self._vector,
            "sparse_vector": self._sparse_vector,
            # Vectors say by themselves which components are searched.
            "query_mode": QueryMode(self.mode.value.upper()) if self.data is not None and self.mode else None,
            "filter": self.filter,
            "namespace": self.namespace,
            "fusion_algorithm": self.fusion,
            "weighting_strategy": self.weighting,
            "include_vectors": self.include_vectors,
            "include_metadata": True,
            "include_data": True,
            "exact": self.exact,
        }

    def __post_init__(self) -> None:
        require_filter(self.filter)
        require_kind(self.namespace, str, "namespace")
        require_kind(self.weighting_of_index, bool, "weighting_of_index")
        require_kind(self.exact, bool, "exact")
        for name, kind in _KINDS.items():
            if getattr(self, name) is not None:
                require_kind(getattr(self, name), kind, name)

    def within(self, *, filter: str | None = None, namespace: str | None = None) -> "SearchQuery":
        """Return this query through another filter, or in another namespace.

        Args:
            filter: The filter; `None` keeps the present one.
            namespace: The namespace; `None` keeps the present one.
        """
        return replace(
            self,
            filter=self.filter if filter is None else filter,
            namespace=self.namespace if namespace is None else namespace,
        )


def resolve_mode(
    requested: RetrievalMode | None, *, dense: bool, sparse: bool, dense_name: str, sparse_name: str
) -> RetrievalMode | None:
    """Return the mode of a retriever, given the models with which it embeds queries itself.

    Args:
        requested: The mode that the caller requested; `None` for every component that there is a model for.
        dense: Whether there is a dense model.
        sparse: Whether there is a sparse model.
        dense_name: The name of the argument that takes the dense model, for error messages.
        sparse_name: The name of the argument that takes the sparse model, for error messages.

    Returns:
        The mode; the requested one, which may be `None`, if there is no model at all and the index embeds.

    Raises:
        ClientError: The mode needs a model that is missing; the message names the argument.
    """
    if not dense and not sparse:
        return requested
    if requested is None:
        if dense and sparse:
            return RetrievalMode.HYBRID
        return RetrievalMode.DENSE if dense else RetrievalMode.SPARSE
    for missing, name in ((requested.dense and not dense, dense_name), (requested.sparse and not sparse, sparse_name)):
        if missing:
            message = f"retrieval_mode={requested.value!r} needs {name}="
            raise ClientError(message)
    return requested


def require_filter(filter: object) -> None:
    """Refuse a filter that is not written in the index's language.

    Raises:
        ClientError: The filter is not a string. For a dict the message says how it is written.
    """
    if isinstance(filter, str):
        return
    meant = _as_filter(filter) if isinstance(filter, Mapping) else None
    example = "as \"lang = 'de' AND year > 2020\"" if meant is None else f"here {meant!r}"
    message = (
        f"filter={written(filter)} is not a string in the index's language, {example}: "
        "LlamaIndex's MetadataFilters go into filters="
    )
    raise ClientError(message)


_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_OPERATORS = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def _as_filter(filter: Mapping[Any, Any]) -> str | None:
    """Return a dict of conditions as a filter; `None` if it is empty, or holds more than plain comparisons."""
    tests: list[str | None] = []
    for key, condition in filter.items():
        conditions = condition if isinstance(condition, Mapping) else {"$eq": condition}
        tests += [_comparison(key, operator, value) for operator, value in conditions.items()]
    known = [test for test in tests if test is not None]
    return " AND ".join(known) if tests and len(known) == len(tests) else None


def _comparison(key: Any, operator: Any, value: Any) -> str | None:
    literal = _literal(value)
    if operator not in _OPERATORS or literal is None or not isinstance(key, str) or not _PATH.fullmatch(key):
        return None
    return f"{key} {_OPERATORS[operator]} {literal}"


def _literal(value: Any) -> str | None:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return repr(value) if value in INT64 else None
    return repr(value) if isinstance(value, float) and math.isfinite(value) else None


def require_text(text: str) -> None:
    """Refuse a query text without words, to which any answer would be arbitrary, and one that no model can read.

    Raises:
        ClientError: The text is not a string, is blank, or has lone surrogates.
    """
    if not isinstance(text, str):
        message = (
            f"the question is a {type(text).__name__}, and it has to be a string: "
            'in a chain, put itemgetter("question") before the retriever'
        )
        raise ClientError(message)
    if not text.strip():
        message = "the question is empty: give some text to search for"
        raise ClientError(message)
    if not is_utf8(text):
        message = f"the question is {written(text)}, which has lone surrogates, so UTF-8 cannot express it"
        raise ClientError(message)


@contextmanager
def explaining_models(*, by_vectors: bool) -> Iterator[None]:
    """Say where a model belongs, if the index needs vectors that the models of the retriever do not make.

    Args:
        by_vectors: Whether the request within the block holds vectors of the retriever's models. If the index embeds,
            nothing is explained.

    Raises:
        RefusedError: The index refused the vectors; the message also says which models to give to whom.
    """
    try:
        yield
    except RefusedError as error:
        if not by_vectors or not _MODEL_FAULT.search(str(error)):
            raise
        message = (
            f"{error}. The models that were given make other vectors than the index holds: give those that fit, or, to "
            "have the index embed, give the models to Index.embedded(path, embedding=..., sparse_embedding=...) and "
            "none beside the index"
        )
        raise RefusedError(message, error.status) from error


_MODEL_FAULT = re.compile("This index (requires|does not support) (dense|sparse) vectors|Invalid vector dimension")
