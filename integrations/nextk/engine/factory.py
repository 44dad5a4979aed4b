"""Open the engine of an index by the keywords of `Index.embedded`, and create the index if it does not exist."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextk.engine.engine import EmbeddedEngine
from nextk.engine.failures import FAILURES, explain
from nextk.engine.file import connect
from nextk.engine.keywords import given_models, joined, new_schema, reopened, with_stored_models
from nextk.engine.pool.threshold import require_pool_keywords
from nextk.engine.protocol import Engine
from nextk.engine.storage import Storage
from nextk.engine.text import has_former_rule
from nextk.errors import ClientError, RefusedError

log = logging.getLogger("nextk.engine")

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
    given = given_models(keywords)
    pool_from, exact = require_pool_keywords(keywords)
    storage: Storage | None = None
    try:
        storage = Storage(connect(path, lambda: new_schema(keywords, given)))
        models = with_stored_models(given, storage.schema)
        schema = reopened(storage.schema, keywords, models)
        options = {"pool_from": pool_from, "exact": exact, **options}
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
    given = given_models(keywords)
    pool_from, exact = require_pool_keywords(keywords)
    wanted, held = _pool_words(pool_from, exact=exact), _pool_words(engine.pool_from, exact=engine.exact)
    if wanted not in ("", held):
        message = (
            f"this index is open in this process with {held or 'neither pool_from= nor exact='}: close its other "
            f"clients first, then open it with {wanted}"
        )
        raise ClientError(message)

    try:
        engine.complete_schema(lambda schema: joined(schema, keywords, given))
    except RefusedError as error:
        raise ClientError(str(error)) from error


def _pool_words(pool_from: int | None, *, exact: bool) -> str:
    """Return the keyword that says which searches have a pool, as it is written; an empty text for none."""
    if exact:
        return "exact=True"
    return "" if pool_from is None else f"pool_from={pool_from}"
