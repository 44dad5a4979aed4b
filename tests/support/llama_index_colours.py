"""The LlamaIndex vector store over the four transports: a test is written once, with `await`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryResult

from nextk import AsyncIndex
from nextk.llama_index import ResumableVectorStore
from nextk.types import SparseVector
from tests.support.letter_models import refuse_to_block
from tests.support.llama_index_stores import DIMENSION, Digests, vector_of
from tests.support.transports import Awaitable, Opener

TWINS = {"add": "async_add"}
"""The asynchronous methods whose name is not that of the blocking one after an `a`."""


@dataclass(frozen=True)
class Coloured:
    """A store of which either the blocking or the asynchronous methods are called, by the names of the blocking ones.

    Attributes:
        store: The store.
        index: The index below it, whose methods are awaited in either colour.
    """

    store: ResumableVectorStore
    index: AsyncIndex

    @property
    def blocking(self) -> bool:
        """Whether the blocking methods are called."""
        return isinstance(self.index, Awaitable)

    async def call(self, method: str, *args: Any, **keywords: Any) -> Any:
        """Call a method, and return what it returns."""
        if self.blocking:
            return getattr(self.store, method)(*args, **keywords)
        return await getattr(self.store, TWINS.get(method, f"a{method}"))(*args, **keywords)

    async def query(self, *, options: dict[str, Any] | None = None, **parts: Any) -> VectorStoreQueryResult:
        """Run a query that is made of its parts."""
        found: VectorStoreQueryResult = await self.call("query", VectorStoreQuery(**parts), **(options or {}))
        return found

    async def stored(self) -> set[str]:
        """Return the ids of all records of the store's namespace."""
        page = await self.index.range("", 1_000, namespace=self.store.namespace)
        return {record.id for record in page.vectors}

    async def record(self, id: str) -> Any:
        """Return a record with all that is stored of it."""
        [found] = await self.index.fetch(
            [id], include_vectors=True, include_metadata=True, include_data=True, namespace=self.store.namespace
        )
        return found


def coloured(index: AsyncIndex, **settings: Any) -> Coloured:
    """Return a store over an index of one of the four transports, called in the colour of its client."""
    client = index.inner if isinstance(index, Awaitable) else index
    return Coloured(ResumableVectorStore(client, **settings), index)


def by_vectors(open_index: Opener, **options: Any) -> Coloured:
    """Return an empty store over a hybrid index of vectors that the store's models make."""
    index = open_index("hybrid", dimension=DIMENSION)
    return coloured(index, **{"embed_model": Digests(), "sparse_embedding": words_of, **options})


def by_texts(open_index: Opener, **options: Any) -> Coloured:
    """Return an empty store over a hybrid index that embeds."""
    return coloured(open_index("hybrid", embedding="static", sparse_embedding="bm25"), **options)


def brought(*nodes: BaseNode) -> list[BaseNode]:
    """Return copies of nodes with a vector, as LlamaIndex brings them."""
    return [node.model_copy(update={"embedding": vector_of(node.get_content())}) for node in nodes]


class Counting(Digests):
    """A dense model without meaning that counts how often it embeds each text of a node."""

    _texts: Counter[str] = PrivateAttr(default_factory=Counter)

    def _get_text_embedding(self, text: str) -> list[float]:
        self._texts[text] += 1
        return super()._get_text_embedding(text)


def words_of(texts: list[str]) -> list[SparseVector]:
    """Embed texts sparsely: each word of more than three letters by its letters; refuses to block an event loop."""
    refuse_to_block()
    return [_sparse(text) for text in texts]


def _sparse(text: str) -> SparseVector:
    counts = Counter(sum(map(ord, word)) for word in text.lower().replace(".", "").split() if len(word) > 3)
    return SparseVector(sorted(counts), [float(counts[index]) for index in sorted(counts)])


def ids_of(found: VectorStoreQueryResult | Sequence[BaseNode] | Sequence[NodeWithScore]) -> list[str]:
    """Return the ids of a result or of nodes."""
    nodes: Sequence[Any] = (found.nodes or []) if isinstance(found, VectorStoreQueryResult) else found
    return [node.node_id for node in nodes]
