"""The LlamaIndex retriever over the vector stores that people have: any store, and the `VectorStoreIndex` over it."""

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever
from nextk.stores import Continuation
from nextk.until import Accepted
from tests.support.letter_models import loops_to_keep_free
from tests.support.llama_index_stores import (
    NODES,
    STORES,
    Digests,
    OwnStore,
    RefusingStore,
    index_of,
    index_over,
)
from tests.support.sentence_index import QUESTION

ODD = MetadataFilters(filters=[MetadataFilter(key="even", value="no")])


@pytest.fixture(scope="module", params=STORES)
def over(request: pytest.FixtureRequest) -> Iterator[VectorStoreIndex]:
    """A `VectorStoreIndex` over each kind of store, which no test may change."""
    with index_over(request.param) as index:
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
            await colour.call(lambda: search.widen(filter="even = 'no'"))
