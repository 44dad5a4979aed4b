"""LangChain's own stores of PostgreSQL: their tables are searched as they stand, by a cursor."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from nextk.errors import ClientError
from nextk.langchain import ResumableRetriever
from nextk.stores.postgres import PostgresSource
from nextk.stores.postgres.addresses import dsn_of
from tests.support.postgres_server import PostgresServer, fresh_schema
from tests.support.postgres_stores import METADATAS, MODEL, ROWS, TEXTS, PGVector, PGVectorStore, make_tables, url_of

QUESTION = "snow"


@pytest.fixture(scope="module")
def stores(postgres_server: PostgresServer) -> Iterator[dict[str, Any]]:
    """Both kinds of stores, filled."""
    with fresh_schema(postgres_server) as schema:
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            make_tables(connection, schema)
        dsn = psycopg.conninfo.make_conninfo(postgres_server.dsn)
        older = PGVector(dsn)
        # The older store's tables are found by the search path.
        older._engine.url = older._engine.url.update_query_dict({"options": f"-csearch_path={schema},public"})
        yield {"table": PGVectorStore(dsn, schema), "collection": older}


@pytest.fixture(params=["table", "collection"])
def retriever(request: pytest.FixtureRequest, stores: dict[str, Any]) -> Iterator[Any]:
    """A retriever over each kind of store."""
    made: Any = ResumableRetriever.from_vectorstore(stores[request.param])
    yield made
    made.source.close()


def nearest() -> list[int]:
    """The numbers of the texts, nearest first."""
    query, vectors = MODEL.embed_query(QUESTION), MODEL.embed_documents(TEXTS)

    def cosine(number: int) -> float:
        pairs = list(zip(query, vectors[number], strict=True))
        return float(sum(a * b for a, b in pairs) / sum(b * b for _, b in pairs) ** 0.5)

    return sorted(range(ROWS), key=cosine, reverse=True)


def test_documents(retriever: Any) -> None:
    """Documents come as the store makes them, in the order of the table, each once, by a cursor."""
    with retriever.open(QUESTION) as search:
        documents = [document for page in iter(lambda: search.fetch_next(7), []) for document in page]
    assert search.report.continuation == "native"
    expected = [(TEXTS[number], METADATAS[number]) for number in nearest()]
    assert expected == [(document.page_content, document.metadata) for document in documents]
    assert len({document.id for document in documents}) == ROWS


async def test_documents_in_an_event_loop(retriever: Any) -> None:
    """Documents are the same ones in an event loop."""
    assert retriever.invoke(QUESTION, k=9) == await retriever.ainvoke(QUESTION, k=9)


@pytest.mark.parametrize(
    ("kind", "filter", "numbers"),
    [
        ("table", {"lang": "de"}, range(0, ROWS, 3)),
        ("table", {"n": 7}, [7]),
        ("table", {"lang": "x' OR 1=1 --%s"}, []),
        ("table", "n = 7 OR lang = 'de' AND n < 4", [0, 3, 7]),
        ("collection", {"lang": {"$in": ["de", "%s' --"]}}, range(0, ROWS, 3)),
        ("collection", "n = 7 OR lang = 'de' AND n < 4", [0, 3, 7]),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict | str) else "",
)
def test_filters(stores: dict[str, Any], kind: str, filter: Any, numbers: Any) -> None:
    """A dict is a filter in the store's own words, made by its own method; a text is one in those of an index."""
    retriever: Any = ResumableRetriever.from_vectorstore(stores[kind], search_kwargs={"filter": filter})
    found = retriever.invoke(QUESTION, k=ROWS)
    retriever.source.close()
    assert sorted(numbers) == sorted(document.metadata["n"] for document in found)


@pytest.mark.parametrize("filter", [{"a b": 1}, 7], ids=str)
def test_foreign_filters(stores: dict[str, Any], filter: Any) -> None:
    """A filter that the store does not take is refused, with its own words."""
    retriever: Any = ResumableRetriever.from_vectorstore(stores["table"])
    with pytest.raises(ClientError, match=r"^filter="):
        retriever.invoke(QUESTION, k=1, filter=filter)
    retriever.source.close()


def test_another_way(postgres_server: PostgresServer) -> None:
    """A store that ranks or connects in a way of its own is asked by its methods, as any other store."""
    dsn = postgres_server.dsn
    nowhere = SimpleNamespace(url=make_url("postgresql+asyncpg://"))
    for store in (
        PGVectorStore(dsn, "public", hybrid_search_config=object()),
        PGVectorStore(dsn, "public", engine=nowhere),
        PGVector(dsn, use_jsonb=False),
    ):
        retriever: Any = ResumableRetriever.from_vectorstore(store)
        assert not isinstance(retriever.source, PostgresSource)


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        (
            "postgresql+psycopg://ann:p%40ss@db.example:6432/app",
            "host=db.example port=6432 user=ann password=p@ss dbname=app",
        ),
        ("postgresql+asyncpg://db/app?ssl=require", "host=db dbname=app sslmode=require"),
        ("postgresql://ann@/app?host=/run/db", "user=ann dbname=app host=/run/db"),
        ("postgresql+asyncpg://", None),
        ("postgresql://db/app?prepared_statement_cache_size=0", None),
        ("sqlite:///file", None),
    ],
)
def test_addresses(url: str, dsn: str | None) -> None:
    """An address of SQLAlchemy becomes a connection string, unless psycopg would not understand all of it."""
    made = dsn_of(make_url(url))
    conninfo = psycopg.conninfo.conninfo_to_dict
    assert made == dsn if dsn is None or made is None else conninfo(dsn) == conninfo(made)


def test_the_address_of_a_double(postgres_server: PostgresServer) -> None:
    """The doubles of these tests are where the server is."""
    made = dsn_of(url_of(postgres_server.dsn))
    assert made is not None
    with psycopg.connect(made) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
