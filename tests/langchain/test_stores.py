"""The LangChain retriever over any `VectorStore`: its calls, sessions, filters and cursors, and what it refuses."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from langchain_qdrant import QdrantVectorStore, SparseEmbeddings, SparseVector
from langchain_qdrant import RetrievalMode as QdrantMode

from nextk.errors import ClientError, PolicyMismatch
from nextk.langchain import ResumableRetriever
from nextk.stores import Continuation
from nextk.until import Accepted, DistinctBy, MaxResults, MinScore
from tests.support.langchain_stores import (
    METADATAS,
    QUESTION,
    STORES,
    TEXTS,
    Colour,
    Minimal,
    StoreKind,
    opened,
)
from tests.support.letter_models import loops_to_keep_free

over = ResumableRetriever.from_vectorstore


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    """Each kind of store in turn."""
    return STORES[request.param]


@pytest.fixture
def store(request: pytest.FixtureRequest, kind: StoreKind) -> Iterator[VectorStore]:
    """A store of the kind, with 60 documents."""
    name = next(name for name, each in STORES.items() if each is kind)
    with opened(name) as store:
        yield store


@pytest.fixture(params=["blocking", "asynchronous"])
async def colour(request: pytest.FixtureRequest) -> AsyncIterator[Colour]:
    """Each colour in turn; with the asynchronous one, nothing may block the event loop."""
    asynchronous = request.param == "asynchronous"
    if asynchronous:
        loops_to_keep_free.add(id(asyncio.get_running_loop()))
    yield Colour(asynchronous=asynchronous)
    loops_to_keep_free.clear()


def even(documents: list[Document]) -> list[bool]:
    """Permit every second document."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


def places(documents: list[Document]) -> list[int]:
    """Return the places of documents."""
    return [document.metadata["place"] for document in documents]


async def everything(store: VectorStore) -> list[Document]:
    """Return all documents in the order of the store, asked on a thread."""
    return await asyncio.to_thread(store.similarity_search, QUESTION, k=len(TEXTS))


class TestEveryStore:
    """Promises that hold over every store."""

    async def test_one_call(self, store: VectorStore, colour: Colour) -> None:
        """A call without a policy returns the documents that the store's own search returns, in its order."""
        retriever = over(store, k=6)
        assert await colour.invoke(retriever, QUESTION) == (await everything(store))[:6]
        assert await colour.invoke(retriever, QUESTION, k=9) == (await everything(store))[:9]
        assert len(await colour.invoke(over(store), QUESTION)) == 4

    async def test_each_document_once(self, store: VectorStore, colour: Colour) -> None:
        """A session brings every document once, in the order of the store, whatever the sizes of its pulls."""
        search = colour.open(over(store), QUESTION)
        found = [document for n in (1, 4, 17) for document in await search.fetch_next(n)]
        found += await search.rest()
        assert found == await everything(store)
        report = search.report
        assert (report.exhausted, report.complete, report.limit) == (True, True, None)
        excludes = isinstance(store, QdrantVectorStore)  # whose points can be excluded
        assert report.continuation is (Continuation.EXCLUSION if excludes else Continuation.REFETCH)
        assert bool(report.refetched) is not excludes

    async def test_until(self, store: VectorStore, colour: Colour) -> None:
        """A call with a policy goes on until the policy has enough, and hands out nothing that it drops."""
        expected = [document for document in await everything(store) if document.metadata["place"] % 2 == 0]
        found = await colour.invoke(over(store), QUESTION, until=Accepted(25, even))
        assert found == expected[:25]
        assert found == await colour.invoke(over(store, until=Accepted(25, even)), QUESTION)
        by_kind = await colour.invoke(over(store), QUESTION, until=DistinctBy("kind", 3))
        assert {document.metadata["kind"] for document in by_kind} == {"moss", "fern", "rose"}

    async def test_stream(self, store: VectorStore, colour: Colour) -> None:
        """A stream brings the documents page by page, as a session does."""
        pages = await colour.pages(over(store), QUESTION, k=7, max_results=20)
        assert [len(page) for page in pages] == [7, 7, 6]
        assert [document for page in pages for document in page] == (await everything(store))[:20]

    async def test_scores(self, store: VectorStore, kind: StoreKind, colour: Colour) -> None:
        """A policy of scores works where the store has relevance scores, and is refused in words where it has ranks."""
        retriever = over(store, score_key="nearness")
        if kind.scored:
            scores = [document.metadata["nearness"] for document in await colour.invoke(retriever, QUESTION, k=60)]
            assert scores == sorted(scores, reverse=True)
            threshold = (scores[30] + scores[31]) / 2
            found = await colour.invoke(retriever, QUESTION, until=MinScore(threshold))
            assert len(found) == 31
        else:
            with pytest.raises(ClientError, match="min_score compares scores, and this store gives none"):
                await colour.invoke(retriever, QUESTION, until=MinScore(0.5))

    async def test_filter(self, store: VectorStore, kind: StoreKind, colour: Colour) -> None:
        """A filter in the store's own words holds for one call or for the retriever, and brings all that pass it."""
        if kind.below is None:
            with pytest.raises(ClientError, match="this store takes none"):
                await colour.invoke(over(store), QUESTION, filter={"place": 3})
            return
        expected = [document for document in await everything(store) if document.metadata["place"] < 13]
        for retriever, keywords in (
            (over(store), {"filter": kind.below(13)}),
            (over(store, filter=kind.below(13)), {}),
            (over(store, search_kwargs={"filter": kind.below(13)}), {}),
            (over(store, filter=kind.below(2)), {"filter": kind.below(13)}),
        ):
            assert await colour.invoke(retriever, QUESTION, k=5, **keywords) == expected[:5]
            search = colour.open(retriever, QUESTION, **keywords)
            assert await search.fetch_next(5) + await search.rest() == expected
            assert search.report.complete
        assert len(await colour.invoke(over(store, filter=kind.below(2)), QUESTION, k=9, filter="")) == 9

    async def test_widen(self, store: VectorStore, kind: StoreKind, colour: Colour) -> None:
        """A search goes on through a wider filter, or without one, and brings no document again."""
        if kind.below is None:
            return
        search = colour.open(over(store), QUESTION, filter=kind.below(9))
        found = await search.fetch_next(9)
        await search.call("widen", filter=kind.below(13))
        found += await search.fetch_next(4)
        assert sorted(places(found)) == list(range(13))
        await search.call("widen", filter="")
        cursor = await search.call("cursor")
        found += await search.rest()
        assert sorted(places(found)) == list(range(60))
        assert len(await colour.resume(over(store), cursor).rest()) == 47

    async def test_cursors(self, store: VectorStore, colour: Colour) -> None:
        """Another retriever goes on from a cursor, as often as wanted, with the documents that have not come."""
        search = colour.open(over(store), QUESTION)
        first = await search.fetch_next(11)
        cursor = json.loads(json.dumps(await search.call("cursor")))
        for _ in range(2):
            rest = await colour.resume(over(store), cursor).rest()
            assert first + rest == await everything(store)

    async def test_a_cursor_of_another_filter(self, store: VectorStore, kind: StoreKind, colour: Colour) -> None:
        """A cursor is taken with the filter that it was made with, and with no other one."""
        if kind.below is None:
            return
        search = colour.open(over(store), QUESTION, filter=kind.below(20))
        first = await search.fetch_next(3)
        cursor = await search.call("cursor")
        for other in (None, kind.below(50)):
            with pytest.raises(ClientError, match="filter"):
                colour.resume(over(store), cursor, filter=other)
        rest = await colour.resume(over(store), cursor, filter=kind.below(20)).rest()
        assert sorted(places(first + rest)) == list(range(20))

    async def test_a_cursor_pins_its_policy(self, store: VectorStore, colour: Colour) -> None:
        """A permission check is not lost on the way to another retriever."""
        search = colour.open(over(store), QUESTION, until=Accepted(5, even))
        await search.fetch_until()
        cursor = await search.call("detach")
        with pytest.raises(PolicyMismatch, match="accepted"):
            colour.resume(over(store), cursor)
        resumed = colour.resume(over(store), cursor, until=Accepted(5, even))
        assert all(even(await resumed.fetch_next(9)))

    async def test_writes_in_between(self, store: VectorStore, colour: Colour) -> None:
        """A document that is written during a search costs no other document, and none comes twice."""
        search = colour.open(over(store), QUESTION)
        first = await search.fetch_next(10)
        new = Document("Note 60: ivy in the garden.", metadata={"place": 60, "kind": "ivy"})
        if isinstance(store, Minimal):
            store.documents.insert(0, new)
        else:
            await asyncio.to_thread(store.add_documents, [new])
        found = places(first + await search.rest())
        assert len(found) == len(set(found))
        assert set(range(60)) <= set(found)


@pytest.mark.parametrize("name", ["memory", "chroma", "faiss"])
@pytest.mark.parametrize("rows", [50, 20])
async def test_round_numbers(name: str, rows: int, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
    """A store, or what passes a filter, of as many rows as some stores have for a limit is searched to its end."""
    kind = STORES[name]
    metadatas = [{**metadata, "place": place} for place, metadata in enumerate(METADATAS[:rows])]
    assert kind.below is not None
    with opened(name, TEXTS[:rows], metadatas) as store:
        for given in (None, kind.below(rows)):
            search = colour.open(over(store), QUESTION, filter=given)
            assert rows == len(await search.fetch_next(7) + await search.rest())
            assert (search.report.complete, search.report.limit) == (True, None)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_small_limit() -> None:
    """A store that gives ten documents at most answers a call that needs fewer."""

    class Ten(Minimal):
        def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
            if k > 10:
                message = "k must be <= 10"
                raise ValueError(message)
            return super().similarity_search(query, k, **kwargs)

    store = Ten.from_texts(TEXTS, DeterministicFakeEmbedding(size=4))
    assert 5 == len(over(store).invoke(QUESTION, k=5, until=MaxResults(5)))
    with over(store).open(QUESTION) as search:
        assert 10 == sum(len(search.fetch_next(3)) for _ in range(5))
        assert (search.report.limit, search.report.complete) == (10, False)


class TestQdrant:
    """LangChain's Qdrant store, whose searches go on by exclusion."""

    @pytest.mark.parametrize("mode", list(QdrantMode))
    async def test_modes(self, mode: QdrantMode, colour: Colour) -> None:
        """In each of its modes, every document comes once with the metadata that the store gives it."""
        store = QdrantVectorStore.from_texts(
            [f"note {number} of the sea" for number in range(30)],
            DeterministicFakeEmbedding(size=8),
            ids=list(range(30)),
            sparse_embedding=Letters(),
            retrieval_mode=mode,
            location=":memory:",
        )
        try:
            retriever = over(store, k=5)
            search = colour.open(retriever, QUESTION)
            found = await search.fetch_next(8) + await search.rest()
            expected = await asyncio.to_thread(store.similarity_search, QUESTION, k=30)
            assert sorted(found, key=str) == sorted(expected, key=str)
            if mode is not QdrantMode.HYBRID:
                assert found == expected
            assert await colour.invoke(retriever, QUESTION) == found[:5]
            assert (search.report.continuation, search.report.refetched) == (Continuation.EXCLUSION, 0)
        finally:
            store.client.close()

    async def test_keywords_of_the_store(self, colour: Colour) -> None:
        """With keywords of the store's own searches, the store itself is asked, and rows are fetched again."""
        with opened("qdrant") as store:
            search = colour.open(over(store, search_kwargs={"consistency": None}), QUESTION)
            await search.fetch_next(15)
            await search.fetch_next(15)
            assert search.report.continuation is Continuation.REFETCH


class Letters(SparseEmbeddings):
    """A sparse model: the letters of a text, and how often each stands in it."""

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Embed texts."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> SparseVector:
        """Embed a query."""
        letters = sorted(set(text))
        return SparseVector(
            indices=[ord(each) for each in letters], values=[float(text.count(each)) for each in letters]
        )
