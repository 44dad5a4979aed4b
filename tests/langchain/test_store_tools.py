"""Agents' tools, compression and chains, each over a LangChain retriever that searches a vector store."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.vectorstores import VectorStore
from langgraph.checkpoint.memory import InMemorySaver

from nextk.langchain import ResumableCompressionRetriever, ResumableRetriever
from nextk.until import Accepted, MaxResults
from tests.support.langchain_agents import Line, agent_of, ask, more, replies, search, thread
from tests.support.langchain_stores import QUESTION, STORES, TEXTS, opened
from tests.support.letter_models import contents

over = ResumableRetriever.from_vectorstore
ELSE = "what else grows there?"


@pytest.fixture(params=["memory", "chroma", "qdrant"])
def store(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    """A store, with ids and without, with relevance scores and without."""
    with opened(request.param) as store:
        yield store


@pytest.fixture(params=["blocking", "asynchronous"])
def run(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """A function that runs an agent in one colour."""

    def called(agent: Any, *arguments: Any) -> dict[str, Any]:
        if request.param == "blocking":
            return agent.invoke(*arguments)  # type: ignore[no-any-return]
        return asyncio.run(agent.ainvoke(*arguments))

    return called


def even(documents: list[Document]) -> list[bool]:
    """Permit every second document."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


def texts_shown(result: dict[str, Any]) -> list[list[str]]:
    """Return the texts of the documents of every message of a tool; a checkpointer makes dicts of documents."""
    documents = [reply.artifact["documents"] for reply in replies(result)]
    return [[one["page_content"] if isinstance(one, dict) else one.page_content for one in page] for page in documents]


class TestAgents:
    """The tools `search` and `more_results`."""

    def test_more_results(self, store: VectorStore, run: Callable[..., dict[str, Any]]) -> None:
        """An agent goes on with its search, page by page, in the order of the store."""
        script: list[Line] = [[search(QUESTION)], [more(QUESTION)], [more(QUESTION)], "done"]
        pages = texts_shown(run(agent_of(script, over(store, k=4)), ask()))
        assert [len(page) for page in pages] == [4, 4, 4]
        assert [text for page in pages for text in page] == contents(store.similarity_search(QUESTION, k=12))

    def test_another_search(self, store: VectorStore, run: Callable[..., dict[str, Any]]) -> None:
        """Another search of the conversation shows no document again, also one without an id or with a score in it."""
        script: list[Line] = [[search(QUESTION)], [search(ELSE)], [more(QUESTION)], "done"]
        pages = texts_shown(run(agent_of(script, over(store, k=25, score_key="score")), ask()))
        assert sorted(text for page in pages for text in page) == sorted(TEXTS)

    def test_other_runs(self, store: VectorStore, run: Callable[..., dict[str, Any]]) -> None:
        """A later run of another retriever goes on from the checkpoint, and a check holds in it."""
        saver = InMemorySaver()
        first: list[Line] = [[search(QUESTION)], "done"]
        second: list[Line] = [*first, [more(QUESTION)], "done"]
        for script in (first, second):
            retriever = over(store, k=4, until=Accepted(4, even))
            result = run(agent_of(script, retriever, checkpointer=saver), ask(), thread())
        found = [text for page in texts_shown(result) for text in page]
        permitted = [each for each in store.similarity_search(QUESTION, k=60) if each.metadata["place"] % 2 == 0]
        assert found == contents(permitted[:8])

    def test_a_filter_for_each_call(self, store: VectorStore, run: Callable[..., dict[str, Any]]) -> None:
        """A filter in the store's own words may come from the run, and holds for the whole search."""
        below = next(kind.below for name, kind in STORES.items() if name in type(store).__module__)
        assert below is not None
        script: list[Line] = [[search(QUESTION)], [more(QUESTION)], "done"]
        agent = agent_of(script, over(store, k=6), per_call=lambda _: {"filter": below(13)})
        found = [text for page in texts_shown(run(agent, ask())) for text in page]
        passing = [each for each in store.similarity_search(QUESTION, k=60) if each.metadata["place"] < 13]
        assert found == contents(passing[:12])


class Odd(BaseDocumentCompressor):
    """Keeps the documents with an odd place."""

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """Return those of them."""
        return [document for document in documents if document.metadata["place"] % 2]


class Backwards(BaseDocumentCompressor):
    """Reranks by the place, the last one first, and writes a score as LangChain's rerankers do."""

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """Return all of them in another order."""
        for document in documents:
            document.metadata["relevance_score"] = document.metadata["place"]
        return sorted(documents, key=lambda document: -document.metadata["place"])


class TestCompression:
    """Compression that refills."""

    async def test_filter(self, store: VectorStore) -> None:
        """It goes on until enough documents have survived the compressor."""
        retriever = ResumableCompressionRetriever(
            base_compressor=Odd(), base_retriever=over(store), min_documents=20, max_pulls=99
        )
        expected = [each for each in store.similarity_search(QUESTION, k=60) if each.metadata["place"] % 2]
        for found in (retriever.invoke(QUESTION), await retriever.ainvoke(QUESTION)):
            assert found[:20] == expected[:20]

    async def test_rerank(self, store: VectorStore) -> None:
        """It goes on until the best documents of a reranker stay the same, and leaves the store's documents alone."""
        retriever = ResumableCompressionRetriever(
            base_compressor=Backwards(), base_retriever=over(store), mode="rerank", min_documents=3, patience=9
        )
        for found in (retriever.invoke(QUESTION), await retriever.ainvoke(QUESTION)):
            assert [document.metadata["place"] for document in found] == [59, 58, 57]
        assert not any("relevance_score" in each.metadata for each in store.similarity_search(QUESTION, k=60))


class Runs(BaseCallbackHandler):
    """Counts the documents of each retriever run."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_retriever_end(self, documents: Sequence[Document], **kwargs: Any) -> None:
        """Note one run."""
        self.counts.append(len(documents))


async def test_traces(store: VectorStore) -> None:
    """Every call on a session is a run of its own, as over an index."""
    runs = Runs()
    with over(store).open(QUESTION, config={"callbacks": [runs]}) as session:
        session.fetch_next(5)
        session.fetch_until(MaxResults(7))
    async with over(store).aopen(QUESTION, config={"callbacks": [runs]}) as session:
        await session.fetch_next(3)
    assert runs.counts == [5, 7, 3]
