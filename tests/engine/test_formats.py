"""Files of an older format, which are converted when they are opened."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nextk import Index
from nextk.engine import file, formats
from nextk.errors import ClientError
from nextk.types import FetchResult
from tests.support import format_one
from tests.support.bare_engine import Rig
from tests.support.format_one import OldRecord
from tests.support.subprocesses import python

RECORDS = [
    OldRecord("", "a", [1.0, 0.0], {"n": 1}, "first"),
    OldRecord("de", "a", [0.0, 1.0], {"tags": ["x", {"deep": None}]}),
    OldRecord("", "b", [0.5, 0.5]),
    OldRecord("de", "b", [0.25, 0.5], {}, "☃"),
    OldRecord("", "c", [0.0, -1.0], {"n": 3}),
]

KILLED = """
import os, signal, sqlite3, sys
from nextk import Index

class Dying(sqlite3.Connection):
    def execute(self, statement, *values):
        if statement.startswith("ALTER TABLE records DROP"):
            print("all but committed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(statement, *values)

connect = sqlite3.connect
sqlite3.connect = lambda *arguments, **keywords: connect(*arguments, factory=Dying, **keywords)
Index.embedded(sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file of format 1, whose last record was deleted."""
    path = tmp_path / "index"
    format_one.write(path, RECORDS, namespaces=["empty"], last_row=9)
    return path


def layout(path: Path) -> dict[str, list[object]]:
    """Return the columns of every table and of every index."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
        return {
            name: [
                *connection.execute(f"PRAGMA table_xinfo({name})"),
                *connection.execute(f"PRAGMA index_xinfo({name})"),
            ]
            for name in tables
        }


def holds_the_records(index: Index) -> None:
    """Check that an index has the records of the file, and nothing else."""
    assert ["", "de", "empty"] == index.list_namespaces()
    for namespace in ("", "de", "empty"):
        expected = [
            FetchResult(record.id, list(record.vector), record.metadata, record.data)
            for record in RECORDS
            if record.namespace == namespace
        ]
        page = index.range("", 9, True, True, namespace, True)
        assert (expected, "") == (page.vectors, page.next_cursor)


class TestConversion:
    """A file of format 1."""

    def test_everything_is_kept(self, path: Path) -> None:
        """Records, metadata, texts and namespaces are as they were, and so they are at the second opening."""
        for _ in range(2):
            with Index.embedded(path) as index:
                holds_the_records(index)
                assert ["a", "c"] == sorted(match.id for match in index.query([1.0, 0.0], filter="n > 0"))
                assert ["b"] == [match.id for match in index.query([1.0, 0.0], filter="HAS NOT FIELD n")]

    def test_numbers(self, path: Path) -> None:
        """Range cursors count the records of each namespace, and go on from there with the next record."""
        with Index.embedded(path) as index:
            for namespace, last in (("", 3), ("de", 2), ("empty", 0)):
                index.upsert([("new", [1.0, 1.0]), ("newer", [1.0, 1.0])], namespace)
                page = index.range("", last + 1, namespace=namespace)
                assert ("new", str(last + 1)) == (page.vectors[-1].id, page.next_cursor)

    def test_rows_go_on(self, path: Path) -> None:
        """A row that was given before the conversion is not given again, even if its record was deleted."""
        Index.embedded(path).close()
        with closing(sqlite3.connect(path)) as connection:
            assert [(9,)] == connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchall()

    def test_layout(self, path: Path) -> None:
        """A converted file has the tables of one that is created today."""
        Index.embedded(path).close()
        created = path.with_name("created")
        Index.embedded(created, type="dense").close()
        assert layout(created) == layout(path)

    @pytest.mark.parametrize(
        "schema",
        [
            {key: value for key, value in format_one.SCHEMA.items() if key != "fusion_order"},
            {**format_one.SCHEMA, "weighting": "IDF"},
        ],
        ids=["absent field", "further field"],
    )
    def test_the_schema_is_left_alone(self, tmp_path: Path, schema: dict[str, object]) -> None:
        """The conversion keeps the stored properties to the letter, whichever fields they have."""
        path = tmp_path / "other"
        format_one.write(path, RECORDS, schema=schema)
        before = [line for line in format_one.dump(path) if "properties" in line]
        file.connect(path, None).close()
        after = [line for line in format_one.dump(path) if "properties" in line]
        assert before == [line for line in after if "'checksum'" not in line]

    @pytest.mark.parametrize("done", range(len(formats._CONVERSIONS[1]) + 1))
    def test_failure_halfway(self, path: Path, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
        """Wherever a conversion fails, the file is a whole file of format 1, which is converted at the next opening."""
        before = format_one.dump(path)
        with monkeypatch.context() as patch:
            statements = formats._CONVERSIONS[1]
            patch.setattr(formats, "_CONVERSIONS", {1: (*statements[:done], "SELECT 1 FROM nowhere")})
            with pytest.raises(ClientError, match="cannot open an index"):
                Index.embedded(path)
        assert before == format_one.dump(path)
        with Index.embedded(path) as index:
            holds_the_records(index)

    def test_killed_before_the_commit(self, path: Path) -> None:
        """A process that is killed just before the commit leaves a whole file of format 1."""
        before = format_one.dump(path)
        with python(KILLED, path) as process:
            printed, complaints = process.communicate()
        assert ("all but committed\n", "") == (printed, complaints)
        assert before == format_one.dump(path)
        with Index.embedded(path) as index:
            holds_the_records(index)


@pytest.mark.parametrize("version", [0, -1, formats.FORMAT + 1])
def test_unknown_format(path: Path, version: int) -> None:
    """A file of a format that this nextk does not know is refused with its number, and is not changed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(ClientError, match=f"has format {version}[,;]"):
        Index.embedded(path)
    assert before == path.read_bytes()


def test_a_filter_reads_no_vectors() -> None:
    """The values that a filter is evaluated over come from the metadata alone, without the vectors and texts."""
    statements: list[str] = []
    with Rig(dimension=1) as rig:
        rig.upsert({"id": "a", "vector": [1.0], "metadata": {"n": 1}})
        rig.query(vector=[1.0])  # reads the vectors
        connection = rig.engine._storage._connection
        connection.set_trace_callback(statements.append)
        assert [] == rig.query(vector=[1.0], filter="n = 2")
        connection.set_trace_callback(None)
    assert 1 == len(statements)
    assert "FROM metadata" in statements[0]
    assert "records" not in statements[0]
