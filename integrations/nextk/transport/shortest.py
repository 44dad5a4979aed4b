"""From float32 to the shortest decimals that name it, by the thousand.

A float32 such as 0.1 is not 0.1 but 0.100000001490116; over HTTP it is written as the shortest decimal that reads back
as the same float32, and arrives as 0.1. `shortest_floats` gives the same floats without writing text.

For x between 2**e and 2**(e+1), the neighbours of x are ulp = 2**(e-23) away. A decimal with k places such that
10**-k <= ulp always names x; with fewer places it may, and if k places do, so do k + 1. So x is rounded to k places,
then to ever fewer while the result still reads back as x. Up to `_MAX_PLACES` places, x * 10**k has at most
24 + 2.33 * 12 < 53 bits: the product is exact, rint rounds it as the text would, and the quotient of two exact numbers
is the float that the text would be read as. The few floats that need more places, or are too large, go through JSON.
"""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_CHUNK = 16_384  # elements whose temporary arrays stay in the processor's cache
_SMALL = 1_024  # elements; fewer are faster through JSON
_MAX_PLACES = 12
_LOWEST, _HIGHEST = 127 - 16, 127 + 23  # the exponents, as float32 stores them, of floats with 0 to 12 places

_PLACES = np.ceil(np.log10(2.0) * (_HIGHEST - np.arange(256)))
_POWERS = 10.0 ** np.clip(_PLACES, 0, _MAX_PLACES)
"""For every stored exponent, 10**k with the least k such that 10**-k <= ulp."""


def shortest_floats(array: NDArray[np.float32]) -> Any:
    """Return the elements of a float32 array as the shortest decimals that name them, as the wire has them.

    Args:
        array: An array of one or two dimensions.

    Returns:
        The floats as lists, nested as the array is; `None` in the place of NaN and infinity, as over HTTP.
    """
    if array.size < _SMALL or not np.isfinite(array).all():
        return _through_json(array)
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
    step = max(1, _CHUNK // rows.shape[1])
    buffer = np.empty((min(step, len(rows)), rows.shape[1]), np.float64)
    floats: list[Any] = []
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        rounded = buffer[: len(chunk)]
        _round(chunk.reshape(-1), rounded.reshape(-1))
        floats += rounded.tolist()
    return floats if array.ndim == 2 else floats[0]


def _round(exact: NDArray[np.float32], rounded: NDArray[np.float64]) -> None:
    """Write the shortest decimals of finite floats into `rounded`."""
    exponents = ((exact.view(np.int32) >> 23) & 255).astype(np.intp)
    values, powers = exact.astype(np.float64), _POWERS.take(exponents)
    _to_places(values, powers, rounded)
    singles, positions = exact, np.arange(len(exact))
    for _ in range(_MAX_PLACES):  # one place fewer for those that the last try named; no place fewer than none
        powers = np.maximum(powers / 10, 1)
        shorter = _to_places(values, powers, np.empty_like(values))
        named = (shorter.astype(np.float32) == singles).nonzero()[0]
        positions, singles, values, powers = (part.take(named) for part in (positions, singles, values, powers))
        rounded[positions] = shorter.take(named)
        if not len(positions):
            break
    if exponents.min() < _LOWEST or exponents.max() > _HIGHEST:
        hard = ((exponents < _LOWEST) | (exponents > _HIGHEST)) & (exact != 0)
        rounded[hard] = _through_json(exact[hard])


def _to_places(
    values: NDArray[np.float64], powers: NDArray[np.float64], rounded: NDArray[np.float64]
) -> NDArray[np.float64]:
    np.multiply(values, powers, out=rounded)
    np.rint(rounded, out=rounded)
    return np.divide(rounded, powers, out=rounded)


def _through_json(array: NDArray[np.float32]) -> Any:
    return orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))
