"""The values that the parts of the engine exchange: sparse vectors and matches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray


class SparseArrays(NamedTuple):
    """A sparse vector: `indices` int32 (n,) and `values` float32 (n,), in the order in which they were given."""

    indices: NDArray[np.int32]
    values: NDArray[np.float32]


TextVectors: TypeAlias = tuple[NDArray[np.float32] | None, SparseArrays | None]
"""The dense vector of a text, float32 (dimension,), and its sparse vector; `None` for a kind that it lacks."""


class SparseRows(NamedTuple):
    """The sparse vectors of some rows, one after the other.

    Attributes:
        sizes: The number of entries of each vector; int64 (n,).
        indices: The dimensions of all entries; int32 (entries,).
        values: The values of all entries; float32 (entries,).
    """

    sizes: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: Sequence[SparseArrays]) -> Self:
        """Return the rows with the given vectors, at least one."""
        return cls(
            np.fromiter((len(vector.indices) for vector in vectors), np.int64, len(vectors)),
            np.concatenate([vector.indices for vector in vectors]),
            np.concatenate([vector.values for vector in vectors]),
        )

    @classmethod
    def joined(cls, parts: "Sequence[SparseRows]") -> Self:
        """Return the rows of all parts, at least one, in their order."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


class VectorRows(NamedTuple):
    """Distinct rows with their vectors. The length is the number of rows.

    Attributes:
        rows: The rows; int64 (n,).
        vectors: Their dense vectors, float32 (n, dimension), or `None` if the index has none.
        sparse: Their sparse vectors, or `None` if the index has none.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32] | None
    sparse: SparseRows | None

    def __len__(self) -> int:  # the number of rows, not of fields
        return len(self.rows)


@dataclass(slots=True)  # not frozen, because making one would then take four times as long
class Match:
    """A record as an answer carries it. A field is `None` if it was not requested or does not exist.

    Each answer has matches of its own.

    Attributes:
        id: The id of the record.
        score: The score of the record, or `None` if the answer is not one to a query.
        vector: The dense vector, float32 (dimension,).
        sparse_vector: The sparse vector.
        metadata: The metadata as JSON text, as it is stored.
        data: The text of the record.
    """

    id: str
    score: np.float32 | None = None
    vector: NDArray[np.float32] | None = None
    sparse_vector: SparseArrays | None = None
    metadata: str | None = None
    data: str | None = None
