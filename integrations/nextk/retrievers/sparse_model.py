"""Embedding queries by the caller's sparse model, whichever library it is from."""

import asyncio
import operator
from typing import Any

from nextk.arguments import shown, sparse_parts
from nextk.errors import ClientError
from nextk.payloads import plain_list
from nextk.types import SparseVector

_METHODS = (
    "embed_query",
    "get_query_embedding",
)  # LangChain's integrations, LlamaIndex's; an "a" before is the asynchronous twin
_PAIR = 2


class SparseQueryModel:
    """Embeds queries by a sparse model of the caller's.

    Args:
        model: An object with `embed_query` or `get_query_embedding`, which embeds one text; or a function that embeds a
            list of texts. A sparse vector is an object with `indices` and `values`, a pair of the two, or a dict from
            index to value. A function may also return a pair of the indices of all texts and the values of all texts,
            as Qdrant's functions do.

    Raises:
        ClientError: If the model is neither.
    """

    def __init__(self, model: Any) -> None:
        name = next((name for name in _METHODS if callable(getattr(model, name, None))), None)
        if isinstance(model, type) or (name is None and not callable(model)):
            message = (
                f"sparse_embedding cannot be {shown(model)}: "
                "give an object with embed_query(text), or a function that takes list[str]"
            )
            raise ClientError(message)
        self._model = model
        self._method = name

    def embed(self, text: str) -> SparseVector:
        """Embed a query.

        Args:
            text: The text of the query.

        Raises:
            ClientError: If the model returned something that is not a sparse vector.
        """
        return sparse_vector_of(self._embed(text))

    async def aembed(self, text: str) -> SparseVector:
        """Embed a query without blocking the event loop; see `embed`. A blocking model runs in a thread."""
        embed_async = getattr(self._model, f"a{self._method}", None)
        if embed_async is None:
            return await asyncio.to_thread(self.embed, text)
        return sparse_vector_of(await embed_async(text))

    def _embed(self, text: str) -> Any:
        if self._method is not None:
            return getattr(self._model, self._method)(text)
        result = self._model([text])
        try:
            if isinstance(result, tuple) and len(result) == _PAIR:  # the indices of all texts, the values of all texts
                return tuple(part[0] for part in result)
            return result[0]
        except (TypeError, IndexError, KeyError) as error:
            message = f"sparse_embedding returned {type(result).__name__} where a list of one vector was expected"
            raise ClientError(message) from error


def sparse_vector_of(given: Any) -> SparseVector:
    """Read a sparse vector of any library.

    Args:
        given: An object with `indices` and `values`, a pair of the two, or a dict from index to value.

    Raises:
        ClientError: If it is none of these, or holds something else than numbers.
    """
    parts = sparse_parts(given)
    if parts is None:
        message = (
            f"sparse_embedding returned {type(given).__name__} where a sparse vector was expected: "
            "an object with indices and values, a pair of the two, or a dict from index to value"
        )
        raise ClientError(message)
    indices, values = plain_list(parts[0], "indices"), plain_list(parts[1], "values")
    try:
        return SparseVector([operator.index(index) for index in indices], [float(value) for value in values])
    except (TypeError, ValueError, OverflowError) as error:
        message = f"sparse_embedding returned a sparse vector whose indices or values are no numbers: {error}"
        raise ClientError(message) from error
