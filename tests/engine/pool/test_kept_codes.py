"""Codes that are kept in the file of an index: which of them are taken again, and that nothing depends on them."""

import gc
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nextk import Index, Vector
from nextk.engine import dense
from nextk.engine.backup import back_up_file
from nextk.engine.check import open_file
from nextk.engine.code_table import CodeTable
from nextk.engine.pool import kept_codes, pools
from nextk.engine.pool.codes import VectorCodes, VisibleSlots
from nextk.engine.pool.kept_codes import Codebook, CodedRows, coded_rows, restored
from nextk.engine.pool.ranking import PoolRanking
from nextk.engine.rescue import rescue
from nextk.engine.schema import Similarity
from tests.support.bare_engine import Rig
from tests.support.faulty_connection import StepFault, plan_steps
from tests.support.pools import append, codes_of, columns_of, compact, small_pools
from tests.support.subprocesses import python

pytest.importorskip("faiss")

VECTORS = np.random.default_rng(0).normal(size=(1_000, 16)).astype(np.float32)
PART_BYTES = 1_024  # 64 codes
METRICS = pytest.mark.parametrize("similarity", list(Similarity), ids=[each.value for each in Similarity])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store codes in many small parts."""
    monkeypatch.setattr(kept_codes, "_PART_BYTES", PART_BYTES)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the number of slots of each snapshot on which a codebook is trained."""
    train, counts = VectorCodes.train, list[int]()

    def counted(codes: VectorCodes, snapshot: Any) -> None:
        counts.append(len(snapshot.rows))
        train(codes, snapshot)

    monkeypatch.setattr(VectorCodes, "train", counted)
    return counts


def kept_of(codes: VectorCodes, columns: Any, **values: Any) -> tuple[Codebook, CodedRows]:
    """Return codes in the form in which they are kept."""
    fields = {"kind": codes.kind, "trained": 700, "written": 0, "rows": columns.snapshot.count, **values}
    parts = [CodedRows(*map(np.concatenate, zip(*coded_rows(codes, columns.snapshot), strict=True)))]
    return Codebook(centroids=codes.centroids(), **fields), parts[0]


def first_of(rows: CodedRows, count: int) -> CodedRows:
    """Return the first of some rows."""
    return CodedRows(rows.rows[:count], rows.checksums[:count], rows.codes[:count])


def bodies(vectors: NDArray[np.float32], first: int = 0) -> list[dict[str, Any]]:
    """Return records with vectors, float32 (n, d), and with the ids `first`, `first` + 1, ..."""
    return [{"id": str(first + number), "vector": vector.tolist()} for number, vector in enumerate(vectors)]


@contextmanager
def opened(path: Path, **schema: Any) -> Iterator[Rig]:
    """Open an index whose searches have small pools."""
    with small_pools(), Rig(path=path, dimension=16, pool_from=1, **schema) as rig:
        yield rig


def make_codes(rig: Rig, namespace: str = "") -> VectorCodes:
    """Search, and return the codes of the namespace once they are made."""
    rig.query(namespace=namespace, vector=VECTORS[0].tolist())
    rig.engine._pools.wait()
    [coded] = [each for each in rig.engine._pools._coded.values() if each.codes is not None]
    assert isinstance(coded.codes, VectorCodes)
    return coded.codes


def holds(rig: Rig, vectors: NDArray[np.float32], namespace: str = "", ids: Sequence[int] | None = None) -> None:
    """Require that every record is found by its vector, and comes once in a search to the end."""
    expected = [str(id_) for id_ in (range(len(vectors)) if ids is None else ids)]
    for number in range(0, len(expected), 50):
        [(found, _)] = rig.query(namespace=namespace, vector=vectors[number].tolist(), topK=1)
        assert expected[number] == found
    uuid, page = rig.start(namespace=namespace, vector=vectors[0].tolist(), topK=20)
    found_ids: list[str] = []
    while page:
        found_ids += [id_ for id_, _ in page]
        page = rig.fetch_next(uuid, 200)
    rig.engine.stop(uuid)
    assert sorted(expected) == sorted(found_ids)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an index of 600 records, whose codes are kept, to be copied."""
    path = tmp_path_factory.mktemp("prepared") / "index"
    with pytest.MonkeyPatch.context() as patch, opened(path) as rig:
        patch.setattr(kept_codes, "_PART_BYTES", PART_BYTES)
        rig.upsert(*bodies(VECTORS[:600]))
        make_codes(rig)
    assert ["codebook", *range(10)] == stored(path)
    return path


@pytest.fixture
def path(prepared: Path, tmp_path: Path) -> Path:
    """A copy of that file."""
    return Path(shutil.copy(prepared, tmp_path / "index"))


def stored(path: Path) -> list[object]:
    """Return what is kept in a file: a codebook and the numbers of the parts."""
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'codes'").fetchone()[0]:
            return []
        books = ["codebook" for _ in connection.execute("SELECT 1 FROM codebooks")]
        return books + [part for (part,) in connection.execute("SELECT part FROM codes ORDER BY namespace, part")]


class TestForm:
    """Codes that are kept and taken again."""

    @METRICS
    @pytest.mark.parametrize("dimension", [5, 6, 16])
    @pytest.mark.parametrize("count", [700, 704])
    def test_as_before(self, similarity: Similarity, dimension: int, count: int) -> None:
        """They find what they found before, and further rows can be appended to them."""
        columns = columns_of(VECTORS[:count, :dimension])
        codes = codes_of(columns.snapshot, similarity)
        found = restored(*kept_of(codes, columns), columns.snapshot, similarity)
        assert found is not None
        assert (count, count, 0) == (len(found.codes), found.found, found.written)
        for total in (count, 1_000):
            append(columns, VECTORS[len(columns) : total, :dimension], len(columns))
            visible = VisibleSlots(columns.snapshot)
            for each in (codes, found.codes):
                each.extend(columns.snapshot)
            before, after = (each.nearest(VECTORS[3, :dimension], 200, visible) for each in (codes, found.codes))
            assert before.slots.tolist() == after.slots.tolist()
            assert before.coded == after.coded

    def test_other_slots(self) -> None:
        """A code is taken for the vector of which it was made, whatever slot that has, and others are coded anew."""
        columns = columns_of(VECTORS[:700])
        append(columns, VECTORS[700:720], 50)  # other vectors of rows that there were
        codes = codes_of(columns.snapshot, Similarity.COSINE)
        kept = kept_of(codes, columns)
        append(columns, VECTORS[900:], 60)
        compact(columns)
        found = restored(*kept, columns.snapshot, Similarity.COSINE)
        assert found is not None
        for slot, row in enumerate(columns.snapshot.rows[: len(found.codes)].tolist()):
            vector = VECTORS[900 + row - 60] if 60 <= row < 160 else VECTORS[row + 650 if 50 <= row < 60 else row]
            assert slot in found.codes.nearest(vector, 20, VisibleSlots(columns.snapshot)).slots
        assert 50 == found.written
        assert len(columns) - 50 == found.found

    def test_a_part(self) -> None:
        """Rows that had no codes yet when the others were kept are none that were written since."""
        columns = columns_of(VECTORS[:700])
        codebook, rows = kept_of(codes_of(columns.snapshot, Similarity.COSINE), columns, written=3)
        append(columns, VECTORS[700:750], 700)
        found = restored(codebook, first_of(rows, 64), columns.snapshot, Similarity.COSINE)
        assert found is not None
        assert (64, 64, 53) == (len(found.codes), found.found, found.written)

    def test_none(self) -> None:
        """A codebook alone is taken as well."""
        columns = columns_of(VECTORS[:700])
        codebook, rows = kept_of(codes_of(columns.snapshot, Similarity.COSINE), columns)
        found = restored(codebook, first_of(rows, 0), columns.snapshot, Similarity.COSINE)
        assert found is not None
        assert 0 == len(found.codes)
        found.codes.extend(columns.snapshot)
        assert 7 in found.codes.nearest(VECTORS[7], 10, VisibleSlots(columns.snapshot)).slots

    @pytest.mark.parametrize(
        "change",
        [
            lambda book, rows: (book._replace(kind="PQ8x4 EUCLIDEAN"), rows),
            lambda book, rows: (book._replace(centroids=book.centroids[:-1]), rows),
            lambda book, rows: (book._replace(centroids=book.centroids * np.nan), rows),
            lambda book, rows: (book._replace(centroids=book.centroids + np.float32(1e30)), rows),
            lambda book, rows: (book, rows._replace(codes=rows.codes[:, :-1])),
        ],
        ids=["kind", "size", "no numbers", "huge numbers", "code size"],
    )
    def test_another_kind(self, change: Callable[..., Any]) -> None:
        """Codes that cannot be those of the slots are not taken."""
        columns = columns_of(VECTORS[:700])
        codebook, rows = change(*kept_of(codes_of(columns.snapshot, Similarity.COSINE), columns))
        assert restored(codebook, rows, columns.snapshot, Similarity.COSINE) is None

    def test_any_numbers(self) -> None:
        """Codes that somebody made up lead to other candidates, and to nothing worse."""
        columns, random = columns_of(VECTORS), np.random.default_rng(1)
        codebook, rows = kept_of(codes_of(columns.snapshot, Similarity.COSINE), columns)
        codebook = codebook._replace(centroids=random.normal(size=codebook.centroids.shape).astype(np.float32))
        rows = rows._replace(codes=random.integers(256, size=rows.codes.shape, dtype=np.uint8))
        found = restored(codebook, rows, columns.snapshot, Similarity.COSINE)
        assert found is not None
        with small_pools():
            ranking = PoolRanking(columns.snapshot, VECTORS[0], Similarity.COSINE, found.codes)
            pages = [ranking.take(30) for _ in range(40)]
        exact = dense.ranking(columns.snapshot, VECTORS[0], Similarity.COSINE).take(1_000)
        assert sorted(exact.rows.tolist()) == sorted(row for page in pages for row in page.rows.tolist())


class TestReopening:
    """An index that is closed and opened again."""

    def test_as_it_was(self, path: Path, trained: list[int]) -> None:
        """Nothing is trained and stored again."""
        before = path.read_bytes()
        with opened(path) as rig:
            assert 600 == len(make_codes(rig))
            holds(rig, VECTORS[:600])
        assert [] == trained
        assert before == path.read_bytes()

    def test_after_writes(self, path: Path, trained: list[int]) -> None:
        """Records that were replaced, deleted or added since are found by what they are now."""
        with Rig(path=path, dimension=16) as rig:  # which knows nothing of codes
            rig.upsert(*bodies(VECTORS[900:950], 100))
            rig.delete(ids=[str(id_) for id_ in range(200, 250)])
            rig.upsert(*bodies(VECTORS[600:700], 600))
        vectors, ids = VECTORS[:700].copy(), [*range(200), *range(250, 700)]
        vectors[100:150] = VECTORS[900:950]
        with opened(path) as rig:
            make_codes(rig)
            holds(rig, vectors[ids], ids=ids)
        assert [] == trained

    @pytest.mark.parametrize(("count", "as_before"), [(40, True), (41, False)])
    def test_growth(self, path: Path, count: int, as_before: bool) -> None:
        """Codes are stored again once one in sixteen is new."""
        before = stored_codes(path)
        with opened(path) as rig:
            make_codes(rig)
            rig.upsert(*bodies(VECTORS[600 : 600 + count], 600))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pools, "_UNCODED", 0)
                assert 600 + count == len(make_codes(rig))
            holds(rig, VECTORS[: 600 + count])
        assert as_before == (before == stored_codes(path))

    def test_training(self, path: Path, trained: list[int]) -> None:
        """A codebook is trained anew once the rows that were written twice over as many, however often it is opened."""
        for first in range(600, 1_000, 100):
            with opened(path) as rig:
                make_codes(rig)
                rig.upsert(*bodies(VECTORS[first : first + 100], first))
        assert [] == trained
        with opened(path) as rig:
            make_codes(rig)
            rig.upsert(*bodies(VECTORS[:200], 0))
            make_codes(rig)
        assert [1_200] == trained

    def test_drift(self, path: Path, trained: list[int]) -> None:
        """A codebook that finds too little is not taken from the file again."""
        with opened(path) as rig:
            codes = make_codes(rig)
            for _ in range(100):
                codes.note_search(widened=True)
            rig.upsert(*bodies(VECTORS[600:700], 600))
            make_codes(rig)
            assert [700] == trained
        with opened(path) as rig:
            make_codes(rig)
        assert [700] == trained

    def test_compaction(self, path: Path, trained: list[int]) -> None:
        """Codes are taken from the file as well when slots are numbered anew."""
        with opened(path) as rig:
            make_codes(rig)
            [columns] = rig.engine._pools._coded
            compact(columns)
            assert 300 == len(make_codes(rig))
        assert [] == trained

    def test_another_schema(self, path: Path) -> None:
        """Codes of a namespace that was reset, deleted or replaced are gone."""
        with opened(path) as rig:
            for name in ("a", "b"):
                rig.upsert(*bodies(VECTORS[:100]), namespace=name)
                rig.query(namespace=name, vector=VECTORS[0].tolist())
                rig.engine._pools.wait()
            rig.engine.rename_namespace("a", "b", replace=True)
        assert ["codebook", "codebook", *range(10), 0, 1] == stored(path)
        with opened(path) as rig:
            rig.engine.delete_namespace("b")
        assert ["codebook", *range(10)] == stored(path)
        with opened(path) as rig:
            rig.engine.reset(None)
        assert [] == stored(path)

    def test_closed_while_it_codes(self, tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        """An index that is closed before all of its codes are made goes on with them when it is opened again."""
        extend, path = VectorCodes.extend, tmp_path / "index"
        with monkeypatch.context() as patch, opened(path) as rig:
            patch.setattr(VectorCodes, "extend", lambda *_: None)  # as if it were closed just now
            rig.upsert(*bodies(VECTORS))
            make_codes(rig)
        assert ["codebook"] == stored(path)
        assert VectorCodes.extend is extend
        with opened(path) as rig:
            assert 1_000 == len(make_codes(rig))
            holds(rig, VECTORS)
        assert [1_000] == trained


def stored_codes(path: Path) -> list[Any]:
    """Return the rows of both tables."""
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("codebooks", "codes")]  # noqa: S608


def change(path: Path, statement: str) -> None:
    """Change the file of an index behind its back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


class TestDamage:
    """Codes in a file that is damaged, or that somebody else has made."""

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE codebooks SET centroids = substr(centroids, 2) || x'00'",
            "UPDATE codebooks SET centroids = substr(centroids, 2)",
            "UPDATE codebooks SET kind = 'other'",
            "UPDATE codebooks SET trained = 'many'",
            "UPDATE codebooks SET written = 10000",
            "UPDATE codebooks SET centroids = 'text'",
            "UPDATE codes SET codes = substr(codes, 2) || x'00' WHERE part = 0",
            "UPDATE codes SET rows = substr(rows, 2) || x'00' WHERE part = 0",
            "UPDATE codes SET checksums = x'' WHERE part = 0",
            "UPDATE codes SET rows = 7",
            "UPDATE codes SET codes = x''",
            "UPDATE codes SET rows = x'', checksums = x'', codes = x''",
            "DELETE FROM codes WHERE part = 0",
            "DELETE FROM codes WHERE part = 4",
            "DELETE FROM codebooks",
            "DROP TABLE codes",
            "ALTER TABLE codes DROP COLUMN rows",
            "ALTER TABLE codebooks RENAME COLUMN kind TO sort",
        ],
    )
    def test_damage(self, path: Path, statement: str) -> None:
        """Damaged codes are made anew, and everything is found."""
        change(path, statement)
        for _ in range(2):
            with opened(path) as rig:
                assert 600 == len(make_codes(rig))
                holds(rig, VECTORS[:600])

    def test_swapped(self, path: Path, tmp_path: Path) -> None:
        """Codes of one codebook are not taken for those of another one."""
        other = tmp_path / "other"
        with opened(other) as rig:
            rig.upsert(*bodies(VECTORS[400:]))
            make_codes(rig)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ATTACH ? AS other", (str(other),))
            connection.execute("DELETE FROM codebooks")
            connection.execute("INSERT INTO codebooks SELECT * FROM other.codebooks")
            connection.commit()
        with Rig(path=path, dimension=16, pool_from=1) as rig, closing(rig.engine):
            columns = rig.engine._cache.columns(1)
            keeper = rig.engine._pools._keeper
            assert keeper is not None
            kept = keeper.read(columns)
            assert kept is not None
            assert 0 == len(kept[1].rows)

    @pytest.mark.parametrize("fault", [StepFault.FULL, StepFault.BROKEN])
    def test_faults(self, fault: StepFault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fails while codes are stored or read leaves the records as they are, and is no error."""
        path, failed, plan = tmp_path / "index", 0, plan_steps(monkeypatch)
        plan.fault = fault
        with opened(path) as rig:
            rig.upsert(*bodies(VECTORS[:300]))
            columns = rig.engine._cache.columns(1)
            codes = codes_of(columns.snapshot, Similarity.COSINE)
            codebook = kept_of(codes, columns)[0]
            keeper = rig.engine._pools._keeper
            assert keeper is not None
            for step in range(1, 40, 3):
                with plan.armed(step):
                    keeper.write(columns, codebook, coded_rows(codes, columns.snapshot), 0)
                    failed += plan.struck
                with plan.armed(1 + step % 7):
                    keeper.read(columns)
                holds(rig, VECTORS[:300])
            rig.upsert(*bodies(VECTORS[300:320], 300))
        assert failed > 5
        with opened(path) as rig:
            make_codes(rig)
            holds(rig, VECTORS[:320])


class TestFile:
    """The file that codes are kept in."""

    def test_no_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Codes take none of the last room of a disk."""
        usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with opened(tmp_path / "index") as rig:
            rig.upsert(*bodies(VECTORS[:300]))
            assert 300 == len(make_codes(rig))
        assert [] == stored(tmp_path / "index")

    @pytest.mark.parametrize("kept", [True, False])
    def test_read_only(self, path: Path, kept: bool, trained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be written to is searched by its codes, and gets none."""
        if not kept:
            change(path, "DELETE FROM codebooks")
        before = path.read_bytes()
        monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
        with opened(path) as rig:
            assert 600 == len(make_codes(rig))
            holds(rig, VECTORS[:600])
        assert kept == (not trained)
        assert before == path.read_bytes()

    def test_missing_faiss(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without faiss, codes are left alone."""
        before = path.read_bytes()
        monkeypatch.setitem(sys.modules, "faiss", None)
        with opened(path) as rig:
            rig.query(vector=VECTORS[0].tolist())
            rig.engine._pools.wait()
            holds(rig, VECTORS[:600])
        assert before == path.read_bytes()

    def test_check(self, path: Path) -> None:
        """Codes are no damage."""
        with open_file(path) as checked:
            result = checked.check()
        assert not result.is_damaged
        assert 600 == result.whole

    def test_copies(self, path: Path, tmp_path: Path, trained: list[int]) -> None:
        """A backup has the codes, and a rescued file makes its own."""
        back_up_file(path, tmp_path / "backup", overwrite=False)
        with opened(tmp_path / "backup") as rig:
            assert 600 == len(make_codes(rig))
            holds(rig, VECTORS[:600])
        assert [] == trained
        with open_file(path) as checked:
            assert 600 == rescue(checked, tmp_path / "rescued")
        assert [] == stored(tmp_path / "rescued")
        with opened(tmp_path / "rescued") as rig:
            make_codes(rig)
            holds(rig, VECTORS[:600])
        assert [600] == trained

    def test_searches_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Searches and writes go on between the parts that are stored, and a namespace that is deleted gets none."""
        path, add, counts = tmp_path / "index", CodeTable.add, list[int]()
        with opened(path) as rig:
            rig.upsert(*bodies(VECTORS[:300]), namespace="a")

            def slowly(table: CodeTable, key: int, number: int, *values: Any) -> None:
                add(table, key, number, *values)
                counts.append(number)

            def parts(codes: VectorCodes, snapshot: Any) -> Iterator[CodedRows]:
                for part in coded_rows(codes, snapshot):
                    if len(counts) == 2:
                        rig.upsert({"id": "x", "vector": VECTORS[999].tolist()}, namespace="a")
                        assert "x" == rig.query(namespace="a", vector=VECTORS[999].tolist(), topK=1)[0][0]
                    elif len(counts) == 4:
                        rig.engine.delete_namespace("a")
                    yield part

            monkeypatch.setattr(CodeTable, "add", slowly)
            monkeypatch.setattr(pools, "coded_rows", parts)
            rig.query(namespace="a", vector=VECTORS[0].tolist())
            rig.engine._pools.wait()
        assert [0, 1, 2, 3] == counts
        assert [] == stored(path)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from nextk.engine.code_table import CodeTable
from nextk.engine.pool.codes import VectorCodes
from tests.engine.pool.test_kept_codes import PART_BYTES, VECTORS, bodies, kept_codes, make_codes, opened

kept_codes._PART_BYTES = PART_BYTES

def dying(owner, name, calls):
    run = getattr(owner, name)
    def replaced(*values):
        nonlocal calls
        calls -= 1
        if not calls:
            print("now", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        run(*values)
    setattr(owner, name, replaced)

owner = {"CodeTable": CodeTable, "VectorCodes": VectorCodes}[sys.argv[2]]
with opened(Path(sys.argv[1])) as rig:
    rig.upsert(*bodies(VECTORS))
    dying(owner, sys.argv[3], int(sys.argv[4]))
    make_codes(rig)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a process that is killed")
@pytest.mark.parametrize(
    ("owner", "function", "calls", "kept"),
    [
        ("VectorCodes", "_vectors_of", 1, []),
        ("CodeTable", "add", 1, ["codebook"]),
        ("CodeTable", "add", 4, ["codebook", 0, 1, 2]),
    ],
    ids=["training", "the first part", "a later part"],
)
def test_killed(tmp_path: Path, owner: str, function: str, calls: int, kept: list[object]) -> None:
    """Whenever a process is killed, all records are there, what is stored is whole, and searches are right."""
    path = tmp_path / "index"
    with python(KILLED, path, owner, function, calls) as process:
        printed, complaints = process.communicate()
    assert "now" == printed.strip(), complaints
    with Rig(path=path, dimension=16):
        pass
    assert kept == stored(path)
    with opened(path) as rig:
        assert 1_000 == len(make_codes(rig))
        holds(rig, VECTORS)
    assert ["codebook", *range(16)] == stored(path)


def test_an_index_that_is_dropped_while_its_codes_are_made(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that is dropped unclosed can be opened again at once, although a thread still makes its codes."""
    training, go_on = threading.Event(), threading.Event()
    train = VectorCodes.train

    def slow(codes: VectorCodes, snapshot: Any) -> None:
        training.set()
        assert go_on.wait(10)
        train(codes, snapshot)

    monkeypatch.setattr(VectorCodes, "train", slow)
    monkeypatch.setattr(pools, "_UNKEPT_PART", 1)
    place = tmp_path / "dropped"
    index = Index.embedded(place, type="dense", dimension=VECTORS.shape[1], pool_from=1)
    index.upsert([Vector(str(row), vector) for row, vector in enumerate(VECTORS)])
    index.query(vector=VECTORS[0])
    assert training.wait(10)
    del index
    gc.collect()
    try:
        with Index.embedded(place, exact=True) as again:
            assert len(VECTORS) == again.info().vector_count
    finally:
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "nextk-pool":
                thread.join()
