"""The LangChain vector store: its searches, what it writes and removes, and the retrievers that it makes."""

import datetime as dt
import gc
import inspect
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from nextk import Index
from nextk.arguments import choose_or_none
from nextk.errors import ClientError, RefusedError
from nextk.langchain import ResumableRetriever, ResumableVectorStore
from nextk.types import QueryMode, WeightingStrategy
from nextk.until import MaxResults, MinScore
from tests.support.letter_models import Letters, contents
from tests.support.sentence_index import QUESTION, TEXTS
from tests.support.transports import Opener
from tests.support.vector_stores import KINDS, SPARSE_KINDS, Colour, colour_of, models_of, store_over, stored

METADATAS: list[dict[str, Any]] = [{"place": position, "even": position % 2 == 0} for position in range(len(TEXTS))]
IDS = [f"t{position}" for position in range(len(TEXTS))]

Maker = Callable[..., ResumableVectorStore]


@pytest.fixture
def call(open_index: Opener) -> Colour:
    """Calls a method of a store in the colour of the transport."""
    return colour_of(open_index)


@pytest.fixture
def make(open_index: Opener) -> Maker:
    """Makes a store over an index of a kind that holds the sentences."""

    def made(kind: str, texts: list[str] = TEXTS, **keywords: Any) -> ResumableVectorStore:
        store = store_over(open_index, kind, **keywords)
        store.add_texts(texts, METADATAS[: len(texts)], ids=IDS[: len(texts)])
        return store

    return made


def by_index(store: ResumableVectorStore, question: str, **keywords: Any) -> list[tuple[str, float]]:
    """Return ids and scores as the index itself gives them for a text, in the store's own mode."""
    embedding, sparse = store.retriever_settings()["embedding"], store.retriever_settings()["sparse_embedding"]
    if embedding is True:
        weighting = choose_or_none(WeightingStrategy, store.index.info().weighting or "none", "weighting")
        found = store.index.query(data=question, weighting_strategy=weighting, **keywords)
    else:
        vector = None if embedding is None else embedding.embed_query(question)
        sparse_vector = None if sparse is None else sparse.embed_query(question)
        found = store.index.query(vector=vector, sparse_vector=sparse_vector, **keywords)
    return [(match.id, match.score) for match in found]


class TestSimilaritySearch:
    """Searching by a text."""

    @pytest.mark.parametrize("kind", KINDS + SPARSE_KINDS)
    async def test_it_is_the_query_of_the_index(self, call: Colour, make: Maker, kind: str) -> None:
        """The documents, their order and their scores are those of the index."""
        store = make(kind)
        expected = by_index(store, QUESTION, top_k=7)
        scored = await call(store, "similarity_search_with_score", QUESTION, k=7)
        assert expected == [(document.id, score) for document, score in scored]
        found = await call(store, "similarity_search", QUESTION, 7)
        assert [document for document, _ in scored] == found
        for document in found:
            position = IDS.index(document.id)
            assert (TEXTS[position], METADATAS[position]) == (document.page_content, document.metadata)

    @pytest.mark.parametrize("kind", KINDS)
    async def test_it_returns_4_by_default(self, call: Colour, make: Maker, kind: str) -> None:
        """Without `k` there are 4 documents, as from every store of LangChain's."""
        assert 4 == len(await call(make(kind), "similarity_search", QUESTION))

    @pytest.mark.parametrize("filter", [{"place": {"$lt": 9}, "even": True}, "place < 9 AND even = true"])
    @pytest.mark.parametrize("kind", KINDS + SPARSE_KINDS)
    async def test_filter(self, call: Colour, make: Maker, kind: str, filter: Any) -> None:
        """A dict and a text filter alike, by position as by name."""
        store = make(kind)
        found = await call(store, "similarity_search", QUESTION, 50, filter)
        assert found == await call(store, "similarity_search", QUESTION, k=50, filter=filter)
        assert {document.metadata["place"] for document in found} <= {0, 2, 4, 6, 8}
        assert found
        if not kind.startswith("sparse"):
            assert 5 == len(found)

    async def test_namespace(self, call: Colour, make: Maker) -> None:
        """Each call may name a namespace; without a name it is the store's own."""
        store = make("dense-models", namespace="a")
        await call(store, "add_texts", ["elsewhere"], namespace="b")
        assert ["elsewhere"] == contents(await call(store, "similarity_search", "e", namespace="b"))
        assert "elsewhere" not in contents(await call(store, "similarity_search", "e", k=100))
        assert [] == await call(store, "similarity_search", "e", namespace="c")

    async def test_more_than_one_query_brings(self, call: Colour, open_index: Opener) -> None:
        """Above 1,000 documents the search goes on page by page, with scores and without, by text and by vector."""
        store = store_over(open_index, "dense-models")
        texts = [f"{'e' * (position % 7)}{'s' * (position % 11)} {position}" for position in range(1_203)]
        store.add_texts(texts, ids=map(str, range(len(texts))), batch_size=5_000)
        found = await call(store, "similarity_search", "ese", k=1_150)
        assert 1_150 == len({document.id for document in found})
        scored = await call(store, "similarity_search_with_score", "ese", k=5_000)
        assert set(map(str, range(1_203))) == {document.id for document, _ in scored}
        assert sorted((score for _, score in scored), reverse=True) == [score for _, score in scored]
        assert found == [document for document, _ in scored[:1_150]]
        vector = Letters().embed_query("ese")
        assert found == await call(store, "similarity_search_by_vector", vector, k=1_150)

    @pytest.mark.parametrize("k", [0, -1, 1.5, "5", None])
    @pytest.mark.parametrize("name", ["similarity_search", "similarity_search_with_score"])
    async def test_a_wrong_k(self, call: Colour, make: Maker, name: str, k: Any) -> None:
        """It is refused before anything is asked."""
        with pytest.raises(ClientError, match="k"):
            await call(make("dense-models"), name, QUESTION, k=k)

    @pytest.mark.parametrize("query", ["", "  ", None, 7])
    async def test_no_query(self, call: Colour, make: Maker, query: Any) -> None:
        """A query without words is refused."""
        with pytest.raises(ClientError, match="question"):
            await call(make("hybrid-index"), "similarity_search", query)


class TestByVector:
    """Searching by a vector of the caller's."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_it_searches_dense_vectors(self, call: Colour, make: Maker, kind: str) -> None:
        """Whatever mode the store has, the vector is compared with the dense vectors."""
        store = make(kind)
        vector = [float(number) for number in range(1, (store.index.info().dimension or 0) + 1)]
        matches = store.index.query(vector=vector, top_k=6)
        expected = [(match.id, match.score) for match in matches]
        scored = await call(store, "similarity_search_by_vector_with_score", vector, k=6)
        assert expected == [(document.id, score) for document, score in scored]
        found = await call(store, "similarity_search_by_vector", np.array(vector), k=6, filter={"even": True})
        assert found
        assert all(document.metadata["even"] for document in found)

    @pytest.mark.parametrize("vector", ["abc", [1.0, "x"], None, {"a": 1}])
    async def test_no_vector(self, call: Colour, make: Maker, vector: Any) -> None:
        """A value that is no list of numbers is refused, by the name of the argument."""
        with pytest.raises(ClientError, match="embedding"):
            await call(make("dense-models"), "similarity_search_by_vector", vector)


class TestRelevanceScores:
    """Scores between 0 and 1, and thresholds."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_they_are_those_of_dense_vectors(self, call: Colour, make: Maker, kind: str) -> None:
        """Over a hybrid index they make a search of its dense half, so that a threshold means nearness."""
        store = make(kind)
        embedding = store.retriever_settings()["embedding"]
        query: dict[str, Any] = {"data": QUESTION, "query_mode": QueryMode.DENSE}
        if embedding is not True:
            query = {"vector": embedding.embed_query(QUESTION)}
        expected = [(match.id, match.score) for match in store.index.query(top_k=20, **query)]
        name = "similarity_search_with_relevance_scores"
        scored = await call(store, name, QUESTION, k=20)
        assert expected == [(document.id, score) for document, score in scored]
        assert all(0 <= score <= 1 for _, score in scored)
        threshold = scored[9][1]
        above = await call(store, name, QUESTION, k=20, score_threshold=threshold)
        assert [pair for pair in scored if pair[1] >= threshold] == above

    @pytest.mark.parametrize("kind", SPARSE_KINDS)
    async def test_there_are_none_of_sparse_vectors(self, call: Colour, make: Maker, kind: str) -> None:
        """Scores without a bound are not passed off as relevance: the message says what to call."""
        with pytest.raises(ClientError, match="similarity_search_with_score"):
            await call(make(kind), "similarity_search_with_relevance_scores", QUESTION)

    async def test_search(self, call: Colour, make: Maker) -> None:
        """LangChain's `search` knows its three kinds of search."""
        store = make("hybrid-models")
        assert await call(store, "similarity_search", QUESTION) == await call(store, "search", QUESTION, "similarity")
        found = await call(store, "search", QUESTION, "similarity_score_threshold", score_threshold=0.5)
        scored = await call(store, "similarity_search_with_relevance_scores", QUESTION, score_threshold=0.5)
        assert [document for document, _ in scored] == found
        expected = await call(store, "max_marginal_relevance_search", QUESTION, k=3)
        assert expected == await call(store, "search", QUESTION, "mmr", k=3)


class TestMarginalRelevance:
    """Searching for documents that differ from each other."""

    @pytest.mark.parametrize("lambda_mult", [0, 0.3, 1.0])
    @pytest.mark.parametrize("kind", ["dense-models", "hybrid-models"])
    async def test_it_is_langchains(self, call: Colour, make: Maker, kind: str, lambda_mult: float) -> None:
        """The documents are those that LangChain's own function chooses among the nearest ones."""
        store, question = make(kind), Letters().embed_query(QUESTION)
        candidates = store.index.query(vector=question, top_k=15, filter="even = true", include_vectors=True)
        vectors = [match.vector or [] for match in candidates]
        chosen = maximal_marginal_relevance(np.array(question), vectors, lambda_mult, 5)
        keywords = {"k": 5, "fetch_k": 15, "lambda_mult": lambda_mult, "filter": {"even": True}}
        found = await call(store, "max_marginal_relevance_search", QUESTION, **keywords)
        assert [candidates[position].id for position in chosen] == [document.id for document in found]
        assert found == await call(store, "max_marginal_relevance_search_by_vector", question, **keywords)

    @pytest.mark.parametrize("kind", ["dense-index", "hybrid-index"])
    async def test_where_the_index_embeds(self, call: Colour, make: Maker, kind: str, open_index: Opener) -> None:
        """The query's vector is made by the index's model if that is in this process; else a vector is asked for."""
        store = make(kind)
        if open_index.way.endswith("http"):
            with pytest.raises(ClientError, match="max_marginal_relevance_search_by_vector"):
                await call(store, "max_marginal_relevance_search", QUESTION)
            return
        nearest = await call(store, "similarity_search_with_relevance_scores", QUESTION, k=6)
        found = await call(store, "max_marginal_relevance_search", QUESTION, k=6, fetch_k=6, lambda_mult=1)
        assert [document.id for document, _ in nearest] == [document.id for document in found]

    async def test_at_least_k_candidates(self, call: Colour, make: Maker) -> None:
        """Fewer candidates than documents would end a call short without a word."""
        assert 9 == len(await call(make("dense-models"), "max_marginal_relevance_search", QUESTION, k=9, fetch_k=2))

    async def test_vectors_of_zeros(self, call: Colour, open_index: Opener) -> None:
        """A document or a query whose vector is zero is like no other, and no fault."""

        class Counts(Letters):
            def embed_query(self, text: str) -> list[float]:
                return [*super().embed_query(text)[:3], 0.0]

        store = store_over(open_index, "dense-models", embedding=Counts())
        store.add_texts(["xyz", "ae", "s", "aae"], ids=["zero", "1", "2", "3"])
        for query in ("ae", "xyz"):
            found = await call(store, "max_marginal_relevance_search", query, k=4, lambda_mult=0.5)
            assert ["1", "2", "3", "zero"] == sorted(document.id or "" for document in found)

    async def test_it_blocks_no_event_loop(self, call: Colour, make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where an event loop waits, documents are chosen in a thread, because many take seconds."""
        threads: list[int] = []

        def choosing(*arguments: Any) -> list[int]:
            threads.append(threading.get_ident())
            return maximal_marginal_relevance(*arguments)

        monkeypatch.setattr("nextk.langchain.store_mmr.maximal_marginal_relevance", choosing)
        await call(make("dense-models"), "max_marginal_relevance_search", QUESTION)
        assert call.awaited is (threads != [threading.get_ident()])

    @pytest.mark.parametrize(
        "keywords",
        [{"k": 0}, {"fetch_k": 0}, {"fetch_k": 1_001}, {"lambda_mult": 1.1}, {"lambda_mult": "0"}],
    )
    async def test_wrong_numbers(self, call: Colour, make: Maker, keywords: dict[str, Any]) -> None:
        """A number out of range is refused by its name."""
        with pytest.raises(ClientError, match=r"k=|fetch_k|lambda_mult|MMR"):
            await call(make("dense-models"), "max_marginal_relevance_search", QUESTION, **keywords)

    @pytest.mark.parametrize("kind", SPARSE_KINDS)
    async def test_over_sparse_vectors(self, call: Colour, make: Maker, kind: str) -> None:
        """There are no vectors to compare, which is said."""
        with pytest.raises(ClientError, match=r"MMR|embedding="):
            await call(make(kind), "max_marginal_relevance_search", QUESTION)


class TestWriting:
    """Adding documents and texts."""

    @pytest.mark.parametrize("kind", KINDS + SPARSE_KINDS)
    async def test_records_are_those_of_the_retriever(self, call: Colour, open_index: Opener, kind: str) -> None:
        """Either of the two writes the other one's records, id for id."""
        store, other = store_over(open_index, kind), store_over(open_index, kind)
        documents = [
            Document("The sky.", metadata={"a": [1, {"b": None}]}),
            Document("Grass.", id="grass", metadata={}),
            Document("The sea.", metadata={"x": "y"}),
        ]
        ids = await call(store, "add_documents", documents)
        retriever = ResumableRetriever(index=other.index, **models_of(kind))
        assert ids == await call(retriever, "add_documents", documents)
        assert stored(other.index) == stored(store.index)
        assert 3 == len(stored(store.index))

    async def test_nothing_is_embedded_twice(self, call: Colour, open_index: Opener) -> None:
        """Each text goes to the model once, and a repeated id is embedded for the last text alone."""
        seen: list[str] = []

        class Counting(Letters):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                seen.extend(texts)
                return super().embed_documents(texts)

        store = store_over(open_index, "dense-models", embedding=Counting())
        await call(store, "add_texts", ["a", "b", "c"], ids=["1", "2", "1"], batch_size=2)
        assert ["b", "c"] == sorted(seen)

    async def test_a_datetime_becomes_a_timestamp(self, call: Colour, open_index: Opener) -> None:
        """At any depth, and in no other way than LangChain's retriever that weighs by time reads it."""
        store, when = store_over(open_index, "dense-models"), dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
        metadata = {"when": when, "all": [when, {"at": when}], "name": "x"}
        document = Document("a", id="1", metadata=metadata)
        await call(store, "add_documents", [document])
        [found] = await call(store, "get_by_ids", ["1"])
        seconds = when.timestamp()
        assert {"when": seconds, "all": [seconds, {"at": seconds}], "name": "x"} == found.metadata
        assert when == document.metadata["when"] == document.metadata["all"][1]["at"]
        assert [found] == await call(store, "similarity_search", "a", filter={"when": {"$gte": seconds}})

    async def test_the_time_of_a_caller(self, call: Colour, open_index: Opener) -> None:
        """LangChain's retriever that weighs by time hands on its `current_time`, which is no option of the store."""
        store = store_over(open_index, "dense-models")
        documents = [Document("a", id="1", metadata={"n": 1})]
        assert ["1"] == await call(store, "add_documents", documents, current_time=dt.datetime.now(dt.UTC))
        assert documents == await call(store, "get_by_ids", ["1"])
        with pytest.raises(TypeError, match="current_times"):
            await call(store, "add_documents", documents, current_times=1)

    async def test_a_moment_without_a_timestamp(self, call: Colour, open_index: Opener) -> None:
        """It is refused by the name of its record, as every value that JSON cannot express."""

        class Never(dt.datetime):
            def timestamp(self) -> float:
                raise OverflowError

        store, metadatas = store_over(open_index, "dense-models"), [{}, {"when": Never(2026, 1, 2)}]
        with pytest.raises(ClientError, match=r"record 1 \(id 'x'\): metadata.when is a Never; give an ISO"):
            await call(store, "add_texts", ["a", "b"], metadatas, ids=["a", "x"])

    async def test_any_batch_size(self, call: Colour, open_index: Opener) -> None:
        """LangChain passes the batch size of its indexing on, which is no error if one request holds fewer."""
        store = store_over(open_index, "dense-models")
        ids = [str(position) for position in range(1_100)]
        assert ids == await call(store, "add_texts", ["e"] * 1_100, ids=ids, batch_size=4_000)
        assert 1_100 == store.index.info().vector_count
        with pytest.raises(ClientError, match="batch_size"):
            await call(store, "add_texts", ["e"], batch_size=0)

    async def test_what_cannot_be_stored(self, call: Colour, open_index: Opener) -> None:
        """One record that is refused keeps all others of the call from being stored, and is named."""
        store = store_over(open_index, "dense-models")
        for metadata in ({"a": {1, 2}}, {"text": "taken"}, {"a": float("nan")}):
            with pytest.raises(ClientError, match="record 1"):
                await call(store, "add_texts", ["fine", "not"], [{}, metadata])
        endless: dict[str, Any] = {}
        endless["a"] = endless
        with pytest.raises(ClientError, match="nested too deeply"):
            await call(store, "add_texts", ["a"], [endless])
        with pytest.raises(RefusedError, match="record 0"):
            await call(store, "add_texts", ["a"], ids=["x" * 9_000])
        assert 0 == store.index.info().vector_count


class TestById:
    """Reading and removing by ids and by filters."""

    @pytest.mark.parametrize("kind", KINDS + SPARSE_KINDS)
    async def test_get_by_ids(self, call: Colour, make: Maker, kind: str) -> None:
        """Documents come in the order of the ids, each once, and missing ones are left out."""
        found = await call(make(kind), "get_by_ids", ["t7", "none", "t3", "t7"])
        assert [("t7", TEXTS[7], METADATAS[7]), ("t3", TEXTS[3], METADATAS[3])] == [
            (document.id, document.page_content, document.metadata) for document in found
        ]

    async def test_many_ids(self, call: Colour, open_index: Opener) -> None:
        """More ids than one request names are read and removed all the same; no ids are none."""
        store = store_over(open_index, "dense-models")
        ids = [str(position) for position in range(2_345)]
        store.add_texts(["e"] * len(ids), ids=ids)
        assert ids == [document.id for document in await call(store, "get_by_ids", ids)]
        assert [] == await call(store, "get_by_ids", [])
        assert await call(store, "delete", [])
        assert await call(store, "delete", ids[:2_300])
        assert ids[2_300:] == [document.id for document in await call(store, "get_by_ids", ids)]

    async def test_delete(self, call: Colour, make: Maker) -> None:
        """Ids, a filter in either form, or all; each in one namespace alone."""
        store = make("hybrid-models", namespace="a")
        await call(store, "add_texts", ["kept"], ids=["t0"], namespace="b")
        assert await call(store, "delete", ["t0", "none"])
        assert await call(store, "delete", filter={"place": {"$in": [1, 2]}})
        assert await call(store, "delete", filter="place = 3")
        assert await call(store, "delete", "t4")
        assert {f"t{position}" for position in range(5, len(TEXTS))} == stored(store.index, "a").keys()
        assert await call(store, "delete", delete_all=True)
        assert {} == stored(store.index, "a")
        assert {"t0"} == stored(store.index, "b").keys()

    @pytest.mark.parametrize(
        "keywords",
        [
            {},
            {"ids": None},
            {"filter": ""},
            {"filter": {}},
            {"ids": ["t1"], "filter": "place = 1"},
            {"ids": [], "delete_all": True},
            {"delete_all": False},
            {"delete_all": "yes"},
        ],
        ids=str,
    )
    async def test_not_exactly_one(self, call: Colour, make: Maker, keywords: dict[str, Any]) -> None:
        """Where it is not clear what is to be removed, nothing is."""
        store = make("dense-models")
        with pytest.raises(ClientError, match="exactly one"):
            await call(store, "delete", **keywords)
        assert len(TEXTS) == store.index.info().vector_count


class TestAsRetriever:
    """Retrievers over the records of the store."""

    @pytest.mark.parametrize("kind", KINDS + SPARSE_KINDS)
    async def test_it_finds_what_the_store_finds(self, call: Colour, make: Maker, kind: str) -> None:
        """The retriever has the store's models, mode and namespace, and goes on where its first results end."""
        store = make(kind, namespace="ns")
        keywords = {"k": 6, "filter": {"even": True}}
        retriever = store.as_retriever(search_kwargs=keywords)
        assert isinstance(retriever, ResumableRetriever)
        expected = await call(store, "similarity_search", QUESTION, **keywords)
        assert expected == await call(retriever, "invoke", QUESTION)
        everything = await call(store, "similarity_search", QUESTION, k=60, filter={"even": True})
        with retriever.open(QUESTION) as search:
            assert everything == search.fetch_next(5) + search.fetch_next(60)
            assert "native" == search.report.continuation
        assert expected[:1] == await call(
            retriever, "invoke", QUESTION, k=1, filter={"place": {"$gt": -1}, "even": True}
        )

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_threshold(self, call: Colour, make: Maker, kind: str) -> None:
        """Everything that is near enough comes, not only what is among the first; `k` is a bound if it is given."""
        store = make(kind)
        scored = await call(store, "similarity_search_with_relevance_scores", QUESTION, k=66)
        threshold = scored[11][1]
        expected = [document for document, score in scored if score >= threshold]
        keywords = {"score_threshold": threshold}
        retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=keywords)
        assert MinScore(threshold) == retriever.until
        assert expected == await call(retriever, "invoke", QUESTION)
        retriever = store.as_retriever(search_kwargs={**keywords, "k": 5})
        assert expected[:5] == await call(retriever, "invoke", QUESTION)
        retriever = store.as_retriever(search_kwargs=keywords, until=MaxResults(7))
        assert expected[:7] == await call(retriever, "invoke", QUESTION)

    @pytest.mark.parametrize("kind", SPARSE_KINDS)
    async def test_a_threshold_over_sparse_vectors(self, call: Colour, make: Maker, kind: str) -> None:
        """It is refused, when the retriever is made or by its first search, because such scores have no bound."""
        store = make(kind)
        with pytest.raises(ClientError, match="sparse"):
            await call(store.as_retriever(search_kwargs={"score_threshold": 0.5}), "invoke", QUESTION)

    async def test_mmr(self, call: Colour, make: Maker) -> None:
        """LangChain's own retriever searches by marginal relevance."""
        store, keywords = make("hybrid-models"), {"k": 3, "fetch_k": 9, "filter": {"even": True}}
        retriever = store.as_retriever(search_type="mmr", search_kwargs=keywords)
        assert isinstance(retriever, VectorStoreRetriever)
        expected = await call(store, "max_marginal_relevance_search", QUESTION, **keywords)
        assert expected == await call(retriever, "invoke", QUESTION)

    @pytest.mark.parametrize(
        ("keywords", "complaint"),
        [
            ({"search_type": "similar"}, "did you mean similarity"),
            ({"search_type": "similarity_score_threshold"}, "score_threshold"),
            ({"search_kwargs": {"top_k": 5}}, "k="),
            ({"search_kwargs": {"fetch_k": 5}}, "fetch_k"),
            ({"search_kwargs": ["k"]}, "has to be a dict"),
            ({"search_kwargs": {"k": 5}, "k": 6}, "leave one of them out"),
            ({"search_kwargs": {"score_threshold": "0.5"}}, "score_threshold"),
            ({"search_kwargs": {"score_threshold": 1.5}}, "from 0 to 1"),
            ({"search_type": ["mmr"]}, "search_type"),
            ({"search_type": "mmr", "until": MaxResults(3)}, "until="),
            ({"search_type": "mmr", "search_kwargs": {"score_threshold": 0.5}}, "score_threshold"),
        ],
        ids=str,
    )
    def test_what_has_no_place(self, keywords: dict[str, Any], complaint: str) -> None:
        """It is refused in words, and never ignored."""
        with Index.embedded(dimension=4) as index, pytest.raises(ClientError, match=complaint):
            ResumableVectorStore(index, Letters()).as_retriever(**keywords)

    def test_tags(self) -> None:
        """They name the store and its model, as those of every store's retriever, or are the caller's."""
        with Index.embedded(dimension=4) as index:
            store = ResumableVectorStore(index, Letters())
            assert ["ResumableVectorStore", "Letters"] == store.as_retriever().tags
            assert ["mine"] == store.as_retriever(tags=["mine"]).tags

    def test_closing_it_leaves_the_store_open(self) -> None:
        """The retriever borrows the connection of the store."""
        with ResumableVectorStore.from_texts(TEXTS[:3]) as store:
            with store.as_retriever() as retriever:
                assert 3 == len(retriever.invoke(QUESTION))
            assert 3 == len(store.similarity_search(QUESTION))

    async def test_it_opens_no_connection_of_its_own(self, local_server: Any) -> None:
        """Over HTTP the retriever asks by the connections of the store, so that closing the store closes them all."""
        url = local_server.add("borrowed", dimension=4)
        store = ResumableVectorStore(embedding=Letters(), url=url, token=local_server.token)
        store.add_texts(["a"])
        retriever = store.as_retriever()
        assert ["a"] == contents(retriever.invoke("a")) == contents(await retriever.ainvoke("a"))
        await retriever.aclose()
        retriever.close()
        assert ["a"] == contents(await retriever.ainvoke("a")) == contents(store.similarity_search("a"))
        await store.aclose()
        del local_server.engines["borrowed"], retriever, store
        gc.collect()  # a connection that is still open is a warning, and so an error

    def test_back_from_a_store(self) -> None:
        """`ResumableRetriever.from_vectorstore` sees that this store is an index."""
        with ResumableVectorStore.from_texts(TEXTS, metadatas=METADATAS, namespace="ns") as store:
            retriever = ResumableRetriever.from_vectorstore(store, k=9, search_kwargs={"filter": {"even": True}})
            assert store.similarity_search(QUESTION, 9, {"even": True}) == retriever.invoke(QUESTION)
            with retriever.open(QUESTION) as search:
                search.fetch_next(2)
                assert "native" == search.report.continuation
            with pytest.raises(ClientError, match="store_id="):
                ResumableRetriever.from_vectorstore(store, store_id="x")


class TestMaking:
    """Making a store, over an index or over texts."""

    async def test_from_texts_in_this_process(self) -> None:
        """A hybrid index is made that owns the models, and that the store closes."""
        store = ResumableVectorStore.from_texts(TEXTS[:4], Letters(), METADATAS[:4], ids=IDS[:4], batch_size=3)
        with store:
            assert isinstance(store.embeddings, Letters)
            assert "HYBRID" == store.index.info().index_type
            assert TEXTS[:4] == contents(store.get_by_ids(IDS[:4]))
        with pytest.raises(ClientError, match="closed"):
            store.similarity_search(QUESTION)
        async with await ResumableVectorStore.afrom_documents([Document("a", id="1")], embedding=True) as other:
            assert (["a"], None) == (contents(await other.asimilarity_search("a")), other.embeddings)

    async def test_from_texts_into_an_index(self) -> None:
        """With an index the texts are stored there, by the caller's models, and it stays open."""
        with Index.embedded(dimension=4) as index:
            documents = [Document("a sea", id="1", metadata={"n": 1})]
            store = ResumableVectorStore.from_documents(documents, Letters(), index=index, namespace="ns")
            with store:
                pass
            await ResumableVectorStore.afrom_texts(["e"], Letters(), index=index, ids=["2"], namespace="ns")
            assert ["1", "2"] == sorted(stored(index, "ns"))
            assert documents == store.similarity_search("a sea", k=1)

    def test_a_path(self, tmp_path: Any) -> None:
        """An index in a file is found again."""
        with ResumableVectorStore.from_texts(["a"], path=tmp_path / "x.db", ids=["1"], sparse_embedding=None):
            pass
        with Index.embedded(tmp_path / "x.db") as index:
            assert ["a"] == contents(ResumableVectorStore(index).similarity_search("a"))

    def test_texts_that_cannot_be_stored_make_no_index(self, tmp_path: Any) -> None:
        """They are looked at before a file is made; in a file the usual keys of the text are not the user's."""
        for metadata in ({"a": {1}}, {"text": "mine"}):
            with pytest.raises(ClientError, match="record 0"):
                ResumableVectorStore.from_texts(["a"], metadatas=[metadata], path=tmp_path / "x.db")
        assert [] == list(tmp_path.iterdir())
        with ResumableVectorStore.from_texts(["a"], metadatas=[{"text": "mine"}]) as store:
            [document] = store.similarity_search("a")
        assert ("a", {"text": "mine"}) == (document.page_content, document.metadata)

    def test_another_kind(self) -> None:
        """An index or a model of another kind is refused in the store's own words."""
        with pytest.raises(ClientError, match=r"^index=.* url= and token="):
            ResumableVectorStore(object(), Letters())  # type: ignore[arg-type]
        with Index.embedded(dimension=4) as index, pytest.raises(ClientError, match=r"^embedding='static'"):
            ResumableVectorStore(index, "static")  # type: ignore[arg-type]
        with Index.embedded(dimension=4) as index, pytest.raises(ClientError, match=r"^path= is for an index in this"):
            ResumableVectorStore.from_texts(["a"], Letters(), index=index, path="x")

    def test_a_subclass(self) -> None:
        """A class that is derived from the store is made by its own constructor, also over texts."""

        class Named(ResumableVectorStore):
            def __init__(self, *args: Any, **keywords: Any) -> None:
                super().__init__(*args, **keywords)
                self.name = "mine"

        with Named.from_texts(["a"]) as store:
            assert "mine" == store.name

    @pytest.mark.parametrize(
        ("keywords", "advice"),
        [
            ({"embedding_function": 1}, "give embedding="),
            ({"index_url": 1}, "give url="),
            ({"async_index": 1}, "give index="),
            ({"k": 1}, "give"),
            ({"until": 1}, "as_retriever"),
            ({"namespaces": 1}, "did you mean namespace"),
        ],
        ids=str,
    )
    def test_an_unknown_argument(self, keywords: dict[str, Any], advice: str) -> None:
        """It is a `TypeError` that says what to give instead."""
        with Index.embedded(dimension=4) as index:
            for make in (ResumableVectorStore, lambda **given: ResumableVectorStore.from_texts(["a"], **given)):
                with pytest.raises(TypeError, match=advice):
                    make(index=index, **keywords)

    def test_pickle(self, local_server: Any) -> None:
        """A store that was made by a URL is pickled as its arguments; one over an index object is not."""
        url = local_server.add("pickled", dimension=4)
        with ResumableVectorStore(embedding=Letters(), url=url, token=local_server.token, namespace="ns") as store:
            store.add_texts(["a"], ids=["1"])
            with pickle.loads(pickle.dumps(store)) as other:  # noqa: S301 - its own bytes
                assert store.similarity_search("a") == other.similarity_search("a")
            assert local_server.token not in repr(store)
        del local_server.engines["pickled"]
        with Index.embedded(dimension=4) as index, pytest.raises(ClientError, match="tied to this process"):
            pickle.dumps(ResumableVectorStore(index, Letters()))


METHODS = {
    name: method
    for name, method in inspect.getmembers(ResumableVectorStore, callable)
    if not name.startswith("_") and name not in ("from_texts", "afrom_texts")
}


async def awaited(result: Any) -> Any:
    """Return a result that may have to be awaited."""
    return await result if inspect.isawaitable(result) else result


class TestContract:
    """The contract of LangChain's `VectorStore`, method by method."""

    @pytest.mark.parametrize("name", [name for name in METHODS if f"a{name}" in METHODS])
    def test_twins(self, name: str) -> None:
        """A method and its twin take the same arguments, and the twin does not run the other one in a thread."""
        twin = METHODS[f"a{name}"]
        assert inspect.signature(METHODS[name]).parameters == inspect.signature(twin).parameters
        assert "run_in_executor" not in twin.__code__.co_names

    def test_every_method_of_the_base_is_there(self) -> None:
        """None of LangChain's methods is left as one that is not implemented."""
        for name, method in METHODS.items():
            if inherited := getattr(VectorStore, name, None):
                unimplemented = "NotImplementedError" in inspect.getsource(inherited)
                assert not (method is inherited and unimplemented), name

    @pytest.mark.parametrize(
        "name",
        [
            name
            for name in METHODS
            if name.removeprefix("a").startswith(("similarity_search", "max_marg")) or name.endswith("delete")
        ],
    )
    async def test_an_unknown_keyword(self, name: str) -> None:
        """No keyword is ignored: a `TypeError` says which one is meant."""
        with ResumableVectorStore.from_texts(["a"]) as store:
            method = getattr(store, name)
            given = [] if name.endswith("delete") else [[1.0] * 256 if "vector" in name else "a"]
            with pytest.raises(TypeError, match="namespace"):
                await awaited(method(*given, name_space="x"))

    def test_a_mode_without_its_model(self) -> None:
        """A mode that lacks its model is refused when the store is made."""
        with Index.embedded(dimension=4) as index, pytest.raises(ClientError, match="sparse_embedding="):
            ResumableVectorStore(index, Letters(), retrieval_mode="hybrid")
