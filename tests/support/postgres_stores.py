"""Stores of PostgreSQL as their packages make them: their tables, and the attributes by which they are known.

The packages themselves are not installed here, because they hold SQLAlchemy and pgvector back. `main` compares our
searches with those of the real ones, langchain-postgres 0.0.19 and llama-index-vector-stores-postgres 0.9.0:

    pip install --no-deps --target /tmp/stores langchain-postgres==0.0.19 llama-index-vector-stores-postgres==0.9.0 \
        'sqlalchemy<2.1' asyncpg psycopg2-binary 'pgvector<0.4'
    PYTHONPATH=/tmp/stores:integrations:. python -m tests.support.postgres_stores postgresql://user@host/database
"""

import sys
import uuid
from collections.abc import Sequence
from enum import Enum
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import psycopg
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from sqlalchemy import Column, MetaData, String, Table, make_url
from sqlalchemy.dialects.postgresql import JSONB

from nextk.langchain import ResumableRetriever

MODEL = DeterministicFakeEmbedding(size=8)
ROWS = 60
TEXTS = [f"text {number}" for number in range(ROWS)]
METADATAS: list[dict[str, Any]] = [
    {"n": number, "lang": ("de", "en", "it")[number % 3], "draft": number % 2 == 0} for number in range(ROWS)
]


class Strategy(Enum):
    """The strategies of the older store."""

    COSINE = "cosine"


class _NotSearched(VectorStore):
    """A store whose own searches are of no use here."""

    @property
    def embeddings(self) -> Any:
        """The model."""
        return MODEL

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Raise: a retriever over the table does not call the store."""
        raise AssertionError(query)

    @classmethod
    def from_texts(cls, *arguments: Any, **options: Any) -> "_NotSearched":
        """Raise: the tables are filled by SQL."""
        raise NotImplementedError


class PGVectorStore(_NotSearched):
    """The attributes of `langchain_postgres.PGVectorStore` over the table that `init_vectorstore_table` makes.

    Args:
        dsn: The connection string.
        schema: The schema of the table.
        changes: Further attributes of the inner store.
    """

    __module__ = "langchain_postgres.v2.vectorstores"

    def __init__(self, dsn: str, schema: str, **changes: Any) -> None:
        attributes = {
            "engine": SimpleNamespace(url=url_of(dsn)),
            "schema_name": schema,
            "table_name": "articles",
            "id_column": "langchain_id",
            "content_column": "content",
            "embedding_column": "embedding",
            "metadata_columns": ["n"],
            "metadata_json_column": "langchain_metadata",
            "distance_strategy": SimpleNamespace(operator="<=>"),
            "index_query_options": SimpleNamespace(ef_search=40),
            "hybrid_search_config": None,
            "_create_filter_clause": self._create_filter_clause,
        }
        self.__vs = SimpleNamespace(**{**attributes, **changes})

    @staticmethod
    def _create_filter_clause(filters: Any) -> tuple[str, dict[str, Any]]:
        """Return what the store returns for one field: a text with named values."""
        [(field, value)] = filters.items()
        if not field.isidentifier():
            message = f"Invalid field name: {field}. Expected a valid identifier."
            raise ValueError(message)
        selector = field if field == "n" else f"langchain_metadata->>'{field}'"
        return f"{selector} = :{field}_1f", {f"{field}_1f": value}


class PGVector(_NotSearched):
    """The attributes of `langchain_postgres.PGVector`.

    Args:
        dsn: The connection string.
        use_jsonb: Whether metadata are of the type jsonb.
    """

    __module__ = "langchain_postgres.vectorstores"

    def __init__(self, dsn: str, *, use_jsonb: bool = True) -> None:
        self._engine = SimpleNamespace(url=url_of(dsn))
        self._distance_strategy = Strategy.COSINE
        self.use_jsonb = use_jsonb
        self.collection_name = "mine"
        self._table = Table("langchain_pg_embedding", MetaData(), Column("id", String), Column("cmetadata", JSONB))

    def _create_filter_clause(self, filters: Any) -> Any:
        """Return what the store returns for `$in`: an expression of SQLAlchemy."""
        [(field, condition)] = filters.items()
        return self._table.c.cmetadata[field].astext.in_([str(value) for value in condition["$in"]])


def url_of(dsn: str) -> Any:
    """The address of a server as SQLAlchemy has it."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    query = {"host": str(parts["host"])} if str(parts.get("host", "")).startswith("/") else {}
    url = make_url("postgresql+psycopg://").set(username=str(parts["user"]), database=str(parts["dbname"]), query=query)
    return url if query else url.set(host=parts.get("host"), port=parts.get("port"))  # type: ignore[arg-type]


def llama_index_store(dsn: str, schema: str, **changes: Any) -> Any:
    """The attributes of LlamaIndex's `PGVectorStore` over the table that it makes."""

    def rows_to_result(rows: Sequence[Any]) -> Any:
        nodes = [metadata_dict_to_node(row.metadata) for row in rows]
        for node, row in zip(nodes, rows, strict=True):
            node.set_content(str(row.text))
        return SimpleNamespace(nodes=nodes)

    attributes = {
        "connection_string": url_of(dsn).render_as_string(hide_password=False),
        "schema_name": schema,
        "table_name": "articles",
        "_engine": None,
        "_customize_query_fn": None,
        "_db_rows_to_query_result": rows_to_result,
    }
    return SimpleNamespace(**{**attributes, **changes})


def nodes() -> list[TextNode]:
    """The nodes that LlamaIndex's table holds."""
    pairs = enumerate(zip(TEXTS, METADATAS, strict=True))
    return [TextNode(id_=f"n{number}", text=text, metadata=metadata) for number, (text, metadata) in pairs]


def make_tables(connection: psycopg.Connection[Any], schema: str) -> None:
    """Make the three tables in a schema as the packages make them, and fill them."""
    from psycopg.sql import SQL, Identifier
    from psycopg.types.json import Jsonb

    connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
    connection.execute(SQL("SET search_path = {}, public").format(Identifier(schema)))
    connection.execute(_TABLES)
    mine, others = uuid.uuid4(), uuid.uuid4()
    collections = "INSERT INTO langchain_pg_collection VALUES (%s, 'mine', NULL), (%s, 'others', NULL)"
    connection.execute(collections, [mine, others])
    for number, (text, vector, node) in enumerate(zip(TEXTS, MODEL.embed_documents(TEXTS), nodes(), strict=True)):
        literal, metadata = f"[{','.join(map(str, vector))}]", METADATAS[number]
        rest = Jsonb({key: value for key, value in metadata.items() if key != "n"})
        row = (uuid.UUID(int=number), text, literal, number, rest)
        connection.execute("INSERT INTO articles VALUES (%s, %s, %s, %s, %s)", row)
        embedding = "INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s, %s, %s)"
        connection.execute(embedding, (f"id {number}", mine, literal, text, Jsonb(metadata)))
        connection.execute(embedding, (f"other {number}", others, literal, text, Jsonb(metadata)))
        of_node = Jsonb(node_to_metadata_dict(node, remove_text=True, flat_metadata=False))
        data = "INSERT INTO data_articles (text, metadata_, node_id, embedding) VALUES (%s, %s, %s, %s)"
        connection.execute(data, (text, of_node, node.node_id, literal))


_TABLES = """
CREATE TABLE articles (
    langchain_id uuid PRIMARY KEY, content text NOT NULL, embedding vector(8) NOT NULL, n integer,
    langchain_metadata json
);
CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection ON DELETE CASCADE, embedding vector,
    document varchar, cmetadata jsonb
);
CREATE TABLE data_articles (
    id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar, embedding vector(8)
);
"""

FILTERS: list[dict[str, Any]] = [
    {"lang": "de"},
    {"n": {"$gte": 20}},
    {"n": {"$between": [10, 20]}},
    {"lang": {"$in": ["de", "it"]}},
    {"lang": {"$nin": ["de"]}},
    {"lang": {"$like": "d%"}},
    {"$and": [{"lang": "de"}, {"n": {"$lt": 50}}]},
    {"$or": [{"n": 1}, {"n": 5}]},
    {"$not": {"lang": "de"}},
    {"lang": {"$exists": True}},
    {"draft": True},
    {"lang": "x' OR 1=1 --"},
    {"lang": "%s"},
    {"lang": "de", "n": {"$ne": 3}},
]


def main(dsn: str) -> None:
    """Compare searches of the real stores with ours over the same tables, which are made and dropped."""
    package: Any = import_module("langchain_postgres")
    address = dsn.replace("postgresql://", "postgresql+psycopg://")
    older = package.PGVector(MODEL, connection=address, collection_name="nextk", pre_delete_collection=True)
    older.add_texts(TEXTS, METADATAS)
    _compare(older)
    older.delete_collection()
    engine, columns = package.PGEngine.from_connection_string(address), [package.Column("n", "INTEGER")]
    engine.init_vectorstore_table("nextk_articles", 8, metadata_columns=columns, overwrite_existing=True)
    newer = package.PGVectorStore.create_sync(engine, MODEL, "nextk_articles", metadata_columns=["n"])
    newer.add_texts(TEXTS, METADATAS, ids=[str(uuid.uuid4()) for _ in TEXTS])
    _compare(newer)
    engine.drop_table("nextk_articles")
    _compare_llama_index(dsn)
    print("all searches are the same")  # noqa: T201


def _compare(store: Any) -> None:
    retriever: Any = ResumableRetriever.from_vectorstore(store)
    try:
        assert store.similarity_search("snow", ROWS) == retriever.invoke("snow", k=ROWS)
        for given in FILTERS:
            expected = store.similarity_search("snow", ROWS, filter=given)
            assert expected == retriever.invoke("snow", k=ROWS, filter=given), given
    finally:
        retriever.source.close()


def _compare_llama_index(dsn: str) -> None:
    from llama_index.core.schema import QueryBundle
    from llama_index.core.vector_stores import VectorStoreQuery

    from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
    from nextk.llama_index import postgres_source

    package: Any = import_module("llama_index.vector_stores.postgres")
    hnsw = {"hnsw_m": 8, "hnsw_ef_construction": 64, "hnsw_ef_search": 100}
    drivers = [dsn.replace("postgresql://", f"postgresql+{name}://") for name in ("psycopg2", "asyncpg")]
    for options in ({}, {"use_jsonb": True}, {"use_halfvec": True}, {"hnsw_kwargs": hnsw}):
        arguments = {"table_name": "nextk_nodes", "embed_dim": 8, **options}
        store = package.PGVectorStore.from_params(
            connection_string=drivers[0], async_connection_string=drivers[1], **arguments
        )
        with psycopg.connect(dsn) as connection:
            connection.execute("DROP TABLE IF EXISTS data_nextk_nodes")
        held = [node.model_copy(update={"embedding": MODEL.embed_query(node.text)}) for node in nodes()]
        store.add(held)
        vector = MODEL.embed_query("snow")
        expected = store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=ROWS))
        source = postgres_source(store)
        retriever = LlamaIndexRetriever(source=source, similarity_top_k=ROWS)
        found = retriever.retrieve(QueryBundle("snow", embedding=vector))
        source.close()
        assert expected.nodes == [node.node for node in found], options
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE data_nextk_nodes")


if __name__ == "__main__":
    main(sys.argv[1])
