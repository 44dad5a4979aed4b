"""Sparse search on PostgreSQL: its scores are those of the embedded engine, whatever was written, by whomever."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.engine.values import SparseArrays
from nextk.postgres import sparse, sparse_blocks
from tests.support.bare_engine import Rig
from tests.support.postgres_postings import PostgresPostings, arrays
from tests.support.postgres_server import PostgresServer, fresh_schema


@pytest.fixture(scope="module")
def opened(postgres_server: PostgresServer) -> Iterator[PostgresPostings]:
    """Tables for the vectors of the tests of this file."""
    with fresh_schema(postgres_server) as schema:
        postings = PostgresPostings(postgres_server.dsn, schema)
        with closing(postings.connection):
            yield postings


@pytest.fixture
def postings(opened: PostgresPostings) -> PostgresPostings:
    """Tables without vectors."""
    for namespace in (1, 2, 3):
        opened.reset(namespace)
    return opened


DIMENSIONS = st.sampled_from([0, 1, 2, 3, -(2**31), 2**31 - 1])
VALUES = st.sampled_from([0.1, 0.2, -0.3, 1e-8, 1e8, 0.0, 3.4e38]) | st.floats(-100, 100, width=32)
VECTORS = st.lists(st.tuples(DIMENSIONS, VALUES), max_size=6)
IDS = st.sampled_from("abcdefgh")
WRITES = st.one_of(
    st.tuples(st.just("upsert"), st.dictionaries(IDS, st.tuples(VECTORS, st.integers(0, 3)), min_size=1, max_size=4)),
    st.tuples(st.just("delete"), st.sets(IDS, min_size=1, max_size=3)),
    st.tuples(st.just("reset"), st.none()),
)


def apply(postings: PostgresPostings, rig: Rig, kind: str, given: Any) -> None:
    """Write to PostgreSQL and to an embedded index."""
    if kind == "reset":
        postings.reset()
        rig.engine.reset("")
    elif kind == "delete":
        postings.delete(sorted(given))
        rig.delete(ids=sorted(given))
    else:
        upsert(postings, rig, {name: (of_pairs(pairs), number) for name, (pairs, number) in given.items()})


def upsert(postings: PostgresPostings, rig: Rig, records: dict[str, tuple[SparseArrays, int]]) -> None:
    """Store vectors, each with a number in its metadata, in PostgreSQL and in an embedded index."""
    postings.upsert(
        {name: vector for name, (vector, _) in records.items()},
        {name: f'{{"n": {number}}}' for name, (_, number) in records.items()},
    )
    rig.upsert(
        *(
            {"id": name, "sparseVector": body(vector), "metadata": {"n": number}}
            for name, (vector, number) in records.items()
        )
    )


def of_pairs(pairs: list[tuple[int, float]]) -> SparseArrays:
    """A sparse vector of dimensions and values."""
    return arrays([dimension for dimension, _ in pairs], [value for _, value in pairs])


def body(vector: SparseArrays) -> dict[str, list[Any]]:
    """A sparse vector as a request holds it."""
    return {"indices": vector.indices.tolist(), "values": vector.values.tolist()}


@settings(max_examples=60)
@given(
    writes=st.lists(WRITES, min_size=1, max_size=6),
    queries=st.lists(VECTORS.filter(bool), min_size=1, max_size=3),
    block=st.sampled_from([1, 2, 2_048]),
)
def test_scores_are_those_of_the_embedded_engine(
    opened: PostgresPostings, writes: list[tuple[str, Any]], queries: list[list[tuple[int, float]]], block: int
) -> None:
    """After any writes, all matches have the scores of the embedded engine, weighted and filtered or not."""
    opened.reset()
    with pytest.MonkeyPatch.context() as patch, Rig("sparse") as rig:
        for module in (sparse, sparse_blocks):
            patch.setattr(module, "BLOCK_ROWS", block)
        for kind, given_ in writes:
            apply(opened, rig, kind, given_)
        for query in map(of_pairs, queries):
            for weighted, condition in itertools.product([False, True], ["", "n <= 1"]):
                weighting = "IDF" if weighted else None
                expected = rig.query(topK=100, sparseVector=body(query), weightingStrategy=weighting, filter=condition)
                assert sorted(expected) == sorted(opened.scores(query, weighted=weighted, filter=condition))
        opened.reset()
        assert 0 == opened.blocks()


def test_large_lists(postings: PostgresPostings) -> None:
    """Lists over several blocks, filtered one by one or as a whole, give the order of the embedded engine."""
    generator = np.random.default_rng(0)
    records = {}
    for number in range(3_000):
        dimensions = np.unique(generator.zipf(1.5, 9) % 1_000).astype(np.int32)
        records[str(number)] = (SparseArrays(dimensions, generator.random(len(dimensions), np.float32)), number % 50)
    with Rig("sparse") as rig:
        for part in (list(records.items())[start : start + 1_000] for start in range(0, 3_000, 1_000)):
            upsert(postings, rig, dict(part))
        for query in (arrays([1, 2, 700, 3], [0.7, 0.1, 1.3, 0.9]), arrays([700, 900, 41], [0.7, 0.1, 1.3])):
            for condition in ("", "n < 7", "n != 3"):
                expected = rig.query(topK=1_000, sparseVector=body(query), weightingStrategy="IDF", filter=condition)
                found = postings.scores(query, weighted=True, filter=condition)
                assert expected == sorted(found, key=lambda match: (-match[1], int(match[0])))[:1_000]
    postings.delete(list(records)[::2])
    assert postings.blocks() > 0
    postings.delete(list(records))
    assert postings.blocks() == 0


def test_namespaces_are_apart(postings: PostgresPostings) -> None:
    """Neither the matches nor the statistics of one namespace depend on another one."""
    one, both = arrays([1], [1.0]), arrays([1, 2], [1.0, 1.0])
    postings.upsert({"a": one, "b": both})
    expected = postings.scores(one, weighted=True)
    postings.upsert({"a": one, "c": one}, namespace=2)
    assert expected == postings.scores(one, weighted=True)
    assert {"a", "c"} == {name for name, _ in postings.scores(one, namespace=2)}
    postings.reset(2)
    assert expected == postings.scores(one, weighted=True)
    assert [] == postings.scores(one, namespace=2)


def test_a_snapshot_stays_as_it_is(postings: PostgresPostings, postgres_server: PostgresServer) -> None:
    """In a transaction that sees one state, matches and statistics stay as they are while others write."""
    query = arrays([1, 2], [0.5, 1.5])
    postings.upsert({str(number): arrays([1, number % 3], [1.0, 2.0]) for number in range(9)})
    reader = postings.join(postgres_server.dsn)
    with closing(reader.connection):
        reader.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        before = reader.scores(query, weighted=True)
        postings.upsert({"0": arrays([2], [9.0]), "new": arrays([1], [1.0])})
        postings.delete(["1", "2"])
        assert before == reader.scores(query, weighted=True)
        reader.connection.rollback()
        assert postings.scores(query, weighted=True) == reader.scores(query, weighted=True) != before


def test_several_writers_lose_nothing_and_never_wait_in_a_circle(
    postings: PostgresPostings, postgres_server: PostgresServer
) -> None:
    """Writers of the same and of different namespaces, in any order of dimensions and ids, leave exact statistics."""

    def write(number: int) -> None:
        generator = np.random.default_rng(number)
        writer = postings.join(postgres_server.dsn)
        with closing(writer.connection):
            for step in range(12):
                namespace = 1 + (number + step) % 3
                names = [str(name) for name in generator.permutation(20)[:6].tolist()]
                ones = np.ones(4, np.float32)
                vectors = {name: SparseArrays(generator.permutation(8)[:4].astype(np.int32), ones) for name in names}
                writer.upsert(vectors, namespace=namespace)
                writer.delete(names[:1], namespace)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    for namespace in (1, 2, 3):
        stored = postings.execute("SELECT id, sparse_indices FROM {} WHERE namespace = %s", namespace)
        for dimension in range(8):
            expected = {name for name, dimensions in stored if dimension in dimensions}
            found = postings.scores(arrays([dimension], [1.0]), namespace=namespace)
            assert {(name, 1.0) for name in expected} == set(found)
            weight = np.log1p((len(stored) - len(expected) + 0.5) / (len(expected) + 0.5)).astype(np.float32)
            weighted = postings.scores(arrays([dimension], [1.0]), weighted=True, namespace=namespace)
            assert {(name, float(weight)) for name in expected} == set(weighted)


def test_what_is_undone_leaves_nothing(postings: PostgresPostings) -> None:
    """A write that is rolled back changes neither matches nor statistics."""
    query = arrays([1], [1.0])
    postings.upsert({"a": query, "b": arrays([2], [1.0])})
    before = postings.scores(query, weighted=True)
    with postings.connection.transaction(force_rollback=True):
        postings.upsert({"a": arrays([2], [1.0]), "c": query})
        postings.delete(["b"])
        assert before != postings.scores(query, weighted=True)
    assert before == postings.scores(query, weighted=True)


def test_the_size_is_that_of_the_table(postings: PostgresPostings) -> None:
    """The size of the table is known, with its index."""
    assert sparse.size(postings.connection, postings.schema, 1) > 8_192
