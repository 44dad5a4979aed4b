"""Ranked scans over tables of a real PostgreSQL with pgvector."""

import math
import select
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from nextk.errors import AuthenticationError, ClientError, NextKError, PageUncertain, QueryNotFound, RefusedError
from nextk.postgres.fragments import Fragment
from nextk.postgres.ranked_query import RankedQuery, VectorOperator, table_name
from nextk.postgres.scan import IterativeOrder, RankedScan, ScanOptions
from tests.support.postgres_server import PostgresServer, fresh_schema
from tests.support.ranked_tables import DIMENSION, ROWS, RankedTable, literal

QUERY = [0.5, -1.0, 0.25, 2.0, 0.0, 1.5, -0.75, 1.0]
FEW = ScanOptions(max_scan_tuples=50, ef_search=10)
"""Settings with which pgvector's scan ends long before the rows do."""


@pytest.fixture(scope="module")
def tables(postgres_server: PostgresServer) -> Iterator[dict[str, RankedTable]]:
    """One table of each kind of index."""
    with fresh_schema(postgres_server) as schema:
        kinds = [("hnsw", "vector"), ("ivfflat", "vector"), (None, "vector"), ("hnsw", "halfvec")]
        yield {
            f"{index} {kind}": RankedTable(postgres_server.dsn, schema, name=f"{index} {kind}", index=index, kind=kind)
            for index, kind in kinds
        }


@pytest.fixture
def connection(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A connection that begins no transaction by itself."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        yield connection


def query_of(table: RankedTable, below: int | None = None, **changes: Any) -> RankedQuery:
    """A search of a table, for all its rows or for those whose bucket is below a number."""
    where = None if below is None else Fragment(sql.SQL("bucket < %s"), (below,))
    arguments = {"operator": VectorOperator.COSINE, "vector": QUERY, "where": where, **changes}
    return RankedQuery(table_name(table.name), "id", "embedding", **arguments)


def drained(scan: RankedScan, sizes: list[int]) -> list[str]:
    """The keys of all rows of a scan, fetched by pages of the sizes, of which the last is that of all further ones."""
    keys: list[str] = []
    with scan:
        while page := scan.fetch_next(sizes[0]):
            keys += [row.key for row in page]
            sizes = sizes[1:] or sizes
    return keys


KINDS = ["hnsw vector", "ivfflat vector", "None vector", "hnsw halfvec"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", IterativeOrder)
@pytest.mark.parametrize("below", [None, 10, 1, 0])
@pytest.mark.parametrize("sizes", [[7], [10, 100], [2 * ROWS]], ids=str)
def test_every_row_once(
    tables: dict[str, RankedTable],
    connection: psycopg.Connection[Any],
    kind: str,
    order: IterativeOrder,
    below: int | None,
    sizes: list[int],
) -> None:
    """All rows that meet the condition come, and each once, although the scan of the index ends before them."""
    table = tables[kind]
    options = ScanOptions(order=order, max_scan_tuples=50, ef_search=10)
    keys = drained(RankedScan(connection, query_of(table, below), options=options), sizes)
    assert sorted(table.order(QUERY, 100 if below is None else below)) == sorted(keys)


@pytest.mark.parametrize("scan_options", [FEW, ScanOptions(), ScanOptions(order=IterativeOrder.STRICT)], ids=str)
def test_order_and_page_sizes(
    tables: dict[str, RankedTable], connection: psycopg.Connection[Any], scan_options: ScanOptions
) -> None:
    """The order does not depend on the sizes of the pages."""
    query = query_of(tables["hnsw vector"], 50)
    orders = [drained(RankedScan(connection, query, options=scan_options), sizes) for sizes in ([1], [13], [500])]
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(
    ("kind", "scan_options"),
    [("None vector", ScanOptions()), ("hnsw vector", ScanOptions(read_ahead=ROWS)), ("hnsw vector", ScanOptions())],
    ids=["sorted", "read ahead", "default"],
)
def test_order(
    tables: dict[str, RankedTable], connection: psycopg.Connection[Any], kind: str, scan_options: ScanOptions
) -> None:
    """Without an index, and within what is read ahead, rows come in the exact order of their distances."""
    table = tables[kind]
    with RankedScan(connection, query_of(table), options=scan_options) as scan:
        assert table.order(QUERY)[:40] == [row.key for row in scan.fetch_next(40)]


@pytest.mark.parametrize("operator", VectorOperator)
def test_distances(
    tables: dict[str, RankedTable], connection: psycopg.Connection[Any], operator: VectorOperator
) -> None:
    """Rows come with their exact distances, and with the values of further columns."""
    table = tables["hnsw vector"]
    query = query_of(table, operator=operator, columns=("body", "metadata"))
    with RankedScan(connection, query, options=FEW) as scan:
        rows = scan.fetch_next(ROWS)
    numbers = [int(row.key) for row in rows]
    np.testing.assert_allclose([row.distance for row in rows], table.distances(QUERY, operator)[numbers], atol=1e-5)
    assert [(f"text {number}", {"n": number}) for number in numbers] == [row.values for row in rows]


def test_the_end_of_pgvector(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """A cursor by hand, with the settings of the scan, ends before all rows have come: that is what the scan mends."""
    statement = query_of(tables["hnsw vector"], 10).by_index()
    with connection.transaction():
        connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        connection.execute("SET LOCAL hnsw.max_scan_tuples = 50; SET LOCAL enable_sort = off")
        by_hand = connection.execute(sql.Composed([statement.sql]), statement.values).fetchall()
    assert 0 < len(by_hand) < ROWS // 10


@pytest.mark.parametrize(
    ("below", "scan_options", "limits"),
    [
        (50, ScanOptions(read_ahead=0), ["2000", "2000"]),
        (50, ScanOptions(read_ahead=0, max_scan_tuples=70), ["70", "70"]),
        (None, ScanOptions(read_ahead=0), ["2147483647", "2147483647"]),
    ],
    ids=["condition", "setting", "no condition"],
)
def test_the_limit_of_visits(
    tables: dict[str, RankedTable],
    connection: psycopg.Connection[Any],
    below: int | None,
    scan_options: ScanOptions,
    limits: list[str],
) -> None:
    """With a condition the index may visit a part of the table; raised later, it would go on from where it is bad."""
    with RankedScan(connection, query_of(tables["hnsw vector"], below), options=scan_options) as scan:
        found = []
        for _ in range(2):
            scan.fetch_next(40)
            found += connection.execute("SHOW hnsw.max_scan_tuples").fetchall()
    assert [(limit,) for limit in limits] == found


def test_left_out(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """Rows whose keys are given as left out do not come, from the index or by sorting."""
    table = tables["hnsw vector"]
    gone = table.order(QUERY)[:300:2]
    keys = drained(RankedScan(connection, query_of(table), options=FEW, without=gone), [100])
    assert sorted(set(table.order(QUERY)) - set(gone)) == sorted(keys)


@pytest.mark.parametrize("below", [None, 50])
def test_one_state(postgres_server: PostgresServer, postgres_schema: str, below: int | None) -> None:
    """A scan sees the table as it was at its start: what is written and deleted meanwhile changes nothing."""
    table = RankedTable(postgres_server.dsn, postgres_schema)
    name = sql.Identifier(*table.name)
    with psycopg.connect(postgres_server.dsn) as connection:
        with RankedScan(connection, query_of(table, below), options=FEW) as scan:
            keys = [row.key for row in scan.fetch_next(10)]
            postgres_server.execute(sql.SQL("DELETE FROM {} WHERE mod(id, 3) = 0").format(name))
            postgres_server.execute(sql.SQL("UPDATE {} SET bucket = 0 WHERE mod(id, 3) = 1").format(name))
            copy = sql.SQL("INSERT INTO {0} SELECT id + 10000, embedding FROM {0} LIMIT 50").format(name)
            postgres_server.execute(copy)
            while page := scan.fetch_next(100):
                keys += [row.key for row in page]
        assert sorted(table.order(QUERY, below or 100)) == sorted(keys)
        assert connection.execute("SHOW enable_sort").fetchone() == ("on",), "the settings are those of the scan alone"


def test_rows_without_an_order(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """Rows without a vector do not come; one of zeros, which has no cosine and is in no index, comes at the end."""
    table = RankedTable(postgres_server.dsn, postgres_schema)
    name = sql.Identifier(*table.name)
    postgres_server.execute(sql.SQL("INSERT INTO {} (id) VALUES (1000)").format(name))
    zeros = sql.SQL("INSERT INTO {} (id, embedding) VALUES (1001, %s)").format(name)
    postgres_server.execute(zeros, literal([0] * DIMENSION))
    with psycopg.connect(postgres_server.dsn) as connection, RankedScan(connection, query_of(table)) as scan:
        rows = scan.fetch_next(2 * ROWS)
    assert len(rows) == ROWS + 1
    assert rows[-1].key == "1001"
    assert math.isnan(rows[-1].distance)


def test_keys_that_repeat(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """Of rows with one key the first to come is delivered, whichever cursor brings the others."""
    query = RankedQuery(table_name(tables["hnsw vector"].name), "bucket", "embedding", VectorOperator.COSINE, QUERY)
    keys = drained(RankedScan(connection, query, options=FEW), [10])
    assert sorted(map(str, range(100))) == sorted(keys)


def test_names_and_values_are_no_sql(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """Names and values with quotes, dots, percent signs and statements in them are names and values."""
    odd = """a"b'c.d; DROP TABLE x; --%s%%"""
    name, key, embedding = sql.Identifier(postgres_schema, odd), sql.Identifier(odd), sql.Identifier(odd + "2")
    statements = [
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(postgres_schema)),
        sql.SQL("CREATE TABLE {} ({} text, {} vector(2))").format(name, key, embedding),
        sql.SQL("INSERT INTO {} VALUES ({}, '[1,2]'), ('other', '[1,2]')").format(name, sql.Literal(odd)),
        sql.SQL("CREATE INDEX ON {} USING hnsw ({} vector_l2_ops)").format(name, embedding),
    ]
    where = Fragment(sql.SQL("{} = %s").format(sql.Identifier(odd.replace("%", "%%"))), (odd,))
    query = RankedQuery((postgres_schema, odd), odd, odd + "2", VectorOperator.EUCLIDEAN, [1, 2], (odd,), where)
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
        with RankedScan(connection, query) as scan:
            assert [(odd, 0.0, (odd,))] == scan.fetch_next(5)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"table": "nosuch"}, RefusedError, "create the table"),
        ({"key": "nosuch"}, RefusedError, "name the columns"),
        ({"embedding": "body"}, RefusedError, "of the type vector"),
        ({"vector": [1.0, 2.0]}, RefusedError, "Invalid vector dimension"),
        ({"where": Fragment(sql.SQL("pg_sleep(1) IS NULL"))}, RefusedError, "raise statement_timeout"),
        ({"where": Fragment(sql.SQL("pg_terminate_backend(pg_backend_pid())"))}, PageUncertain, "is lost"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_refusals(
    tables: dict[str, RankedTable],
    connection: psycopg.Connection[Any],
    changes: dict[str, Any],
    kind: type[NextKError],
    words: str,
) -> None:
    """A search that PostgreSQL refuses raises an error that says what to do; the connection can be used after it."""
    changes = {name: table_name(value) if name == "table" else value for name, value in changes.items()}
    arguments = {"table": table_name(tables["hnsw vector"].name), "key": "id", "embedding": "embedding"}
    query = RankedQuery(**{**arguments, "operator": VectorOperator.COSINE, "vector": QUERY, **changes})
    connection.execute("SET statement_timeout = 200")
    scan = RankedScan(connection, query)
    with pytest.raises(kind, match=words):
        scan.fetch_next(5)
    with pytest.raises(QueryNotFound, match="start it again"):
        scan.fetch_next(5)
    scan.close()
    assert connection.closed or connection.execute("SELECT 1").fetchone() == (1,)


def test_rights(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """A role that may not read the table is told which right it lacks."""
    connection.execute("CREATE ROLE nextk_nobody")
    try:
        connection.execute("SET ROLE nextk_nobody")
        with (
            RankedScan(connection, query_of(tables["hnsw vector"])) as scan,
            pytest.raises(AuthenticationError) as told,
        ):
            scan.fetch_next(5)
        assert "GRANT" in str(told.value)
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE nextk_nobody")


def test_no_extension(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """Where the extension is not to be found, the error names the command that makes it."""
    connection.execute("SET search_path = pg_catalog")
    with RankedScan(connection, query_of(tables["hnsw vector"])) as scan, pytest.raises(RefusedError) as told:
        scan.fetch_next(5)
    assert "CREATE EXTENSION vector" in str(told.value)


def test_an_old_pgvector(
    tables: dict[str, RankedTable], connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pgvector that does not know a setting of iterative scans is refused, and the error says which version does."""
    settings = ScanOptions.settings

    def older(options: ScanOptions, query: RankedQuery) -> dict[str, sql.Composable]:
        return {name.replace("iterative", "unknown"): value for name, value in settings(options, query).items()}

    monkeypatch.setattr(ScanOptions, "settings", older)
    with RankedScan(connection, query_of(tables["hnsw vector"])) as scan, pytest.raises(RefusedError, match=r"0\.8"):
        scan.fetch_next(5)


@pytest.mark.parametrize("pages", [1, 2, 6])
def test_a_terminated_backend(tables: dict[str, RankedTable], postgres_server: PostgresServer, pages: int) -> None:
    """A scan whose backend is terminated between two pages says that it is lost."""
    with psycopg.connect(postgres_server.dsn, autocommit=True, application_name="nextk lost") as connection:
        scan = RankedScan(connection, query_of(tables["hnsw vector"], 50), options=FEW)
        for _ in range(pages):
            assert scan.fetch_next(40)
        assert postgres_server.terminate("nextk lost") == 1
        with pytest.raises(PageUncertain, match="is lost"):
            scan.fetch_next(ROWS)
        scan.close()


def test_an_idle_scan(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """A scan that waits for longer than its limit is ended by PostgreSQL, so that it holds nothing back for ever."""
    scan = RankedScan(connection, query_of(tables["hnsw vector"]), options=ScanOptions(idle_timeout=0.05))
    assert scan.fetch_next(1)
    while connection.pgconn.socket >= 0 and not _is_readable(connection):
        pass
    with pytest.raises(QueryNotFound, match="idle_in_transaction_session_timeout"):
        scan.fetch_next(60)
    scan.close()


def _is_readable(connection: psycopg.Connection[Any]) -> bool:
    return bool(select.select([connection.pgconn.socket], [], [], 10)[0])


def test_a_connection_in_use(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """A connection that is in a transaction is refused before anything is sent."""
    with connection.transaction(), pytest.raises(ClientError, match="one of its own"):
        RankedScan(connection, query_of(tables["hnsw vector"]))


@pytest.mark.parametrize("vector", [[], [0.0] * DIMENSION, [math.nan] * DIMENSION, [1e400], "12345678", [None], ["x"]])
def test_vectors(tables: dict[str, RankedTable], vector: Any) -> None:
    """A vector that has no order of rows is refused before anything is sent."""
    with pytest.raises(ClientError, match=r"^vector="):
        query_of(tables["hnsw vector"], vector=vector)


@pytest.mark.parametrize("name", ["", (), ("a", ""), ("a", 1), "a\0b"], ids=repr)
def test_table_names(name: Any) -> None:
    """An argument that cannot be the name of a table is refused."""
    with pytest.raises(ClientError, match=r"^table="):
        table_name(name)


class Unknown(StrEnum):
    """An order that pgvector does not know."""

    SIDEWAYS = "sideways"


def test_an_unknown_order(tables: dict[str, RankedTable], connection: psycopg.Connection[Any]) -> None:
    """A value that pgvector does not take is refused on a new connection, too, where by hand it is only warned of."""
    options = ScanOptions(order=Unknown.SIDEWAYS)  # type: ignore[arg-type]
    with RankedScan(connection, query_of(tables["hnsw vector"]), options=options) as scan, pytest.raises(RefusedError):
        scan.fetch_next(1)
