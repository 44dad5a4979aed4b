"""Damaged records: none is served, each is named with a way out, and the others are served as if nothing had been."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nextk import AsyncIndex, Index
from nextk.engine import checksums, stored
from nextk.engine.check import open_file
from nextk.engine.file import connect
from nextk.engine.reader import RecordReader
from nextk.errors import ClientError, RefusedError
from nextk.transport.in_process import InProcessTransport
from nextk.types import FetchResult, MetadataUpdateMode
from tests.support import format_one
from tests.support.bare_engine import Rig
from tests.support.damaged_files import change, change_table_alone
from tests.support.format_one import OldRecord
from tests.support.transports import Opener

RECORDS: list[Any] = [
    (id_, [1.0, number], ([number], [1.0]), {"n": number}, f"text {id_}") for number, id_ in enumerate("abcde")
]

# What happens to the record "c", whose row is 3.
DAMAGE = {
    "id": ("UPDATE records SET id = 'C' WHERE row = 3", ()),
    "number": ("UPDATE records SET number = 99 WHERE row = 3", ()),
    "vector": ("UPDATE records SET vector = x'0000803f00008040' WHERE row = 3", ()),
    "short vector": ("UPDATE records SET vector = x'0000803f' WHERE row = 3", ()),
    "odd vector": ("UPDATE records SET vector = x'0000803f0000' WHERE row = 3", ()),
    "vector that is text": ("UPDATE records SET vector = CAST(x'ff00803f00000040' AS TEXT) WHERE row = 3", ()),
    "no vector": ("UPDATE records SET vector = NULL WHERE row = 3", ()),
    "infinite vector": ("UPDATE records SET vector = x'0000803f0000807f' WHERE row = 3", ()),
    "sparse indices": ("UPDATE records SET sparse_indices = x'07000000' WHERE row = 3", ()),
    "sparse values": ("UPDATE records SET sparse_values = x'0000c07f' WHERE row = 3", ()),
    "unequal sparse parts": ("UPDATE records SET sparse_values = x'0000803f0000803f' WHERE row = 3", ()),
    "text": ("UPDATE records SET data = 'text C' WHERE row = 3", ()),
    "text that is no UTF-8": ("UPDATE records SET data = CAST(x'74ff78' AS TEXT) WHERE row = 3", ()),
    "no text": ("UPDATE records SET data = NULL WHERE row = 3", ()),
    "metadata": ("UPDATE metadata SET json = '{\"n\":4}' WHERE row = 3", ()),
    "metadata that are no JSON": ("UPDATE metadata SET json = '{\"n\":2' WHERE row = 3", ()),
    "metadata that are no UTF-8": ("UPDATE metadata SET json = CAST(x'7b226e223aff' AS TEXT) WHERE row = 3", ()),
    "metadata that are a blob": ("UPDATE metadata SET json = x'ff' WHERE row = 3", ()),
    "no metadata": ("DELETE FROM metadata WHERE row = 3", ()),
    "checksum": ("UPDATE records SET checksum = checksum + 1 WHERE row = 3", ()),
    "checksum that is text": ("UPDATE records SET checksum = 'none' WHERE row = 3", ()),
}
"""Statements that damage the record "c", by what they damage."""

UNINDEXED = [name for name in DAMAGE if name not in ("id", "number")]
"""Damage to values that are not in an index of SQLite."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an index of five records, whose rows are 1 to 5."""
    path = tmp_path / "index"
    with Index.embedded(path, type="hybrid", dimension=2) as index:
        index.upsert(RECORDS)
    return path


@pytest.fixture(params=DAMAGE)
def damaged(path: Path, request: pytest.FixtureRequest) -> Path:
    """The file with one kind of damage to the record "c"; the indexes of SQLite follow the change, or do not exist."""
    change(path, *DAMAGE[request.param])
    return path


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the log at the level of errors."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def ids(index: Index, call: str) -> list[str]:
    """Return the ids that one kind of call serves, sorted, from any order."""
    calls: dict[str, Any] = {
        "dense": lambda: index.query([1.0, 0.0], 9),
        "sparse": lambda: [m for n in range(8) for m in index.query(sparse_vector=([n], [1.0]), top_k=9)],
        "filtered": lambda: index.query([1.0, 0.0], 9, filter="n >= 0"),
        "absent field": lambda: index.query([1.0, 0.0], 9, filter="HAS NOT FIELD x"),
        "pages": lambda: list(pages(index)),
        "range": lambda: index.range("", 9).vectors,
        "prefix": lambda: index.fetch(prefix=""),
    }
    return sorted(match.id for match in calls[call]())


def pages(index: Index) -> Iterator[Any]:
    """Yield the matches of a resumable query, page by page."""
    page, handle = index.resumable_query([1.0, 0.0], 2)
    with handle:
        while page:
            yield from page
            page = handle.fetch_next(2)


def drawn_id(index: Index) -> str | None:
    """Return the id of a random record, or `None` if there is none. The clients have no method for it."""
    assert isinstance(index._transport, InProcessTransport)
    drawn = index._transport._open().engine.random("")
    return None if drawn is None else drawn.id


class TestServing:
    """Records that are served beside a damaged one."""

    @pytest.mark.parametrize("call", ["dense", "sparse", "filtered", "absent field", "pages", "range"])
    def test_the_others(self, damaged: Path, call: str, caplog: pytest.LogCaptureFixture) -> None:
        """A search or a range leaves a damaged record out, serves the others, and the log names the record once."""
        with Index.embedded(damaged) as index:
            for _ in range(2):
                assert ["a", "b", "d", "e"] == ids(index, call)
        said = errors(caplog)
        assert 1 == len([message for message in said if "'c'" in message or "'C'" in message])
        assert all("nextk check" in message for message in said)

    @pytest.mark.parametrize("kind", UNINDEXED)
    def test_ids_only(self, path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        """By its id, a damaged record is refused, even if only the id is asked for, and the others are fetched."""
        change(path, *DAMAGE[kind])
        with Index.embedded(path) as index:
            with pytest.raises(RefusedError, match=r"'c'.*Upsert it anew, or delete it.*nextk check") as refused:
                index.fetch(["a", "c", "absent"])
            assert 500 == refused.value.status
            assert [FetchResult("a"), FetchResult("b"), None] == index.fetch(["a", "b", "absent"])
            assert ["a", "b", "d", "e"] == ids(index, "prefix")
        assert ["'c'"] == ["'c'" for message in errors(caplog) if "'c'" in message]

    def test_random(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A random record is a whole one, and none if none is whole."""
        change(path, "UPDATE records SET data = 'other' WHERE row <> 2")
        with Index.embedded(path) as index:
            assert {"b"} == {drawn_id(index) for _ in range(20)}
        change(path, "UPDATE records SET data = 'other'")
        with Index.embedded(path) as index:
            assert drawn_id(index) is None
        assert errors(caplog)

    def test_lost_from_every_namespace(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A record that belongs to no namespace any more shows in the log of the first search, found by nobody."""
        change(path, "UPDATE records SET namespace = 2 WHERE row = 3")
        with Index.embedded(path) as index:
            assert ["a", "b", "d", "e"] == ids(index, "range")
            assert ["a", "b", "d", "e"] == ids(index, "dense")
        [said] = errors(caplog)
        assert "may be missing" in said

    def test_many_ids(self, path: Path) -> None:
        """A refusal names twenty damaged records, and counts the others."""
        with Index.embedded(path) as index:
            index.upsert([(f"x{number:02}", [1.0, 0.0], ([1], [1.0])) for number in range(30)])
        change(path, "UPDATE records SET data = 'other' WHERE id LIKE 'x%'")
        with Index.embedded(path) as index, pytest.raises(RefusedError, match=r"'x19' and 10 more\. Upsert them"):
            index.fetch([f"x{number:02}" for number in range(30)])


class TestWayOut:
    """Writing over a damaged record."""

    @pytest.mark.parametrize("kind", UNINDEXED)
    def test_upsert_and_delete(self, path: Path, kind: str) -> None:
        """A damaged record can be upserted anew, in its old place, and deleted by its id."""
        change(path, *DAMAGE[kind])
        with Index.embedded(path) as index:
            index.upsert([RECORDS[2]])
            assert ["a", "b", "c", "d", "e"] == [record.id for record in index.range("", 9).vectors]
            [found] = index.fetch(["c"], include_vectors=True, include_metadata=True, include_data=True)
            assert found is not None
            assert ([1.0, 2.0], {"n": 2}, "text c") == (found.vector, found.metadata, found.data)
            assert 5 == index.info().vector_count
        change(path, *DAMAGE[kind])
        with Index.embedded(path) as index:
            assert 1 == index.delete(["c"]).deleted
            assert [None] == index.fetch(["c"])
            assert 4 == index.info().vector_count

    @pytest.mark.parametrize(
        "fields",
        [{"data": "new"}, {"metadata": {"k": 1}}, {"vector": [0.0, 1.0], "sparse_vector": ([1], [1.0])}],
        ids=lambda fields: next(iter(fields)),
    )
    def test_update(self, path: Path, fields: dict[str, Any]) -> None:
        """An update starts from the stored record, so that of a damaged one is refused, and nothing is changed."""
        change(path, *DAMAGE["metadata"])
        before = path.read_bytes()
        with Index.embedded(path) as index, pytest.raises(RefusedError, match=r"Damaged.*'c'"):
            index.update("c", **fields, metadata_update_mode=MetadataUpdateMode.PATCH)
        assert before == path.read_bytes()


class TestIndexes:
    """Indexes of SQLite that lead to other records than they should."""

    @pytest.fixture
    def swapped(self, path: Path) -> Path:
        """The file, in which the whole records "b" and "c" stand in each other's place, unnoticed by the indexes."""
        with Index.embedded(path) as index:
            index.upsert([("b", *RECORDS[2][1:]), ("c", *RECORDS[1][1:])])
        change_table_alone(path, "UPDATE records SET id = char(197 - unicode(id)) WHERE row IN (2, 3)")
        file = connect(path, None)
        reader = RecordReader(file.connection)
        with file.transaction():
            for row in reader._stored_rows(stored.RECORDS, (), [2, 3]):
                checksum = checksums.of_record(*row[:3], *row[4:10])
                file.connection.execute("UPDATE records SET checksum = ? WHERE row = ?", (checksum, row[0]))
        file.close()
        return path

    @pytest.mark.parametrize(
        "call",
        [
            lambda index: index.fetch(["b"]),
            lambda index: index.upsert([("b", [9.0, 9.0], ([1], [1.0]))]),
            lambda index: index.delete(["b"]),
            lambda index: index.delete(prefix="b"),
            lambda index: index.update("b", data="new"),
        ],
        ids=["fetch", "upsert", "delete", "delete by prefix", "update"],
    )
    def test_no_other_record_is_touched(
        self, swapped: Path, call: Callable[[Index], object], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A call for a record is refused in words, and never reads, replaces or deletes another one in its place."""
        with Index.embedded(swapped) as index:
            with pytest.raises(RefusedError, match=r"[Dd]amaged.*nextk check PATH --rescue NEW"):
                call(index)
            kept = index.range("", 9, include_data=True).vectors
            assert [f"text {id_}" for id_ in "abcde"] == sorted(str(record.data) for record in kept)
            assert list("abcde") == sorted(record.id for record in kept)
            index.query([1.0, 0.0], sparse_vector=([1], [1.0]))  # the first search compares the indexes
        assert any("its index of the numbers leads to other records" in message for message in errors(caplog))
        with open_file(swapped) as file:
            result = file.check()
        assert (5, 0, True) == (result.whole, result.lost, bool(result.problems))


async def test_refusals_over_every_transport(open_index: Opener) -> None:
    """Over each transport the fetch of a damaged record is a refusal with its id, and pages go on without it."""
    index: AsyncIndex = open_index("dense", dimension=1)
    await index.upsert([(id_, [1.0], {"n": 1}) for id_ in "abc"])
    connection = open_index.engine(index)._storage._connection
    connection.execute("UPDATE records SET vector = x'0000803e' WHERE id = 'b'")
    open_index.engine(index)._storage.record_cache.clear()  # as if the index had just been opened
    with pytest.raises(RefusedError, match=r"Damaged in the file of the index: the record 'b'\. Upsert it") as refused:
        await index.fetch(["a", "b"])
    assert 500 == refused.value.status
    page, handle = await index.resumable_query([1.0], 1)
    async with handle:
        assert ["a", "c"] == [match.id for match in [*page, *await handle.fetch_next(5)]]


class TestOpening:
    """Files that cannot be trusted as a whole."""

    @pytest.mark.parametrize(
        ("statement", "named"),
        [
            ("UPDATE properties SET value = replace(value, 'COSINE', 'EUCLIDEAN')", "properties"),
            ("UPDATE properties SET value = 'other' WHERE name = 'id'", "properties"),
            ("DELETE FROM properties WHERE name = 'checksum'", "properties"),
            ("ALTER TABLE metadata ADD COLUMN more TEXT", "properties"),
            ("UPDATE namespaces SET name = 'other'", "the namespace 'other'"),
            ("UPDATE namespaces SET next_number = 1", "the namespace ''"),
        ],
    )
    def test_properties_and_namespaces(self, path: Path, statement: str, named: str) -> None:
        """Damage to the properties, to the tables' definitions or to a namespace is refused with a way out."""
        change(path, statement)
        with pytest.raises(ClientError, match=rf"is damaged \(malformed: .*{named}.*nextk check .* --rescue NEW"):
            Index.embedded(path)

    def test_renaming_keeps_records_whole(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A record stays whole when its namespace is renamed, reset, filled again, or deleted and made anew."""
        record = {"id": "a", "vector": [1.0]}
        for _ in range(2):
            with Rig(dimension=1, path=path.with_name("other")) as rig:
                rig.upsert(record, {**record, "id": "b"}, namespace="one")
                rig.engine.rename_namespace("one", "two", replace=True)
                assert [("a", 1.0), ("b", 1.0)] == rig.query(vector=[1.0], namespace="two")
                rig.engine.reset("two")
                rig.upsert(record, namespace="two")
                assert [("a", 1.0)] == rig.query(vector=[1.0], namespace="two")
                rig.engine.delete_namespace("two")
        assert [] == errors(caplog)


class TestConversion:
    """Damage in a file of format 1."""

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE records SET data = CAST(x'74ff78' AS TEXT) WHERE row = 2",
            "UPDATE records SET metadata = '{' WHERE row = 2",
            "UPDATE records SET vector = x'0000803f' WHERE row = 2",
        ],
    )
    def test_known_damage(self, tmp_path: Path, statement: str) -> None:
        """A record that is damaged before the conversion is damaged after it, and does not keep it from happening."""
        path = tmp_path / "index"
        format_one.write(path, [OldRecord("", id_, [1.0, 0.0], {"n": 1}, "text") for id_ in "abc"])
        change(path, statement)
        with Index.embedded(path) as index:
            with pytest.raises(RefusedError, match="'b'"):
                index.fetch(["b"])
            assert ["a", "c"] == [match.id for match in index.query([1.0, 0.0], filter="n = 1")]
