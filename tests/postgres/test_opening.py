"""Opening indexes on PostgreSQL: tables that whoever comes first makes, roles, and databases that will not do."""

import contextlib
import logging
from collections.abc import Iterator

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from nextk import AsyncIndex, Index
from nextk.errors import ClientError, RefusedError
from nextk.postgres.database import require_dsn
from tests.support.postgres_indexes import fill, ids, postgres_index
from tests.support.postgres_server import PostgresServer
from tests.support.subprocesses import python

_OPENER = """
import sys
from nextk import Index
dsn, schema, number = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
with Index.postgres(dsn, schema=schema, type="dense", dimension=2) as index:
    index.upsert([(f"{number}-{row}", [1.0, float(row)]) for row in range(20)])
"""


@contextlib.contextmanager
def role(server: PostgresServer, name: str) -> Iterator[str]:
    """The connection string of a role without any right of its own."""
    named = sql.Identifier(name)
    server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(named))
    try:
        yield make_conninfo(server.dsn, user=name)
    finally:
        server.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(named))


def test_several_processes_open_a_new_index(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """Several processes may open an index at once that does not exist: all of them write to the same one."""
    others = [python(_OPENER, postgres_server.dsn, postgres_schema, number) for number in range(2)]
    for other in others:
        assert other.stdout
        assert "ready\n" == other.stdout.readline()
    for other in others:
        assert other.stdin
        other.stdin.write("\n")
        other.stdin.flush()
    for other in others:
        _, complaints = other.communicate()
        assert 0 == other.returncode, complaints
    with Index.postgres(postgres_server.dsn, schema=postgres_schema) as index:
        assert 40 == index.info().vector_count


def test_a_stored_index_knows_its_schema(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """An index is opened again by its name alone, and a keyword that contradicts what is stored is refused."""
    dsn = postgres_server.dsn
    with Index.postgres(dsn, schema=postgres_schema, name="one", type="dense", similarity="euclidean") as index:
        fill(index, 3)
        identity = index._transport.identity
    with Index.postgres(dsn, schema=postgres_schema, name="one") as index:
        assert (identity, 3) == (index._transport.identity, index.info().vector_count)
        assert "EUCLIDEAN" == index.info().similarity_function
    with pytest.raises(ClientError, match="similarity='euclidean'"):
        Index.postgres(dsn, schema=postgres_schema, name="one", similarity="cosine")
    with Index.postgres(dsn, schema=postgres_schema, name="two") as index:
        assert 0 == index.info().vector_count


def test_clients_of_one_index_share_an_engine(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """Clients of one index in one process share an engine, until the last of them is closed."""
    first = Index.postgres(postgres_server.dsn, schema=postgres_schema)
    second = Index.postgres(postgres_server.dsn, schema=postgres_schema)
    assert first._transport._open().engine is second._transport._open().engine  # type: ignore[attr-defined]
    fill(first, 3)
    first.close()
    assert 3 == second.info().vector_count
    second.close()


async def test_the_asynchronous_colour(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """The asynchronous client opens, writes and searches an index on PostgreSQL as well."""
    async with AsyncIndex.postgres(postgres_server.dsn, schema=postgres_schema, type="dense") as index:
        await index.upsert([("a", [1.0, 0.0]), ("b", [0.0, 1.0])])
        page, handle = await index.resumable_query([1.0, 0.0], top_k=1)
        async with handle:
            assert ["a", "b"] == [*ids(page), *ids(await handle.fetch_next(1))]


def vector_indexes(server: PostgresServer, schema: str) -> list[str]:
    """The definitions of the indexes of vectors in a database schema."""
    found = server.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'", schema)
    return [definition for (definition,) in found]


@pytest.mark.parametrize(
    ("dimension", "indexed"),
    [(2, "dense vector_cosine_ops"), (2_000, "dense vector_cosine_ops"), (2_001, "halfvec_cosine_ops"),
     (4_000, "halfvec_cosine_ops"), (4_001, "")],
)  # fmt: skip
def test_the_index_of_the_vectors(
    postgres_server: PostgresServer, postgres_schema: str, dimension: int, indexed: str
) -> None:
    """Up to 2,000 dimensions pgvector indexes vectors, up to 4,000 rounded ones, and beyond that none.

    The index is made once a namespace has more records than full lists are made for, and is what makes order
    approximate.
    """
    options = {"exact_rows": 2}
    with postgres_index(postgres_server.dsn, postgres_schema, "one", options, type="dense") as index:
        index.upsert([("a", [1.0] * dimension), ("b", [-1.0] * dimension)])
        assert [] == vector_indexes(postgres_server, postgres_schema)
        index.upsert([("c", [1.0, *[0.0] * (dimension - 1)])])
        assert ["a", "c", "b"] == ids(index.query([1.0] * dimension, top_k=3))
        assert bool(indexed) == index.info().approximate
    found = vector_indexes(postgres_server, postgres_schema)
    assert [True] * bool(indexed) == [indexed in definition for definition in found]


class TestRoles:
    """Roles with fewer rights."""

    def test_no_right_to_make_tables(self, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A role that may not make the tables is told who can, and by what means it may then use them."""
        with (
            role(postgres_server, postgres_schema) as dsn,
            pytest.raises(ClientError, match=r"permission denied.*let a role that may open the index once"),
        ):
            Index.postgres(dsn, schema=postgres_schema)

    def test_a_schema_of_its_own(self, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A role that may make no schema makes the tables in a schema that it owns."""
        with role(postgres_server, postgres_schema) as dsn:
            own = sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(sql.Identifier(postgres_schema))
            postgres_server.execute(own)
            with Index.postgres(dsn, schema=postgres_schema, type="dense") as index:
                expected = fill(index, 3)
                assert expected == ids(index.query([1.0, 0.0]))

    def test_tables_that_exist(
        self, postgres_server: PostgresServer, postgres_schema: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A role without the right to make tables searches and writes to an index whose tables exist.

        It cannot make the index of the vectors either, which the log says; searches are right without it.
        """
        with Index.postgres(postgres_server.dsn, schema=postgres_schema, type="dense", dimension=2):
            pass
        with role(postgres_server, postgres_schema) as dsn:
            grants = sql.SQL(
                "GRANT USAGE ON SCHEMA {0} TO {0};"
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {0} TO {0};"
                "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {0} TO {0}"
            )
            postgres_server.execute(grants.format(sql.Identifier(postgres_schema)))
            with (
                postgres_index(dsn, postgres_schema, options={"exact_rows": 4}) as index,
                caplog.at_level(logging.WARNING, "nextk.postgres"),
            ):
                expected = fill(index, 5)
                assert expected == ids(index.query([1.0, 0.0], top_k=5))
            assert ["has no index of its vectors" in text for text in caplog.messages] == [True]

    def test_reading_only(self, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A role that may only read searches an index, and a write of it is refused with the reason."""
        with Index.postgres(postgres_server.dsn, schema=postgres_schema, type="dense") as index:
            expected = fill(index, 5)
        with role(postgres_server, postgres_schema) as dsn:
            grants = sql.SQL("GRANT USAGE ON SCHEMA {0} TO {0}; GRANT SELECT ON ALL TABLES IN SCHEMA {0} TO {0}")
            postgres_server.execute(grants.format(sql.Identifier(postgres_schema)))
            with Index.postgres(dsn, schema=postgres_schema) as index:
                assert expected == ids(index.query([1.0, 0.0], top_k=5))
                with pytest.raises(RefusedError, match="the role may not do this") as caught:
                    fill(index, 1)
                assert 403 == caught.value.status


class TestUnusable:
    """Databases and arguments that will not do."""

    def test_no_server(self) -> None:
        """A database that cannot be reached is named as the fault, and the password in no message."""
        with pytest.raises(ClientError, match="cannot connect to PostgreSQL") as caught:
            Index.postgres("postgresql://someone:secret@127.0.0.1:1/nowhere")
        assert "secret" not in str(caught.value)

    def test_no_connection_string(self) -> None:
        """A text that is no connection string is refused, and not repeated, because a password may be in it."""
        with pytest.raises(ClientError, match="dsn= is no connection string") as caught:
            Index.postgres("pass word")
        assert "pass word" not in str(caught.value)

    @pytest.mark.parametrize(
        "dsn",
        ["postgresql://u:pa@Secr3t@localhost/db", "postgres://u:pa@@Secr3t@localhost", "postgresql://u:pa/Secr3t@host/db",
         "postgresql://u:12/Secr3t@host/db", "postgresql://u:pa@12/Secr3t@host/db", "postgresql://u:@Secr3t@a,b/db",
         "postgresql://u:Secr3t/db", "host=u:Secr3t@localhost", "host=localhost port=Secr3t", "host=a,u:Secr3t@b"],
    )  # fmt: skip
    def test_passwords_that_are_split(self, dsn: str) -> None:
        """A connection string in which a part of the password may be taken for something else is refused unquoted."""
        with pytest.raises(ClientError, match="percent-encode the password") as caught:
            Index.postgres(dsn)
        assert "Secr3t" not in f"{caught.value!r} {caught.value}"

    @pytest.mark.parametrize(
        "dsn",
        ["", "postgresql://", "postgresql://u:p%40%2Fw?x:y@host:5432/db?user=a@b", "postgresql:///db?host=/run/a@b",
         "host=/run/a@b dbname=c@d user=e@f password=g@h", "host=@abstract", "postgresql://u@a:1,[::1]:2/db%40x",
         "host=a,b port=,5432", "postgresql://%2Frun%2Fa/db"],
    )  # fmt: skip
    def test_passwords_that_are_whole(self, dsn: str) -> None:
        """An @ in a user, an encoded password, a quoted value or the name of a socket is taken as it is."""
        require_dsn(dsn)

    @pytest.mark.parametrize("argument", ["schema", "name"])
    @pytest.mark.parametrize("given", ["", "a\0b", 7, None], ids=repr)
    def test_names(self, argument: str, given: object) -> None:
        """A name that is no text, is empty or has the NUL character is refused before anything is connected."""
        with pytest.raises(ClientError, match=f"{argument}="):
            Index.postgres("", **{argument: given})  # type: ignore[arg-type]

    @pytest.mark.parametrize("given", ["a" * 64, "%s"])
    def test_schemas_that_postgres_would_misread(self, given: str) -> None:
        """A schema whose name PostgreSQL would cut, or psycopg would fill in, is refused."""
        with pytest.raises(ClientError, match="schema="):
            Index.postgres("", schema=given)

    def test_tables_of_a_later_version(self, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """Tables of a later version of nextk are left alone, and the message says what to do."""
        Index.postgres(postgres_server.dsn, schema=postgres_schema).close()
        postgres_server.execute(sql.SQL("UPDATE {} SET version = 2").format(sql.Identifier(postgres_schema, "layout")))
        with pytest.raises(ClientError, match=r"have the version 2.*install the version of nextk that made them"):
            Index.postgres(postgres_server.dsn, schema=postgres_schema)

    def test_no_pgvector(self, postgres_server: PostgresServer, postgres_schema: str) -> None:
        """A database whose pgvector was removed is refused with the command that installs it."""
        named = sql.Identifier(postgres_schema)
        postgres_server.execute(sql.SQL("CREATE DATABASE {}").format(named))
        try:
            dsn = make_conninfo(postgres_server.dsn, dbname=postgres_schema)
            Index.postgres(dsn).close()
            PostgresServer(dsn).execute("DROP EXTENSION vector")
            with pytest.raises(ClientError, match="CREATE EXTENSION vector"):
                Index.postgres(dsn)
        finally:
            postgres_server.execute(sql.SQL("DROP DATABASE {}").format(named))


@pytest.mark.parametrize("name", ['a"; DROP SCHEMA public; --', "{}", "'", "\N{SNOWMAN}", "A b"])
def test_names_are_names(postgres_server: PostgresServer, postgres_schema: str, name: str) -> None:
    """Whatever is in the name of a schema, an index, a namespace or an id is data."""
    schema = f"{postgres_schema}{name}"
    try:
        with Index.postgres(postgres_server.dsn, schema=schema, name=name, type="dense") as index:
            index.upsert([(name, [1.0, 0.0], {name: name}, name)], namespace=name)
            [found] = index.fetch([name], namespace=name, include_metadata=True, include_data=True)
            assert found is not None
            assert (name, {name: name}, name) == (found.id, found.metadata, found.data)
            assert [name] == ids(index.query([1.0, 0.0], namespace=name))
            assert ["", name] == index.list_namespaces()
            assert 1 == index.delete(prefix=name, namespace=name).deleted
    finally:
        postgres_server.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
