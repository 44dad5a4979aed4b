"""The server that the tests of PostgreSQL run on."""

from psycopg import sql

from tests.support.postgres_server import PostgresServer


def test_pgvector_is_there(postgres_server: PostgresServer) -> None:
    """The server of the tests has pgvector with iterative index scans, in version 0.8 or later."""
    ((version,),) = postgres_server.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    assert (0, 8) <= tuple(map(int, version.split(".")))[:2]


def test_each_test_has_a_schema_of_its_own(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """A test gets the name of a database schema that does not exist yet."""
    postgres_server.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(postgres_schema)))
    assert postgres_server.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", postgres_schema)
