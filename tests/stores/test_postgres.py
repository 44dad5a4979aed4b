"""Sessions over tables of PostgreSQL: by a cursor of the server, and with nothing kept between two pages."""

import asyncio
import gc
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool

from nextk.errors import (
    AuthenticationError,
    ClientError,
    PageUncertain,
    QueryNotFound,
    RefusedError,
    TooManyQueries,
    TransportError,
)
from nextk.sessions import AsyncRetrievalSession, RetrievalMode, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.sessions.source import Source
from nextk.stores import Continuation, StoreRow
from nextk.stores.postgres import PostgresSource
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from nextk.types import SparseVector
from tests.support.postgres_server import PostgresServer, fresh_schema
from tests.support.ranked_tables import DIMENSION, ROWS, RankedTable

VECTOR = [0.5, -1.0, 0.25, 2.0, 0.0, 1.5, -0.75, 1.0]
QUERY = SearchQuery(vector=VECTOR)
IDS: RowReader[str] = RowReader(lambda row: row.id)
_numbers = count()


@pytest.fixture(scope="module")
def table(postgres_server: PostgresServer) -> Iterator[RankedTable]:
    """A table with an HNSW index."""
    with fresh_schema(postgres_server) as schema:
        yield RankedTable(postgres_server.dsn, schema)


@pytest.fixture
def sources(table: RankedTable) -> Iterator[Any]:
    """Makes sources over the table, and closes them."""
    made: list[PostgresSource] = []

    def make(connection: Any = None, name: Any = table.name, **settings: Any) -> PostgresSource:
        settings = {"text": "body", "metadata": "metadata", **settings}
        source = PostgresSource(connection or table.dsn, name, **settings)
        made.append(source)
        return source

    yield make
    for source in made:
        source.close()


def config() -> SearchConfig:
    """The configuration of sessions that do not wait after a failure."""
    return SearchConfig(sleep=lambda _: None, max_recovery=None)


class _PostgresSuite:
    """A source over a few rows of the table, of which an index brings one half, and sorting the other."""

    requests: ClassVar[Sequence[str]] = (*SourceCompliance.requests, "_scan_page")
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _with_source(self, sources: Any, table: RankedTable) -> None:
        self._sources, self._table = sources, table

    def source(self) -> Source:
        """A new source; all of them are closed after the test."""
        where = (SQL("bucket < %s"), [1])
        settings = {"where": where, "max_scan_tuples": 200, "max_open": 8, **self.settings}
        source: Source = self._sources(**settings)
        return source

    def query(self) -> SearchQuery:
        """The query."""
        return QUERY

    def expected(self) -> list[str]:
        """The ids of the rows that meet the condition."""
        return self._table.order(VECTOR, 1)


class TestCursor(_PostgresSuite, SourceCompliance):
    """A cursor of the server, in blocking code."""


class TestAsyncCursor(_PostgresSuite, AsyncSourceCompliance):
    """A cursor of the server, in an event loop."""


class TestStateless(_PostgresSuite, SourceCompliance):
    """Nothing kept between two pages, in blocking code."""

    settings: ClassVar[dict[str, Any]] = {"stateless": True}


class TestAsyncStateless(_PostgresSuite, AsyncSourceCompliance):
    """Nothing kept between two pages, in an event loop."""

    settings: ClassVar[dict[str, Any]] = {"stateless": True}


@pytest.mark.parametrize("pages", range(7))
@pytest.mark.parametrize("stateless", [False, True])
def test_a_terminated_backend(
    sources: Any, table: RankedTable, postgres_server: PostgresServer, pages: int, stateless: bool
) -> None:
    """A session whose backend is terminated after any page goes on: every row comes exactly once, in the same order."""
    name = f"nextk-lost-{next(_numbers)}"
    dsn = psycopg.conninfo.make_conninfo(table.dsn, application_name=name)
    source = sources(dsn, where=(SQL("bucket < 20"), []), max_scan_tuples=200, stateless=stateless)
    order, fetched = [row.id for row in source.query(QUERY, ROWS)], list[str]()
    with RetrievalSession(source, QUERY, IDS, config=config()) as search:
        for page in range(7):
            if page == pages:
                assert postgres_server.terminate(name)
            fetched += search.fetch_next(20)
        while page_of_ids := search.fetch_next(50):
            fetched += page_of_ids
        assert search.report.continuation is (Continuation.EXCLUSION if stateless else Continuation.NATIVE)
        assert not search.report.changed
    assert sorted(table.order(VECTOR, 20)) == sorted(fetched)
    assert stateless or order == fetched


def test_a_restarted_server(sources: Any, table: RankedTable, postgres_server: PostgresServer) -> None:
    """A session goes on after the server was restarted in the middle of it: every row comes exactly once."""
    if not postgres_server.own:
        pytest.skip("the server does not belong to the tests")
    source = sources(where=(SQL("bucket < 5"), []), read_ahead=0)
    with RetrievalSession(source, QUERY, IDS, config=config()) as search:
        fetched = search.fetch_next(10)
        postgres_server.restart()
        fetched += search.fetch_next(10)
        assert search.report.recovered == 1
        while page := search.fetch_next(10):
            fetched += page
    assert sorted(table.order(VECTOR, 5)) == sorted(fetched)


def test_nothing_kept(sources: Any, table: RankedTable) -> None:
    """Without a state, searches that take turns need one connection for all of them, and end every transaction."""
    source = sources(stateless=True, max_open=1, max_wait=0.05)
    searches = [RetrievalSession(source, QUERY, IDS) for _ in range(3)]
    pages = [[search.fetch_next(10) for search in searches] for _ in range(3)]
    for first, *others in pages:
        assert all(other == first for other in others)
    assert table.order(VECTOR)[:10] == pages[0][0]
    for search in searches:
        search.stop()


def test_a_connection_lost_at_the_end(sources: Any, table: RankedTable, postgres_server: PostgresServer) -> None:
    """A search whose rows have all come before its connection is lost hands them out, and ends without a fault."""
    name = f"nextk-lost-{next(_numbers)}"
    dsn = psycopg.conninfo.make_conninfo(table.dsn, application_name=name)
    source = sources(dsn, where=(SQL("bucket < 5"), []), read_ahead=50)
    search = source.search()
    rows = search.fetch_first(QUERY, 10)
    assert postgres_server.terminate(name) == 1
    while page := search.fetch_next(10):
        rows += page
    assert sorted(table.order(VECTOR, 5)) == sorted(row.id for row in rows)
    search.stop()


async def test_a_terminated_backend_in_an_event_loop(
    sources: Any, table: RankedTable, postgres_server: PostgresServer
) -> None:
    """A session of an event loop goes on after its backend is terminated at every page."""
    name = f"nextk-lost-{next(_numbers)}"
    source = sources(psycopg.conninfo.make_conninfo(table.dsn, application_name=name), where=(SQL("bucket < 5"), []))
    fetched: list[str] = []
    async with AsyncRetrievalSession(source, QUERY, IDS, config=config()) as search:
        while page := await search.fetch_next(10):
            fetched += page
            await asyncio.to_thread(postgres_server.terminate, name)
    assert sorted(table.order(VECTOR, 5)) == sorted(fetched)


async def test_a_cancelled_page(sources: Any, table: RankedTable) -> None:
    """A page that is cancelled while PostgreSQL works on it is lost, and its connection is given back by `stop`."""
    where: tuple[SQL, list[int]] = (SQL("bucket < 2 AND pg_sleep(0.02) IS NOT NULL"), [])
    source = sources(where=where, max_scan_tuples=50, max_open=1, read_ahead=0)
    search = source.asearch()
    assert await search.fetch_first(QUERY, 1)
    task = asyncio.ensure_future(search.fetch_next(20))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(PageUncertain, match="cancelled"):
        await search.fetch_next(1)
    await search.stop()
    assert await source.aquery(QUERY, 1), "the only connection was not given back"


def test_an_idle_search(sources: Any, table: RankedTable, postgres_server: PostgresServer) -> None:
    """PostgreSQL ends a search that is idle for longer than `max_idle`."""
    name = f"nextk-idle-{next(_numbers)}"
    source = sources(psycopg.conninfo.make_conninfo(table.dsn, application_name=name))
    search = source.search()
    assert search.fetch_first(QUERY, 1, max_idle=0.05)
    while postgres_server.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", name):
        pass
    with pytest.raises(QueryNotFound, match="expired"):
        search.fetch_next(100)
    search.stop()


def test_room(sources: Any) -> None:
    """No more searches are open than there are connections; one that ends, or is dropped, makes room for another."""
    source = sources(max_open=1, max_wait=0.05)
    first, second = source.search(), source.search()
    assert first.fetch_first(QUERY, 1)
    with pytest.raises(TooManyQueries, match="max_open"):
        second.fetch_first(QUERY, 1)
    while first.fetch_next(ROWS):
        pass
    assert second.fetch_first(QUERY, 1)
    del second
    gc.collect()
    assert source.query(QUERY, 1)


def test_what_a_row_becomes(sources: Any, table: RankedTable) -> None:
    """A row has its key as id, the similarity as score, its text, and its metadata with further columns among them."""
    source = sources(metadata_columns=["bucket"], item_of=lambda row: row.data)
    [row] = source.query(QUERY, 1)
    number = int(table.order(VECTOR)[0])
    assert row.score == pytest.approx(1 - table.distances(VECTOR)[number], abs=1e-6)
    metadata = {"n": number, "bucket": number % 100}
    assert StoreRow(str(number), row.score, metadata=metadata, data=f"text {number}", item=f"text {number}") == row


@pytest.mark.parametrize(("operator", "sign"), [("<->", -1), ("<#>", -1), ("<+>", -1)])
def test_scores(sources: Any, table: RankedTable, operator: str, sign: int) -> None:
    """The score of another operator is its negative result, so that a higher one is nearer."""
    rows = sources(operator=operator).query(QUERY, ROWS)
    distances = table.distances(VECTOR, operator)  # type: ignore[arg-type]
    assert [sign * distances[int(row.id)] for row in rows] == pytest.approx([row.score for row in rows], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"n": 7}, ["7"]),
        ("n >= 3 AND n IN (3, 9, 1)", ["3", "9"]),
        ('n = "7\' OR true --"', []),
        ((SQL("id IN (%s, %s)"), [3, 9]), ["3", "9"]),
        ({"n": "7' OR true --"}, []),
        ({}, None),
    ],
    ids=["dict", "text", "text with SQL", "SQL", "dict with SQL", "empty"],
)
def test_filters(sources: Any, given: Any, found: list[str] | None) -> None:
    """A filter is one of metadata, or SQL of psycopg with its values; no text of it becomes SQL by itself."""
    rows = sources().query(SearchQuery(vector=VECTOR, store_filter=given), ROWS)
    assert (found if found is not None else sorted(map(str, range(ROWS)))) == sorted(row.id for row in rows)


@pytest.mark.parametrize("metadata", ["metadata", None])
@pytest.mark.parametrize("given", [{"bucket": 7}, "bucket = 7 AND body GLOB '*7'"], ids=str)
def test_filters_of_columns(sources: Any, metadata: str | None, given: Any) -> None:
    """A filter of metadata reaches the columns that are metadata under their names, besides the one of metadata."""
    source = sources(metadata=metadata, metadata_columns=["bucket", "body"])
    rows = source.query(SearchQuery(vector=VECTOR, store_filter=given), ROWS)
    assert ["107", "207", "307", "407", "507", "7"] == sorted(row.id for row in rows)


def test_a_filter_of_ones_own(sources: Any) -> None:
    """`filter_of` makes a condition of whatever a search is given, besides that of the source."""
    source = sources(filter_of=lambda given: (SQL("bucket = %s"), [given]), where=(SQL("id < 300"), ()))
    assert ["107", "207", "7"] == sorted(row.id for row in source.query(SearchQuery(vector=VECTOR, store_filter=7), 9))


def test_exact(sources: Any, table: RankedTable) -> None:
    """A search that is to be exact sorts all rows."""
    rows = sources(ef_search=1, read_ahead=0).query(SearchQuery(vector=VECTOR, exact=True), ROWS)
    assert table.order(VECTOR) == [row.id for row in rows]


def test_a_pool_of_the_user(sources: Any, table: RankedTable) -> None:
    """A pool of the user's, with whatever rows its connections make, is used, and stays open."""
    rows = psycopg.rows.dict_row
    with ConnectionPool(table.dsn, min_size=0, max_size=1, open=True, kwargs={"row_factory": rows}) as pool:
        source = sources(pool)
        with RetrievalSession(source, QUERY, IDS) as search:
            assert len(search.fetch_next(3)) == 3
        source.close()
        with pool.connection() as connection:
            assert str(connection.execute("SELECT 1 AS one").fetchone()) == "{'one': 1}"


class PoolInTransactions(ConnectionPool[Any]):
    """A pool of a user whose connections are in a transaction when they are taken."""

    def getconn(self, timeout: float | None = None) -> Any:
        """Take a connection, and begin a transaction."""
        connection = super().getconn(timeout)
        connection.execute("SELECT 1")
        return connection


@pytest.mark.parametrize("stateless", [False, True])
def test_a_scan_that_cannot_begin(sources: Any, table: RankedTable, stateless: bool) -> None:
    """A connection on which no scan can begin goes back to the pool, so that the next search has one to try."""
    with PoolInTransactions(table.dsn, min_size=0, max_size=1, open=True) as pool:
        source = sources(pool, stateless=stateless, max_wait=0.5)
        for _ in range(2):
            with pytest.raises(ClientError, match="in a transaction"):
                source.search().fetch_first(QUERY, 1)
        assert 1 == pool.get_stats()["pool_available"]


@pytest.mark.parametrize("ending", ["take", "close"])
def test_dropped_searches_in_two_threads(sources: Any, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """The connection of a dropped search may be given back by another thread, just when this one was about to."""
    source = sources(max_open=1)
    connections = source._connections

    class Contended(deque[Any]):
        def __len__(self) -> int:
            seen = super().__len__()
            if seen:  # the other thread comes after the look, and before the next step
                connections.give_back(self.popleft())
            return seen

    monkeypatch.setattr(connections._own(), "orphans", Contended())
    search = source.search()
    search.fetch_first(QUERY, 1)
    del search
    gc.collect()
    if ending == "take":
        assert 1 == len(source.query(QUERY, 1))
    source.close()


def test_pickling(sources: Any) -> None:
    """A source that made its own pool is pickled without it, and searches the same rows in another process."""
    source = sources()
    before = [row.id for row in source.query(QUERY, 5)]
    copied = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert (copied.identity, before) == (source.identity, [row.id for row in copied.query(QUERY, 5)])
    copied.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"connection": 7}, "connection string"),
        ({"name": ""}, "^table="),
        ({"operator": "<~>"}, "^operator="),
        ({"where": 7}, "nor SQL"),
        ({"where": (SQL("bucket = %s"), "1")}, "nor SQL"),
        ({"item_of": 1}, "^item_of="),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments(sources: Any, arguments: dict[str, Any], words: str) -> None:
    """An argument that is of no use is refused at once."""
    with pytest.raises(ClientError, match=words):
        sources(**arguments)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ef_search", [0, 1_001, None, "x", 10.0, True]),
        ("read_ahead", [-5, "x", 10**12, False]),
        ("max_scan_tuples", [0, -1, 2**31, 1.5]),
        ("max_open", [0, -1, "x", None]),
        ("max_wait", [-1, "x", None, float("inf"), float("nan"), 1e9]),
    ],
    ids=["ef_search", "read_ahead", "max_scan_tuples", "max_open", "max_wait"],
)
def test_bounds(sources: Any, name: str, wrong: list[Any]) -> None:
    """A number that is out of bounds, or is none, is refused by the name of its argument before anything is sent."""
    for value in wrong:
        with pytest.raises(ClientError, match=f"^{name}="):
            sources(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [{"ef_search": 1, "read_ahead": 0, "max_scan_tuples": 1}, {"ef_search": 1_000, "max_scan_tuples": 2**31 - 1}],
    ids=["least", "most"],
)
def test_within_bounds(sources: Any, table: RankedTable, settings: dict[str, int]) -> None:
    """The smallest and the largest numbers are taken by PostgreSQL as well, and every row comes."""
    with RetrievalSession(sources(max_open=1, **settings), QUERY, IDS, config=config()) as search:
        assert sorted(table.order(VECTOR, 100)) == sorted(search.fetch_next(1_000))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (SearchQuery(data="sky"), "searched by vectors"),
        (SearchQuery(vector=VECTOR, sparse_vector=SparseVector([1], [1.0])), "dense vectors alone"),
        (SearchQuery(vector=VECTOR, mode=RetrievalMode.HYBRID), "dense vectors alone"),
        (SearchQuery(vector=VECTOR, store_filter=7), "^filter="),
    ],
    ids=["text", "sparse", "hybrid", "filter"],
)
def test_queries(sources: Any, query: SearchQuery, words: str) -> None:
    """A query that is no search of one dense vector is refused, and so is a filter of an unknown kind."""
    for source in (sources(), sources(stateless=True)):
        with pytest.raises(ClientError, match=words):
            source.query(query, 1)
        with pytest.raises(ClientError, match=words):
            source.search().fetch_first(query, 1)


@pytest.mark.parametrize("given", [{"a": 1}, "a = 1"], ids=str)
def test_no_metadata(sources: Any, given: Any) -> None:
    """A filter of metadata is refused where no column holds any."""
    with pytest.raises(ClientError, match="metadata="):
        sources(metadata=None).query(SearchQuery(vector=VECTOR, store_filter=given), 1)


@pytest.mark.parametrize("text", ["n =", "n = 1 OR"])
def test_malformed_filters(sources: Any, text: str) -> None:
    """A malformed text is refused in the words of an index."""
    with pytest.raises(RefusedError, match=r"^Invalid filter"):
        sources().query(SearchQuery(vector=VECTOR, store_filter=text), 1)


@pytest.mark.parametrize("stateless", [False, True])
@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"name": "nosuch"}, RefusedError, "create the table"),
        ({"text": "nosuch"}, RefusedError, "name the columns"),
        ({"key": "embedding", "embedding": "body"}, RefusedError, "of the type vector"),
    ],
    ids=["table", "column", "type"],
)
def test_refusals(sources: Any, settings: dict[str, Any], kind: type[Exception], words: str, stateless: bool) -> None:
    """A session over a table that is not as the source says raises an error that says what to do."""
    source = sources(stateless=stateless, **settings)
    with RetrievalSession(source, QUERY, IDS) as search, pytest.raises(kind, match=words):
        search.fetch_next(1)


def test_dimension(sources: Any) -> None:
    """A vector of another dimension is refused, in the words by which a retriever explains its models."""
    with pytest.raises(RefusedError, match="Invalid vector dimension"):
        sources().query(SearchQuery(vector=[1.0] * (DIMENSION + 1)), 1)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"host": "127.0.0.1", "port": "1"}, TransportError),
        ({"user": "nextk_unknown"}, AuthenticationError),
        ({"dbname": "nextk_unknown"}, RefusedError),
    ],
    ids=["server", "role", "database"],
)
def test_no_connection(sources: Any, table: RankedTable, change: dict[str, str], kind: type[Exception]) -> None:
    """Without a connection the error says why there is none."""
    source = sources(psycopg.conninfo.make_conninfo(table.dsn, **change), max_wait=0.05)
    with pytest.raises(kind):
        source.query(QUERY, 1)


def test_a_closed_source(sources: Any) -> None:
    """A source that is closed says so."""
    for source in (unused := sources(), sources()):
        if source is not unused:
            source.query(QUERY, 1)
        source.close()
        with pytest.raises(RefusedError, match="closed"):
            source.query(QUERY, 1)


def test_views_and_partitions(sources: Any, table: RankedTable, postgres_server: PostgresServer) -> None:
    """A view and a partitioned table are searched as a table is."""
    schema, name = table.name
    view, parts = Identifier(schema, "a view"), Identifier(schema, "parts")
    of = {"table": Identifier(schema, name), "view": view, "parts": parts}
    for statement in (
        "CREATE VIEW {view} AS SELECT * FROM {table} WHERE bucket < 50",
        "CREATE TABLE {parts} (LIKE {table}) PARTITION BY HASH (id)",
        "CREATE TABLE {a} PARTITION OF {parts} FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE {b} PARTITION OF {parts} FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO {parts} SELECT * FROM {table}",
        "CREATE INDEX ON {parts} USING hnsw (embedding vector_cosine_ops)",
    ):
        names = {**of, "a": Identifier(schema, "parts a"), "b": Identifier(schema, "parts b")}
        postgres_server.execute(SQL(statement).format(**names))
    for name, below in (("a view", 50), ("parts", 100)):
        with RetrievalSession(sources(name=(schema, name), ef_search=10), QUERY, IDS) as search:
            assert sorted(table.order(VECTOR, below)) == sorted(search.fetch_next(500) + search.fetch_next(500))
