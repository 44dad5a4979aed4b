"""From keywords to an engine: a new index, or one that is stored already."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextk.engine.engine import EmbeddedEngine
from nextk.engine.file import explain
from nextk.engine.protocol import Engine
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage
from nextk.engine.text import DenseModel, SparseModel, dense_model, sparse_model
from nextk.errors import ClientError

CUSTOM = "custom"
"""The stored name of a model that the caller brought along."""


def open_engine(path: Path | None, keywords: Mapping[str, Any], *, name: str = "default", **options: Any) -> Engine:
    """Open or make the engine of an index.

    Args:
        path: Its file; `None` keeps it in memory.
        keywords: The schema keywords of `Index.embedded`; `None` for those left out.
        name: What its errors call it.
        options: Further arguments of `EmbeddedEngine`.

    Raises:
        ClientError: A keyword is unknown, contradicts the stored index, or a model of the caller's own is missing; or
            the path is not an index, or another process holds it.
    """
    dense, sparse = dense_model(keywords.get("embedding")), sparse_model(keywords.get("sparse_embedding"))
    storage: Storage | None = None
    try:
        storage = Storage.open(path, _new_schema(keywords, dense, sparse))
        schema = storage.schema
        refuse_contradiction(schema, keywords)
        return EmbeddedEngine(
            storage,
            name=name,
            dense_model=dense or dense_model(_stored_model(schema.embedding, "embedding")),
            sparse_model=sparse or sparse_model(_stored_model(schema.sparse_embedding, "sparse_embedding")),
            **options,
        )
    except BaseException as error:
        if storage is not None:
            storage.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise explain(error, path) from error
        raise


def _new_schema(keywords: Mapping[str, Any], dense: DenseModel | None, sparse: SparseModel | None) -> Schema:
    """The schema of an index that is made now."""
    dimension = keywords.get("dimension")
    if dense is not None and dense.dimension is not None:
        if dimension not in (None, dense.dimension):
            message = (
                f"dimension={dimension}, but the embedding makes vectors of {dense.dimension}: leave one of them out"
            )
            raise ClientError(message)
        dimension = dense.dimension
    return Schema.create(
        type=keywords.get("type") or _type_for(dense, sparse),
        dimension=dimension,
        similarity=keywords.get("similarity") or "cosine",
        embedding="" if dense is None else dense.name,
        sparse_embedding="" if sparse is None else sparse.name,
        fusion_order=keywords.get("fusion_order") or "global",
    )


def _type_for(dense: DenseModel | None, sparse: SparseModel | None) -> str:
    """The type of an index that nobody named: what its models can fill."""
    if (dense is None) == (sparse is None):
        return "hybrid"
    return "sparse" if dense is None else "dense"


def refuse_contradiction(schema: Schema, keywords: Mapping[str, Any]) -> None:
    """Compare the keywords of a reopening with what is stored.

    Raises:
        ClientError: One contradicts; the message names both.
    """
    names = {
        key: keywords[key] if isinstance(keywords[key], str) else CUSTOM
        for key in ("embedding", "sparse_embedding")
        if keywords.get(key) is not None
    }
    schema.refuse_contradiction({**keywords, "embedding": None, "sparse_embedding": None, **names})


def _stored_model(name: str, keyword: str) -> str | None:
    """The choice that loads a stored model."""
    if name == CUSTOM:
        message = f"this index was made with a model of your own: pass the same one as {keyword}="
        raise ClientError(message)
    return name or None
