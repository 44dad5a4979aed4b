"""Open the engine of an index by the keywords of `Index.embedded`, and create the index if it does not exist."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextk.arguments import require_count, require_kind
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.failures import FAILURES, explain
from nextk.engine.file import connect
from nextk.engine.protocol import Engine
from nextk.engine.records import Models
from nextk.engine.schema import Schema
from nextk.engine.storage import Storage
from nextk.engine.text import DenseModel, dense_model, has_former_rule, in_stored_version, sparse_model
from nextk.errors import ClientError, RefusedError

log = logging.getLogger("nextk.engine")

CUSTOM = "custom"
"""The stored name of a model of the caller's own."""

_FORMER_RULE = (
    '%s was made by the former rule of words of sparse_embedding="bm25", which finds hardly any words of Chinese, '
    "Japanese, Thai, Hindi and other scripts. It goes on with that rule for what is stored and searched, so that its "
    "vectors fit together. To have the present rule, make a new index from the texts: give Index.embedded, from_texts, "
    "from_documents or from_nodes a new path, or run `nextk ingest FOLDER --index NEW_FILE` for each folder (the demo "
    "has `nextk demo --rebuild`). Index.range(include_data=True, include_metadata=True) reads the texts that it holds"
)
"""The warning at the opening of an index of version 1 of `"bm25"`."""


def open_engine(path: Path | None, keywords: Mapping[str, Any], *, name: str = "default", **options: Any) -> Engine:
    """Open the engine of an index, and create the index if it does not exist.

    Args:
        path: The file of the index; `None` keeps the index in memory.
        keywords: The keywords of `Index.embedded` by name; `None` stands for a keyword that was left out. There is one
            more, `default_weighting`, which may be given instead of `weighting`: it decides the weighting of a
            new index, and of one whose weighting is unset, and agrees with any other.
        name: The name by which error messages call the index.
        options: Further arguments of `EmbeddedEngine`.

    Raises:
        ClientError: A keyword has a value that is not allowed or contradicts the stored index, a model of the caller's
            own is missing, the path is not an index, another process holds it, or its disk is full or fails.
    """
    given = _given_models(keywords)
    storage: Storage | None = None
    try:
        storage = Storage(connect(path, lambda: _new_schema(keywords, given)))
        models = _with_stored_models(given, storage.schema)
        schema = _reopened(storage.schema, keywords, models)
        options.setdefault("pool_from", _pool_from(keywords))
        engine = EmbeddedEngine(storage, name=name, dense_model=models.dense, sparse_model=models.sparse, **options)
        engine.complete_schema(lambda _: schema)
        if has_former_rule(models.sparse):
            log.warning(_FORMER_RULE, path)
    except BaseException as error:
        if storage is not None:
            storage.close()
        if isinstance(error, RefusedError) and isinstance(error.__cause__, FAILURES):
            raise explain(error.__cause__, path) from error.__cause__
        if isinstance(error, FAILURES):
            raise explain(error, path) from error
        raise
    return engine


def join_engine(engine: Engine, keywords: Mapping[str, Any]) -> None:
    """Check the keywords of a further opening of an index that is open already, and let it store what they decide.

    The engine goes on with the models that it has, so another model is refused, even if it makes the same vectors.

    Args:
        engine: The engine of the index.
        keywords: The keywords of this opening, as `open_engine` takes them.

    Raises:
        ClientError: A keyword has a value that is not allowed or contradicts the index, a model is another one than
            the engine embeds with, or what the keywords decide cannot be stored.
    """
    given, pool_from = _given_models(keywords), _pool_from(keywords)
    if pool_from not in (None, engine.pool_from):
        message = (
            f"this index is open in this process with pool_from={engine.pool_from}: close its other clients first, "
            f"then open it with pool_from={pool_from}"
        )
        raise ClientError(message)

    def joined(schema: Schema) -> Schema:
        completed = _reopened(schema, keywords, _in_stored_versions(given, schema))
        for keyword in ("embedding_identity", "sparse_embedding_identity"):
            held, other = getattr(schema, keyword), getattr(completed, keyword)
            if held != other:
                message = (
                    f"this index is open in this process, where it embeds with the model {held}: close its other "
                    f"clients first, then open it with {other} and same_model=True"
                )
                raise ClientError(message)
        return completed

    try:
        engine.complete_schema(joined)
    except RefusedError as error:
        raise ClientError(str(error)) from error


def _given_models(keywords: Mapping[str, Any]) -> Models:
    return Models(dense_model(keywords.get("embedding")), sparse_model(keywords.get("sparse_embedding")))


def _given(keywords: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return the value of a keyword; the default if it was left out, or is an empty text."""
    value = keywords.get(name)
    return default if value is None or (isinstance(value, str) and not value) else value


def _pool_from(keywords: Mapping[str, Any]) -> int | None:
    pool_from: int | None = keywords.get("pool_from")
    if pool_from is not None:
        require_count(pool_from, "pool_from")
    return pool_from


def _new_schema(keywords: Mapping[str, Any], models: Models) -> Schema:
    """Return the schema of an index that is created by these keywords and models."""
    dense, sparse = models.dense, models.sparse
    dimension = keywords.get("dimension")
    if dense is not None and dense.dimension is not None:
        if dimension is not None:
            require_count(dimension, "dimension")
        if dimension not in (None, dense.dimension):
            message = (
                f"dimension={dimension}, but the embedding makes vectors of {dense.dimension}: leave one of them out"
            )
            raise ClientError(message)
        dimension = dense.dimension
    return Schema.create(
        type=keywords.get("type"),
        dimension=dimension,
        similarity=_given(keywords, "similarity", "cosine"),
        embedding="" if dense is None else dense.name,
        sparse_embedding="" if sparse is None else sparse.name,
        fusion_order=_given(keywords, "fusion_order", "global"),
        weighting=_given(keywords, "weighting", keywords.get("default_weighting")),
        embedding_identity="" if dense is None else dense.identity,
        sparse_embedding_identity="" if sparse is None else sparse.identity,
    )


def _with_stored_models(given: Models, schema: Schema) -> Models:
    """Return the models of an index: those that are given, and for each that is not, the one that its name loads.

    Raises:
        ClientError: It is a model of the caller's own, which has to be passed again.
    """
    for name, identity, model, keyword in (
        (schema.embedding, schema.embedding_identity, given.dense, "embedding"),
        (schema.sparse_embedding, schema.sparse_embedding_identity, given.sparse, "sparse_embedding"),
    ):
        if name == CUSTOM and model is None:
            which = f", {identity}" if identity else ""
            message = (
                f"this index was made with a model of your own{which}: pass the same one as {keyword}= "
                f"to Index.embedded, or as {keyword}=MODULE:ATTRIBUTE to nextk serve --index, also if a retriever "
                "searches it"
            )
            raise ClientError(message)
    models = Models(
        given.dense or dense_model(schema.embedding or None),
        given.sparse or sparse_model(schema.sparse_embedding or None),
    )
    return _in_stored_versions(models, schema)


def _in_stored_versions(models: Models, schema: Schema) -> Models:
    """Return the models of an index in the versions that its vectors were made by."""
    sparse = in_stored_version(models.sparse, schema.sparse_embedding, schema.sparse_embedding_identity)
    return replace(models, sparse=sparse)


def _refuse_other_dimension(schema: Schema, model: DenseModel | None) -> None:
    """Refuse a model that is known to make vectors of another dimension, whatever it is said to be the same as.

    Raises:
        ClientError: The dimensions differ.
    """
    if model is not None and model.dimension not in (None, schema.dimension) and schema.dimension is not None:
        message = (
            f"this index holds vectors of {schema.dimension} dimensions, and the model {model.identity} makes vectors "
            f"of {model.dimension}: give the model that the index was made with"
        )
        raise ClientError(message)


def _reopened(schema: Schema, keywords: Mapping[str, Any], models: Models) -> Schema:
    """Return the schema of a stored index that is opened with these keywords and models.

    Args:
        schema: The stored schema.
        keywords: The keywords of `Index.embedded` by name; `None` stands for a keyword that was left out.
        models: The models; `None` for one that is not given.

    Raises:
        ClientError: A keyword or a model differs from the stored one; the message names both.
    """
    schema = schema.reopened(keywords)
    accepted = require_kind(_given(keywords, "same_model", default=False), bool, "same_model")
    for keyword, model in (("embedding", models.dense), ("sparse_embedding", models.sparse)):
        if model is not None:
            schema = schema.with_model(keyword, model.name, model.identity, accepted=accepted)
    _refuse_other_dimension(schema, models.dense)
    schema = schema.decided_by_models()
    default = keywords.get("default_weighting")
    return schema.with_weighting(default) if default is not None and schema.weighting is None else schema
