"""The types of what goes into an index and what comes out of it.

Names, fields and their order follow the documented Upstash Vector SDK, so that code written for it runs with only its
import changed. Dense vectors, sparse values and scores are IEEE float32 on the other side of the wire. A score or a
sparse value that comes back is the shortest decimal that names its float32. So is an element of a dense vector over
HTTP; from an index in this process it is the float32 itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Protocol, TypeAlias, TypedDict, cast, runtime_checkable

from pydantic import AllowInfNan, ConfigDict, GetCoreSchemaHandler, Strict
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

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

UNDECIDED = "UNDECIDED"
"""The `index_type` of an index whose type the first write decides."""


@runtime_checkable
class SupportsToList(Protocol):
    """An object that turns itself into a list, as a numpy array or a pandas series does."""

    def tolist(self) -> list[Any]:
        """Return the elements as a plain list."""
        ...


DenseLike: TypeAlias = list[float] | SupportsToList
IndicesLike: TypeAlias = list[int] | SupportsToList


class MetadataUpdateMode(StrEnum):
    """How `update` changes stored metadata: it replaces it, or merges into it (RFC 7396; `null` deletes a key)."""

    OVERWRITE = "OVERWRITE"
    PATCH = "PATCH"


class WeightingStrategy(StrEnum):
    """How the sparse values of a query are weighted: `IDF` makes rare dimensions count more."""

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


@dataclass(frozen=True, slots=True)
class UntilFirstFault:
    """Marks a list of a reply that is read up to its first fault, so that a million faults cost no more than one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the list, with pydantic's `fail_fast`, whose own mark cannot be part of a union."""
        return cast("CoreSchema", {**handler(source), "fail_fast": True})


# A number of a reply is a finite JSON number: `true`, `"0.5"` and NaN are none.
_Number: TypeAlias = Annotated[float, Strict(), AllowInfNan(False)]
_Numbers: TypeAlias = Annotated[list[_Number], UntilFirstFault()]
_Indices: TypeAlias = Annotated[list[Annotated[int, Strict()]], UntilFirstFault()]


@dataclass
class SparseVector:
    """A vector with few non-zero values.

    Attributes:
        indices: The dimensions of the values, signed 32-bit integers in any order.
        values: The values; `values[i]` belongs to dimension `indices[i]`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    indices: _Indices | SupportsToList
    values: _Numbers | SupportsToList


TupleAsSparseVectorT: TypeAlias = tuple[IndicesLike, DenseLike]
"""A sparse vector as a pair: its indices and its values."""

SparseLike: TypeAlias = SparseVector | TupleAsSparseVectorT


@dataclass
class Vector:
    """A record to upsert.

    Attributes:
        id: Its id; a number is stored as text.
        vector: Its dense vector, if the index has dense vectors. Default `None`.
        metadata: Its metadata, as JSON can express it. Default `None`, for none.
        data: Its text. Without a dense and a sparse vector, the index embeds this text. Default `None`, for none.
        sparse_vector: Its sparse vector, if the index has sparse vectors. Default `None`.
    """

    id: int | str
    vector: DenseLike | None = None
    metadata: dict[str, Any] | None = None
    data: str | None = None
    sparse_vector: SparseLike | None = None


@dataclass
class Data:
    """A text to upsert, which the index embeds by its own models.

    Attributes:
        id: The id of the record; a number is stored as text.
        data: The text.
        metadata: The metadata of the record, as JSON can express it. Default `None`, for none.
    """

    id: int | str
    data: str
    metadata: dict[str, Any] | None = None


@dataclass
class FetchResult:
    """A stored record. A field that was not requested or does not exist is `None`.

    Attributes:
        id: Its id.
        vector: Its dense vector.
        metadata: Its metadata.
        data: Its text.
        sparse_vector: Its sparse vector.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    id: str
    vector: _Numbers | None = None
    metadata: dict[str, Any] | None = None
    data: str | None = None
    sparse_vector: SparseVector | None = None


@dataclass
class QueryResult:
    """A match: a record and its score. A field that was not requested or does not exist is `None`.

    Attributes:
        id: The id of the record.
        score: How well the record matches; higher is better. Dense scores lie between 0 and 1, sparse and fused scores
            need not.
        vector: The dense vector of the record.
        metadata: The metadata of the record.
        data: The text of the record.
        sparse_vector: The sparse vector of the record.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    id: str
    score: _Number
    vector: _Numbers | None = None
    metadata: dict[str, Any] | None = None
    data: str | None = None
    sparse_vector: SparseVector | None = None


@dataclass
class DeleteResult:
    """The result of a delete.

    Attributes:
        deleted: How many records were removed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    deleted: int


@dataclass
class RangeResult:
    """A page of records in the order of their insertion.

    Attributes:
        next_cursor: Where the next page begins; `""` if no records are left.
        vectors: The records.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    next_cursor: str
    vectors: Annotated[list[FetchResult], UntilFirstFault()]


@dataclass
class NamespaceInfo:
    """The size of a namespace.

    Attributes:
        vector_count: How many records it holds.
        pending_vector_count: How many of them cannot be found yet.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    vector_count: int
    pending_vector_count: int


@dataclass
class DenseIndexInfo:
    """The dense part of an index.

    Attributes:
        dimension: The length of its vectors; 0 until the first vector decides it.
        similarity_function: How vectors are compared: `COSINE`, `EUCLIDEAN` or `DOT_PRODUCT`.
        embedding_model: The model that embeds text; `""` if the index embeds none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    dimension: int
    similarity_function: str
    embedding_model: str


@dataclass
class SparseIndexInfo:
    """The sparse part of an index.

    Attributes:
        embedding_model: The model that embeds text; `""` if the index embeds none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    embedding_model: str


@dataclass
class InfoResult:
    """The properties and the size of an index.

    Attributes:
        vector_count: How many records all namespaces hold together.
        pending_vector_count: How many of them cannot be found yet.
        index_size: How many bytes the index takes.
        dimension: The length of dense vectors; 0 if there are none, or until the first vector decides it.
        similarity_function: How dense vectors are compared; `""` if there are none.
        dense_index: The dense part; `None` if the index has none.
        sparse_index: The sparse part; `None` if the index has none.
        namespaces: The size of every namespace, by name.
        index_type: `DENSE`, `SPARSE` or `HYBRID`; `UNDECIDED` until the first write decides it; `""` if the server does
            not say.
        weighting: The weighting of sparse queries that retrievers use if they are told none: `IDF`, or `NONE` for no
            weighting; `None` while it is unset, and retrievers use none.
        embedding_identity: The type of the dense model, and the settings that decide its vectors; `""` if there is no
            model, or if it is not known.
        sparse_embedding_identity: The type of the sparse model, and the settings that decide its vectors; `""` if there
            is no model, or if it is not known.
        fusion_order: The way in which hybrid queries are fused across pages: `GLOBAL`, so that their order does not
            depend on the sizes of the pages, or `BATCH`; `""` if the server does not say. A server that says it ranks
            exactly, unless `approximate` is true.
        numbered_pages: Whether the server numbers the pages of resumable queries, so that a page whose reply was lost
            may be requested again.
        approximate: Whether a server that says its fusion order searches dense vectors approximately nevertheless, so
            that a few records come a page late.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    vector_count: int
    pending_vector_count: int
    index_size: int
    dimension: int
    similarity_function: str
    dense_index: DenseIndexInfo | None = None
    sparse_index: SparseIndexInfo | None = None
    namespaces: Mapping[str, NamespaceInfo] | None = None
    index_type: str = ""
    weighting: str | None = None
    embedding_identity: str = ""
    sparse_embedding_identity: str = ""
    fusion_order: str = ""
    numbered_pages: bool = False
    approximate: bool = False


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
    exact: bool
