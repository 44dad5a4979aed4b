"""Searches that go on in PostgreSQL: their pages, what writes do to them, and connections that are lost."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from nextk import Index
from nextk.errors import QueryNotFound, RefusedError, TooManyQueries
from nextk.sessions import RetrievalSession, SearchConfig, SearchQuery
from tests.support.postgres_indexes import ROWS, fill, ids, postgres_engine, postgres_index
from tests.support.postgres_server import PostgresServer
from tests.support.searches import IDS

QUERY = [1.0, 0.0]
AT_ONCE = SearchConfig(sleep=lambda _: None)


@pytest.fixture
def dsn(postgres_server: PostgresServer, postgres_schema: str) -> str:
    """A connection string whose connections can be told apart from others."""
    return make_conninfo(postgres_server.dsn, application_name=postgres_schema)


@pytest.fixture
def index(dsn: str, postgres_schema: str) -> Iterator[Index]:
    """An index whose searches go on in PostgreSQL; afterwards no query may be open."""
    with postgres_index(dsn, postgres_schema, type="dense") as index:
        fill(index)
        yield index
        assert 0 == engine_of(index).open_queries()


def engine_of(index: Index) -> Any:
    """The engine of an index in this process."""
    return index._transport._open().engine  # type: ignore[attr-defined]


def in_transactions(server: PostgresServer, application_name: str) -> int:
    """The number of connections of an application that hold a transaction open."""
    ((count,),) = server.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'",
        application_name,
    )
    return int(count)


def pages(index: Index, *sizes: int, **arguments: Any) -> list[list[str]]:
    """Read pages of these sizes, and then such as the last one until one is empty."""
    page, handle = index.resumable_query(QUERY, top_k=sizes[0], **arguments)
    found = [ids(page)]
    with handle:
        while found[-1]:
            found.append(ids(handle.fetch_next(sizes[min(len(found), len(sizes) - 1)])))
    return found


class TestPages:
    """The pages of searches over more records than full lists are made for."""

    @pytest.mark.parametrize("sizes", [(1, 7), (ROWS,), (50, 1), (1_000,)])
    def test_every_record_once(self, index: Index, sizes: tuple[int, ...]) -> None:
        """Whatever the sizes of the pages, every record comes once, and the search ends after the last one."""
        found = [id_ for page in pages(index, *sizes) for id_ in page]
        assert (ROWS, ROWS) == (len(found), len(set(found)))

    def test_scores(self, index: Index) -> None:
        """Scores are those of the vectors, and they are the same from full lists."""
        found = {match.id: match.score for match in index.query(QUERY, top_k=ROWS)}
        exact = {match.id: match.score for match in index.query(QUERY, top_k=ROWS, exact=True)}
        assert exact == found

    def test_exact(self, index: Index) -> None:
        """A search that wants exact order has it."""
        assert [f"r{number}" for number in range(ROWS)] == ids(index.query(QUERY, top_k=ROWS, exact=True))

    def test_filter(self, index: Index) -> None:
        """A filter leaves out all others, and none that passes."""
        found = [id_ for page in pages(index, 5, 3, filter="place >= 60 AND place < 80") for id_ in page]
        assert {f"r{number}" for number in range(60, 80)} == set(found)
        assert 20 == len(found)

    def test_namespaces(self, index: Index) -> None:
        """A search stays in its namespace."""
        fill(index, 30, namespace="other")
        assert 30 == sum(map(len, pages(index, 7, namespace="other")))
        assert ROWS == sum(map(len, pages(index, 50)))

    def test_rounded_vectors(self, dsn: str, postgres_schema: str, postgres_server: PostgresServer) -> None:
        """More than 2,000 dimensions are searched by an index of rounded vectors, and the scores are exact."""
        with postgres_index(dsn, postgres_schema, type="dense", dimension=2_001) as index:
            index.upsert([(f"r{number}", [1.0, number / 1_000, *[0.0] * 1_999]) for number in range(60)])
            query = [1.0, 0.0, *[0.0] * 1_999]
            page, handle = index.resumable_query(query, top_k=5)
            with handle:
                assert 1 == in_transactions(postgres_server, postgres_schema)
                found = [*page, *handle.fetch_next(100)]
            exact = index.query(query, top_k=100, exact=True)
            assert {match.id: match.score for match in exact} == {match.id: match.score for match in found}
            assert 60 == len(found)
            with pytest.raises(RefusedError, match="a number is too large") as caught:
                index.upsert([("large", [1e30] * 2_001)])
            assert 422 == caught.value.status

    def test_a_small_part_of_all_records(self, index: Index) -> None:
        """A namespace that has a small part of all records is sorted exactly, as no index of all could do."""
        fill(index, 30, namespace="small")
        for start in range(0, 1_000, 500):
            index.upsert([(f"o{number}", QUERY) for number in range(start, start + 500)], namespace="large")
        assert [f"r{number}" for number in range(30)] == [
            id_ for page in pages(index, 4, 7, namespace="small") for id_ in page
        ]

    def test_zeros(self, index: Index) -> None:
        """A vector of zeros has the score 0.5 to every query, and is found though no index of pgvector holds it."""
        index.upsert([("zero", [0.0, 0.0])])
        found = {match.id: match.score for match in index.query(QUERY, top_k=1_000)}
        assert (ROWS + 1, 0.5) == (len(found), found["zero"])
        assert {0.5} == {match.score for match in index.query([0.0, 0.0], top_k=1_000)}


@pytest.mark.parametrize("exact_rows", [1, 100])
@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "dot_product"])
def test_very_large_components(dsn: str, postgres_schema: str, similarity: str, exact_rows: int) -> None:
    """Records whose distances are beyond float32 come like all others, and every score is a number."""
    large = [1e20, -1e20]
    options = {"exact_rows": exact_rows}
    with postgres_index(dsn, postgres_schema, options=options, type="dense", similarity=similarity) as index:
        index.upsert([("a", [1e20, 1e20]), ("b", large), ("c", [1.0, 1.0]), ("d", [-1e20, -1e20])])
        page, handle = index.resumable_query([1e20, 1e20], top_k=2)
        with handle:
            found = [*page, *handle.fetch_next(9)]
        assert ["a", "b", "c", "d"] == sorted(ids(found)) == sorted(ids(index.query([1e20, 1e20])))
        assert all(math.isfinite(match.score) for match in found)


class TestWrites:
    """Writes while a search is open."""

    def test_snapshot(self, index: Index) -> None:
        """A record that is stored after the start does not enter, and one that is deleted later does not come."""
        page, handle = index.resumable_query(QUERY, top_k=5)
        with handle:
            index.upsert([("new", QUERY)])
            index.delete(ids=["r50"])
            rest = [id_ for _ in range(3) for id_ in ids(handle.fetch_next(50))]
        assert ROWS - 1 == len([*page, *rest])
        assert not {"new", "r50"} & {*ids(page), *rest}

    def test_a_record_that_is_stored_anew(self, index: Index) -> None:
        """A record that was deleted and stored again is another one, which an open search does not have."""
        page, handle = index.resumable_query(QUERY, top_k=5)
        with handle:
            index.delete(ids=["r50"])
            index.upsert([("r50", QUERY)])
            rest = ids(handle.fetch_next(1_000))
        assert "r50" not in rest
        assert ROWS - 1 == len([*page, *rest])

    def test_permission_is_taken_away(self, index: Index) -> None:
        """A record whose metadata no longer pass the filter does not come, and the others come as they are now."""
        page, handle = index.resumable_query(QUERY, top_k=5, filter="place < 60", include_metadata=True)
        with handle:
            index.update("r50", metadata={"place": 1_000})
            index.update("r51", metadata={"place": 51, "new": True})
            rest = handle.fetch_next(1_000)
        assert "r50" not in ids(rest)
        assert {"place": 51, "new": True} == {match.id: match.metadata for match in rest}["r51"]
        assert 59 == len([*page, *rest])

    @pytest.mark.parametrize("way", ["reset", "delete_namespace"])
    def test_the_namespace_is_emptied(self, index: Index, way: str) -> None:
        """A search whose namespace was emptied has no further pages, and holds nobody up."""
        fill(index, 50, namespace="x")
        _, handle = index.resumable_query(QUERY, top_k=5, namespace="x")
        with handle:
            getattr(index, way)("x")
            assert [] == handle.fetch_next(5)


class TestConnections:
    """The connection that a search holds, and what happens when it is lost."""

    def test_it_is_given_back(self, index: Index, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A search holds one transaction until it is stopped, or all of its records have come."""
        assert 0 == in_transactions(postgres_server, postgres_schema)
        _, stopped = index.resumable_query(QUERY, top_k=5)
        _, finished = index.resumable_query(QUERY, top_k=5)
        assert 2 == in_transactions(postgres_server, postgres_schema)
        stopped.stop()
        assert 1 == in_transactions(postgres_server, postgres_schema)
        finished.fetch_next(1_000)
        assert 0 == in_transactions(postgres_server, postgres_schema)
        finished.stop()

    def test_a_full_list_holds_none(self, index: Index, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A search that wants exact order, or has few records, holds no connection between its pages."""
        fill(index, 9, namespace="few")
        _, exact = index.resumable_query(QUERY, top_k=5, exact=True)
        _, few = index.resumable_query(QUERY, top_k=5, namespace="few")
        with exact, few:
            assert 0 == in_transactions(postgres_server, postgres_schema)
            assert (100, 4) == (len(exact.fetch_next(100)), len(few.fetch_next(100)))

    def test_as_many_as_allowed(self, dsn: str, postgres_schema: str) -> None:
        """More searches than are allowed are refused, and one that is stopped makes room for another."""
        with postgres_index(dsn, postgres_schema, options={"max_open_queries": 2}, type="dense") as index:
            fill(index)
            _, first = index.resumable_query(QUERY, top_k=5)
            with first, pytest.raises(TooManyQueries):
                index.resumable_query(QUERY, top_k=5)
            index.resumable_query(QUERY, top_k=5)[1].stop()

    def test_queries_of_one_page(self, dsn: str, postgres_schema: str) -> None:
        """A query of one page finds a connection although as many resumable queries as are allowed hold theirs."""
        with postgres_index(dsn, postgres_schema, options={"max_open_queries": 2}, type="dense") as index:
            expected = fill(index)
            fill(index, namespace="x")
            _, first = index.resumable_query(QUERY, top_k=5)
            _, second = index.resumable_query(QUERY, top_k=5, namespace="x")
            with first, second:
                with pytest.raises(TooManyQueries):
                    index.resumable_query(QUERY, top_k=5)
                assert expected[:5] == ids(index.query(QUERY, top_k=5))
                with ThreadPoolExecutor(8) as threads:
                    found = list(threads.map(lambda _: ids(index.query(QUERY, top_k=5)), range(16)))
            assert [expected[:5]] * 16 == found

    def test_a_terminated_backend(self, index: Index, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A search whose backend is terminated has ended, which is what it says; the next one goes on as ever."""
        _, handle = index.resumable_query(QUERY, top_k=5)
        assert postgres_server.terminate(postgres_schema)
        with pytest.raises(QueryNotFound, match="has ended, because the connection to PostgreSQL"):
            handle.fetch_next(ROWS)
        assert 0 == engine_of(index).open_queries()
        assert ROWS == len(index.query(QUERY, top_k=1_000))

    def test_an_idle_search(
        self,
        index: Index,
        postgres_server: PostgresServer,
        postgres_schema: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """PostgreSQL ends a search that is idle for longer than its limit; a session goes on with every record once."""
        monkeypatch.setattr("nextk.postgres.searching.IDLE_MARGIN", 0.5 - 120)
        _, handle = index.resumable_query(QUERY, top_k=5, max_idle=120)
        with RetrievalSession(index, SearchQuery(vector=QUERY), IDS, config=AT_ONCE) as search:
            served = search.fetch_next(20)
            while in_transactions(postgres_server, postgres_schema):
                pass
            monkeypatch.undo()
            with pytest.raises(QueryNotFound, match=r"expired.*idle_in_transaction_session_timeout"):
                handle.fetch_next(ROWS)
            served += search.fetch_next(ROWS)
            assert search.report.recovered > 0
        assert (ROWS, ROWS) == (len(served), len(set(served)))

    def test_idle_connections_are_terminated(
        self, index: Index, postgres_server: PostgresServer, postgres_schema: str
    ) -> None:
        """Reads and writes go on after every idle connection was terminated."""
        assert postgres_server.terminate(postgres_schema)
        assert ROWS == index.info().vector_count
        assert postgres_server.terminate(postgres_schema)
        index.upsert([("new", QUERY)])
        assert ROWS + 1 == index.info().vector_count

    def test_sessions_recover(self, index: Index, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A session serves every record once, although its backend is terminated before every page."""
        query = SearchQuery(vector=QUERY)
        served: list[str] = []
        with RetrievalSession(index, query, IDS, config=AT_ONCE) as search:
            while page := search.fetch_next(30):
                served += page
                postgres_server.terminate(postgres_schema)
            assert (search.report.recovered > 0, search.report.changed) == (True, False)
        assert (ROWS, ROWS) == (len(served), len(set(served)))

    def test_a_restarted_server(self, index: Index, postgres_server: PostgresServer) -> None:
        """A session goes on after the server was restarted in the middle of it, and serves every record once."""
        if not postgres_server.own:
            pytest.skip("a server that is not ours is not restarted")
        with RetrievalSession(index, SearchQuery(vector=QUERY), IDS, config=AT_ONCE) as search:
            served = search.fetch_next(20)
            postgres_server.restart()
            served += search.fetch_next(ROWS)
        assert (ROWS, ROWS) == (len(served), len(set(served)))

    def test_another_process(self, index: Index, dsn: str, postgres_schema: str) -> None:
        """A query belongs to the process that has started it; another one does not know it."""
        _, handle = index.resumable_query(QUERY, top_k=5)
        with handle, postgres_engine(dsn, postgres_schema) as other, pytest.raises(QueryNotFound):
            other.fetch_next(str(handle._state.uuid), 5)

    def test_a_statement_that_takes_too_long(self, dsn: str, postgres_schema: str) -> None:
        """A statement that takes longer than the timeout, because of another's lock, is given up in words."""
        lock = sql.SQL("LOCK TABLE {}").format(sql.Identifier(postgres_schema, "namespaces"))
        with (
            postgres_index(dsn, postgres_schema, options={"statement_timeout": 0.5}, type="dense") as index,
            psycopg.connect(dsn) as other,
        ):
            fill(index, 1)
            other.execute(lock)
            with pytest.raises(RefusedError, match="took longer than the statement timeout") as caught:
                fill(index, 2)
            other.rollback()
            assert (503, 1) == (caught.value.status, index.info().vector_count)
