"""The base of the LangChain vector store over an index: its index, its models and its settings."""

import pickle
from typing import Any, ClassVar

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from nextk.client import Index
from nextk.errors import ClientError
from nextk.langchain.settings import ResolvedSettings
from nextk.langchain.writing import Writing
from nextk.retrievers.connection import ClosingMixin, Connection


class IndexStore(ClosingMixin, VectorStore):
    """A LangChain vector store whose records a retriever of nextk finds and writes.

    Attributes:
        retriever_fields: The names of the retriever's fields that the store has as well.
    """

    retriever_fields: ClassVar[tuple[str, ...]] = (
        *("index", "url", "token", "namespace", "embedding", "sparse_embedding"),
        *("retrieval_mode", "fusion", "weighting", "exact", "text_key"),
    )

    _retriever: Writing
    _embeddings: Embeddings | None

    def _adopt(self, retriever: Writing, embedding: object) -> None:
        """Use a retriever from now on, and remember the model that the caller gave."""
        self._retriever = retriever
        self._embeddings = embedding if isinstance(embedding, Embeddings) else None

    @property
    def embeddings(self) -> Embeddings | None:
        """The dense model, if it is one of LangChain's; `None` if the index embeds by a model of another kind."""
        return self._embeddings

    @property
    def index(self) -> Index:
        """The index that holds the records, for blocking calls."""
        return self._connection.index

    @property
    def _connection(self) -> Connection:
        return self._retriever._index_connection()  # noqa: SLF001 - the store is a face of this retriever

    def _resolve(self, filter: Any, namespace: str | None) -> ResolvedSettings[Document]:
        """Resolve the settings for one call; `None` stands for no filter, and for the store's own namespace."""
        return self._retriever._resolve(filter, namespace)  # noqa: SLF001 - the store is a face of this retriever

    def retriever_settings(self) -> dict[str, Any]:
        """Return the fields of a `ResumableRetriever` over the same records, by their names."""
        return {name: getattr(self._retriever, name) for name in self.retriever_fields}

    def _current_connection(self) -> Connection:
        return self._connection

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the settings and how to find the index again, but nothing that is open.

        Raises:
            ClientError: If the store was given an index object, which is tied to this process.
        """
        try:
            pickle.dumps(self._retriever)
        except ClientError as error:
            message = (
                "this store was given an index object, which is tied to this process: to pickle the store, make it by "
                "url= and token=, or by the environment"
            )
            raise ClientError(message) from error
        return self.__dict__.copy()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r}, namespace={self._retriever.namespace!r})"
