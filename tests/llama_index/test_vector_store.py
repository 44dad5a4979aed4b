"""The LlamaIndex vector store: what it adds, what its queries find, and what it refuses."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from llama_index.core.schema import ImageNode, IndexNode, MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from nextk import Index
from nextk.bodies import metadata_fault
from nextk.errors import ClientError
from nextk.llama_index import ResumableVectorStore
from nextk.transport.encoding import write_json
from nextk.types import FusionAlgorithm, QueryMode, WeightingStrategy
from tests.support.letter_models import loops_to_keep_free
from tests.support.llama_index_colours import Counting, brought, by_texts, by_vectors, coloured, ids_of, words_of
from tests.support.llama_index_filter_oracle import Metadata, O, groups, joined, meant, one, searches
from tests.support.llama_index_stores import DIMENSION, NODES, Digests, node_at, vector_of
from tests.support.sentence_index import QUESTION, TEXTS
from tests.support.transports import Opener

pytestmark = pytest.mark.usefixtures("settings_without_model")

MODES = {"default": "DENSE", "sparse": "SPARSE", "text_search": "SPARSE", "hybrid": "HYBRID"}


class TestAdd:
    """Storing nodes."""

    def test_class(self) -> None:
        """It is a vector store of LlamaIndex that holds the nodes themselves."""
        assert issubclass(ResumableVectorStore, BasePydanticVectorStore)
        with Index.embedded() as index:
            store = ResumableVectorStore(index)
            assert (True, True) == (store.stores_text, store.is_embedding_query)
            assert "ResumableVectorStore" == store.class_name()
            assert store.client is index

    async def test_ids(self, open_index: Opener) -> None:
        """The ids come back in order; requests have the batch size; of two nodes with one id the last one stays."""
        store = by_vectors(open_index, batch_size=2)
        twice = [*NODES[:4], NODES[0].model_copy(update={"text": "again"})]
        sent = open_index.record(store.index).sent
        assert [node.node_id for node in twice] == await store.call("add", twice)
        assert ["upsert"] * 2 == sent
        assert [node.node_id for node in NODES[5:8]] == await store.call("add", NODES[5:8], batch_size=1)
        assert ["upsert"] * 5 == sent
        assert [] == await store.call("add", [])
        assert "again" in (await store.record(NODES[0].node_id)).metadata["_node_content"]

    async def test_nothing_is_embedded_twice(self, open_index: Opener) -> None:
        """A node that brings a vector keeps it, and the model embeds each of the others once."""
        model = Counting()
        store = by_vectors(open_index, embed_model=model)
        given = NODES[0].model_copy(update={"embedding": [1.0] * DIMENSION})
        await store.call("add", [given, NODES[1], NODES[2]], batch_size=2)
        assert [1, 1] == list(model._texts.values())
        assert [1.0] * DIMENSION == (await store.record(given.node_id)).vector
        assert (await store.record(NODES[1].node_id)).sparse_vector is not None

    async def test_a_sparse_model_alone(self, open_index: Opener) -> None:
        """Beside a sparse model, vectors that are brought are stored, unless the index takes none."""
        for kind, dense in (("hybrid", True), ("sparse", False)):
            index = open_index(kind, dimension=DIMENSION) if dense else open_index(kind)
            store = coloured(index, sparse_embedding=words_of)
            await store.call("add", brought(NODES[0]))
            found = await store.record(NODES[0].node_id)
            assert (dense, True) == (bool(found.vector), found.sparse_vector is not None)

    @pytest.mark.parametrize("embedding", [True, None])
    async def test_an_index_that_embeds(self, open_index: Opener, embedding: Any) -> None:
        """An index that embeds is given the text as LlamaIndex shows it to a model, and no vector that was brought."""
        store = by_texts(open_index, embedding=embedding)
        await store.call("add", brought(NODES[0]))
        found = await store.record(NODES[0].node_id)
        assert (NODES[0].get_content(MetadataMode.EMBED), 256) == (found.data, len(found.vector))
        assert (embedding is None) == store.store.is_embedding_query

    async def test_nodes_come_back_whole(self, open_index: Opener) -> None:
        """Nodes of every kind come back as they were, with relationships, templates and nested metadata."""
        related = {
            NodeRelationship.SOURCE: RelatedNodeInfo(node_id="report", metadata={"p": 1}),
            NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c1"), RelatedNodeInfo(node_id="c2")],
        }
        nodes = [
            TextNode(id_="text", text="Schnee — 雪 \"'\\", metadata={"deep": [1, {"a": None}]}, relationships=related),
            IndexNode(id_="index", text="All about rain.", index_id="rain"),
            ImageNode(id_="image", text="A cloud.", image_url="http://127.0.0.1/cloud.png"),
        ]
        store = by_vectors(open_index)
        await store.call("add", nodes)
        found = await store.query(query_str="rain", similarity_top_k=9)
        assert {node.node_id: node.to_dict() for node in nodes} == {n.node_id: n.to_dict() for n in found.nodes or []}

    @pytest.mark.parametrize(
        ("nodes", "complaint"),
        [
            (TextNode(text="a"), "give a list of nodes"),
            (["a"], "record 0 is of the type str"),
            ([TextNode(id_="a", text="a", embedding=[])], "its embedding is empty"),
            ([IndexNode(id_="a", text="a", index_id="b", obj=object())], "an IndexNode cannot be stored"),
        ],
        ids=["one node", "a string", "an empty vector", "an object"],
    )
    async def test_what_cannot_be_stored(self, open_index: Opener, nodes: Any, complaint: str) -> None:
        """One node that cannot be stored is named, and nothing is stored."""
        store = by_vectors(open_index)
        with pytest.raises(ClientError, match=complaint):
            await store.call("add", nodes)
        assert set() == await store.stored()

    async def test_nobody_embeds(self, open_index: Opener) -> None:
        """A node without a vector needs a model, and the error says where to give one."""
        store = coloured(open_index("dense", dimension=DIMENSION))
        with pytest.raises(ClientError, match="pass embed_model="):
            await store.call("add", [TextNode(text="a")])
        await store.call("add", brought(TextNode(id_="a", text="a")))
        assert {"a"} == await store.stored()


class TestQuery:
    """Queries, and the nodes that they find."""

    @pytest.mark.parametrize("mode", MODES)
    async def test_modes_of_an_index_that_embeds(self, open_index: Opener, mode: str) -> None:
        """Each mode finds what `Index.query` finds by the same components, with its scores and in its order."""
        store = by_texts(open_index, fusion="dbsf", weighting="idf")
        await store.call("add", NODES)
        found = await store.query(query_str=QUESTION, mode=mode, similarity_top_k=7, query_embedding=[1.0])
        expected = await store.index.query(
            data=QUESTION,
            query_mode=QueryMode(MODES[mode]),
            top_k=7,
            fusion_algorithm=FusionAlgorithm.DBSF,
            weighting_strategy=WeightingStrategy.IDF,
        )
        assert [match.id for match in expected] == ids_of(found) == found.ids
        assert [match.score for match in expected] == found.similarities

    @pytest.mark.parametrize("mode", MODES)
    async def test_modes_by_vectors(self, open_index: Opener, mode: str) -> None:
        """Each mode is searched by the vectors that it needs: the one that is brought, or those of the models."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        [sparse] = words_of([QUESTION])
        expected = await store.index.query(
            top_k=7,
            vector=None if MODES[mode] == "SPARSE" else vector_of(QUESTION),
            sparse_vector=None if MODES[mode] == "DENSE" else sparse,
        )
        for brought_vector in (None, vector_of(QUESTION)):
            found = await store.query(
                query_str=QUESTION,
                mode=VectorStoreQueryMode(mode),
                similarity_top_k=7,
                query_embedding=brought_vector,
            )
            assert [(match.id, match.score) for match in expected] == list(
                zip(found.ids or [], found.similarities or [], strict=True)
            )

    async def test_a_brought_vector_is_enough(self, open_index: Opener) -> None:
        """A dense query that brings its vector needs no model, and no text either, even where the index embeds."""
        store = coloured(open_index("dense", dimension=DIMENSION))
        await store.call("add", brought(*NODES[:5]))
        found = await store.query(query_embedding=vector_of(NODES[3].text), similarity_top_k=1)
        assert [NODES[3].node_id] == found.ids
        embedding = by_texts(open_index)
        await embedding.call("add", NODES[:5])
        vector = (await embedding.record(NODES[2].node_id)).vector
        found = await embedding.query(query_embedding=vector, query_str="", similarity_top_k=1)
        assert [NODES[2].node_id] == found.ids

    async def test_sizes(self, open_index: Opener) -> None:
        """`hybrid_top_k` is the size of a hybrid query, and a size above 1,000 is paged; nothing stays open."""
        store = by_vectors(open_index)
        await store.call("add", [node_at(position, f"{TEXTS[position % 60]} {position}") for position in range(1_100)])
        sent = open_index.record(store.index).sent
        found = await store.query(query_str=QUESTION, similarity_top_k=5, hybrid_top_k=3, mode="hybrid")
        assert (3, 5) == (len(found.ids or []), len((await store.query(query_str="x", similarity_top_k=5)).ids or []))
        assert ["info", "query", "query"] == sent
        everything = await store.query(query_str=QUESTION, similarity_top_k=1_050)
        assert 1_050 == len(set(everything.ids or []))
        first = await store.query(query_str=QUESTION, similarity_top_k=1_000)
        assert (everything.ids or [])[:1_000] == first.ids

    async def test_restrictions(self, open_index: Opener) -> None:
        """`filter` of the store, filters, documents and nodes all have to hold; empty lists count as absent."""
        store = by_vectors(open_index, filter="place < 30", namespace="n")
        await store.call("add", NODES)
        even = one("even", O.EQ, "yes")
        wanted = [node.node_id for node in NODES[3:9]]
        cases: list[tuple[dict[str, Any], set[int]]] = [
            ({}, set(range(30))),
            ({"doc_ids": [], "node_ids": []}, set(range(30))),
            ({"filters": even}, set(range(0, 30, 2))),
            ({"doc_ids": ["d1"]}, set(range(1, 30, 3))),
            ({"node_ids": wanted}, set(range(3, 9))),
            ({"node_ids": wanted, "doc_ids": ["d1", "d2"], "filters": even}, {4, 8}),
        ]
        for restriction, expected in cases:
            found = await store.query(query_str=QUESTION, similarity_top_k=66, **restriction)
            assert expected == {node.metadata["place"] for node in found.nodes or []}

    async def test_restrictions_alone(self, open_index: Opener) -> None:
        """Without text and vector all that passes is found, whatever the mode, and without scores that mean nothing."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        cases: list[tuple[dict[str, Any], set[int]]] = [
            ({"filters": one("even", O.EQ, "yes")}, set(range(0, 66, 2))),
            ({"filters": one("even", O.GT, "no")}, set(range(0, 66, 2))),
            ({"node_ids": [node.node_id for node in NODES[3:5]]}, {3, 4}),
        ]
        ways: list[dict[str, Any]] = [{}, {"query_str": " "}, {"mode": "hybrid"}, {"mode": "mmr"}]
        for restriction, expected in cases:
            for asked in ways:
                found = await store.query(similarity_top_k=99, **{**restriction, **asked})
                assert expected == {node.metadata["place"] for node in found.nodes or []}
                assert found.similarities is None
        with pytest.raises(ClientError, match="the question is empty"):
            await store.query(similarity_top_k=5)

    async def test_filters_alone_of_an_index_without_vectors(self, open_index: Opener) -> None:
        """An index in which nothing is stored has nothing to find, until there is something."""
        store = coloured(open_index(None), embed_model=Digests())
        filters = one("even", O.EQ, "yes")
        assert [] == (await store.query(filters=filters)).ids
        await store.call("add", NODES[:3])
        assert 2 == len((await store.query(filters=filters, similarity_top_k=9)).ids or [])

    async def test_a_filter_of_the_store_is_no_query(self, open_index: Opener) -> None:
        """A blank query is refused, whatever filter holds for every query of the store."""
        store = by_vectors(open_index, filter="place < 30")
        await store.call("add", NODES[:3])
        with pytest.raises(ClientError, match="the question is empty"):
            await store.query(query_str="  ")

    async def test_vectors_of_other_kinds(self, open_index: Opener) -> None:
        """A query's vector may be an array or a tuple, with a text or without; anything else is refused by its name."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        vector = (await store.record(NODES[7].node_id)).vector
        for numbers in (np.array(vector), tuple(vector)):
            assert [NODES[7].node_id] == (await store.query(query_embedding=numbers)).ids
            assert [NODES[7].node_id] == (await store.query(query_embedding=numbers, query_str="x")).ids
        with pytest.raises(ClientError, match="query_embedding"):
            await store.query(query_embedding="abc")
        with pytest.raises(ClientError, match="query_str"):
            await store.query(query_str=5)

    async def test_named_nodes_are_found_whatever_it_takes(self, open_index: Opener) -> None:
        """No deadline keeps a node from being found that is named by its id."""
        store = by_vectors(open_index, deadline=1e-6)
        await store.call("add", NODES)
        wanted = [NODES[position].node_id for position in (0, 33, 65)]
        found = await store.query(query_str=QUESTION, similarity_top_k=3, node_ids=wanted)
        assert sorted(wanted) == sorted(found.ids or [])

    async def test_what_is_checked_here_is_made_up_for(self, open_index: Opener) -> None:
        """With filters that the index cannot check, the query goes on until there are as many nodes as were wanted."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        filters = joined("and", one("even", O.TEXT_MATCH, "ES"), one("even", O.GT, "no"))
        found = await store.query(query_str=QUESTION, similarity_top_k=9, filters=one("even", O.GT, "no"))
        everything = await store.query(query_str=QUESTION, similarity_top_k=66)
        even = [node.node_id for node in everything.nodes or [] if node.metadata["even"] == "yes"]
        assert even[:9] == found.ids
        assert [] == (await store.query(query_str=QUESTION, similarity_top_k=9, filters=filters)).ids

    async def test_no_more_than_were_named(self, open_index: Opener) -> None:
        """A query for nodes by their ids ends as soon as all of them are found, however many are wanted."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        nearest = await store.query(query_str=QUESTION, similarity_top_k=2)
        sent = open_index.record(store.index).sent
        for mode in ("default", "mmr"):
            found = await store.query(
                query_str=QUESTION,
                similarity_top_k=40,
                node_ids=[*(nearest.ids or []), *(nearest.ids or [])],
                mode=mode,
            )
            assert nearest.ids == found.ids
        assert 0 == sent.count("resumable-query-next")

    async def test_a_query_that_a_deadline_ends(self, open_index: Opener, caplog: pytest.LogCaptureFixture) -> None:
        """A query that its deadline ends before there is enough says so in the log."""
        store = by_vectors(open_index, deadline=1e-9)
        await store.call("add", NODES)
        with caplog.at_level(logging.WARNING):
            found = await store.query(query_str=QUESTION, similarity_top_k=40, filters=one("even", O.GT, "no"))
        assert len(found.ids or []) < 33
        assert "deadline=" in caplog.text

    @pytest.mark.parametrize(
        ("parts", "complaint"),
        [
            ({"mode": "semantic_hybrid"}, "mode='semantic_hybrid' is not supported; these are: 'default'"),
            ({"mode": "svm"}, "mode='svm' is not supported"),
            ({"mode": "both"}, "mode='both' is not one of"),
            ({"mode": "hybrid", "alpha": 0.5}, "alpha=0.5 is not supported, only 0"),
            ({"mode": "sparse", "alpha": 1}, "alpha=1 is a dense search"),
            ({"mode": "mmr", "alpha": 0}, "alpha=0 is a sparse search"),
            ({"sparse_top_k": 5}, "sparse_top_k=5 is not supported"),
            ({"embedding_field": "other"}, "embedding_field='other' is not supported"),
            ({"output_fields": ["a"]}, "is not supported: nodes always come whole"),
            ({"similarity_top_k": 0}, "similarity_top_k=0 must be a whole number, at least 1"),
            ({"query_str": "", "query_embedding": None}, "the question is empty"),
            ({"doc_ids": ["None"]}, "doc_ids= holds 'None'"),
            ({"options": {"mmr_threshold": 0.5}}, "mmr_threshold= is for the mode 'mmr'"),
            ({"mode": "mmr", "options": {"mmr_threshold": 2}}, "mmr_threshold=2"),
            ({"mode": "mmr", "options": {"mmr_prefetch_k": 2, "mmr_prefetch_factor": 2}}, "leave one out"),
            ({"mode": "mmr", "options": {"mmr_prefetch_k": 0}}, "mmr_prefetch_k=0 must be"),
        ],
    )
    async def test_what_is_refused(self, open_index: Opener, parts: dict[str, Any], complaint: str) -> None:
        """A query that no index can answer, or that contradicts itself, is refused before anything is sent."""
        store = by_vectors(open_index)
        sent = open_index.record(store.index).sent
        with pytest.raises(ClientError, match=complaint):
            await store.query(**{"query_str": "a", **parts})
        assert [] == sent

    async def test_alpha_of_one_half(self, open_index: Opener) -> None:
        """An `alpha` of 1 is a dense query, and one of 0 a sparse query."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        for alpha, mode in ((1, "default"), (0, "sparse")):
            halves = [{"mode": "hybrid", "alpha": alpha}, {"mode": mode}]
            weighed, plain = [
                await store.query(query_str=QUESTION, similarity_top_k=9, **parts)  # type: ignore[arg-type]
                for parts in halves
            ]
            assert plain.ids == weighed.ids

    async def test_nothing_blocks_the_loop(self) -> None:
        """Dense models are awaited, and sparse ones that only block go to a thread, for nodes as for queries."""
        with Index.embedded(type="hybrid", dimension=DIMENSION) as index:
            store = ResumableVectorStore(index, embed_model=Digests(), sparse_embedding=words_of)
            loops_to_keep_free.add(id(asyncio.get_running_loop()))
            try:
                await store.async_add(brought(*NODES))
                for mode in ("hybrid", "default", "sparse", "mmr"):
                    query = VectorStoreQuery(query_str=QUESTION, mode=VectorStoreQueryMode(mode))
                    assert 1 == len((await store.aquery(query)).ids or [])
            finally:
                loops_to_keep_free.clear()

    @pytest.mark.parametrize("method", ["add", "query", "delete", "delete_nodes"])
    async def test_unknown_keywords(self, open_index: Opener, method: str) -> None:
        """A keyword that a method does not take is refused by its name."""
        store = by_vectors(open_index)
        first: dict[str, Any] = {"add": [], "query": VectorStoreQuery(), "delete": "a", "delete_nodes": ["a"]}
        with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'wrong'"):
            await store.call(method, first[method], wrong=1)


class TestMmr:
    """Choosing by maximal marginal relevance."""

    @pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0])
    async def test_as_in_memory(self, open_index: Opener, threshold: float) -> None:
        """The nodes and their scores are those of LlamaIndex's in-memory store, which chooses from all nodes."""
        store, memory = by_vectors(open_index), SimpleVectorStore()
        nodes = brought(*NODES[:30])
        await store.call("add", nodes)
        memory.add(nodes)
        mode = VectorStoreQueryMode.MMR
        query: dict[str, Any] = {"query_embedding": vector_of(QUESTION), "similarity_top_k": 6, "mode": mode}
        expected = memory.query(VectorStoreQuery(**query), mmr_threshold=threshold)
        options = {"mmr_threshold": threshold, "mmr_prefetch_k": 30}
        found = await store.query(query_str=QUESTION, options=options, **query)
        assert expected.ids == found.ids
        assert np.allclose(expected.similarities or [], found.similarities or [], atol=1e-5)
        assert [None] * 6 == [node.embedding for node in found.nodes or []]
        by_field = await store.query(mmr_threshold=threshold, options={"mmr_prefetch_factor": 5}, **query)
        assert expected.ids == by_field.ids

    async def test_candidates(self, open_index: Opener) -> None:
        """Four times as many nodes as are wanted are candidates by default, also through a filter checked here."""
        store = by_vectors(open_index)
        await store.call("add", NODES)
        checked = one("even", O.GT, "no")
        wanted: dict[str, Any] = {"query_str": QUESTION, "similarity_top_k": 5, "mode": VectorStoreQueryMode.MMR}
        for filters in (None, checked):
            nearest = await store.query(query_str=QUESTION, similarity_top_k=20, filters=filters)
            found = await store.query(filters=filters, options={"mmr_threshold": 0.1}, **wanted)
            assert set(found.ids or []) <= set(nearest.ids or [])
            assert (found.ids or [])[:1] == (nearest.ids or [])[:1]
            assert 5 == len(found.ids or [])
        relevant = await store.query(options={"mmr_threshold": 1}, **wanted)
        assert (await store.query(query_str=QUESTION, similarity_top_k=5)).ids == relevant.ids

    async def test_an_index_that_embeds(self, open_index: Opener) -> None:
        """The vector of the query comes from the models of the index if they are here, and else the mode is refused."""
        store = by_texts(open_index)
        await store.call("add", NODES[:9])
        wanted: dict[str, Any] = {"query_str": QUESTION, "similarity_top_k": 3, "mode": "mmr"}
        if open_index.server is None:
            nearest = await store.query(query_str=QUESTION, similarity_top_k=1)
            assert nearest.ids == ((await store.query(**wanted)).ids or [])[:1]
        else:
            with pytest.raises(ClientError, match="there is no vector of the query here"):
                await store.query(**wanted)

    def test_zero_vectors(self) -> None:
        """A vector of zeros, which an index of dot products may hold, is as near to anything as can be said: not."""
        with Index.embedded(type="dense", dimension=2, similarity="dot_product") as index:
            store = ResumableVectorStore(index)
            store.add([TextNode(id_=str(n), text="a", embedding=[float(n), 0.0]) for n in range(3)])
            query = VectorStoreQuery([1.0, 0.0], similarity_top_k=3, mode=VectorStoreQueryMode.MMR)
            assert {"0", "1", "2"} == set(store.query(query).ids or [])
            nothing = VectorStoreQuery([1.0, 0.0], mode=VectorStoreQueryMode.MMR, filters=one("a", O.EQ, 1))
            assert [] == store.query(nothing).ids


@pytest.fixture(scope="module")
def rows_by_id() -> Iterator[Index]:
    """An index for records that are made anew for each example."""
    with Index.embedded(type="dense", dimension=1) as index:
        yield index


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(search=searches(groups))
def test_filters_mean_what_they_mean_in_memory(
    rows_by_id: Index, search: tuple[MetadataFilters, list[Metadata]]
) -> None:
    """Filters pass the nodes that they pass in LlamaIndex's in-memory store: in queries, in reading and in removing."""
    filters, drawn = search
    rows = [row for row in drawn if metadata_fault(row, write_json(row)) is None]
    store = ResumableVectorStore(rows_by_id)
    store.clear()
    store.add([TextNode(id_=str(n), text="a", metadata=row, embedding=[1.0]) for n, row in enumerate(rows)])
    expected = [str(position) for position, row in enumerate(rows) if meant(filters, row)]
    found = store.query(VectorStoreQuery([1.0], similarity_top_k=3, filters=filters))
    assert expected == sorted(found.ids or []) == ids_of(store.get_nodes(filters=filters))
    try:
        store.delete_nodes(filters=filters)
    except ClientError:  # they restrict nothing
        assert len(rows) == len(expected)
    else:
        kept = [str(position) for position in range(len(rows)) if str(position) not in expected]
        assert kept == ids_of(store.get_nodes())
