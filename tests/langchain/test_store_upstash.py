"""The vector store beside the Upstash store of `langchain_community`, and over records of LangChain.js."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import upstash_vector
from langchain_core.documents import Document
from upstash_vector.types import FusionAlgorithm, QueryMode

from nextk import AsyncIndex, Index
from nextk.langchain import ResumableRetriever, ResumableVectorStore
from nextk.types import Data, Vector
from tests.support.community_store import UpstashVectorStore, store_at, without_id
from tests.support.letter_models import Letters, contents
from tests.support.local_server import TOKEN, LocalServer
from tests.support.sentence_index import QUESTION, TEXTS
from tests.support.vector_stores import Colour, stored

METADATAS: list[dict[str, Any]] = [
    {"place": place, "lang": "de" if place % 3 == 0 else "en", "tags": ["a", {"b": None}]}
    for place in range(len(TEXTS))
]
IDS = [f"t{place}" for place in range(len(TEXTS))]


@dataclass
class Both:
    """The community store and the one of nextk, over one index.

    Attributes:
        old: The community store.
        new: The store of nextk.
        run: Calls the store of nextk in a colour.
        url: Where the index is.
    """

    old: UpstashVectorStore
    new: ResumableVectorStore
    run: Colour
    url: str

    def same(self, old: list[Document], new: list[Document]) -> None:
        """Check that both have found the same documents, and at least one; only those of nextk have ids."""
        assert old
        assert old == [without_id(document) for document in new]


@contextmanager
def both(server: LocalServer, run: Colour, model: Any, **schema: Any) -> Iterator[Both]:
    """Open both stores over a new index, each as the migration table says."""
    url = server.add("i", **schema)
    with store_at(url, model, namespace="ns") as old:
        new = ResumableVectorStore(embedding=model, url=url, token=TOKEN, namespace="ns")
        with new:
            yield Both(old, new, run, url)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server without indexes."""
    with LocalServer() as server:
        yield server


@pytest.fixture(params=[False, True], ids=["blocking", "asynchronous"])
def run(request: pytest.FixtureRequest) -> Colour:
    """Calls a method in a colour."""
    return Colour(request.param)


@pytest.fixture(params=["caller", "index"])
async def stores(request: pytest.FixtureRequest, server: LocalServer, run: Colour) -> Any:
    """Both stores over an index of dense vectors: those of a model of the caller's, or of the index's own."""
    model: Any = Letters() if request.param == "caller" else True
    schema: dict[str, Any] = {"dimension": 4} if request.param == "caller" else {"embedding": "static"}
    with both(server, run, model, type="dense", **schema) as opened:
        yield opened
        await opened.new.aclose()


@pytest.fixture
def filled(stores: Both) -> Both:
    """Both stores, over records that the community store has written."""
    assert IDS == stores.old.add_texts(TEXTS, METADATAS, IDS)
    return stores


class TestItsRecords:
    """Records that the community store has written."""

    async def test_found(self, filled: Both) -> None:
        """A search finds them, with the scores and in the order of the community store."""
        old = filled.old.similarity_search_with_score(QUESTION, 20)
        new = await filled.run(filled.new, "similarity_search_with_score", QUESTION, 20)
        assert old == [(without_id(document), score) for document, score in new]
        filled.same(
            filled.old.similarity_search(QUESTION, 9, "place < 30 AND lang = 'de'"),
            await filled.run(filled.new, "similarity_search", QUESTION, 9, {"place": {"$lt": 30}, "lang": "de"}),
        )

    async def test_read_by_id(self, filled: Both) -> None:
        """They come with their ids, texts and metadata; the key of the text is in no metadata."""
        found = await filled.run(filled.new, "get_by_ids", ["t7", "none", "t3"])
        assert [("t7", TEXTS[7], METADATAS[7]), ("t3", TEXTS[3], METADATAS[3])] == [
            (document.id, document.page_content, document.metadata) for document in found
        ]

    async def test_updated(self, filled: Both) -> None:
        """A document with the id of a record takes its place, whole."""
        document = Document("The moon.", id="t7", metadata={"place": -7})
        assert ["t7"] == await filled.run(filled.new, "add_documents", [document])
        assert [document] == await filled.run(filled.new, "get_by_ids", ["t7"])
        assert len(TEXTS) == len(stored(filled.new.index, "ns"))
        assert [] == await filled.run(filled.new, "similarity_search", QUESTION, 5, {"place": 7})

    async def test_updated_there(self, filled: Both) -> None:
        """A record that the community store rewrites after that is found as it has written it."""
        await filled.run(filled.new, "add_texts", ["The moon."], ids=["t7"])
        filled.old.add_texts(["The stars."], [{"place": -8}], ["t7"])
        assert [Document("The stars.", id="t7", metadata={"place": -8})] == await filled.run(
            filled.new, "get_by_ids", ["t7"]
        )

    async def test_removed(self, filled: Both) -> None:
        """They are removed by their ids and by a filter, and then the community store does not find them either."""
        await filled.run(filled.new, "delete", IDS[:10])
        await filled.run(filled.new, "delete", filter={"place": {"$gte": 20}})
        assert set(IDS[10:20]) == stored(filled.new.index, "ns").keys()
        filled.same(
            filled.old.similarity_search(QUESTION, 99), await filled.run(filled.new, "similarity_search", QUESTION, 99)
        )


class TestItsReading:
    """Records of nextk, read by the community store."""

    async def test_with_a_model_of_the_callers(self, server: LocalServer, run: Colour) -> None:
        """It finds, filters and removes what is stored here by a model of the caller's."""
        with both(server, run, Letters(), type="dense", dimension=4) as stores:
            await run(stores.new, "add_texts", TEXTS, METADATAS, ids=IDS)
            stores.same(
                stores.old.similarity_search(QUESTION, 20, "lang = 'de'"),
                await run(stores.new, "similarity_search", QUESTION, 20, {"lang": "de"}),
            )
            stores.old.delete(IDS[5:])
            assert set(IDS[:5]) == stored(stores.new.index, "ns").keys()
            await stores.new.aclose()

    async def test_what_the_index_embeds(self, server: LocalServer, run: Colour) -> None:
        """It reads, and each store updates, what the other one has the index embed, record for record."""
        with both(server, run, True, type="dense", embedding="static") as stores:
            ids = stores.old.add_texts(TEXTS[:3], METADATAS[:3])
            before = stored(stores.new.index, "ns")
            await run(stores.new, "add_texts", TEXTS[:3], METADATAS[:3], ids=ids)
            assert before == stored(stores.new.index, "ns")
            await run(stores.new, "add_texts", ["Another text."], [{"place": -1}], ids=ids[:1])
            assert "Another text." in contents(stores.old.similarity_search(QUESTION, k=9))
            [document] = await run(stores.new, "get_by_ids", ids[:1])
            assert ("Another text.", {"place": -1}) == (document.page_content, document.metadata)
            await stores.new.aclose()

    async def test_what_has_no_text_in_its_metadata(self, server: LocalServer, run: Colour) -> None:
        """It skips a record whose text is the data of the index alone, which is stored so on request."""
        with both(server, run, True, type="dense", embedding="static") as stores:
            alone = ResumableVectorStore(stores.new.index, embedding=True, text_key=(), namespace="ns")
            ids = await run(alone, "add_texts", TEXTS[:3], METADATAS[:3])
            assert [] == stores.old.similarity_search(QUESTION)
            assert TEXTS[:3] == contents(await run(stores.new, "get_by_ids", ids))
            await stores.new.aclose()


class TestMigrationTable:
    """Each row of the table in the docstring of the store, in its order: the old code and the new code."""

    def test_every_row_is_here(self) -> None:
        """The table has as many rows as this class has tests of rows."""
        table = re.findall(r"^ *\| .* \|$", inspect.getdoc(ResumableVectorStore) or "", re.MULTILINE)
        rows = [name for name in vars(type(self)) if name.startswith("test_row_")]
        assert len(table) - 2 == len(rows)

    async def test_row_url(self, server: LocalServer, run: Colour) -> None:
        """`UpstashVectorStore(embedding=, index_url=, ...)`."""
        url, model = server.add("i", type="dense", dimension=4), Letters()
        old = UpstashVectorStore(embedding=model, index_url=url, index_token=TOKEN)
        new = ResumableVectorStore(embedding=model, url=url, token=TOKEN)
        old.add_texts(["a"], ids=["1"])
        assert ["a"] == contents(await run(new, "get_by_ids", ["1"]))
        old._index._client.close()
        await new.aclose()
        new.close()

    async def test_row_index(self, server: LocalServer) -> None:
        """`UpstashVectorStore(index=, async_index=)`: one index serves both colours."""
        url, model = server.add("i", type="dense", dimension=4), Letters()
        sdk, asynchronous = upstash_vector.Index(url, TOKEN), upstash_vector.AsyncIndex(url, TOKEN)
        old = UpstashVectorStore(index=sdk, async_index=asynchronous, embedding=model)
        old.add_texts(["a"], ids=["1"])
        await old.aadd_texts(["s"], ids=["2"])
        for index in (Index(url, TOKEN), AsyncIndex(url, TOKEN)):
            new = ResumableVectorStore(index, model)
            assert ["a", "s"] == contents(new.get_by_ids(["1", "2"])) == contents(await new.aget_by_ids(["1", "2"]))
            await new.index.to_async().close()
        sdk._client.close()
        await asynchronous._client.aclose()

    async def test_row_filter(self, filled: Both) -> None:
        """`store.similarity_search(query, 5, "lang = 'de'")`."""
        expected = filled.old.similarity_search(QUESTION, 5, "lang = 'de'")
        filled.same(expected, await filled.run(filled.new, "similarity_search", QUESTION, 5, "lang = 'de'"))
        filled.same(expected, await filled.run(filled.new, "similarity_search", QUESTION, 5, filter={"lang": "de"}))

    @pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
    @pytest.mark.parametrize("fusion", ["rrf", "dbsf"])
    async def test_row_mode(self, server: LocalServer, run: Colour, mode: Any, fusion: Any) -> None:
        """`query_mode=`, `fusion_algorithm=` of each search."""
        with both(server, run, True, embedding="static", sparse_embedding="bm25") as stores:
            stores.old.add_texts(TEXTS, METADATAS, IDS)
            old = stores.old.similarity_search(
                QUESTION, 9, query_mode=QueryMode(mode.upper()), fusion_algorithm=FusionAlgorithm(fusion.upper())
            )
            kept = {} if mode != "hybrid" else {"fusion": fusion}
            new = ResumableVectorStore(stores.new.index, True, namespace="ns", retrieval_mode=mode, **kept)
            stores.same(old, await run(new, "similarity_search", QUESTION, 9))
            await new.aclose()
            await stores.new.aclose()

    async def test_row_retriever(self, filled: Both) -> None:
        """`store.as_retriever(search_kwargs={"k": 5})`."""
        retriever = filled.new.as_retriever(search_kwargs={"k": 5})
        found = await filled.run(retriever, "invoke", QUESTION)
        filled.same(filled.old.as_retriever(search_kwargs={"k": 5}).invoke(QUESTION), found)
        assert isinstance(retriever, ResumableRetriever)
        with retriever.open(QUESTION) as search:
            assert found == search.fetch_next(5)
            more = search.fetch_next(5)
        filled.same(filled.old.similarity_search(QUESTION, 10), found + more)

    async def test_row_threshold(self, filled: Both) -> None:
        """`search_type="similarity_score_threshold"`."""
        scored = filled.old.similarity_search_with_relevance_scores(QUESTION, 30)
        threshold = scored[11][1]
        options: dict[str, Any] = {"search_type": "similarity_score_threshold"}
        options["search_kwargs"] = {"score_threshold": threshold}
        found = await filled.run(filled.new.as_retriever(**options), "invoke", QUESTION)
        filled.same([document for document, score in scored if score >= threshold], found)
        filled.same(filled.old.as_retriever(**options).invoke(QUESTION), found[:4])

    async def test_row_mmr(self, server: LocalServer, run: Colour) -> None:
        """`search_type="mmr"`."""
        with both(server, run, Letters(), type="dense", dimension=4) as stores:
            stores.old.add_texts(TEXTS, METADATAS, IDS)
            options: dict[str, Any] = {"search_type": "mmr", "search_kwargs": {"k": 5, "filter": "lang = 'de'"}}
            found = await run(stores.new.as_retriever(**options), "invoke", QUESTION)
            stores.same(stores.old.as_retriever(**options).invoke(QUESTION), found)
            await stores.new.aclose()

    async def test_row_batches(self, stores: Both) -> None:
        """`store.add_texts(..., embedding_chunk_size=)`."""
        stores.old.add_texts(TEXTS[:9], METADATAS[:9], IDS[:9], embedding_chunk_size=4)
        await stores.run(stores.new, "add_texts", TEXTS[9:20], METADATAS[9:20], ids=IDS[9:20], batch_size=4)
        found = await stores.run(stores.new, "get_by_ids", IDS)
        assert TEXTS[:20] == contents(found)
        with pytest.raises(TypeError, match="give batch_size="):
            await stores.run(stores.new, "add_texts", TEXTS, embedding_chunk_size=4)

    async def test_row_delete(self, filled: Both) -> None:
        """`store.delete(ids)`, `store.delete(delete_all=True)`."""
        filled.old.delete(IDS[:3])
        await filled.run(filled.new, "delete", IDS[3:6])
        assert set(IDS[6:]) == stored(filled.new.index, "ns").keys()
        await filled.run(filled.new, "delete", delete_all=True)
        assert {} == stored(filled.new.index, "ns")

    async def test_row_from_texts(self, server: LocalServer, run: Colour) -> None:
        """`UpstashVectorStore.from_texts(..., index_url=)`."""
        url, model = server.add("i", type="dense", dimension=4), Letters()
        old = UpstashVectorStore.from_texts(
            TEXTS[:5], model, METADATAS[:5], IDS[:5], index_url=url, index_token=TOKEN, namespace="old"
        )
        new = await run(
            ResumableVectorStore,
            "from_texts",
            *(TEXTS[:5], model, METADATAS[:5]),
            ids=IDS[:5],
            url=url,
            token=TOKEN,
            namespace="new",
        )
        assert stored(new.index, "old") == stored(new.index, "new")
        old._index._client.close()
        await new.aclose()
        new.close()

    async def test_row_from_texts_of_the_environment(
        self, server: LocalServer, run: Colour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """`UpstashVectorStore.from_texts(texts, embedding)`; the new `from_texts` says that it stores elsewhere."""
        url, model = server.add("i", type="dense", dimension=4), Letters()
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", url)
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", TOKEN)
        old = UpstashVectorStore.from_texts(TEXTS[:5], model, METADATAS[:5], IDS[:5], namespace="old")
        new = ResumableVectorStore(embedding=model, namespace="new")
        await run(new, "add_texts", TEXTS[:5], METADATAS[:5], ids=IDS[:5])
        assert stored(new.index, "old") == stored(new.index, "new")
        old._index._client.close()
        await new.aclose()
        new.close()
        (await run(ResumableVectorStore, "from_texts", ["a"])).close()
        assert "not in the one that UPSTASH_VECTOR_REST_URL names" in caplog.text

    async def test_row_info(self, filled: Both) -> None:
        """`store.info()`."""
        old, new = filled.old.info(), filled.new.index.info()
        assert (old.vector_count, old.dimension) == (new.vector_count, new.dimension)


class TestRecordsOfJavaScript:
    """Records that the store of LangChain.js has written, whose text is under `_pageContentLC`."""

    @pytest.mark.parametrize("embeds", ["caller", "index"])
    async def test_found_updated_and_removed(self, run: Colour, embeds: str) -> None:
        """They are found by text, id and filter, rewritten under their ids, and removed."""
        model: Any = Letters() if embeds == "caller" else True
        schema: dict[str, Any] = {"dimension": 4} if embeds == "caller" else {"embedding": "static"}
        with Index.embedded(type="dense", **schema) as index:
            for id_, text, metadata in zip(IDS, TEXTS, METADATAS, strict=True):
                written = {**metadata, "_pageContentLC": text}
                vector = Vector(id_, Letters().embed_query(text), written)
                index.upsert([vector if embeds == "caller" else Data(id_, text, written)])
            store = ResumableVectorStore(index, model)
            found = await run(store, "similarity_search", QUESTION, 99, {"lang": "de"})
            assert {(TEXTS[place], place) for place in range(0, len(TEXTS), 3)} == {
                (document.page_content, document.metadata["place"]) for document in found
            }
            [document] = await run(store, "get_by_ids", ["t5"])
            assert Document(TEXTS[5], id="t5", metadata=METADATAS[5]) == document
            document.metadata["place"] = -5
            await run(store, "add_documents", [document])
            assert [document] == await run(store, "similarity_search", QUESTION, 5, {"place": -5})
            await run(store, "delete", filter={"lang": "de"})
            assert {id_ for place, id_ in enumerate(IDS) if place % 3} == stored(index).keys()
