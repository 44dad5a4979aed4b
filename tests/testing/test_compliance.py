"""Sessions keep their promises over every transport and through every adapter."""

import asyncio
import contextlib
import unittest
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any

import pytest

from nextk import AsyncIndex, Index
from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.sessions import AsyncRetrievalSession, Cursor, RetrievalSession
from nextk.testing import AsyncSessionCompliance, FaultPlan, SessionCompliance
from nextk.testing.server import FaultyServer
from nextk.types import Data
from tests.support.searches import SHAPES, open_async_session, open_session

WORDS = ["sky", "sea", "grass", "snow", "sand", "rain", "cloud", "river"]
QUESTION = "where is the snow?"
SHAPE = SHAPES["hybrid"]
BATCH = SHAPES["hybrid-batch"]
NUMBERED = [f"r{number}" for number in range(9)]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    """A server without faults of its own: the suite has its own at the client's end."""
    with FaultyServer(FaultPlan(), **SHAPE.schema) as server:
        with Index(server.url, server.token) as index:
            index.upsert(SHAPE.records()[: len(NUMBERED)])
        yield server


class Numbered:
    """Rows that are ids."""

    def expected(self) -> Collection[str]:
        """All of them."""
        return NUMBERED


class TestInProcess(Numbered, SessionCompliance):
    """The blocking colour in process."""

    @contextlib.contextmanager
    def index(self) -> Iterator[Index]:
        """An index in memory."""
        with Index.embedded(**SHAPE.schema) as index:
            index.upsert(SHAPE.records()[: len(NUMBERED)])
            yield index

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A search by vectors."""
        return open_session(index, SHAPE.question)

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return open_session(index, SHAPE.question, cursor=cursor)


class TestBatches(Numbered, SessionCompliance):
    """An index that fuses page by page."""

    pages_are_one_query = False

    @contextlib.contextmanager
    def index(self) -> Iterator[Index]:
        """An index in memory."""
        with Index.embedded(**BATCH.schema) as index:
            index.upsert(BATCH.records()[: len(NUMBERED)])
            yield index

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A search by vectors."""
        return open_session(index, BATCH.question)

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return open_session(index, BATCH.question, cursor=cursor)


class TestHttp(Numbered, SessionCompliance):
    """The blocking colour over HTTP."""

    @pytest.fixture(autouse=True)
    def keep_server(self, server: FaultyServer) -> None:
        """Where `index` connects to."""
        self.server = server

    @contextlib.contextmanager
    def index(self) -> Iterator[Index]:
        """A client of the server."""
        with Index(self.server.url, self.server.token) as index:
            yield index

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A search by vectors."""
        return open_session(index, SHAPE.question)

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return open_session(index, SHAPE.question, cursor=cursor)


def test_the_standard_library_runs_it() -> None:
    """Both suites run under unittest alone; without `resume_session` the test of cursors is skipped."""

    class Blocking(Numbered, SessionCompliance, unittest.TestCase):
        index = TestInProcess.index
        open_session = TestInProcess.open_session

    class Asynchronous(Numbered, AsyncSessionCompliance, unittest.IsolatedAsyncioTestCase):
        index = TestAsyncInProcess.index
        open_session = TestAsyncInProcess.open_session

    for suite in (Blocking, Asynchronous):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(suite).run(result)
        assert (9, [], [], 1) == (result.testsRun, result.errors, result.failures, len(result.skipped))


def test_the_blocking_suite_never_waits() -> None:
    """A blocking test that would need an event loop fails and says so."""

    class Waiting(TestInProcess):
        async def _drain(self, *_: Any) -> list[list[str]]:
            await asyncio.sleep(0)
            return []

    with pytest.raises(AssertionError, match="waits for an event loop"):
        Waiting().test_every_row_once()


class TestAsyncInProcess(Numbered, AsyncSessionCompliance):
    """The asynchronous colour in process."""

    @contextlib.asynccontextmanager
    async def index(self) -> AsyncIterator[AsyncIndex]:
        """An index in memory."""
        async with AsyncIndex.embedded(**SHAPE.schema) as index:
            await index.upsert(SHAPE.records()[: len(NUMBERED)])
            yield index

    def open_session(self, index: AsyncIndex) -> AsyncRetrievalSession[Any]:
        """A search by vectors."""
        return open_async_session(index, SHAPE.question)

    def resume_session(self, index: AsyncIndex, cursor: Cursor) -> AsyncRetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return open_async_session(index, SHAPE.question, cursor=cursor)


class TestAsyncHttp(Numbered, AsyncSessionCompliance):
    """The asynchronous colour over HTTP."""

    @pytest.fixture(autouse=True)
    def keep_server(self, server: FaultyServer) -> None:
        """Where `index` connects to."""
        self.server = server

    @contextlib.asynccontextmanager
    async def index(self) -> AsyncIterator[AsyncIndex]:
        """A client of the server."""
        async with AsyncIndex(self.server.url, self.server.token) as index:
            yield index

    def open_session(self, index: AsyncIndex) -> AsyncRetrievalSession[Any]:
        """A search by vectors."""
        return open_async_session(index, SHAPE.question)

    def resume_session(self, index: AsyncIndex, cursor: Cursor) -> AsyncRetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return open_async_session(index, SHAPE.question, cursor=cursor)


class Texts:
    """Rows that are texts, in an index that embeds."""

    def expected(self) -> Collection[str]:
        """A word for each."""
        return WORDS

    @contextlib.contextmanager
    def texts(self) -> Iterator[Index]:
        """An index in memory."""
        with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
            index.upsert([Data(word, f"The {word} is there.") for word in WORDS])
            yield index


class TestLangChain(Texts, SessionCompliance):
    """The sessions of the LangChain retriever."""

    index = Texts.texts

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A search by text."""
        return LangChainRetriever(index=index).open(QUESTION)

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return LangChainRetriever(index=index).resume(cursor)


class TestAsyncLangChain(Texts, AsyncSessionCompliance):
    """The asynchronous sessions of the LangChain retriever."""

    @contextlib.asynccontextmanager
    async def index(self) -> AsyncIterator[AsyncIndex]:
        """The asynchronous client of the index."""
        with self.texts() as index:
            yield index.to_async()

    def open_session(self, index: AsyncIndex) -> AsyncRetrievalSession[Any]:
        """A search by text."""
        return LangChainRetriever(index=index).aopen(QUESTION)

    def resume_session(self, index: AsyncIndex, cursor: Cursor) -> AsyncRetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return LangChainRetriever(index=index).aresume(cursor)


class TestLlamaIndex(Texts, SessionCompliance):
    """The sessions of the LlamaIndex retriever."""

    index = Texts.texts

    def open_session(self, index: Index) -> RetrievalSession[Any]:
        """A search by text."""
        return LlamaIndexRetriever(index=index).open(QUESTION)

    def resume_session(self, index: Index, cursor: Cursor) -> RetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return LlamaIndexRetriever(index=index).resume(cursor)

    def id_of(self, row: Any) -> str:
        """That of its node."""
        return str(row.node.node_id)


class TestAsyncLlamaIndex(Texts, AsyncSessionCompliance):
    """The asynchronous sessions of the LlamaIndex retriever."""

    @contextlib.asynccontextmanager
    async def index(self) -> AsyncIterator[AsyncIndex]:
        """The asynchronous client of the index."""
        with self.texts() as index:
            yield index.to_async()

    def open_session(self, index: AsyncIndex) -> AsyncRetrievalSession[Any]:
        """A search by text."""
        return LlamaIndexRetriever(index=index).aopen(QUESTION)

    def resume_session(self, index: AsyncIndex, cursor: Cursor) -> AsyncRetrievalSession[Any]:
        """Return a search that goes on where the given one stood."""
        return LlamaIndexRetriever(index=index).aresume(cursor)

    def id_of(self, row: Any) -> str:
        """That of its node."""
        return str(row.node.node_id)
