"""The values that the parts of the engine exchange: sparse vectors and matches."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray


class SparseArrays(NamedTuple):
    """A sparse vector: `indices` int32 (n,) and `values` float32 (n,), in the order in which they were given."""

    indices: NDArray[np.int32]
    values: NDArray[np.float32]


TextVectors: TypeAlias = tuple[NDArray[np.float32] | None, SparseArrays | None]
"""The dense vector of a text, float32 (dimension,), and its sparse vector; `None` for a kind that it lacks."""

RowVectors: TypeAlias = tuple[int, NDArray[np.float32] | None, SparseArrays | None]
"""A row with its dense vector, float32 (dimension,), and its sparse vector; `None` for a kind that the index lacks."""


@dataclass(frozen=True, slots=True)
class Match:
    """A record as an answer carries it. A field is `None` if it was not requested or does not exist.

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
