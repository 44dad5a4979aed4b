"""Read the records in the file of an index, and notice those that are damaged.

The checksum of a record is checked whenever the record is read from the file for an answer or for an update. It covers
all of the record, whichever fields are asked for. A damaged record is refused where it is named by its id, and left out
elsewhere, and the log names it once. The vectors that are loaded into memory are an exception: they only have to be
usable.

Two indexes lead to the records: one by their ids and one by their numbers. What they say is compared with the records
that they lead to.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from nextk.bodies import MAX_ID_BYTES, Delete, Include
from nextk.engine import checksums, damage, file, stored
from nextk.engine.filter import sql as filters
from nextk.engine.filter.columns import Cells, Field
from nextk.engine.filter.reading import read_cells
from nextk.engine.filter.syntax import parse
from nextk.engine.interruption import interruptible
from nextk.engine.record_cache import RecordCache
from nextk.engine.reply_budget import READ_AT_ONCE, spend
from nextk.engine.schema import Schema
from nextk.engine.statements import chunks, over_rows, placeholders
from nextk.engine.stored import StoredRecord, StoredRow
from nextk.engine.values import Match, VectorRows

_LAST = "\U0010ffff" * (MAX_ID_BYTES // 4 + 1)  # sorts behind every id that could follow a prefix

# The index of the numbers is compared with the table itself, from which a record is read by its row.
_VECTORS = """
SELECT numbered.row, held.vector, held.sparse_indices, held.sparse_values,
    held.namespace = numbered.namespace AND held.number = numbered.number AND held.id = numbered.id
FROM records AS numbered INDEXED BY numbers LEFT JOIN records AS held ON held.row = numbered.row
WHERE numbered.namespace = ? ORDER BY numbered.number
"""

_NOT_FOUND = """
SELECT count(*) FROM records AS numbered INDEXED BY numbers WHERE namespace = ? AND NOT EXISTS (
    SELECT 1 FROM records AS named INDEXED BY sqlite_autoindex_records_1
    WHERE named.namespace = numbered.namespace AND named.id = numbered.id AND named.row = numbered.row
)
"""
_LOADED_AT_ONCE = 5_000  # records
_NUMBERS_DISAGREE = "its index of the numbers leads to other records"
_IDS_DISAGREE = "its index of the ids leads to other records"
_COUNTS = "SELECT namespace, count(*) FROM records INDEXED BY {index} GROUP BY namespace"


class RecordReader:
    """The half of the storage that reads records.

    Args:
        connection: The connection to the file.

    Attributes:
        damaged: The log of the damaged records.
        record_cache: The records in memory.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = checksums.decode
        filters.register(connection)
        self._connection = connection
        self._compared: dict[int, bool] = {}  # whether the two indexes agree, by the key of the namespace
        self.damaged = damage.DamageLog(connection)
        self.record_cache = RecordCache()

    def read(self, key: int, id: str) -> StoredRecord | None:
        """Read all columns of one record; return `None` if it does not exist.

        Raises:
            RefusedError: The record is damaged.
        """
        found = dict(self._whole_by_id(key, [id]))
        return stored.record_of(found[id]) if found else None

    def fetch(self, key: int, ids: Sequence[str], include: Include) -> dict[str, Match]:
        """Read records for an answer, by their ids. Ids that do not exist are left out.

        Raises:
            RefusedError: Some of the records are damaged; the message names them. Or the reply is too large.
        """
        times, found = Counter(ids), {}
        for id_, row in self._whole_by_id(key, ids):
            found[id_] = match = stored.match_of(row, include)
            spend([match], times[id_])
        return found

    def vectors(self, key: int, schema: Schema) -> Iterator[VectorRows]:
        """Yield the rows of a namespace with their vectors, some thousand at a time, in the order of their numbers.

        A record is left out, and logged, if its vectors cannot be those of a record of this index. Its checksum is not
        checked, because that would read its text and its metadata.

        Args:
            key: The key of the namespace.
            schema: The schema of the index.
        """
        selected = self._connection.execute(_VECTORS, (key,))
        while found := selected.fetchmany(_LOADED_AT_ONCE):
            held = [row for row in found if row[4]]
            if len(held) < len(found):
                self.damaged.add_structure(_NUMBERS_DISAGREE)
            batch, unusable = stored.usable_vectors(held, schema)
            for row in unusable:
                self.damaged.add(row)
            yield batch

    def count(self, key: int) -> int:
        """Return the number of records of a namespace."""
        statement = "SELECT count(*) FROM records INDEXED BY numbers WHERE namespace = ?"
        return file.scalar(self._connection.execute(statement, (key,)))

    def counts(self) -> dict[int, int]:
        """Return the number of records of each namespace by its key; one without records is left out."""
        return dict(self._connection.execute(_COUNTS.format(index="numbers")))

    def compare_indexes(self) -> None:
        """Log whether the two indexes and the table hold different numbers of records, or some of no namespace.

        That is how records show that have vanished from one of them. It reads no record, only the indexes.
        """
        by_number, by_id = (
            dict(self._connection.execute(_COUNTS.format(index=index)))
            for index in ("numbers", "sqlite_autoindex_records_1")
        )
        count = file.scalar(self._connection.execute("SELECT count(*) FROM records NOT INDEXED"))
        keys = {key for (key,) in self._connection.execute("SELECT key FROM namespaces")}
        if by_number != by_id or sum(by_id.values()) != count or not by_id.keys() <= keys:
            reason = f"its table holds {count}, and its indexes {sum(by_number.values())} and {sum(by_id.values())}"
            self.damaged.add_structure(reason)

    def rows_after(self, key: int, number: int, limit: int) -> list[tuple[int, int]]:
        """Return the numbers and the rows of the next records of a namespace, ascending.

        Args:
            key: The key of the namespace.
            number: The number after which to begin.
            limit: The largest number of records.
        """
        statement = "SELECT number, row FROM records WHERE namespace = ? AND number > ? ORDER BY number LIMIT ?"
        return self._connection.execute(statement, (key, number, limit)).fetchall()

    def rows_passing(self, rows: Sequence[int], filter: str, check: Callable[[], None]) -> list[int]:
        """Return those of some rows whose metadata passes a filter, in any order.

        Metadata that are lost, or no JSON, pass no filter, and the log names their record. Whether other metadata match
        the checksum of their record is not checked. Rows that do not exist are left out.

        Args:
            rows: The rows.
            filter: The filter.
            check: Called every now and then. Whatever it raises ends this.
        """
        passes, values = filters.to_column(parse(filter), stored.METADATA)
        statement = f"SELECT row, {passes} FROM metadata WHERE TRUE"  # noqa: S608
        damaged: list[int] = []
        with interruptible(self._connection, check):
            found = list(over_rows(self._connection, statement, values, rows, damaged.append, "row"))
            missing = list(set(rows).difference(damaged, (row for row, _ in found)))
            held = over_rows(self._connection, "SELECT row FROM records WHERE TRUE", (), missing, damaged.append, "row")
            damaged += [row for (row,) in held]
        for row in damaged:
            self.damaged.add(row)
        return [row for row, passes in found if passes]

    def cells(self, fields: Sequence[Field], rows: Sequence[int]) -> list[Cells]:
        """Read the values of metadata fields, as a filter needs them.

        Metadata that are lost, or no JSON, have no fields, and the log names their record. Whether other metadata match
        the checksum of their record is not checked.

        Args:
            fields: The fields.
            rows: The rows of the records, all of which exist.

        Returns:
            The values of each field, in any order of the rows.
        """
        return read_cells(self._connection, fields, rows, self.damaged.add)

    def rows_selected(self, key: int, selection: Delete) -> list[int]:
        """Return the rows that a delete request selects by ids or by a prefix of them.

        Raises:
            sqlite3.DatabaseError: The index of the ids is damaged, so that another record would be deleted.
        """
        selected = (
            self._rows_with_prefix(key, selection.prefix or "")
            if selection.ids is None
            else self._rows_of_ids(key, selection.ids)
        )
        self._numbered(selected)
        return list(selected)

    def load_prefix(self, key: int, prefix: str, include: Include, limit: int) -> list[Match]:
        """Read records for an answer: those whose ids start with a prefix, in the order of the ids.

        Args:
            key: The key of the namespace.
            prefix: The prefix.
            include: The fields to read besides the id.
            limit: The largest number of records.
        """
        rows = self._rows_with_prefix(key, prefix, limit=limit)
        matches = []
        for part in chunks(list(rows), READ_AT_ONCE):
            found = self.load(key, part, include)
            for row in part:
                if row in found and found[row].id == rows[row]:
                    spend([found[row]])
                    matches.append(found[row])
                elif row in found:  # the index leads elsewhere
                    self.damaged.add(row)
        return matches

    def _rows_of_ids(self, key: int, ids: Sequence[str]) -> dict[int, str]:
        """Return the rows of the given ids with these ids; ids that do not exist are skipped.

        Raises:
            sqlite3.DatabaseError: The index of the ids is damaged, so that ids that are not found may exist.
        """
        distinct = list(dict.fromkeys(ids))
        found = dict(
            pair
            for chunk in chunks(distinct)
            for pair in self._connection.execute(
                f"SELECT row, id FROM records WHERE namespace = ? AND id IN ({placeholders(chunk)})",  # noqa: S608
                (key, *chunk),
            )
        )
        if len(found) < len(distinct) and not self._finds_ids(key):
            raise damage.malformed(_IDS_DISAGREE)
        return found

    def _rows_with_prefix(self, key: int, prefix: str, *, limit: int = -1) -> dict[int, str]:
        """Return rows and ids of the records whose ids start with a prefix, in the order of the ids."""
        self._finds_ids(key)
        return dict(
            self._connection.execute(
                "SELECT row, id FROM records WHERE namespace = ? AND id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                (key, prefix, prefix + _LAST, limit),
            )
        )

    def _finds_ids(self, key: int) -> bool:
        """Return whether the index of the ids finds every record that the index of the numbers has.

        They are compared when an id is not found for the first time, and the log says if they disagree. SQLite keeps
        them equal from then on.
        """
        if key not in self._compared:
            self._compared[key] = not file.scalar(self._connection.execute(_NOT_FOUND, (key,)))
        if not self._compared[key]:
            self.damaged.add_structure(_IDS_DISAGREE)
        return self._compared[key]

    def _numbered(self, ids: Mapping[int, str]) -> dict[str, tuple[int, int]]:
        """Return row and number by id, for rows and ids that come from the index of the ids.

        Raises:
            sqlite3.DatabaseError: The records themselves have other ids, so SQLite could not write to them properly.
        """
        statement = "SELECT row, id, number FROM records NOT INDEXED WHERE TRUE"
        rows = self._run(statement, (), ids)
        found = {id_: (row, number) for row, id_, number in rows if isinstance(number, int)}
        if found.keys() != set(ids.values()):
            raise damage.malformed(_IDS_DISAGREE)
        return found

    def range(self, key: int, number: int, prefix: str, include: Include, limit: int) -> tuple[list[Match], int | None]:
        """Read the next records of a namespace in insertion order. Damaged ones are left out, and logged.

        Args:
            key: The key of the namespace.
            number: The number after which to begin.
            prefix: The prefix that the ids have.
            include: The fields to read besides the id.
            limit: The largest number of records.

        Returns:
            The records, and the number after which the next ones begin, `None` if there are none.
        """
        # The plus keeps SQLite from the index of the ids, by which it would read and sort all of them for every page.
        numbered = self._connection.execute(
            "SELECT number, row FROM records WHERE namespace = ? AND number > ? AND +id BETWEEN ? AND ?"
            " ORDER BY number LIMIT ?",
            (key, number, prefix, prefix + _LAST, limit + 1),
        ).fetchall()
        page = numbered[:limit]
        numbers = {row: its_number for its_number, row in page}
        found = {}
        for row in self._whole(key, numbers):
            if row[2] != numbers[row[0]]:
                self.damaged.add_structure(_NUMBERS_DISAGREE)
            else:
                found[row[0]] = match = stored.match_of(row, include)
                spend([match])
        return [found[row] for row in numbers if row in found], page[-1][0] if len(numbered) > limit else None

    def random(self, key: int, include: Include) -> Match | None:
        """Read a random record for an answer, or return `None` if there is none, or none that is whole.

        Args:
            key: The key of the namespace.
            include: The fields to read besides the id.
        """
        count = self.count(key)
        if not count:
            return None
        first = random.randrange(count)  # noqa: S311 - no secret depends on it
        statement = "SELECT row FROM records WHERE namespace = ? ORDER BY number LIMIT 1 OFFSET ?"
        for position in (*range(first, count), *range(first)):
            rows = [row for (row,) in self._connection.execute(statement, (key, position))]
            if found := list(self.load(key, rows, include).values()):
                return found[0]
        return None

    def load(
        self, key: int, rows: Iterable[int], include: Include, filter: str = "", changes: int = -1
    ) -> dict[int, Match]:
        """Read records for an answer, from memory if they are there. Damaged ones are left out, and logged.

        Args:
            key: The key of the namespace.
            rows: The rows to read. Rows that do not exist any more are left out of the result.
            include: The fields to read besides the id. Vectors are always read from the file.
            filter: Rows whose metadata does not pass this filter now are left out as well.
            changes: The changes that were counted when all of the rows passed the filter; see `RecordCache`. It is
                evaluated again only for those that may have changed since then. Default -1, for all of them.

        Returns:
            The records by row, as new matches; their score is `None`.
        """
        cache = self.record_cache
        condition = "" if changes == cache.changes else filter
        if include.include_vectors:
            return {row[0]: stored.match_of(row, include) for row in self._whole(key, rows, condition)}
        found, missing = cache.matches(rows, include, changes if condition else cache.changes)
        if missing:
            for row in self._whole(key, missing, condition):
                id_, metadata, data = stored.texts_of(row)
                cache.add(row[0], id_, metadata, data)
                found[row[0]] = Match(
                    id_,
                    metadata=metadata if include.include_metadata else None,
                    data=data if include.include_data else None,
                )
        return found

    def _whole(self, key: int, rows: Iterable[int], filter: str = "") -> Iterator[StoredRow]:
        """Yield the records of a namespace that are whole and pass a filter now; log those that are damaged."""
        passes, values = filters.to_column(parse(filter), stored.METADATA)
        statement = f"SELECT {stored.COLUMNS}, {passes} FROM {stored.TABLES} WHERE TRUE"  # noqa: S608
        for part in chunks(list(rows), READ_AT_ONCE):
            for row in self._stored_rows(statement, values, part):
                if not stored.is_whole(row) or row[1] != key:
                    self.damaged.add(row[0])
                elif row[-1]:  # it passes
                    yield row

    def _whole_by_id(self, key: int, ids: Sequence[str]) -> Iterator[tuple[str, StoredRow]]:
        """Yield records with their ids, each once. Ids that do not exist are left out.

        Raises:
            RefusedError: Some of the records are damaged; the message names them. It is raised after the others.
        """
        indexed = self._rows_of_ids(key, ids)
        damaged = dict(indexed)
        for part in chunks(list(indexed), READ_AT_ONCE):
            for found in self._stored_rows(stored.RECORDS, (), part):
                if stored.is_whole(found) and (found[1], found[4].decode()) == (key, indexed[found[0]]):
                    del damaged[found[0]]
                    yield indexed[found[0]], found
        if damaged:
            for row in damaged:
                self.damaged.add(row)
            raise damage.damaged_records_error(list(damaged.values()))

    def _stored_rows(self, statement: str, values: Sequence[object], rows: Iterable[int]) -> list[StoredRow]:
        """Run a statement that reads records; see `_run`."""
        self._connection.text_factory = stored.TEXT_FACTORY
        try:
            return self._run(statement, values, rows)
        finally:
            self._connection.text_factory = checksums.decode

    def _run(self, statement: str, values: Sequence[object], rows: Iterable[int]) -> list[StoredRow]:
        """Run a statement over rows; see `over_rows`. A row at which SQLite fails is left out, and logged."""
        return list(over_rows(self._connection, statement, values, list(rows), self.damaged.add))
