"""The base of the LlamaIndex vector store: its connection to an index, which is shared, pickled and closed. Private."""

from collections.abc import Mapping
from typing import Any, Self

from llama_index.core.vector_stores.types import BasePydanticVectorStore
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.llama_index.lazy_connection import LazyConnection
from nextk.retrievers.connection import ClosingMixin, Connection


class StoreOverIndex(ClosingMixin, BasePydanticVectorStore):
    """A vector store of LlamaIndex's that holds its nodes in an index. Its settings do not change."""

    model_config = ConfigDict(frozen=True)

    stores_text: bool = Field(default=True, exclude=True)
    is_embedding_query: bool = Field(default=True, exclude=True)
    namespace: str

    _connection: LazyConnection = PrivateAttr()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r}, namespace={self.namespace!r})"

    @property
    def client(self) -> Index:
        """The index that is searched, for blocking calls."""
        return self._current_connection().index

    @property
    def aclient(self) -> AsyncIndex:
        """The index that is searched, for an event loop."""
        return self._current_connection().async_index

    def close(self) -> None:
        """Close the index if this store has opened it. An index that was handed over is closed by its owner."""
        self._connection.close()

    async def aclose(self) -> None:
        """Close the index for the running event loop if this store has opened it; see `close`."""
        await self._connection.aclose()

    def _current_connection(self) -> Connection:
        return self._connection.open()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Return a copy over the same connection.

        Args:
            update: Nothing: a store with other settings is made anew.
            deep: Makes no difference.

        Raises:
            ClientError: If settings are to be changed, which searches would not notice.
        """
        if update:
            message = f"the settings of a store do not change: make another {type(self).__name__}(index, ...) with them"
            raise ClientError(message)
        return super().model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __getstate__(self) -> dict[Any, Any]:
        """Return what is pickled: the settings, the models and the URL, but no token and nothing that is open.

        Raises:
            ClientError: If the store was given an index object, which is tied to this process.
        """
        return BaseModel.__getstate__(self)  # LlamaIndex's own leaves out what cannot be pickled

    def __setstate__(self, state: dict[Any, Any]) -> None:
        BaseModel.__setstate__(self, state)
