"""The cost of the LlamaIndex retriever's and store's searches beside the bare index, and the cost of searching on.

Run by hand: `OPENBLAS_NUM_THREADS=1 python tests/benchmarks/adapter_llama_index.py`, without which the threads of numpy
spin next to what is measured. All ways ask the same questions for ten rows, in turns within one run, of one index in
this process, and their texts are compared, so recall is 1 on every side. CPU time of this thread, medians; the ratios
are what to look at.

Two layouts of the same passages: as data, which become `TextNode`s, and as LlamaIndex stores nodes, which are read
back from their JSON. `rows to nodes, by LlamaIndex` is the bare query and LlamaIndex's own reading of what it brought:
the least that any retriever of such rows can cost. `retrieve, nothing behind it` is what LlamaIndex itself spends on a
call: spans, events and callbacks round a retriever that has its nodes at hand.
"""

import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.llama_index import ResumableRetriever, ResumableVectorStore
from nextk.types import Data
from nextk.until import MaxResults

QUESTIONS = ["read a gzip file", "parse command line arguments", "run a coroutine", "compare two floats"]
SIZE, ROUNDS, RECORDS = 10, 150, 2_000
Way = Callable[[str], list[str]]


class AtHand(BaseRetriever):
    """A retriever that has its nodes already."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[NodeWithScore] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.nodes


def texts_of(nodes: list[NodeWithScore]) -> list[str]:
    """The texts of nodes."""
    return [node.node.get_content() for node in nodes]


def measure(title: str, ways: dict[str, Way]) -> None:
    """Ask every way in turns, and print medians and ratios to the first one."""
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for question in QUESTIONS * ROUNDS:
        expected: list[str] | None = None
        for name, way in ways.items():
            began = time.thread_time()
            found = way(question)
            cpu[name].append((time.thread_time() - began) * 1e6)
            assert expected in (None, found), name
            expected = found
    print(f"\n{title}: {len(QUESTIONS) * ROUNDS} calls each, k={SIZE}")
    base = statistics.median(cpu[next(iter(ways))])
    for name in ways:
        median = statistics.median(cpu[name])
        print(f"  {name:34}cpu {median:7.0f} us {median / base:5.2f}x")


def ways_of(index: Index, read: Callable[[Any], str], *, stored_nodes: bool) -> dict[str, Way]:
    """The ways to ask one index; `read` gives the text of a match."""
    retriever = ResumableRetriever(index, embedding=True, similarity_top_k=SIZE)
    until = ResumableRetriever(index, embedding=True, until=MaxResults(SIZE))
    store = ResumableVectorStore(index, embedding=True)
    at_hand = AtHand()
    found = {question: retriever.retrieve(question) for question in QUESTIONS}

    def query(question: str) -> list[Any]:
        return list(index.query(data=question, top_k=SIZE, include_metadata=True, include_data=True))

    def rebuilt(question: str) -> list[str]:
        matches = query(question)
        return texts_of([NodeWithScore(node=metadata_dict_to_node(one.metadata), score=one.score) for one in matches])

    def opened(question: str) -> list[str]:
        with retriever.open(question) as search:
            return texts_of(search.fetch_next(SIZE))

    def recalled(question: str) -> list[str]:
        at_hand.nodes = found[question]
        return texts_of(at_hand.retrieve(question))

    ways: dict[str, Way] = {"Index.query": lambda question: [read(match) for match in query(question)]}
    if stored_nodes:
        ways["rows to nodes, by LlamaIndex"] = rebuilt

    def by_store(question: str) -> list[str]:
        nodes = store.query(VectorStoreQuery(query_str=question, similarity_top_k=SIZE)).nodes
        return [node.get_content() for node in nodes or []]

    return ways | {
        "query of the vector store": by_store,
        "retrieve": lambda question: texts_of(retriever.retrieve(question)),
        "retrieve, until=MaxResults(10)": lambda question: texts_of(until.retrieve(question)),
        "open, fetch_next(10)": opened,
        "retrieve, nothing behind it": recalled,
    }


def main() -> None:
    """Measure and print."""
    texts = list(dict.fromkeys(passage.text for passage in islice(standard_library(), RECORDS)))
    with Index.embedded(type="dense", embedding="static") as index:
        records = [Data(f"t{position}", text, {"place": position}) for position, text in enumerate(texts)]
        for first in range(0, len(records), 500):
            index.upsert(records[first : first + 500])
        measure("rows with data", ways_of(index, lambda match: str(match.data), stored_nodes=False))
    with Index.embedded(type="dense", embedding="static") as index:
        nodes = [TextNode(id_=f"t{position}", text=text) for position, text in enumerate(texts)]
        ResumableRetriever(index, embedding=True).insert_nodes(nodes)
        measure("rows with nodes", ways_of(index, lambda match: str(match.data), stored_nodes=True))


if __name__ == "__main__":
    main()
