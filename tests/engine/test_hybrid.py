"""Hybrid search against brute force, in both fusion orders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.test_engine import FEW, GROUPS, SIZES, SPARSE, Model, chosen, cut, histories, play, wire
from tests.support import engine_oracle
from tests.support.bare_engine import Rig
from tests.support.engine_oracle import Ranking

ALGORITHMS = ["RRF", "DBSF"]
VECTOR = st.lists(FEW, min_size=2, max_size=2)

moderate = settings(deadline=None, max_examples=100)


def legs(
    model: Model, vector: Sequence[float], entries: Sequence[tuple[int, float]], group: str | None, *, weighted: bool
) -> list[Ranking]:
    """The dense and the sparse ranking of what a filter lets through."""
    passing, everything = model.passing(group), model.passing(None)
    rows = {record.position: record.entries or [] for record in passing}
    among = {record.position: record.entries or [] for record in everything}
    return [
        engine_oracle.dense("cosine", vector, {record.position: record.vector or [] for record in passing}),
        engine_oracle.sparse(entries, rows, weighted=weighted, among=among),
    ]


def question(
    vector: Sequence[float],
    entries: Sequence[tuple[int, float]],
    algorithm: str,
    group: str | None = None,
    *,
    weighted: bool = False,
) -> dict[str, Any]:
    """A hybrid query as JSON has it."""
    return {
        "vector": list(vector),
        "sparseVector": wire(list(entries)),
        "fusionAlgorithm": algorithm,
        "weightingStrategy": "IDF" if weighted else None,
        "filter": chosen(group),
    }


hybrid_cases = given(
    history=histories(dense=True, sparse=True),
    vector=VECTOR,
    entries=SPARSE.filter(bool),
    group=st.none() | GROUPS,
    sizes=SIZES,
    weighted=st.booleans(),
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestGlobal:
    """One fused order over the whole lists."""

    @moderate
    @hybrid_cases
    def test_pages(
        self,
        algorithm: str,
        history: list[tuple[Any, ...]],
        vector: list[float],
        entries: list[tuple[int, float]],
        group: str | None,
        sizes: list[int],
        weighted: bool,
    ) -> None:
        """After any history, pages of any sizes are the exhaustive fused sort; so is a plain query."""
        with Rig("hybrid", dimension=2) as rig:
            model = play(rig, history)
            parts = legs(model, vector, entries, group, weighted=weighted)
            expected = model.named(engine_oracle.global_order(parts, algorithm))
            query = question(vector, entries, algorithm, group, weighted=weighted)
            assert cut(expected, [*sizes, 50, 1]) == rig.pages([*sizes, 50, 1], **query)
            assert expected[: sizes[0]] == rig.query(**query, topK=sizes[0])

    @pytest.mark.parametrize("sizes", [[1000, 1000], [1] * 30 + [1000, 1000], [7, 1, 100, 3, 1000, 1000]], ids=len)
    def test_gaussian(self, algorithm: str, sizes: list[int]) -> None:
        """Pages are the exhaustive fused sort also for 1,300 rows, which is more than the window of the statistics."""
        random = np.random.default_rng(13)
        rows = random.normal(size=(1_300, 16)).astype(np.float32).tolist()
        parts = [
            list(zip(random.choice(40, 6, replace=False).tolist(), values, strict=True))
            for values in random.normal(size=(1_300, 6)).astype(np.float32).tolist()
        ]
        with Rig("hybrid", dimension=16) as rig:
            records = [
                {"id": str(position), "vector": row, "sparseVector": wire(part)}
                for position, (row, part) in enumerate(zip(rows, parts, strict=True))
            ]
            rig.upsert(*records[:700])
            rig.upsert(*records[700:])
            found = [
                engine_oracle.dense("cosine", rows[3], dict(enumerate(rows))),
                engine_oracle.sparse(parts[5], dict(enumerate(parts)), weighted=True),
            ]
            expected = [(str(position), score) for position, score in engine_oracle.global_order(found, algorithm)]
            query = question(rows[3], parts[5], algorithm, weighted=True)
            assert cut(expected, sizes) == rig.pages(sizes, **query)

    def test_single_row(self, algorithm: str) -> None:
        """A single row is the first of both legs."""
        with Rig("hybrid", dimension=1) as rig:
            rig.upsert({"id": "a", "vector": [1.0], "sparseVector": wire([(1, 1.0)])})
            expected = {"RRF": engine_oracle.float32(2 / 60), "DBSF": 1.0}[algorithm]
            assert [("a", expected)] == rig.query(**question([1.0], [(1, 1.0)], algorithm))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestBatch:
    """The service's own order: every page fuses its own candidates."""

    @moderate
    @hybrid_cases
    def test_pages(
        self,
        algorithm: str,
        history: list[tuple[Any, ...]],
        vector: list[float],
        entries: list[tuple[int, float]],
        group: str | None,
        sizes: list[int],
        weighted: bool,
    ) -> None:
        """Pages equal the model of protocol §4.6 with the same sizes, and all together hold every candidate once."""
        with Rig("hybrid", dimension=2, fusion_order="batch") as rig:
            model = play(rig, history)
            parts = legs(model, vector, entries, group, weighted=weighted)
            sizes = [*sizes, 50, 1]
            expected = [model.named(page) for page in engine_oracle.batch_pages(parts, algorithm, sizes)]
            query = question(vector, entries, algorithm, group, weighted=weighted)
            found = rig.pages(sizes, **query)
            assert expected == found
            served = [id_ for page in found for id_, _ in page]
            assert {id_ for part in parts for id_, _ in model.named(part)} == set(served)
            assert len(served) == len(set(served))

    @moderate
    @hybrid_cases
    def test_one_shot(
        self,
        algorithm: str,
        history: list[tuple[Any, ...]],
        vector: list[float],
        entries: list[tuple[int, float]],
        group: str | None,
        sizes: list[int],
        weighted: bool,
    ) -> None:
        """A plain query fuses 100 candidates of each leg, however few it returns."""
        with Rig("hybrid", dimension=2, fusion_order="batch") as rig:
            model = play(rig, history)
            parts = legs(model, vector, entries, group, weighted=weighted)
            [page] = engine_oracle.batch_pages(parts, algorithm, [100])
            query = question(vector, entries, algorithm, group, weighted=weighted)
            assert model.named(page)[: sizes[0]] == rig.query(**query, topK=sizes[0])

    @pytest.mark.parametrize("sizes", [[1] * 300 + [9], [7, 1, 100, 3, 300, 300], [120, 120, 120]], ids=len)
    def test_gaussian(self, algorithm: str, sizes: list[int]) -> None:
        """Pages equal the model also for 300 rows, with lists that are longer than a page."""
        random = np.random.default_rng(17)
        rows = random.normal(size=(300, 16)).astype(np.float32).tolist()
        parts = [
            list(zip(random.choice(20, 3, replace=False).tolist(), values, strict=True))
            for values in random.normal(size=(300, 3)).astype(np.float32).tolist()
        ]
        with Rig("hybrid", dimension=16, fusion_order="batch") as rig:
            rig.upsert(
                *(
                    {"id": str(position), "vector": row, "sparseVector": wire(part)}
                    for position, (row, part) in enumerate(zip(rows, parts, strict=True))
                )
            )
            found = [
                engine_oracle.dense("cosine", rows[3], dict(enumerate(rows))),
                engine_oracle.sparse(parts[5], dict(enumerate(parts)), weighted=True),
            ]
            expected = [
                [(str(position), score) for position, score in page]
                for page in engine_oracle.batch_pages(found, algorithm, sizes)
            ]
            assert expected == rig.pages(sizes, **question(rows[3], parts[5], algorithm, weighted=True))

    @pytest.mark.parametrize(("top_k", "depth"), [(1, 100), (100, 100), (150, 150)])
    def test_one_shot_depth(self, algorithm: str, top_k: int, depth: int) -> None:
        """The depth of a plain query is 100, or its `top_k` if that is more."""
        random = np.random.default_rng(19)
        rows = random.normal(size=(200, 4)).astype(np.float32).tolist()
        parts = [[(1, value)] for value in random.normal(size=200).astype(np.float32).tolist()]
        with Rig("hybrid", dimension=4, fusion_order="batch") as rig:
            rig.upsert(
                *(
                    {"id": str(position), "vector": row, "sparseVector": wire(part)}
                    for position, (row, part) in enumerate(zip(rows, parts, strict=True))
                )
            )
            found = [
                engine_oracle.dense("cosine", rows[0], dict(enumerate(rows))),
                engine_oracle.sparse([(1, 1.0)], dict(enumerate(parts)), weighted=False),
            ]
            [page] = engine_oracle.batch_pages(found, algorithm, [depth])
            expected = [(str(position), score) for position, score in page[:top_k]]
            assert expected == rig.query(**question(rows[0], [(1, 1.0)], algorithm), topK=top_k)


@pytest.mark.parametrize("order", ["global", "batch"])
class TestSingleLeg:
    """Queries for one component of a hybrid index."""

    @moderate
    @given(history=histories(dense=True, sparse=True), vector=VECTOR, entries=SPARSE.filter(bool), sizes=SIZES)
    def test_raw_scores(
        self,
        order: str,
        history: list[tuple[Any, ...]],
        vector: list[float],
        entries: list[tuple[int, float]],
        sizes: list[int],
    ) -> None:
        """One component is searched like an index of that type: raw scores, one order, whatever fusion was named."""
        with Rig("hybrid", dimension=2, fusion_order=order) as rig:
            model = play(rig, history)
            dense, sparse = (model.named(leg) for leg in legs(model, vector, entries, None, weighted=False))
            sizes = [*sizes, 50, 1]
            assert cut(dense, sizes) == rig.pages(sizes, vector=vector, fusionAlgorithm="DBSF")
            assert cut(sparse, sizes) == rig.pages(sizes, sparseVector=wire(entries), fusionAlgorithm="RRF")

    def test_no_shared_dimension(self, order: str) -> None:
        """If the sparse half of a query has no matches, the dense half still has."""
        with Rig("hybrid", dimension=1, fusion_order=order) as rig:
            rig.upsert(*({"id": id_, "vector": [1.0], "sparseVector": wire([(1, 1.0)])} for id_ in "ab"))
            page = rig.query(**question([1.0], [(2, 1.0)], "RRF"))
            assert [("a", engine_oracle.float32(1 / 60)), ("b", engine_oracle.float32(1 / 61))] == page
