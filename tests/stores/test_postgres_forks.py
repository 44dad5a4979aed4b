"""Sources over PostgreSQL in processes that were forked while a search was under way."""

import os
from collections.abc import Iterator

import pytest

from tests.support.postgres_server import PostgresServer, fresh_schema
from tests.support.ranked_tables import RankedTable
from tests.support.subprocesses import output

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

BEGIN = """
import os, sys
from psycopg_pool import ConnectionPool
from nextk.errors import NextKError
from nextk.sessions import RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.stores.postgres import PostgresSource

dsn, table = sys.argv[1], sys.argv[2:4]
query = SearchQuery(vector=[0.5, -1.0, 0.25, 2.0, 0.0, 1.5, -0.75, 1.0])
ids = lambda rows: [row.id for row in rows]

def source_over(connection, **settings):
    return PostgresSource(connection, table, text="body", max_open=2, max_wait=1.0, **settings)

def in_a_child(act):
    receive, send = os.pipe()
    if os.fork() == 0:
        try:
            said = act()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(send, str(said).encode())
        os._exit(0)
    os.wait()
    return os.read(receive, 10_000).decode()
"""

SESSION = """
source = source_over(dsn, stateless=sys.argv[4] == "True")
open_session = lambda: RetrievalSession(source, query, RowReader(lambda row: row.id), config=SearchConfig())
with open_session() as search:
    expected = [search.fetch_next(5) for _ in range(4)]
search = open_session()
search.fetch_next(5)
childs = in_a_child(lambda: ([search.fetch_next(5), search.fetch_next(5)], search.stop()))
print(childs == str((expected[1:3], None)), [search.fetch_next(5) for _ in range(3)] == expected[1:])
search.stop()
source.close()
"""

SEARCH = """
source = source_over(dsn)
expected = ids(source.query(query, 9))
kept, dropped = source.search(), source.search()
for search in (kept, dropped):
    search.fetch_first(query, 3)
del search

def act():
    global dropped
    del dropped
    try:
        kept.fetch_next(3)
    except NextKError as error:
        said = type(error).__name__
    again, other = ids(kept.fetch_first(query, 3)), source.search()
    other.fetch_first(query, 1)
    other.stop()
    kept.stop()
    source.close()
    return said, again

print(in_a_child(act) == str(("QueryNotFound", expected[:3])))
print(in_a_child(lambda: (kept.stop(), source.close())))
print([ids(search.fetch_next(3)) == expected[3:6] for search in (kept, dropped)])
kept.stop()
dropped.stop()
source.close()
"""

POOL = """
opened = sys.argv[4] == "True"
pool = ConnectionPool(dsn, min_size=0, max_size=2, open=opened)
source = source_over(pool)

def act():
    if not opened:
        pool.open()
    return len(source.query(query, 3))

print(in_a_child(act))
pool.close()
"""


@pytest.fixture(scope="module")
def arguments(postgres_server: PostgresServer) -> Iterator[tuple[str, ...]]:
    """The connection string, the schema and the name of a table."""
    with fresh_schema(postgres_server) as schema:
        yield postgres_server.dsn, *RankedTable(postgres_server.dsn, schema).name


@pytest.mark.parametrize("stateless", [False, True])
def test_a_session(arguments: tuple[str, ...], stateless: bool) -> None:
    """A session that was forked goes on in both processes, each of which gets every row."""
    assert "True True" == output(BEGIN + SESSION, *arguments, stateless)


def test_a_search(arguments: tuple[str, ...]) -> None:
    """A forked search says that it has ended, and neither ends nor advances its parent's, however it is let go."""
    assert ["True", "(None, None)", "[True, True]"] == output(BEGIN + SEARCH, *arguments).splitlines()


@pytest.mark.parametrize(("opened", "words"), [(True, "RefusedError: the pool"), (False, "3")], ids=["before", "after"])
def test_a_pool_of_the_user(arguments: tuple[str, ...], opened: bool, words: str) -> None:
    """A pool of the user's is refused in a forked process, unless it was opened there."""
    assert output(BEGIN + POOL, *arguments, opened).startswith(words)
