"""What passes between the parts of the engine: arrays in, rows out."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SparseArrays(NamedTuple):
    """A sparse vector: `indices` int32 (n,) and `values` float32 (n,), in the order in which they were given."""

    indices: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """A record as a reply carries it.

    `score` is `None` outside of queries; a field is `None` where it was not asked for or does not exist. `metadata` is
    JSON text, as stored.
    """

    id: str
    score: np.float32 | None = None
    vector: NDArray[np.float32] | None = None
    sparse_vector: SparseArrays | None = None
    metadata: str | None = None
    data: str | None = None
