"""Codes in the form in which they are kept in the file of an index, and their way back to the slots of a namespace.

To train a codebook and code 100,000 vectors of 384 dimensions takes 2.1 s of CPU time, in which they are stored as
well, and to take them back 0.15 s, most of it to compare the vectors with their checksums and to arrange the codes for
faiss. For a million vectors of 128 dimensions it is 4.3 s against 0.9. A file grows by 5 to 7 %. So they are kept.

What is kept are plain numbers, the codebook and four bits for every two numbers of a vector. faiss has a format of its
own, but does not expect it from strangers: a file that somebody else has made could bring down the process that reads
it. Plain numbers can only lead a search to the wrong candidates. They are also the same for every version of faiss.

Every code stands beside the row of its record and the checksum of its vector, because slots are numbered anew at every
opening, and because records may be written by whoever knows nothing of codes. A code is taken only for the very vector
of which it was made. All other vectors are coded anew, so codes that are kept may be incomplete, or old.
"""

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.pool.codes import VectorCodes
from nextk.engine.schema import Similarity

_PART_BYTES = 2**20  # of the codes that are stored at once: so few that nobody waits for it
_BLOCK = 32  # slots that faiss arranges together
_BESIDE = 12  # bytes beside each code


class Codebook(NamedTuple):
    """A codebook, and the rows that it is of.

    Attributes:
        kind: The kind of its codes, and the similarity for which they are made.
        centroids: Its entries, float32 (n,).
        trained: The number of slots when it was trained.
        written: The number of slots that were written from then until it was kept.
        rows: The number of rows that the namespace had when it was kept.
    """

    kind: str
    centroids: NDArray[np.float32]
    trained: int
    written: int
    rows: int


class CodedRows(NamedTuple):
    """Rows with their codes.

    Attributes:
        rows: The rows, int64 (n,).
        checksums: The checksum of the vector of each row, uint32 (n,).
        codes: The code of each row, uint8 (n, bytes).
    """

    rows: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    codes: NDArray[np.uint8]


class Restored(NamedTuple):
    """Codes that were kept.

    Attributes:
        codes: The codes of the slots up to the last one that was kept.
        found: The number of slots whose codes were kept. The others were coded anew.
        written: The number of rows that were written since the codebook was trained.
    """

    codes: VectorCodes
    found: int
    written: int


def coded_rows(codes: VectorCodes, snapshot: Snapshot) -> Iterator[CodedRows]:
    """Yield the visible rows of a snapshot that have codes, about a megabyte at once.

    Args:
        codes: The codes.
        snapshot: A snapshot of the layout of the slots that have codes.
    """
    visible = snapshot.visible_mask()
    height = max(1, _PART_BYTES // (_BESIDE + codes.code_size) // _BLOCK) * _BLOCK
    count = min(len(codes), len(snapshot.rows))
    for first in range(0, count, height):
        slots = first + np.flatnonzero(visible[first : min(first + height, count)])
        if len(slots):
            flat = codes.flat(first, min(first + height, count))[slots - first]
            yield CodedRows(snapshot.rows[slots], _checksums(snapshot, slots), flat)


def restored(codebook: Codebook, kept: CodedRows, snapshot: Snapshot, similarity: Similarity) -> Restored | None:
    """Return the codes of the slots of a snapshot, as far as they were kept; `None` if they are of another kind.

    Args:
        codebook: The codebook.
        kept: All rows that were kept with their codes.
        snapshot: The slots.
        similarity: The function that scores two vectors.
    """
    assert snapshot.matrix is not None
    codes = VectorCodes(snapshot.matrix.blocks[0].shape[1], similarity)
    if codebook.kind != codes.kind or not codes.fits(codebook.centroids, kept.codes):
        return None
    places = _places(kept, snapshot)
    missing = np.count_nonzero(places[snapshot.slots()] < 0)
    uncoded_then = max(0, codebook.rows - len(kept.rows))
    found = np.flatnonzero(places >= 0)
    end = int(found[-1]) + 1 if len(found) else 0
    codes.restore(codebook.centroids, snapshot, kept.codes, places[:end])
    return Restored(codes, len(found), codebook.written + max(0, int(missing) - uncoded_then))


def _places(kept: CodedRows, snapshot: Snapshot) -> NDArray[np.int64]:
    """Return where the code of each slot is kept, int64 (slots,); -1 if it is not, or that of another vector."""
    places = np.full(len(snapshot.rows), -1, np.int64)
    if len(kept.rows):
        order = np.argsort(kept.rows, kind="stable")
        nearest = order[np.searchsorted(kept.rows, snapshot.rows, sorter=order).clip(max=len(order) - 1)]
        slots = np.flatnonzero(kept.rows[nearest] == snapshot.rows)
        slots = slots[kept.checksums[nearest[slots]] == _checksums(snapshot, slots)]
        places[slots] = nearest[slots]
    return places


def _checksums(snapshot: Snapshot, slots: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the checksums of the vectors of slots, int64 (n,), ascending."""
    assert snapshot.matrix is not None
    found: list[int] = []
    for part, vectors in snapshot.matrix.parts():
        first, end = np.searchsorted(slots, [part.start, part.stop]).tolist()
        found += [crc32(vectors[slot - part.start]) for slot in slots[first:end].tolist()]
    return np.array(found, np.uint32)
