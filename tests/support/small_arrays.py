"""Engine constants made small, so that a few records already fill several chunks and blocks, and are compacted."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nextk.engine import blocks, columns, parts, ranking, searching


@contextmanager
def small_arrays(block: int = 4) -> Iterator[None]:
    """Return a context manager within which arrays begin small, and are read and sorted a few rows at a time.

    Other threads may come in between any two parts of a filter.

    Args:
        block: The vectors of three numbers that a block holds, and the rows of the first chunk that is sorted.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_COMPACT_FROM", 8)
        patch.setattr(blocks, "BLOCK_BYTES", 12 * block)
        patch.setattr(blocks, "_CHUNK_BYTES", 64 * block)
        patch.setattr(searching, "_FILTER_PART", block)
        patch.setattr(parts, "_HELD", 0.0)
        patch.setattr(ranking, "_SMALLEST_CHUNK", block)
        patch.setattr(ranking, "_FIRST_CHUNK", block)
        yield
