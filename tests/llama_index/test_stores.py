"""The LlamaIndex retriever over the vector stores that people have: any store, and the `VectorStoreIndex` over it."""

import asyncio
import copy
import inspect
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import chromadb
import faiss
import pytest
from chromadb.errors import NotFoundError
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex, instrumentation
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, IndexNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.settings import Settings
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.faiss import FaissVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient

from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever
from nextk.llama_index.store_rows import scores_of
from nextk.llama_index.store_source import VectorStoreSource
from nextk.sessions import RetrievalMode, SearchQuery
from nextk.stores import Continuation, RefetchSource, StoreRow
from nextk.until import Accepted, MinScore
from tests.support.letter_models import loops_to_keep_free
from tests.support.llama_index_events import Listening
from tests.support.llama_index_stores import (
    CHROMA_SETTINGS,
    DIMENSION,
    NODES,
    STORES,
    AwaitingStore,
    Digests,
    OwnStore,
    RefusingStore,
    index_of,
    index_over,
    node_at,
    store_of,
    vector_of,
)
from tests.support.sentence_index import QUESTION

PLACES = MetadataFilters(filters=[MetadataFilter(key="place", value=5, operator=FilterOperator.GTE)])
ODD = MetadataFilters(filters=[MetadataFilter(key="even", value="no")])


@pytest.fixture(scope="module", params=STORES)
def over(request: pytest.FixtureRequest) -> Iterator[VectorStoreIndex]:
    """A `VectorStoreIndex` over each kind of store, which no test may change."""
    with index_over(request.param) as index:
        yield index


@pytest.fixture(params=STORES)
def over_writable(request: pytest.FixtureRequest) -> Iterator[VectorStoreIndex]:
    """A `VectorStoreIndex` of the first 60 nodes over each kind of store, which a test may change."""
    with index_over(request.param, NODES[:60]) as index:
        yield index


@pytest.fixture(params=["blocking", "asynchronous"])
async def colour(request: pytest.FixtureRequest) -> AsyncIterator["Colour"]:
    """Calls in each of the two colours. In an event loop, nothing may block it."""
    if request.param == "asynchronous":
        loops_to_keep_free.add(id(asyncio.get_running_loop()))
    yield Colour(asynchronous=request.param == "asynchronous")
    loops_to_keep_free.clear()


class Colour:
    """Calls a retriever by its blocking methods, or by the asynchronous ones."""

    def __init__(self, *, asynchronous: bool) -> None:
        self._prefix = "a" if asynchronous else ""

    async def retrieve(self, retriever: ResumableRetriever, query: Any = QUESTION) -> list[NodeWithScore]:
        """Retrieve nodes."""
        found: list[NodeWithScore] = await self.call(getattr(retriever, f"{self._prefix}retrieve"), query)
        return found

    def open(self, retriever: ResumableRetriever, query: Any = QUESTION, **overrides: Any) -> Any:
        """Open a session."""
        return getattr(retriever, f"{self._prefix}open")(query, **overrides)

    def resume(self, retriever: ResumableRetriever, cursor: Any, **overrides: Any) -> Any:
        """Resume a session."""
        return getattr(retriever, f"{self._prefix}resume")(cursor, **overrides)

    async def call(self, method: Any, *arguments: Any) -> Any:
        """Call a method of a retriever or of a session."""
        made = method(*arguments)
        return await made if inspect.isawaitable(made) else made

    async def drain(self, session: Any, size: int = 7) -> list[NodeWithScore]:
        """Pull pages until the end, and stop."""
        nodes: list[NodeWithScore] = []
        while page := await self.call(session.fetch_next, size):
            nodes += page
        await self.call(session.stop)
        return nodes


def ids(nodes: list[NodeWithScore]) -> list[str]:
    """The ids of nodes."""
    return [node.node_id for node in nodes]


def best(index: VectorStoreIndex, count: int = 1_000) -> list[NodeWithScore]:
    """The nodes that LlamaIndex's own retriever finds, best first. It runs on a thread, as it may block."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(index.as_retriever(similarity_top_k=count).retrieve, QUESTION).result()


def ranked(index: VectorStoreIndex, count: int = 1_000) -> list[str]:
    """The ids of these nodes."""
    return ids(best(index, count))


class TestEveryStore:
    """Promises that hold over every store."""

    async def test_plain_retrieval(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A retrieval without a policy returns the nodes and the scores of LlamaIndex's own retriever, in its order."""
        for count in (1, 7, 1_000):
            expected = best(over, count)
            found = await colour.retrieve(ResumableRetriever.from_index(over, similarity_top_k=count))
            assert [(node.node_id, node.text, node.metadata) for node in expected] == [
                (node.node_id, node.text, node.metadata) for node in found
            ]
            assert [node.score for node in found] == pytest.approx([node.score for node in expected])

    async def test_whole_search(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A session hands out every node of the store once, in the order of one query for all of them."""
        search = colour.open(ResumableRetriever.from_index(over))
        assert ranked(over) == ids(await colour.drain(search))
        assert search.exhausted
        report = search.report
        assert (Continuation.REFETCH, True, None) == (report.continuation, report.complete, report.limit)
        assert report.refetched > 0

    async def test_until_accepted(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A retrieval goes on until as many nodes are accepted as are wanted."""
        wanted = {node.node_id for node in NODES if node.metadata["place"] % 5 == 0}

        def check(nodes: list[NodeWithScore]) -> list[bool]:
            return [node.node_id in wanted for node in nodes]

        retriever = ResumableRetriever.from_index(over, until=Accepted(9, check))
        assert [id_ for id_ in ranked(over) if id_ in wanted][:9] == ids(await colour.retrieve(retriever))

    async def test_cursors(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A cursor goes on in a session of another retriever, with the nodes that have not come."""
        search = colour.open(ResumableRetriever.from_index(over))
        first = ids(await colour.call(search.fetch_next, 10))
        cursor = json.loads(json.dumps(search.cursor()))
        await colour.call(search.stop)
        rest = await colour.drain(colour.resume(ResumableRetriever.from_index(over), cursor))
        assert ranked(over) == first + ids(rest)

    async def test_filters(self, over: VectorStoreIndex, colour: Colour) -> None:
        """Filters, ids of documents and ids of nodes hold, whether the store takes them or not."""
        allowed = [node.node_id for node in NODES[:20]]
        retriever = ResumableRetriever.from_index(
            over, similarity_top_k=100, filters=ODD, doc_ids=["d1", "d2"], node_ids=allowed
        )
        expected = {node.node_id for node in NODES[:20] if node.metadata["even"] == "no" and node.ref_doc_id != "d0"}
        assert [id_ for id_ in ranked(over) if id_ in expected] == ids(await colour.retrieve(retriever))
        assert expected == set(ids(await colour.drain(colour.open(retriever), 3)))

    async def test_embedded_once(self, over: VectorStoreIndex, colour: Colour) -> None:
        """The model of the index embeds a query once for a whole search, however often the store is asked."""
        model = Digests()
        await colour.drain(colour.open(ResumableRetriever.from_index(over, embed_model=model)), 5)
        assert 1 == model._queries


class TestFilters:
    """Filters over stores that take them, refuse them or ignore them."""

    @pytest.mark.parametrize("kind", [OwnStore, RefusingStore])
    async def test_checked_here(self, kind: type[OwnStore], colour: Colour) -> None:
        """Filters are handed on and checked here, so a store that ignores or refuses them leaks nothing."""
        store = kind()
        index = index_of(store)
        retriever = ResumableRetriever.from_vector_store(
            store, embed_model=Digests(), similarity_top_k=5, filters=ODD, doc_ids=["d0"]
        )
        found = await colour.retrieve(retriever)
        assert 5 == len(found)
        assert {("no", "d0")} == {(node.metadata["even"], node.node.ref_doc_id) for node in found}
        assert ids(found) == [id_ for id_ in ranked(index) if id_ in {one.node_id for one in NODES[3::6]}][:5]
        if kind is OwnStore:
            assert (ODD, ["d0"], None) == (store._asked[0].filters, store._asked[0].doc_ids, store._asked[0].node_ids)
        else:
            assert {None} == {asked.filters for asked in store._asked}

    async def test_refusals_are_noted(self, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
        """The log says once that a store refuses filters."""
        caplog.set_level(logging.INFO, "nextk.llama_index")
        index = index_of(RefusingStore())
        retriever = ResumableRetriever.from_index(index, filters=ODD)
        await colour.drain(colour.open(retriever))
        assert [
            "RefusingStore refuses the filter (filters are not supported), so it is asked without, and rows are "
            "checked here"
        ] == [record.getMessage() for record in caplog.records if "refuses" in record.msg]

    async def test_other_errors(self, colour: Colour) -> None:
        """An error that has nothing to do with the filter is the store's own, with a filter and without."""
        store = SimpleVectorStore()
        index = index_of(store)
        for filters in (None, ODD):
            retriever = ResumableRetriever.from_index(index, vector_store_query_mode="sparse", filters=filters)
            with pytest.raises(ValueError, match="Invalid query mode"):
                await colour.retrieve(retriever)

    async def test_keys_of_the_source_document(self, over: VectorStoreIndex, colour: Colour) -> None:
        """The keys under which LlamaIndex keeps the id of the source document can be filtered by, in every store."""
        filters = MetadataFilters(filters=[MetadataFilter(key="ref_doc_id", value="d1")])
        found = await colour.retrieve(ResumableRetriever.from_index(over, similarity_top_k=100, filters=filters))
        assert {one.node_id for one in NODES[1::3]} == set(ids(found))

    async def test_operators_that_no_store_has(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A filter that a store cannot express is checked here alone."""
        filters = MetadataFilters(filters=[MetadataFilter(key="lacking", value=None, operator=FilterOperator.IS_EMPTY)])
        found = await colour.retrieve(ResumableRetriever.from_index(over, similarity_top_k=100, filters=filters))
        assert ranked(over) == ids(found)

    async def test_of_one_search(self, over: VectorStoreIndex, colour: Colour) -> None:
        """`open(filter=MetadataFilters)` narrows one search further, and its cursor wants the same filter again."""
        retriever = ResumableRetriever.from_index(over, doc_ids=["d1"])
        narrow = MetadataFilters(filters=[MetadataFilter(key="place", value=30, operator=FilterOperator.LT)])
        search = colour.open(retriever, filter=narrow)
        first = ids(await colour.call(search.fetch_next, 4))
        cursor = search.cursor()
        await colour.call(search.stop)
        rest = ids(await colour.drain(colour.resume(retriever, cursor, filter=narrow)))
        expected = {one.node_id for one in NODES[:30] if one.ref_doc_id == "d1"}
        assert [id_ for id_ in ranked(over) if id_ in expected] == first + rest
        with pytest.raises(ClientError, match="another filter"):
            colour.resume(retriever, cursor)

    async def test_changed_afterwards(self, over: VectorStoreIndex, colour: Colour) -> None:
        """Filters are those that the retriever was made with, although the caller changes the object later."""
        mine = ODD.model_copy(deep=True)
        retriever = ResumableRetriever.from_index(over, similarity_top_k=100, filters=mine)
        mine.filters[0].value = "yes"  # type: ignore[union-attr]
        assert {"no"} == {node.metadata["even"] for node in await colour.retrieve(retriever)}

    @pytest.mark.parametrize("condition", ["and", "or", "not"])
    async def test_groups(self, over: VectorStoreIndex, colour: Colour, condition: str) -> None:
        """The filters of a retriever and those of one search hold together, whatever groups of them a store takes."""
        either = MetadataFilters(
            filters=[
                MetadataFilter(key="place", value=9, operator=FilterOperator.LT),
                MetadataFilter(key="even", value="no"),
            ],
            condition=condition,  # type: ignore[arg-type]
        )
        search = colour.open(ResumableRetriever.from_index(over, filters=either), filter=PLACES)
        rules: dict[str, Callable[[list[bool]], bool]] = {"and": all, "or": any, "not": lambda parts: not any(parts)}
        holds = rules[condition]
        expected = {
            one.node_id for one in NODES[5:] if holds([one.metadata["place"] < 9, one.metadata["even"] == "no"])
        }
        assert expected == set(ids(await colour.drain(search)))

    async def test_pinned_by_cursors(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A cursor is refused by a retriever that has other filters, or none."""
        search = colour.open(ResumableRetriever.from_index(over, filters=ODD))
        await colour.call(search.fetch_next, 2)
        cursor = search.cursor()
        await colour.call(search.stop)
        even = MetadataFilters(filters=[MetadataFilter(key="even", value="yes")])
        for filters in (None, even):
            with pytest.raises(ClientError):
                colour.resume(ResumableRetriever.from_index(over, filters=filters), cursor)

    async def test_in_the_language_of_an_index(self, over: VectorStoreIndex, colour: Colour) -> None:
        """A filter that is a string is refused in words, wherever it is given, and so is a namespace."""
        with pytest.raises(ClientError, match="takes MetadataFilters: give the retriever filters="):
            ResumableRetriever.from_index(over, filter="even = 'no'")
        retriever = ResumableRetriever.from_index(over)
        with pytest.raises(ClientError, match=r"open\(query, filter=MetadataFilters"):
            colour.open(retriever, filter="even = 'no'")
        with pytest.raises(ClientError, match="leave namespace= out"):
            colour.open(retriever, namespace="tenant")
        search = colour.open(retriever)
        with pytest.raises(ClientError, match="keeps its filters"):
            await colour.call(partial(search.widen, filter="even = 'no'"))


class TestRows:
    """Ids, scores and nodes of rows, whatever a store answers."""

    async def test_same_text_twice(self, colour: Colour) -> None:
        """Nodes with ids of their own are told apart, although their texts are the same."""
        twins = [TextNode(id_=id_, text="twin") for id_ in ("a", "b")]
        found = await colour.drain(colour.open(ResumableRetriever.from_index(index_of(OwnStore(), twins))))
        assert ["a", "b"] == sorted(ids(found))

    @pytest.mark.parametrize(
        ("key", "expected"), [(None, ["one", "two"]), ("place", ["one", "one", "two"])], ids=["content", "key"]
    )
    async def test_nodes_without_ids(self, key: str | None, expected: list[str], colour: Colour) -> None:
        """A node that the store makes anew each time, without an id, is told apart by `key`, or else by its content."""
        store = OwnStore()
        metadata = [{"place": 1}, {"place": 1} if key is None else {"place": 2}, {"place": 3}]
        index_of(store, [TextNode(text=text) for text in ("one", "one", "two")])

        def made_anew(answer: VectorStoreQueryResult) -> VectorStoreQueryResult:
            known = [node.node_id for node, _ in store._nodes]
            nodes = [
                TextNode(text=node.get_content(), metadata=metadata[known.index(node.node_id)])
                for node in answer.nodes or []
            ]
            return VectorStoreQueryResult(nodes=nodes, similarities=answer.similarities)

        store._change = made_anew
        retriever = ResumableRetriever.from_vector_store(store, embed_model=Digests(), key=key)
        assert expected == sorted(node.text for node in await colour.drain(colour.open(retriever), 1))

    async def test_ids_of_the_store(self, colour: Colour) -> None:
        """A node that the store makes anew without an id has the id that the store gives with it."""
        store = OwnStore()
        index_of(store, NODES[:5])

        def made_anew(answer: VectorStoreQueryResult) -> VectorStoreQueryResult:
            return VectorStoreQueryResult(
                nodes=[TextNode(text="alike") for _ in answer.nodes or []],
                similarities=answer.similarities,
                ids=answer.ids,
            )

        store._change = made_anew
        retriever = ResumableRetriever.from_vector_store(store, embed_model=Digests())
        assert 5 == len(await colour.drain(colour.open(retriever), 2))

    @pytest.mark.parametrize("kind", ["simple", "faiss"])
    async def test_missing_in_the_docstore(self, kind: str, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
        """A row whose node is not in the docstore is left out; the log and the report say how many there were."""
        with index_over(kind) as index:
            order = ranked(index)
            gone = order[2:5]
            for id_ in gone:
                index.docstore.delete_document(id_)
            retriever = ResumableRetriever.from_index(index, similarity_top_k=10)
            assert [id_ for id_ in order[:10] if id_ not in gone] == ids(await colour.retrieve(retriever))
            assert "3 of 10 rows that the store has found have no node" in caplog.text
            search = colour.open(retriever)
            assert [id_ for id_ in order if id_ not in gone] == ids(await colour.drain(search))
            assert {"no_text": 3} == search.report.dropped

    async def test_docstore_beside_a_store(self, colour: Colour) -> None:
        """A store without text is searched with the docstore that holds its nodes."""
        with index_over("simple") as index:
            retriever = ResumableRetriever.from_vector_store(
                index.vector_store, docstore=index.docstore, embed_model=Digests(), similarity_top_k=4
            )
            assert ranked(index, 4) == ids(await colour.retrieve(retriever))

    async def test_nodes_that_come_later(self, colour: Colour) -> None:
        """A retriever made of an empty index finds the nodes that are inserted later, by whatever ids the store has."""
        index = index_of(FaissVectorStore(faiss.IndexFlatL2(DIMENSION)), [])
        retriever = ResumableRetriever.from_index(index, similarity_top_k=3)
        index.insert_nodes([node.model_copy() for node in NODES])
        assert ranked(index, 3) == ids(await colour.retrieve(retriever))

    async def test_distances(self, colour: Colour) -> None:
        """FAISS gives distances: policies of scores are refused, and nodes keep what LlamaIndex calls their score."""
        with index_over("faiss") as index:
            retriever = ResumableRetriever.from_index(index, until=MinScore(0.5))
            with pytest.raises(ClientError, match="this store gives none that say how near"):
                await colour.retrieve(retriever)
            nodes = best(index, 30)
            farthest = MinScore(-(nodes[-1].score or 0.0), patience=1)
            near = ResumableRetriever.from_index(index, until=farthest, scores="nearness")
            assert ids(nodes) == ids(await colour.retrieve(near))

    async def test_inner_product(self, colour: Colour) -> None:
        """FAISS over inner products gives similarities, which policies of scores compare."""
        index = index_of(FaissVectorStore(faiss.IndexFlatIP(DIMENSION)))
        nodes = best(index, 30)
        retriever = ResumableRetriever.from_index(index, until=MinScore(nodes[-1].score or 0.0, patience=1))
        assert ids(nodes) == ids(await colour.retrieve(retriever))

    @pytest.mark.parametrize("similarities", [None, [], [0.5]], ids=["none", "empty", "too few"])
    async def test_without_similarities(self, similarities: list[float] | None, colour: Colour) -> None:
        """Rows without similarities are handed out in the order of the store, with no score."""
        store = OwnStore()
        index = index_of(store)
        order = ranked(index, 5)
        store._change = lambda answer: VectorStoreQueryResult(nodes=answer.nodes, similarities=similarities)
        found = await colour.retrieve(ResumableRetriever.from_index(index, similarity_top_k=5))
        assert (order, {None}) == (ids(found), {node.score for node in found})

    async def test_empty_store(self, colour: Colour) -> None:
        """A store that holds nothing, or answers with nothing, is searched to its end."""
        store = OwnStore()
        retriever = ResumableRetriever.from_vector_store(store, embed_model=Digests())
        assert [] == await colour.retrieve(retriever)
        store._change = lambda _: VectorStoreQueryResult()
        assert [] == await colour.drain(colour.open(retriever))


@given(st.lists(st.floats(-1e6, 1e6), max_size=8))
def test_scores_fall(similarities: list[float]) -> None:
    """Scores of sorted answers never rise, whether they hold similarities or distances."""
    for given_ in (sorted(similarities), sorted(similarities, reverse=True)):
        scores = scores_of(given_)
        assert scores == sorted(scores, reverse=True)
        assert {abs(score) for score in scores} == {abs(each) for each in similarities}


class TestChanges:
    """Stores that change, fail or go away between pulls."""

    async def test_written_between_pulls(self, over_writable: VectorStoreIndex, colour: Colour) -> None:
        """Nodes that come between two pulls cost no node that was there, and bring none twice."""
        search = colour.open(ResumableRetriever.from_index(over_writable))
        first = ids(await colour.call(search.fetch_next, 10))
        over_writable.insert_nodes([node_at(60), node_at(61)])
        found = first + ids(await colour.drain(search))
        assert len(found) == len(set(found))
        assert {one.node_id for one in NODES[:60]} <= set(found)

    async def test_deleted_collection(self, colour: Colour) -> None:
        """A collection that is deleted between two pulls raises the store's own error, and decides nothing."""
        with index_over("chroma") as index:
            search = colour.open(ResumableRetriever.from_index(index))
            await colour.call(search.fetch_next, 10)
            chromadb.EphemeralClient(CHROMA_SETTINGS).delete_collection(index.vector_store.client.name)
            for _ in range(2):
                with pytest.raises(NotFoundError):
                    await colour.call(search.fetch_next, 60)
            assert 10 == search.report.kept
            await colour.call(search.stop)

    async def test_failing_store(self, colour: Colour) -> None:
        """An error of the store goes through unchanged, and the same call then brings what it would have brought."""
        store = OwnStore()
        index = index_of(store)
        order = ranked(index)
        search = colour.open(ResumableRetriever.from_index(index))
        assert order[:10] == ids(await colour.call(search.fetch_next, 10))

        def fail(answer: VectorStoreQueryResult) -> VectorStoreQueryResult:
            message = "the disk is full"
            raise OSError(message)

        store._change = fail
        with pytest.raises(OSError, match="the disk is full"):
            await colour.call(search.fetch_next, 20)
        store._change = None
        assert order[10:30] == ids(await colour.call(search.fetch_next, 20))
        await colour.call(search.stop)


class TestModes:
    """LlamaIndex's modes of a query."""

    @pytest.mark.parametrize("mode", ["default", "sparse", "text_search", "hybrid"])
    async def test_handed_on(self, mode: str, colour: Colour) -> None:
        """A mode goes to the store with its sizes and further arguments, and nobody embeds without need."""
        store, model = OwnStore(), Digests()
        index_of(store)
        retriever = ResumableRetriever.from_vector_store(
            store, embed_model=model, similarity_top_k=3, vector_store_query_mode=mode, alpha=0.3,
            vector_store_kwargs={"where": {"a": 1}},
        )  # fmt: skip
        await colour.retrieve(retriever)
        asked = store._asked[-1]
        assert (mode, QUESTION, 3, 0.3) == (asked.mode.value, asked.query_str, asked.similarity_top_k, asked.alpha)
        assert {"where": {"a": 1}} == store._options[-1]
        assert (mode in ("default", "hybrid")) is (asked.query_embedding is not None) is (model._queries == 1)
        assert (None if mode == "default" else 3) == asked.sparse_top_k
        assert (3 if mode == "hybrid" else None) == asked.hybrid_top_k

    async def test_sizes_that_are_fixed(self, colour: Colour) -> None:
        """The sizes of the halves of a hybrid search grow with it, unless they are fixed."""
        store = OwnStore()
        index = index_of(store)
        await colour.drain(colour.open(ResumableRetriever.from_index(index, vector_store_query_mode="hybrid")))
        assert {True} == {asked.similarity_top_k == asked.sparse_top_k == asked.hybrid_top_k for asked in store._asked}
        store._asked.clear()
        fixed = ResumableRetriever.from_index(
            index, vector_store_query_mode="hybrid", sparse_top_k=4, hybrid_top_k=5, similarity_top_k=9
        )
        await colour.retrieve(fixed)
        assert (9, 4, 5) == (
            store._asked[-1].similarity_top_k, store._asked[-1].sparse_top_k, store._asked[-1].hybrid_top_k
        )  # fmt: skip

    async def test_a_size_that_ends_a_search(self, colour: Colour) -> None:
        """A fixed size of a hybrid search ends it, and the report says that the store gives no more of one search."""
        with index_over("hybrid") as index:
            search = colour.open(ResumableRetriever.from_index(index, vector_store_query_mode="hybrid", hybrid_top_k=8))
            assert 8 <= len(await colour.drain(search)) < len(NODES)
            assert (8, False) == (search.report.limit, search.report.complete)

    @pytest.mark.parametrize("mode", ["mmr", "svm", "semantic_hybrid", "nearest"])
    def test_refused(self, mode: str) -> None:
        """MMR and other modes that rank a set as a whole cannot go on, and are refused in words."""
        with pytest.raises(ClientError, match=f"vector_store_query_mode='{mode}'"):
            ResumableRetriever.from_index(index_of(OwnStore(), []), vector_store_query_mode=mode)

    @pytest.mark.parametrize("mode", ["default", "hybrid", "sparse"])
    async def test_qdrant(self, mode: str, colour: Colour) -> None:
        """A hybrid collection of Qdrant is searched in every mode to its end, and `retrieve` agrees with LlamaIndex."""
        with index_over("hybrid") as index:
            with ThreadPoolExecutor() as pool:
                theirs = index.as_retriever(similarity_top_k=9, vector_store_query_mode=mode)
                expected = pool.submit(theirs.retrieve, QUESTION).result()
            retriever = ResumableRetriever.from_index(index, similarity_top_k=9, vector_store_query_mode=mode)
            assert ids(expected) == ids(await colour.retrieve(retriever))
            found = ids(await colour.drain(colour.open(retriever)))
            assert len(found) == len(set(found))
            if mode != "sparse":
                assert {one.node_id for one in NODES} == set(found)
            scored = ResumableRetriever.from_index(index, vector_store_query_mode=mode, until=MinScore(-1e9))
            if mode == "hybrid":
                with pytest.raises(ClientError, match="those of a hybrid search are made of ranks"):
                    await colour.retrieve(scored)
            else:
                assert await colour.retrieve(scored)

    async def test_widened(self, colour: Colour) -> None:
        """An open search goes on in another mode of the store, and hands out no node again."""
        with index_over("hybrid") as index:
            search = colour.open(ResumableRetriever.from_index(index))
            found = ids(await colour.call(search.fetch_next, 5))
            for mode in ("sparse", "hybrid"):
                await colour.call(partial(search.widen, retrieval_mode=mode))
                found += ids(await colour.call(search.fetch_next, 5))
            found += ids(await colour.drain(search))
            assert len(NODES) == len(found) == len(set(found))
            search = colour.open(ResumableRetriever.from_index(index, vector_store_query_mode="sparse"))
            await colour.call(search.fetch_next, 5)
            await colour.call(partial(search.widen, retrieval_mode="dense"))
            with pytest.raises(ClientError, match=r"lacks its vector.* open another search in this mode"):
                await colour.call(search.fetch_next, 5)
            await colour.call(search.stop)


class TestArguments:
    """Arguments of a retriever over a source."""

    @pytest.mark.parametrize(
        "given",
        [
            {"namespace": "tenant"},
            {"fusion": "rrf"},
            {"weighting": "idf"},
            {"text_key": "body"},
            {"sparse_embedding": lambda _: []},
            {"embedding": True},
            {"url": "http://127.0.0.1:1"},
            {"token": "secret"},
        ],
        ids=lambda given: next(iter(given)),
    )
    def test_of_an_index(self, given: dict[str, Any]) -> None:
        """An argument that only an index takes is refused, and named, and its value is not shown."""
        name = next(iter(given))
        with pytest.raises(ClientError, match=f"{name}= is for an index.* leave {name}= out") as refused:
            ResumableRetriever.from_index(index_of(OwnStore(), []), **given)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("source", [OwnStore(), index_of(OwnStore(), []), "chroma"], ids=["store", "index", "text"])
    def test_no_source(self, source: Any) -> None:
        """A store in the place of a source is told where it goes."""
        with pytest.raises(ClientError, match=r"goes into ResumableRetriever.from_vector_store\(store\)"):
            ResumableRetriever(source=source)

    async def test_writing(self, colour: Colour) -> None:
        """Writing belongs to the store: the methods that write to an index are refused, and so is its client."""
        retriever = ResumableRetriever.from_index(index_of(OwnStore(), []))
        writers = [
            lambda: retriever.insert_nodes([TextNode(text="x")]),
            lambda: retriever.delete_ref_doc("d0"),
            lambda: retriever.ainsert_nodes([TextNode(text="x")]),
            lambda: retriever.adelete_ref_doc("d0"),
        ]
        for write in writers:
            with pytest.raises(ClientError, match="write to the store itself"):
                await colour.call(write)
        with pytest.raises(ClientError, match="has no index: see its source"):
            _ = retriever.index
        with pytest.raises(ClientError, match="index="):
            ResumableRetriever.from_nodes([TextNode(text="x")], source=retriever.source)

    def test_configuration(self) -> None:
        """The settings of a retriever over a source make one like it over the same source."""
        retriever = ResumableRetriever.from_index(
            index_of(OwnStore(), []), similarity_top_k=7, vector_store_query_mode="hybrid", max_pulls=3
        )
        config = json.loads(json.dumps(retriever.to_config()))
        again = ResumableRetriever(source=retriever.source, **config)
        assert config == again.to_config()
        assert (7, "hybrid", None) == (again.similarity_top_k, config["retrieval_mode"], config["url"])
        assert "OwnStore" in repr(again)

    async def test_copies(self, colour: Colour) -> None:
        """A copy of a retriever searches the same store."""
        index = index_of(OwnStore())
        retriever = copy.deepcopy(ResumableRetriever.from_index(index, similarity_top_k=3, filters=ODD))
        assert retriever.source is not None
        odd = [node.node_id for node in best(index) if node.metadata["even"] == "no"]
        assert odd[:3] == ids(await colour.retrieve(retriever))

    def test_identity(self) -> None:
        """A source is known by the class and collection of its store and what its queries hold, or by `store_id`."""
        with store_of("chroma") as chroma, store_of("qdrant") as qdrant:
            assert chroma.client.name in VectorStoreSource(chroma).identity
            assert VectorStoreSource(qdrant).identity.endswith("QdrantVectorStore nodes")
            narrowed = VectorStoreSource(qdrant, vector_store_kwargs={"qdrant_filters": {"must": []}})
            assert VectorStoreSource(qdrant).identity != narrowed.identity
            assert "mine" == VectorStoreSource(qdrant, store_id="mine").identity

    async def test_other_store(self, colour: Colour) -> None:
        """A cursor is refused by a retriever over another store."""
        search = colour.open(ResumableRetriever.from_index(index_of(OwnStore()), store_id="a"))
        await colour.call(search.fetch_next, 2)
        cursor = search.cursor()
        await colour.call(search.stop)
        with pytest.raises(ClientError, match="another index or store"):
            colour.resume(ResumableRetriever.from_index(index_of(OwnStore()), store_id="b"), cursor)

    async def test_model_of_the_settings(self, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a model, `Settings.embed_model` embeds for a store that needs a vector."""
        store = OwnStore()
        index = index_of(store)
        monkeypatch.setattr(Settings, "_embed_model", Digests())
        retriever = ResumableRetriever.from_vector_store(store, similarity_top_k=3)
        assert ranked(index, 3) == ids(await colour.retrieve(retriever))

    def test_query_without_a_vector(self) -> None:
        """A source that needs a vector says so if it is given the text alone, or a filter of another kind."""
        source = VectorStoreSource(OwnStore())
        with pytest.raises(ClientError, match="lacks its vector, which this store needs"):
            source.query(SearchQuery(data=QUESTION), 3)
        with pytest.raises(ClientError, match="is no MetadataFilters"):
            source.query(SearchQuery(vector=[1.0], store_filter="a = 1"), 3)

    async def test_bundles(self, colour: Colour) -> None:
        """A query bundle may hold the vector already, or put the query in several words."""
        index = index_of(OwnStore())
        model = Digests()
        retriever = ResumableRetriever.from_index(index, similarity_top_k=4, embed_model=model)
        given = QueryBundle("other words", embedding=vector_of(QUESTION))
        assert ranked(index, 4) == ids(await colour.retrieve(retriever, given))
        assert 0 == model._queries
        several = QueryBundle("other words", custom_embedding_strs=[QUESTION])
        assert ranked(index, 4) == ids(await colour.retrieve(retriever, several))
        with pytest.raises(ClientError, match="empty"):
            await colour.retrieve(retriever, "  ")


class WithFire(BaseNodePostprocessor):
    """Keeps the nodes that speak of fire."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        passed = [node for node in nodes if "fire" in node.text]
        for node in nodes:  # as postprocessors may
            node.node.metadata["place"] = -1
        return passed


@pytest.mark.parametrize("kind", STORES)
def test_sizes(kind: str) -> None:
    """A source says how many rows it holds where the store or the index does, and never how many pass a filter."""
    with index_over(kind) as index:
        source = ResumableRetriever.from_index(index).source
        assert isinstance(source, VectorStoreSource)
        assert (None if kind == "own" else len(NODES)) == source.size(SearchQuery(data=QUESTION))
        assert source.size(SearchQuery(data=QUESTION, store_filter=ODD)) is None
        assert source.size(SearchQuery(data=QUESTION, mode=RetrievalMode.SPARSE)) is None
        alone = VectorStoreSource(index.vector_store, docstore=index.docstore)
        assert (None if kind in ("own", "simple") else len(NODES)) == alone.size(SearchQuery(data=QUESTION))


class TestContract:
    """LlamaIndex's contract of retrievers, over a store."""

    async def test_objects(self, colour: Colour) -> None:
        """An index node is followed to its object by `retrieve`, and handed out as it is by a session."""
        node = IndexNode(text=QUESTION, index_id="inner", id_="outer", obj=TextNode(id_="inner", text="the object"))
        index = index_of(OwnStore(), [])
        retriever = ResumableRetriever.from_index(
            VectorStoreIndex(objects=[node], embed_model=Digests(), storage_context=index.storage_context)
        )
        assert ["the object"] == [found.text for found in await colour.retrieve(retriever)]
        assert ["outer"] == ids(await colour.drain(colour.open(retriever)))

    async def test_postprocessors(self, over: VectorStoreIndex, colour: Colour) -> None:
        """Only nodes that survive the postprocessors count, and pulling goes on until there are enough."""
        retriever = ResumableRetriever.from_index(over, similarity_top_k=6, node_postprocessors=[WithFire()])
        with_fire = [node.node_id for node in best(over) if "fire" in node.text]
        assert with_fire[:6] == ids(await colour.retrieve(retriever))
        assert -1 not in {node.metadata["place"] for node in best(over)}, "the store's own nodes were changed"

    async def test_events(self, colour: Colour) -> None:
        """A retrieval, and each pull of a session, is one retrieval to tracers and to callbacks."""
        handler = Listening(seen=[], kinds=(RetrievalEndEvent,))
        debug = LlamaDebugHandler(print_trace_on_end=False)
        index = index_of(OwnStore())
        retriever = ResumableRetriever.from_index(index, callback_manager=CallbackManager([debug]), similarity_top_k=3)
        dispatcher = instrumentation.get_dispatcher()  # type: ignore[attr-defined]
        dispatcher.add_event_handler(handler)
        try:
            await colour.retrieve(retriever)
            search = colour.open(retriever)
            await colour.call(search.fetch_next, 3)
            await colour.call(search.fetch_next, 3)
            await colour.call(search.stop)
        finally:
            dispatcher.event_handlers.remove(handler)
        assert [3, 3, 3] == [len(event.nodes) for event in handler.seen]
        assert 3 == len(debug.get_event_pairs(CBEventType.RETRIEVE))

    async def test_asynchronous_half(self) -> None:
        """A store with an `aquery` of its own is awaited, and any other one runs on a thread."""
        loops_to_keep_free.add(id(asyncio.get_running_loop()))
        try:
            for kind in (OwnStore, AwaitingStore):
                index = index_of(kind())
                retriever = ResumableRetriever.from_index(index, similarity_top_k=3, filters=ODD)
                assert 3 == len(await retriever.aretrieve(QUESTION))
        finally:
            loops_to_keep_free.clear()

    async def test_asynchronous_client(self) -> None:
        """A Qdrant store with an asynchronous client alone is searched by that, from its first page to its end."""
        client = AsyncQdrantClient(":memory:")
        store = QdrantVectorStore("nodes", aclient=client, index_doc_id=False)
        embedded: list[BaseNode] = [one.model_copy(update={"embedding": vector_of(one.get_content())}) for one in NODES]
        await store.async_add(embedded)
        retriever = ResumableRetriever.from_vector_store(store, embed_model=Digests(), similarity_top_k=100)
        expected = ids(await retriever.aretrieve(QUESTION))
        assert len(NODES) == len(set(expected))
        async with retriever.aopen(QUESTION) as search:
            assert expected == [node.node_id async for node in search]
        await client.close()

    async def test_asynchronous_refusal(self) -> None:
        """A store whose asynchronous half refuses filters is asked without them."""

        class Both(AwaitingStore, RefusingStore):
            """Both."""

        retriever = ResumableRetriever.from_index(index_of(Both()), similarity_top_k=3, filters=ODD)
        assert {"no"} == {node.metadata["even"] for node in await retriever.aretrieve(QUESTION)}


class Notes(RefetchSource):
    """A source of one's own, which embeds by itself."""

    identity = "notes"

    def __init__(self, *, filters: bool) -> None:
        self.filters = filters
        self.seen: list[Any] = []

    def query(self, query: SearchQuery, count: int) -> list[StoreRow]:
        """Return the notes in their order."""
        self.seen.append(query.store_filter)
        rows = [
            StoreRow(f"n{place}", 1 - place / 100, data=f"note {place}", metadata={"p": place}) for place in range(50)
        ]
        return rows[:count]


class TestOtherSources:
    """Sources of one's own, which are no vector store of LlamaIndex."""

    async def test_rows_without_items(self, colour: Colour) -> None:
        """Rows become text nodes with the id, the text, the metadata and the score of the row; `filters` hold here."""
        places = MetadataFilters(filters=[MetadataFilter(key="p", value=10, operator=FilterOperator.GTE)])
        retriever = ResumableRetriever(source=Notes(filters=False), similarity_top_k=2, filters=places)
        found = await colour.retrieve(retriever)
        assert [("n10", "note 10", {"p": 10}, 0.9), ("n11", "note 11", {"p": 11}, 0.89)] == [
            (node.node_id, node.text, node.metadata, node.score) for node in found
        ]

    async def test_filters_of_the_source(self, colour: Colour) -> None:
        """A filter of the source's own kind is handed on as it is, and refused where the source takes none."""
        source = Notes(filters=True)
        retriever = ResumableRetriever(source=source, filter={"team": "a"})
        await colour.retrieve(retriever)
        await colour.drain(colour.open(retriever, filter={"team": "b"}))
        assert [{"team": "a"}, {"team": "b"}] == [source.seen[0], source.seen[-1]]
        with pytest.raises(ClientError, match="this source takes none"):
            ResumableRetriever(source=Notes(filters=False), filter={"team": "a"})
        with pytest.raises(ClientError, match="this source takes none"):
            colour.open(ResumableRetriever(source=Notes(filters=False)), filter="a")

    @pytest.mark.parametrize(
        "given", [{"retrieval_mode": "dense"}, {"vector_store_query_mode": "hybrid"}, {"alpha": 0.5}]
    )
    def test_modes(self, given: dict[str, Any]) -> None:
        """A source that takes no mode is given none."""
        with pytest.raises(ClientError, match=f"leave {next(iter(given))}= out"):
            ResumableRetriever(source=Notes(filters=False), **given)
