"""LlamaIndex's own store of PostgreSQL as a source that goes on by a cursor, known by its attributes alone."""

from types import SimpleNamespace
from typing import Any

from nextk.arguments import shown
from nextk.errors import ClientError
from nextk.stores import StoreRow
from nextk.stores.postgres import PostgresSource
from nextk.stores.postgres.addresses import dsn_of

_ATTRIBUTES = ("connection_string", "schema_name", "table_name", "_db_rows_to_query_result")


def postgres_source(
    vector_store: Any, *, connection: Any = None, stateless: bool = False, store_id: str | None = None
) -> PostgresSource:
    """Return a source over the table of LlamaIndex's PostgreSQL store, which goes on by a cursor of the server.

    ```python
    retriever = ResumableRetriever(source=postgres_source(store), embed_model=model)
    ```

    `from_vector_store` takes such a store, too, and goes on by fetching rows again. This moves each row once, and finds
    the rows that pgvector leaves out where a filter is narrow. Nodes are made by the store's own method, and a search
    is one of vectors. `filters=` of the retriever are checked on the nodes; a `filter=` in the language of an index,
    such as `"year > 2020"`, is carried out by PostgreSQL.

    Args:
        vector_store: A `llama_index.vector_stores.postgres.PGVectorStore`.
        connection: A connection string of psycopg, or a `psycopg_pool.ConnectionPool`; absent: that of the store.
        stateless: Whether nothing is kept open between two pages, as PgBouncer in transaction mode needs it.
        store_id: A name for what the table holds, for cursors; absent: the names of the table and of its columns.

    Raises:
        ClientError: It is another store, one with a `customize_query_fn`, or one that does not say where its table is.
    """
    if missing := next((name for name in _ATTRIBUTES if not hasattr(vector_store, name)), None):
        message = f"vector_store={shown(vector_store)} is no PGVectorStore of LlamaIndex: it has no {missing}"
        raise ClientError(message)
    if getattr(vector_store, "_customize_query_fn", None) is not None:
        message = "the store has a customize_query_fn, which cannot be carried out here: use from_vector_store"
        raise ClientError(message)

    def node_of(row: StoreRow) -> Any:
        found = SimpleNamespace(
            node_id=row.id, text=row.data or "", metadata=row.metadata, custom_fields=None, similarity=row.score
        )
        return vector_store._db_rows_to_query_result([found]).nodes[0]  # noqa: SLF001

    return PostgresSource(
        _dsn(vector_store) if connection is None else connection,
        (vector_store.schema_name, f"data_{vector_store.table_name}"),
        key="node_id",
        text="text",
        metadata="metadata_",
        item_of=node_of,
        stateless=stateless,
        store_id=store_id,
    )


def _dsn(store: Any) -> str:
    """Return where the table of a store is.

    Raises:
        ClientError: The store does not say it.
    """
    engine = getattr(store, "_engine", None)
    address = store.connection_string if engine is None else engine.url
    dsn = None if address in ("", "None") else dsn_of(address)
    if dsn is None:
        message = "the store does not say where its table is in words that psycopg knows: give connection="
        raise ClientError(message)
    return dsn
