"""Arrays that grow at their end, in memory that is taken ahead of need."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def with_room(array: NDArray[_Scalar], count: int) -> NDArray[_Scalar]:
    """Return an array with room for `count` elements: the given one, or a larger copy whose further elements are 0.

    A copy has a quarter more room than the array, or as much as is asked for if that is more. Whoever holds the given
    array keeps it as it is.
    """
    if count <= len(array):
        return array
    larger = np.zeros(max(count, len(array) * 5 // 4), array.dtype)
    larger[: len(array)] = array
    return larger
