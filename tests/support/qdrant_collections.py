"""Collections of Qdrant: in this process, or on the server that `NEXTK_TEST_QDRANT` names."""

import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from nextk.sessions import SearchQuery
from nextk.stores.qdrant import QdrantSource
from nextk.types import SparseVector

DIMENSION, TERMS = 6, 12
SERVER = os.environ.get("NEXTK_TEST_QDRANT")
PLACES = [":memory:", *([SERVER] if SERVER else [])]


class Collection:
    """A collection of points with a dense and a sparse vector each, and their exact orders.

    Args:
        place: Where it is: `":memory:"`, or the URL of a server.
        size: The number of points.
        named: Whether the dense vector has a name.
        distance: The metric of the dense vector.
        uuids: Whether the ids of the points are UUIDs; whole numbers otherwise.
    """

    def __init__(
        self,
        place: str,
        size: int,
        *,
        named: bool = True,
        distance: models.Distance = models.Distance.DOT,
        uuids: bool = False,
    ) -> None:
        dice = random.Random(size)  # noqa: S311 - no secret
        self.client = QdrantClient(place) if place == ":memory:" else QdrantClient(url=place)
        self.name = f"nextk-{uuid.uuid4().hex}"
        self.dense_name = "dense" if named else ""
        self.distance = distance
        params = models.VectorParams(size=DIMENSION, distance=distance)
        self.client.create_collection(
            self.name,
            vectors_config={"dense": params} if named else params,
            sparse_vectors_config={"sparse": models.SparseVectorParams()},
        )
        self.dense: dict[str, list[float]] = {}
        self.sparse: dict[str, dict[int, float]] = {}
        self.numbers: dict[str, int] = {}
        points = []
        for number in range(size):
            id_: Any = str(uuid.UUID(int=dice.getrandbits(128))) if uuids else number
            dense = [round(dice.uniform(-1, 1), 6) for _ in range(DIMENSION)]
            terms = {term: round(dice.uniform(0.1, 1), 6) for term in dice.sample(range(TERMS), 3)}
            self.dense[str(id_)], self.sparse[str(id_)], self.numbers[str(id_)] = dense, terms, number
            vectors: dict[str, Any] = {
                self.dense_name: dense,
                "sparse": models.SparseVector(indices=list(terms), values=list(terms.values())),
            }
            payload = {"page_content": f"text {number}", "metadata": {"number": number, "even": number % 2 == 0}}
            points.append(models.PointStruct(id=id_, vector=vectors, payload=payload))
        if points:
            self.client.upsert(self.name, points, wait=True)

    def source(self, client: Any = None, async_client: Any = None, **kwargs: Any) -> QdrantSource:
        """Return a source over this collection."""
        chosen = client if client is not None or async_client is not None else self.client
        return QdrantSource(
            chosen, self.name, async_client=async_client, dense=self.dense_name, sparse="sparse", **kwargs
        )

    def nearest(self, query: SearchQuery) -> list[str]:
        """Return the ids of all points by their dense vectors, best first."""
        assert query.vector is not None
        vector = query.vector
        if self.distance is models.Distance.EUCLID:
            return sorted(
                self.dense, key=lambda id_: sum((a - b) ** 2 for a, b in zip(self.dense[id_], vector, strict=True))
            )
        return sorted(self.dense, key=lambda id_: -sum(a * b for a, b in zip(self.dense[id_], vector, strict=True)))

    def matching(self, query: SearchQuery) -> list[str]:
        """Return the ids of the points that share a term with the query, best first."""
        sparse: Any = query.sparse_vector
        terms: dict[int, float] = dict(zip(sparse.indices, sparse.values, strict=True))
        scores = {
            id_: sum(value * own.get(term, 0) for term, value in terms.items()) for id_, own in self.sparse.items()
        }
        shared = [id_ for id_, own in self.sparse.items() if own.keys() & terms.keys()]
        return sorted(shared, key=lambda id_: -scores[id_])


def query_of(seed: int, **kwargs: Any) -> SearchQuery:
    """Return a query with a dense and a sparse vector."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    vector = [round(dice.uniform(-1, 1), 6) for _ in range(DIMENSION)]
    sparse = SparseVector([1, 4, 7], [round(dice.uniform(0.1, 1), 6) for _ in range(3)])
    return SearchQuery(vector=vector, sparse_vector=sparse, **kwargs)


@contextmanager
def collection(place: str, size: int, **kwargs: Any) -> Iterator[Collection]:
    """Make a collection, and remove it afterwards."""
    made = Collection(place, size, **kwargs)
    try:
        yield made
    finally:
        made.client.delete_collection(made.name)
        made.client.close()


async def copied(client: QdrantClient, name: str) -> AsyncQdrantClient:
    """Return an asynchronous client in this process with a copy of a collection."""
    copy = AsyncQdrantClient(":memory:")
    params = client.get_collection(name).config.params
    await copy.create_collection(name, vectors_config=params.vectors, sparse_vectors_config=params.sparse_vectors)
    points, _ = client.scroll(name, limit=10_000, with_vectors=True)
    structs = [
        models.PointStruct(id=point.id, vector=point.vector, payload=point.payload)  # type: ignore[arg-type]
        for point in points
    ]
    await copy.upsert(name, structs)
    return copy
