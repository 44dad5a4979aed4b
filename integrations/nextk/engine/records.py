"""Turn requests into what the engine stores and searches: check their vectors, embed their texts, encode metadata.

Nothing here touches storage or needs the lock of the engine, because embedding is slow.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from nextk.bodies import (
    MAX_DIMENSION,
    Delete,
    Query,
    Record,
    SparseBody,
    TextRecord,
    Update,
    Vectors,
    large_number_fault,
    metadata_fault,
    nesting_fault,
)
from nextk.engine.abandonment import GivenUp
from nextk.engine.schema import IndexType, Schema
from nextk.engine.search import QueryComponents
from nextk.engine.stored import StoredRecord
from nextk.engine.text import DenseModel, SparseModel
from nextk.engine.values import SparseArrays, TextVectors
from nextk.errors import ClientError, NextKError, RefusedError
from nextk.plain import record_name
from nextk.types import MetadataUpdateMode, QueryMode, WeightingStrategy

log = logging.getLogger("nextk.engine")

_T = TypeVar("_T")
_RecordT = TypeVar("_RecordT", Record, TextRecord)

_TYPES = {(True, False): IndexType.DENSE, (False, True): IndexType.SPARSE, (True, True): IndexType.HYBRID}
"""The type of an index by whether its records have dense and sparse vectors."""


@dataclass(frozen=True, slots=True)
class Models:
    """The text models of an index.

    Attributes:
        dense: The model that embeds texts as dense vectors, or `None`.
        sparse: The model that embeds texts as sparse vectors, or `None`.
    """

    dense: DenseModel | None
    sparse: SparseModel | None

    def embed(self, texts: Sequence[str], schema: Schema) -> list[TextVectors]:
        """Embed texts that are to be stored.

        Returns:
            The dense and the sparse vector of each text; `None` for a kind of vector that the index does not have.

        Raises:
            RefusedError: The index lacks a model, or a model failed.
        """
        _require_models(schema, dense=schema.dense, sparse=schema.sparse)
        with _refusing_model_errors():
            dense = self.dense.embed_documents(list(texts)) if schema.dense and self.dense else [None] * len(texts)
            sparse = self.sparse.embed_documents(list(texts)) if schema.sparse and self.sparse else [None] * len(texts)
            return list(zip(dense, sparse, strict=True))


def from_vectors(records: Sequence[Record], schema: Schema) -> list[StoredRecord]:
    """Return the stored form of records that bring their own vectors.

    Raises:
        RefusedError: A vector is missing or unsupported, or metadata cannot be stored. The message begins with the
            position and the id of the record.
    """
    accepted: set[_Form] = set()

    def stored(record: Record) -> StoredRecord:
        if (form := _form_of(record.vector, record.sparse_vector)) not in accepted:
            _require_form(form, schema)
            accepted.add(form)
        vector, sparse = _dense(record.vector), _sparse(record.sparse_vector)
        return StoredRecord(record.id, vector, sparse, encode_metadata(record.metadata), record.data)

    return each(stored, records)


def from_texts(texts: Sequence[TextRecord], schema: Schema, models: Models) -> list[StoredRecord]:
    """Return the stored form of records whose texts are embedded by the models of the index.

    Raises:
        RefusedError: The index lacks a model, a model failed, or metadata cannot be stored.
    """
    metadata = each(lambda text: encode_metadata(text.metadata), texts)  # before the work of embedding
    components = models.embed([text.data for text in texts], schema)
    return [
        StoredRecord(text.id, vector, sparse, encoded, text.data)
        for text, encoded, (vector, sparse) in zip(texts, metadata, components, strict=True)
    ]


def each(read: Callable[[_RecordT], _T], records: Sequence[_RecordT]) -> list[_T]:
    """Return what a function makes of each record.

    Raises:
        RefusedError: The function refused a record. The message begins with the position and the id of the record.
    """
    made = []
    for position, record in enumerate(records):
        try:
            made.append(read(record))
        except RefusedError as error:
            raise _of_record(position, record.id, error) from error
    return made


def _of_record(position: int, id_: str, error: RefusedError) -> RefusedError:
    """Return a refusal with the name of the record that was refused."""
    return RefusedError(f"{record_name(position, id_)}: {error}", error.status)


def apply_update(stored: StoredRecord, update: Update, schema: Schema, models: Models) -> StoredRecord:
    """Return a record with an update applied. Fields that the update does not contain stay as they are.

    Raises:
        RefusedError: A vector or a model is missing or unsupported, a model failed, or the metadata cannot be stored.
    """
    if update.vector is not None or update.sparse_vector is not None:
        vector, sparse = _components(update, schema)
        stored = replace(stored, vector=vector, sparse=sparse)
    elif update.data is not None and schema.embeds_text:
        vector, sparse = models.embed([update.data], schema)[0]
        stored = replace(stored, vector=vector, sparse=sparse)
    if update.data is not None:
        stored = replace(stored, data=update.data)
    if update.metadata is not None:
        stored = replace(stored, metadata=_updated_metadata(stored.metadata, update))
    return stored


def complete_schema(schema: Schema, records: Sequence[StoredRecord]) -> Schema:
    """Return the schema that the index has once records are written.

    The first write decides the type of an index that has none, and its first dense vector decides the dimension.

    Raises:
        RefusedError: The records of a first write differ in their kinds of vectors, a record has other kinds than the
            index, a vector has another dimension than the index, or the first one is empty or too long.
    """
    forms: dict[_Form, int] = {}  # each form that the records have, with the position of the first that has it
    for position, record in enumerate(records):
        forms.setdefault(_form_of(record.vector, record.sparse), position)
    if schema.undecided and records:
        schema = _decide_type(schema, records, forms)
    for (dimension, sparse), position in forms.items():
        try:
            _require_kinds(schema, dense=dimension is not None, sparse=sparse)
            if dimension is not None:
                schema = _with_dimension(schema, dimension)
        except RefusedError as error:
            raise _of_record(position, records[position].id, error) from error
    return schema


def _with_dimension(schema: Schema, dimension: int) -> Schema:
    """Return a schema of the dimension of one vector: itself, if it has a dimension already."""
    if schema.dimension is None:
        if not 1 <= dimension <= MAX_DIMENSION:
            message = f"Invalid vector dimension: {dimension}, expected: 1 to {MAX_DIMENSION}"
            raise RefusedError(message, 422)
        schema = schema.with_dimension(dimension)
    _require_dimension(dimension, schema)
    return schema


def _decide_type(schema: Schema, records: Sequence[StoredRecord], forms: Mapping["_Form", int]) -> Schema:
    """Return the schema with the type of the index, which the forms of the records of its first write decide."""
    kinds = [(dimension is not None, sparse) for dimension, sparse in forms]
    if kinds[0] not in _TYPES:
        message = "The first write decides which vectors this index has, and this record has none: give it a vector"
        raise _of_record(0, records[0].id, RefusedError(message, 422))
    for position, kind in zip(forms.values(), kinds, strict=True):
        if kind != kinds[0]:
            message = (
                "The first write decides which vectors this index has, and this record has others than those before: "
                'give each of them the same kinds of vectors, or make the index with type="dense", "sparse" or "hybrid"'
            )
            raise _of_record(position, records[position].id, RefusedError(message, 422))
    try:
        return schema.with_type(_TYPES[kinds[0]])
    except ClientError as error:
        raise RefusedError(str(error), 422) from error


def components_of(query: Query, schema: Schema, models: Models) -> QueryComponents:
    """Return the vectors that a query searches by: those it brings or those of its text, as its mode selects them.

    Raises:
        RefusedError: A vector is missing or unsupported, or a model is missing or failed.
    """
    if query.data is not None:
        vector, sparse = embed_query(query.data, query.query_mode, schema, models)
    else:
        vector, sparse = _query_components(query, schema)
    weighted = query.weighting_strategy is WeightingStrategy.IDF
    return QueryComponents(vector, sparse, weighted, query.fusion_algorithm)


def refuse_dimension(components: QueryComponents, schema: Schema) -> None:
    """Raise `RefusedError` if the query's dense vector has another dimension than the index has by now."""
    if components.vector is not None and schema.dimension is not None:
        _require_dimension(len(components.vector), schema)


def require_one_selector(selection: Delete) -> None:
    """Raise `RefusedError` unless exactly one way to select records is given."""
    if sum(given is not None for given in (selection.ids, selection.prefix, selection.filter)) != 1:
        message = "Only and only one of the ids, prefix, or filter must be provided."
        raise RefusedError(message, 422)


def encode_metadata(metadata: dict[str, Any] | None) -> str | None:
    """Encode metadata as JSON text for storage.

    Raises:
        RefusedError: The metadata is too large, is nested too deeply, or contains the NUL character or a whole number
            beyond 64 bits.
    """
    if metadata is None:
        return None
    try:
        encoded = orjson.dumps(metadata)
    except (TypeError, RecursionError) as error:
        fault = nesting_fault(metadata) or large_number_fault(metadata)
        message = fault or f"Metadata cannot be stored: {error}"
        raise RefusedError(message, 422) from error
    if (fault := metadata_fault(metadata, encoded)) is not None:
        raise RefusedError(fault, 422)
    return encoded.decode()


_Form: TypeAlias = tuple[int | None, bool]
"""All that decides whether an index takes the vectors of a record: the length of the dense vector, or `None` if it has
none, and whether it has a sparse one."""


def _form_of(vector: NDArray[np.float32] | None, sparse: SparseBody | SparseArrays | None) -> _Form:
    return None if vector is None else len(vector), sparse is not None


def _components(given: Vectors, schema: Schema) -> tuple[NDArray[np.float32] | None, SparseArrays | None]:
    """Return the vectors of a record that is to be stored: exactly those that the type of the index requires."""
    _require_form(_form_of(given.vector, given.sparse_vector), schema)
    return _dense(given.vector), _sparse(given.sparse_vector)


def _require_form(form: _Form, schema: Schema) -> None:
    """Refuse a record whose vectors are not those that the index requires, as far as its schema is decided."""
    dimension, sparse = form
    if not schema.undecided:
        _require_kinds(schema, dense=dimension is not None, sparse=sparse)
    if dimension is not None and schema.dimension is not None:
        _require_dimension(dimension, schema)


def _require_kinds(schema: Schema, *, dense: bool, sparse: bool) -> None:
    """Refuse a record that lacks a kind of vector that the index requires, or has one that it does not support."""
    _refuse_unsupported(schema, dense=dense, sparse=sparse)
    if schema.dense and not dense:
        message = "This index requires dense vectors"
        raise RefusedError(message, 422)
    if schema.sparse and not sparse:
        message = "This index requires sparse vectors"
        raise RefusedError(message, 422)


def _query_components(query: Query, schema: Schema) -> tuple[NDArray[np.float32] | None, SparseArrays | None]:
    """Return the vectors that a query brings and its mode selects: at least one, and none that the index lacks."""
    _refuse_unsupported(schema, dense=query.vector is not None, sparse=query.sparse_vector is not None)
    vector, sparse = _dense(query.vector), _sparse(query.sparse_vector)
    if vector is not None and sparse is not None:
        vector = None if query.query_mode is QueryMode.SPARSE else vector
        sparse = None if query.query_mode is QueryMode.DENSE else sparse
    if vector is None and sparse is None:
        message = "This index requires dense vectors" if schema.dense else "This index requires sparse vectors"
        raise RefusedError(message, 422)
    return vector, sparse


def embed_query(text: str, mode: QueryMode, schema: Schema, models: Models) -> TextVectors:
    """Embed the text of a query by the models of an index.

    Returns:
        The dense and the sparse vector; `None` for a kind that the index does not have, or that the mode leaves out. An
        index with one kind of vectors has no mode.

    Raises:
        RefusedError: The index lacks a model, or a model failed.
    """
    both = schema.dense and schema.sparse
    dense = schema.dense and not (both and mode is QueryMode.SPARSE)
    sparse = schema.sparse and not (both and mode is QueryMode.DENSE)
    _require_models(schema, dense=dense, sparse=sparse)
    with _refusing_model_errors():
        return (
            models.dense.embed_query(text) if dense and models.dense else None,
            models.sparse.embed_query(text) if sparse and models.sparse else None,
        )


@contextmanager
def _refusing_model_errors() -> Iterator[None]:
    """Turn every error of a text model into `RefusedError`, because nothing has been written or searched yet."""
    try:
        yield
    except GivenUp:
        raise
    except NextKError as error:
        raise RefusedError(str(error), 422) from error
    except Exception as error:
        log.exception("an embedding model failed")
        message = f"The embedding model failed: {type(error).__name__}: {error}"
        raise RefusedError(message, 422) from error


def _require_models(schema: Schema, *, dense: bool, sparse: bool) -> None:
    if schema.undecided or (dense and not schema.embedding) or (sparse and not schema.sparse_embedding):
        message = (
            "Embedding data for this index is not allowed. The index must be created with an embedding model to use it."
        )
        raise RefusedError(message, 422)


def _refuse_unsupported(schema: Schema, *, dense: bool, sparse: bool) -> None:
    if dense and not schema.dense:
        message = "This index does not support dense vectors"
        raise RefusedError(message, 422)
    if sparse and not schema.sparse:
        message = "This index does not support sparse vectors"
        raise RefusedError(message, 422)


def _require_dimension(got: int, schema: Schema) -> None:
    if got != schema.dimension:
        message = f"Invalid vector dimension: {got}, expected: {schema.dimension}"
        raise RefusedError(message, 422)


def _dense(vector: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if vector is None else np.asarray(vector, np.float32)


def _sparse(given: SparseBody | None) -> SparseArrays | None:
    return (
        None if given is None else SparseArrays(np.array(given.indices, np.int32), np.array(given.values, np.float32))
    )


def _updated_metadata(stored: str | None, update: Update) -> str | None:
    if update.metadata_update_mode is MetadataUpdateMode.OVERWRITE:
        return encode_metadata(update.metadata)
    if update.metadata is not None and (fault := nesting_fault(update.metadata)) is not None:
        raise RefusedError(fault, 422)  # before the patch is merged, level by level
    return encode_metadata(merge_patch(orjson.loads(stored) if stored else {}, update.metadata))


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396) and return the result.

    `None` removes a member, objects are merged, and every other value replaces the old one.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
