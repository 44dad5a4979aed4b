"""From what a caller hands over to the fields of a body: every form that the documented SDK takes."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from nextk.arguments import sparse_parts
from nextk.errors import ClientError
from nextk.types import (
    Data,
    DenseLike,
    FusionAlgorithm,
    QueryMode,
    SparseLike,
    SparseVector,
    SupportsToList,
    Vector,
    WeightingStrategy,
)

Upsertable: TypeAlias = Vector | Data | Mapping[str, Any] | tuple[Any, ...]
"""What `upsert` takes. Tuples: `(id, vector[, metadata[, data]])`, `(id, sparse[, metadata[, data]])`,
`(id, vector, sparse[, metadata[, data]])` or `(id, text[, metadata])`."""


class QueryFields(TypedDict, total=False):
    """The parameters that a plain query and a resumable one have in common; `None` is as good as absent."""

    vector: DenseLike | None
    top_k: int
    include_vectors: bool
    include_metadata: bool
    filter: str
    data: str | None
    include_data: bool
    sparse_vector: SparseLike | None
    weighting_strategy: WeightingStrategy | None
    fusion_algorithm: FusionAlgorithm | None
    query_mode: QueryMode | None


def plain_list(value: object, name: str) -> list[Any]:
    """The elements of a list, or of whatever has `tolist()`.

    Raises:
        ClientError: It is neither.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, SupportsToList):
        elements = value.tolist()
        if isinstance(elements, list):
            return elements
    message = f"{name} must be a list or have tolist(), not {type(value).__name__}"
    raise ClientError(message)


def vector_field(vector: DenseLike | None) -> list[float] | None:
    """A dense vector as JSON has it."""
    return None if vector is None else plain_list(vector, "vector")


def sparse_field(sparse: SparseLike | None) -> dict[str, list[Any]] | None:
    """A sparse vector as JSON has it."""
    if sparse is None:
        return None
    # A mapping is not one of the documented SDK's forms.
    parts = None if isinstance(sparse, Mapping) else sparse_parts(sparse)  # type: ignore[redundant-expr]
    if parts is None and isinstance(sparse, tuple):
        message = "a sparse vector given as a tuple has two parts: indices and values"
        raise ClientError(message)
    if parts is None:
        message = f"sparse_vector must be a SparseVector or a pair of lists, not {type(sparse).__name__}"
        raise ClientError(message)
    return {"indices": plain_list(parts[0], "indices"), "values": plain_list(parts[1], "values")}


def query_fields(
    *,
    vector: DenseLike | None = None,
    top_k: int = 10,
    include_vectors: bool = False,
    include_metadata: bool = False,
    filter: str = "",
    data: str | None = None,
    include_data: bool = False,
    sparse_vector: SparseLike | None = None,
    weighting_strategy: WeightingStrategy | None = None,
    fusion_algorithm: FusionAlgorithm | None = None,
    query_mode: QueryMode | None = None,
) -> tuple[bool, dict[str, Any]]:
    """The body of a query, and whether the index embeds its text.

    Raises:
        ClientError: Text and vectors are mixed, nothing is searched for, or an enum has no such member.
    """
    by_vectors = vector is not None or sparse_vector is not None
    if by_vectors == (data is not None):
        message = (
            "a query is by data (text that the index embeds) or by vector and/or sparse_vector: give one of the two"
        )
        raise ClientError(message)
    body: dict[str, Any] = {
        "topK": top_k,
        "includeVectors": include_vectors,
        "includeMetadata": include_metadata,
        "includeData": include_data,
        "filter": filter,
    }
    optional = {
        "weightingStrategy": choice(WeightingStrategy, weighting_strategy),
        "fusionAlgorithm": choice(FusionAlgorithm, fusion_algorithm),
        "queryMode": choice(QueryMode, query_mode),
        "data": data,
        "vector": vector_field(vector),
        "sparseVector": sparse_field(sparse_vector),
    }
    return data is not None, body | {key: value for key, value in optional.items() if value is not None}


def record_fields(records: Sequence[Upsertable]) -> tuple[bool, list[dict[str, Any]]]:
    """The body of an upsert, and whether the index embeds its texts.

    Raises:
        ClientError: There are no records, one is of no known form, or texts and vectors are mixed.
    """
    if isinstance(records, (Vector, Data, Mapping, str)):
        message = f"upsert takes a list of records, not one {type(records).__name__}"
        raise ClientError(message)
    read = [_record(record) for record in records]
    if not read:
        message = "upsert needs at least one record"
        raise ClientError(message)
    embedded = {isinstance(record, Data) for record in read}
    if len(embedded) > 1:
        message = "upsert takes texts to embed or vectors, not both in one call"
        raise ClientError(message)
    return embedded.pop(), [_fields(record) for record in read]


def _fields(record: Vector | Data) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": record.id, "metadata": record.metadata, "data": record.data}
    if isinstance(record, Vector):
        fields |= {"vector": vector_field(record.vector), "sparseVector": sparse_field(record.sparse_vector)}
    return {key: value for key, value in fields.items() if value is not None}


def _record(given: Upsertable) -> Vector | Data:
    if isinstance(given, tuple):
        given = _from_tuple(given)
    elif isinstance(given, Mapping):
        given = _from_mapping(given)
    if isinstance(given, Data):
        return given
    if not isinstance(given, Vector):
        message = f"a record is a Vector, a Data, a dict or a tuple, not {type(given).__name__}"
        raise ClientError(message)
    if given.vector is None and given.sparse_vector is None and given.data is not None:
        return Data(given.id, given.data, given.metadata)
    return given


def _from_mapping(given: Mapping[str, Any]) -> Vector:
    if "id" not in given:
        message = f"a record needs an id; this dict has the keys {sorted(map(str, given))}"
        raise ClientError(message)
    # Other keys are ignored, as the documented SDK does.
    return Vector(**{key: given[key] for key in ("id", "vector", "sparse_vector", "metadata", "data") if key in given})


def _from_tuple(given: tuple[Any, ...]) -> Vector | Data:
    if len(given) < 2:
        message = "a record given as a tuple starts with an id and a vector, a sparse vector or a text"
        raise ClientError(message)
    id_, first, *rest = given
    if isinstance(first, str):
        return Data(id_, first, *_optional(rest, 1))
    if _is_sparse(first):
        metadata, data = _optional(rest, 2)
        return Vector(id_, sparse_vector=first, metadata=metadata, data=data)
    sparse = rest.pop(0) if rest and _is_sparse(rest[0]) else None
    metadata, data = _optional(rest, 2)
    return Vector(id_, first, metadata, data, sparse)


def _optional(rest: Sequence[Any], most: int) -> list[Any]:
    if len(rest) > most:
        message = f"a record given as a tuple has {len(rest) - most} part(s) too many"
        raise ClientError(message)
    return [*rest, *[None] * (most - len(rest))]


def _is_sparse(value: object) -> bool:
    return isinstance(value, (SparseVector, tuple))


def choice(kind: type[StrEnum], value: str | None) -> str | None:
    """The wire's word for an enum member; its plain text is taken, too."""
    if value is None:
        return None
    try:
        return str(kind(value.value if isinstance(value, kind) else str(value).upper()).value)
    except ValueError:
        choices = ", ".join(member.value for member in kind)
        message = f"{value!r} is not one of {choices}"
        raise ClientError(message) from None
