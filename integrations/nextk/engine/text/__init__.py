"""Text models: what turns a text into a dense or a sparse vector.

Two come with nextk, `"static"` (dense) and `"bm25"` (sparse); the caller's own are wrapped, and what they return is
checked. No framework is imported: an object is known by its methods.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nextk.engine.text.bm25 import BM25
from nextk.engine.text.custom import CustomDense, CustomSparse, find_model_functions
from nextk.engine.text.static import Static
from nextk.engine.values import SparseArrays
from nextk.errors import ClientError

__all__ = ["DenseModel", "SparseModel", "dense_model", "sparse_model"]


class DenseModel(Protocol):
    """Embeds texts as dense vectors. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """What a stored index remembers of its model: `"static"`, or `"custom"` for the caller's own."""
        ...

    @property
    def dimension(self) -> int | None:
        """The length of every vector, or `None` where only the first vector will tell."""
        ...

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts that are to be found: float32 (n, dimension), finite, row `i` for `texts[i]`."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a text to look for: float32 (dimension,), finite."""
        ...


class SparseModel(Protocol):
    """Embeds texts as sparse vectors. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """What a stored index remembers of its model: `"bm25"`, or `"custom"` for the caller's own."""
        ...

    def embed_documents(self, texts: list[str]) -> list[SparseArrays]:
        """Embed texts that are to be found: one sparse vector each, of at most 1,000 entries, possibly of none."""
        ...

    def embed_query(self, text: str) -> SparseArrays:
        """Embed a text to look for."""
        ...


def dense_model(choice: Any) -> DenseModel | None:
    """Find the model that `Index.embedded(embedding=...)` means.

    Args:
        choice: `None`; `"static"`; a callable that takes `list[str]` and returns an array-like of shape (n, dimension);
            or an object with `embed_documents` and `embed_query` (as LangChain's `Embeddings` have) or
            `get_text_embedding_batch` and `get_query_embedding` (LlamaIndex's `BaseEmbedding`). One of the two methods
            is enough for what it does.

    Returns:
        The model, or `None` for `None`.

    Raises:
        ClientError: `choice` is none of these.
    """
    if choice is None:
        return None
    if isinstance(choice, str) and choice == Static.name:
        return Static()
    functions = find_model_functions(choice)
    if functions is None:
        raise ClientError(_unknown("embedding", choice, Static.name, "an array of shape (n, dimension)"))
    return CustomDense(functions)


def sparse_model(choice: Any) -> SparseModel | None:
    """Find the model that `Index.embedded(sparse_embedding=...)` means.

    Args:
        choice: `None`; `"bm25"`; a callable that takes `list[str]` and returns a list of sparse vectors; or an object
            with the methods named at `dense_model` that return them (LangChain's `SparseEmbeddings`, LlamaIndex's
            `BaseSparseEmbedding`). A sparse vector is an object with `.indices` and `.values`, a tuple of the two, or a
            dict from index to value.

    Returns:
        The model, or `None` for `None`.

    Raises:
        ClientError: `choice` is none of these.
    """
    if choice is None:
        return None
    if isinstance(choice, str) and choice == BM25.name:
        return BM25()
    functions = find_model_functions(choice)
    if functions is None:
        raise ClientError(_unknown("sparse_embedding", choice, BM25.name, "a list of sparse vectors"))
    return CustomSparse(functions)


def _unknown(keyword: str, choice: Any, name: str, result: str) -> str:
    given = f"the class {choice.__name__}" if isinstance(choice, type) else repr(choice)
    return (
        f'{keyword} cannot be {given}. Give "{name}", a function that takes list[str] and returns {result}, '
        "or an object with embed_documents and embed_query."
    )
