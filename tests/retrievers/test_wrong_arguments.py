"""Arguments that belong elsewhere, in both frameworks: the error says where, or what to write instead."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import ConfigurableField
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters
from llama_index.core.vector_stores.simple import SimpleVectorStore

from nextk import Index, langchain, llama_index
from nextk.errors import ClientError, RefusedError
from nextk.types import Data
from nextk.until import Accepted
from tests.support.sentence_index import QUESTION, TEXTS, sentences

MODEL = DeterministicFakeEmbedding(size=4)


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """A hybrid index that embeds text."""
    with sentences(TEXTS[:9]) as index:
        yield index


class TestAccepted:
    """A check that was written for one document."""

    @pytest.mark.parametrize(
        "check",
        [
            lambda document: document.metadata["public"],
            lambda document: document["public"],
            lambda document: document.page_content == "x",
            lambda document: _by_another_function("ann", document),
            lambda document, user: document is user,
            lambda document: "x" in document,
            lambda document: np.bool_(document is not None),
        ],
        ids=["attribute", "key", "content", "function", "two arguments", "one bool", "one numpy bool"],
    )
    async def test_it_is_told(self, index: Index, check: Any) -> None:
        """Whatever a check of one document does with the list, it is told that it gets one, and returns a list."""
        told = r"the check gets a list of documents \(or nodes\) and returns one bool for each"
        until = Accepted(3, check)
        for make in (langchain.ResumableRetriever(index=index), llama_index.ResumableRetriever(index)):
            with make.open(QUESTION, until=until) as search, pytest.raises(ClientError, match=told):
                search.fetch_next(1)
            async with make.aopen(QUESTION, until=until) as asearch:
                with pytest.raises(ClientError, match=told):
                    await asearch.fetch_until()
        with pytest.raises(ClientError, match=told):
            langchain.ResumableRetriever(index=index).invoke(QUESTION, until=until)

    async def test_a_coroutine_function(self, index: Index) -> None:
        """A coroutine function of one document is told, too."""

        async def check(document: Any) -> Any:
            return document.metadata["public"]

        with pytest.raises(ClientError, match="the check gets a list of documents"):
            await langchain.ResumableRetriever(index=index).ainvoke(QUESTION, until=Accepted(3, check))

    def test_by_its_annotation(self) -> None:
        """A check that says of itself that it returns one bool is refused when the policy is made."""

        def check(document: Document) -> bool:
            return bool(document.metadata)

        with pytest.raises(ClientError, match="returns one bool: the check gets a list of documents"):
            Accepted(3, check)  # type: ignore[arg-type]

    @pytest.mark.parametrize("error", [AttributeError("own"), TypeError("own"), KeyError("own")])
    def test_other_errors_are_the_callers(self, index: Index, error: Exception) -> None:
        """An exception of the check that has nothing to do with the list reaches the caller unchanged."""

        def check(documents: list[Any]) -> list[bool]:
            for document in documents:
                _fail(document, error)
            return [True]

        with pytest.raises(type(error)) as caught:
            langchain.ResumableRetriever(index=index).invoke(QUESTION, until=Accepted(3, check))
        assert caught.value is error


def _by_another_function(user: str, document: Any) -> bool:
    return bool(document.metadata["owner"] == user)


def _fail(_document: Any, error: Exception) -> None:
    raise error


FILTERS: list[tuple[Any, str]] = [
    ({"lang": "de"}, r"""here "lang = 'de'":"""),
    ({"lang": "de", "year": {"$gte": 2020, "$lt": 2024}}, "here \"lang = 'de' AND year >= 2020 AND year < 2024\""),
    ({"public": True}, "here 'public = true'"),
    ({"$or": [{"a": 1}, {"b": 2}]}, r"""as "lang = 'de' AND year > 2020":"""),
    ({"tags": {"$in": ["a"]}}, r"""as "lang = 'de' AND year > 2020":"""),
    ({"name": "O'Neill"}, r"""here 'name = "O\'Neill"'"""),
    ({"a key": 1}, r"""as "lang = 'de' AND year > 2020":"""),
    ({"path": "C:\\"}, r"""as "lang = 'de' AND year > 2020":"""),
    ({"score": float("nan")}, r"""as "lang = 'de' AND year > 2020":"""),
    ({}, r"""as "lang = 'de' AND year > 2020":"""),
    (lambda metadata: metadata, "is not a string in the index's language"),
    (5, "is not a string in the index's language"),
]


RESTRICTION = MetadataFilters(filters=[ExactMatchFilter(key="a", value=1)])


class TestFilters:
    """Filters of other libraries."""

    @pytest.mark.parametrize(("filter", "told"), FILTERS, ids=range(len(FILTERS)))
    @pytest.mark.parametrize(
        "call",
        [
            lambda index, given: widened(langchain.ResumableRetriever(index=index), given),
            lambda index, given: llama_index.ResumableRetriever(index, filter=given),
            lambda index, given: llama_index.ResumableRetriever(index, filter=given, filters=RESTRICTION),
            lambda index, given: llama_index.ResumableRetriever(index).open(QUESTION, filter=given),
            lambda index, given: restricted(index).open(QUESTION, filter=given),
            lambda index, given: widened(llama_index.ResumableRetriever(index), given),
        ],
        ids=["lc-widen", "li-init", "li-init-filters", "li-open", "li-open-filters", "li-widen"],
    )
    def test_it_is_told_what_to_write(self, index: Index, call: Callable[..., Any], filter: Any, told: str) -> None:
        """A dict or a function is no filter here: the error writes a simple dict out, and says so everywhere."""
        with pytest.raises(ClientError) as caught:
            call(index, filter)
        assert told in str(caught.value)

    @pytest.mark.parametrize("filter", [lambda metadata: metadata, 5, ["place"], {"place": {1}}, {"place": {"$is": 1}}])
    @pytest.mark.parametrize(
        "call",
        [
            lambda index, given: langchain.ResumableRetriever(index=index, filter=given),
            lambda index, given: langchain.ResumableRetriever(index=index).invoke(QUESTION, filter=given),
            lambda index, given: langchain.ResumableRetriever(index=index).stream(QUESTION, filter=given),
            lambda index, given: langchain.ResumableRetriever(index=index).open(QUESTION, filter=given),
            lambda index, given: langchain.ResumableRetriever(index=index).resume(cursor(index), filter=given),
            lambda index, given: configurable(index).with_config(configurable={"f": given}).invoke(QUESTION),
            lambda index, given: langchain.ResumableRetriever(index=index).delete(filter=given),
        ],
        ids=["init", "invoke", "stream", "open", "resume", "config", "delete"],
    )
    def test_langchain_takes_texts_and_dicts(self, index: Index, call: Callable[..., Any], filter: Any) -> None:
        """Every other filter, and a dict that no index can apply, is refused before anything is sent."""
        with pytest.raises(ClientError, match="filter"):
            call(index, filter)
        assert 9 == index.info().vector_count

    def test_dicts_in_langchain(self, index: Index) -> None:
        """Wherever the LangChain retriever takes a filter, a dict is the text that it stands for."""
        text, given = "place < 4", {"place": {"$lt": 4}}
        retriever = langchain.ResumableRetriever(index=index, k=9)
        expected = retriever.invoke(QUESTION, filter=text)
        assert 4 == len(expected)
        assert expected == langchain.ResumableRetriever(index=index, k=9, filter=given).invoke(QUESTION)
        assert expected == retriever.invoke(QUESTION, filter=given)
        assert expected == [document for page in retriever.stream(QUESTION, filter=given) for document in page]
        assert expected == configurable(index).with_config(configurable={"f": given}).invoke(QUESTION, k=9)
        with retriever.open(QUESTION, filter=given) as search:
            found = search.fetch_next(2)
            position = search.cursor()
        with retriever.resume(position, filter=given) as search:
            assert expected == found + search.fetch_next(9)
        with retriever.resume(position, filter=text) as search:
            assert expected[2:] == search.fetch_next(9)

    @pytest.mark.parametrize("filters", ["lang = 'de'", {"lang": "de"}, [], ExactMatchFilter(key="a", value=1)])
    def test_filters_of_llama_index(self, index: Index, filters: Any) -> None:
        """A string goes into `filter=`; `filters=` takes LlamaIndex's own."""
        with pytest.raises(ClientError, match=r"is no MetadataFilters: .* goes into filter="):
            llama_index.ResumableRetriever(index, filters=filters)


def cursor(index: Index) -> dict[str, Any]:
    """The cursor of a search that has begun."""
    with langchain.ResumableRetriever(index=index).open(QUESTION) as search:
        search.fetch_next(1)
        return dict(search.cursor())


def configurable(index: Index) -> Any:
    """A retriever whose filter comes from the config of each call."""
    return langchain.ResumableRetriever(index=index).configurable_fields(filter=ConfigurableField("f"))


def restricted(index: Index) -> Any:
    """A retriever with filters of LlamaIndex's."""
    return llama_index.ResumableRetriever(index, filters=RESTRICTION)


def widened(retriever: Any, filter: Any) -> None:
    """Widen a search that has begun."""
    with retriever.open(QUESTION) as search:
        search.fetch_next(1)
        search.widen(filter=filter)


class TestNames:
    """Names that arguments have elsewhere."""

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            *((name, r"\(give k=\)") for name in ("top_k", "topK", "similarity_top_k", "n_results")),
            ("search_kwargs", r"as in k=5, filter=..."),
            ("search_type", r"until=MinScore\(0.8\) of nextk.until; there is no MMR"),
            ("score_threshold", r"give until=MinScore\(0.8\)"),
            ("vectorstore", r"call ResumableRetriever.from_vectorstore\(store\)"),
            ("filters", r"give filter=, a string"),
            ("embedding_function", r"give embedding="),
            ("embed_model", r"give embedding="),
            ("name_space", r"did you mean namespace\?"),
            ("persist_directory", r"give index=Index.embedded\(path\)"),
        ],
    )
    def test_of_langchain(self, index: Index, name: str, told: str) -> None:
        """The LangChain retriever says what an argument of another retriever is called here."""
        with pytest.raises(ValueError, match=f"unknown argument '{name}' ?.*{told}"):
            langchain.ResumableRetriever(index=index, **{name: 3})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("top_k", r"a single call takes k, and an opened search is asked by fetch_next\(n\)"),
            ("search_kwargs", r"as in k=5, filter=..."),
            ("score_threshold", r"give until=MinScore\(0.8\)"),
            ("filters", r"give filter=, a string"),
            ("max_pull", r"did you mean max_pulls\?"),
        ],
    )
    async def test_of_one_call(self, index: Index, name: str, told: str) -> None:
        """So does each call of it, and each opened search, in both frameworks."""
        chain, llama = langchain.ResumableRetriever(index=index), llama_index.ResumableRetriever(index)
        options: dict[str, Any] = {name: 3}
        for call in (chain.invoke, chain.stream, chain.open, chain.aopen, llama.open, llama.aopen):
            with pytest.raises(TypeError, match=rf"unexpected keyword argument '{name}' \(.*{told}"):
                call(QUESTION, **options)
        with pytest.raises(TypeError, match=told):
            await chain.ainvoke(QUESTION, **options)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            *((name, r"\(give similarity_top_k=\)") for name in ("k", "top_k", "topK")),
            ("similarity_cutoff", r"give until=MinScore\(0.8\)"),
            ("search_kwargs", r"as in similarity_top_k=5"),
            ("vector_store", r"call ResumableRetriever.from_vector_store\(vector_store\)"),
            ("embeddings", r"give embed_model="),
            ("filterss", r"did you mean filters\?"),
            ("node_postprocessor", r"did you mean node_postprocessors\?"),
            ("zzz", r": give one of index, url, "),
        ],
    )
    async def test_of_llama_index(self, index: Index, name: str, told: str) -> None:
        """The LlamaIndex retriever says what an argument of another retriever is called here, made or called."""
        options: dict[str, Any] = {name: 3}
        with pytest.raises(TypeError, match=rf"^ResumableRetriever\(\) got an unexpected .* '{name}'.*{told}"):
            llama_index.ResumableRetriever(index, **options)
        retriever = llama_index.ResumableRetriever(index)
        with pytest.raises(TypeError, match=rf"^retrieve\(\) got an unexpected keyword argument '{name}'; .*{told}"):
            retriever.retrieve(QUESTION, **options)
        with pytest.raises(TypeError, match=rf"^aretrieve\(\) got an unexpected keyword argument '{name}'; .*{told}"):
            await retriever.aretrieve(QUESTION, **options)

    @pytest.mark.parametrize("name", ["until", "filter", "namespace", "max_results", "deadline"])
    async def test_of_one_search(self, index: Index, name: str) -> None:
        """`retrieve` refuses a setting that `open` takes, and says where it goes."""
        told = (
            rf"'{name}' \(give it to ResumableRetriever\({name}=...\), or for one search to open\(query, {name}=...\)\)"
        )
        options: dict[str, Any] = {name: 3}
        retriever = llama_index.ResumableRetriever(index)
        with pytest.raises(TypeError, match=told):
            retriever.retrieve(QUESTION, **options)
        with pytest.raises(TypeError, match=told):
            await retriever.aretrieve(QUESTION, **options)

    @pytest.mark.parametrize("name", ["similarity_top_k", "node_ids", "embed_model"])
    def test_of_the_retriever(self, index: Index, name: str) -> None:
        """A call refuses a setting that only the retriever takes, and says so."""
        options: dict[str, Any] = {name: 3}
        with pytest.raises(TypeError, match=rf"'{name}' \(give it to ResumableRetriever\({name}=...\)\)"):
            llama_index.ResumableRetriever(index).retrieve(QUESTION, **options)


class TestModels:
    """Models that belong to the index, or to another argument."""

    @pytest.mark.parametrize("model", ["static", lambda texts: [[1.0]] * len(texts)], ids=["name", "function"])
    def test_what_an_index_owns(self, index: Index, model: Any) -> None:
        """A name or a function is a model for an index: it is said where such models go."""
        with pytest.raises(ValueError, match=r"give it to Index\.embedded\(path, embedding=\.\.\.\) or from_texts"):
            langchain.ResumableRetriever(index=index, embedding=model)
        with pytest.raises(ClientError, match=r"goes to Index\.embedded\(path, embedding=\.\.\.\) or to from_nodes"):
            llama_index.ResumableRetriever(index, embed_model=model)

    @pytest.mark.parametrize("embedding", [False, MockEmbedding(4), "static"], ids=["False", "model", "name"])
    def test_true_is_a_word(self, index: Index, embedding: Any) -> None:
        """In LlamaIndex's retriever `embedding` is `True` or left out, and nothing else counts as `True`."""
        with pytest.raises(ClientError, match=r"is not True, .*: a model goes into embed_model="):
            llama_index.ResumableRetriever(index, embedding=embedding)

    def test_no_secret_is_shown(self, index: Index) -> None:
        """A refused model is named by its type: its representation may hold the key of an API."""

        class Model(MockEmbedding):
            api_key: str = "sk-secret"

        def embed(texts: list[str], api_key: str) -> list[list[float]]:
            return [[1.0] for _ in texts]

        refused: Any = [
            lambda: llama_index.ResumableRetriever(index, embedding=Model(embed_dim=4)),  # type: ignore[arg-type]
            lambda: langchain.ResumableRetriever(index=index, embedding=partial(embed, api_key="sk-secret")),  # type: ignore[arg-type]
            lambda: llama_index.ResumableRetriever(index, embed_model=partial(embed, api_key="sk-secret")),  # type: ignore[arg-type]
            lambda: llama_index.ResumableRetriever(index, sparse_embedding=Model),
        ]
        for make in refused:
            with pytest.raises(ValueError, match="embed") as caught:
                make()
            assert "sk-secret" not in str(caught.value)

    def test_a_stored_index_that_lacks_its_model(self, tmp_path: Path) -> None:
        """An index that was made with a model of the caller's own says that it is given to `Index.embedded` again."""
        langchain.ResumableRetriever.from_texts(["a"], MODEL, path=tmp_path / "index").close()
        with pytest.raises(ClientError, match=r"to Index\.embedded, or .*, also if a retriever searches it$"):
            langchain.ResumableRetriever(index=Index.embedded(tmp_path / "index"), embedding=MODEL)

    @pytest.mark.parametrize("size", [4, 256])
    async def test_an_index_that_embeds(self, size: int) -> None:
        """A model of the retriever that does not fit the index is told that the index takes models of its own."""
        told = r"record 0 \(.*give the models to Index\.embedded\(path, embedding=\.\.\., sparse_embedding=\.\.\.\)"
        with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
            chain = langchain.ResumableRetriever(index=index, embedding=DeterministicFakeEmbedding(size=size))
            llama = llama_index.ResumableRetriever(index, embed_model=MockEmbedding(size))
            with pytest.raises(RefusedError, match=told) as caught:
                chain.add_texts(["a"])
            assert 422 == caught.value.status
            with pytest.raises(RefusedError, match=told):
                llama.insert_nodes([TextNode(text="a")])
            with pytest.raises(RefusedError, match=told):
                await chain.aadd_texts(["a"])
            with pytest.raises(RefusedError, match=told):
                await llama.ainsert_nodes([TextNode(text="a")])

    async def test_a_search_with_a_model_that_does_not_fit(self) -> None:
        """A search by a model of the retriever that makes other vectors is told that the index takes models."""
        told = (
            r"expected: 256\. .*give the models to Index\.embedded\(path, embedding=\.\.\., sparse_embedding=\.\.\.\)"
        )
        with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
            index.upsert([Data("a", "a text")])
            chain = langchain.ResumableRetriever(index=index, embedding=DeterministicFakeEmbedding(size=4))
            llama = llama_index.ResumableRetriever(index, embed_model=MockEmbedding(4))
            for call in (chain.invoke, llama.retrieve, lambda text: chain.open(text).fetch_next(1)):
                with pytest.raises(RefusedError, match=told):
                    call("a")
            for acall in (chain.ainvoke, llama.aretrieve, lambda text: llama.aopen(text).fetch_next(1)):
                with pytest.raises(RefusedError, match=told):
                    await acall("a")


class TestStores:
    """Stores of others."""

    def test_of_langchain(self) -> None:
        """An object that is no store of LangChain's is told what is taken."""
        told = r"SimpleVectorStore is no LangChain VectorStore.*give a store, or implement a Source of nextk\.stores"
        with pytest.raises(ClientError, match=told):
            langchain.ResumableRetriever.from_vectorstore(SimpleVectorStore())

    def test_of_llama_index(self) -> None:
        """A store of LlamaIndex without text asks for its nodes, and what is no store is told what would be."""
        with pytest.raises(ClientError, match=r"this SimpleVectorStore holds no text: .* from_index\(index\)"):
            llama_index.ResumableRetriever.from_vector_store(SimpleVectorStore())
        with pytest.raises(ClientError, match="is no vector store of LlamaIndex"):
            llama_index.ResumableRetriever.from_vector_store(SimpleVectorStore)
        with pytest.raises(ClientError, match=r"a vector store goes into from_vector_store\(store\)"):
            llama_index.ResumableRetriever.from_index(SimpleVectorStore())  # type: ignore[arg-type]
