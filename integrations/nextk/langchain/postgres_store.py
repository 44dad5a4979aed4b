"""LangChain's own stores of PostgreSQL as a source that goes on by a cursor, known by their attributes alone."""

from collections.abc import Callable
from typing import Any, LiteralString

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from nextk.arguments import written
from nextk.errors import ClientError
from nextk.stores import StoreRow
from nextk.stores.postgres import PostgresSource
from nextk.stores.postgres.addresses import dsn_of

_PACKAGE = "langchain_postgres."
_TABLE_ATTRIBUTES = (
    "engine",
    "schema_name",
    "table_name",
    "id_column",
    "content_column",
    "embedding_column",
    "metadata_columns",
    "metadata_json_column",
    "distance_strategy",
    "hybrid_search_config",
    "_create_filter_clause",
)
_OPERATORS = {"l2": "<->", "cosine": "<=>", "inner": "<#>"}
"""The operators of the strategies of the older store, by their values."""


def postgres_fields(store: VectorStore, store_id: str | None) -> dict[str, Any] | None:
    """Return the fields of a retriever over a store of `langchain_postgres`: its table, and its model.

    Args:
        store: The store: a `PGVectorStore`, an `AsyncPGVectorStore` or a `PGVector`.
        store_id: A name for what it holds, for cursors; `None` for that of the table.

    Returns:
        The fields; `None` if it is another store, or one that ranks or connects in a way of its own.
    """
    if not type(store).__module__.startswith(_PACKAGE):
        return None
    settings = _TABLES.get(type(store).__name__, lambda _: None)(store)
    if settings is None:
        return None
    source = PostgresSource(**settings, item_of=_document_of, store_id=store_id)
    return {"source": source, "embedding": store.embeddings}


def _of_table(store: Any) -> dict[str, Any] | None:
    """Return the arguments of a source over the table of a `PGVectorStore`."""
    table = getattr(store, "_PGVectorStore__vs", store)
    if not all(hasattr(table, name) for name in _TABLE_ATTRIBUTES):
        return None
    # A hybrid search, and a model that embeds within the database, are the store's own.
    own_way = table.hybrid_search_config is not None or hasattr(store.embeddings, "embed_query_inline_template")
    dsn = dsn_of(table.engine.url)
    if own_way or dsn is None:
        return None
    ef_search = getattr(getattr(table, "index_query_options", None), "ef_search", None)
    return {
        "connection": dsn,
        "table": (table.schema_name, table.table_name),
        "key": table.id_column,
        "embedding": table.embedding_column,
        "text": table.content_column,
        "metadata": table.metadata_json_column,
        "metadata_columns": table.metadata_columns,
        "operator": table.distance_strategy.operator,
        "filter_of": _filters_by(lambda given: _text_clause(*table._create_filter_clause(given))),  # noqa: SLF001
        **({} if ef_search is None else {"ef_search": ef_search}),
    }


def _of_collection(store: Any) -> dict[str, Any] | None:
    """Return the arguments of a source over the collection of a `PGVector`."""
    from psycopg.sql import SQL

    engine = getattr(store, "_engine", None) or getattr(store, "_async_engine", None)
    strategy = getattr(getattr(store, "_distance_strategy", None), "value", getattr(store, "_distance_strategy", None))
    operator = _OPERATORS.get(str(strategy))
    dsn = None if engine is None else dsn_of(engine.url)
    if dsn is None or operator is None or not getattr(store, "use_jsonb", False):
        return None
    of_collection = SQL("collection_id = (SELECT uuid FROM langchain_pg_collection WHERE name = %s)")
    return {
        "connection": dsn,
        "table": "langchain_pg_embedding",
        "text": "document",
        "metadata": "cmetadata",
        "operator": operator,
        "where": (of_collection, [store.collection_name]),
        "filter_of": _filters_by(lambda given: _compiled(store._create_filter_clause(given))),  # noqa: SLF001
    }


_TABLES: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "PGVectorStore": _of_table,
    "AsyncPGVectorStore": _of_table,
    "PGVector": _of_collection,
}


def _document_of(row: StoreRow) -> Document:
    return Document(page_content=row.data or "", metadata=row.metadata or {}, id=row.id)


def _filters_by(clause_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function that makes a condition of a filter in the store's own words, by its own method.

    Args:
        clause_of: Returns the condition of a dict.
    """

    def filter_of(filter: Any) -> Any:
        if not isinstance(filter, dict):
            return filter  # SQL of psycopg with its values, or what is refused for what it is
        try:
            return clause_of(filter)
        except (ValueError, NotImplementedError, TypeError, AttributeError) as error:
            message = f"filter={written(filter)} is none that the store takes: {error}"
            raise ClientError(message) from error

    return filter_of


def _text_clause(clause: str, values: dict[str, Any]) -> tuple[Any, list[Any]]:
    from sqlalchemy import text

    return _compiled(text(clause).bindparams(**values))


def _compiled(clause: Any) -> tuple[Any, list[Any]]:
    """Return a condition of SQLAlchemy as SQL of psycopg with its values."""
    from psycopg.sql import SQL
    from psycopg.types.json import Jsonb
    from sqlalchemy.dialects.postgresql.base import PGDialect

    dialect = PGDialect(paramstyle="format")  # type: ignore[no-untyped-call]
    compiled = clause.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    words: LiteralString = str(compiled)  # made by SQLAlchemy, with a placeholder for every value
    return SQL(words), [Jsonb(value) if isinstance(value, dict) else value for value in values]
