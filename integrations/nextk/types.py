"""The nouns: what goes into an index and what comes out of it.

Names, fields and their order follow the documented Upstash Vector SDK, so that code written for it runs with only its
import changed. Dense vectors, sparse values and scores are IEEE float32 on the other side of the wire; a float that
comes back is the shortest decimal that names its float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeAlias, TypedDict, runtime_checkable

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

__all__ = [
    "DEFAULT_NAMESPACE",
    "Data",
    "DeleteResult",
    "DenseIndexInfo",
    "FetchResult",
    "FusionAlgorithm",
    "InfoResult",
    "MetadataUpdateMode",
    "NamespaceInfo",
    "QueryMode",
    "QueryRequest",
    "QueryResult",
    "RangeResult",
    "SparseIndexInfo",
    "SparseVector",
    "SupportsToList",
    "TupleAsSparseVectorT",
    "Vector",
    "WeightingStrategy",
]

DEFAULT_NAMESPACE = ""
"""The namespace that every index has; all others come into being with their first upsert."""


@runtime_checkable
class SupportsToList(Protocol):
    """Whatever turns itself into a list, as a numpy array or a pandas series does."""

    def tolist(self) -> list[Any]:
        """Return the elements as a plain list."""
        ...


DenseLike: TypeAlias = list[float] | SupportsToList
IndicesLike: TypeAlias = list[int] | SupportsToList


class MetadataUpdateMode(StrEnum):
    """What `update` does to stored metadata: replace it, or merge into it (RFC 7396, `null` deletes a key)."""

    OVERWRITE = "OVERWRITE"
    PATCH = "PATCH"


class WeightingStrategy(StrEnum):
    """How the query's sparse values are weighted: `IDF` makes rare dimensions count more."""

    IDF = "IDF"


class FusionAlgorithm(StrEnum):
    """How a hybrid query joins its two ranked lists: by reciprocal rank, or by the distribution of their scores."""

    RRF = "RRF"
    DBSF = "DBSF"


class QueryMode(StrEnum):
    """Which part of a hybrid index answers a text query."""

    HYBRID = "HYBRID"
    DENSE = "DENSE"
    SPARSE = "SPARSE"


# A reply spells its keys in camelCase; pydantic reads these dataclasses from it by this rule.
_WIRE = ConfigDict(alias_generator=to_camel, extra="ignore")


@dataclass
class SparseVector:
    """A vector of few non-zero values: `values[i]` stands in dimension `indices[i]` (a signed int32)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    indices: IndicesLike
    values: DenseLike


TupleAsSparseVectorT: TypeAlias = tuple[IndicesLike, DenseLike]
"""A sparse vector as a pair: its indices and its values."""

SparseLike: TypeAlias = SparseVector | TupleAsSparseVectorT


@dataclass
class Vector:
    """A record to upsert. Dense and sparse parts as the index type asks; with neither, `data` is embedded."""

    id: int | str
    vector: DenseLike | None = None
    metadata: dict[str, Any] | None = None
    data: str | None = None
    sparse_vector: SparseLike | None = None


@dataclass
class Data:
    """A text to upsert, embedded by the index's own model."""

    id: int | str
    data: str
    metadata: dict[str, Any] | None = None


@dataclass
class FetchResult:
    """A stored record; fields that were not asked for or do not exist are `None`."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    id: str
    vector: list[float] | None = None
    metadata: dict[str, Any] | None = None
    data: str | None = None
    sparse_vector: SparseVector | None = None


@dataclass
class QueryResult:
    """A match: a record and its score. Higher is nearer; dense scores lie in 0..1, sparse and fused ones need not."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    id: str
    score: float
    vector: list[float] | None = None
    metadata: dict[str, Any] | None = None
    data: str | None = None
    sparse_vector: SparseVector | None = None


@dataclass
class DeleteResult:
    """How many records a delete removed."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    deleted: int


@dataclass
class RangeResult:
    """A stretch of records in insertion order; `next_cursor` is `""` once nothing is left."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    next_cursor: str
    vectors: list[FetchResult]


@dataclass
class NamespaceInfo:
    """How many records a namespace holds, and how many of them are not yet searchable."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    vector_count: int
    pending_vector_count: int


@dataclass
class DenseIndexInfo:
    """The dense half of an index; `embedding_model` is `""` where the index embeds no text."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    dimension: int
    similarity_function: str
    embedding_model: str


@dataclass
class SparseIndexInfo:
    """The sparse half of an index; `embedding_model` is `""` where the index embeds no text."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    embedding_model: str


@dataclass
class InfoResult:
    """What an index holds. `dense_index` and `sparse_index` are `None` where the index has no such half."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    vector_count: int
    pending_vector_count: int
    index_size: int
    dimension: int
    similarity_function: str
    dense_index: DenseIndexInfo | None = None
    sparse_index: SparseIndexInfo | None = None
    namespaces: Mapping[str, NamespaceInfo] | None = None


class QueryRequest(TypedDict, total=False):
    """One query of `query_many`; the keys are the parameters of `query`."""

    vector: DenseLike
    top_k: int
    include_vectors: bool
    include_metadata: bool
    filter: str
    data: str
    include_data: bool
    sparse_vector: SparseLike
    weighting_strategy: WeightingStrategy
    fusion_algorithm: FusionAlgorithm
    query_mode: QueryMode
