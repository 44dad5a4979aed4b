"""LlamaIndex's own store of PostgreSQL: its table is searched as it stands, by a cursor."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever, postgres_source
from tests.support.postgres_server import PostgresServer, fresh_schema
from tests.support.postgres_stores import MODEL, ROWS, llama_index_store, make_tables, nodes

QUESTION = QueryBundle("snow", embedding=MODEL.embed_query("snow"))


@pytest.fixture(scope="module")
def store(postgres_server: PostgresServer) -> Iterator[Any]:
    """The store, filled."""
    with fresh_schema(postgres_server) as schema:
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            make_tables(connection, schema)
        yield llama_index_store(postgres_server.dsn, schema)


@pytest.mark.parametrize(("stateless", "continuation"), [(False, "native"), (True, "exclusion")])
def test_nodes(store: Any, stateless: bool, continuation: str) -> None:
    """Nodes come as the store makes them, each once, with their similarity."""
    source = postgres_source(store, stateless=stateless)
    with ResumableRetriever(source=source).open(QUESTION) as search:
        found = [node for page in iter(lambda: search.fetch_next(11), []) for node in page]
    source.close()
    assert search.report.continuation == continuation
    assert {node.node_id: node for node in nodes()} == {node.node_id: node.node for node in found}
    assert len(found) == ROWS
    scores = [node.score or 0 for node in found]
    assert sorted(scores, reverse=True) == scores


@pytest.mark.parametrize(
    "restriction",
    [
        {"filters": MetadataFilters(filters=[MetadataFilter(key="lang", value="de")])},
        {"filter": "lang = 'de'"},
    ],
    ids=["filters", "filter"],
)
def test_filters(store: Any, restriction: dict[str, Any]) -> None:
    """`filters` are checked on the nodes, and a `filter` is carried out by PostgreSQL."""
    source = postgres_source(store)
    found = ResumableRetriever(source=source, similarity_top_k=ROWS, **restriction).retrieve(QUESTION)
    source.close()
    assert {f"n{number}" for number in range(0, ROWS, 3)} == {node.node_id for node in found}


@pytest.mark.parametrize(
    ("store_given", "words"),
    [
        (SimpleNamespace(), "no PGVectorStore"),
        (llama_index_store("user=a dbname=b", "public", _customize_query_fn=print), "customize_query_fn"),
        (llama_index_store("user=a dbname=b", "public", connection_string="None"), "connection="),
    ],
    ids=["other", "customized", "nowhere"],
)
def test_other_stores(store_given: Any, words: str) -> None:
    """A store that is another one, or that cannot be read as a table, is refused."""
    with pytest.raises(ClientError, match=words):
        postgres_source(store_given)
