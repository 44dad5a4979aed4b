"""`nextk info --postgres`: what it says about a database, its indexes, and what is missing."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from nextk import Index
from nextk.cli.main import main
from tests.support.postgres_indexes import fill, postgres_index
from tests.support.postgres_server import PostgresServer


@contextlib.contextmanager
def made(server: PostgresServer, kind: str) -> Iterator[str]:
    """Have a database or a role, by its name, and drop it at the end of the block."""
    name = f"nextk_{secrets.token_hex(6)}"
    what, named = sql.SQL(kind), sql.Identifier(name)
    server.execute(sql.SQL("CREATE {} {}").format(what, named))
    try:
        yield name
    finally:
        server.execute(sql.SQL("DROP {} {}").format(what, named))


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """The values that the command prints for programs."""
    assert code == main(["info", "--json", *arguments])
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_indexes(postgres_server: PostgresServer, postgres_schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every index is listed with its records, type and dimension, and the index of its vectors or why it has none."""
    dsn, dimensions = postgres_server.dsn, {"half": 2_001, "many": 4_001}
    with postgres_index(dsn, postgres_schema, "plain", type="dense") as index:
        fill(index, 30)
    for name, dimension in dimensions.items():
        with postgres_index(dsn, postgres_schema, name, {"exact_rows": 1}, type="dense") as index:
            index.upsert([(id_, [1.0] * dimension) for id_ in "ab"])
    empty: dict[str, dict[str, Any]] = {
        "few": {"type": "dense", "dimension": 3},
        "words": {"type": "sparse"},
        "open": {},
    }
    for name, keywords in empty.items():
        Index.postgres(dsn, schema=postgres_schema, name=name, **keywords).close()
    found = told(capsys, "--postgres", dsn, "--postgres-schema", postgres_schema)
    assert (found["postgresql"] >= "1", found["pgvector"] >= "0.8", found["statement_timeout"]) == (True, True, "1min")
    assert (found["hnsw.iterative_scan"], found["fault"], found["missing"]) == ("off", None, [])
    assert int(found["max_connections"]) > 0
    rows = [tuple(index.values()) for index in found["indexes"]]
    assert [row[:4] for row in rows] == [
        ("plain", "dense", 30, 2),
        ("half", "dense", 2, 2_001),
        ("many", "dense", 2, 4_001),
        ("few", "dense", 0, 3),
        ("words", "sparse", 0, None),
        ("open", "undecided", 0, None),
    ]
    words = ("HNSW on vector", "HNSW on halfvec", "up to 4,000", "more than 5,000", "no dense", "first write")
    assert [True] * 6 == [word in row[4] for word, row in zip(words, rows, strict=True)]
    assert 0 == main(["info", "--postgres", dsn, "--postgres-schema", postgres_schema])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"plain dense 30 2 HNSW on vector", "statement timeout 1min"} <= set(lines)


def test_a_missing_index_of_vectors(
    postgres_server: PostgresServer,
    postgres_schema: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large index without an index of its vectors is named with the statement that makes it."""
    monkeypatch.setattr("nextk.postgres.survey.EXACT_ROWS", 10)
    with Index.postgres(postgres_server.dsn, schema=postgres_schema, type="dense") as index:
        fill(index, 11)
    arguments = "--postgres", postgres_server.dsn, "--postgres-schema", postgres_schema
    (missing,) = told(capsys, *arguments)["missing"]
    postgres_server.execute(sql.SQL(missing["command"]).format())
    found = told(capsys, *arguments)
    assert ([], "HNSW on vector") == (found["missing"], found["indexes"][0]["vector_index"])


def test_missing_rights(
    postgres_server: PostgresServer, postgres_schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A role is told the grants that it lacks; once they are made, nothing is missing."""
    with made(postgres_server, "ROLE") as role:
        postgres_server.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
        arguments = "--postgres", make_conninfo(postgres_server.dsn, user=role), "--postgres-schema", postgres_schema
        (missing,) = told(capsys, *arguments)["missing"]
        assert missing["command"].startswith("GRANT CREATE ON DATABASE")
        Index.postgres(postgres_server.dsn, schema=postgres_schema, type="dense", dimension=2).close()
        found = told(capsys, *arguments)
        assert ([], 3) == (found["indexes"], len(found["missing"]))
        for missing in found["missing"]:
            postgres_server.execute(sql.SQL(missing["command"]).format())
        found = told(capsys, *arguments)
        assert ([], 1) == (found["missing"], len(found["indexes"]))
        postgres_server.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))


def test_no_pgvector(postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A database without pgvector is shown, and the statement that adds it is named."""
    with made(postgres_server, "DATABASE") as database:
        assert 2 == main(["info", "--json", "--postgres", make_conninfo(postgres_server.dsn, dbname=database)])
        out, err = capsys.readouterr()
    assert json.loads(out)["pgvector"] is None
    assert "the database has no pgvector: let a role that may do so run CREATE EXTENSION vector" in err


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"host": "127.0.0.1", "port": "1", "password": "s3cret"}, "PostgreSQL cannot be reached"),
        ({"dbname": "nextk_nowhere", "password": "s3cret"}, "PostgreSQL has no such database"),
        ({"user": "nextk_nobody", "password": "s3cret"}, "PostgreSQL refused to log this role in"),
    ],
)
def test_no_connection(
    postgres_server: PostgresServer, changed: dict[str, Any], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server, a database or a role that is not there is named as the fault in one line without the password."""
    assert 2 == main(["info", "--postgres", make_conninfo(postgres_server.dsn, **changed)])
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "s3cret" in err) == ("", 1, False)
    assert expected in err


def test_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    """A file and a database at once are refused."""
    assert 2 == main(["info", "--index", "x", "--postgres", "dbname=x"])
    assert "--index and --postgres: give one of them" in capsys.readouterr().err
