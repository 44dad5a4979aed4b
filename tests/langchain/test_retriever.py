"""The LangChain retriever: its calls, its sessions, who embeds, and what it refuses."""

import asyncio
import copy
import importlib
import logging
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.load import dumpd
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import create_retriever_tool
from langchain_tests.integration_tests import RetrieversIntegrationTests
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from pydantic import ValidationError

from nextk import AsyncIndex, Index, Vector
from nextk.errors import ClientError, MissingExtraError, RefusedError
from nextk.langchain import ResumableRetriever
from nextk.types import FusionAlgorithm
from nextk.until import Accepted, DistinctBy, MaxResults, TokenBudget
from tests.support.letter_models import Initials, Letters, contents, loops_to_keep_free
from tests.support.sentence_index import QUESTION, TEXTS, open_queries
from tests.support.transports import Recording


@pytest.fixture
async def free_loop() -> AsyncIterator[None]:
    """From here on, nothing may block the running event loop."""
    loops_to_keep_free.add(id(asyncio.get_running_loop()))
    yield
    loops_to_keep_free.clear()


@pytest.fixture(scope="module")
def shared_vectors() -> Iterator[Index]:
    """A hybrid index without models, of vectors that `Letters` and `Initials` made."""
    with Index.embedded(dimension=4) as index:
        dense, sparse = Letters().embed_documents(TEXTS), Initials().embed_documents(TEXTS)
        index.upsert(
            [
                Vector(f"t{position}", dense[position], {"text": text}, sparse_vector=sparse[position])
                for position, text in enumerate(TEXTS)
            ]
        )
        yield index


@pytest.fixture
def vectors(shared_vectors: Index) -> Iterator[Index]:
    """The same; afterwards it holds no open query."""
    yield shared_vectors
    assert 0 == open_queries(shared_vectors)


class Standard(RetrieversIntegrationTests):
    """LangChain's own tests, over an index that embeds text."""

    mode = "hybrid"
    own_index: Index

    @pytest.fixture(autouse=True)
    def keep_index(self, index: Index) -> None:
        """Have the index at hand where LangChain asks for parameters."""
        type(self).own_index = index

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        """What is tested."""
        return ResumableRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """How it is made."""
        return {"index": self.own_index, "retrieval_mode": self.mode}

    @property
    def retriever_query_example(self) -> str:
        """What it is asked."""
        return QUESTION


class TestStandardDense(Standard):
    """Dense."""

    mode = "dense"


class TestStandardSparse(Standard):
    """Sparse."""

    mode = "sparse"


class TestStandardHybrid(Standard):
    """Hybrid."""


class TestStandardDenseUntil(TestStandardDense):
    """Dense, with a policy."""

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """How it is made."""
        return {**super().retriever_constructor_params, "until": Accepted(20, even_places)}


class TestStandardSparseUntil(TestStandardSparse):
    """Sparse, with a policy."""

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """How it is made."""
        return {**super().retriever_constructor_params, "until": MaxResults(10) | TokenBudget(2_000)}


class TestStandardHybridUntil(TestStandardHybrid):
    """Hybrid, with a policy."""

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """How it is made."""
        return {**super().retriever_constructor_params, "until": DistinctBy("place", 10) & Accepted(5, even_places)}


def even_places(documents: list[Document]) -> list[bool]:
    """Permit every second text."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


class TestStandardOwnModels(Standard):
    """Hybrid, with models on the caller's side."""

    @pytest.fixture(autouse=True)
    def keep_index(self, vectors: Index) -> None:
        """Take the index of vectors instead."""
        type(self).own_index = vectors

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """How it is made."""
        return {"index": self.own_index, "embedding": Letters(), "sparse_embedding": Initials()}


class TestInvoke:
    """One call."""

    def test_one_plain_query(self, index: Index) -> None:
        """A call is one query and holds nothing open; what an index can embed is asked once."""
        recording = Recording(index._transport)
        retriever = ResumableRetriever(index=Index._over(recording))
        for _ in range(2):
            assert 4 == len(retriever.invoke(QUESTION))
        assert ["info", "query-data", "query-data"] == recording.sent

    def test_k(self, index: Index) -> None:
        """The call's k wins over the constructor's, which wins over 4."""
        assert 4 == len(ResumableRetriever(index=index, k=None).invoke(QUESTION, k=None))
        assert 7 == len(ResumableRetriever(index=index, k=7).invoke(QUESTION))
        assert 2 == len(ResumableRetriever(index=index, k=7).invoke(QUESTION, k=2))
        for keywords in ({}, {"until": MaxResults(3)}):
            for call in (ResumableRetriever(index=index).invoke, ResumableRetriever(index=index).stream):
                with pytest.raises(ClientError, match="k=0 must be a whole number"):
                    call(QUESTION, k=0, **keywords)  # type: ignore[arg-type]

    async def test_filter_and_namespace(self, index: Index) -> None:
        """Filter and namespace come from the call, else from the constructor, in both colours."""
        retriever = ResumableRetriever(index=index, filter="place < 2")
        assert {"t0", "t1"} == {document.id for document in retriever.invoke(QUESTION)}
        assert {"t5"} == {document.id for document in await retriever.ainvoke(QUESTION, filter="place = 5")}
        assert 4 == len(retriever.invoke(QUESTION, filter=""))
        assert [] == retriever.invoke(QUESTION, namespace="absent")
        assert [] == await ResumableRetriever(index=index, namespace="absent").ainvoke(QUESTION)

    @pytest.mark.parametrize("name", ["fetch_k", "top_k", "search_kwargs"])
    async def test_unknown_keywords(self, index: Index, name: str) -> None:
        """A keyword that is not known is refused, not dropped."""
        retriever: Any = ResumableRetriever(index=index)
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            retriever.invoke(QUESTION, **{name: 3})
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            await retriever.ainvoke(QUESTION, **{name: 3})

    async def test_either_colour_of_index(self, index: Index) -> None:
        """Both colours of calls work over both colours of index."""
        expected = ResumableRetriever(index=index).invoke(QUESTION)
        retriever = ResumableRetriever(index=index.to_async())
        assert isinstance(retriever.index, AsyncIndex)
        assert expected == retriever.invoke(QUESTION)
        assert expected == await retriever.ainvoke(QUESTION)

    @pytest.mark.usefixtures("free_loop")
    async def test_nothing_blocks_the_loop(self, vectors: Index) -> None:
        """Models that only block go to threads."""
        retriever = ResumableRetriever(index=vectors, embedding=Letters(), sparse_embedding=Initials(), k=3)
        documents = await retriever.ainvoke(QUESTION)
        assert 3 == len(documents)
        async with retriever.aopen(QUESTION) as search:
            assert documents == await search.fetch_next(3)
        assert [documents] * 2 == await retriever.abatch([QUESTION] * 2)

    async def test_blocking_calls_in_a_loop(self, index: Index) -> None:
        """The blocking call works where a loop is running."""
        retriever = ResumableRetriever(index=index)
        assert await retriever.ainvoke(QUESTION) == retriever.invoke(QUESTION)

    def test_in_a_chain(self, index: Index) -> None:
        """It is a runnable: in chains, in batches, bound, configured and as a tool."""
        retriever = ResumableRetriever(index=index, k=2)
        expected = retriever.invoke(QUESTION)
        assert contents(expected) == (retriever | contents).invoke(QUESTION)
        assert [expected] * 3 == retriever.batch([QUESTION] * 3)
        assert expected[:1] == retriever.bind(k=1).invoke(QUESTION)
        configurable = retriever.configurable_fields(k=ConfigurableField(id="k"))
        assert expected[:1] == configurable.invoke(QUESTION, {"configurable": {"k": 1}})
        tool = create_retriever_tool(retriever, "search", "Searches.")
        assert "\n\n".join(contents(expected)) == tool.invoke({"query": QUESTION})

    def test_callbacks(self, index: Index) -> None:
        """A trace sees the question, the documents and an error."""
        seen: list[Any] = []

        class Handler(BaseCallbackHandler):
            def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
                seen.append((query, kwargs["metadata"]["ls_vector_store_provider"]))

            def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:
                seen.append(documents)

            def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
                seen.append(type(error))

        retriever = ResumableRetriever(index=index)
        documents = retriever.invoke(QUESTION, {"callbacks": [Handler()]})
        with pytest.raises(RefusedError):
            retriever.invoke(QUESTION, {"callbacks": [Handler()]}, filter="(")
        assert [(QUESTION, "nextk"), documents, (QUESTION, "nextk"), RefusedError] == seen

    def test_ls_params(self, index: Index) -> None:
        """Traces name the provider of the embedding only where there is one on this side."""
        expected = {"ls_retriever_name": "resumable", "ls_vector_store_provider": "nextk"}
        assert expected == ResumableRetriever(index=index, embedding=True)._get_ls_params()
        with_model = ResumableRetriever(index=index, embedding=Letters())._get_ls_params()
        assert {**expected, "ls_embedding_provider": "Letters"} == with_model


class TestModels:
    """Who embeds, and in which mode."""

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            ({"embedding": Letters()}, {"vector"}),
            ({"sparse_embedding": Initials()}, {"sparseVector"}),
            ({"embedding": Letters(), "sparse_embedding": Initials()}, {"vector", "sparseVector"}),
            ({"embedding": Letters(), "sparse_embedding": Initials(), "retrieval_mode": "dense"}, {"vector"}),
            ({"embedding": Letters(), "sparse_embedding": Initials(), "retrieval_mode": "SPARSE"}, {"sparseVector"}),
        ],
    )
    async def test_own_models(self, vectors: Index, arguments: dict[str, Any], parts: set[str]) -> None:
        """The models that are given decide what is searched by, in both colours; a mode narrows it."""
        bodies: list[dict[str, Any]] = []
        index = Index._over(Recording(vectors._transport))
        transport: Any = index._transport
        transport._note = lambda operation: bodies.append(operation.body)
        retriever = ResumableRetriever(index=index, fusion="dbsf", weighting="idf", **arguments)
        assert retriever.invoke(QUESTION) == await retriever.ainvoke(QUESTION)
        assert [parts, parts] == [{"vector", "sparseVector", "data"} & body.keys() for body in bodies]
        assert {("DBSF", "IDF")} == {(body["fusionAlgorithm"], body["weightingStrategy"]) for body in bodies}

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ({"retrieval_mode": "dense", "sparse_embedding": Initials()}, "retrieval_mode='dense' needs embedding="),
            ({"retrieval_mode": "hybrid", "embedding": Letters()}, "retrieval_mode='hybrid' needs sparse_embedding="),
            ({"embedding": True, "sparse_embedding": Initials()}, "leave out sparse_embedding="),
            ({"sparse_embedding": 3}, "sparse_embedding cannot be 3"),
            ({"url": "http://127.0.0.1:1"}, "leave them out, or leave out index="),
        ],
    )
    def test_contradictions(self, index: Index, arguments: dict[str, Any], complaint: str) -> None:
        """What cannot work is refused when the retriever is made, naming the argument."""
        with pytest.raises(ClientError, match=complaint):
            ResumableRetriever(index=index, **arguments)

    @pytest.mark.parametrize(
        "arguments",
        [{"k": 0}, {"max_idle": 0}, {"top_k": 3}, {"retrieval_mode": "both"}, {"fusion": "max"}, {"embedding": False}],
    )
    def test_wrong_arguments(self, index: Index, arguments: dict[str, Any]) -> None:
        """Unknown arguments and values are refused, never ignored."""
        with pytest.raises(ValidationError):
            ResumableRetriever(index=index, **arguments)

    def test_enum_members(self, index: Index) -> None:
        """Enum members do as well as their words."""
        assert 4 == len(ResumableRetriever(index=index, fusion=FusionAlgorithm.DBSF).invoke(QUESTION))

    async def test_nobody_embeds(self, vectors: Index) -> None:
        """Without any model the first use says which argument is missing; making the retriever asks nothing."""
        recording = Recording(vectors._transport)
        retriever = ResumableRetriever(index=Index._over(recording))
        assert [] == recording.sent
        with pytest.raises(
            ClientError, match=r"pass embedding= \(a LangChain Embeddings\), sparse_embedding=, or both"
        ):
            retriever.invoke(QUESTION)
        with pytest.raises(ClientError, match="pass embedding="):
            await retriever.ainvoke(QUESTION)
        with retriever.open(QUESTION) as search, pytest.raises(ClientError, match="pass embedding="):
            search.fetch_next(1)
        assert ["info"] == recording.sent

    def test_no_index(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an index, a URL or the environment there is nothing to search."""
        monkeypatch.delenv("UPSTASH_VECTOR_REST_URL", raising=False)
        with pytest.raises(ClientError, match="set UPSTASH_VECTOR_REST_URL"):
            ResumableRetriever()


class TestDocuments:
    """From rows to documents."""

    @pytest.fixture
    def retriever(self) -> Iterator[ResumableRetriever]:
        """A retriever over rows of every layout, nearest to 1 first."""
        node = TextNode(id_="llama", text="of LlamaIndex", metadata={"doc_id": "mine", "a": 1})
        rows = [
            Vector("chain", [1.0], {"text": "of LangChain", "a": 1}),
            Vector("js", [0.9], {"_pageContentLC": "of LangChain.js", "a": 1}),
            Vector("llama", [0.8], node_to_metadata_dict(node)),
            Vector("raw", [0.7], {"a": 1}, "of the index"),
            Vector("bare", [0.6], None, "without metadata"),
            Vector("none", [0.5], {"a": 1}),
            Vector("body", [0.4], {"body": "of another key"}, "summary"),
        ]
        with Index.embedded(type="dense", dimension=1, similarity="dot_product") as index:
            index.upsert(rows)
            yield ResumableRetriever(index=index, embedding=One(), k=10)

    def test_every_layout(self, retriever: ResumableRetriever, caplog: pytest.LogCaptureFixture) -> None:
        """Rows of every writer become documents with their id, their text and the writer's own metadata."""
        with caplog.at_level(logging.WARNING, "nextk"):
            documents = retriever.invoke("?")
        assert [
            Document("of LangChain", id="chain", metadata={"a": 1}),
            Document("of LangChain.js", id="js", metadata={"a": 1}),
            Document("of LlamaIndex", id="llama", metadata={"doc_id": "mine", "a": 1}),
            Document("of the index", id="raw", metadata={"a": 1}),
            Document("without metadata", id="bare", metadata={}),
            Document("summary", id="body", metadata={"body": "of another key"}),
        ] == documents
        assert 1 == len(caplog.messages)
        assert "1 of 7 rows" in caplog.messages[0]

    @pytest.mark.parametrize("text_key", ["body", ["body"], ("absent", "body")])
    def test_text_key(self, retriever: ResumableRetriever, text_key: Any) -> None:
        """The text may be under another key; the first that holds one is taken."""
        documents = retriever.model_copy(update={"text_key": text_key}).invoke("?")
        assert Document("of another key", id="body", metadata={}) == documents[-1]
        assert "chain" not in {document.id for document in documents}

    def test_score_key(self, retriever: ResumableRetriever) -> None:
        """The score is put where asked, nowhere else, and never over the user's own."""
        assert all("score" not in document.metadata for document in retriever.invoke("?"))
        documents = retriever.model_copy(update={"score_key": "score"}).invoke("?")
        scores = [document.metadata["score"] for document in documents]
        assert sorted(scores, reverse=True) == scores
        with pytest.raises(ClientError, match=r"^score_key='a' is a key of record 'chain'"):
            retriever.model_copy(update={"score_key": "a"}).invoke("?")

    def test_sessions_fill_up(self, retriever: ResumableRetriever) -> None:
        """A session makes up for rows without text."""
        with retriever.open("?") as search:
            assert [5, 1, 0] == [len(search.fetch_next(count)) for count in (5, 5, 5)]


class One(Embeddings):
    """Embeds everything alike."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One for each."""
        return [[1.0]] * len(texts)

    def embed_query(self, text: str) -> list[float]:
        """One."""
        return [1.0]


class TestConfiguration:
    """Copies, pickles and secrets."""

    def test_secrets(self) -> None:
        """The token shows in no representation."""
        retriever = ResumableRetriever(url="http://127.0.0.1:1", token="secret-token")  # type: ignore[arg-type]
        shown = [repr(retriever), str(retriever), str(dumpd(retriever)), repr(retriever.open("?"))]
        assert not [text for text in shown if "secret-token" in text]

    def test_pickle(self) -> None:
        """A retriever by URL pickles, and finds its index again."""
        retriever = ResumableRetriever(url="http://127.0.0.1:1", token="t", k=3, embedding=One())  # type: ignore[arg-type]
        again = pickle.loads(pickle.dumps(retriever))  # noqa: S301 - our own
        assert (retriever.url, retriever.token, 3) == (again.url, again.token, again.k)
        assert "Index(HttpTransport('http://127.0.0.1:1'))" == repr(again._current_connection())

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, ResumableRetriever.model_copy])
    def test_copies(self, index: Index, copied: Any) -> None:
        """Copies search the same index, and may be given other settings."""
        retriever = ResumableRetriever(index=index, k=3)
        again = copied(retriever)
        assert retriever.invoke(QUESTION) == again.invoke(QUESTION)
        again.k = 1
        assert (3, 1) == (len(retriever.invoke(QUESTION)), len(again.invoke(QUESTION)))

    def test_a_copy_over_another_index(self, index: Index, vectors: Index) -> None:
        """A copy that is given another index searches that one."""
        retriever = ResumableRetriever(index=index)
        retriever.invoke(QUESTION)
        with pytest.raises(ClientError, match="pass embedding="):
            retriever.model_copy(update={"index": vectors}).invoke(QUESTION)
        assert 4 == len(retriever.invoke(QUESTION))

    async def test_closing(self, index: Index) -> None:
        """An index that was handed over stays open when its retriever is closed."""
        with ResumableRetriever(index=index) as retriever:
            pass
        async with retriever:
            pass
        assert 4 == len(retriever.invoke(QUESTION))


class TestOpen:
    """Searches that are continued."""

    def test_pages_are_one_long_call(self, index: Index) -> None:
        """Pages, one after the other, are what one large call gives."""
        retriever = ResumableRetriever(index=index, k=4)
        expected = retriever.invoke(QUESTION, k=100)
        with retriever.open(QUESTION) as search:
            assert retriever.invoke(QUESTION) == expected[:4] == search.fetch_next(4)
            assert expected[4:5] == search.fetch_next(1)
            assert expected[5:] == list(search)
        assert len(TEXTS) == len(expected)

    async def test_overrides(self, index: Index) -> None:
        """Filter and namespace may be other ones; what is not known is refused."""
        retriever = ResumableRetriever(index=index, filter="place = 1")
        with retriever.open(QUESTION, filter="place < 3") as search:
            assert 3 == len(search.fetch_next(9))
        async with retriever.aopen(QUESTION, namespace="absent") as asearch:
            assert [] == await asearch.fetch_next(9)
        with pytest.raises(TypeError):
            retriever.open(QUESTION, k=3)  # type: ignore[call-arg]

    def test_max_idle(self, index: Index) -> None:
        """How long the index keeps the search is the retriever's."""
        bodies: list[dict[str, Any]] = []
        recording: Any = Recording(index._transport)
        recording._note = lambda operation: bodies.append(operation.body)
        with ResumableRetriever(index=Index._over(recording), embedding=True, max_idle=7).open(QUESTION) as search:
            search.fetch_next(1)
        assert [7] == [body["maxIdle"] for body in bodies if body and "maxIdle" in body]


class TestFromTexts:
    """A retriever in one line."""

    def test_texts(self) -> None:
        """Texts are found with their metadata, and the retriever closes what it made."""
        with ResumableRetriever.from_texts(
            ["The sky is blue.", "Grass."], metadatas=[{"text": "x"}, {}], k=1
        ) as retriever:
            index = retriever.index
            assert isinstance(index, Index)
            [document] = retriever.invoke("sky")
            assert ("The sky is blue.", {"text": "x"}) == (document.page_content, document.metadata)
            assert ("static", "bm25") == tuple(
                half.embedding_model for half in (index.info().dense_index, index.info().sparse_index) if half
            )
        with pytest.raises(ClientError, match="this index is closed"):
            retriever.invoke("sky")

    @pytest.mark.usefixtures("free_loop")
    async def test_own_models(self) -> None:
        """Models that are given are the index's own, and do not block either."""
        retriever = await asyncio.to_thread(
            ResumableRetriever.from_texts, TEXTS, Letters(), sparse_embedding=Initials(), namespace="ns", k=3
        )
        async with retriever:
            assert 3 == len(await retriever.ainvoke(QUESTION))
            assert [] == await retriever.ainvoke(QUESTION, namespace="")

    def test_stable_ids(self, tmp_path: Path) -> None:
        """Equal texts with equal metadata are one record, also when stored again; ids that are given are kept."""
        seen = []
        for _ in range(2):
            with ResumableRetriever.from_texts(
                ["a", "a", "a", "b"], metadatas=[{}, {}, {"x": 1}, {}], ids=[None, None, None, "B"], path=tmp_path / "i"
            ) as retriever:
                seen.append({document.id for document in retriever.invoke("a")})
        assert 3 == len(seen[0])
        assert "B" in seen[0]
        assert seen[0] == seen[1]

    def test_documents(self) -> None:
        """Documents come back equal, id and all, and are not changed."""
        documents = [Document("sky", id="1", metadata={"a": [1]}), Document("sea")]
        before = copy.deepcopy(documents)
        with ResumableRetriever.from_documents(documents, retrieval_mode="dense") as retriever:
            found = retriever.invoke("sky")
        assert before == documents
        assert documents[0] == found[0]
        assert ("sea", {}) == (found[1].page_content, found[1].metadata)

    def test_nothing(self) -> None:
        """No texts make an index without answers."""
        with ResumableRetriever.from_texts([]) as retriever:
            assert [] == retriever.invoke("sky")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"metadatas": [{}]}, ClientError),
            ({"ids": ["1"]}, ClientError),
            ({"metadatas": [{"a": object()}, {}]}, ClientError),
            ({"k": 0}, ValidationError),
            ({"index": None}, ClientError),
            ({"embedding": "unknown"}, ClientError),
            ({"ids": ["1" * 2_000, "2"]}, RefusedError),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, Any], error: type[Exception], tmp_path: Path) -> None:
        """What is wrong is refused, and the file is let go of."""
        with pytest.raises(error):
            ResumableRetriever.from_texts(["a", "b"], path=tmp_path / "i", **arguments)
        Index.embedded(tmp_path / "i", embedding="static").close()


def test_missing_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LangChain the import names the command that installs it."""
    monkeypatch.delitem(sys.modules, "nextk.langchain")
    monkeypatch.setitem(sys.modules, "langchain_core.retrievers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nextk\[langchain\]'"):
        importlib.import_module("nextk.langchain")
