"""Check the whole file of an index, and read what is whole in it, however damaged its structure is.

The file is opened as it is and is not changed. Every record is looked for in three places, the table and the two
indexes, so that a damaged page hides only what stands on it. Then each record is read by its row.
"""

import contextlib
import re
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from nextk.engine import checksums, formats, stored
from nextk.engine.damage import READ_FAILURES, is_structural
from nextk.engine.failures import explain
from nextk.engine.journal import HEADER_SIZE, belongs, format_of, has_writes, path_beside
from nextk.engine.schema import Schema
from nextk.engine.statements import over_rows
from nextk.engine.stored import StoredRow
from nextk.errors import ClientError, IndexLocked

_BATCH = 500  # records
_FAULTS = 20  # faults of the structure that are named

_SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte that is no UTF-8

_BY_NUMBER = "records INDEXED BY numbers WHERE namespace > 0"
_BY_ID = "records INDEXED BY sqlite_autoindex_records_1 WHERE namespace > 0"
_SOURCES = (
    "SELECT row FROM records NOT INDEXED ORDER BY row",
    "SELECT row FROM records NOT INDEXED ORDER BY row DESC",  # beyond a damaged page
    f"SELECT row FROM {_BY_NUMBER}",  # noqa: S608
    f"SELECT row FROM {_BY_ID}",  # noqa: S608
)
_NAME_STATEMENTS = tuple(
    f"SELECT row, namespace, id FROM {source}"  # noqa: S608
    for source in (_BY_NUMBER, _BY_ID, "records NOT INDEXED")
)
"""The statements that name records by the keys of their namespaces and their ids, each from another place."""

_RELATIONS = {
    "{} without a row of metadata": "SELECT count(*) FROM records WHERE row NOT IN (SELECT row FROM metadata)",
    "{} whose row of metadata alone is left": (
        "SELECT count(*) FROM metadata WHERE row NOT IN (SELECT row FROM records NOT INDEXED)"
    ),
    "{} of no namespace": "SELECT count(*) FROM records WHERE namespace NOT IN (SELECT key FROM namespaces)",
    "{} with a number that is still to be given": (
        "SELECT count(*) FROM records JOIN namespaces ON namespace = key WHERE number >= next_number"
    ),
    "{} with the number of another record": (
        "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM records GROUP BY namespace, number)"
    ),
}
"""The ways in which the tables fit together: a complaint, and the statement that counts the records it is about."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The state of a file.

    Attributes:
        whole: The number of records that are whole.
        damaged: The ids of the damaged records by the name of their namespace. A record whose id cannot be read is
            named by its row.
        problems: Sentences about the rest of the file; none if it is as it should be.
    """

    whole: int
    damaged: Mapping[str, Sequence[str]]
    problems: Sequence[str]

    @property
    def lost(self) -> int:
        """The number of damaged records."""
        return sum(map(len, self.damaged.values()))

    @property
    def is_damaged(self) -> bool:
        """Whether anything in the file is damaged."""
        return bool(self.damaged or self.problems)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator["CheckedFile"]:
    """Open the file of an index for reading, as it is.

    Writes that a killed process has left in the write-ahead log belong to the index. They are taken in on a temporary
    copy, so that the file itself stays as it is.

    Raises:
        ClientError: The file is not an index, or has an older format, which has no checksums.
        IndexLocked: Another process holds it.
    """
    if path.is_dir():
        message = f"{path} is a folder: name the file of an index"
        raise ClientError(message)
    with contextlib.ExitStack() as stack:
        try:
            _refuse_held(path)
            connection = stack.enter_context(_reading(path))
            connection.text_factory = checksums.decode
            _require_index(connection, path)
        except READ_FAILURES as error:
            if not is_structural(error):
                raise explain(error, path) from error
        yield CheckedFile(connection)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    journal = path_beside(path)
    with contextlib.ExitStack() as stack:
        options = "mode=ro&immutable=1"
        if has_writes(journal) and belongs(_header(path), journal):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            shutil.copy(journal, folder / "copy-wal")
            path, options = Path(shutil.copy(path, folder / "copy")), "mode=rw"
        connection = stack.enter_context(contextlib.closing(_connect(path, options)))
        # With this SQLite reads a file that was cut short as far as it goes; otherwise it would read none of it.
        connection.execute("PRAGMA writable_schema = ON")
        yield connection


def _header(path: Path) -> bytes:
    with path.open("rb") as file:  # nobody has it open in this process
        return file.read(HEADER_SIZE)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None, timeout=0)


def _refuse_held(path: Path) -> None:
    """Raise `IndexLocked` if another process holds the file."""
    with contextlib.closing(_connect(path, "mode=ro")) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # or this connection would make files of its own
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except READ_FAILURES as error:
            if "locked" in str(error):
                message = f"{path} is held by another process: end it first, then check the file"
                raise IndexLocked(message) from error


def _require_index(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `ClientError` unless the database has the tables of an index, with checksums."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if not {"records", "properties"} <= tables:
        message = f"{path} is not a nextk index"
        raise ClientError(message)
    if "metadata" not in tables:
        message = (
            f"{path} has format 1, which has no checksums. To convert it, open it, as with: nextk info --index {path}"
        )
        raise ClientError(message)


class CheckedFile:
    """A file that may be damaged, open for reading.

    Args:
        connection: The connection to the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows = sorted({row for source in _SOURCES for (row,) in self._select(source)})

    def __len__(self) -> int:
        """Return the number of records, whole or damaged."""
        return len(self._rows)

    def whole_records(self, on_progress: Callable[[int], None] = lambda _: None) -> Iterator[StoredRow]:
        """Yield the records that are whole, in the order of their rows.

        Args:
            on_progress: A function that is called with the number of records that have been looked at since it was
                called last.
        """
        for start in range(0, len(self._rows), _BATCH):
            batch = self._rows[start : start + _BATCH]
            self._connection.text_factory = stored.TEXT_FACTORY
            found = list(over_rows(self._connection, stored.RECORDS, (), batch, lambda _: None))
            self._connection.text_factory = checksums.decode
            yield from filter(stored.is_whole, sorted(found, key=lambda row: row[0]))
            on_progress(len(batch))

    def check(self, on_progress: Callable[[int], None] = lambda _: None) -> CheckResult:
        """Check everything in the file: its structure, its checksums, and how its tables fit together.

        Args:
            on_progress: A function that is called with the number of records that have been checked since it was
                called last.
        """
        damaged = set(self._rows) - {row[0] for row in self.whole_records(on_progress)}
        names = self._names(damaged)
        whole = {(row[1], row[4].decode()) for row in self.whole_records()} if damaged else set()
        lost = [name for name in names if name not in whole]  # the others have a whole record, and a damaged index
        problems = [*self._structure(), *self._relations()]
        return CheckResult(len(self) - len(damaged), self._by_namespace(lost), problems)

    def schema(self) -> Schema:
        """Return the schema of the index.

        Raises:
            ClientError: It cannot be read.
        """
        found = dict(self._select("SELECT name, value FROM properties"))
        try:
            return Schema.from_dict(orjson.loads(found["schema"]))
        except (ValueError, KeyError, TypeError) as error:
            message = (
                "the schema of the index is damaged beyond reading: restore the file from a backup or build it anew"
            )
            raise ClientError(message) from error

    def id(self) -> str:
        """Return the id of the index, or an empty text if it cannot be read."""
        return str(dict(self._select("SELECT name, value FROM properties")).get("id", ""))

    def namespaces(self) -> dict[int, tuple[str, int]]:
        """Return name and next number of each namespace by its key, as far as they can be read."""
        return {
            key: (name, next_number)
            for key, name, next_number in self._select("SELECT key, name, next_number FROM namespaces")
            if isinstance(name, str) and not _SURROGATE.search(name) and isinstance(next_number, int)
        }

    def last_row(self) -> int:
        """Return the greatest row that was ever given, as far as it can be read."""
        given = [seq for (seq,) in self._select("SELECT seq FROM sqlite_sequence WHERE name = 'records'")]
        return max([seq for seq in given if isinstance(seq, int)] + self._rows[-1:], default=0)

    def _structure(self) -> Iterator[str]:
        """Yield the faults in the structure of the file, and the checksums that do not match beside the records'."""
        header = [value for name in ("application_id", "user_version") for (value,) in self._select(f"PRAGMA {name}")]
        if [*header[:1], *map(format_of, header[1:])] != [formats.APPLICATION_ID, formats.FORMAT]:
            yield "the header names another application or format"
        try:
            formats.require_sealed(self._connection)
        except READ_FAILURES as error:
            complaint = str(error).removeprefix("malformed: ")
            yield f"{complaint}. A rescued file takes it as it stands: look at it by `nextk info`"
        try:
            for (fault,) in self._connection.execute(f"PRAGMA integrity_check({_FAULTS})"):
                if fault != "ok":
                    yield from str(fault).splitlines()
        except READ_FAILURES as error:
            yield str(error)

    def _relations(self) -> Iterator[str]:
        for complaint, statement in _RELATIONS.items():
            for (count,) in self._select(statement):
                if count:
                    yield complaint.format(f"{count:,} records" if count > 1 else "1 record")

    def _names(self, rows: Set[int]) -> list[tuple[int, str]]:
        """Return the key of the namespace and the id for each of some rows, in the order of the rows."""
        names: dict[int, tuple[int, str]] = {}
        for source in _NAME_STATEMENTS if rows else ():
            for row, key, id_ in self._select(source):
                if row in rows:
                    names.setdefault(row, (key, str(id_)))
        return [names.get(row, (0, f"row {row}")) for row in sorted(rows)]

    def _by_namespace(self, names: Sequence[tuple[int, str]]) -> dict[str, list[str]]:
        namespaces = self.namespaces()
        found: dict[str, list[str]] = defaultdict(list)
        for key, id_ in names:
            found[namespaces[key][0] if key in namespaces else f"unknown-{key}"].append(id_)
        return dict(found)

    def _select(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield what a statement selects, up to the first failure of SQLite."""
        with contextlib.suppress(*READ_FAILURES):
            yield from self._connection.execute(statement)
