"""The codes of an engine: when they are made, that every row is found meanwhile, and that nothing is left behind."""

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nextk.engine import dense
from nextk.engine.columns import Columns
from nextk.engine.pool import pools as pools_module
from nextk.engine.pool import threshold
from nextk.engine.pool.codes import VectorCodes
from nextk.engine.pool.pools import Pools
from nextk.engine.pool.ranking import PoolRanking
from nextk.engine.pool.signs import SignCodes
from nextk.engine.schema import Similarity
from tests.support.bare_engine import Rig
from tests.support.pools import append, columns_of, compact, small_pools
from tests.support.subprocesses import output

pytest.importorskip("faiss")

VECTORS = np.random.default_rng(0).normal(size=(1_000, 16)).astype(np.float32)


def ranking(pools: Pools, columns: Columns, row: int = 0) -> Any:
    """Return the ranking of a search for a row."""
    with small_pools():
        return pools.ranking(columns.snapshot, VECTORS[row], Similarity.COSINE)


def is_pooled(pools: Pools, columns: Columns) -> bool:
    """Return whether a search has a pool, once the codes that an earlier one asks for are made."""
    ranking(pools, columns)
    pools.wait()
    return isinstance(ranking(pools, columns), PoolRanking)


def codebooks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of slots of each snapshot on which a codebook is trained."""
    train, trained = VectorCodes.train, list[int]()

    def counted(codes: VectorCodes, snapshot: Any) -> None:
        trained.append(len(snapshot.rows))
        train(codes, snapshot)

    monkeypatch.setattr(VectorCodes, "train", counted)
    return trained


class TestSize:
    """Which namespaces have a pool."""

    @pytest.mark.parametrize(
        ("pool_from", "pooled"),
        [(1_001, False), (1_000, True)],
        ids=["more", "as many"],
    )
    def test_pool_from(self, pool_from: int, pooled: bool) -> None:
        """A namespace has a pool if it has as many records as the engine was told."""
        assert pooled == is_pooled(Pools(pool_from), columns_of(VECTORS))

    @pytest.mark.parametrize(("more", "pooled"), [(1, False), (0, True)], ids=["fewer", "as many"])
    def test_the_size_that_pays(self, more: int, pooled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without being told, a namespace has a pool from the size of its vectors on at which it pays."""
        monkeypatch.setattr(threshold, "POOLED_BYTES", VECTORS.nbytes + more)
        assert pooled == is_pooled(Pools(), columns_of(VECTORS))

    def test_exact(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine that was told to be exact has no pools, whatever the size of a namespace is."""
        monkeypatch.setattr(threshold, "POOLED_BYTES", 1)
        assert not is_pooled(Pools(exact=True), columns_of(VECTORS))

    def test_few_rows(self) -> None:
        """A namespace that has hardly any rows is scanned, whatever the engine was told."""
        assert not is_pooled(Pools(1), columns_of(VECTORS[:15]))
        assert not is_pooled(Pools(1), Columns())

    def test_default(self) -> None:
        """Without being told, an engine has no pools for small namespaces, and does not import faiss."""
        code = """
            import sys
            from tests.support.bare_engine import Rig
            with Rig(dimension=2) as rig:
                rig.upsert({"id": "a", "vector": [1, 2]})
                rig.query(vector=[1, 2])
            print("faiss" in sys.modules)
        """
        assert "False" == output("if True:" + code)


class TestRenewal:
    """Codes are made beside the searches."""

    def test_the_first_search(self) -> None:
        """The first search scans all rows, and later ones have a pool."""
        pools, columns = Pools(1), columns_of(VECTORS)
        assert not isinstance(ranking(pools, columns), PoolRanking)
        pools.wait()
        assert isinstance(ranking(pools, columns), PoolRanking)

    @pytest.mark.parametrize(("count", "coded"), [(1, 700), (40, 700), (60, 760), (300, 1_000)])
    def test_later_rows(self, count: int, coded: int) -> None:
        """Rows that are written later are found by the next search, and have codes before they are many."""
        pools, columns = Pools(1), columns_of(VECTORS[:700])
        assert is_pooled(pools, columns)
        append(columns, VECTORS[700 : 700 + count], 700)
        assert 700 + count - 1 == ranking(pools, columns, 700 + count - 1).take(1).rows[0]
        pools.wait()
        codes = pools._coded[columns].codes
        assert codes is not None
        assert coded == len(codes)
        assert isinstance(ranking(pools, columns), PoolRanking)

    def test_rows_written_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows that are written while a codebook is trained are found."""
        pools, columns = Pools(1), columns_of(VECTORS[:900])
        train = VectorCodes.train

        def slowly(codes: VectorCodes, snapshot: Any) -> None:
            train(codes, snapshot)
            append(columns, VECTORS[900:], 900)

        monkeypatch.setattr(VectorCodes, "train", slowly)
        ranking(pools, columns)
        pools.wait()
        assert 950 == ranking(pools, columns, 950).take(1).rows[0]

    def test_growth(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A new codebook is trained once the rows are twice as many as those of the last one."""
        trained, pools, columns = codebooks(monkeypatch), Pools(1), columns_of(VECTORS[:400])
        for end in (500, 799, 800, 1_000):
            assert is_pooled(pools, columns)
            append(columns, VECTORS[len(columns) : end], len(columns))
        assert is_pooled(pools, columns)
        assert [400, 800] == trained

    def test_compaction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Codes are made anew when slots are numbered anew, and a search that has begun goes on."""
        trained, pools, columns = codebooks(monkeypatch), Pools(1), columns_of(VECTORS)
        assert is_pooled(pools, columns)
        begun = ranking(pools, columns, 7)
        assert 7 == begun.take(1).rows[0]
        compact(columns)
        exact = dense.ranking(columns.snapshot, VECTORS[8], Similarity.COSINE).take(10)
        assert exact.rows.tolist() == ranking(pools, columns, 8).take(10).rows.tolist()
        assert is_pooled(pools, columns)
        assert [1_000, 500] == trained
        assert set(range(1_000)) - {7} == set(begun.take(1_000).rows.tolist())

    @pytest.mark.parametrize(("new", "retrained"), [(40, False), (60, True)], ids=["few new rows", "more"])
    def test_drift(self, monkeypatch: pytest.MonkeyPatch, new: int, retrained: bool) -> None:
        """A codebook that finds too little is trained anew, unless hardly any row is newer than it."""
        trained, pools, columns = codebooks(monkeypatch), Pools(1), columns_of(VECTORS[:400])
        assert is_pooled(pools, columns)
        codes = pools._coded[columns].codes
        assert codes is not None
        for _ in range(100):
            codes.note_search(widened=True)
        append(columns, VECTORS[400 : 400 + new], 400)
        assert is_pooled(pools, columns)
        assert retrained == (len(trained) > 1)

    def test_searches_meanwhile(self) -> None:
        """Searches in several threads find the nearest row at any moment, whatever is written, moved or made."""
        pools, columns, failures = Pools(1), columns_of(VECTORS[:500]), list[BaseException]()
        ended = threading.Event()

        def search() -> None:
            try:
                while not ended.is_set():
                    assert 499 == pools.ranking(columns.snapshot, VECTORS[499], Similarity.COSINE).take(1).rows[0]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=search) for _ in range(2)]
        with small_pools():
            for thread in threads:
                thread.start()
            for first in range(500, 1_000, 20):
                append(columns, VECTORS[first : first + 20], first)
                if first % 100 == 0:
                    pools.wait()
            compact(columns, keeping=499)
            pools.wait()
            ended.set()
            for thread in threads:
                thread.join()
        pools.close()
        assert [] == failures


class TestFailures:
    """Whatever happens to the codes, searches go on by the exact scan."""

    def test_missing(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """Without faiss, searches by cosine have pools by signs, and one warning names the command that installs it."""
        monkeypatch.setitem(sys.modules, "faiss", None)
        pools, columns = Pools(1), columns_of(VECTORS)
        assert all(is_pooled(pools, columns) for _ in range(3))
        assert isinstance(pools._coded[columns].codes, SignCodes)
        [record] = caplog.records
        assert "pip install 'nextk[scale]'" in record.getMessage()
        assert logging.WARNING == record.levelno

    def test_unloadable(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """A faiss that is installed, but cannot be loaded, counts as a missing one, and the warning has the reason."""

        def fail(*_: object) -> None:
            raise ImportError("libgomp.so.1: cannot open shared object file")

        monkeypatch.setattr(pools_module, "require", fail)
        pools, columns = Pools(1), columns_of(VECTORS)
        assert all(is_pooled(pools, columns) for _ in range(3))
        assert ["faiss cannot be loaded (libgomp.so.1" in record.getMessage() for record in caplog.records] == [True]

    @pytest.mark.parametrize("similarity", [Similarity.EUCLIDEAN, Similarity.DOT_PRODUCT], ids=["euclidean", "dot"])
    def test_missing_without_signs(
        self, similarity: Similarity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without faiss, all rows are scanned by any other similarity, and one warning says so."""
        monkeypatch.setitem(sys.modules, "faiss", None)
        pools, columns = Pools(1), columns_of(VECTORS)
        for _ in range(3):
            assert not isinstance(pools.ranking(columns.snapshot, VECTORS[0], similarity), PoolRanking)
            pools.wait()
        assert pools.exact
        assert ["scanning all of them" in record.getMessage() for record in caplog.records] == [True]

    @pytest.mark.parametrize("error", [MemoryError, RuntimeError])
    def test_errors(
        self, error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An error of faiss is logged once, and all rows are scanned."""

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(VectorCodes, "train", fail)
        pools, columns = Pools(1), columns_of(VECTORS)
        assert not any(is_pooled(pools, columns) for _ in range(3))
        assert ["no codes could be made of the vectors of a namespace: all of them are scanned"] == [
            record.getMessage() for record in caplog.records
        ]
        assert 5 == ranking(pools, columns, 5).take(1).rows[0]

    def test_unusual_vectors(self) -> None:
        """Vectors that codes cannot tell apart are scanned."""
        pools, columns = Pools(1), columns_of(VECTORS * np.float32(1e30))
        for _ in range(2):
            order = pools.ranking(columns.snapshot, VECTORS[0], Similarity.DOT_PRODUCT)
            assert not isinstance(order, PoolRanking)
            pools.wait()


class TestEngine:
    """The codes of an engine that is written, searched and closed."""

    def rig(self) -> Rig:
        """Return an engine with a pool and some records."""
        rig = Rig(dimension=16, pool_from=1)
        rig.upsert(*({"id": str(row), "vector": VECTORS[row].tolist()} for row in range(600)))
        return rig

    def test_pages(self) -> None:
        """Pages have every record once, and are sorted although records are deleted meanwhile."""
        with small_pools(), self.rig() as rig:
            rig.query(vector=VECTORS[0].tolist())
            rig.engine._pools.wait()
            uuid, page = rig.start(vector=VECTORS[0].tolist(), topK=5)
            found = [page]
            rig.delete(ids=[str(row) for row in range(0, 600, 3)])
            gone = {str(row) for row in range(0, 600, 3)} - {id_ for id_, _ in page}
            while page:
                page = rig.fetch_next(uuid, 7)
                found.append(page)
            rig.engine.stop(uuid)
        ids = [id_ for page in found for id_, _ in page]
        assert {str(row) for row in range(600)} - gone == set(ids)
        assert len(ids) == len(set(ids))
        for page in found:
            assert sorted(page, key=lambda match: (-match[1], int(match[0]))) == page

    def test_close(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Closing an engine waits for the thread that makes its codes, which makes no further ones."""
        training, closing = threading.Event(), threading.Event()
        train: Callable[..., None] = VectorCodes.train

        def slowly(codes: VectorCodes, snapshot: Any) -> None:
            training.set()
            closing.wait(30)
            train(codes, snapshot)

        monkeypatch.setattr(VectorCodes, "train", slowly)
        rig = self.rig()
        rig.query(vector=VECTORS[0].tolist())
        training.wait(30)
        thread = rig.engine._pools._thread
        assert thread is not None
        threading.Timer(0.05, closing.set).start()
        rig.engine.close()
        assert not thread.is_alive()
