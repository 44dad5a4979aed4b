"""Options of the LlamaIndex retriever: filters, postprocessors, constructors, storing, and what tracers see."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.llama_debug import LlamaDebugHandler
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent, RetrievalStartEvent
from llama_index.core.postprocessor import KeywordNodePostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import Document, NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index_instrumentation import get_dispatcher
from upstash_vector import Index as SdkIndex

from nextk import Index
from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever
from nextk.until import Accepted, MaxResults
from tests.support.llama_index_events import Listening
from tests.support.local_server import LocalServer
from tests.support.sentence_index import QUESTION, TEXTS
from tests.support.texts import with_neighbours
from tests.support.transports import Recording


def nodes() -> list[TextNode]:
    """A node for each sentence, of three source documents."""
    made = [
        TextNode(
            id_=f"n{position}", text=text, metadata={"place": position, "tags": ["even"] if position % 2 == 0 else []}
        )
        for position, text in enumerate(TEXTS)
    ]
    for position, node in enumerate(made):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"d{position % 3}")
    return made


@pytest.fixture(scope="module")
def stored() -> Iterator[ResumableRetriever]:
    """A retriever that owns an index of all nodes."""
    with ResumableRetriever.from_nodes(nodes()) as retriever:
        yield retriever


def over(stored: ResumableRetriever, **options: Any) -> ResumableRetriever:
    """Another retriever over the same index."""
    return ResumableRetriever(stored.index, embedding=True, weighting="idf", **options)


def places(found: list[NodeWithScore]) -> list[int]:
    """Which nodes they are."""
    return [node.metadata["place"] for node in found]


def where(*conditions: tuple[str, FilterOperator, Any], condition: FilterCondition = FilterCondition.AND) -> Any:
    """Metadata filters."""
    filters: list[MetadataFilter | MetadataFilters] = [
        MetadataFilter(key=key, operator=operator, value=value) for key, operator, value in conditions
    ]
    return MetadataFilters(filters=filters, condition=condition)


class Long(BaseNodePostprocessor):
    """Keeps long texts, and marks them."""

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> Any:
        assert query_bundle is not None
        kept = [node for node in nodes if node.metadata["place"] % 4 == 0]
        return [
            NodeWithScore(node=TextNode(id_=node.node_id, text="!", metadata=node.metadata), score=9.0) for node in kept
        ]


class Counting(BaseNodePostprocessor):
    """Notes what it is shown."""

    seen: list[int]

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> Any:
        self.seen += places(nodes)
        return nodes


class TestNarrowing:
    """What a search is narrowed by."""

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            (where(("place", FilterOperator.LT, 9)), set(range(9))),
            (where(("tags", FilterOperator.CONTAINS, "even"), ("place", FilterOperator.LT, 9)), {0, 2, 4, 6, 8}),
            (where(("place", FilterOperator.NE, 0), ("place", FilterOperator.LT, 4)), {1, 2, 3}),
            (where(("place", FilterOperator.GT, 3), condition=FilterCondition.NOT), {0, 1, 2, 3}),
        ],
    )
    async def test_filters(self, stored: ResumableRetriever, filters: Any, expected: set[int]) -> None:
        """`MetadataFilters` narrow what is retrieved and what is opened, together with a filter of the index's."""
        retriever = over(stored, filters=filters, similarity_top_k=100)
        assert expected == set(places(retriever.retrieve(QUESTION))) == set(places(await retriever.aretrieve(QUESTION)))
        with retriever.open(QUESTION, filter="place > 1 OR place = 0") as search:
            assert expected - {1} == set(places(list(search)))

    @pytest.mark.parametrize(
        "filter",
        [
            "place = 5) OR (place = 7",
            "place >= 0) OR HAS FIELD place OR (place = 7",
            "place = 5 OR ((place = 7)",
            "place = 5) OR (place = ')'",
            "place = 5 OR place = 'it",
            r"place = 'C:\'",
        ],
    )
    def test_no_filter_reaches_out_of_its_parentheses(self, stored: ResumableRetriever, filter: str) -> None:
        """A filter that would undo what holds besides it is refused, wherever it is given."""
        restrictions: list[dict[str, Any]] = [{"filters": where(("place", FilterOperator.LT, 2))}, {"doc_ids": ["d0"]}]
        for restriction in restrictions:
            with pytest.raises(ClientError, match="a parenthesis or a string open"):
                over(stored, filter=filter, **restriction)
            retriever = over(stored, **restriction)
            for opens in (retriever.open, retriever.aopen):
                with pytest.raises(ClientError, match="a parenthesis or a string open"):
                    opens(QUESTION, filter=filter)
            with retriever.open(QUESTION) as search, pytest.raises(ClientError, match="a parenthesis or a string open"):
                search.widen(filter=filter)

    def test_parentheses_and_quotes_in_a_filter(self, stored: ResumableRetriever) -> None:
        """A balanced filter holds besides the others, whatever its strings contain; a blank one does nothing."""
        retriever = over(stored, filters=where(("place", FilterOperator.LT, 4)), similarity_top_k=100)
        for own, expected in {
            r"(place = 1 OR place != ')\'(') AND (place > 0)": {1, 2, 3},
            'place = 3 OR place = "it\'s ("': {3},
            "\n ": {0, 1, 2, 3},
        }.items():
            with retriever.open(QUESTION, filter=own) as search:
                assert expected == set(places(list(search)))

    @pytest.mark.parametrize("operator", [FilterOperator.LTE, FilterOperator.NE])
    async def test_widening_keeps_the_filters(self, stored: ResumableRetriever, operator: FilterOperator) -> None:
        """A new filter replaces the `filter` of a search alone: `filters` and `doc_ids` hold on, also from a cursor."""
        retriever = over(stored, filters=where(("place", operator, 30)), doc_ids=["d0"])
        permitted = {
            place for place in range(0, 66, 3) if (place <= 30 if operator is FilterOperator.LTE else place != 30)
        }
        for wider, expected in {"place < 40": {place for place in permitted if place < 40}, "": permitted}.items():
            with retriever.open(QUESTION, filter="place < 10") as search:
                first = search.fetch_next(2)
                search.widen(filter=wider)
                found = [*first, *search.fetch_next(3)]
                cursor = search.cursor()
            with retriever.resume(cursor, filter=wider) as search:
                assert expected == set(places([*found, *search]))
            async with retriever.aopen(QUESTION, filter="place < 10") as searching:
                found = await searching.fetch_next(2)
                await searching.widen(filter=wider)
                assert expected == set(places([*found, *[node async for node in searching]]))

    async def test_pulling_goes_on(self, stored: ResumableRetriever) -> None:
        """As many nodes as asked for, however many have to be left out on this side."""
        retriever = over(stored, node_ids=[f"n{position}" for position in range(0, 66, 11)], similarity_top_k=5)
        assert 5 == len(retriever.retrieve(QUESTION)) == len(await retriever.aretrieve(QUESTION))
        assert all(position % 11 == 0 for position in places(retriever.retrieve(QUESTION)))

    def test_doc_ids(self, stored: ResumableRetriever) -> None:
        """Nodes of some source documents; no ids at all are no restriction."""
        found = over(stored, doc_ids=["d1"], similarity_top_k=100).retrieve(QUESTION)
        assert {position for position in range(66) if position % 3 == 1} == set(places(found))
        assert 66 == len(over(stored, doc_ids=[], node_ids=[], similarity_top_k=100).retrieve(QUESTION))

    async def test_postprocessors_count_before(self, stored: ResumableRetriever) -> None:
        """Postprocessors take part in every page, before anything is counted; what they change is handed out."""
        retriever = over(stored, node_postprocessors=[Long()], similarity_top_k=7)
        for found in (retriever.retrieve(QUESTION), await retriever.aretrieve(QUESTION)):
            assert (7, {0}, {"!"}, {9.0}) == (
                len(found),
                {position % 4 for position in places(found)},
                {node.text for node in found},
                {node.score for node in found},
            )
        async with retriever.aopen(QUESTION) as search:
            assert 5 == len(await search.fetch_next(5))

    def test_postprocessors_come_after_permissions(self, stored: ResumableRetriever) -> None:
        """What a policy does not permit no postprocessor sees."""
        counting = Counting(seen=[])
        until = Accepted(4, lambda found: [node.metadata["place"] % 5 == 0 for node in found])
        found = over(stored, node_postprocessors=[counting], until=until).retrieve(QUESTION)
        assert 4 == len(found)
        assert all(position % 5 == 0 for position in counting.seen)

    def test_a_keyword_postprocessor_does_not_starve(self, stored: ResumableRetriever) -> None:
        """The top node lacks the word, and still there are as many nodes with it as asked for."""
        try:
            keyword = KeywordNodePostprocessor(required_keywords=["sand"])
            keyword.postprocess_nodes([])
        except ImportError:
            pytest.skip("it needs spacy")
        assert 2 == len(over(stored, node_postprocessors=[keyword]).retrieve(QUESTION))

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"alpha": 0.5, "vector_store_query_mode": "hybrid"}, "alpha=0.5 is not supported"),
            ({"alpha": 1, "retrieval_mode": "sparse"}, "alpha=1 is a dense search"),
            ({"filters": where(("place", FilterOperator.IN, 5))}, "in"),
            ({"node_ids": "n1"}, "node_ids"),
        ],
    )
    def test_what_cannot_be_honoured(self, stored: ResumableRetriever, options: dict[str, Any], match: str) -> None:
        """What an index cannot do is refused when the retriever is made."""
        with pytest.raises(ClientError, match=match):
            over(stored, **options)

    def test_alpha_and_hybrid_top_k(self, stored: ResumableRetriever) -> None:
        """All of one half is that half; a hybrid search has its own number of nodes."""
        dense = over(stored, retrieval_mode="dense", similarity_top_k=9).retrieve(QUESTION)
        assert places(dense) == places(over(stored, alpha=1, similarity_top_k=9).retrieve(QUESTION))
        sparse = over(stored, retrieval_mode="sparse", similarity_top_k=9).retrieve(QUESTION)
        weighed = over(stored, alpha=0.0, vector_store_query_mode="hybrid", hybrid_top_k=3, similarity_top_k=9)
        assert places(sparse) == places(weighed.retrieve(QUESTION))
        assert 3 == len(over(stored, retrieval_mode="hybrid", hybrid_top_k=3, similarity_top_k=9).retrieve(QUESTION))


class TestOrigins:
    """Where a retriever comes from."""

    def test_from_what_there_is(self, local_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the environment, from a vector store and from a `VectorStoreIndex` over one: the same index."""
        url = local_server.add("origins", type="hybrid", embedding="static", sparse_embedding="bm25")

        class Store(SimpleVectorStore):
            """Made like LlamaIndex's Upstash store."""

            stores_text: bool = True
            namespace: str = "space"

            @property
            def client(self) -> Any:
                return SdkIndex(url, local_server.token)

        with ResumableRetriever(url=url, token=local_server.token, namespace="space") as writer:
            assert ["n0", "n1"] == writer.insert_nodes(nodes()[:2])
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", url)
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", local_server.token)
        index = VectorStoreIndex.from_vector_store(Store(), embed_model=MockEmbedding(4))
        for retriever in (
            ResumableRetriever.from_env(namespace="space"),
            ResumableRetriever.from_vector_store(Store()),
            ResumableRetriever.from_index(index, embed_model=None),
        ):
            with retriever:
                assert [0, 1] == sorted(places(retriever.retrieve(QUESTION)))
        with pytest.raises(ClientError, match="store_id= is for stores of another kind"):
            ResumableRetriever.from_vector_store(Store(), store_id="mine")

    def test_configuration(self) -> None:
        """What a retriever is set to is JSON without secrets, and makes one like it."""
        retriever = ResumableRetriever(
            url="http://127.0.0.1:1", token="secret", similarity_top_k=7, retrieval_mode="dense", filter="a = 1"
        )
        config = json.loads(json.dumps(retriever.to_config()))
        assert "secret" not in repr(config)
        again = ResumableRetriever(token="secret", **config)
        assert config == again.to_config()
        assert (7, "a = 1") == (again.similarity_top_k, config["filter"])


class TestWriting:
    """Storing and removing."""

    async def test_vectors_of_models(self) -> None:
        """Nodes are stored by the retriever's models, or by the vectors they have, and found again whole."""
        with Index.embedded(type="dense", dimension=4) as index:
            retriever = ResumableRetriever(index, embed_model=MockEmbedding(4), similarity_top_k=100, namespace="space")
            some = nodes()[:6]
            some[0].embedding = [1.0, 0.0, 0.0, 0.0]
            assert ["n0", "n1", "n2"] == retriever.insert_nodes(some[:3], batch_size=2)
            assert ["n3", "n4", "n5"] == await retriever.ainsert_nodes(some[3:])
            found = retriever.retrieve(QUESTION)
            assert {node.node_id: node.text for node in found} == {node.node_id: node.text for node in some}
            (record,) = index.fetch(["n0"], include_vectors=True, namespace="space")
            assert record is not None
            assert [1.0, 0.0, 0.0, 0.0] == record.vector
            assert 2 == retriever.delete_ref_doc("d0")
            assert 2 == await retriever.adelete_ref_doc("d1")
            assert ["n2", "n5"] == sorted(node.node_id for node in retriever.retrieve(QUESTION))
            assert 0 == retriever.delete_ref_doc("d0' OR ref_doc_id = 'd2")
            assert 2 == len(retriever.retrieve(QUESTION))

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize(
        "ref_doc_id",
        [
            r"C:\data\a.pdf",
            r"\\server\share\a.pdf",
            "C:\\data\\",
            'it\'s "a" \\\'b\\" [c]*?\\',
            "none",
            " ",
            "雪\n",
            "'\"" * 1000,
        ],
    )
    async def test_a_document_is_removed_whatever_its_id(self, ref_doc_id: str, asynchronous: bool) -> None:
        """The nodes of one document go, and none of documents with similar ids or of none."""
        others = [each for each in with_neighbours(ref_doc_id) if each not in ("", ref_doc_id)]
        made = [TextNode(id_=f"{parent}-{part}", text="snow") for parent in range(len(others) + 1) for part in "ab"]
        for parent, each in enumerate([ref_doc_id, *others]):
            for node in made[2 * parent : 2 * parent + 2]:
                node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=each)
        made.append(TextNode(id_="orphan", text="snow"))
        with Index.embedded(type="dense", dimension=4) as index:
            retriever = ResumableRetriever(index, embed_model=MockEmbedding(4), namespace="space")
            retriever.insert_nodes(made)
            removed = (
                await retriever.adelete_ref_doc(ref_doc_id) if asynchronous else retriever.delete_ref_doc(ref_doc_id)
            )
            assert 2 == removed
            left = index.range(limit=1000, namespace="space").vectors
            assert {node.node_id for node in made[2:]} == {record.id for record in left}

    @pytest.mark.parametrize("ref_doc_id", ["None", "", None, 5, "\0", "\ud800", "x" * 7000])
    async def test_no_document_is_removed_by_an_id_that_names_none(self, ref_doc_id: Any) -> None:
        """Nodes without a source document are stored under `"None"`: it is refused like other ids that name nothing."""
        with Index.embedded(type="dense", dimension=4) as index:
            retriever = ResumableRetriever(index, embed_model=MockEmbedding(4))
            retriever.insert_nodes([TextNode(id_="orphan", text="snow"), Document(id_="whole", text="ice")])
            advice = r"^ref_doc_id=.*by their own ids, with retriever\.index\.delete"
            with pytest.raises(ClientError, match=advice):
                retriever.delete_ref_doc(ref_doc_id)
            with pytest.raises(ClientError, match=advice):
                await retriever.adelete_ref_doc(ref_doc_id)
            assert 2 == index.info().vector_count
            assert 2 == retriever.index.delete(["orphan", "whole"]).deleted

    def test_a_batch_that_fails(self, stored: ResumableRetriever) -> None:
        """The exception says how many batches are stored."""
        recording = Recording(stored.index._transport)
        recording.failures["upsert-data"] = ClientError("not now")
        retriever = ResumableRetriever(Index._over(recording), embedding=True)
        with pytest.raises(ClientError) as raised:
            retriever.insert_nodes(nodes()[:3], batch_size=2)
        assert ["0 of 2 batches are stored" in note for note in raised.value.__notes__] == [True]


@pytest.fixture
def listening() -> Iterator[Listening]:
    """A handler of all events."""
    handler = Listening(seen=[], kinds=(RetrievalStartEvent, RetrievalEndEvent))
    root = get_dispatcher()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


class TestTraces:
    """What LlamaIndex's tracers and callbacks see."""

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_every_pull(self, stored: ResumableRetriever, listening: Listening, *, asynchronous: bool) -> None:
        """Every pull of an opened search has a start and an end, which says how the search stands."""
        debug = LlamaDebugHandler(print_trace_on_end=False)
        retriever = over(stored, callback_manager=CallbackManager([debug]))
        if asynchronous:
            async with retriever.aopen(QUESTION) as search:
                await search.fetch_next(3)
                await search.fetch_until(MaxResults(2))
        else:
            with retriever.open(QUESTION) as blocking:
                blocking.fetch_next(3)
                blocking.fetch_until(MaxResults(2))
        ends = [event for event in listening.seen if isinstance(event, RetrievalEndEvent)]
        assert (4, [3, 2]) == (len(listening.seen), [len(end.nodes) for end in ends])
        assert [None, "max_results"] == [end.tags["stop_reason"] for end in ends]
        assert [False, False] == [end.tags["exhausted"] for end in ends]
        pairs = debug.get_event_pairs(CBEventType.RETRIEVE)
        assert [3, 2] == [len((end.payload or {})[EventPayload.NODES]) for _, end in pairs]
        assert [0, 0] == [(end.payload or {})["recovered"] for _, end in pairs]

    @pytest.mark.parametrize("options", [{}, {"until": MaxResults(3)}, {"node_postprocessors": [Long()]}])
    async def test_one_retrieval(self, stored: ResumableRetriever, listening: Listening, options: Any) -> None:
        """`retrieve` and `aretrieve` are one retrieval each, however many pages they pull."""
        retriever = over(stored, **options)
        retriever.retrieve(QUESTION)
        await retriever.aretrieve(QUESTION)
        assert 4 == len(listening.seen)
