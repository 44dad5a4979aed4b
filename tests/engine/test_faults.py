"""The embedded engine when something goes wrong inside it: memory and storage agree again, whatever it was."""

import gc
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextk import Index
from nextk.engine.columns import Columns
from nextk.engine.factory import open_engine
from nextk.engine.pages import RepeatablePage
from nextk.engine.postings import Entries, Postings, Segment
from nextk.engine.ranking import LazyRanking
from nextk.engine.storage import Storage
from nextk.engine.values import Match, SparseArrays, SparseRows
from nextk.errors import ClientError, RefusedError
from nextk.types import Data
from tests.support.bare_engine import Rig


class TestInterrupted:
    """Writes that are interrupted."""

    @pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
    def test_after_the_commit(self, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]) -> None:
        """Rows that are durable are found, though the write was interrupted before they were in memory."""

        def interrupted(*_: Any) -> None:
            raise fault

        with Rig() as rig:
            with monkeypatch.context() as patch:
                patch.setattr(Columns, "append", interrupted)
                with pytest.raises(fault):
                    rig.upsert({"id": "a", "vector": [1.0]}, namespace="new")
            assert [("a", 1.0)] == rig.query(vector=[1.0], namespace="new")
            assert 1 == rig.engine.schema.dimension

    def test_before_the_commit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that was interrupted halfway changes nothing, and the next write succeeds."""
        whole = Storage.upsert
        with Rig(dimension=1) as rig:
            rig.upsert({"id": "a", "vector": [1.0]})

            def interrupted(storage: Storage, key: int, records: Any) -> list[int]:
                whole(storage, key, records)
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(Storage, "upsert", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    rig.upsert({"id": "b", "vector": [1.0]})
            assert [("a", 1.0)] == rig.query(vector=[1.0])
            rig.upsert({"id": "c", "vector": [1.0]})
            assert [("a", 1.0), ("c", 1.0)] == rig.query(vector=[1.0])

    def test_while_reading(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Whoever keeps the error of a read that was interrupted does not keep the file."""

        def interrupted(*_: bytes) -> None:
            raise KeyboardInterrupt

        path = tmp_path / "index"
        with Rig(dimension=1, path=path) as rig:
            rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abc"))
            rig.engine._cache.invalidate(1)
            with monkeypatch.context() as patch:
                patch.setattr("nextk.engine.stored.usable_vectors", interrupted)
                with pytest.raises(KeyboardInterrupt) as kept:
                    rig.query(vector=[1.0])
        with Rig(path=path) as rig:
            assert 3 == len(rig.query(vector=[1.0]))
        assert kept.value.__traceback__ is not None

    @pytest.mark.parametrize(
        "fault",
        [KeyboardInterrupt, MemoryError, sqlite3.OperationalError("disk I/O error")],
        ids=["interrupt", "memory", "disk"],
    )
    def test_open_queries(self, monkeypatch: pytest.MonkeyPatch, fault: BaseException | type[BaseException]) -> None:
        """A write that fails leaves an open query in its order: near-equal rows come as if nothing had happened."""
        chance = np.random.default_rng(0)
        vectors = 1 + chance.standard_normal((2_000, 8)).astype(np.float32) / 100
        with Rig(dimension=8) as rig:
            for first in range(0, 2_000, 1_000):
                rig.upsert(*({"id": f"{n}", "vector": vectors[n].tolist()} for n in range(first, first + 1_000)))
            (pulled, pages), (twin, expected) = (rig.start(vector=[1.0] * 8, topK=10) for _ in range(2))
            expected += rig.fetch_next(twin, 1_000) + rig.fetch_next(twin, 1_000)

            def failing(*_: Any) -> None:
                raise fault

            with monkeypatch.context() as patch:
                patch.setattr(Storage, "_save_next_number", failing)
                with pytest.raises((type(fault) if isinstance(fault, BaseException) else fault, RefusedError)):
                    rig.upsert({"id": "new", "vector": [1.0] * 8})
            rig.query(vector=[1.0] * 8)  # reads the namespace anew
            gc.collect()  # the error holds on to what the write had
            while page := rig.fetch_next(pulled, 100):
                pages += page
            assert expected == pages
            for uuid in (pulled, twin):
                rig.engine.stop(uuid)

    def test_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that is refused, because the file is open for reading only, makes no search read the file again."""
        with Rig(dimension=1) as rig:
            rig.upsert({"id": "a", "vector": [1.0]})
            rig.query(vector=[1.0])
            monkeypatch.setattr(rig.engine._storage._file, "read_only", True)
            monkeypatch.setattr("nextk.engine.stored.usable_vectors", pytest.fail)
            for write in (lambda: rig.upsert({"id": "b", "vector": [1.0]}), lambda: rig.delete(ids=["a"])):
                with pytest.raises(RefusedError, match="reading only"):
                    write()
            assert [("a", 1.0)] == rig.query(vector=[1.0])

    def test_left_open(self, tmp_path: Path) -> None:
        """A transaction that was begun but never left does not keep the next one from beginning."""
        with Rig(dimension=1, path=tmp_path / "index") as rig:
            rig.engine._storage.transaction().__enter__()
            rig.upsert({"id": "a", "vector": [1.0]})
            assert [("a", 1.0)] == rig.query(vector=[1.0])


class TestPages:
    """Pages over rows that were deleted."""

    @pytest.mark.parametrize("count", [1, 3, 100])
    def test_few_reads(self, count: int) -> None:
        """A page over many deleted rows takes few reads, and the pages skip and repeat nothing."""
        order = LazyRanking(np.arange(10_000), -np.arange(10_000, dtype=np.float32))
        alive = [0, 5_000, 5_001, 5_002, 9_999]
        reads = 0

        def load(rows: Sequence[int], limit: int) -> Mapping[int, Match]:
            nonlocal reads
            reads += 1
            return {row: Match(str(row)) for row in rows if row in alive}

        found: list[str] = []
        while page := RepeatablePage(count).read(order, load):
            found += [match.id for match in page]
        assert [str(row) for row in alive] == found
        assert reads < 60


class TestUpdate:
    """Updates that embed."""

    def test_write_in_between(self) -> None:
        """A write to a record is not lost if it happens while the new text of the record is embedded."""

        def consulting(texts: list[str]) -> list[list[float]]:
            if texts == ["new"] and index.fetch("a", include_metadata=True)[0].metadata == {"k": 1}:  # type: ignore[union-attr]
                index.update("a", metadata={"k": 2})
            return [[1.0] for _ in texts]

        with Index.embedded(type="dense", embedding=consulting) as index:
            index.upsert([Data("a", "old", {"k": 1})])
            index.update("a", data="new")
            [record] = index.fetch("a", include_metadata=True, include_data=True)
            assert record is not None
            assert ({"k": 2}, "new") == (record.metadata, record.data)


class TestPostings:
    """Sparse vectors in memory."""

    def test_nothing_to_add(self) -> None:
        """Vectors without entries add no segment."""
        nothing = SparseArrays(np.empty(0, np.int32), np.empty(0, np.float32))
        assert () == Postings.empty().with_vectors(0, SparseRows.of([nothing])).segments

    def test_repeats_in_order(self) -> None:
        """Entries of one slot and dimension are added up one by one, as given."""
        values = np.array([2.0**24] + [1.0] * 20, np.float32)
        zeros = np.zeros(len(values), np.int32)
        built = Segment.build(Entries(zeros, zeros.astype(np.int64), values))
        assert [2.0**24] == built.values.tolist()


class TestPlaces:
    """Files that are no index."""

    @pytest.mark.parametrize("name", ["x" * 5_000, "a\0b"], ids=["long", "nul"])
    def test_impossible_path(self, tmp_path: Path, name: str) -> None:
        """A path that no file can have is refused with the reason."""
        with pytest.raises(ClientError, match="cannot open an index"):
            open_engine(tmp_path / name, {"type": "dense"})

    @pytest.mark.parametrize("change", ["DROP TABLE properties", "DELETE FROM properties"])
    def test_no_properties(self, tmp_path: Path, change: str) -> None:
        """An index that has lost its properties is refused, and the message says so."""
        path = tmp_path / "index"
        Index.embedded(path, type="dense").close()
        connection = sqlite3.connect(path)
        connection.execute(change)
        connection.commit()
        connection.close()
        with pytest.raises(ClientError, match=r"properties|damaged"):
            Index.embedded(path)


class TestSelection:
    """Deletes."""

    @pytest.mark.parametrize("selection", [{"filter": ""}, {"filter": " \n"}, {"prefix": ""}, {}], ids=repr)
    def test_nothing_selected(self, selection: dict[str, str]) -> None:
        """A delete that would select everything is refused."""
        with Rig(dimension=1) as rig:
            rig.upsert({"id": "a", "vector": [1.0]})
            with pytest.raises(RefusedError, match="Only and only one"):
                rig.delete(**selection)
            assert [("a", 1.0)] == rig.query(vector=[1.0])
