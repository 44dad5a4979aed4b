"""The LangChain retriever over a store: the arguments that it takes and refuses, and stores that behave oddly."""

import asyncio
import copy
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from pydantic import ValidationError
from qdrant_client import QdrantClient

from nextk import Index
from nextk.errors import ClientError, RefusedError
from nextk.langchain import ResumableRetriever
from nextk.langchain.store_source import VectorStoreSource
from nextk.sessions import SearchQuery
from nextk.stores import RefetchSource, ScoreKind
from nextk.types import QueryResult
from nextk.until import Accepted, MaxResults, MinScore
from tests.support.langchain_stores import (
    METADATAS,
    QUESTION,
    STORES,
    TEXTS,
    Colour,
    Minimal,
    Scattered,
    faiss,
    opened,
)
from tests.support.letter_models import Initials, contents

over = ResumableRetriever.from_vectorstore


@pytest.fixture(params=["blocking", "asynchronous"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Each colour in turn."""
    return Colour(asynchronous=request.param == "asynchronous")


@pytest.fixture
def memory() -> InMemoryVectorStore:
    """A store in memory."""
    return InMemoryVectorStore.from_texts(TEXTS, Scattered(), METADATAS)


@pytest.fixture
async def chroma() -> AsyncIterator[Chroma]:
    """Chroma in this process."""
    with opened("chroma") as store:
        assert isinstance(store, Chroma)
        yield store


def even(documents: list[Document]) -> list[bool]:
    """Permit every second document."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


def places(documents: list[Document]) -> list[int]:
    """Return the places of documents."""
    return [document.metadata["place"] for document in documents]


def by_id(match: QueryResult) -> Document:
    """Return a document of its id alone."""
    return Document("", id=match.id)


class Notes(RefetchSource):
    """A source of one's own, without documents of LangChain's, without scores and without filters."""

    identity = "notes"
    scores = ScoreKind.RANKS
    filters = False

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Return the first notes; every third one has no text."""
        texts = [None if place % 3 == 2 else f"note {place}" for place in range(30)]
        own = {"text": "own"}
        rows = [QueryResult(f"n{place}", 1 / (1 + place), None, own, text) for place, text in enumerate(texts)]
        return rows[:count]


class TestSourceField:
    """A source of one's own in the place of an index."""

    async def test_documents(self, colour: Colour) -> None:
        """The rows of a source become documents with their text, metadata and ids; those without text are left out."""
        retriever = ResumableRetriever(source=Notes(), k=5, score_key="score")
        found = await colour.invoke(retriever, QUESTION)
        assert [document.id for document in found] == ["n0", "n1", "n3", "n4"]
        assert found[1] == Document("note 1", id="n1", metadata={"text": "own", "score": 1 / 2})
        assert len(await colour.open(retriever, QUESTION).rest()) == 20

    async def test_a_source_with_modes(self, colour: Colour) -> None:
        """A source that takes retrieval modes is given the vectors of the retriever's models, or the text."""

        class Modes(Notes):
            modes = True
            asked: ClassVar[list[SearchQuery]] = []

            def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
                self.asked.append(query)
                return super().query(query, count)

        models = {"embedding": Scattered(), "sparse_embedding": Initials()}
        for fields in ({}, {"retrieval_mode": "sparse", **models}, {"fusion": "dbsf", **models}):
            await colour.invoke(ResumableRetriever(source=Modes(), **fields), QUESTION)  # type: ignore[arg-type]
        text, sparse, both = Modes.asked
        assert (text.data, text.mode) == (QUESTION, None)
        assert (sparse.mode, sparse.vector, sparse.sparse_vector is None) == ("sparse", None, False)
        assert (both.mode, both.vector) == ("hybrid", Scattered().embed_query(QUESTION))

    def test_what_is_no_source(self, memory: InMemoryVectorStore) -> None:
        """A store in the place of a source is told where it goes."""
        with pytest.raises(ClientError, match=r"Source of nextk.stores: .*from_vectorstore\(store\)"):
            ResumableRetriever(source=memory)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [
            ({"url": "http://127.0.0.1"}, "url='http://127.0.0.1' is for an index, .*: a retriever searches one place"),
            ({"token": "t"}, "token=.* one place, .*; leave token= out"),
            ({"namespace": "n"}, "namespace='n' .* a store, and a retriever, for each"),
            ({"embedding": True}, "embedding=True .* the store embeds by itself"),
            ({"embedding": Scattered()}, "embedding=an object of the type Scattered .* the store embeds by itself"),
            ({"sparse_embedding": Initials()}, "sparse_embedding=.* the store embeds"),
            ({"retrieval_mode": "dense"}, "retrieval_mode='dense' .* ranks by itself"),
            ({"fusion": "rrf"}, "fusion='rrf' .* ranks by itself"),
            ({"weighting": "idf"}, "weighting='idf' .* ranks by itself"),
            ({"text_key": "body"}, "text_key='body' .* as the store holds them"),
            ({"document_mapper": by_id}, "document_mapper=.* score_key= adds the score"),
        ],
        ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
    )
    def test_fields_of_an_index(self, memory: InMemoryVectorStore, fields: dict[str, Any], complaint: str) -> None:
        """An argument that only an index takes is refused by name, and the message says what holds instead."""
        with pytest.raises(ClientError, match=complaint):
            over(memory, **fields)

    def test_index_as_well(self, memory: InMemoryVectorStore) -> None:
        """A retriever over a store takes no index besides."""
        with Index.embedded(type="sparse") as index, pytest.raises(ClientError, match=r"index=.* one place"):
            over(memory, index=index)

    async def test_a_call_with_a_namespace(self, memory: InMemoryVectorStore, colour: Colour) -> None:
        """A namespace is refused for one call as well."""
        with pytest.raises(ClientError, match="namespace='n' is for an index"):
            await colour.invoke(over(memory), QUESTION, namespace="n")

    async def test_writing(self, memory: InMemoryVectorStore) -> None:
        """Methods that write say that one writes to the store itself."""
        retriever = over(memory)
        calls: list[Callable[[], Any]] = [
            lambda: retriever.add_texts(["new"]),
            lambda: retriever.add_documents([Document("new")]),
            lambda: retriever.delete(["a"]),
        ]
        for call in calls:
            with pytest.raises(ClientError, match=r"only reads VectorStoreSource\(.*\): write to the store itself"):
                call()
        for awaitable in (
            retriever.aadd_texts(["new"]),
            retriever.aadd_documents([Document("new")]),
            retriever.adelete("a"),
        ):
            with pytest.raises(ClientError, match="write to the store itself"):
                await awaitable
        with pytest.raises(ClientError, match="from_texts makes an index of its own, so source="):
            ResumableRetriever.from_texts(["new"], source=retriever.source)

    async def test_closing(self, chroma: Chroma) -> None:
        """Closing a retriever leaves the store open, which belongs to its owner."""
        with over(chroma, k=3) as retriever:
            pass
        async with retriever:
            pass
        assert len(retriever.invoke(QUESTION)) == 3


async def test_more_than_a_thousand(colour: Colour) -> None:
    """A `k` above a thousand brings so many documents of a store."""
    store = Minimal([f"text {place}" for place in range(1_300)], [{} for _ in range(1_300)])
    assert await colour.invoke(over(store, k=1_200), QUESTION) == store.documents[:1_200]


class TestRunnable:
    """A retriever over a store as a runnable."""

    async def test_copies(self, chroma: Chroma) -> None:
        """Copies search the same store, each by its own settings."""
        retriever = over(chroma, k=3, until=None)
        for other in (copy.deepcopy(retriever), retriever.model_copy(update={"k": 5})):
            assert other.source is retriever.source
            assert contents(other.invoke(QUESTION))[:3] == contents(retriever.invoke(QUESTION))

    async def test_configurable_fields(self, chroma: Chroma) -> None:
        """Fields may be left to the config of each call, the filter among them."""
        retriever: Any = over(chroma, k=9).configurable_fields(
            k=ConfigurableField(id="k"), filter=ConfigurableField(id="filter")
        )
        chosen = {"configurable": {"k": 3, "filter": {"place": {"$lt": 9}}}}
        expected = over(chroma).invoke(QUESTION, k=3, filter={"place": {"$lt": 9}})
        assert retriever.invoke(QUESTION, chosen) == await retriever.ainvoke(QUESTION, chosen) == expected
        assert retriever.batch([QUESTION] * 3, chosen) == await retriever.abatch([QUESTION] * 3, chosen)

    def test_pickle(self, memory: InMemoryVectorStore, chroma: Chroma) -> None:
        """A retriever is pickled with its store if the store can be; if not, an error says what to do."""
        retriever = over(memory, k=7, until=Accepted(5, even))
        other = pickle.loads(pickle.dumps(retriever))  # noqa: S301 - our own
        assert other.invoke(QUESTION) == retriever.invoke(QUESTION)
        with pytest.raises(ClientError, match="is tied to this process, so that this retriever cannot be pickled"):
            pickle.dumps(over(chroma))

    def test_traces(self, chroma: Chroma) -> None:
        """Traces name the store and its model, as LangChain's own retriever over it does."""
        own, theirs = over(chroma)._get_ls_params(), chroma.as_retriever()._get_ls_params()
        names = ("ls_vector_store_provider", "ls_embedding_provider")
        assert [own.get(name) for name in names] == [theirs.get(name) for name in names] == ["Chroma", "Scattered"]


class TestFromVectorstore:
    """The arguments of `from_vectorstore`."""

    @pytest.mark.parametrize(
        ("keywords", "complaint"),
        [
            ({"score_threshold": 0.5}, r"'score_threshold': give until=MinScore\(0.8\)"),
            ({"search_type": "mmr"}, "'search_type': .* there is no MMR"),
            ({"lambda_mult": 0.5}, "'lambda_mult': there is no MMR"),
            ({"query": "q"}, "'query', which each query"),
        ],
        ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
    )
    def test_other_searches(self, memory: InMemoryVectorStore, keywords: dict[str, Any], complaint: str) -> None:
        """Keywords of another kind of search are refused, with what to give instead."""
        with pytest.raises(ClientError, match=complaint):
            over(memory, search_kwargs=keywords)

    def test_misplaced(self, memory: InMemoryVectorStore) -> None:
        """An argument is refused that is given twice, is of the wrong kind, or has an unknown name."""
        for arguments, complaint in (
            ({"k": 3, "search_kwargs": {"k": 3}}, "k= is given, and search_kwargs has 'k' as well"),
            ({"filter": "a", "search_kwargs": {"filter": "b"}}, "filter= is given, and search_kwargs"),
            ({"search_kwargs": [("k", 3)]}, "search_kwargs=.* has to be a dict"),
            ({"key": 3}, "key=3 has to be the name of a metadata key, or a function"),
            ({"key": ""}, "key='' has to be"),
            ({"store_id": 7}, "store_id=7 has to be a text"),
        ):
            with pytest.raises(ClientError, match=complaint):
                over(memory, **arguments)
        with pytest.raises(ValidationError, match=r"unknown argument 'search_type' \(a threshold is until=MinScore"):
            over(memory, search_type="mmr")

    def test_what_is_no_store(self, memory: InMemoryVectorStore) -> None:
        """An object that is no store is refused, and the message says what to give instead."""
        for given, complaint in (
            (memory.as_retriever(), "but a retriever over one: give its vectorstore"),
            ([Document("text")], "but documents: give them to ResumableRetriever.from_documents"),
            ("notes", "str is no LangChain VectorStore, .*: give a store"),
            (Scattered(), "Scattered is no LangChain VectorStore"),
        ):
            with pytest.raises(ClientError, match=complaint):
                over(given)

    def test_upstash(self) -> None:
        """Upstash's own store is read as an index, which takes no arguments of other stores."""
        with Index.embedded(embedding="static", type="dense") as index:
            store = type("Similar", (), {"_text_key": "text", "_namespace": "", "_embeddings": None, "_index": index})()
            retriever = over(store, search_kwargs={"k": 7, "filter": "a = 1"})
            assert (retriever.index, retriever.source, retriever.k, retriever.filter) == (index, None, 7, "a = 1")
            for name, value in (("search_kwargs", {"fetch_k": 9}), ("key", "url"), ("store_id", "notes")):
                with pytest.raises(ClientError, match=f"{name}= is for other stores"):
                    over(store, **{name: value})  # type: ignore[arg-type]

    async def test_further_keywords(self, chroma: Chroma, colour: Colour) -> None:
        """Keywords of the store's own reach each of its searches."""
        retriever = over(chroma, search_kwargs={"k": 60, "where_document": {"$contains": "rose"}})
        assert len(await colour.invoke(retriever, QUESTION)) == 20
        assert len(await colour.open(retriever, QUESTION).rest()) == 20


class TestIdentity:
    """Which store a cursor belongs to."""

    async def test_names(self, memory: InMemoryVectorStore, chroma: Chroma) -> None:
        """A store is named by its class and collection, or by `store_id`, and no server is asked."""
        assert VectorStoreSource(chroma).identity == f"langchain_chroma.vectorstores.Chroma:{chroma._collection_name}"
        name = "langchain_core.vectorstores.in_memory.InMemoryVectorStore"
        assert VectorStoreSource(memory).identity == name
        assert VectorStoreSource(memory, store_id="notes").identity == "notes"

    async def test_another_collection(self, chroma: Chroma, colour: Colour) -> None:
        """A cursor is refused by a store of another name, and by another `store_id`."""
        with opened("chroma") as other:
            for first, second in (({}, {}), ({"store_id": "a"}, {"store_id": "b"})):
                search = colour.open(over(chroma, **first), QUESTION)  # type: ignore[arg-type]
                await search.fetch_next(3)
                cursor = await search.call("cursor")
                with pytest.raises(ClientError, match="index"):
                    colour.resume(over(other, **second), cursor)  # type: ignore[arg-type]


class Tagged(Minimal):
    """A store whose filter keeps documents of one kind, by whatever keyword it comes."""

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return documents, of the kind that the filter names."""
        kept = [each for each in self.documents if each.metadata["kind"] == kwargs.get("filter", each.metadata["kind"])]
        return kept[:k]


class Windowed(Minimal):
    """A store that filters only the nearest `fetch_k` documents."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.windows: list[int] = []

    def similarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, filter: Any = None, fetch_k: int = 20
    ) -> list[Document]:
        """Return the first documents of the window that pass."""
        self.windows.append(fetch_k)
        return [each for each in self.documents[:fetch_k] if filter is None or filter(each)][:k]


class TestWindows:
    """Stores that filter the nearest rows alone, as FAISS does."""

    async def test_a_selective_filter(self, colour: Colour) -> None:
        """A filter that few documents pass finds all of them, however far they are."""
        store = faiss([f"text {place}" for place in range(500)], [{"rare": place % 100 == 0} for place in range(500)])
        with_few = over(store, k=5, filter={"rare": True})
        assert len(store.similarity_search(QUESTION, 5, filter={"rare": True})) < 5
        assert len(await colour.invoke(with_few, QUESTION)) == 5
        assert len(await colour.open(with_few, QUESTION).rest()) == 5

    async def test_a_fixed_window(self, colour: Colour) -> None:
        """A `fetch_k` of the user's own is kept, and the report says that there may be more behind it."""
        store = faiss(TEXTS, METADATAS)
        retriever = over(store, search_kwargs={"fetch_k": 30}, filter={"place": {"$lt": 33}})
        search = colour.open(retriever, QUESTION)
        found = await search.rest()
        expected = [each for each in store.similarity_search(QUESTION, 30) if each.metadata["place"] < 33]
        assert found == expected
        assert (search.report.limit, search.report.complete) == (len(found), False)
        whole = colour.open(over(store, search_kwargs={"fetch_k": 60}, filter={"place": {"$lt": 33}}), QUESTION)
        assert len(await whole.rest()) == 33
        assert (whole.report.limit, whole.report.complete) == (None, True)

    async def test_an_unknown_size(self, colour: Colour) -> None:
        """A store that hides its size filters up to 10,000 documents, and the report says that more may be there."""
        store = Windowed([f"text {place}" for place in range(400)], [{"place": place} for place in range(400)])
        search = colour.open(over(store, filter=lambda document: document.metadata["place"] % 100 == 0), QUESTION)
        assert places(await search.rest()) == [0, 100, 200, 300]
        assert max(store.windows) == 10_000
        assert (search.report.limit, search.report.complete) == (4, False)

    async def test_a_window_without_a_filter(self, colour: Colour) -> None:
        """Without a filter, the window is as large as the number of documents that are wanted."""
        store = Windowed(TEXTS, METADATAS)
        assert len(await colour.invoke(over(store), QUESTION, k=15)) == 15
        assert len(await colour.invoke(over(store), QUESTION, k=50)) == 50
        assert store.windows == [20, 50]

    async def test_only_the_plain_search_grows(self) -> None:
        """A store of which only the plain search takes `fetch_k` is searched by that one, and has ranks."""

        class Scored(Windowed):
            def _similarity_search_with_relevance_scores(self, query: str, k: int = 4) -> list[Any]:  # type: ignore[override]
                raise AssertionError

        assert VectorStoreSource(Scored()).traits.scores is ScoreKind.RANKS
        assert len(over(Scored(TEXTS, METADATAS)).invoke(QUESTION, k=50)) == 50

    async def test_an_unnamed_filter(self, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
        """A store that takes any keyword is given the filter, and the log says once that the store does not name it."""
        retriever = over(Tagged(TEXTS, METADATAS), filter="fern")
        with caplog.at_level(logging.WARNING, "nextk.langchain"):
            assert len(await colour.open(retriever, QUESTION).rest()) == 20
        assert [record.message for record in caplog.records if record.name == "nextk.langchain"] == [
            "Tagged names no filter among the arguments of its searches: make sure that it heeds filter="
        ]


class TestScores:
    """Which scores count as nearness."""

    async def test_fused(self) -> None:
        """A store that fuses two searches, or searches sparse vectors, has ranks, although it has a distance."""
        for mode in (RetrievalMode.HYBRID, RetrievalMode.SPARSE):
            client = QdrantClient(":memory:")
            store = QdrantVectorStore(
                client,
                "notes",
                Scattered(),
                retrieval_mode=mode,
                sparse_embedding=Initials(),  # type: ignore[arg-type]
                validate_collection_config=False,
                validate_embeddings=False,
            )
            assert VectorStoreSource(store).traits.scores is ScoreKind.RANKS
            client.close()

    async def test_a_search_of_its_own(self, colour: Colour) -> None:
        """A store that only has a blocking search with relevance scores runs on a thread, and its scores count."""

        class Scored(Minimal):
            def _similarity_search_with_relevance_scores(
                self, query: str, k: int = 4, **kwargs: Any
            ) -> list[tuple[Document, float]]:
                return [(document, 1 - place / 100) for place, document in enumerate(self.documents[:k])]

        retriever = over(Scored(TEXTS, METADATAS), until=MinScore(0.905))
        assert contents(await colour.invoke(retriever, QUESTION)) == TEXTS[:10]

    def test_a_distance_without_relevance(self) -> None:
        """A store that has no relevance function for its distance has ranks."""
        store = faiss(TEXTS, METADATAS)
        store.distance_strategy = "jaccard"  # type: ignore[assignment]
        with pytest.raises(ValueError, match="Unknown distance strategy"):
            store._select_relevance_score_fn()
        source = VectorStoreSource(store)
        assert source.traits.scores is ScoreKind.RANKS


class Odd(Minimal):
    """A store that answers as it is told, whatever it is asked for."""

    answer: Any = None

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> Any:
        """Return the answer, or raise it."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return super().similarity_search(query, k) if self.answer is None else self.answer

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> Any:
        """Refuse, as stores do that have no asynchronous methods."""
        raise NotImplementedError


class TestOddStores:
    """Stores and documents that are not as one expects."""

    async def test_raising(self, colour: Colour) -> None:
        """An exception of the store reaches the caller unchanged and decides nothing; the next call goes on."""
        store = Odd(TEXTS, METADATAS)
        search = colour.open(over(store), QUESTION)
        found = await search.fetch_next(10)
        store.answer = RuntimeError("inside the store")
        with pytest.raises(RuntimeError, match="inside the store"):
            await search.fetch_next(30)
        store.answer = None
        assert found + await search.rest() == store.documents

    @pytest.mark.parametrize("answer", [None, "text", [("text", 0.5)], ["text"], {"documents": []}], ids=repr)
    async def test_no_documents(self, colour: Colour, answer: Any) -> None:
        """An answer that holds something else than documents is refused, naming the method and the store."""
        store = Odd(TEXTS, METADATAS)
        store.answer = answer if answer is not None else 7
        with pytest.raises(ClientError, match=r"similarity_search of Odd has returned .* a list of documents"):
            await colour.invoke(over(store), QUESTION)

    async def test_more_than_asked_for(self, colour: Colour) -> None:
        """A store that returns more documents than asked for loses none of them."""
        store = Odd(TEXTS, METADATAS)
        store.answer = store.documents
        assert len(await colour.invoke(over(store, k=5), QUESTION)) == 5
        assert await colour.open(over(store), QUESTION).rest() == store.documents

    async def test_bare_documents(self, colour: Colour) -> None:
        """Documents without metadata and with an empty text are handed out as they are, and with a score as copies."""
        bare = Document("", id="bare")
        bare.metadata = None  # type: ignore[assignment]
        store = Odd(["one"], [{"place": 1}])
        store.documents.append(bare)
        assert await colour.open(over(store), QUESTION).rest() == store.documents
        scored = await colour.invoke(over(store, score_key="score"), QUESTION)
        assert [document.metadata for document in scored] == [{"place": 1, "score": 1.0}, {"score": 0.5}]
        assert [document.metadata for document in store.documents] == [{"place": 1}, None]
        with pytest.raises(ClientError, match="score_key='place' is a key of document"):
            await colour.invoke(over(store, score_key="place"), QUESTION)

    async def test_twins(self, colour: Colour) -> None:
        """Of documents without ids that are equal, one is handed out; a key tells others apart."""
        store = Minimal(["same", "same", "same"], [{"url": "a"}, {"url": "a"}, {"url": "b"}])
        assert len(await colour.open(over(store), QUESTION).rest()) == 2
        keys: list[Any] = ["url", lambda document: document.metadata["url"]]
        for key in keys:
            assert len(await colour.open(over(store, key=key), QUESTION).rest()) == 2
        with pytest.raises(ClientError, match="names nothing in its metadata"):
            await colour.invoke(over(store, key="isbn"), QUESTION)

    async def test_a_removed_collection(self, chroma: Chroma, colour: Colour) -> None:
        """The error of a store whose collection was removed during a search reaches the caller at each call."""
        search = colour.open(over(chroma), QUESTION)
        found = await search.fetch_next(15)
        chroma.delete_collection()
        for _ in range(2):
            with pytest.raises(ValueError, match="Chroma collection not initialized"):
                await search.fetch_next(30)
        assert len(found) == 15

    async def test_removed_documents(self, chroma: Chroma, colour: Colour) -> None:
        """Documents that are removed during a search cost no other document, and none comes twice."""
        search = colour.open(over(chroma), QUESTION)
        found = await search.fetch_next(10)
        await asyncio.to_thread(chroma.delete, [f"c{place}" for place in range(30)])
        found += await search.rest()
        ids = [document.id for document in found]
        assert len(ids) == len(set(ids))
        assert {f"c{place}" for place in range(30, 60)} <= set(ids)

    async def test_a_closed_client(self, colour: Colour) -> None:
        """A client that was closed meanwhile is a refusal in words."""
        with opened("qdrant") as store:
            assert isinstance(store, QdrantVectorStore)
            search = colour.open(over(store), QUESTION)
            await search.fetch_next(15)
            store.client.close()
            with pytest.raises(RefusedError, match="closed"):
                await search.fetch_next(30)

    async def test_a_refused_filter(self, chroma: Chroma, colour: Colour) -> None:
        """The error with which a store refuses a filter reaches the caller."""
        with pytest.raises(ValueError, match=r"\$nonsense"):
            await colour.invoke(over(chroma), QUESTION, filter={"place": {"$nonsense": 3}})

    async def test_empty_filters(self, chroma: Chroma, colour: Colour) -> None:
        """An empty dict is no filter, also where the store would refuse it."""
        assert len(await colour.invoke(over(chroma, filter={}), QUESTION, until=MaxResults(9))) == 9

    def test_the_query_has_to_be_text(self, memory: InMemoryVectorStore) -> None:
        """A query by vectors is refused: the store embeds."""
        with pytest.raises(ClientError, match="searched by text"):
            VectorStoreSource(memory).query(SearchQuery(vector=[1.0]), 3)


def test_every_kind_is_tried() -> None:
    """There are stores with and without relevance scores, ids and filters."""
    kinds = STORES.values()
    assert [2, 2, 2] == [
        len(set(answers)) for answers in zip(*((k.scored, k.ids, bool(k.below)) for k in kinds), strict=True)
    ]
