"""`nextk serve --postgres`: the protocol of Upstash Vector in front of PostgreSQL."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import upstash_vector

from nextk import Index
from nextk.cli.main import main
from nextk.errors import ClientError
from nextk.server.postgres import open_postgres_engines
from nextk.server.spec import parse_specs
from tests.support.postgres_indexes import ids
from tests.support.postgres_server import PostgresServer
from tests.support.server_process import started
from tests.support.subprocesses import ROOT


@pytest.fixture
def url(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[str]:
    """The address of a server of one index on PostgreSQL, in a process of its own."""
    arguments = ["-m", "nextk", "serve", "--quiet", "--port", "0", "--index", "docs=dense,dimension=2"]
    settings = {"NEXTK_POSTGRES": postgres_server.dsn, "NEXTK_POSTGRES_SCHEMA": postgres_schema, "PYTHONPATH": ROOT}
    with started(arguments, {**os.environ, **settings}) as server:
        yield f"http://127.0.0.1:{server.port}"


def test_clients(url: str, postgres_server: PostgresServer, postgres_schema: str) -> None:
    """The documented SDK and our client write to and search an index that the server has on PostgreSQL."""
    theirs, ours = upstash_vector.Index(url, "none"), Index(url, "none")
    with ours, contextlib.closing(theirs._client):
        theirs.upsert([("a", [1.0, 0.0], {"n": 1}), ("b", [0.9, 0.1], {"n": 2}), ("c", [0.0, 1.0], {"n": 3})])
        assert ["a", "b"] == [match.id for match in theirs.query([1.0, 0.0], top_k=2, include_metadata=True)]
        first, theirs_open = theirs.resumable_query([1.0, 0.0], top_k=1)
        assert ["a", "b", "c"] == [match.id for match in [*first, *theirs_open.fetch_next(2)]]
        theirs_open.stop()
        page, handle = ours.resumable_query([1.0, 0.0], top_k=1, filter="n < 3")
        with handle:
            assert ["a", "b"] == [*ids(page), *ids(handle.fetch_next(5))]
    with Index.postgres(postgres_server.dsn, name="docs", schema=postgres_schema) as index:
        assert 3 == index.info().vector_count


def test_stored_indexes(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """Without specs the indexes of the schema are served, in the order in which they were made."""
    database = postgres_server.dsn, postgres_schema
    with open_postgres_engines(parse_specs(["zebras=dense", "aardvarks=dense"]), *database) as engines:
        assert ["zebras", "aardvarks"] == list(engines)
    with open_postgres_engines([], *database) as engines:
        assert ["zebras", "aardvarks"] == list(engines)


def test_pools_are_refused(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """A spec with the size of a pool, which no index on PostgreSQL has, is refused."""
    opening = open_postgres_engines(parse_specs(["docs=dense,pool_from=10"]), postgres_server.dsn, postgres_schema)
    with pytest.raises(ClientError, match="pool_from is for indexes that are not on PostgreSQL"), opening:
        pass


def test_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder and a database at once are refused."""
    with contextlib.suppress(SystemExit):
        assert 0 != main(["serve", "--port", "0", "--data", str(tmp_path), "--postgres", "dbname=x"])
    assert "--data and --postgres: give one of them" in capsys.readouterr().err
