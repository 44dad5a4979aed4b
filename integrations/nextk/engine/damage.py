"""Damage to the file of an index: the words for it, and a log that names each damaged record once."""

import contextlib
import logging
import sqlite3
from collections.abc import Sequence

from nextk.engine import checksums
from nextk.errors import RefusedError

log = logging.getLogger("nextk.engine")

_NAMED = 20  # ids in one message
_NAME_STATEMENTS = (
    """
    SELECT CAST(id AS BLOB), CAST(name AS BLOB) FROM records AS held JOIN namespaces ON namespace = key
    WHERE row = ? AND EXISTS (
        SELECT 1 FROM records AS named INDEXED BY sqlite_autoindex_records_1
        WHERE named.namespace = held.namespace AND named.id = held.id AND named.row = held.row
    )
    """,
    # Another id than in the index is a damaged one. The index of the numbers has the id, too, and is read as a whole.
    """
    SELECT CAST(id AS BLOB), CAST(name AS BLOB) FROM records INDEXED BY numbers JOIN namespaces ON namespace = key
    WHERE row = ?
    """,
)
"""The statements that find the id of a row and the name of its namespace, the quickest first."""

READ_FAILURES = (sqlite3.DatabaseError, UnicodeDecodeError)
"""The errors of sqlite3 about a damaged file; the latter if SQLite's message quotes bytes that are no UTF-8."""


def damaged_records_error(ids: Sequence[str]) -> RefusedError:
    """Return the refusal of a request for damaged records, which names them and says what to do.

    Args:
        ids: The ids of the damaged records, at least one.
    """
    names = ", ".join(map(repr, ids[:_NAMED])) + (f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else "")
    which, them = ("record", "it") if len(ids) == 1 else ("records", "them")
    message = (
        f"Damaged in the file of the index: the {which} {names}. Upsert {them} anew, or delete {them} by id; "
        "`nextk check PATH --rescue NEW` copies all whole records to a new file"
    )
    return RefusedError(message, 500)


def is_structural(error: Exception) -> bool:
    """Return whether an error says that the structure of the file is damaged."""
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error)
    )


def malformed(reason: str) -> sqlite3.DatabaseError:
    """Return an error in the way of SQLite's own about a damaged structure."""
    return sqlite3.DatabaseError(f"malformed: {reason}")


class DamageLog:
    """A log of the damaged records of one file, which names each of them once.

    Args:
        connection: The connection to the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._named: set[int] = set()
        self._reasons: set[str] = set()

    def add(self, row: int) -> None:
        """Log that the record of a row is damaged and left out, unless that was logged before."""
        if row not in self._named:
            self._named.add(row)
            log.error(
                "left out %s of %s, which is damaged: upsert it anew or delete it by its id, or run "
                "`nextk check PATH --rescue NEW`, which copies all whole records to a new file",
                self._name(row),
                self._file(),
            )

    def add_structure(self, reason: str) -> None:
        """Log that records may be missing, because the structure is damaged, unless that was logged before.

        Args:
            reason: The contradiction in the file.
        """
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.error(
                "records of %s may be missing, because %s: restore it from a backup, or run "
                "`nextk check PATH --rescue NEW`, which copies all whole records to a new file",
                self._file(),
                reason,
            )

    def _name(self, row: int) -> str:
        """Return the id and the namespace of a record, as far as they can be read."""
        found = None
        with contextlib.suppress(sqlite3.DatabaseError):
            found = next(
                filter(None, (self._connection.execute(name, (row,)).fetchone() for name in _NAME_STATEMENTS)), None
            )
        if found is None:
            return f"the record of row {row}"
        id_, namespace = map(checksums.decode, found)
        return f"the record {id_!r}" + (f" of the namespace {namespace!r}" if namespace else "")

    def _file(self) -> str:
        (_, _, path), *_ = self._connection.execute("SELECT seq, name, CAST(file AS BLOB) FROM pragma_database_list")
        return checksums.decode(path) or "an index in memory"
