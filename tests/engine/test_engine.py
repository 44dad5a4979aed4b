"""The embedded engine against brute force: whatever the pull sizes, the pages are one exhaustive sort."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import engine_oracle
from tests.support.bare_engine import Rig
from tests.support.engine_oracle import Ranking, float32

METRICS = sorted(engine_oracle.METRICS)
FEW = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0])  # exact in float32, products and sums too: ties abound
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=6)
DIMENSIONS = st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 2**31 - 1])
SPARSE = st.lists(st.tuples(DIMENSIONS, FEW), max_size=5)
GROUPS = st.sampled_from(["red", "green"])

moderate = settings(deadline=None, max_examples=100)


@dataclass
class Written:
    """A record as the index should hold it: the position of its first insertion, and its latest content."""

    position: int
    vector: list[float] | None
    entries: list[tuple[int, float]] | None
    group: str


@dataclass
class Model:
    """A namespace as a dict, and the engine that is to agree with it."""

    rig: Rig
    records: dict[str, Written] = field(default_factory=dict)
    positions: int = 0

    def upsert(self, id_: str, vector: list[float] | None, entries: list[tuple[int, float]] | None, group: str) -> None:
        """Write a record on both sides."""
        body: dict[str, Any] = {"id": id_, "metadata": {"group": group}}
        if vector is not None:
            body["vector"] = vector
        if entries is not None:
            body["sparseVector"] = wire(entries)
        self.rig.upsert(body)
        if id_ not in self.records:
            self.positions += 1
        position = self.records[id_].position if id_ in self.records else self.positions
        self.records[id_] = Written(position, vector, entries, group)

    def delete(self, id_: str) -> None:
        """Delete a record on both sides."""
        assert (self.records.pop(id_, None) is not None) == self.rig.delete(ids=[id_])

    def passing(self, group: str | None) -> list[Written]:
        """The records that a filter lets through."""
        return [record for record in self.records.values() if group in (None, record.group)]

    def named(self, ranking: Ranking) -> list[tuple[str, float]]:
        """A ranking with ids instead of positions."""
        ids = {record.position: id_ for id_, record in self.records.items()}
        return [(ids[position], score) for position, score in ranking]


def wire(entries: list[tuple[int, float]]) -> dict[str, list[Any]]:
    """A sparse vector as JSON has it."""
    return {"indices": [index for index, _ in entries], "values": [value for _, value in entries]}


def chosen(group: str | None) -> str:
    """The filter for one group, or for all."""
    return "" if group is None else f"group = '{group}'"


def cut(ranking: list[tuple[str, float]], sizes: list[int]) -> list[list[tuple[str, float]]]:
    """A ranking in pages."""
    pages, start = [], 0
    for size in sizes:
        pages.append(ranking[start : start + size])
        start += size
    return pages


@st.composite
def histories(draw: st.DrawFn, *, dense: bool, sparse: bool) -> list[tuple[Any, ...]]:
    """Upserts, re-upserts and deletes of a few ids."""
    vector = st.lists(FEW, min_size=2, max_size=2) if dense else st.none()
    entries = SPARSE if sparse else st.none()
    ids = st.sampled_from([f"{number}" for number in range(14)])
    upsert = st.tuples(st.just("upsert"), ids, vector, entries, GROUPS)
    return draw(st.lists(st.one_of(upsert, upsert, upsert, st.tuples(st.just("delete"), ids)), max_size=30))


def play(rig: Rig, history: list[tuple[Any, ...]]) -> Model:
    """Carry out a history."""
    model = Model(rig)
    for name, *arguments in history:
        getattr(model, name)(*arguments)
    return model


class TestDense:
    """Exact dense search."""

    @pytest.mark.parametrize("metric", METRICS)
    @moderate
    @given(
        history=histories(dense=True, sparse=False),
        query=st.lists(FEW, min_size=2, max_size=2),
        group=st.none() | GROUPS,
        sizes=SIZES,
    )
    def test_pages(
        self, metric: str, history: list[tuple[Any, ...]], query: list[float], group: str | None, sizes: list[int]
    ) -> None:
        """After any history, pages of any sizes are the exhaustive sort, ties by first insertion; so is a query."""
        with Rig(dimension=2, similarity=metric) as rig:
            model = play(rig, history)
            rows = {record.position: record.vector or [] for record in model.passing(group)}
            expected = model.named(engine_oracle.dense(metric, query, rows))
            assert cut(expected, [*sizes, 50, 1]) == rig.pages([*sizes, 50, 1], vector=query, filter=chosen(group))
            assert expected[: sizes[0]] == rig.query(vector=query, topK=sizes[0], filter=chosen(group))

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("sizes", [[400], [1] * 40 + [400], [7, 1, 100, 3, 400]], ids=["all", "ones", "mixed"])
    def test_gaussian(self, metric: str, sizes: list[int]) -> None:
        """Pages are the exhaustive sort also for 400 rows of 64 dimensions, a quarter of which are copies of others."""
        random = np.random.default_rng(7)
        rows = random.normal(size=(400, 64)).astype(np.float32)
        rows[random.choice(400, 100, replace=False)] = rows[random.choice(400, 100)]
        query = random.normal(size=64).astype(np.float32)
        with Rig(dimension=64, similarity=metric) as rig:
            rig.upsert(*({"id": str(position), "vector": row} for position, row in enumerate(rows.tolist())))
            ranking = engine_oracle.dense(metric, query.tolist(), dict(enumerate(rows.tolist())))
            expected = [(str(position), score) for position, score in ranking]
            assert cut(expected, sizes) == rig.pages(sizes, vector=query.tolist())

    @pytest.mark.parametrize("metric", METRICS)
    def test_identical_rows_score_identically(self, metric: str) -> None:
        """The position of a row among others never changes its score: copies tie, however many there are."""
        random = np.random.default_rng(11)
        copy, query = random.normal(size=(2, 33)).astype(np.float32)
        rows = random.normal(size=(301, 33)).astype(np.float32)
        rows[::3] = copy
        with Rig(dimension=33, similarity=metric) as rig:
            rig.upsert(*({"id": str(position), "vector": row} for position, row in enumerate(rows.tolist())))
            page = rig.query(vector=query.tolist(), topK=1000)
            copies = [(id_, score) for id_, score in page if int(id_) % 3 == 0]
            assert [str(position) for position in range(0, 301, 3)] == [id_ for id_, _ in copies]
            assert 1 == len({score for _, score in copies})

    @pytest.mark.parametrize("metric", METRICS)
    def test_extreme_values(self, metric: str) -> None:
        """Tiny, huge and zero vectors are scored like any others; what float32 cannot hold becomes its largest."""
        values = [0.0, 1e-30, -1e-30, 1.0, 1e30, -1e30, 1e-45, 3.4e38]
        rows = [[float32(a), float32(b)] for a in values for b in values]
        with Rig(dimension=2, similarity=metric) as rig:
            rig.upsert(*({"id": str(position), "vector": row} for position, row in enumerate(rows)))
            for query in rows:
                expected = engine_oracle.dense(metric, query, dict(enumerate(rows)))
                found = rig.query(vector=query, topK=100)
                assert [(str(position), score) for position, score in expected] == found

    def test_scores_beyond_float32(self) -> None:
        """Scores beyond float32 tie at its end, in one page or in many."""
        rows = [[float32(-1e25 if position % 3 else -1e30)] for position in range(200)]
        with Rig(dimension=1, similarity="dot_product") as rig:
            rig.upsert(*({"id": str(position), "vector": row} for position, row in enumerate(rows)))
            expected = [(str(position), -engine_oracle.LARGEST) for position in range(200)]
            assert expected == rig.query(vector=[1e30], topK=1000)
            assert cut(expected, [70, 1000, 1]) == rig.pages([70, 1000, 1], vector=[1e30])

    def test_one_row_more_or_less(self) -> None:
        """The score of a row does not depend on how many others there are."""
        random = np.random.default_rng(3)
        rows = random.normal(size=(70, 64)).astype(np.float32).tolist()
        query = random.normal(size=64).astype(np.float32).tolist()
        with Rig(dimension=64) as rig:
            scores: dict[str, float] = {}
            for position, row in enumerate(rows):
                rig.upsert({"id": str(position), "vector": row})
                found = dict(rig.query(vector=query, topK=100))
                assert scores == {id_: score for id_, score in found.items() if id_ in scores}
                scores = found


class TestSparse:
    """Exact sparse search."""

    @pytest.mark.parametrize("weighted", [False, True], ids=["plain", "idf"])
    @moderate
    @given(history=histories(dense=False, sparse=True), query=SPARSE, group=st.none() | GROUPS, sizes=SIZES)
    def test_pages(
        self,
        weighted: bool,
        history: list[tuple[Any, ...]],
        query: list[tuple[int, float]],
        group: str | None,
        sizes: list[int],
    ) -> None:
        """Pages hold the rows that share a dimension, by float32 sums, ties by first insertion; IDF counts all rows."""
        with Rig("sparse") as rig:
            model = play(rig, history)
            rows = {record.position: record.entries or [] for record in model.passing(group)}
            among = {record.position: record.entries or [] for record in model.passing(None)}
            expected = model.named(engine_oracle.sparse(query, rows, weighted=weighted, among=among))
            body: dict[str, Any] = {
                "sparseVector": wire(query),
                "filter": chosen(group),
                "weightingStrategy": "IDF" if weighted else None,
            }
            assert cut(expected, [*sizes, 50, 1]) == rig.pages([*sizes, 50, 1], **body)
            assert expected[: sizes[0]] == rig.query(**body, topK=sizes[0])

    @pytest.mark.parametrize("weighted", [False, True], ids=["plain", "idf"])
    def test_gaussian(self, weighted: bool) -> None:
        """Pages are right also for 400 rows of up to 20 of 60 dimensions, and a query that repeats some dimensions."""
        random = np.random.default_rng(5)

        def entries(count: int) -> list[tuple[int, float]]:
            values = random.normal(size=count).astype(np.float32).tolist()
            return list(zip(random.choice(60, count, replace=False).tolist(), values, strict=True))

        rows = {position: entries(int(random.integers(0, 20))) for position in range(400)}
        query = entries(12) + entries(5)
        with Rig("sparse") as rig:
            rig.upsert(*({"id": str(position), "sparseVector": wire(row)} for position, row in rows.items()))
            sizes = [1, 10, 3, 400, 1]
            ranking = engine_oracle.sparse(query, rows, weighted=weighted)
            body = {"sparseVector": wire(query), "weightingStrategy": "IDF" if weighted else None}
            expected = [(str(position), score) for position, score in ranking]
            assert cut(expected, sizes) == rig.pages(sizes, **body)

    def test_a_shared_dimension_is_a_hit(self) -> None:
        """A row that shares a dimension is served even if its product is zero or negative; any other never is."""
        with Rig("sparse") as rig:
            for id_, entries in {"zero": [(1, 0.0)], "minus": [(1, -2.0)], "other": [(2, 1.0)], "none": []}.items():
                rig.upsert({"id": id_, "sparseVector": wire(entries)})
            assert [("zero", 0.0), ("minus", -6.0)] == rig.query(sparseVector=wire([(1, 3.0)]))
            assert [] == rig.query(sparseVector=wire([]))


def test_namespaces_do_not_meet() -> None:
    """Rows of other namespaces neither show nor count, even under the same ids."""
    with Rig("sparse") as rig:
        rig.upsert({"id": "a", "sparseVector": wire([(1, 1.0)])})
        alone = rig.query(sparseVector=wire([(1, 1.0)]), weightingStrategy="IDF")
        for number in range(5):
            rig.upsert({"id": f"{number}", "sparseVector": wire([(1, 1.0)])}, namespace="other")
        rig.upsert({"id": "a", "sparseVector": wire([(2, 1.0)])}, namespace="other")
        assert alone == rig.query(sparseVector=wire([(1, 1.0)]), weightingStrategy="IDF")
        assert 1 == rig.delete(ids=["a"], namespace="other")
        assert alone == rig.query(sparseVector=wire([(1, 1.0)]), weightingStrategy="IDF")


def test_many_deletes() -> None:
    """After most rows were deleted and others added, answers are those of an index that never had the deleted rows."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(600, 8)).astype(np.float32).tolist()
    with Rig(dimension=8) as rig:
        rig.upsert(*({"id": str(position), "vector": row} for position, row in enumerate(rows[:500])))
        assert 450 == rig.delete(ids=[str(position) for position in range(500) if position % 10])
        rig.upsert(*({"id": str(position), "vector": row} for position, row in enumerate(rows[500:], 500)))
        kept = {position: row for position, row in enumerate(rows) if position >= 500 or position % 10 == 0}
        expected = [(str(position), score) for position, score in engine_oracle.dense("cosine", rows[1], kept)]
        assert cut(expected, [10, 500, 1]) == rig.pages([10, 500, 1], vector=rows[1])
