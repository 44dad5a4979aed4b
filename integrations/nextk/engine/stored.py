"""Records as they are stored: their values in the file, and whether these are whole."""

import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nextk.bodies import Include
from nextk.engine import checksums
from nextk.engine.values import Match, RowVectors, SparseArrays

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

    def columns(self) -> tuple[str | bytes | None, ...]:
        """Return the values of the record in the file, the metadata last. They are equal for equal records."""
        sparse = self.sparse
        return (
            self.id,
            None if self.vector is None else self.vector.astype(_FLOAT).tobytes(),
            None if sparse is None else sparse.indices.astype(_INT).tobytes(),
            None if sparse is None else sparse.values.astype(_FLOAT).tobytes(),
            self.data,
            self.metadata,
        )


def checksum_of(row: int, key: int, number: int, record: StoredRecord) -> int:
    """Return the checksum of a record that is written.

    Args:
        row: The row of the record.
        key: The key of its namespace.
        number: Its number in the namespace.
        record: The record.
    """
    id_, vector, indices, values, data, metadata = (
        value.encode() if isinstance(value, str) else value for value in record.columns()
    )
    return checksums.of_record(row, key, number, id_ or b"", vector, indices, values, data, metadata)


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


def is_vector(blob: object, dimension: int | None) -> bool:
    """Return whether a value of the file can be the dense vector of a record.

    Args:
        blob: The value.
        dimension: The dimension of the index; `None` if its records have no dense vector.
    """
    return blob is None if dimension is None else type(blob) is bytes and len(blob) == _FLOAT.itemsize * dimension


def is_sparse_vector(indices: object, values: object, *, expected: bool) -> bool:
    """Return whether two values of the file can be the sparse vector of a record.

    Args:
        indices: The value in the place of the indices.
        values: The value in the place of the values.
        expected: Whether the records of the index have sparse vectors.
    """
    if not expected:
        return indices is None and values is None
    if type(indices) is not bytes or type(values) is not bytes:
        return False
    return len(indices) == len(values) and len(indices) % _INT.itemsize == 0


def vectors_of(
    vector: bytes | None, indices: bytes | None, values: bytes | None
) -> tuple[NDArray[np.float32] | None, SparseArrays | None]:
    """Return the dense and the sparse vector of a record, `None` for a kind that it lacks."""
    return _floats(vector), _sparse(indices, values)


def not_finite(batch: list[RowVectors]) -> set[int]:
    """Return the rows whose vectors hold a number that is not finite, which no write stores and no search could rank.

    Args:
        batch: Rows with the vectors that `vectors_of` returned.
    """
    _, dense, sparse = zip(*batch, strict=True)
    parts = [each for each in dense if each is not None] + [each.values for each in sparse if each is not None]
    if np.isfinite(np.concatenate(parts)).all():
        return set()
    return {
        row
        for row, vector, weights in batch
        if not (vector is None or np.isfinite(vector).all())
        or not (weights is None or np.isfinite(weights.values).all())
    }


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
