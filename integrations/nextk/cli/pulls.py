"""Search for one question through each framework's retriever, page by page, with results that can be compared."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextk.client import Index


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One retrieved passage, in a form that both frameworks' results are converted to."""

    id: str
    score: float
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """The results that one framework gave for one question.

    Attributes:
        framework: The name of the framework.
        pages: The rows of each pull.
        seconds: The time that all pulls took together.
    """

    framework: str
    pages: list[list[ResultRow]]
    seconds: float

    @property
    def rows(self) -> list[ResultRow]:
        """All rows in the order in which they were retrieved."""
        return [row for page in self.pages for row in page]


def through_langchain(index: "Index", question: str, sizes: Sequence[int]) -> Trace:
    """Search through the LangChain retriever, whose pages are `Document`s.

    Args:
        index: The index to search.
        question: The text to search for.
        sizes: The number of rows of each pull.
    """
    from nextk.langchain import ResumableRetriever

    retriever = ResumableRetriever(index=index, retrieval_mode="hybrid", weighting="idf", k=sizes[0], score_key="score")
    with retriever.open(question) as search:
        return _trace("LangChain", search.fetch_next, sizes, _from_document)


def through_llama_index(index: "Index", question: str, sizes: Sequence[int]) -> Trace:
    """Search through the LlamaIndex retriever, whose pages are `NodeWithScore`s.

    Args:
        index: The index to search.
        question: The text to search for.
        sizes: The number of rows of each pull.
    """
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
