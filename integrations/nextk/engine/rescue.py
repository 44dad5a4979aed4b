"""Copy the whole records of a damaged file to a new index."""

import contextlib
import sqlite3
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from nextk.engine import checksums, formats, stored
from nextk.engine.check import CheckedFile
from nextk.engine.file import connect
from nextk.engine.journal import has_writes, path_beside
from nextk.engine.publish import partial_file, publish
from nextk.errors import ClientError

_BATCH = 500  # records


def rescue(damaged: CheckedFile, path: Path, on_progress: Callable[[int], None] = lambda _: None) -> int:
    """Make a new index that has the schema, the id and the namespaces of a damaged one, and its whole records.

    It is made under another name beside its path, and takes the path when it is whole.

    The records keep their order and their range cursors. A namespace whose name is lost gets a name that says so.

    Args:
        damaged: The damaged file.
        path: The path of the new file.
        on_progress: A function that is called with the number of records that have been looked at since it was called
            last.

    Returns:
        The number of records that were copied.

    Raises:
        ClientError: There is something at the path, or the schema of the damaged index cannot be read.
    """
    require_free(path)
    schema = damaged.schema()
    with partial_file(path, "rescue") as partial:
        with contextlib.closing(connect(partial, lambda: schema)) as file, file.transaction():
            copied = _copy(damaged, file.connection, on_progress)
        if has_writes(path_beside(partial)):
            message = f"cannot complete {path}: its journal could not be folded in; free some space, then try again"
            raise ClientError(message)
        try:
            publish(partial, path)
        except FileExistsError as error:
            raise ClientError(_taken(path)) from error
    return copied


def require_free(path: Path) -> None:
    """Raise `ClientError` if there is something at a path."""
    if path.exists() or path.is_symlink():
        raise ClientError(_taken(path))


def _taken(path: Path) -> str:
    return f"there is something at {path} already: name a file that does not exist"


def _copy(damaged: CheckedFile, new: sqlite3.Connection, on_progress: Callable[[int], None]) -> int:
    """Copy everything within the transaction of the caller. Return the number of records."""
    copied, records, next_numbers = 0, damaged.whole_records(on_progress), dict[int, int]()
    while batch := list(islice(records, _BATCH)):
        for row in batch:
            copied += _insert(new, row)
            next_numbers[row[1]] = max(next_numbers.get(row[1], 1), row[2] + 1)
    _copy_namespaces(damaged, new, next_numbers)
    new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'records'", (damaged.last_row(),))
    if id_ := damaged.id():
        new.execute("UPDATE properties SET value = ? WHERE name = 'id'", (id_,))
    formats.seal(new)
    return copied


def _insert(new: sqlite3.Connection, row: stored.StoredRow) -> int:
    """Copy one record, as it is. Return 0 if the new index has a record of the same id already, else 1."""
    values = [value.decode() if isinstance(value, bytearray) else value for value in row[:10]]
    inserted = new.execute(
        "INSERT OR IGNORE INTO records"
        " (row, namespace, number, checksum, id, vector, sparse_indices, sparse_values, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values[:9],
    ).rowcount
    if inserted:
        new.execute("INSERT INTO metadata VALUES (?, ?)", (values[0], values[9]))
    return inserted


def _copy_namespaces(damaged: CheckedFile, new: sqlite3.Connection, next_numbers: dict[int, int]) -> None:
    """Copy the namespaces, and make one for each key that only records name."""
    known = damaged.namespaces()
    default = {1: ("", 1)}
    lost = {key: (f"rescued-{key}", 1) for key in next_numbers if key not in known}
    new.execute("DELETE FROM namespaces")
    for key, (name, number) in sorted({**lost, **default, **known}.items()):
        next_number = max(number, next_numbers.get(key, 1))
        new.execute(
            "INSERT OR IGNORE INTO namespaces (key, name, next_number, checksum) VALUES (?, ?, ?, ?)",
            (key, name, next_number, checksums.of_values(key, name, next_number)),
        )
