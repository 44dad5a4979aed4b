"""Turn the arguments of a call into the fields of a request body, in every form that the documented SDK takes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, TypeAlias, TypedDict, cast

from nextk.arguments import choose, iterator_of, nearest, require_kind, sparse_parts, written
from nextk.errors import ClientError
from nextk.plain import record_name
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
"""A record in any form that `upsert` takes. A tuple is `(id, vector[, metadata[, data]])`,
`(id, sparse[, metadata[, data]])`, `(id, vector, sparse[, metadata[, data]])` or `(id, text[, metadata])`."""


class QueryFields(TypedDict, total=False):
    """The parameters that plain and resumable queries have in common; `None` counts as absent."""

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
    exact: bool


def plain_list(value: object, name: str) -> list[Any]:
    """Return the elements of a list, or of an object that has `tolist()`.

    Args:
        value: The list or object.
        name: The name of the argument, for the error.

    Raises:
        ClientError: The value is neither.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, SupportsToList) and callable(value.tolist):
        elements = value.tolist()
        if isinstance(elements, list):
            return elements
    message = f"{name} must be a list or have tolist(), not {type(value).__name__}"
    raise ClientError(message)


def is_float_array(value: object) -> bool:
    """Return whether a value is a one-dimensional numpy array of 32-bit or 64-bit floats, without importing numpy."""
    kind = type(value)
    if kind is list or kind.__module__ != "numpy" or getattr(value, "ndim", None) != 1:
        return False
    dtype = getattr(value, "dtype", None)
    return getattr(dtype, "kind", None) == "f" and getattr(dtype, "itemsize", None) in (4, 8)


def vector_field(vector: DenseLike | None) -> DenseLike | None:
    """Return a dense vector as a body has it: a list, or a one-dimensional numpy array of floats as it is.

    Args:
        vector: The vector; `None` for none, which is returned.

    Raises:
        ClientError: The vector is neither a list nor has `tolist()`.
    """
    return vector if vector is None or is_float_array(vector) else plain_list(vector, "vector")


def sparse_field(sparse: SparseLike | None) -> dict[str, list[Any]] | None:
    """Return a sparse vector as a body has it: an object of two lists, `indices` and `values`.

    Args:
        sparse: The vector, or a pair of its indices and its values; `None` for none, which is returned.

    Raises:
        ClientError: The vector has another form.
    """
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


_RECORD_KEYS = ("id", "vector", "sparse_vector", "metadata", "data")


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
    exact: bool = False,
) -> tuple[bool, dict[str, Any]]:
    """Return whether the index embeds the query's text, and the body of the query.

    The parameters are those of `nextk.Index.query`.

    Raises:
        ClientError: Both text and vectors are given, or neither; an enum has no such member; or `exact` is no flag.
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
    optional: dict[str, Any] = {
        "weightingStrategy": choose(WeightingStrategy, weighting_strategy, "weighting_strategy"),
        "fusionAlgorithm": choose(FusionAlgorithm, fusion_algorithm, "fusion_algorithm"),
        "queryMode": choose(QueryMode, query_mode, "query_mode"),
        "data": data,
        "vector": vector_field(vector),
        "sparseVector": sparse_field(sparse_vector),
        "exact": require_kind(exact, bool, "exact") or None,  # other servers do not know the field
    }
    return data is not None, body | {key: value for key, value in optional.items() if value is not None}


def record_fields(records: Iterable[Upsertable], embeds: bool | None = None) -> tuple[bool, list[dict[str, Any]]]:
    """Return whether the index embeds the records' texts, and the body of the upsert.

    Args:
        records: The records, in any of the forms of `Upsertable`.
        embeds: Whether the index embeds the texts of the records before them in the same call; `None` if there are
            none before them.

    Raises:
        ClientError: There are no records, a record has none of these forms, or texts to embed and vectors are mixed.
            The message names the record that is wrong by its position and its id.
    """
    fields: list[dict[str, Any]] = []
    for position, record in enumerate(record_iterator(records)):
        is_text, its_fields = _read(position, record)
        fields.append(its_fields)
        embeds = is_text if embeds is None else embeds
        if is_text != embeds:
            message = (
                f"{record_name(position, its_fields.get('id'))}: upsert takes texts to embed or vectors, not both in "
                f"one call; this record has {_CONTENT[is_text]}, and those before it have {_CONTENT[embeds]}"
            )
            raise ClientError(message)
    if embeds is None:
        message = "upsert needs at least one record"
        raise ClientError(message)
    return embeds, fields


def record_iterator(records: Iterable[Upsertable]) -> Iterator[Upsertable]:
    """Return an iterator over the records that a caller gave.

    Raises:
        ClientError: It is one record instead of several, or cannot be iterated over.
    """
    one = isinstance(records, (Vector, Data, Mapping, str))
    iterator = None if one else iterator_of(records)
    if iterator is None:
        message = f"upsert takes a list of records, not one {type(records).__name__}"
        raise ClientError(message)
    return iterator


_CONTENT = {True: "a text to embed", False: "vectors"}


def estimated_size(value: object) -> int:
    """Return roughly how many bytes the texts and the numbers of a value take as JSON, without writing it.

    A list counts as one of numbers if its first element is one. What is nested too deeply to be sent counts nothing.
    """
    try:
        return _size(value)
    except RecursionError:
        return 0


def _size(value: object) -> int:
    kind = type(value)
    if kind is dict:
        return sum(map(_size, cast("dict[str, object]", value).values()))
    if kind is list or kind is tuple:
        values = cast("Sequence[object]", value)
        return _NUMBER_SIZE * len(values) if values and isinstance(values[0], int | float) else sum(map(_size, values))
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    return _NUMBER_SIZE * len(cast("Sized", value)) if is_float_array(value) else 0


_NUMBER_SIZE = 20  # bytes of a float with its comma


def _read(position: int, given: Upsertable) -> tuple[bool, dict[str, Any]]:
    """Return whether a record is a text to embed, and its fields.

    Raises:
        ClientError: It has none of the forms of a record. The message names it by its position and its id.
    """
    try:
        record = _record(given)
        return isinstance(record, Data), _fields(record)
    except ClientError as error:
        message = f"{record_name(position, _id_of(given))}: {error}"
        raise ClientError(message) from None


def _id_of(given: object) -> object:
    """Return the id of what may be a record; `None` if it has none."""
    if isinstance(given, Mapping):
        return given.get("id")
    return next(iter(given), None) if isinstance(given, tuple) else getattr(given, "id", None)


def _fields(record: Vector | Data) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": record.id}
    if record.metadata is not None:
        fields["metadata"] = record.metadata
    if record.data is not None:
        fields["data"] = record.data
    if isinstance(record, Vector):
        if record.vector is not None:
            fields["vector"] = vector_field(record.vector)
        if record.sparse_vector is not None:
            fields["sparseVector"] = sparse_field(record.sparse_vector)
    return fields


def _record(given: Upsertable) -> Vector | Data:
    if isinstance(given, tuple):
        given = _from_tuple(given)
    elif not isinstance(given, (Vector, Data)) and isinstance(given, Mapping):
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
        message = f"a record needs an id; this dict has the keys {written(list(given))}"
        raise ClientError(message)
    if "namespace" in given:
        message = "a record has the key 'namespace': all records of a call are stored in one, upsert(namespace=...)"
        raise ClientError(message)
    for key in given:
        if key not in _RECORD_KEYS and (near := nearest(key, _RECORD_KEYS)):
            message = f"a record has the unknown key {written(key)} (did you mean {near}?)"
            raise ClientError(message)
    # Keys that are like none of these are ignored, as the documented SDK does.
    return Vector(**{key: given[key] for key in _RECORD_KEYS if key in given})


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
