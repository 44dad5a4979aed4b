"""Records as they are stored: their values in the file, and whether these are whole."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nextk.bodies import Include
from nextk.engine import checksums
from nextk.engine.schema import Schema
from nextk.engine.values import Match, SparseArrays, SparseRows, VectorRows

_FLOAT, _INT = np.dtype("<f4"), np.dtype("<i4")  # the types in the file, on any machine

METADATA = "metadata.json"
"""The column of the metadata, with its table, because json_each has a column json, too."""

COLUMNS = (
    f"records.row, records.namespace, number, checksum, id, vector, sparse_indices, sparse_values, data, {METADATA}"
)
"""The columns of one record."""

TABLES = "records LEFT JOIN metadata USING (row)"
"""The tables that have these columns. If the row of its metadata is lost, the record is read, and is not whole."""

RECORDS = f"SELECT {COLUMNS}, TRUE FROM {TABLES} WHERE TRUE"  # noqa: S608
"""The statement that reads records, up to a condition that is added."""

StoredRow: TypeAlias = tuple[Any, ...]
"""The values of `COLUMNS` and a further one, read as `TEXT_FACTORY` says, whatever damage there is to them."""

TEXT_FACTORY = bytearray
"""The type in which texts are read. They are not decoded before they are known to be whole, and differ from blobs."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it is written.

    Attributes:
        id: The id of the record.
        vector: The dense vector, float32 (dimension,), or `None` if the index has none.
        sparse: The sparse vector, or `None` if the index has none.
        metadata: The metadata as JSON text, or `None`.
        data: The text of the record, or `None`.
    """

    id: str
    vector: NDArray[np.float32] | None
    sparse: SparseArrays | None
    metadata: str | None
    data: str | None

    def columns(self) -> tuple[str, bytes | None, bytes | None, bytes | None, str | None, str | None]:
        """Return the values of the record in the file, the metadata last. They are equal for equal records."""
        vector, sparse = self.vector, self.sparse
        return (
            self.id,
            None if vector is None else vector.astype(_FLOAT, copy=False).tobytes(),
            None if sparse is None else sparse.indices.astype(_INT, copy=False).tobytes(),
            None if sparse is None else sparse.values.astype(_FLOAT, copy=False).tobytes(),
            self.data,
            self.metadata,
        )


def written_values(
    row: int, key: int, number: int, record: StoredRecord
) -> tuple[bytes | None, bytes | None, bytes | None, str | None, int]:
    """Return the values of a record that a write stores: vector, sparse indices, sparse values, data and checksum.

    Args:
        row: The row of the record.
        key: The key of its namespace.
        number: Its number in the namespace.
        record: The record.
    """
    id_, vector, indices, values, data, metadata = record.columns()
    checksum = checksums.of_record(
        row,
        key,
        number,
        id_.encode(),
        vector,
        indices,
        values,
        None if data is None else data.encode(),
        None if metadata is None else metadata.encode(),
    )
    return vector, indices, values, data, checksum


def is_whole(stored: StoredRow) -> bool:
    """Return whether the values of a record have their types, and match their checksum."""
    row, key, number, checksum, id_, vector, indices, values, data, metadata, _ = stored
    if type(id_) is not bytearray or bytearray in (type(vector), type(indices), type(values)):
        return False
    if type(data) is bytes or type(metadata) is bytes:
        return False
    try:
        return bool(checksum == checksums.of_record(row, key, number, id_, vector, indices, values, data, metadata))
    except (TypeError, struct.error):  # a number that is none, or stands in the place of a text
        return False


def record_of(stored: StoredRow) -> StoredRecord:
    """Return the record of a row that is whole."""
    id_, vector, indices, values, data, metadata = stored[4:10]
    return StoredRecord(id_.decode(), _floats(vector), _sparse(indices, values), _text(metadata), _text(data))


def match_of(stored: StoredRow, include: Include) -> Match:
    """Return the fields of a row that is whole which an answer asks for, and its id."""
    id_, vector, indices, values, data, metadata = stored[4:10]
    vectors = include.include_vectors
    return Match(
        id_.decode(),
        None,
        _floats(vector) if vectors else None,
        _sparse(indices, values) if vectors else None,
        _text(metadata) if include.include_metadata else None,
        _text(data) if include.include_data else None,
    )


def texts_of(stored: StoredRow) -> tuple[str, str | None, str | None]:
    """Return the id, the metadata as JSON text and the text of a row that is whole."""
    id_, _, _, _, data, metadata = stored[4:10]
    return id_.decode(), _text(metadata), _text(data)


def vector_rows(rows: Sequence[int], records: Sequence[StoredRecord]) -> VectorRows:
    """Return the vectors of records that are written.

    Args:
        rows: Their rows.
        records: The records, all with the kinds of vectors that the index has.
    """
    dense = [record.vector for record in records if record.vector is not None]
    sparse = [record.sparse for record in records if record.sparse is not None]
    return VectorRows(
        np.array(rows, np.int64), np.stack(dense) if dense else None, SparseRows.of(sparse) if sparse else None
    )


def usable_vectors(stored: Sequence[StoredRow], schema: Schema) -> tuple[VectorRows, list[int]]:
    """Read the vectors of records whose checksums are not checked.

    Args:
        stored: The row of each record, its dense vector, and the indices and the values of its sparse vector, as they
            stand in the file; further values are ignored.
        schema: The schema of the index.

    Returns:
        The vectors that can be those of a record of this index, with their rows, and the rows of the others: those of
        another size or type, and those that hold a number that is not finite, which no write stores.
    """
    usable = stored if _are_usable(stored, schema) else [each for each in stored if _are_usable([each], schema)]
    batch = _read_vectors(usable, schema)
    finite = np.ones(len(usable), np.bool_)
    if batch.vectors is not None:
        finite &= np.isfinite(batch.vectors).all(axis=1)
    if batch.sparse is not None:
        owners = np.repeat(np.arange(len(usable)), batch.sparse.sizes)
        finite[owners[~np.isfinite(batch.sparse.values)]] = False
    if not finite.all():
        usable = [each for each, is_finite in zip(usable, finite.tolist(), strict=True) if is_finite]
        batch = _read_vectors(usable, schema)
    if len(usable) == len(stored):
        return batch, []
    found = {each[0] for each in usable}
    return batch, [each[0] for each in stored if each[0] not in found]


def _are_usable(stored: Sequence[StoredRow], schema: Schema) -> bool:
    """Return whether the vectors of all records have the types and sizes that those of this index have."""
    if not stored:
        return True
    _, dense, indices, values, *_ = zip(*stored, strict=True)
    return _are_vectors(dense, schema) and _are_sparse_vectors(indices, values, schema)


def _are_vectors(blobs: Sequence[Any], schema: Schema) -> bool:
    if not schema.dense:
        return set(map(type, blobs)) == {NoneType}
    return set(map(type, blobs)) == {bytes} and set(map(len, blobs)) == {_FLOAT.itemsize * (schema.dimension or 0)}


def _are_sparse_vectors(indices: Sequence[Any], values: Sequence[Any], schema: Schema) -> bool:
    types = set(map(type, indices)) | set(map(type, values))
    if not schema.sparse:
        return types == {NoneType}
    if types != {bytes}:
        return False
    sizes = list(map(len, indices))
    return sizes == list(map(len, values)) and not any(size % _INT.itemsize for size in set(sizes))


def _read_vectors(stored: Sequence[StoredRow], schema: Schema) -> VectorRows:
    """Return the vectors of records that are known to be usable."""
    rows = np.array([each[0] for each in stored], np.int64)
    vectors, sparse = None, None
    if schema.dense and stored:
        joined = b"".join([each[1] for each in stored])
        vectors = np.frombuffer(joined, _FLOAT).astype(np.float32, copy=False).reshape(len(stored), -1)
    if schema.sparse and stored:
        sizes = np.array([len(each[2]) // _INT.itemsize for each in stored], np.int64)
        indices, values = (b"".join([each[column] for each in stored]) for column in (2, 3))
        sparse = SparseRows(
            sizes,
            np.frombuffer(indices, _INT).astype(np.int32, copy=False),
            np.frombuffer(values, _FLOAT).astype(np.float32, copy=False),
        )
    return VectorRows(rows, vectors, sparse)


def _text(value: bytearray | None) -> str | None:
    return None if value is None else value.decode()


def _floats(blob: bytes | None) -> NDArray[np.float32] | None:
    return None if blob is None else np.frombuffer(blob, _FLOAT).astype(np.float32, copy=False)


def _sparse(indices: bytes | None, values: bytes | None) -> SparseArrays | None:
    if indices is None or values is None:
        return None
    return SparseArrays(
        np.frombuffer(indices, _INT).astype(np.int32, copy=False),
        np.frombuffer(values, _FLOAT).astype(np.float32, copy=False),
    )
