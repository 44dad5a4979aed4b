"""`exact`: exact order on an index whose large searches are approximate, by every kind of query."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nextk import AsyncIndex, Vector
from nextk.engine.pool import ranking
from nextk.errors import ClientError
from nextk.types import FusionAlgorithm
from tests.support.pools import small_pools
from tests.support.query_results import ids
from tests.support.transports import TRANSPORTS, Opener, Wire

pytest.importorskip("faiss")

WAYS = TRANSPORTS
"""The pools, which make an order approximate here, are of the embedded engine."""

ROWS, DIMENSION = 400, 16


@pytest.fixture(autouse=True)
def late_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pools of so few candidates, without the rule of their tail, that many rows come late."""
    monkeypatch.setattr(ranking, "_TAIL", 1.0)
    with small_pools():
        yield


def nearest(vectors: NDArray[np.float32], query: NDArray[np.float32], similarity: str) -> list[str]:
    """Return the ids of all rows, best first, by the definition of the similarity.

    Args:
        vectors: The vector of each row, float32 (n, d).
        query: The query, float32 (d,).
        similarity: The metric.
    """
    rows, wanted = vectors.astype(np.float64), query.astype(np.float64)
    scores = rows @ wanted
    if similarity == "cosine":
        scores /= np.linalg.norm(rows, axis=1)
    elif similarity == "euclidean":
        scores = -np.linalg.norm(rows - wanted, axis=1)
    return [str(row) for row in np.argsort(-scores, kind="stable")]


async def filled(open_index: Opener, vectors: NDArray[np.float32], **keywords: Any) -> AsyncIndex:
    """Return an index of vectors, float32 (n, d), whose codes are made."""
    index = open_index("dense", dimension=DIMENSION, pool_from=100, **keywords)
    await index.upsert([Vector(str(row), vector.tolist()) for row, vector in enumerate(vectors)])
    await index.query(vectors[0].tolist())
    open_index.engine(index)._pools.wait()
    return index


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "dot_product"])
async def test_order(open_index: Opener, similarity: str) -> None:
    """With `exact` the order is that of all scores, and without it rows come late; one request may mix both."""
    vectors = np.random.default_rng(1).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    index = await filled(open_index, vectors, similarity=similarity)
    late = 0
    for query in np.random.default_rng(2).normal(size=(12, DIMENSION)).astype(np.float32):
        expected = nearest(vectors, query, similarity)
        assert expected == ids(await index.query(query.tolist(), ROWS, exact=True))
        pages = [ids(await index.query(query.tolist(), 2, exact=exact)) for exact in (True, False)]
        both = await index.query_many(
            queries=[{"vector": query.tolist(), "top_k": 2, "exact": exact} for exact in (True, False)]
        )
        assert pages == [ids(page) for page in both]
        assert expected[:2] == pages[0]
        late += pages[0] != pages[1]
    assert late


@pytest.mark.parametrize("seed", range(3))
async def test_pages(open_index: Opener, seed: int) -> None:
    """With `exact` the pages of a resumable query are parts of one order, whatever their sizes are."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(ROWS, DIMENSION)).astype(np.float32)
    index = await filled(open_index, vectors)
    query = vectors[seed] + random.normal(size=DIMENSION).astype(np.float32)
    for _ in range(3):
        page, handle = await index.resumable_query(query.tolist(), int(random.integers(1, 90)), exact=True)
        found = ids(page)
        async with handle:
            while page := await handle.fetch_next(int(random.integers(1, 200))):
                found += ids(page)
        assert nearest(vectors, query, "cosine") == found


async def test_filter(open_index: Opener) -> None:
    """With `exact` and a filter the order is that of all scores of the rows that pass."""
    vectors = np.random.default_rng(3).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    index = await filled(open_index, vectors)
    for row in range(0, ROWS, 2):
        await index.update(str(row), metadata={"even": True})
    found = await index.query(vectors[1].tolist(), ROWS, filter="even = true", exact=True)
    assert [id_ for id_ in nearest(vectors, vectors[1], "cosine") if not int(id_) % 2] == ids(found)


@pytest.mark.parametrize("fusion", list(FusionAlgorithm))
async def test_hybrid(open_index: Opener, fusion: FusionAlgorithm) -> None:
    """With `exact` a hybrid search over pools has the order and the scores that an exact index gives it."""
    random = np.random.default_rng(4)
    vectors = random.normal(size=(ROWS, DIMENSION)).astype(np.float32)
    records = [
        Vector(str(row), vector.tolist(), sparse_vector=([int(random.integers(4))], [float(random.uniform(0.1, 1))]))
        for row, vector in enumerate(vectors)
    ]
    pooled, exact = (open_index(dimension=DIMENSION, **keywords) for keywords in ({"pool_from": 100}, {"exact": True}))
    query: dict[str, Any] = {"vector": vectors[0].tolist(), "sparse_vector": ([1, 2], [0.5, 0.7])}
    for index in (pooled, exact):
        await index.upsert(records)
        await index.query(vectors[0].tolist())
    open_index.engine(pooled)._pools.wait()
    found = await pooled.query(**query, top_k=ROWS, fusion_algorithm=fusion, exact=True)
    assert await exact.query(**query, top_k=ROWS, fusion_algorithm=fusion) == found
    assert await exact.query(vectors[1].tolist(), ROWS) == await pooled.query(vectors[1].tolist(), ROWS, exact=True)


async def test_other_kinds(open_index: Opener) -> None:
    """Searches whose order is exact anyway take `exact` as well, and it changes nothing."""
    index = open_index("hybrid", dimension=1)
    await index.upsert([("a", [1.0], ([1], [1.0])), ("b", [2.0], ([1], [2.0]))])
    for parts in ({"vector": [1.0]}, {"sparse_vector": ([1], [1.0])}, {"vector": [1.0], "sparse_vector": ([1], [1.0])}):
        assert await index.query(**parts, exact=True) == await index.query(**parts)


@pytest.mark.parametrize("value", [None, 1, "true"], ids=repr)
async def test_wrong_value(open_index: Opener, value: Any) -> None:
    """A value that is no flag is refused before anything is sent."""
    index = open_index("dense", dimension=1)
    sent = open_index.record(index).sent
    for call in (index.query, index.resumable_query):
        with pytest.raises(ClientError, match="exact"):
            await call([1.0], exact=value)
    with pytest.raises(ClientError, match=r"query 0: .*exact"):
        await index.query_many(queries=[{"vector": [1.0], "exact": value}])
    assert [] == sent


def test_a_repeated_start(wire: Wire) -> None:
    """A start that is repeated with another `exact` is another search, and refused."""
    wire.result("upsert", {"id": "a", "vector": [1.0]})
    start = {"vector": [1.0], "uuid": "00000000-0000-0000-0000-000000000001", "exact": True}
    first = wire.result("resumable-query", start)
    assert first == wire.result("resumable-query", {**start, "exact": "true"})
    for other in ({**start, "exact": False}, {key: value for key, value in start.items() if key != "exact"}):
        status, error = wire.error("resumable-query", other)
        assert (409, True) == (status, "is another search" in error)
    wire.result("resumable-query-end", {"uuid": start["uuid"]})
