"""An embedded index made of texts in one line: its models, stable ids, and batches of an acceptable size."""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from nextk.client import Index
from nextk.errors import ClientError
from nextk.requests import MAX_ROWS
from nextk.types import Data

_BY_CONTENT = uuid.UUID("8f3c5d1e-6a57-5c0b-9a57-6e65787463b1")  # only has to stay the same


def open_embedded(path: str | os.PathLike[str] | None, embedding: Any, sparse_embedding: Any) -> Index:
    """Open or make a hybrid index that owns its models: those given, else `"static"` and `"bm25"`."""
    return Index.embedded(
        path,
        embedding="static" if embedding is None else embedding,
        sparse_embedding="bm25" if sparse_embedding is None else sparse_embedding,
    )


def store(index: Index, records: Sequence[Data], namespace: str) -> None:
    """Store records in batches, each whole or not at all; of several with one id the last one stays."""
    latest = list({str(record.id): record for record in records}.values())
    for start in range(0, len(latest), MAX_ROWS):
        index.upsert(latest[start : start + MAX_ROWS], namespace)


def content_id(text: str, metadata: Mapping[str, Any]) -> str:
    """An id that says what a record holds: equal texts with equal metadata are one record, in every process.

    Raises:
        ClientError: The metadata is not JSON.
    """
    try:
        content = json.dumps([text, metadata], sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"metadata has to be JSON: {error}"
        raise ClientError(message) from error
    return str(uuid.uuid5(_BY_CONTENT, content))
