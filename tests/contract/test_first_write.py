"""The first write decides the type of an index that was made without a type and without models."""

import threading
from pathlib import Path
from typing import Any

import pytest

from nextk import Index, Vector
from nextk.errors import ClientError, RefusedError
from nextk.retrievers.connection import has_text_models
from nextk.types import Data, SparseVector
from tests.support.transports import Opener

DENSE = Vector("d", [1.0, 2.0, 3.0])
SPARSE = Vector("s", sparse_vector=SparseVector([1], [1.0]))
HYBRID = Vector("h", [1.0, 2.0, 3.0], sparse_vector=SparseVector([1], [1.0]))
FIRST = [(DENSE, "DENSE"), (SPARSE, "SPARSE"), (HYBRID, "HYBRID")]


class TestDecision:
    """The first write."""

    @pytest.mark.parametrize(("record", "type"), FIRST)
    async def test_type(self, open_index: Opener, record: Vector, type: str) -> None:
        """The vectors of the first write are those that every record has from then on."""
        index = open_index(None)
        assert "UNDECIDED" == (await index.info()).index_type
        await index.upsert([record])
        info = await index.info()
        assert (type, 3 if record.vector else 0) == (info.index_type, info.dimension)
        for other, kind in FIRST:
            if kind != type:
                with pytest.raises(RefusedError):
                    await index.upsert([other])

    async def test_before(self, open_index: Opener) -> None:
        """Until the first write every search and every reading finds nothing, and a resumable query is exhausted."""
        index = open_index(None, dimension=3)
        queries: list[dict[str, Any]] = [{"vector": [1.0]}, {"sparse_vector": ([1], [1.0])}, {"data": "text"}]
        for query in queries:
            assert [] == await index.query(**query)
            page, handle = await index.resumable_query(**query)
            assert ([], []) == (page, await handle.fetch_next(5))
            await handle.stop()
        assert [[]] == await index.query_many(queries=[{"vector": [1.0]}])
        assert ([None], []) == (await index.fetch("1"), (await index.range(limit=5)).vectors)
        assert 0 == (await index.delete("1")).deleted
        assert not await index.update("1", vector=[1.0, 2.0, 3.0])
        await index.reset()
        info = await index.info()
        assert ("UNDECIDED", 3, None, None) == (info.index_type, info.dimension, info.dense_index, info.sparse_index)
        assert not has_text_models(info, None)

    async def test_filters_are_read(self, open_index: Opener) -> None:
        """A filter that is none is refused before the first write as after it."""
        with pytest.raises(RefusedError):
            await open_index(None).query([1.0], filter="a = ")

    async def test_mixed(self, open_index: Opener) -> None:
        """A mixed first write is refused by its first record that differs, and nothing is stored or decided."""
        index = open_index(None)
        for others in ([HYBRID], [SPARSE, HYBRID], [HYBRID, DENSE]):
            records = [DENSE, Vector("e", [3.0, 2.0, 1.0]), *others]
            match = rf"^record 2 \(id '{others[0].id}'\): .* the same kinds of vectors"
            with pytest.raises(RefusedError, match=match):
                await index.upsert(records)
        info = await index.info()
        assert ("UNDECIDED", 0, 0) == (info.index_type, info.vector_count, info.dimension)

    async def test_no_vector(self, open_index: Opener) -> None:
        """A first write whose record has no vector is refused by its name, and nothing is stored or decided."""
        index = open_index(None)
        with pytest.raises(
            RefusedError, match=r"^record 0 \(id 'a'\): .* this record has none: give it a vector"
        ) as caught:
            await index.upsert([Vector("a"), DENSE])
        assert (422, "UNDECIDED") == (caught.value.status, (await index.info()).index_type)

    @pytest.mark.parametrize(
        ("keywords", "record", "words"),
        [({"dimension": 3}, SPARSE, "dimension=3"), ({"weighting": "idf"}, DENSE, 'weighting="idf"')],
    )
    async def test_contradiction(
        self, open_index: Opener, keywords: dict[str, Any], record: Vector, words: str
    ) -> None:
        """A first write that lacks the vectors that a keyword is about is refused in words."""
        index = open_index(None, **keywords)
        with pytest.raises(RefusedError, match=words):
            await index.upsert([record])
        assert "UNDECIDED" == (await index.info()).index_type

    async def test_wrong_dimension(self, open_index: Opener) -> None:
        """A first write of another dimension than was named decides nothing."""
        index = open_index(None, dimension=2)
        with pytest.raises(RefusedError, match="expected: 2"):
            await index.upsert([DENSE])
        assert "UNDECIDED" == (await index.info()).index_type

    async def test_text(self, open_index: Opener) -> None:
        """A text decides nothing, because there is no model for it."""
        index = open_index(None)
        with pytest.raises(RefusedError, match="embedding model"):
            await index.upsert([Data("1", "text")])
        assert "UNDECIDED" == (await index.info()).index_type


class TestReopening:
    """An index on disk, opened again."""

    @pytest.mark.parametrize(("record", "type"), FIRST)
    def test_stored(self, tmp_path: Path, record: Vector, type: str) -> None:
        """The type that the first write decided holds after the index was opened again, and no other type opens it."""
        with Index.embedded(tmp_path / "i") as index:
            index.upsert([record])
        with Index.embedded(tmp_path / "i") as index:
            assert type == index.info().index_type
        other = "sparse" if type == "DENSE" else "dense"
        with pytest.raises(ClientError, match=f"type={type.lower()!r}"):
            Index.embedded(tmp_path / "i", type=other)

    def test_undecided(self, tmp_path: Path) -> None:
        """An index to which nothing was written stays undecided, until it is opened with a type."""
        for _ in range(2):
            with Index.embedded(tmp_path / "i") as index:
                assert "UNDECIDED" == index.info().index_type
        with Index.embedded(tmp_path / "i", type="sparse") as index:
            assert "SPARSE" == index.info().index_type
        with Index.embedded(tmp_path / "i") as index:
            assert "SPARSE" == index.info().index_type

    def test_models_decide(self, tmp_path: Path) -> None:
        """Models decide an index to which nothing was written, as they decide a new one."""
        path = tmp_path / "i"
        Index.embedded(path).close()
        with Index.embedded(path, embedding="static", sparse_embedding="bm25") as index:
            index.upsert([Data("a", "a text")])
            assert "HYBRID" == index.info().index_type
        with Index.embedded(path) as index:
            assert ["a"] == [match.id for match in index.query(data="text")]

    def test_open_already(self, tmp_path: Path) -> None:
        """A type also decides an index that this process has open without one."""
        with Index.embedded(tmp_path / "i") as first, Index.embedded(tmp_path / "i", type="dense"):
            assert "DENSE" == first.info().index_type

    def test_dimension(self, tmp_path: Path) -> None:
        """A type without dense vectors contradicts a dimension."""
        Index.embedded(tmp_path / "i", dimension=3).close()
        with pytest.raises(ClientError, match="dimension=3"):
            Index.embedded(tmp_path / "i", type="sparse")

    def test_failed_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A first write that storage fails to finish leaves the index undecided, at once and after it is reopened."""
        with Index.embedded(tmp_path / "i") as index:
            transport: Any = index._transport
            storage = transport._shared_engine.engine._storage
            with monkeypatch.context() as patch:

                def fail(*_: object) -> None:
                    message = "no space"
                    raise OSError(message)

                patch.setattr(storage, "save_schema", fail)
                with pytest.raises(RefusedError, match="the disk failed"):
                    index.upsert([DENSE])
            assert "UNDECIDED" == index.info().index_type
            assert 0 == index.info().vector_count
        with Index.embedded(tmp_path / "i") as index:
            assert "UNDECIDED" == index.info().index_type
            index.upsert([SPARSE])
            assert "SPARSE" == index.info().index_type


def test_concurrent_first_writers(tmp_path: Path) -> None:
    """Of several first writers of different kinds, one decides; the others are refused, and none is half stored."""
    for number in range(20):
        with Index.embedded(tmp_path / str(number)) as index:
            together = threading.Barrier(3)
            stored: list[Vector] = []

            def write(record: Vector) -> None:
                together.wait()  # noqa: B023 - joined before the next round
                try:
                    index.upsert([record])
                except RefusedError:
                    return
                stored.append(record)  # noqa: B023

            threads = [threading.Thread(target=write, args=[record]) for record, _ in FIRST]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            [winner] = stored
            assert {record.id: kind for record, kind in FIRST}[winner.id] == index.info().index_type
            assert 1 == index.info().vector_count
