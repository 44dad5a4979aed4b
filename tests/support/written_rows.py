"""Rows of any shape, written to an index with deletions and replacements, and the scores that they may have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.bare_engine import Rig
from tests.support.engine_oracle import LARGEST
from tests.support.index_model import wire

_UNIT = 2.0**-53  # half the spacing of float64 numbers between 1 and 2
_BATCHES = 4

MAGNITUDES = ["usual", "few values", "huge", "tiny", "any"]
FILTERS = {
    "": range(2**31),
    "n < 0": range(0),
    "n = 3": range(3, 4),
    "n < 5": range(5),
    "n >= 5": range(5, 2**31),
    "n >= 0": range(2**31),
}
"""Filters, and which numbers of rows each lets through: all, none, one, a few, or most of them."""


@dataclass(frozen=True)
class Shape:
    """The shape of an index, from which its rows follow.

    Attributes:
        count: The number of rows that are written at first.
        dimension: The length of their dense vectors.
        magnitude: The size of the numbers in them, one of `MAGNITUDES`.
        churn: The share of the rows that are deleted, and that of the others that are replaced; 0 to 1.
        seed: The seed of all random numbers.
    """

    count: int
    dimension: int
    magnitude: str
    churn: float
    seed: int

    def vectors(self, random: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return dense vectors, float32 (count, dimension); many are equal or nearly so."""
        numbers = random.normal(size=(count, self.dimension))
        if self.magnitude == "few values":
            numbers = random.choice([-1.0, -0.5, 0.0, 0.5, 2.0], size=numbers.shape)
        elif self.magnitude != "usual":
            exponents = {"huge": (37.0, 38.5), "tiny": (-45.0, -37.0), "any": (-45.0, 38.5)}[self.magnitude]
            numbers *= 10.0 ** random.uniform(*exponents, size=(count, 1))
        vectors = np.clip(numbers, -LARGEST, LARGEST).astype(np.float32)
        if count:
            chance = random.random(count)
            equal, scaled, near, zero = chance < 0.3, chance < 0.1, (chance > 0.3) & (chance < 0.6), chance > 0.95
            vectors[equal] = vectors[random.integers(min(count, 6), size=int(equal.sum()))]
            vectors[scaled] /= 3
            vectors[near] = vectors[0] * random.uniform(1 - 1e-6, 1, size=(int(near.sum()), self.dimension))
            vectors[zero] = 0
        return vectors

    def entries(self, random: np.random.Generator, count: int) -> list[list[tuple[int, float]]]:
        """Return sparse vectors of up to six entries, many of them equal."""
        values = np.array([-1.0, 0.0, 0.1, 0.5, 0.7, 2.0], np.float32)
        sizes = random.integers(7, size=count).tolist()
        return [
            list(zip(random.integers(9, size=size).tolist(), random.choice(values, size=size).tolist(), strict=True))
            for size in sizes
        ]


@dataclass(frozen=True)
class WrittenRow:
    """The latest version of a record: the position of its first insertion, its number, and its vectors."""

    position: int
    number: int
    vector: NDArray[np.float32]
    entries: list[tuple[int, float]]


COUNTS = st.builds(
    int.__add__, st.sampled_from([0, 2, 20, 60, 120, 120, 250, 250, 500, 1_020, 4_090]), st.integers(0, 12)
)
SHAPES = st.builds(
    Shape,
    COUNTS,
    st.integers(1, 40),
    st.sampled_from(MAGNITUDES),
    st.sampled_from([0.0, 0.1, 0.1, 0.4, 0.4, 0.8]),
    st.integers(0, 2**32 - 1),
)


def write_rows(rig: Rig, shape: Shape) -> dict[str, WrittenRow]:
    """Write the rows of a shape: insert them, delete some, replace others, and insert a few again and anew.

    Returns:
        The rows that the index holds then, by id, in the order of their positions.
    """
    random = np.random.default_rng(shape.seed)
    rows: dict[str, WrittenRow] = {}
    everyone = np.arange(shape.count)
    _write(rig, shape, random, everyone, rows)
    chance = random.random(shape.count)
    deleted = everyone[chance < shape.churn]
    if len(deleted):
        rig.delete(ids=[str(number) for number in deleted])
        for number in deleted:
            del rows[str(number)]
    left = everyone[chance >= shape.churn]
    _write(rig, shape, random, left[random.random(len(left)) < shape.churn], rows, first=shape.count)
    if shape.churn:
        late = np.concatenate([deleted[::3], np.arange(shape.count, shape.count + 5)])
        _write(rig, shape, random, late, rows, first=shape.count)
    return dict(sorted(rows.items(), key=lambda item: item[1].position))


def _write(
    rig: Rig,
    shape: Shape,
    random: np.random.Generator,
    numbers: NDArray[np.int64],
    rows: dict[str, WrittenRow],
    first: int = 0,
) -> None:
    """Write records with these numbers in a few batches; a new one has a position from `first` on."""
    if not len(numbers):
        return
    type_ = str(rig.engine.schema.type)
    vectors, entries = shape.vectors(random, len(numbers)), shape.entries(random, len(numbers))
    bodies: list[dict[str, Any]] = []
    for number, vector, entry in zip(numbers.tolist(), vectors, entries, strict=True):
        id_ = str(number)
        position = rows[id_].position if id_ in rows else first + number
        rows[id_] = WrittenRow(position, number, vector, entry)
        body: dict[str, Any] = {"id": id_, "metadata": {"n": number}}
        if type_ != "SPARSE":
            body["vector"] = vector.tolist()
        if type_ != "DENSE":
            body["sparseVector"] = wire(entry)
        bodies.append(body)
    for part in np.array_split(np.arange(len(bodies)), _BATCHES):
        if len(part):
            rig.upsert(*bodies[part[0] : part[-1] + 1])


def score_bounds(
    metric: str, query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the smallest and the largest score that each vector may have; float32 (n,) both.

    A score is computed in float64 and rounded to float32 once. The two differ only where the exact score lies so near
    to the middle between two float32 numbers that the roundoff of float64 decides.

    Args:
        metric: The similarity function.
        query: The vector of the query, float32 (d,).
        vectors: The vectors, float32 (n, d).
    """
    wide, target = vectors.astype(np.float64), query.astype(np.float64)
    products = wide * target
    roundoff = (2 * len(query) + 8) * _UNIT
    if metric == "cosine":
        lengths = np.sqrt((wide**2).sum(axis=1)) * np.sqrt((target**2).sum())
        cosines = np.divide(products.sum(axis=1), lengths, out=np.zeros(len(wide)), where=lengths > 0)
        scores, error = (1 + np.clip(cosines, -1, 1)) / 2, np.where(lengths > 0, roundoff, 0.0)
    elif metric == "euclidean":
        scores = 1 / (1 + ((wide - target) ** 2).sum(axis=1))
        error = roundoff * scores
    else:
        scores = (1 + products.sum(axis=1)) / 2
        error = roundoff * (1 + np.abs(products).sum(axis=1))
    smallest, largest = np.clip([scores - error, scores + error], -LARGEST, LARGEST).astype(np.float32)
    return smallest, largest


def passing(rows: Mapping[str, WrittenRow], filter: str) -> dict[str, WrittenRow]:
    """Return the rows that a filter, one of `FILTERS`, lets through."""
    return {id_: row for id_, row in rows.items() if row.number in FILTERS[filter]}


def drained(rig: Rig, sizes: Sequence[int], **query: Any) -> list[tuple[str, float]]:
    """Return all matches of a query, pulled in pages of the given sizes over and over until one is empty."""
    uuid, page = rig.start(**query, topK=sizes[0])
    found, number = [*page], 0
    while page:
        number += 1
        page = rig.fetch_next(uuid, sizes[number % len(sizes)])
        found += page
    rig.engine.stop(uuid)
    return found
