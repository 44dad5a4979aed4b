"""Text models of the caller's own: recognised by their methods, and their results checked before they are stored."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nextk.arguments import sparse_parts
from nextk.bodies import MAX_NON_ZEROS
from nextk.engine.values import SparseArrays
from nextk.errors import ClientError

__all__ = ["CustomDense", "CustomSparse", "ModelFunctions", "find_model_functions"]

_METHODS = (
    ("embed_documents", "embed_query"),  # LangChain
    ("get_text_embedding_batch", "get_query_embedding"),  # LlamaIndex
)
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True)
class ModelFunctions:
    """A model of the caller's own as one or two functions.

    Attributes:
        label: The name of the model in error messages.
        documents: Embeds a list of texts, or `None` if the model embeds queries only.
        query: Embeds the text of a query, or `None` if the model has no function for queries.
    """

    label: str
    documents: Callable[[list[str]], Any] | None = field(repr=False)
    query: Callable[[str], Any] | None = field(repr=False)

    def embed_documents(self, texts: list[str]) -> Any:
        """Embed documents by the model, without checking the result.

        Raises:
            ClientError: The model embeds queries only.
        """
        if self.documents is None:
            message = (
                f"{self.label} embeds questions only: it has no embed_documents. "
                "Give a model that has it, or upsert vectors instead of texts."
            )
            raise ClientError(message)
        return self.documents(texts)


def find_model_functions(choice: Any) -> ModelFunctions | None:
    """Return the functions of a model: the methods of an object, or a function that embeds documents.

    Methods take precedence over calling the object, because LlamaIndex's embeddings can be called too, on nodes.

    Returns:
        The functions, or `None` if `choice` is neither.
    """
    if isinstance(choice, type):
        return None  # a class has the methods, but nothing to call them on
    label = f"the model {getattr(choice, '__name__', type(choice).__name__)}"
    for names in _METHODS:
        documents, query = (_method(choice, name) for name in names)
        if documents is not None or query is not None:
            return ModelFunctions(label, documents, query)
    return ModelFunctions(label, choice, None) if callable(choice) else None


def _method(choice: Any, name: str) -> Callable[..., Any] | None:
    method = getattr(choice, name, None)
    return method if callable(method) else None


@dataclass(frozen=True, slots=True)
class CustomDense:
    """A dense model of the caller's own. Its dimension is unknown until the first vector."""

    functions: ModelFunctions
    identity: str
    name: ClassVar[str] = "custom"
    dimension: ClassVar[None] = None

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts that are to be stored. The model is not called if there are no texts.

        Returns:
            float32 (n, dimension); (0, 0) if there are no texts.

        Raises:
            ClientError: The model embeds queries only, or did not return one row of finite numbers for each text.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        rows = _dense(self.functions.embed_documents(texts), 2, f"the vectors of {self.functions.label}")
        _require_one_each(rows, texts, self.functions.label)
        return rows

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed the text of a query. A model that has no function for queries embeds it as a document.

        Returns:
            float32 (dimension,).

        Raises:
            ClientError: The model did not return one row of finite numbers.
        """
        if self.functions.query is None:
            row: NDArray[np.float32] = self.embed_documents([text])[0]
            return row
        return _dense(self.functions.query(text), 1, f"the query vector of {self.functions.label}")


@dataclass(frozen=True, slots=True)
class CustomSparse:
    """A sparse model of the caller's own."""

    functions: ModelFunctions
    identity: str
    name: ClassVar[str] = "custom"

    def embed_documents(self, texts: list[str]) -> list[SparseArrays]:
        """Embed texts that are to be stored. The model is not called if there are no texts.

        Returns:
            One sparse vector for each text.

        Raises:
            ClientError: The model embeds queries only, or did not return one sparse vector for each text.
        """
        if not texts:
            return []
        label = self.functions.label
        result = self.functions.embed_documents(texts)
        if not isinstance(result, Iterable):
            message = f"{label} returned {type(result).__name__} where a list of sparse vectors was expected"
            raise ClientError(message)
        vectors = list(result)
        _require_one_each(vectors, texts, label)
        return [_sparse(vector, label) for vector in vectors]

    def embed_query(self, text: str) -> SparseArrays:
        """Embed the text of a query. A model that has no function for queries embeds it as a document.

        Raises:
            ClientError: The model did not return a sparse vector.
        """
        if self.functions.query is None:
            return self.embed_documents([text])[0]
        return _sparse(self.functions.query(text), self.functions.label)


def _require_one_each(vectors: Sized, texts: list[str], label: str) -> None:
    if len(vectors) != len(texts):
        message = f"{label} returned {len(vectors)} vectors for {len(texts)} texts"
        raise ClientError(message)


def _sparse(vector: Any, label: str) -> SparseArrays:
    """Check a sparse vector of any library and convert it. The order of its entries is kept."""
    parts = sparse_parts(vector)
    if parts is None:
        message = (
            f"{label} returned {type(vector).__name__} where a sparse vector was expected: "
            "an object with indices and values, a tuple of the two, or a dict from index to value"
        )
        raise ClientError(message)
    indices = _indices(parts[0], f"the sparse indices of {label}")
    values = _floats(parts[1], 1, f"the sparse values of {label}")
    if len(indices) != len(values):
        message = f"{label} returned a sparse vector with {len(indices)} indices but {len(values)} values"
        raise ClientError(message)
    if len(indices) > MAX_NON_ZEROS:
        message = f"{label} returned a sparse vector of {len(indices)} entries; at most {MAX_NON_ZEROS} are allowed"
        raise ClientError(message)
    return SparseArrays(indices, values)


def _dense(value: Any, rank: int, subject: str) -> NDArray[np.float32]:
    floats = _floats(value, rank, subject)
    if floats.shape[-1] == 0:
        message = f"{subject} must have at least one dimension"
        raise ClientError(message)
    return floats


def _floats(value: Any, rank: int, subject: str) -> NDArray[np.float32]:
    array = _array(value, rank, "iuf", subject)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        message = f"{subject} must be finite in float32; NaN, an infinity or a number beyond its range was found"
        raise ClientError(message)
    return floats


def _indices(value: Any, subject: str) -> NDArray[np.int32]:
    array = _array(value, 1, "iu", subject)
    if array.size and (array.min() < _INT32.min or array.max() > _INT32.max):
        message = f"{subject} must lie within a signed int32"
        raise ClientError(message)
    return array.astype(np.int32)


def _array(value: Any, rank: int, kinds: str, subject: str) -> NDArray[Any]:
    """Convert an array-like to an array of `rank` axes whose elements have one of numpy's dtype `kinds`."""
    if isinstance(value, Iterator):
        value = list(value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged rows, or a tensor that lives elsewhere
        message = f"{subject} cannot be read as an array: {error}"
        raise ClientError(message) from error
    if array.ndim != rank:
        message = f"{subject} must form an array of {rank} axes; its shape is {array.shape}"
        raise ClientError(message)
    if array.size and array.dtype.kind not in kinds:
        message = f"{subject} must be {'numbers' if 'f' in kinds else 'integers'}, not {array.dtype}"
        raise ClientError(message)
    return array
