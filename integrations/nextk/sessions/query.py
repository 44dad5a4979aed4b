"""What a retriever asks an index: text or vectors, in a mode, through a filter. Framework-free and plain data."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from nextk.errors import ClientError
from nextk.types import FusionAlgorithm, QueryMode, SparseVector, WeightingStrategy


class RetrievalMode(StrEnum):
    """Which components a search uses."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """Take the words in any letter case."""
        return next((mode for mode in cls if isinstance(value, str) and mode.value == value.lower()), None)

    @property
    def dense(self) -> bool:
        """Whether dense vectors are searched."""
        return self is not RetrievalMode.SPARSE

    @property
    def sparse(self) -> bool:
        """Whether sparse vectors are searched."""
        return self is not RetrievalMode.DENSE


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One search, whatever its size.

    Attributes:
        data: The text, for an index that embeds it; or `None` and at least one of the vectors. A retriever keeps its
            settings as a question without either, and fills it in.
        vector: Dense, float (dimension,).
        sparse_vector: Dimensions and values.
        mode: Which components to use; `None` leaves it to what is given.
        filter: On metadata; `""` for none.
        namespace: Where to search.
        fusion: How a hybrid search joins its two lists; `None` for the index's default.
        weighting: How sparse values are weighted; `None` for not at all.
    """

    data: str | None = None
    vector: list[float] | None = None
    sparse_vector: SparseVector | None = None
    mode: RetrievalMode | None = None
    filter: str = ""
    namespace: str = ""
    fusion: FusionAlgorithm | None = None
    weighting: WeightingStrategy | None = None

    @property
    def complete(self) -> bool:
        """Whether there is everything that its mode asks for."""
        if self.data is not None:
            return True
        if self.mode is None:
            return self.vector is not None or self.sparse_vector is not None
        dense, sparse = self.vector is not None, self.sparse_vector is not None
        return (dense or not self.mode.dense) and (sparse or not self.mode.sparse)

    @property
    def fused(self) -> bool | None:
        """Whether its scores are made of ranks; `None` where the index decides which components it searches."""
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
        """The keywords of `Index.texts` and `Index.resumable_query` that ask this question, for whole rows."""
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
            "include_metadata": True,
            "include_data": True,
        }

    def __post_init__(self) -> None:
        if not isinstance(self.filter, str):
            message = (
                f"filter={self.filter!r} is not a string in the index's language, as \"lang = 'de'\": "
                "LlamaIndex's MetadataFilters go into filters="
            )
            raise ClientError(message)

    def within(self, *, filter: str | None = None, namespace: str | None = None) -> "SearchQuery":
        """The same question through another filter, or in another namespace."""
        return replace(
            self,
            filter=self.filter if filter is None else filter,
            namespace=self.namespace if namespace is None else namespace,
        )


def resolve_mode(
    requested: RetrievalMode | None, *, dense: bool, sparse: bool, dense_name: str, sparse_name: str
) -> RetrievalMode | None:
    """The mode of a retriever that embeds by itself, from the models it was given.

    Args:
        requested: The mode asked for; `None` takes every component there is.
        dense: Whether there is a dense model.
        sparse: Whether there is a sparse model.
        dense_name: The argument that brings the dense one.
        sparse_name: The argument that brings the sparse one.

    Returns:
        The mode, or `None` where there is no model at all and the index has to embed.

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


def require_text(text: str) -> None:
    """Refuse a question without words, to which any answer would be arbitrary.

    Raises:
        ClientError: There is nothing but blanks.
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
