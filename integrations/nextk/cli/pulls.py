"""One question, pulled page by page through each framework's retriever, as rows that can be compared."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nextk.client import Index


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A retrieved passage."""

    id: str
    score: float
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """What one framework got.

    Attributes:
        framework: Its name.
        pages: The rows of each pull; what a pull cost is the length of its page.
        seconds: All pulls together.
    """

    framework: str
    pages: list[list[ResultRow]]
    seconds: float

    @property
    def rows(self) -> list[ResultRow]:
        """All rows in the order in which they came."""
        return [row for page in self.pages for row in page]


def through_langchain(index: Index, question: str, sizes: Sequence[int]) -> Trace:
    """Ask through the LangChain retriever: pages of `Document`."""
    from nextk.langchain import ResumableRetriever

    retriever = ResumableRetriever(index=index, retrieval_mode="hybrid", weighting="idf", k=sizes[0], score_key="score")
    with retriever.open(question) as search:
        return _trace("LangChain", search.fetch_next, sizes, _from_document)


def through_llama_index(index: Index, question: str, sizes: Sequence[int]) -> Trace:
    """Ask through the LlamaIndex retriever: pages of `NodeWithScore`."""
    from nextk.llama_index import ResumableRetriever

    retriever = ResumableRetriever(index=index, retrieval_mode="hybrid", weighting="idf", similarity_top_k=sizes[0])
    with retriever.open(question) as search:
        return _trace("LlamaIndex", search.fetch_next, sizes, _from_node)


def _trace(
    framework: str, fetch_next: Callable[[int], list[Any]], sizes: Sequence[int], read: Callable[[Any], ResultRow]
) -> Trace:
    started = time.perf_counter()
    pages = [[read(item) for item in fetch_next(size)] for size in sizes]
    return Trace(framework, pages, time.perf_counter() - started)


def _from_document(document: Any) -> ResultRow:
    metadata = document.metadata
    return ResultRow(str(document.id), float(metadata["score"]), str(metadata.get("title", "")), document.page_content)


def _from_node(node: Any) -> ResultRow:
    passage = node.node
    title = str(passage.metadata.get("title", ""))
    return ResultRow(str(passage.node_id), float(node.score or 0), title, passage.get_content())
