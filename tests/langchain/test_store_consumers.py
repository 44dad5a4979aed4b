"""Whatever of LangChain's takes a vector store, run over the one of nextk."""

import datetime as dt
import warnings
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.example_selectors import MaxMarginalRelevanceExampleSelector, SemanticSimilarityExampleSelector
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import ConfigurableField
from langchain_core.stores import InMemoryStore
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore, VectorStoreRetriever
from langchain_text_splitters import CharacterTextSplitter

from nextk import Index
from nextk.errors import ClientError
from nextk.langchain import ResumableRetriever, ResumableVectorStore
from tests.support.letter_models import Letters, contents
from tests.support.sentence_index import QUESTION, TEXTS
from tests.support.vector_stores import Colour, stored

with warnings.catch_warnings():  # that these packages are on their way out is why one moves here
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_classic.chains.router.embedding_router import EmbeddingRouterChain
    from langchain_classic.indexes import VectorstoreIndexCreator
    from langchain_classic.memory import ConversationVectorStoreTokenBufferMemory, VectorStoreRetrieverMemory
    from langchain_classic.retrievers import (
        MultiVectorRetriever,
        ParentDocumentRetriever,
        TimeWeightedVectorStoreRetriever,
    )
    from langchain_classic.retrievers.multi_vector import SearchType

DOCUMENTS = [
    Document(text, id=f"t{place}", metadata={"place": place, "even": place % 2 == 0})
    for place, text in enumerate(TEXTS)
]
EXAMPLES = [
    {"word": text, "opposite": text[::-1], "kind": "a" if place % 2 == 0 else "b"} for place, text in enumerate(TEXTS)
]
SEARCHES: list[tuple[str, str, dict[str, Any]]] = [
    ("similarity", "similarity_search", {"k": 7, "filter": {"even": True}}),
    ("mmr", "max_marginal_relevance_search", {"k": 5, "fetch_k": 30, "lambda_mult": 0.3}),
    ("similarity_score_threshold", "similarity_search_with_relevance_scores", {"k": 9, "score_threshold": 0.6}),
]
"""Each type of search, the method of the store that it stands for, and its keywords."""


async def searched(store: VectorStore, run: Colour, type_: str, keywords: dict[str, Any]) -> list[Document]:
    """Return the documents that the store's own method for a type of search finds."""
    name = next(method for known, method, _ in SEARCHES if known == type_)
    found = await run(store, name, QUESTION, **keywords)
    return [each[0] if isinstance(each, tuple) else each for each in found]


@pytest.fixture(params=SEARCHES, ids=lambda search: search[0])
def search(request: pytest.FixtureRequest, store: ResumableVectorStore) -> tuple[str, dict[str, Any]]:
    """A type of search with its keywords."""
    type_, _, keywords = request.param
    return type_, keywords


class TestVectorStoreRetriever:
    """LangChain's own retriever of any store, made by hand."""

    async def test_each_type_of_search(
        self, store: ResumableVectorStore, run: Colour, search: tuple[str, dict[str, Any]]
    ) -> None:
        """It finds what the store's method finds, and keywords of the call win."""
        type_, keywords = search
        retriever = VectorStoreRetriever(vectorstore=store, search_type=type_, search_kwargs=keywords)
        assert [document.id for document in DOCUMENTS] == await run(retriever, "add_documents", DOCUMENTS)
        expected = await searched(store, run, type_, keywords)
        assert expected
        assert expected == await run(retriever, "invoke", QUESTION)
        fewer = await searched(store, run, type_, {**keywords, "k": 3})
        assert fewer == await run(retriever, "invoke", QUESTION, k=3)

    async def test_configurable_search_kwargs(self, store: ResumableVectorStore, run: Colour) -> None:
        """The settings of a run reach the search."""
        await run(store, "add_documents", DOCUMENTS)
        retriever = VectorStoreRetriever(vectorstore=store).configurable_fields(
            search_kwargs=ConfigurableField(id="search_kwargs")
        )
        keywords = {"k": 2, "filter": {"place": {"$in": [3, 4, 5]}}}
        found = await run(retriever, "invoke", QUESTION, {"configurable": {"search_kwargs": keywords}})
        assert await run(store, "similarity_search", QUESTION, **keywords) == found

    async def test_a_tool(self, store: ResumableVectorStore, run: Colour) -> None:
        """A tool over the store's retriever gives the model the texts, and the program the documents."""
        await run(store, "add_documents", DOCUMENTS)
        retriever = store.as_retriever(search_kwargs={"k": 3})
        tool = create_retriever_tool(retriever, "search", "Searches.", response_format="content_and_artifact")
        call = {"name": "search", "args": {"query": QUESTION}, "id": "1", "type": "tool_call"}
        message = await run(tool, "invoke", call)
        expected = await run(store, "similarity_search", QUESTION, 3)
        assert ("\n\n".join(contents(expected)), expected) == (message.content, message.artifact)


class TestMultiVector:
    """Retrievers that find small texts in the store and return the large ones from elsewhere."""

    async def test_each_type_of_search(
        self, store: ResumableVectorStore, run: Colour, search: tuple[str, dict[str, Any]]
    ) -> None:
        """The parents come in the order in which the store finds their first texts, each once."""
        type_, keywords = search
        parts = [
            Document(each.page_content, metadata={**each.metadata, "doc_id": str(each.metadata["place"] % 5)})
            for each in DOCUMENTS
        ]
        parents = InMemoryStore()
        await run(parents, "mset", [(str(number), Document(f"parent {number}")) for number in range(4)])
        await run(store, "add_documents", [*parts, Document("The sky, which has no parent.", metadata={"even": True})])
        retriever = MultiVectorRetriever(
            vectorstore=store, docstore=parents, search_type=SearchType(type_), search_kwargs=keywords
        )
        found = await searched(store, run, type_, keywords)
        numbers = dict.fromkeys(each.metadata.get("doc_id") for each in found)
        expected = [f"parent {number}" for number in numbers if number not in (None, "4")]
        assert expected
        assert expected == contents(await run(retriever, "invoke", QUESTION))

    @pytest.mark.parametrize("ids", [None, ["p0", "p1", "p2"]], ids=["own", "given"])
    async def test_parent_documents(self, store: ResumableVectorStore, run: Colour, ids: list[str] | None) -> None:
        """Each part is stored with its parent's id and metadata, and a question finds the parent as it was given."""
        parents = [
            Document("\n".join(TEXTS[start : start + 20]), metadata={"chapter": start}) for start in range(0, 60, 20)
        ]
        retriever = ParentDocumentRetriever(
            vectorstore=store,
            docstore=InMemoryStore(),
            child_splitter=CharacterTextSplitter("\n", chunk_size=40, chunk_overlap=0),
            search_kwargs={"k": 60},
        )
        await run(retriever, "add_documents", parents, ids)
        parts = await run(store, "similarity_search", QUESTION, 60)
        assert sorted(TEXTS[:60]) == sorted(contents(parts))
        if ids is not None:
            assert {("p0", 0), ("p1", 20), ("p2", 40)} == {
                (each.metadata["doc_id"], each.metadata["chapter"]) for each in parts
            }
        chapters = list(dict.fromkeys(each.metadata["chapter"] for each in parts))
        assert [parents[chapter // 20] for chapter in chapters] == await run(retriever, "invoke", QUESTION)

    async def test_parents_that_are_parts_themselves(self, store: ResumableVectorStore, run: Colour) -> None:
        """Documents are cut into parents, parents into parts, and the parts keep the metadata that is asked for."""
        retriever = ParentDocumentRetriever(
            vectorstore=store,
            docstore=InMemoryStore(),
            child_splitter=CharacterTextSplitter("\n", chunk_size=40, chunk_overlap=0),
            parent_splitter=CharacterTextSplitter("\n", chunk_size=200, chunk_overlap=0),
            child_metadata_fields=["lang"],
            search_kwargs={"k": 3, "filter": {"lang": "en"}},
        )
        book = Document("\n".join(TEXTS), metadata={"lang": "en", "author": {"name": "N."}})
        other = Document("The cloud and the sky.", metadata={"lang": "de", "author": {"name": "M."}})
        await run(retriever, "add_documents", [book, other], batch_size=7)
        parts = await run(store, "similarity_search", QUESTION, 99)
        assert {("lang", "doc_id")} == {tuple(each.metadata) for each in parts}
        nearest = [each for each in parts if each.metadata["lang"] == "en"][:3]
        found = await run(retriever, "invoke", QUESTION)
        assert len({each.metadata["doc_id"] for each in nearest}) == len(found)
        assert all(any(each.page_content in parent.page_content for parent in found) for each in nearest)
        assert {("en", "N.")} == {(each.metadata["lang"], each.metadata["author"]["name"]) for each in found}


class TestTimeWeighted:
    """The retriever that weighs documents by how lately they were read."""

    async def test_recent_documents_come_first(self, store: ResumableVectorStore, run: Colour) -> None:
        """With a strong decay the newest one wins; the times of all are stored as timestamps."""
        retriever = TimeWeightedVectorStoreRetriever(vectorstore=store, k=3, decay_rate=0.999, search_kwargs={"k": 99})
        now = dt.datetime.now()
        for days in range(6):
            documents = [Document(f"The sky {days} days ago.", id=f"d{days}", metadata={"days": days})]
            when = now - dt.timedelta(days=days)
            assert [f"d{days}"] == await run(retriever, "add_documents", documents, current_time=when)
        found = await run(retriever, "invoke", QUESTION)
        assert [0] == [each.metadata["days"] for each in found][:1]
        kept = await run(store, "get_by_ids", [f"d{days}" for days in range(6)])
        assert [(now - dt.timedelta(days=days)).timestamp() for days in range(6)] == [
            each.metadata["created_at"] for each in kept
        ]
        assert list(range(6)) == [each.metadata["buffer_idx"] for each in kept]

    async def test_relevance(self, store: ResumableVectorStore, run: Colour) -> None:
        """Without decay the documents are those with the best relevance scores of the store."""
        retriever = TimeWeightedVectorStoreRetriever(vectorstore=store, k=5, decay_rate=0, search_kwargs={"k": 99})
        await run(retriever, "add_documents", DOCUMENTS)
        scored = await run(store, "similarity_search_with_relevance_scores", QUESTION, k=99)
        best = scored[4][1]
        found = await run(retriever, "invoke", QUESTION)
        assert 5 == len(found)
        assert {each.id for each in found} <= {each.id for each, score in scored if score >= best}

    async def test_memories_of_an_earlier_process(self, store: ResumableVectorStore, run: Colour) -> None:
        """The documents of the store can be the memory of a new retriever, also where a time has no fraction."""
        first = TimeWeightedVectorStoreRetriever(vectorstore=store, decay_rate=0.999)
        when = dt.datetime(2026, 3, 4, 5, 6, 7)
        documents = [Document("The sky.", id="0"), Document("The sea.", id="1")]
        await run(first, "add_documents", documents, current_time=when)
        memories = await run(store, "get_by_ids", ["0", "1"])
        second = TimeWeightedVectorStoreRetriever(vectorstore=store, memory_stream=memories, decay_rate=0.999)
        assert {"0", "1"} == {each.id for each in await run(second, "invoke", QUESTION)}


class TestExampleSelectors:
    """Examples for a prompt, chosen by the store."""

    async def test_by_similarity(self, store: ResumableVectorStore, run: Colour) -> None:
        """The examples are the nearest ones, with the keys that are asked for."""
        selector = SemanticSimilarityExampleSelector(
            vectorstore=store,
            k=3,
            input_keys=["word"],
            example_keys=["word", "opposite"],
            vectorstore_kwargs={"filter": {"kind": "a"}},
        )
        for example in EXAMPLES[:20]:
            await run(selector, "add_example", example)
        nearest = await run(store, "similarity_search", QUESTION, 3, {"kind": "a"})
        assert [{"word": text, "opposite": text[::-1]} for text in contents(nearest)] == await run(
            selector, "select_examples", {"word": QUESTION, "kind": "b"}
        )

    async def test_by_marginal_relevance(self, store: ResumableVectorStore, run: Colour) -> None:
        """The examples are those that the store's own search by marginal relevance chooses."""
        selector = MaxMarginalRelevanceExampleSelector(vectorstore=store, k=4, fetch_k=15, input_keys=["word"])
        for example in EXAMPLES[:20]:
            await run(selector, "add_example", example)
        found = await run(store, "max_marginal_relevance_search", QUESTION, 4, 15)
        assert [each.metadata for each in found] == await run(selector, "select_examples", {"word": QUESTION})

    @pytest.mark.parametrize("selector", [SemanticSimilarityExampleSelector, MaxMarginalRelevanceExampleSelector])
    async def test_the_store_is_made_by_the_selector(self, selector: Any) -> None:
        """A selector makes the store by its class, with arguments of the store's own; the text has its own key."""
        examples = [{"text": text, "label": text[-2]} for text in TEXTS[:12]]
        with Index.embedded(dimension=4) as index:
            keywords = {"index": index, "namespace": "examples", "text_key": "whole", "k": 2}
            chosen = selector.from_examples(examples, Letters(), ResumableVectorStore, **keywords)
            found = chosen.select_examples({"text": TEXTS[3], "label": TEXTS[3][-2]})
            assert 2 == len(found)
            assert all(each in examples for each in found)
            again = await selector.afrom_examples(examples, Letters(), ResumableVectorStore, **keywords)
            assert found == await again.aselect_examples({"text": TEXTS[3], "label": TEXTS[3][-2]})
            assert 12 == len(stored(index, "examples"))
            with pytest.raises(ClientError, match="text_key="):
                selector.from_examples(examples, Letters(), ResumableVectorStore, index=index)


@pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
class TestClassic:
    """The parts of LangChain that are kept for older programs."""

    async def test_memory(self, store: ResumableVectorStore, run: Colour) -> None:
        """A conversation is stored turn by turn, and the turns that fit a question come back."""
        memory = VectorStoreRetrieverMemory(retriever=VectorStoreRetriever(vectorstore=store, search_kwargs={"k": 1}))
        await run(memory, "save_context", {"input": "The sea is blue."}, {"output": "And salty."})
        await run(memory, "save_context", {"input": "Where is my cat?"}, {"output": "Outside."})
        turns = {"input: The sea is blue.\noutput: And salty.", "input: Where is my cat?\noutput: Outside."}
        assert turns == set(contents(await run(store, "similarity_search", "cat", 9)))
        for question in ("sea blue", "cat"):
            [nearest] = await run(store, "similarity_search", question, 1)
            history = await run(memory, "load_memory_variables", {"input": question})
            assert {"history": nearest.page_content} == history

    def test_buffer_memory(self, store: ResumableVectorStore) -> None:
        """A message that no longer fits into the buffer is found in the store again."""

        class Counting(FakeListChatModel):
            def get_num_tokens_from_messages(self, messages: Any, tools: Any = None) -> int:
                return sum(len(message.text.split()) for message in messages)

        memory = ConversationVectorStoreTokenBufferMemory(
            llm=Counting(responses=[""]),
            retriever=VectorStoreRetriever(vectorstore=store, search_kwargs={"k": 1}),
            max_token_limit=6,
            return_messages=True,
        )
        memory.save_context({"Human": "My cat is called Sesame."}, {"AI": "A nice name."})
        memory.save_context({"Human": "It is late."}, {"AI": "So it is."})
        history = memory.load_memory_variables({"input": "cat"})["history"]
        assert "My cat is called Sesame." in history[0].text
        assert ["It is late.", "So it is."] == [message.text for message in history[1:]]

    async def test_a_router(self, store: ResumableVectorStore, run: Colour) -> None:
        """A question goes where the nearest description points."""
        await run(store, "add_texts", ["aaaa sea", "eeee grass"], [{"name": "harbour"}, {"name": "meadow"}])
        router = EmbeddingRouterChain(vectorstore=store, routing_keys=["question"])
        [nearest] = await run(store, "similarity_search", "grass", 1)
        assert nearest.metadata["name"] == (await run(router, "invoke", {"question": "grass"}))["destination"]

    async def test_an_index_of_documents(self) -> None:
        """The creator splits documents, makes the store by its class, and answers over the store's retriever."""
        creator = VectorstoreIndexCreator(
            vectorstore_cls=ResumableVectorStore,
            embedding=Letters(),
            text_splitter=CharacterTextSplitter("\n", chunk_size=40, chunk_overlap=0),
        )
        model = FakeListChatModel(responses=["by the sea"])
        made = creator.from_documents([Document("\n".join(TEXTS))])
        assert isinstance(made.vectorstore, ResumableVectorStore)
        with made.vectorstore as store:
            assert len(TEXTS) == store.index.info().vector_count
            assert "by the sea" == made.query(QUESTION, model, {"search_kwargs": {"k": 2}})
            assert "by the sea" == await made.aquery(QUESTION, model)


class TestInPlaceOfAnother:
    """One program over LangChain's store in memory and over this one, with one dense model."""

    @staticmethod
    async def found(store: VectorStore, run: Colour) -> list[list[str]]:
        """Return the texts that each step of a program finds."""
        await run(store, "add_documents", DOCUMENTS)
        await run(store, "add_texts", ["rewritten"], [{"place": -1}], ids=["t3"])
        await run(store, "delete", ["t4", "t5", "not there"])
        mmr = VectorStoreRetriever(vectorstore=store, search_type="mmr", search_kwargs={"k": 6, "lambda_mult": 0.2})
        model = store.embeddings
        assert model is not None
        vector = model.embed_query("sand")
        steps = [
            await run(store, "similarity_search", QUESTION),
            await run(store, "similarity_search", "the sea", k=64),
            [each for each, _ in await run(store, "similarity_search_with_score", "snow", k=9)],
            await run(store, "similarity_search_by_vector", vector, k=5),
            await run(store, "max_marginal_relevance_search", QUESTION, k=5, fetch_k=12, lambda_mult=0.4),
            await run(mmr, "invoke", "fire"),
            await run(store.as_retriever(search_kwargs={"k": 3}), "invoke", "rain"),
            await run(store, "get_by_ids", ["t9", "t4", "t3"]),
        ]
        return [[f"{each.id} {each.page_content} {each.metadata}" for each in step] for step in steps]

    @pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "asynchronous"])
    async def test_the_documents_are_equal(self, awaited: bool) -> None:
        """Each step finds the same documents, with their ids and their metadata, in the same order."""
        model, run = DeterministicFakeEmbedding(size=32), Colour(awaited)
        with Index.embedded(dimension=32) as index:
            store = ResumableVectorStore(index, model)
            assert await self.found(InMemoryVectorStore(model), run) == await self.found(store, run)

    async def test_as_retriever_is_resumable(self, store: ResumableVectorStore) -> None:
        """The retriever of the store is one of nextk's, so that the program can go on where it ended before."""
        assert isinstance(store.as_retriever(), ResumableRetriever)
