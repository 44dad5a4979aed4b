"""Text models, which embed texts as dense or sparse vectors.

Two models come with nextk: `"static"` (dense) and `"bm25"` (sparse). The latter has two versions, and an index keeps
the one that it was made by. A model of the caller's own is wrapped, and the vectors that it returns are checked. No
framework is imported: a framework's model is recognised by its methods.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nextk.arguments import shown
from nextk.engine.text.bm25 import BM25, FORMER
from nextk.engine.text.custom import CustomDense, CustomSparse, find_model_functions
from nextk.engine.text.identity import identify
from nextk.engine.text.static import Static
from nextk.engine.values import SparseArrays
from nextk.errors import ClientError

__all__ = ["DenseModel", "SparseModel", "dense_model", "has_former_rule", "in_stored_version", "sparse_model"]


class DenseModel(Protocol):
    """A model that embeds texts as dense vectors. It is safe to call from several threads."""

    @property
    def name(self) -> str:
        """The name that is stored with an index: `"static"`, or `"custom"` for a model of the caller's own."""
        ...

    @property
    def identity(self) -> str:
        """A text that says which model it is, equal in every process; see `nextk.engine.text.identity`."""
        ...

    @property
    def dimension(self) -> int | None:
        """The length of every vector, or `None` if it is unknown until the first vector."""
        ...

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts that are to be stored. Returns float32 (n, dimension), finite; row `i` belongs to `texts[i]`."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed the text of a query. Returns float32 (dimension,), finite."""
        ...


class SparseModel(Protocol):
    """A model that embeds texts as sparse vectors. It is safe to call from several threads."""

    @property
    def name(self) -> str:
        """The name that is stored with an index: `"bm25"`, or `"custom"` for a model of the caller's own."""
        ...

    @property
    def identity(self) -> str:
        """A text that says which model it is, equal in every process; see `nextk.engine.text.identity`."""
        ...

    def embed_documents(self, texts: list[str]) -> list[SparseArrays]:
        """Embed texts that are to be stored. Returns one sparse vector each, of 0 to 1,000 entries."""
        ...

    def embed_query(self, text: str) -> SparseArrays:
        """Embed the text of a query as a sparse vector."""
        ...


def dense_model(choice: Any) -> DenseModel | None:
    """Return the dense model that the argument `embedding` of `Index.embedded` stands for.

    Args:
        choice: `None`; `"static"`; a callable that takes `list[str]` and returns an array-like of shape (n, dimension);
            or an object with `embed_documents` and `embed_query` (as LangChain's `Embeddings` has) or
            `get_text_embedding_batch` and `get_query_embedding` (LlamaIndex's `BaseEmbedding`). If it has only one
            of the two methods, it can only embed documents or only queries.

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
    return CustomDense(functions, identify(choice))


def sparse_model(choice: Any) -> SparseModel | None:
    """Return the sparse model that the argument `sparse_embedding` of `Index.embedded` stands for.

    Args:
        choice: `None`; `"bm25"`; a callable that takes `list[str]` and returns a list of sparse vectors; or an object
            with the methods that `dense_model` names, which return sparse vectors (LangChain's `SparseEmbeddings`,
            LlamaIndex's `BaseSparseEmbedding`). A sparse vector is an object with `.indices` and `.values`, a tuple of
            the two, or a dict from index to value.

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
    return CustomSparse(functions, identify(choice))


def in_stored_version(model: SparseModel | None, name: str, identity: str) -> SparseModel | None:
    """Return the version of `"bm25"` that made the vectors of an index; any other model as it is.

    Vectors of two versions do not fit together, so an index of version 1 goes on with the former rule of words.

    Args:
        model: The model that the index is opened with.
        name: The stored name of the sparse model of the index.
        identity: The stored identity of that model; `""` if the index was made before identities were stored.
    """
    former = isinstance(model, BM25) and name == BM25.name and identity in ("", FORMER.identity)
    return FORMER if former else model


def has_former_rule(model: SparseModel | None) -> bool:
    """Return whether a model is `"bm25"` with the former rule of words."""
    return model is FORMER


def _unknown(keyword: str, choice: Any, name: str, result: str) -> str:
    return (
        f'{keyword} cannot be {shown(choice)}. Give "{name}", a function that takes list[str] and returns {result}, '
        "or an object with embed_documents and embed_query."
    )
