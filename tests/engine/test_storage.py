"""The file of an embedded index: durable, recognised, held by one process."""

import random
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextk import AsyncIndex, Index, Vector
from nextk.engine.storage import Storage
from nextk.errors import ClientError, QueryNotFound, RefusedError, TooManyQueries
from nextk.handle import ResumableQueryHandle
from nextk.types import FetchResult, SparseVector
from tests.engine.test_engine import FEW, GROUPS, SPARSE, histories, play, wire
from tests.support.bare_engine import Rig
from tests.support.subprocesses import output, python

INGEST = """
import sys
from nextk import Index
index = Index.embedded(sys.argv[1], type="hybrid", dimension=4)
batch = int(sys.argv[2])
while True:
    index.upsert([(f"{batch}-{n}", [n, 1, 2, 3], ([n], [1.0]), {"batch": batch}, "x" * 300) for n in range(25)])
    print("stored", batch, flush=True)
    if batch % 3 == 0:
        index.delete(prefix=f"{batch}-")
        print("deleted", batch, flush=True)
    batch += 1
"""

TRY = """
import sys
from nextk import Index
from nextk.errors import ClientError
try:
    with Index.embedded(sys.argv[1]) as index:
        print(index.info().vector_count)
except ClientError as error:
    print(error)
"""


def opened(path: Path, **keywords: Any) -> Index:
    """An index of two dimensions, made or opened."""
    return Index.embedded(path, **{"type": "dense", "dimension": 2, **keywords})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path at which an index can be created."""
    return tmp_path / "index"


class TestKilled:
    """A process that dies."""

    def test_killed_in_mid_ingest(self, path: Path) -> None:
        """After kill -9, whatever was acknowledged is whole, and what was under way is whole or absent."""
        chance = random.Random(2)  # noqa: S311 - no secret depends on it
        stored: set[int] = set()
        deleted: set[int] = set()
        for _ in range(6):
            begin = max(stored, default=0) + 2  # the batch after the last acknowledged one may be there or not
            with python(INGEST, path, begin) as process:
                assert process.stdout is not None
                acknowledged = [process.stdout.readline() for _ in range(chance.randrange(1, 25))]
                for _ in range(chance.randrange(40_000)):  # to die anywhere within a write
                    pass
                process.kill()
                acknowledged += process.stdout.readlines()
            for line in acknowledged:
                what, batch = line.split()
                (stored if what == "stored" else deleted).add(int(batch))
            self.check(path, stored, deleted)

    def check(self, path: Path, stored: set[int], deleted: set[int]) -> None:
        """Compare what is in the file with what was acknowledged."""
        with Index.embedded(path) as index:
            found: dict[int, int] = {}
            cursor = ""
            while True:
                stretch = index.range(cursor, 1_000, include_metadata=True, include_vectors=True, include_data=True)
                for record in stretch.vectors:
                    assert record.metadata is not None
                    number = int(record.id.partition("-")[2])
                    assert ([number, 1, 2, 3], "x" * 300) == (record.vector, record.data)
                    found[record.metadata["batch"]] = found.get(record.metadata["batch"], 0) + 1
                cursor = stretch.next_cursor
                if not cursor:
                    break
            assert {25} == set(found.values())
            assert set() == found.keys() & deleted
            assert set() == {batch for batch in stored - deleted - found.keys() if batch % 3}
            assert len(found) * 25 == index.info().vector_count == len(searched(index, len(found) * 25))

    def test_the_lock_dies_with_its_process(self, path: Path) -> None:
        """A killed process leaves no lock behind."""
        with python(INGEST, path, 1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(ClientError, match="another process"):
                Index.embedded(path)
            process.kill()
        with Index.embedded(path) as index:
            assert index.info().vector_count % 25 == 0


def searched(index: Index, count: int) -> set[str]:
    """The ids that a search to the end finds."""
    page, handle = index.resumable_query([1.0, 1.0, 1.0, 1.0], 1_000)
    with handle:
        found = [match.id for match in page]
        while page := handle.fetch_next(1_000):
            found += [match.id for match in page]
    assert count == len(found)
    return set(found)


class TestHeld:
    """One process holds an index."""

    def test_second_process(self, path: Path) -> None:
        """A second process is told to share the index through `nextk serve`, and does no harm."""
        with opened(path) as index:
            index.upsert([("a", [1.0, 0.0])])
            refusal = output(TRY, path)
            assert "another process" in refusal
            assert "nextk serve" in refusal
            assert str(path) in refusal
            index.upsert([("b", [1.0, 0.0])])
        assert "2" == output(TRY, path)

    def test_a_reader_holds_it_too(self, path: Path) -> None:
        """A process that has only read from an index holds it as well."""
        opened(path).close()
        with Index.embedded(path):
            assert "nextk serve" in output(TRY, path)

    def test_one_process_has_one_engine(self, path: Path) -> None:
        """Within a process everyone who opens a path has the same engine, until the last one closes it."""
        first, second = opened(path), Index.embedded(path)
        (path.parent / "link").symlink_to(path)
        third = Index.embedded(path.parent / "link")
        first.upsert([("a", [1.0, 0.0])])
        page, handle = second.resumable_query([1.0, 0.0])
        assert (["a"], ["a"]) == ([m.id for m in page], [m.id for m in third.query([1.0, 0.0])])
        first.close()
        first.close()
        with handle:
            assert [] == handle.fetch_next(1)
        second.close()
        assert 1 == third.info().vector_count
        assert "nextk serve" in output(TRY, path)
        third.close()
        assert "1" == output(TRY, path)

    def test_threads_that_open_at_once(self, path: Path) -> None:
        """Threads that open a path at the same moment share one engine."""
        opened(path).close()
        with ThreadPoolExecutor(8) as pool:
            indexes = list(pool.map(lambda _: Index.embedded(path), range(8)))
            list(pool.map(lambda number: indexes[number].upsert([(str(number), [1.0, 0.0])]), range(8)))
            assert [8] * 8 == [index.info().vector_count for index in indexes]
            list(pool.map(lambda index: index.close(), indexes))
        assert "8" == output(TRY, path)

    async def test_both_colours_have_one_engine(self, path: Path) -> None:
        """A blocking client and an asynchronous one of the same path share one engine."""
        with opened(path) as index:
            async with AsyncIndex.embedded(path) as other:
                index.upsert([("a", [1.0, 0.0])])
                assert ["a"] == [match.id for match in await other.query([1.0, 0.0])]
            assert 1 == index.info().vector_count

    def test_the_cap_is_shared(self, path: Path) -> None:
        """All open queries of a shared engine count against one cap."""
        with opened(path) as first, Index.embedded(path) as second:
            handles = [
                index.resumable_query([1.0, 0.0])[1] for index in [first, second] * 25
            ]  # half of it, in one namespace
            with pytest.raises(TooManyQueries):
                first.resumable_query([1.0, 0.0])
            for handle in handles:
                handle.stop()

    def test_indexes_in_memory_are_apart(self) -> None:
        """Every index in memory is separate from all others."""
        with Index.embedded(type="dense") as first, Index.embedded(type="dense") as second:
            first.upsert([("a", [1.0])])
            assert (1, 0) == (first.info().vector_count, second.info().vector_count)

    def test_a_refused_opening_holds_nothing(self, path: Path) -> None:
        """An opening that is refused leaves the index free for others, and counts for nothing where it is open."""
        opened(path).close()
        with pytest.raises(ClientError):
            opened(path, dimension=3)
        assert "0" == output(TRY, path)
        with opened(path), pytest.raises(ClientError):
            opened(path, dimension=3)
        assert "0" == output(TRY, path)


def letters(texts: list[str]) -> np.ndarray[Any, Any]:
    """A text model of the caller's own."""
    return np.array([[text.count("a"), text.count("b")] for text in texts], float)


class TestSchema:
    """The schema, which is fixed when an index is created."""

    @pytest.mark.parametrize(
        ("keyword", "stored", "other"),
        [
            ("type", "dense", "hybrid"),
            ("dimension", 2, 3),
            ("similarity", "cosine", "euclidean"),
            ("fusion_order", "global", "batch"),
            ("embedding", None, "static"),
            ("embedding", None, letters),
        ],
    )
    def test_contradiction(self, path: Path, keyword: str, stored: Any, other: Any) -> None:
        """Reopening with another value for a keyword is refused, naming it; nothing changes."""
        with opened(path) as index:
            index.upsert([("a", [1.0, 0.0])])
            with pytest.raises(ClientError, match=keyword):
                Index.embedded(path, **{keyword: other})
        with pytest.raises(ClientError, match=keyword):
            Index.embedded(path, **{keyword: other})
        with Index.embedded(path, **{keyword: stored}) as index:
            assert ["a"] == [match.id for match in index.query([1.0, 0.0])]

    @pytest.mark.parametrize("keywords", [{"type": 3}, {"dimension": True}, {"similarity": "manhattan"}], ids=repr)
    def test_unusable_keywords_of_an_open_index(self, path: Path, keywords: dict[str, Any]) -> None:
        """A keyword that no index could have is refused by its name, also where the index is open already."""
        with opened(path, dimension=1), pytest.raises(ClientError, match=next(iter(keywords))):
            Index.embedded(path, **keywords)

    def test_contradicting_models(self, path: Path) -> None:
        """The models of an index are as fixed as the rest."""
        keywords: dict[str, Any] = {"embedding": "static", "sparse_embedding": "bm25"}
        with Index.embedded(path, **keywords) as index:
            index.upsert([("a", "river stone")])
        for wrong in ({"embedding": letters}, {"sparse_embedding": lambda texts: texts}):
            with pytest.raises(ClientError, match=next(iter(wrong))):
                Index.embedded(path, **wrong)
        for right in ({}, keywords, {"embedding": "static"}):
            with Index.embedded(path, **right) as index:
                assert ["a"] == [match.id for match in index.query(data="stone")]

    @pytest.mark.parametrize("keyword", ["embedding", "sparse_embedding"])
    def test_own_model_is_needed_again(self, path: Path, keyword: str) -> None:
        """An index made with a model of the caller's own says so where it is missing, and works where it is given."""

        def sparse(texts: list[str]) -> list[SparseVector]:
            return [SparseVector([len(text)], [1.0]) for text in texts]

        model: Any = {"embedding": letters, "sparse_embedding": sparse}[keyword]
        type_ = {"embedding": "dense", "sparse_embedding": "sparse"}[keyword]
        with Index.embedded(path, type=type_, **{keyword: model}) as index:
            index.upsert([("a", "aab")])
        with pytest.raises(ClientError, match=f"{keyword}="):
            Index.embedded(path)
        with Index.embedded(path, **{keyword: model}) as index:
            assert ["a"] == [match.id for match in index.query(data="aab")]
        assert keyword in output(TRY, path)

    def test_the_first_vector_decides_the_dimension(self, path: Path) -> None:
        """Without a dimension the first vector gives it, for good, and reopening knows it."""
        with Index.embedded(path, type="dense") as index:
            assert 0 == index.info().dimension
            index.upsert([("a", [1.0, 2.0, 3.0])])
            assert 3 == index.info().dimension
        with Index.embedded(path) as index:
            assert 3 == index.info().dimension
            index.reset()
            assert 3 == index.info().dimension
        with pytest.raises(ClientError, match="dimension"):
            Index.embedded(path, dimension=2)

    @pytest.mark.parametrize(
        "keywords",
        [
            {"type": "sprase"},
            {"similarity": "manhattan"},
            {"fusion_order": "best"},
            {"dimension": 0},
            {"dimension": True},
            {"dimension": 2.0},
            {"dimension": 10**6},
            {"type": "sparse", "dimension": 2},
            {"type": "sparse", "embedding": "static"},
            {"type": "dense", "sparse_embedding": "bm25"},
            {"embedding": "static", "dimension": 3},
            {"embedding": "openai"},
        ],
        ids=repr,
    )
    def test_unusable_keywords(self, path: Path, keywords: dict[str, Any]) -> None:
        """A keyword that is unknown or contradicts another one is refused by its name, and no file is made."""
        with pytest.raises(ClientError) as caught:
            Index.embedded(path, **keywords)
        assert any(word in str(caught.value) for word in keywords)
        assert [] == list(path.parent.iterdir())


class TestNoIndex:
    """Paths that are not an index."""

    def sqlite(self, path: Path, *statements: str) -> None:
        """Make or change a database."""
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    def refused(self, path: Path, match: str) -> None:
        """Opening is refused, twice, and changes nothing."""
        before = path.read_bytes() if path.is_file() else None
        for kind in (None, "dense"):
            with pytest.raises(ClientError, match=match) as caught:
                Index.embedded(path, type=kind)
            assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
        assert before == (path.read_bytes() if path.is_file() else None)

    def test_text_file(self, path: Path) -> None:
        """A file of another kind is not touched."""
        path.write_text("a shopping list\n" * 500)
        self.refused(path, "not a nextk index")

    def test_short_file(self, path: Path) -> None:
        """A file that is too short for any header is not touched."""
        path.write_text("x")
        self.refused(path, "not a nextk index")

    def test_foreign_database(self, path: Path) -> None:
        """A database of someone else is not touched."""
        self.sqlite(path, "CREATE TABLE records (id TEXT)", "INSERT INTO records VALUES ('precious')")
        self.refused(path, "not a nextk index")

    def test_foreign_database_with_an_application_id(self, path: Path) -> None:
        """A database that another application has marked as its own is not touched, even if it is empty."""
        self.sqlite(path, "PRAGMA application_id = 1196444487", "CREATE TABLE t (x)", "DROP TABLE t")
        self.refused(path, "not a nextk index")

    def test_directory(self, path: Path) -> None:
        """A directory cannot be opened, and is called one."""
        path.mkdir()
        self.refused(path, "is a folder")

    def test_missing_directory(self, tmp_path: Path) -> None:
        """A path below a directory that does not exist cannot be opened, and no directory is made."""
        self.refused(tmp_path / "missing" / "index", "does not exist; make it")
        assert [] == list(tmp_path.iterdir())

    def test_newer_format(self, path: Path) -> None:
        """An index of a later nextk asks for an upgrade."""
        opened(path).close()
        self.sqlite(path, "PRAGMA user_version = 99")
        self.refused(path, "format 99.*[Uu]pgrade")

    def test_truncated_index(self, path: Path) -> None:
        """An index whose file was cut short is refused, not silently made anew."""
        with opened(path) as index:
            index.upsert([(str(number), [1.0, 0.0], {}, "x" * 2_000) for number in range(50)])
        path.write_bytes(path.read_bytes()[:6_000])
        with pytest.raises(ClientError):
            Index.embedded(path).query([1.0, 0.0])


class TestReopening:
    """The answers of a reopened index."""

    @pytest.mark.parametrize("type_", ["dense", "sparse", "hybrid"])
    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_same_answers(self, type_: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
        """After any history a reopened index gives the answers that it gave before."""
        dense, sparse = type_ != "sparse", type_ != "dense"
        history = data.draw(histories(dense=dense, sparse=sparse))
        query: dict[str, Any] = {"topK": 1000, "weightingStrategy": "IDF", "fusionAlgorithm": "DBSF"}
        if dense:
            query["vector"] = data.draw(st.lists(FEW, min_size=2, max_size=2))
        if sparse:
            query["sparseVector"] = wire(data.draw(SPARSE))
        group = data.draw(GROUPS)
        queries = [query, {**query, "filter": f"group = '{group}'"}]
        where = tmp_path_factory.mktemp("same") / "index"
        with Rig(type_, path=where, dimension=2 if dense else None) as rig:
            play(rig, history)
            before = [rig.query(**one) for one in queries]
        with Rig(type_, path=where) as rig:
            assert before == [rig.query(**one) for one in queries]

    def test_everything_is_kept(self, path: Path) -> None:
        """Namespaces, metadata, data and vectors are as they were; open queries are not."""
        record = Vector("a", [0.1, -0.0], {"k": [None, {"ü": 1e-7}]}, "text\n\x00☃", ([5, 5, -3], [0.1, 0.2, 0.3]))
        with opened(path, type="hybrid") as index:
            for namespace in ("", "x", "empty"):
                index.upsert([record], namespace)
            index.reset("empty")
            read = index.fetch(["a"], True, True, "x", True)
            _, handle = index.resumable_query([1.0, 0.0])
        with Index.embedded(path) as index:
            assert ["", "x", "empty"] == index.list_namespaces()
            assert read == index.fetch(["a"], True, True, "x", True)
            with pytest.raises(ClientError):
                handle.fetch_next(1)
        with handle:  # its index is closed: nobody is left to stop it
            pass

    def test_rows_are_never_reused(self, path: Path) -> None:
        """A range cursor stays good over deletes and reopening: what it has passed does not come again."""
        with opened(path) as index:
            index.upsert([(str(number), [1.0, 0.0]) for number in range(6)])
            cursor = index.range("", 4).next_cursor
            index.delete(["3", "4", "5"])
        with Index.embedded(path) as index:
            index.upsert([("3", [1.0, 0.0])])
            assert ["3"] == [record.id for record in index.range(cursor, 9).vectors]


class TestFailure:
    """Writes that fail halfway."""

    def test_a_failed_batch_leaves_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If storing the third record fails, none is stored, no namespace is made, and memory agrees with the disk."""
        whole = Storage.upsert

        def failing(storage: Storage, key: int, records: Sequence[Any]) -> list[int]:
            whole(storage, key, [record for record in records if record.id < "c"])
            message = "disk full"
            raise sqlite3.OperationalError(message)

        with opened(path) as index:
            index.upsert([("a", [1.0, 0.0], {"old": True})])
            batch = [(id_, [0.0, 1.0], {"old": False}) for id_ in "abc"]
            monkeypatch.setattr(Storage, "upsert", failing)
            for namespace in ("", "new"):
                with pytest.raises(RefusedError, match="its storage failed"):
                    index.upsert(batch, namespace)
            monkeypatch.undo()
            self.unchanged(index)
            index.upsert([("d", [0.0, 1.0])])
            assert 2 == index.info().vector_count
            index.delete("d")
        with Index.embedded(path) as index:
            self.unchanged(index)

    def unchanged(self, index: Index) -> None:
        """Check that only the first record is there."""
        assert [FetchResult("a", metadata={"old": True})] == index.range("", 9, include_metadata=True).vectors
        assert [("a", 1.0)] == [(match.id, match.score) for match in index.query([1.0, 0.0])]
        assert ([""], 1) == (index.list_namespaces(), index.info().vector_count)

    def test_a_failed_delete_leaves_everything(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If deleting fails, everything is still there and found."""

        def failing(*_: Any) -> int:
            message = "disk full"
            raise sqlite3.OperationalError(message)

        with opened(path) as index:
            index.upsert([("a", [1.0, 0.0], {"old": True})])
            calls: dict[str, Callable[[], object]] = {"delete": lambda: index.delete("a"), "clear": index.reset}
            for name, call in calls.items():
                monkeypatch.setattr(Storage, name, failing)
                with pytest.raises(RefusedError, match="its storage failed"):
                    call()
                monkeypatch.undo()
                self.unchanged(index)


FORK = """
import os, signal, sys
from nextk import Index
from nextk.errors import ClientError
from nextk.handle import HandleStatus

index = Index.embedded(sys.argv[1] if sys.argv[1] != "memory" else None, type="dense", dimension=2)
index.upsert([(str(n), [1.0, n]) for n in range(10)])
page, handle = index.resumable_query([1.0, 0.0], 2)
receive, send = os.pipe()

def disown():
    handle._state.status = HandleStatus.STOPPED

def refused(call):
    try:
        call()
    except ClientError as error:
        print("nextk serve" in str(error), flush=True)

child = os.fork()
if child == 0:
    {child}
    sys.stdout.flush()
    sys.exit()
{parent}
"""

CHILDREN = {
    "exits": ("disown()", []),
    "exits at once": ("os._exit(0)", []),
    "uses it": ("refused(index.info); os._exit(0)", ["True"]),
    "uses it again": (
        "refused(index.info); refused(lambda: index.upsert([('child', [1.0, 0.0])])); os._exit(0)",
        ["True", "True"],
    ),
    "uses and closes it": ("refused(index.info); index.close(); disown()", ["True"]),
    "closes it": ("index.close(); disown()", []),
    "drops it": ("del index; disown()", []),
    "opens it anew": ("refused(lambda: Index.embedded(sys.argv[1])); os._exit(0)", ["True"]),
    "fetches a page": ("refused(lambda: handle.fetch_next(1)); os._exit(0)", ["True"]),
}


class TestFork:
    """A forked child."""

    def forked(self, where: object, child: str, parent: str) -> list[str]:
        """Run the script with what the child and the parent do; the lines they print."""
        indented = child.strip().replace("\n", "\n    ")
        code = FORK.replace("{child}", indented).replace("{parent}", parent.strip())
        with python(code, where) as process:
            printed, complaints = process.communicate()
        assert "" == complaints
        return printed.splitlines()

    @pytest.mark.parametrize("child", CHILDREN)
    def test_child_beside_its_parent(self, path: Path, child: str) -> None:
        """While the parent holds the index the child is refused, whatever it does; the parent loses nothing by it."""
        parent = """
os.waitpid(child, 0)
print([match.id for match in handle.fetch_next(2)])
index.upsert([("later", [1.0, 0.0])])
print(index.info().vector_count, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
        does, printed = CHILDREN[child]
        assert [*printed, "['2', '3']", "11"] == self.forked(path, does, parent)
        assert "11" == output(TRY, path)

    def test_child_after_its_parent(self, path: Path) -> None:
        """Even when the parent has let go a forked child is refused, and told why; the parent's data stays."""
        child = """
os.read(receive, 1)
refused(index.info)
os._exit(0)
"""
        parent = """
index.upsert([("later", [-1.0, 0.0])])
handle.stop()
index.close()
os.write(send, b".")
os.waitpid(child, 0)
with Index.embedded(sys.argv[1]) as again:
    print(again.info().vector_count)
"""
        assert ["True", "11"] == self.forked(path, child, parent)

    def test_index_in_memory(self) -> None:
        """An index in memory is copied with its process: both go on, each with its own."""
        child = """
index.upsert([("child", [1.0, 0.0])])
print([match.id for match in handle.fetch_next(1)], index.info().vector_count)
handle.stop()
"""
        parent = """
os.waitpid(child, 0)
print([match.id for match in handle.fetch_next(1)], index.info().vector_count)
handle.stop()
"""
        assert ["['2'] 11", "['2'] 10"] == self.forked("memory", child, parent)

    def test_killed_child(self, path: Path) -> None:
        """A child that is killed takes nothing with it."""
        parent = """
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
index.upsert([("later", [1.0, 0.0])])
print(len(index.query([1.0, 0.0], 100)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert ["11"] == self.forked(path, "os.read(receive, 1)", parent)
        assert "11" == output(TRY, path)


def test_gone_queries_are_gone(path: Path) -> None:
    """A query does not outlive its engine: after closing and reopening its uuid is unknown."""
    index = opened(path)
    _, handle = index.resumable_query([1.0, 0.0])
    index.close()
    with (
        Index.embedded(path) as again,
        ResumableQueryHandle(again._transport, handle._state.uuid) as other,
        pytest.raises(QueryNotFound),
    ):
        other.fetch_next(1)
    with handle:
        pass
