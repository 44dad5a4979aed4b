"""The cost of the LangChain retriever's and store's searches, beside the bare index and the store that they replace.

Run by hand: `OPENBLAS_NUM_THREADS=1 python tests/benchmarks/adapter_langchain.py`, without which the threads of numpy
spin next to what is measured. (Not called `langchain.py`: a script's folder comes first on the path, and it would stand
in for that package.) All ways ask the same questions for ten rows, in turns within one run, and the texts are compared,
so recall is 1 on every side. The ratios are what to look at.

- In process: CPU time of this thread, store and retriever against `Index.query` for whole rows.
- Over HTTP: one server in a process of its own; wall time, and CPU time of this thread. Against the retriever of
  LangChain's own Upstash store (`langchain_community`, through the official SDK), over the very rows that it wrote.
"""

import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from langchain_core.embeddings import Embeddings
from pydantic import SecretStr

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.engine.factory import open_engine
from nextk.langchain import ResumableRetriever, ResumableVectorStore
from nextk.server.app import create_app
from nextk.testing.server import ServerThread
from nextk.until import MaxResults

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.vectorstores.upstash import UpstashVectorStore

QUESTIONS = ["read a gzip file", "parse command line arguments", "run a coroutine", "compare two floats"]
SIZE, ROUNDS, RECORDS, TOKEN = 10, 150, 2_000, "benchmark"
Way = Callable[[str], list[str]]


class Fixed(Embeddings):
    """A model that costs next to nothing: a few counts."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One row for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Counts of the letters, 26 of them."""
        return [float(text.count(letter)) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"]


def serve(connection: Connection) -> None:
    """Serve an index that embeds and one that does not, until told to stop."""
    engines = {
        "text": open_engine(None, {"type": "dense", "embedding": "static"}, name="text"),
        "vectors": open_engine(None, {"type": "dense", "dimension": 26}, name="vectors"),
    }
    with ServerThread(create_app(engines, token=TOKEN)) as server:
        connection.send(server.url)
        connection.recv()


@contextmanager
def server() -> Iterator[str]:
    """The base URL of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join()


def texts_of(documents: list[Any]) -> list[str]:
    """The texts of documents."""
    return [document.page_content for document in documents]


def measure(title: str, ways: dict[str, Way]) -> None:
    """Ask every way in turns, and print medians and ratios to the first one."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for question in QUESTIONS * ROUNDS:
        expected: list[str] | None = None
        for name, way in ways.items():
            began, began_cpu = time.perf_counter(), time.thread_time()
            found = way(question)
            cpu[name].append((time.thread_time() - began_cpu) * 1e6)
            wall[name].append((time.perf_counter() - began) * 1e6)
            assert expected in (None, found), name
            expected = found
    print(f"\n{title}: {len(QUESTIONS) * ROUNDS} calls each, k={SIZE}")
    first = next(iter(ways))
    for name in ways:
        parts = []
        for kind, times in (("wall", wall), ("cpu", cpu)):
            median, base = statistics.median(times[name]), statistics.median(times[first])
            parts.append(f"{kind} {median:7.0f} us {median / base:5.2f}x")
        print(f"  {name:32}{'   '.join(parts)}")


def in_process(texts: list[str]) -> None:
    """The store and the retriever over the bare index."""
    with Index.embedded(type="dense", embedding="static") as index:
        retriever = ResumableRetriever(index=index, embedding=True, k=SIZE)
        retriever.add_texts(texts)
        store = ResumableVectorStore(index, embedding=True)

        def opened(question: str) -> list[str]:
            with retriever.open(question) as search:
                return texts_of(search.fetch_next(SIZE))

        def bare(question: str) -> list[str]:
            found = index.query(data=question, top_k=SIZE, include_metadata=True, include_data=True)
            return [str(match.data) for match in found]

        policy = MaxResults(SIZE)
        ways: dict[str, Way] = {
            "Index.query": bare,
            "similarity_search": lambda question: texts_of(store.similarity_search(question, SIZE)),
            "invoke": lambda question: texts_of(retriever.invoke(question)),
            "invoke, until=MaxResults(10)": lambda question: texts_of(retriever.invoke(question, until=policy)),
            "open, fetch_next(10)": opened,
            "first page of stream": lambda question: texts_of(next(iter(retriever.stream(question)))),
        }
        measure("in process", ways)


def over_http(url: str, name: str, embedding: Any, texts: list[str]) -> None:
    """The store and the retriever over the community store's."""
    location = f"{url}/indexes/{name}"
    store = UpstashVectorStore(index_url=location, index_token=TOKEN, embedding=embedding)
    store.add_texts(texts, [{"place": place} for place in range(len(texts))], batch_size=500)
    theirs = store.as_retriever(search_kwargs={"k": SIZE})
    with ResumableRetriever.from_vectorstore(store, k=SIZE) as ours, Index(location, TOKEN) as index:
        assert isinstance(ours.token, SecretStr)

        def bare(question: str) -> list[str]:
            query = {"data": question} if embedding is True else {"vector": embedding.embed_query(question)}
            found = index.query(**query, top_k=SIZE, include_metadata=True)
            return [str((match.metadata or {})["text"]) for match in found]

        here = ResumableVectorStore(index, embedding)
        ways: dict[str, Way] = {
            "community store's search": lambda question: texts_of(store.similarity_search(question, SIZE)),
            "similarity_search": lambda question: texts_of(here.similarity_search(question, SIZE)),
            "community store's retriever": lambda question: texts_of(theirs.invoke(question)),
            "invoke": lambda question: texts_of(ours.invoke(question)),
            "Index.query": bare,
        }
        measure(f"over HTTP, {name}", ways)
    store._index._client.close()  # the SDK has no close() of its own


def main() -> None:
    """Measure and print."""
    texts = list(dict.fromkeys(read_text.text for read_text in islice(standard_library(), RECORDS)))
    in_process(texts)
    with server() as url:
        over_http(url, "text", True, texts)
        over_http(url, "vectors", Fixed(), texts)


if __name__ == "__main__":
    main()
