"""The LangChain retriever among others: the Upstash store that it replaces, and retrievers and tools built on it."""

import ast
import inspect
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import upstash_vector
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import create_retriever_tool
from pydantic import SecretStr

from nextk import AsyncIndex, Index
from nextk.errors import ClientError
from nextk.langchain import ResumableRetriever, ResumableVectorStore
from nextk.sessions import RetrievalMode
from nextk.until import Accepted
from tests.support.community_store import UpstashVectorStore, store_at, without_id
from tests.support.letter_models import Initials, Letters, contents
from tests.support.local_server import TOKEN, LocalServer
from tests.support.sentence_index import QUESTION, TEXTS

with warnings.catch_warnings():  # that these packages are on their way out is why one moves here
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_classic.retrievers import (
        ContextualCompressionRetriever,
        EnsembleRetriever,
        MultiQueryRetriever,
    )

METADATAS: list[dict[str, Any]] = [
    {"place": position, "tags": ["a", {"b": None}], "share": position / 7} for position in range(len(TEXTS))
]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server without indexes."""
    with LocalServer() as server:
        yield server


class TestUpstashVectorStore:
    """The store of `langchain_community`, over the official SDK."""

    @pytest.mark.parametrize("text_key", ["text", "body"])
    @pytest.mark.parametrize("embeds", ["caller", "index"])
    async def test_its_records_are_read(self, server: LocalServer, embeds: str, text_key: str) -> None:
        """What the store wrote comes back as the store itself reads it, and with its id."""
        model: Any = Letters() if embeds == "caller" else True
        schema = {"dimension": 4} if embeds == "caller" else {"embedding": "static"}
        url = server.add("i", type="dense", **schema)
        with store_at(url, model, text_key=text_key, namespace="ns") as store:
            ids = store.add_texts(TEXTS, METADATAS)
            with ResumableRetriever.from_vectorstore(store, k=20) as retriever:
                expected = store.similarity_search(QUESTION, 20)
                assert expected == [without_id(document) for document in retriever.invoke(QUESTION)]
                assert expected == [without_id(document) for document in await retriever.ainvoke(QUESTION)]
                assert store.similarity_search(QUESTION, 5, "place < 9") == [
                    without_id(document) for document in retriever.invoke(QUESTION, k=5, filter="place < 9")
                ]
                everything = retriever.invoke(QUESTION, k=100)
                assert dict(zip(ids, zip(TEXTS, METADATAS, strict=True), strict=True)) == {
                    document.id: (document.page_content, document.metadata) for document in everything
                }
                with retriever.open(QUESTION) as search:
                    assert everything == list(search)
                await retriever.aclose()

    def test_it_reads_what_is_written_here(self, server: LocalServer) -> None:
        """What this retriever stores by a model of the caller's is read by the store."""
        url = server.add("i", type="dense", dimension=4)
        with store_at(url, Letters()) as store, ResumableRetriever.from_vectorstore(store) as retriever:
            retriever.add_texts(TEXTS, METADATAS)
            found = store.similarity_search(QUESTION, 20)
            assert found == [without_id(document) for document in retriever.invoke(QUESTION, k=20)]
            assert 20 == len(found)

    def test_what_is_taken_over(self, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Place, token, model, namespace and text key are the store's; further arguments win."""
        model = Letters()
        url = server.add("i", type="dense", dimension=4)
        with store_at(url, model, text_key="body", namespace="ns") as store:
            retriever = ResumableRetriever.from_vectorstore(store)
            assert (url, SecretStr(TOKEN)) == (retriever.url, retriever.token)
            assert (model, "ns", "body") == (retriever.embedding, retriever.namespace, retriever.text_key)
            other = ResumableRetriever.from_vectorstore(
                store, k=7, namespace="other", sparse_embedding=Initials(), retrieval_mode="dense"
            )
            assert (7, "other", RetrievalMode.DENSE) == (other.k, other.namespace, other.retrieval_mode)

    async def test_either_colour(self, server: LocalServer) -> None:
        """A store that has only one of the two indexes of the SDK does as well, and so does one of nextk's own."""
        url = server.add("i", type="dense", embedding="static")
        sdk = upstash_vector.AsyncIndex(url, TOKEN)
        with ResumableRetriever.from_vectorstore(
            UpstashVectorStore(async_index=sdk, embedding=True), namespace="ns"
        ) as retriever:
            retriever.add_texts(["sky"])
            assert ["sky"] == contents(retriever.invoke("sky"))
        await sdk._client.aclose()

        class Similar:
            _text_key, _namespace, _embeddings = "text", "", None
            _index = Index(url, TOKEN)

        with Similar._index:
            assert Similar._index is ResumableRetriever.from_vectorstore(Similar()).index
        Similar._index = AsyncIndex(url, TOKEN)  # type: ignore[assignment]
        assert Similar._index is ResumableRetriever.from_vectorstore(Similar()).index

    @pytest.mark.parametrize(
        ("lacks", "complaint"),
        [
            (["_embeddings"], r"^Store is no LangChain VectorStore, nor .* as source="),
            (["_index"], r"does not say where it is"),
        ],
    )
    def test_another_store(self, lacks: list[str], complaint: str) -> None:
        """What is made otherwise is refused, saying what is missing."""
        names = {"_text_key": "text", "_namespace": "", "_embeddings": True, "_index": object()}
        kept = {name: value for name, value in names.items() if name not in lacks}
        with pytest.raises(ClientError, match=complaint):
            ResumableRetriever.from_vectorstore(type("Store", (), kept)())


class Even(BaseDocumentCompressor):
    """Keeps every second text."""

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> list[Document]:
        """Filter them."""
        return [document for document in documents if document.metadata["place"] % 2 == 0]


def even(documents: list[Document]) -> list[bool]:
    """Permit every second text."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


@pytest.mark.parametrize("until", [None, Accepted(6, even)], ids=["plain", "until"])
class TestCompositions:
    """What others build on a retriever takes this one as it is, with a policy and without."""

    async def test_contextual_compression(self, index: Index, until: Any) -> None:
        """A compressor filters what it returns; arguments of the call reach it."""
        retriever = ResumableRetriever(index=index, until=until, k=6)
        outer = ContextualCompressionRetriever(base_compressor=Even(), base_retriever=retriever)
        expected = Even().compress_documents(retriever.invoke(QUESTION), QUESTION)
        assert 0 < len(expected) <= 6
        assert expected == outer.invoke(QUESTION) == await outer.ainvoke(QUESTION)
        assert len(expected) <= len(outer.invoke(QUESTION, until=Accepted(9, even), k=None)) <= 9

    async def test_ensemble(self, index: Index, until: Any) -> None:
        """Its ranks are fused with another retriever's."""
        parts = [ResumableRetriever(index=index, until=until, k=5, retrieval_mode=mode) for mode in ("dense", "sparse")]
        outer = EnsembleRetriever(retrievers=list(parts), weights=[0.5, 0.5], id_key="place")
        found = outer.invoke(QUESTION)
        expected = {document.id for part in parts for document in part.invoke(QUESTION)}
        assert expected == {document.id for document in found}
        assert found == await outer.ainvoke(QUESTION)

    async def test_multi_query(self, index: Index, until: Any) -> None:
        """Several wordings of a question find what each finds, once."""
        retriever = ResumableRetriever(index=index, until=until, k=5)
        wordings = ["where is the sea?", "where is the grass?"]
        outer = MultiQueryRetriever.from_llm(retriever, FakeListChatModel(responses=["\n".join(wordings)]))
        found = outer.invoke(QUESTION)
        expected = {document.id for wording in wordings for document in retriever.invoke(wording)}
        assert expected == {document.id for document in found}
        assert len(expected) == len(found)
        assert found == await outer.ainvoke(QUESTION)

    async def test_tool(self, index: Index, until: Any) -> None:
        """A model is given the texts, and the program the documents."""
        retriever = ResumableRetriever(index=index, until=until, k=5)
        tool = create_retriever_tool(retriever, "search", "Searches.", response_format="content_and_artifact")
        call = {"name": "search", "args": {"query": QUESTION}, "id": "1", "type": "tool_call"}
        expected = retriever.invoke(QUESTION)
        for message in (tool.invoke(call), await tool.ainvoke(call)):
            assert ("\n\n".join(contents(expected)), expected) == (message.content, message.artifact)

    async def test_traces(self, index: Index, until: Any) -> None:
        """Within another retriever its run is a child of that one's."""
        seen: list[tuple[Any, Any]] = []

        class Handler(BaseCallbackHandler):
            def on_retriever_start(self, serialized: Any, query: str, **keywords: Any) -> None:
                seen.append((keywords["run_id"], keywords["parent_run_id"]))

        retriever = ResumableRetriever(index=index, until=until)
        outer = ContextualCompressionRetriever(base_compressor=Even(), base_retriever=retriever)
        outer.invoke(QUESTION, {"callbacks": [Handler()]})
        await outer.ainvoke(QUESTION, {"callbacks": [Handler()]})
        assert [seen[0][0], seen[2][0]] == [parent for _, parent in seen[1::2]]


class TestDocstring:
    """What the class says of itself."""

    async def test_every_example_runs(self, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every Python block of the docstring runs, one after the other, against a server of the environment."""
        url = server.add("docs", embedding="static", sparse_embedding="bm25")
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", url)
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", TOKEN)
        with Index(url, TOKEN) as index:
            index.upsert([(f"t{position}", text, {"lang": "de"}) for position, text in enumerate(TEXTS)])
            index.upsert([("other", "Why?", {"lang": "en"})], "science")
            names = await names_after(ResumableRetriever, blocks=10)
            retriever: ResumableRetriever = names["retriever"]
            assert {"The sky is blue.", "The sea is blue, too."} == set(contents(retriever.invoke("blue", k=99)))
            assert ["other"] == [document.id for document in retriever.invoke("blue", k=99, namespace="science")]
            await retriever.aclose()
            retriever.close()

    async def test_every_example_of_the_store_runs(
        self, server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Every Python block of the store's docstring runs, and its retriever goes on with a search."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", server.add("docs", embedding="static", sparse_embedding="bm25"))
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", TOKEN)
        with Index.from_env() as index:
            index.upsert([(f"t{position}", text, {"lang": "en"}) for position, text in enumerate(TEXTS)])
        names = await names_after(ResumableVectorStore, blocks=3)
        with names["store"], names["local"].index:
            assert names["store"].similarity_search("Which colour is grass?", 10) == names["documents"]
            assert 10 == len(names["documents"])

    def test_every_field_is_described(self) -> None:
        """Every field of the retriever's own is in the docstring."""
        text = inspect.getdoc(ResumableRetriever) or ""
        own = ResumableRetriever.model_fields.keys() - {"name", "tags", "metadata", "callbacks"}
        described = {
            name
            for line in text.splitlines()
            if line.startswith("    ") and ":" in line
            for name in line.strip().partition(":")[0].split(", ")
        }
        assert set() == own - described


async def names_after(documented: type, blocks: int) -> dict[str, Any]:
    """Run the Python blocks of a docstring, so many of them, one after the other. Returns the names that they set."""
    texts = python_blocks(inspect.getdoc(documented) or "")
    assert blocks == len(texts)
    names: dict[str, Any] = {}
    for text in texts:
        code = compile(text, "docstring", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)  # noqa: S307 - our own text
        if running is not None:
            await running
    return names


def python_blocks(text: str) -> list[str]:
    """The Python blocks of a docstring."""
    parts = text.split("```python\n")[1:]
    return [textwrap.dedent(part.partition("```")[0].rstrip(" ")) for part in parts]
