"""Writes to indexes on PostgreSQL, from several processes, which two engines over one database stand for."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from nextk import Index, Vector
from nextk.errors import ClientError, RefusedError
from tests.support.postgres_indexes import fill, ids, postgres_index
from tests.support.postgres_server import PostgresServer


@pytest.fixture
def indexes(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[tuple[Index, Index]]:
    """Two engines of one index of which nothing is decided."""
    with (
        postgres_index(postgres_server.dsn, postgres_schema) as one,
        postgres_index(postgres_server.dsn, postgres_schema) as other,
    ):
        yield one, other


def await_waiting(server: PostgresServer, application_name: str, count: int) -> None:
    """Return once so many connections of an application wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    end = time.monotonic() + 60
    while server.execute(waiting, application_name) != [(count,)]:
        assert time.monotonic() < end


def test_the_first_write_decides_for_all(indexes: tuple[Index, Index]) -> None:
    """The first write decides the type and the dimension of an index for every process that has it open."""
    one, other = indexes
    assert [] == other.query([1.0])
    fill(one, 3)
    assert ["r0", "r1", "r2"] == ids(other.query([1.0, 0.0]))
    with pytest.raises(RefusedError, match="Invalid vector dimension: 3, expected: 2"):
        other.upsert([("a", [1.0, 2.0, 3.0])])


def test_two_first_writes_at_once(indexes: tuple[Index, Index]) -> None:
    """Of two first writes that differ, one decides, and the other is refused as any later one."""

    def write(index: Index, dimension: int) -> bool:
        try:
            index.upsert([("a", [1.0] * dimension)])
        except RefusedError:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(write, indexes, (2, 3)))
    assert [False, True] == sorted(done)
    assert {2, 3} >= {indexes[0].info().dimension} == {indexes[1].info().dimension}


def test_writers_of_the_same_records(indexes: tuple[Index, Index]) -> None:
    """Writers that store and delete the same records in other orders neither block each other nor miscount."""
    names = [f"r{number}" for number in range(30)]
    fill(indexes[0], 30)

    def work(number: int) -> None:
        index, order = indexes[number % 2], names if number % 4 < 2 else names[::-1]
        for _ in range(4):
            index.upsert([(name, [1.0, float(number)], {"by": number}) for name in order])
            index.delete(ids=order[:10])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    one, other = indexes
    found = other.query([1.0, 0.0], top_k=1_000)
    assert len(set(ids(found))) == len(found) == one.info().vector_count == other.info().vector_count


@pytest.mark.parametrize("namespace", ["", None], ids=repr)
def test_a_reset_during_the_first_write(
    postgres_server: PostgresServer, postgres_schema: str, namespace: str | None
) -> None:
    """A reset that waits for the first write of another process deletes all of it, the sparse vectors as well."""
    dsn = make_conninfo(postgres_server.dsn, application_name=postgres_schema)
    lock = sql.SQL("SELECT 1 FROM {} FOR UPDATE").format(sql.Identifier(postgres_schema, "namespaces"))
    with (
        postgres_index(dsn, postgres_schema) as one,
        postgres_index(dsn, postgres_schema) as stale,
        ThreadPoolExecutor(2) as threads,
    ):
        with psycopg.connect(postgres_server.dsn) as other:
            assert [(1,)] == other.execute(lock).fetchall()
            write = threads.submit(one.upsert, [Vector("a", sparse_vector=([1, 2], [0.5, 1.5]))])
            await_waiting(postgres_server, postgres_schema, 1)
            reset = threads.submit(stale.reset, all=True) if namespace is None else threads.submit(stale.reset)
            await_waiting(postgres_server, postgres_schema, 2)
        write.result()
        reset.result()
        assert 0 == one.info().vector_count == stale.info().vector_count
        postings = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(postgres_schema, "postings_1"))
        assert [(0,)] == postgres_server.execute(postings)


def test_readers_do_not_wait_for_writers(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """Records can be read while as many writers as have connections wait for the lock of a namespace."""
    dsn = make_conninfo(postgres_server.dsn, application_name=postgres_schema)
    lock = sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(postgres_schema, "namespaces"))
    with postgres_index(dsn, postgres_schema, type="dense") as index, ThreadPoolExecutor(8) as threads:
        fill(index, 1)
        with psycopg.connect(postgres_server.dsn) as other:
            other.execute(lock)
            writes = [threads.submit(fill, index, 2) for _ in range(8)]
            await_waiting(postgres_server, postgres_schema, 8)
            assert ["r0"] == [found.id for found in index.fetch(["r0"]) if found is not None]
            assert ["r0"] == ids(index.query([1.0, 0.0]))
        assert [["r0", "r1"]] * 8 == [write.result() for write in writes]


def test_a_namespace_that_two_make_at_once(indexes: tuple[Index, Index]) -> None:
    """Writers that make the same namespace at once share it, and one that is deleted meanwhile is made again."""
    fill(indexes[0], 1)

    def work(number: int) -> None:
        for turn in range(5):
            indexes[number % 2].upsert([(f"{number}-{turn}", [1.0, 0.0])], namespace="x")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert ["", "x"] == indexes[1].list_namespaces()
    assert 20 == len(indexes[0].query([1.0, 0.0], top_k=1_000, namespace="x"))


@pytest.mark.parametrize("record", [("a\0", [1.0]), ("a", [1.0], None, "b\0")])
def test_nul(indexes: tuple[Index, Index], record: tuple[object, ...]) -> None:
    """An id or a text with the NUL character, which PostgreSQL cannot store, is refused in words; nothing is stored."""
    with pytest.raises(RefusedError, match="cannot store the character U") as caught:
        indexes[0].upsert([("other", [1.0]), record])
    assert 422 == caught.value.status
    assert 0 == indexes[0].info().vector_count


def test_no_backup(indexes: tuple[Index, Index], tmp_path: object) -> None:
    """A backup into a file is refused with the command of PostgreSQL that makes one."""
    with pytest.raises(ClientError, match="pg_dump --schema="):
        indexes[0].backup(f"{tmp_path}/copy.nextk")


def test_an_update_of_metadata_leaves_the_sparse_vectors(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """An update that does not change a sparse vector writes none of its entries, and another one writes them all."""
    name = sql.Identifier(postgres_schema, "postings_1")
    versions = sql.SQL("SELECT dimension, xmin::text FROM {} ORDER BY dimension").format(name)
    with postgres_index(postgres_server.dsn, postgres_schema, type="sparse") as index:
        index.upsert([Vector("a", sparse_vector=([1, 2], [0.5, 1.5]))])
        before = postgres_server.execute(versions)
        assert index.update("a", metadata={"n": 1})
        assert before == postgres_server.execute(versions)
        assert index.update("a", sparse_vector=([2, 3], [0.5, 1.5]))
        after = postgres_server.execute(versions)
        assert [2, 3] == [dimension for dimension, _ in after]
        assert set(before).isdisjoint(after)
        (match,) = index.query(sparse_vector=([1, 3], [1.0, 2.0]), include_metadata=True)
        assert (3.0, {"n": 1}) == (match.score, match.metadata)
