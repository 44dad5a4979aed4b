"""The Upstash store of `langchain_community`, over the official SDK."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.documents import Document

from tests.support.local_server import TOKEN

__all__ = ["UpstashVectorStore", "store_at", "without_id"]

with warnings.catch_warnings():  # that the package is on its way out is why one moves here
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.vectorstores.upstash import UpstashVectorStore


@contextmanager
def store_at(url: str, embedding: Any, **keywords: Any) -> Iterator[UpstashVectorStore]:
    """LangChain's own store, through the official SDK; its connections are closed afterwards."""
    store = UpstashVectorStore(index_url=url, index_token=TOKEN, embedding=embedding, **keywords)
    try:
        yield store
    finally:
        store._index._client.close()


def without_id(document: Document) -> Document:
    """A document as the community store makes it, which leaves the id out."""
    assert document.id
    return Document(document.page_content, metadata=document.metadata)
