"""Records in memory: those that were written, or were read and are whole, so that they need not be read from the file.

A record in the cache is the record as it is now: whoever changes a row in the file forgets it here first, so that it is
read anew even if the change fails or is interrupted, and adds it once the change is durable. Its vectors are not kept.

Changes are counted, and a record knows how many there were when it was added. Since it would have been forgotten, it
has not changed from then on.

Nothing here takes a lock: the engine serialises its calls.
"""

import sys
from collections.abc import Iterable
from typing import TypeAlias

from nextk.bodies import Include
from nextk.engine.values import Match

RECORD_CACHE_BYTES = 256 * 1024 * 1024
"""The memory that the records of a cache may take by default."""

_OVERHEAD = 280  # bytes that a record takes besides its texts: its numbers, its tuple, and its part of the dict
_FREED_PART = 8  # one such part of a full cache is freed at once, since a dict searches for its oldest key

_CachedRecord: TypeAlias = tuple[str, str | None, str | None, int, int]
"""The id, the metadata as JSON text, the text, the changes before it was added, and the bytes that it takes in memory.

It is a bare tuple because the garbage collector soon stops to look at those, however many there are.
"""


class RecordCache:
    """The records in memory by their row. If there is no room for another one, those that were added first are removed.

    Attributes:
        max_bytes: The memory that the records may take. With 0, none are kept.
        changes: How often rows were forgotten so far.
    """

    def __init__(self) -> None:
        self.max_bytes = RECORD_CACHE_BYTES
        self.changes = 0
        self._records: dict[int, _CachedRecord] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._records)

    def matches(self, rows: Iterable[int], include: Include, changes: int) -> tuple[dict[int, Match], list[int]]:
        """Return the records of rows for an answer.

        Args:
            rows: The rows.
            include: The fields that the matches have besides the id. Vectors are left out.
            changes: A former value of the attribute `changes`, for records that have not changed since then.

        Returns:
            New matches by row, and the rows whose records are not in memory, or may have changed since then.
        """
        found: dict[int, Match] = {}
        missing: list[int] = []
        with_metadata, with_data = include.include_metadata, include.include_data
        held = self._records.get
        for row in rows:
            record = held(row)
            if record is None or record[3] > changes:
                missing.append(row)
            else:
                id_, metadata, data, _, _ = record
                found[row] = Match(
                    id_, None, None, None, metadata if with_metadata else None, data if with_data else None
                )
        return found, missing

    def add(self, row: int, id: str, metadata: str | None, data: str | None) -> None:
        """Add the record of a row, unless it alone would take more than the whole memory.

        Args:
            row: The row. A record of it that is in memory is replaced.
            id: The id of the record.
            metadata: The metadata as JSON text, or `None`.
            data: The text of the record, or `None`.
        """
        if row in self._records:
            self._remove([row])
        size = _OVERHEAD + _size_of(id) + _size_of(metadata) + _size_of(data)
        if size > self.max_bytes:
            return
        if self._size + size > self.max_bytes:
            self._free(max(size, self.max_bytes // _FREED_PART))
        self._records[row] = id, metadata, data, self.changes, size
        self._size += size

    def forget(self, rows: Iterable[int]) -> None:
        """Remove the records of rows that are about to change. Rows that are not in memory are skipped."""
        if changing := list(rows):
            self.changes += 1
            self._remove(changing)

    def clear(self) -> None:
        """Remove all records."""
        self.changes += 1
        self._records.clear()
        self._size = 0

    def _free(self, size: int) -> None:
        """Remove the oldest records, until so many bytes are free."""
        to_free = self._size + size - self.max_bytes
        oldest = []
        for row, record in self._records.items():
            if to_free <= 0:
                break
            oldest.append(row)
            to_free -= record[-1]
        self._remove(oldest)

    def _remove(self, rows: Iterable[int]) -> None:
        for row in rows:
            record = self._records.pop(row, None)
            if record is not None:
                self._size -= record[-1]


def _size_of(text: str | None) -> int:
    """Return the bytes that a text takes in memory, with the copy in UTF-8 that Python keeps of it once it is read."""
    if text is None:
        return 0
    return sys.getsizeof(text) + (0 if text.isascii() else len(text.encode()))
