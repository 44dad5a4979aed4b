"""Find the records that pass a filter, which SQLite evaluates part by part, while others may write."""

from collections.abc import Callable, Sequence

from nextk.engine.reader import RecordReader
from nextk.engine.statements import chunks
from nextk.engine.storage import Storage

__all__ = ["PassingRows", "filtered"]

_ROWS_AT_ONCE = 500  # of which SQLite evaluates a filter at once, for whose time an open query may have to wait


def filtered(
    reader: RecordReader, filter: str, rows: Sequence[int], check: Callable[[], None]
) -> Callable[[], tuple[list[int]] | None]:
    """Return a function that looks at the next ones of some rows, as `nextk.engine.parts.in_parts` needs it.

    Its result are those rows that passed the filter when it looked at them, without those that did not exist any more.
    Whoever calls it holds the lock of the engine.

    Args:
        reader: The storage.
        filter: The filter.
        rows: The rows.
        check: Called every now and then. Whatever it raises ends this.
    """
    parts = chunks(rows, _ROWS_AT_ONCE)
    passing: list[int] = []

    def read_part() -> tuple[list[int]] | None:
        part = next(parts, ())
        passing.extend(reader.rows_passing(part, filter, check))
        return (passing,) if len(part) < _ROWS_AT_ONCE else None

    return read_part


class PassingRows:
    """The rows that pass a filter, out of those that exist when this is made.

    Rows that are written later are never looked at, not even if their numbers begin anew because the namespace was
    reset. So there is an end, however much is written meanwhile.

    Whoever calls anything here holds the lock of the engine.

    Args:
        storage: The storage.
        filter: The filter.
        check: Called every now and then. Whatever it raises ends this.
    """

    def __init__(self, storage: Storage, filter: str, check: Callable[[], None]) -> None:
        self._storage = storage
        self._filter = filter
        self._check = check
        self._last_row = storage.last_row()
        self._changes = storage.record_cache.changes
        self._found: dict[int, tuple[int, list[int]]] = {}  # the last number and what passed, by key

    def read_part(self, key: int) -> list[int] | None:
        """Look at the next rows.

        Args:
            key: The key of the namespace that has the name by now, which may be another one than before.

        Returns:
            `None` if there are further rows to look at, and otherwise those that passed and still pass.
        """
        number, passing = self._found.get(key) or (0, [])
        part = self._storage.rows_after(key, number, _ROWS_AT_ONCE)
        rows = [row for _, row in part if row <= self._last_row]
        passing += self._storage.rows_passing(rows, self._filter, self._check)
        if len(rows) == _ROWS_AT_ONCE:
            self._found[key] = part[-1][0], passing
            return None
        if self._changes != self._storage.record_cache.changes:
            return self._storage.rows_passing(passing, self._filter, self._check)
        return passing
