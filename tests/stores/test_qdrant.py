"""Qdrant as a source: the order of each mode, whatever the sizes of the pages, and what happens when it fails."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from nextk.errors import ClientError, RefusedError, TransportError
from nextk.sessions import AsyncRetrievalSession, RetrievalMode, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.stores.qdrant import QdrantSource
from nextk.stores.qdrant.points import ef_at, point_id
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from nextk.testing.blocking import AwaitableSession
from nextk.types import FusionAlgorithm, QueryResult
from nextk.until import Accepted, MinScore
from tests.support.qdrant_collections import PLACES, Collection, collection, copied, query_of

SIZE = 90
READER: RowReader[QueryResult] = RowReader(lambda row: row, lambda row: str(row.data))
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
DENSE, SPARSE, HYBRID = RetrievalMode.DENSE, RetrievalMode.SPARSE, RetrievalMode.HYBRID


@pytest.fixture(params=PLACES, scope="module")
def points(request: pytest.FixtureRequest) -> Iterator[Collection]:
    """A collection that no test changes."""
    with collection(request.param, SIZE) as made:
        yield made


@pytest.fixture(params=PLACES)
def changing(request: pytest.FixtureRequest) -> Iterator[Collection]:
    """A collection that a test may change."""
    with collection(request.param, 40) as made:
        yield made


@pytest.fixture
async def async_client(points: Collection) -> AsyncIterator[AsyncQdrantClient]:
    """An asynchronous client of the same points."""
    client = await copied(points.client, points.name)
    yield client
    await client.close()


def ids(rows: list[QueryResult]) -> list[str]:
    """Return the ids of rows."""
    return [row.id for row in rows]


def pages(source: QdrantSource, query: SearchQuery, sizes: list[int]) -> list[list[QueryResult]]:
    """Fetch pages of these sizes, and then the rest."""
    search = source.search()
    found = [search.fetch_first(query, sizes[0]), *(search.fetch_next(count) for count in sizes[1:])]
    while page := search.fetch_next(30):
        found.append(page)
    assert search.refetched == 0
    return found


def fused(legs: list[list[str]]) -> dict[str, float]:
    """Return the scores of RRF, by brute force."""
    scores: dict[str, float] = {}
    for leg in legs:
        for rank, id_ in enumerate(leg):
            scores[id_] = scores.get(id_, 0) + 1 / (60 + rank)
    return scores


class TestOrder:
    """The order of the rows, against brute force."""

    @given(seed=st.integers(0, 10**6), sizes=SIZES)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_dense(self, points: Collection, seed: int, sizes: list[int]) -> None:
        """Every point comes once, the nearest first, whatever the sizes of the pages."""
        query = query_of(seed, mode=DENSE)
        found = pages(points.source(), query, sizes)
        assert points.nearest(query) == [row.id for page in found for row in page]
        assert all(sorted(page, key=lambda row: -row.score) == page for page in found)

    @given(seed=st.integers(0, 10**6), sizes=SIZES)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_sparse(self, points: Collection, seed: int, sizes: list[int]) -> None:
        """Every point that shares a term comes once, the best first."""
        query = query_of(seed, mode=SPARSE)
        found = [row.id for page in pages(points.source(), query, sizes) for row in page]
        assert points.matching(query) == found

    @given(seed=st.integers(0, 10**6), sizes=SIZES)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_hybrid(self, points: Collection, seed: int, sizes: list[int]) -> None:
        """A hybrid search within its first round has the order of the fused lists, and never depends on the pages."""
        query = query_of(seed, mode=HYBRID)
        found = [row for page in pages(points.source(), query, sizes) for row in page]
        scores = fused([points.nearest(query), points.matching(query)])
        assert set(ids(found)) == scores.keys()
        assert [row.score for row in found] == pytest.approx(sorted(scores.values(), reverse=True))
        assert ids(found) == [row.id for page in pages(points.source(), query, [1, 7]) for row in page]

    def test_hybrid_at_depth(self) -> None:
        """Over several rounds, every row comes once, in one order, with the best ones of the fused lists in front."""
        with collection(":memory:", 420) as many:
            query = query_of(5)
            orders = [
                [row.id for page in pages(many.source(), query, sizes) for row in page]
                for sizes in ([10], [1, 150, 3], [400])
            ]
            scores = fused([many.nearest(query), many.matching(query)])
        assert orders[0] == orders[1] == orders[2]
        assert sorted(orders[0]) == sorted(scores)
        best = sorted(scores, key=lambda id_: -scores[id_])
        assert set(best[:10]) <= set(orders[0][:14])

    @pytest.mark.parametrize("uuids", [False, True], ids=["numbers", "uuids"])
    @pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
    @pytest.mark.parametrize("distance", [models.Distance.EUCLID, models.Distance.COSINE], ids=str)
    def test_kinds_of_collections(self, distance: models.Distance, *, named: bool, uuids: bool) -> None:
        """Ids of both kinds, vectors with and without a name, and distances are read, and higher is always nearer."""
        with collection(":memory:", 30, named=named, uuids=uuids, distance=distance) as made:
            query = query_of(3, mode=DENSE)
            found = [row for page in pages(made.source(), query, [4, 5]) for row in page]
            assert set(ids(found)) == made.dense.keys()
            assert found == sorted(found, key=lambda row: -row.score)
            if distance is models.Distance.EUCLID:
                assert ids(found) == made.nearest(query)
                assert found[0].score <= 0

    async def test_asynchronous(self, points: Collection, async_client: AsyncQdrantClient) -> None:
        """The asynchronous client, and a blocking one in an event loop, find what the blocking one finds."""
        for mode in RetrievalMode:
            query = query_of(8, mode=mode)
            expected = [row.id for page in pages(points.source(), query, [9]) for row in page]
            for source in (points.source(async_client=async_client), points.source()):
                search = source.asearch()
                found = await search.fetch_first(query, 9)
                while page := await search.fetch_next(20):
                    found += page
                assert ids(found) == expected
            assert ids(list(await points.source().aquery(query, 12))) == expected[:12]

    def test_rows(self, points: Collection) -> None:
        """A row has the text and the metadata of its point, and `item_of` makes its item."""
        source = points.source(item_of=lambda point: f"item {point.id}")
        for row in source.query(query_of(1, mode=DENSE), 5):
            number = points.numbers[row.id]
            assert (row.data, row.metadata) == (f"text {number}", {"number": number, "even": number % 2 == 0})
            assert getattr(row, "item", None) == f"item {row.id}"
        flat = points.source(metadata_key=None).query(query_of(1, mode=DENSE), 1)[0]
        assert flat.metadata == {
            "metadata": {"number": points.numbers[flat.id], "even": points.numbers[flat.id] % 2 == 0}
        }


@pytest.fixture
def few() -> Iterator[Collection]:
    """A small collection."""
    with collection(":memory:", 12) as made:
        yield made


class TestCompliance(SourceCompliance):
    """The suite for sources, blocking, in hybrid mode."""

    @pytest.fixture(autouse=True)
    def _collection(self, few: Collection) -> None:
        self.few = few

    def source(self) -> QdrantSource:
        """Return a source over the collection."""
        return self.few.source()

    def query(self) -> SearchQuery:
        """Return a hybrid query."""
        return query_of(4)

    def expected(self) -> list[str]:
        """Return the ids of all points."""
        return list(self.few.dense)


class TestAsyncCompliance(AsyncSourceCompliance):
    """The suite for sources, asynchronous, in dense mode."""

    @pytest.fixture(autouse=True)
    def _collection(self, few: Collection) -> None:
        self.few = few

    def source(self) -> QdrantSource:
        """Return a source over the collection."""
        return self.few.source()

    def query(self) -> SearchQuery:
        """Return a dense query."""
        return query_of(4, mode=DENSE)

    def expected(self) -> list[str]:
        """Return the ids of all points."""
        return list(self.few.dense)


@pytest.fixture(params=["blocking", "asynchronous"])
def open_session(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function that opens a session of one colour, whose methods are awaited."""

    def opened(source: QdrantSource, query: SearchQuery, cursor: Any = None, **config: Any) -> Any:
        chosen = SearchConfig(sleep=lambda _: None, **config)
        if request.param == "asynchronous":
            return AsyncRetrievalSession(source, query, READER, texts=["q"], config=chosen, cursor=cursor)
        return AwaitableSession(RetrievalSession(source, query, READER, texts=["q"], config=chosen, cursor=cursor))

    return opened


async def until(search: Any, policy: Any = None) -> list[QueryResult]:
    """Fetch until a policy has enough."""
    found = search.fetch_until(policy)
    rows: list[QueryResult] = await found if inspect.isawaitable(found) else found
    return rows


def are_even(rows: list[QueryResult]) -> list[bool]:
    """Permit the points with an even number."""
    return [bool((row.metadata or {})["even"]) for row in rows]


class TestSessions:
    """Sessions over a collection."""

    @pytest.mark.parametrize("mode", RetrievalMode)
    async def test_cursors(self, points: Collection, open_session: Callable[..., Any], mode: RetrievalMode) -> None:
        """A search goes on from a cursor in the order that it would have had, and nothing comes twice."""
        query = query_of(6, mode=mode)
        expected = [row.id for page in pages(points.source(), query, [10]) for row in page]
        search = open_session(points.source(), query)
        found = await search.fetch_next(7)
        resumed = open_session(points.source(), query, search.cursor())
        found += await resumed.fetch_next(200)
        assert ids(found) == expected
        assert resumed.report.continuation == "exclusion"

    async def test_policies(self, points: Collection, open_session: Callable[..., Any]) -> None:
        """Policies of rows hold in every mode, and those of scores where scores are no ranks."""
        search = open_session(points.source(), query_of(6), until=Accepted(5, are_even))
        assert [True] * 5 == are_even(await until(search))
        with pytest.raises(ClientError, match="made of ranks"):
            await until(open_session(points.source(), query_of(6, mode=HYBRID)), MinScore(0.1))
        near = await until(open_session(points.source(), query_of(6, mode=DENSE)), MinScore(0.2))
        assert near
        assert all(row.score >= 0.2 for row in near)

    @pytest.mark.parametrize("given", ["model", "dict"])
    async def test_filters(self, points: Collection, open_session: Callable[..., Any], given: str) -> None:
        """A filter of Qdrant holds for every page, also as a dict."""
        condition = {"key": "metadata.number", "range": {"lt": 20}}
        chosen: Any = {"must": [condition]}
        if given == "model":
            chosen = models.Filter.model_validate(chosen)
        for mode in (DENSE, HYBRID):
            search = open_session(points.source(), query_of(6, mode=mode, store_filter=chosen))
            found = await search.fetch_next(3) + await search.fetch_next(50)
            assert {points.numbers[row.id] for row in found} == set(range(20))

    @pytest.mark.parametrize("mode", RetrievalMode)
    async def test_faults(self, points: Collection, open_session: Callable[..., Any], mode: RetrievalMode) -> None:
        """Lost replies, refusals in passing and timeouts are repeated, and every row comes once."""
        query, client = query_of(6, mode=mode), Failing(points.client, every=3)
        expected = [row.id for page in pages(points.source(), query, [10]) for row in page]
        search = open_session(points.source(client), query)
        found = [row for size in (5, 9, 200) for row in await search.fetch_next(size)]
        assert ids(found) == expected
        assert search.report.recovery.faults > 0

    async def test_changes(self, changing: Collection, open_session: Callable[..., Any]) -> None:
        """Points that are written or deleted between two pages make no other point come twice or be left out."""
        search = open_session(changing.source(), query_of(2, mode=DENSE))
        found = await search.fetch_next(6)
        gone = [id_ for id_ in changing.dense if id_ not in ids(found)][:5]
        changing.client.delete(changing.name, [int(id_) for id_ in gone], wait=True)
        vector: Any = {"dense": [0.5] * 6, "sparse": models.SparseVector(indices=[1], values=[0.5])}
        new = models.PointStruct(id=1_000, vector=vector, payload={"page_content": "new"})
        changing.client.upsert(changing.name, [new], wait=True)
        found += await search.fetch_next(100)
        assert len(set(ids(found))) == len(found)
        assert set(ids(found)) >= changing.dense.keys() - set(gone)
        assert not set(gone) & set(ids(found))

    async def test_a_deleted_collection(self, open_session: Callable[..., Any]) -> None:
        """A collection that is deleted between two pages is a refusal in words, which decides nothing."""
        made = Collection(":memory:", 20)
        search = open_session(made.source(), query_of(2, mode=DENSE))
        assert 4 == len(await search.fetch_next(4))
        made.client.delete_collection(made.name)
        with pytest.raises(RefusedError, match="has no collection"):
            await search.fetch_next(4)
        made.client.close()
        with pytest.raises(RefusedError, match="is closed"):
            await search.fetch_next(4)


class Failing:
    """A client whose every n-th search fails before or after it was made, in turn by each kind of fault."""

    def __init__(self, client: QdrantClient, every: int) -> None:
        self._every = every
        self._calls = 0
        self.client = client
        self._client = client._client  # as that of a client in this process

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def query_points(self, *args: Any, **kwargs: Any) -> Any:
        """Search, or fail."""
        self._calls += 1
        if self._calls % self._every == 0:
            faults: list[Exception] = [
                ResponseHandlingException(TimeoutError("timed out")),
                UnexpectedResponse(503, "Service Unavailable", b"", None),  # type: ignore[arg-type]
                UnexpectedResponse(429, "Too Many Requests", b"", None),  # type: ignore[arg-type]
            ]
            raise faults[self._calls // self._every % len(faults)]
        return self.client.query_points(*args, **kwargs)


class TestWords:
    """Mistakes and failures, in words."""

    @pytest.mark.parametrize(
        ("error", "kind", "status"),
        [
            (ResponseHandlingException(ConnectionError("no route")), TransportError, None),
            (UnexpectedResponse(404, "Not Found", b"", None), RefusedError, 404),  # type: ignore[arg-type]
            (UnexpectedResponse(400, "Bad Request", b"wrong", None), RefusedError, 400),  # type: ignore[arg-type]
            (UnexpectedResponse(500, "Internal", b"", None), RefusedError, 500),  # type: ignore[arg-type]
        ],
        ids=["no route", "404", "400", "500"],
    )
    def test_failures(self, points: Collection, error: Exception, kind: type[Exception], status: int | None) -> None:
        """A failure of the client is one of nextk's errors, with the status, and with the failure as its cause."""
        client: Any = Raising(error)
        with pytest.raises(kind, match=points.name) as caught:
            points.source(client).query(query_of(1, mode=SPARSE), 3)
        assert caught.value.__cause__ is error
        assert status == getattr(caught.value, "status", None)

    @pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("tomorrow", None)], ids=["seconds", "illegible"])
    def test_limited_rate(self, points: Collection, header: str, seconds: float | None) -> None:
        """A refusal for the rate of requests is one that a session repeats, after the pause that Qdrant asks for."""
        with pytest.raises(QdrantException) as raised:
            raise ResourceExhaustedResponse("slow down", header)  # type: ignore[arg-type]
        client: Any = Raising(raised.value)
        with pytest.raises(RefusedError, match=points.name) as caught:
            points.source(client).query(query_of(1, mode=SPARSE), 3)
        assert (429, seconds) == (caught.value.status, caught.value.retry_after)
        assert caught.value.__cause__ is raised.value

    async def test_closed_clients_of_a_server(self) -> None:
        """A search through a closed client of a server is refused in words, and nothing is sent."""
        client = QdrantClient(url="http://localhost:1", check_compatibility=False)
        waiting = AsyncQdrantClient(url="http://localhost:1", check_compatibility=False)
        client.close()
        await waiting.close()
        source = QdrantSource(client, "c", async_client=waiting)
        with pytest.raises(RefusedError, match="is closed"):
            source.query(query_of(1, mode=DENSE), 3)
        with pytest.raises(RefusedError, match="is closed"):
            await source.aquery(query_of(1, mode=DENSE), 3)

    def test_other_exceptions(self, points: Collection) -> None:
        """An exception that says nothing about Qdrant goes through unchanged."""
        client: Any = Raising(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            points.source(client).query(query_of(1, mode=SPARSE), 3)

    def test_queries(self, points: Collection) -> None:
        """A query without the vectors that its mode needs, or by another fusion, is refused in words."""
        dense_alone = QdrantSource(points.client, points.name, dense="dense")
        for source, query, words in (
            (points.source(), SearchQuery(data="text"), "searched by vectors"),
            (points.source(), SearchQuery(vector=[1.0] * 6, mode=HYBRID), "needs a sparse vector"),
            (dense_alone, query_of(1, mode=HYBRID), "needs sparse="),
            (points.source(), query_of(1, fusion=FusionAlgorithm.DBSF), "by their ranks"),
            (points.source(), query_of(1, mode=DENSE, store_filter=5), "no qdrant_client.models.Filter"),
        ):
            with pytest.raises(ClientError, match=words):
                source.query(query, 3)

    def test_arguments(self, points: Collection) -> None:
        """A source without a client or a vector, and a blocking search without a blocking client, are refused."""
        with pytest.raises(ClientError, match="give a QdrantClient"):
            QdrantSource(None, "c")
        with pytest.raises(ClientError, match="leave no vector"):
            QdrantSource(points.client, "c", dense=None)
        with pytest.raises(ClientError, match="item_of"):
            points.source(item_of=5)
        waiting: Any = object()
        with pytest.raises(ClientError, match="AsyncQdrantClient alone"):
            QdrantSource(None, "c", async_client=waiting).query(query_of(1, mode=DENSE), 3)


class Raising:
    """A client whose requests all raise."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            raise self._error

        return call


def test_ids() -> None:
    """The id of a point is found again by that of its row: whole numbers and UUIDs are told apart."""
    assert (5, 0, 2**63) == (point_id("5"), point_id("0"), point_id(str(2**63)))
    assert "5c1d4f5e-0000-4000-8000-000000000000" == point_id("5c1d4f5e-0000-4000-8000-000000000000")


def test_ef_grows_with_depth() -> None:
    """The deeper a search is, the farther the graph is searched."""
    assert [128, 150, 1_000, 5_100] == [ef_at(10, 0), ef_at(100, 50), ef_at(100, 900), ef_at(100, 5_000)]


class Graph:
    """A client whose graph reaches a few points alone, as that of a server may where many are excluded.

    Args:
        points: The collection in which an exact search looks.
    """

    def __init__(self, points: Collection) -> None:
        self._points = points

    def get_collection(self, name: str) -> Any:
        """Describe the collection."""
        return self._points.client.get_collection(name)

    def query_points(self, name: str, *, search_params: Any, limit: int, **request: Any) -> Any:
        """Search, exactly if it is asked for."""
        reached = limit if search_params.exact else min(limit, 3)
        return self._points.client.query_points(name, limit=reached, **request)


def test_points_that_the_graph_misses(points: Collection) -> None:
    """A short answer of the graph is made sure of by an exact search, so that no point is left out at the end."""
    query = query_of(9, mode=DENSE)
    found = [row.id for page in pages(points.source(Graph(points)), query, [10]) for row in page]
    assert points.nearest(query) == found
