"""Find out what the keywords of an opening say of an index: its schema, whether it is new or stored, and its models.

Nothing here knows where the index is kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nextk.arguments import require_count, require_kind
from nextk.engine.records import Models
from nextk.engine.schema import Schema
from nextk.engine.text import DenseModel, dense_model, in_stored_version, sparse_model
from nextk.errors import ClientError

__all__ = ["CUSTOM", "given_models", "joined", "new_schema", "reopened", "with_stored_models"]

CUSTOM = "custom"
"""The stored name of a model of the caller's own."""


def given_models(keywords: Mapping[str, Any]) -> Models:
    """Return the models that the keywords bring; `None` for each that was left out."""
    return Models(dense_model(keywords.get("embedding")), sparse_model(keywords.get("sparse_embedding")))


def new_schema(keywords: Mapping[str, Any], models: Models) -> Schema:
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


def with_stored_models(given: Models, schema: Schema) -> Models:
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


def reopened(schema: Schema, keywords: Mapping[str, Any], models: Models) -> Schema:
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


def joined(schema: Schema, keywords: Mapping[str, Any], given: Models) -> Schema:
    """Return the schema of an index that is open in this process and is opened once more.

    Args:
        schema: The schema of the index.
        keywords: The keywords of the further opening.
        given: The models that they bring.

    Raises:
        ClientError: A keyword contradicts the schema, or a model is another one than the index embeds with.
    """
    completed = reopened(schema, keywords, _in_stored_versions(given, schema))
    for keyword in ("embedding_identity", "sparse_embedding_identity"):
        held, other = getattr(schema, keyword), getattr(completed, keyword)
        if held != other:
            message = (
                f"this index is open in this process, where it embeds with the model {held}: close its other "
                f"clients first, then open it with {other} and same_model=True"
            )
            raise ClientError(message)
    return completed


def _given(keywords: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return the value of a keyword; the default if it was left out, or is an empty text."""
    value = keywords.get(name)
    return default if value is None or (isinstance(value, str) and not value) else value


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
