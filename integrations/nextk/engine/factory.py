"""Open the engine of an index by the keywords of `Index.embedded`, and create the index if it does not exist."""

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
"""The stored name of a model of the caller's own."""


def open_engine(path: Path | None, keywords: Mapping[str, Any], *, name: str = "default", **options: Any) -> Engine:
    """Open the engine of an index, and create the index if it does not exist.

    Args:
        path: The file of the index; `None` keeps the index in memory.
        keywords: The schema keywords of `Index.embedded` by name; `None` stands for a keyword that was left out.
        name: The name by which error messages call the index.
        options: Further arguments of `EmbeddedEngine`.

    Raises:
        ClientError: A keyword has a value that is not allowed or contradicts the stored index, a model of the caller's
            own is missing, the path is not an index, or another process holds it.
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
    """Return the schema of an index that is created by these keywords and models."""
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
    """Return the type of an index whose type was left out: the one whose vectors its models can make."""
    if (dense is None) == (sparse is None):
        return "hybrid"
    return "sparse" if dense is None else "dense"


def refuse_contradiction(schema: Schema, keywords: Mapping[str, Any]) -> None:
    """Refuse to open a stored index with other keywords than it was created with.

    Args:
        schema: The stored schema.
        keywords: The schema keywords of `Index.embedded` by name; `None` stands for a keyword that was left out.

    Raises:
        ClientError: A keyword differs from the stored value; the message names both.
    """
    names = {
        key: keywords[key] if isinstance(keywords[key], str) else CUSTOM
        for key in ("embedding", "sparse_embedding")
        if keywords.get(key) is not None
    }
    schema.refuse_contradiction({**keywords, "embedding": None, "sparse_embedding": None, **names})


def _stored_model(name: str, keyword: str) -> str | None:
    """Return the choice that loads the model of a stored index.

    Raises:
        ClientError: It is a model of the caller's own, which has to be passed again.
    """
    if name == CUSTOM:
        message = (
            f"this index was made with a model of your own: pass the same one as {keyword}= to Index.embedded, "
            "also if a retriever searches it"
        )
        raise ClientError(message)
    return name or None
