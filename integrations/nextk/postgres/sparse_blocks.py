"""Blocks of sparse vectors: the entries of one dimension in consecutive rows, as bytes that can be appended to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from nextk.engine.postings import Entries, Segment
from nextk.engine.values import SparseArrays

__all__ = ["BLOCK_ROWS", "DimensionEntries", "added_up", "blocks_of", "without_rows"]

BLOCK_ROWS: Final = 2_048
"""The rows of one block: block 0 has the rows from 0 on."""

_ENTRY: Final = np.dtype([("row", "<u2"), ("value", "<f4")])  # the row is counted from the first one of its block
_MAX_SPAN = 16  # rows for each entry, up to which the sums of all rows between the first and the last are held


@dataclass(frozen=True, slots=True)
class DimensionEntries:
    """All entries of one dimension.

    Attributes:
        rows: The rows, distinct and in any order; int64 (n,).
        values: Their values; float32 (n,).
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, blocks: Sequence[int], contents: Sequence[bytes]) -> Self:
        """Return the entries of blocks, given by their numbers and their bytes."""
        entries = np.frombuffer(b"".join(contents), _ENTRY)
        sizes = [len(content) // _ENTRY.itemsize for content in contents]
        return cls(np.repeat(np.array(blocks, np.int64) * BLOCK_ROWS, sizes) + entries["row"], entries["value"])


def blocks_of(rows: NDArray[np.int64], vectors: Sequence[SparseArrays]) -> tuple[NDArray[np.int64], list[bytes]]:
    """Divide sparse vectors into blocks. Entries of the same row and dimension are added up in their order.

    Args:
        rows: The row of each vector, which are distinct; int64 (n,).
        vectors: The vectors.

    Returns:
        The dimension and the number of each block, int64 (blocks, 2), and its bytes.
    """
    order = np.argsort(rows)
    ordered = [vectors[position] for position in order.tolist()]
    sizes = [len(vector.indices) for vector in ordered]
    if not any(sizes):
        return np.empty((0, 2), np.int64), []
    indices, values = (np.concatenate(arrays) for arrays in zip(*ordered, strict=True))
    segment = Segment.build(Entries(indices, np.repeat(np.arange(len(rows), dtype=np.int32), sizes), values))
    blocks, within = np.divmod(rows[order][segment.slots], BLOCK_ROWS)
    entries = np.empty(len(within), _ENTRY)
    entries["row"], entries["value"] = within, segment.values
    return _cut(np.column_stack([segment.entries().dimensions, blocks]).astype(np.int64), entries)


def _cut(keys: NDArray[np.int64], entries: NDArray[Any]) -> tuple[NDArray[np.int64], list[bytes]]:
    """Return the distinct ones of keys, of which equal ones are neighbours, and the bytes of the entries of each."""
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
    content = entries.tobytes()
    ends = (np.append(starts[1:], len(keys)) * _ENTRY.itemsize).tolist()
    pairs = zip((starts * _ENTRY.itemsize).tolist(), ends, strict=True)
    return keys[starts], [content[start:end] for start, end in pairs]


def without_rows(block: int, content: bytes, rows: NDArray[np.int64]) -> bytes:
    """Return the bytes of a block without the entries of some rows.

    Args:
        block: The number of the block.
        content: Its bytes.
        rows: The rows; int64 (n,).
    """
    entries = np.frombuffer(content, _ENTRY)
    return entries[~np.isin(entries["row"].astype(np.int64) + block * BLOCK_ROWS, rows)].tobytes()


def added_up(
    parts: Sequence[DimensionEntries], weights: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Add up the weighted values of each row, in float32 and in the order of the dimensions.

    Args:
        parts: The entries of each dimension.
        weights: The weight of each dimension; float32 (dimensions,).

    Returns:
        The rows that have any of the dimensions, int64 (m,), ascending; and their sums, float32 (m,).
    """
    every = np.concatenate([part.rows for part in parts]) if parts else np.empty(0, np.int64)
    if not len(every):
        return every, np.empty(0, np.float32)
    first, last = int(every.min()), int(every.max())
    if last - first < _MAX_SPAN * len(every):
        rows, positions = np.arange(first, last + 1), every - first
    else:
        rows, positions = np.unique(every, return_inverse=True)
    total, shared = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.bool_)
    start = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for part, weight in zip(parts, weights, strict=True):
            own = positions[start : start + len(part.rows)]
            total[own] += weight * part.values
            shared[own] = True
            start += len(part.rows)
    return rows[shared], np.nan_to_num(total[shared])  # a reply cannot express infinity
