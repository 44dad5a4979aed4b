"""Vector stores of LangChain with the same documents in each, for tests of retrievers over them."""

import hashlib
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import chromadb
from chromadb.config import Settings
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from nextk.langchain import ResumableRetriever
from nextk.sessions import Report
from tests.support.letter_models import refuse_to_block

with warnings.catch_warnings():  # this package is on its way out, and FAISS is in no other one
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.vectorstores import FAISS
    from langchain_community.vectorstores.utils import DistanceStrategy

TEXTS = [f"Note {number}: {word} in the garden." for number, word in enumerate(["moss", "fern", "rose"] * 20)]
METADATAS = [{"place": place, "kind": TEXTS[place].split()[2]} for place in range(len(TEXTS))]
QUESTION = "what grows in the garden?"
DIMENSION = 16

_numbers = itertools.count()


class Scattered(Embeddings):
    """A model of the whole text, so that no two texts are equally near, which refuses to block an event loop."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one row for each text."""
        return [_scattered(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text, of the length 1."""
        refuse_to_block()
        return _scattered(text)


def _scattered(text: str) -> list[float]:
    numbers = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSION]]
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers]


class Minimal(VectorStore):
    """The least that a store can be: blocking, without ids, scores and filters of its own."""

    def __init__(self, texts: Sequence[str] = (), metadatas: Sequence[dict[str, Any]] = ()) -> None:
        self.documents = [Document(text, metadata=data) for text, data in zip(texts, metadatas, strict=True)]
        self.calls: list[int] = []

    def similarity_search(self, query: str, k: int = 4) -> list[Document]:  # type: ignore[override]
        """Return the first documents, whatever the query."""
        refuse_to_block()
        self.calls.append(k)
        return self.documents[:k]

    @classmethod
    def from_texts(cls, texts: list[str], embedding: Any, metadatas: Any = None, **kwargs: Any) -> "Minimal":  # noqa: ARG003
        """Make a store of texts; the model is not used."""
        return cls(texts, metadatas or [{} for _ in texts])


@dataclass(frozen=True)
class StoreKind:
    """A kind of store, and how it differs from others.

    Attributes:
        make: Makes a store of texts and their metadata.
        scored: Whether it has relevance scores.
        ids: Whether its documents have ids.
        below: Returns the filter for places below a number, as the store takes it; `None` if it takes none.
    """

    make: Callable[[list[str], list[dict[str, Any]]], VectorStore]
    scored: bool
    ids: bool = True
    below: Callable[[int], Any] | None = None


def chroma(texts: list[str], metadatas: list[dict[str, Any]]) -> Chroma:
    """Return Chroma in this process, with a collection of its own."""
    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    store = Chroma(
        f"notes-{next(_numbers)}",
        Scattered(),
        client=client,
        collection_configuration={"hnsw": {"space": "cosine"}},
    )
    store.add_texts(texts, metadatas, [f"c{place}" for place in range(len(texts))])
    return store


def faiss(texts: list[str], metadatas: list[dict[str, Any]], **options: Any) -> FAISS:
    """Return FAISS over squared L2 distances."""
    return FAISS.from_texts(texts, Scattered(), metadatas, **options)


def qdrant(texts: list[str], metadatas: list[dict[str, Any]]) -> QdrantVectorStore:
    """Return Qdrant's client in its local mode, which gives documents no id."""
    client = QdrantClient(":memory:")
    client.create_collection("notes", models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    store = QdrantVectorStore(client, "notes", Scattered())
    store.add_texts(texts, metadatas)
    return store


def qdrant_below(place: int) -> models.Filter:
    """Return Qdrant's filter for places below a number."""
    return models.Filter(must=[models.FieldCondition(key="metadata.place", range=models.Range(lt=place))])


STORES = {
    "memory": StoreKind(
        lambda texts, metadatas: InMemoryVectorStore.from_texts(texts, Scattered(), metadatas),
        scored=False,
        below=lambda place: lambda document: document.metadata["place"] < place,
    ),
    "chroma": StoreKind(chroma, scored=True, below=lambda place: {"place": {"$lt": place}}),
    "faiss": StoreKind(faiss, scored=True, below=lambda place: {"place": {"$lt": place}}),
    "faiss-normalised": StoreKind(
        lambda texts, metadatas: faiss(texts, metadatas, normalize_L2=True),
        scored=True,
        below=lambda place: lambda metadata: metadata["place"] < place,
    ),
    "faiss-inner-product": StoreKind(
        lambda texts, metadatas: faiss(texts, metadatas, distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT),
        scored=False,
        below=lambda place: {"place": {"$lt": place}},
    ),
    "qdrant": StoreKind(qdrant, scored=True, ids=False, below=qdrant_below),
    "minimal": StoreKind(Minimal, scored=False, ids=False),
}
"""The kinds of stores, by their names in the ids of tests."""


@contextmanager
def opened(name: str, texts: list[str] = TEXTS, metadatas: list[dict[str, Any]] = METADATAS) -> Iterator[VectorStore]:
    """Make a store, and let go of it afterwards."""
    store = STORES[name].make(texts, metadatas)
    yield store
    if isinstance(store, Chroma) and store._chroma_collection is not None:
        store.delete_collection()
    elif isinstance(store, QdrantVectorStore):
        store.client.close()


class Colour:
    """One colour of a retriever and of its sessions: every method is awaited, whichever it is.

    Args:
        asynchronous: Whether the asynchronous methods are called.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous

    async def invoke(self, retriever: BaseRetriever, query: str, **keywords: Any) -> list[Document]:
        """Return the documents of one call."""
        return await retriever.ainvoke(query, **keywords) if self._asynchronous else retriever.invoke(query, **keywords)

    def open(self, retriever: ResumableRetriever, query: str, **keywords: Any) -> "OpenSearch":
        """Open a session."""
        return OpenSearch((retriever.aopen if self._asynchronous else retriever.open)(query, **keywords))

    def resume(self, retriever: ResumableRetriever, cursor: Any, **keywords: Any) -> "OpenSearch":
        """Resume a session."""
        return OpenSearch((retriever.aresume if self._asynchronous else retriever.resume)(cursor, **keywords))

    async def pages(self, retriever: ResumableRetriever, query: str, **keywords: Any) -> list[list[Document]]:
        """Return the pages of a stream."""
        if self._asynchronous:
            return [page async for page in retriever.astream(query, **keywords)]
        return list(retriever.stream(query, **keywords))


class OpenSearch:
    """A session of either colour, whose methods are awaited in both."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def fetch_next(self, n: int) -> list[Document]:
        """Return the next documents."""
        found: list[Document] = await self._awaited(self.session.fetch_next(n))
        return found

    async def fetch_until(self, policy: Any = None) -> list[Document]:
        """Return documents until a policy has enough."""
        found: list[Document] = await self._awaited(self.session.fetch_until(policy))
        return found

    async def rest(self) -> list[Document]:
        """Return all that is left, by pages of seven."""
        return [document for page in [await self.fetch_next(7) for _ in range(20)] for document in page]

    async def call(self, name: str, *args: Any, **keywords: Any) -> Any:
        """Call another method."""
        return await self._awaited(getattr(self.session, name)(*args, **keywords))

    async def _awaited(self, answer: Any) -> Any:
        return await answer if inspect.isawaitable(answer) else answer

    @property
    def report(self) -> Report:
        """The report of the session."""
        report: Report = self.session.report
        return report
