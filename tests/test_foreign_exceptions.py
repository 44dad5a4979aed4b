"""Whatever a caller passes, what comes out is an error of nextk's, or one of the caller's own objects."""

import copy
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import QueryBundle, TextNode
from pydantic import ValidationError

from nextk import AsyncIndex, Index, Vector, langchain, llama_index, until
from nextk.arguments import written
from nextk.errors import ClientError, NextKError, RefusedError
from nextk.sessions import Limits, RetrievalMode, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.types import Data, MetadataUpdateMode, SparseVector
from tests.support.odd_values import ODD, OwnError, nested
from tests.support.sentence_index import sentences
from tests.support.transports import Opener, Wire

VECTOR = [1.0, 2.0]


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An index that embeds text, to which tests may write."""
    with sentences(["the sky", "the sea"]) as made:
        yield made


def check(call: Callable[[Any], Any], *allowed: type[Exception]) -> None:
    """Call a function with each odd value; every error has to be one of ours, and to have a text that can be sent."""
    expected: tuple[type[Exception], ...] = (NextKError, OwnError, *allowed)
    for name, make in ODD.items():
        try:
            call(make())
        except expected as error:
            str(error).encode()
        except Exception as error:
            message = f"{name}: {type(error).__name__}"
            raise AssertionError(message) from error


async def acheck(call: Callable[[Any], Awaitable[Any]]) -> None:
    """Await a function with each odd value, as `check` calls one."""
    for name, make in ODD.items():
        try:
            await call(make())
        except (NextKError, OwnError) as error:
            str(error).encode()
        except Exception as error:
            message = f"{name}: {type(error).__name__}"
            raise AssertionError(message) from error


CLIENT: dict[str, Callable[[AsyncIndex, Any], Awaitable[Any]]] = {
    "records": lambda index, odd: index.upsert(odd),
    "record": lambda index, odd: index.upsert([Vector("b", VECTOR), odd]),
    "id": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector(odd, VECTOR)]),
    "vector": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector("c", odd)]),
    "number": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector("c", [1.0, odd])]),
    "sparse vector": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector("c", sparse_vector=odd)]),
    "metadata": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector("c", VECTOR, {"k": [odd]})]),
    "all metadata": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector("c", VECTOR, odd)]),
    "data": lambda index, odd: index.upsert([Vector("b", VECTOR), Vector("c", VECTOR, data=odd)]),
    "namespace": lambda index, odd: index.query(VECTOR, namespace=odd),
    "query vector": lambda index, odd: index.query(odd),
    "query by sparse vector": lambda index, odd: index.query(sparse_vector=odd),
    "top_k": lambda index, odd: index.query(VECTOR, odd),
    "flag": lambda index, odd: index.query(VECTOR, include_data=odd),
    "filter": lambda index, odd: index.query(VECTOR, filter=odd),
    "text": lambda index, odd: index.query(data=odd),
    "mode": lambda index, odd: index.query(VECTOR, query_mode=odd),
    "queries": lambda index, odd: index.query_many(queries=odd),
    "query": lambda index, odd: index.query_many(queries=[{"vector": VECTOR}, odd]),
    "update": lambda index, odd: index.update("a", metadata={"k": odd}),
    "patch": lambda index, odd: index.update("a", metadata=odd, metadata_update_mode=MetadataUpdateMode.PATCH),
    "updated id": lambda index, odd: index.update(odd, data="x"),
    "ids": lambda index, odd: index.fetch(odd),
    "prefix": lambda index, odd: index.fetch(prefix=odd),
    "cursor": lambda index, odd: index.range(odd),
    "limit": lambda index, odd: index.range(limit=odd),
    "deleted ids": lambda index, odd: index.delete(["none", odd]),
    "reset": lambda index, odd: index.reset("none", odd),
    "deleted namespace": lambda index, odd: index.delete_namespace(odd),
}


@pytest.mark.parametrize("name", CLIENT)
async def test_the_client(open_index: Opener, name: str) -> None:
    """Each argument of the client takes any value over every transport, and a refused call stores nothing."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("a", VECTOR, {"n": 1})])

    async def call(odd: Any) -> None:
        try:
            await CLIENT[name](index, odd)
        except BaseException:
            assert [None, None] == await index.fetch(["b", "c"])
            raise
        await index.delete(["b", "c"])

    await acheck(call)


async def test_a_patch_of_1000_levels(open_index: Opener) -> None:
    """A patch of many levels is refused in words in every depth, and the record stays as it is."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("a", VECTOR, {"n": 1})])
    for depth in (251, 300, 450, 1_000, 5_000):
        metadata = nested(depth, lambda value: {"k": value})
        for mode in MetadataUpdateMode:
            with pytest.raises(NextKError, match="nested too deeply"):
                await index.update("a", metadata=metadata, metadata_update_mode=mode)
    [found] = await index.fetch("a", include_metadata=True)
    assert found is not None
    assert {"n": 1} == found.metadata


@pytest.mark.parametrize("depth", [251, 1_000])
@pytest.mark.parametrize("mode", list(MetadataUpdateMode))
def test_a_patch_on_the_wire(wire: Wire, depth: int, mode: MetadataUpdateMode) -> None:
    """A server answers such a patch by 422, also where no client of ours has looked at it."""
    wire.result("upsert", {"id": "a", "vector": [1.0]})
    metadata = '{"k":' * depth + "1" + "}" * depth
    body = f'{{"id": "a", "metadata": {metadata}, "metadataUpdateMode": "{mode.value}"}}'
    status, text = wire.error("update", body.encode())
    assert (422, "Metadata is nested too deeply; at most 250 levels are allowed") == (status, text)


@pytest.mark.parametrize("depth", [251, 400, 1_000])
def test_deep_metadata_among_many(index: Index, depth: int) -> None:
    """Metadata of too many levels are refused before the first of several batches is stored."""
    metadatas: Any = [{} for _ in range(30)]
    metadatas[25] = nested(depth, lambda value: {"k": value})
    texts = [f"deep {position}" for position in range(30)]
    before = index.info().vector_count
    with pytest.raises(NextKError, match=r"^record 25: .*nested too deeply"):
        langchain.ResumableRetriever(index=index).add_texts(texts, metadatas, batch_size=10)
    assert before == index.info().vector_count


@pytest.mark.parametrize("join", ["or", "and", "in turns"])
def test_many_joined_policies(join: str) -> None:
    """Policies are joined by the thousand, and refused in words where `|` and `&` take turns as often."""
    joined: until.Policy = until.MaxResults(1)
    try:
        for number in range(2, 1_000):
            with_or = join == "or" or (join == "in turns" and number % 2 == 0)
            joined = joined | until.MaxResults(number) if with_or else joined & until.MaxResults(number)
    except ClientError as error:
        refused = str(error)
        assert (join, True) == ("in turns", "take turns more than 100 levels deep" in refused)
        return
    assert 999 == len(joined.leaves())
    assert copy.copy(joined) == joined
    assert joined.name.startswith("max_results")


SESSION: dict[str, Callable[[Index, Any], Any]] = {
    "n": lambda index, odd: ask(index, "fetch_next", odd),
    "policy": lambda index, odd: ask(index, "fetch_until", odd),
    "widened mode": lambda index, odd: ask(index, "widen", retrieval_mode=odd),
    "widened filter": lambda index, odd: ask(index, "widen", filter=odd),
    "query": lambda index, odd: RetrievalSession(index, odd, READER),
    "reader": lambda index, odd: RetrievalSession(index, SearchQuery("x"), odd),
    "index": lambda _, odd: RetrievalSession(odd, SearchQuery("x"), READER),
    "texts": lambda index, odd: RetrievalSession(index, SearchQuery("x"), READER, texts=odd),
    "config": lambda index, odd: RetrievalSession(index, SearchQuery("x"), READER, config=odd),
    "cursor": lambda index, odd: RetrievalSession(index, SearchQuery("x"), READER, cursor=odd),
    "field of a cursor": lambda index, odd: RetrievalSession(
        index, SearchQuery("x"), READER, cursor={**cursor(index), "version": odd}
    ),
    "embed": lambda index, odd: RetrievalSession(index, SearchQuery(), READER, embed=odd),
    "mode": lambda _, odd: SearchQuery("x", mode=odd),
    "filter": lambda _, odd: SearchQuery("x", filter=odd),
    "namespace": lambda _, odd: SearchQuery("x", namespace=odd),
    "limits": lambda _, odd: SearchConfig(limits=odd),
    "clock": lambda _, odd: SearchConfig(clock=odd),
    "deadline": lambda _, odd: Limits(deadline=odd),
    "count of a policy": lambda _, odd: until.MaxResults(odd).identity,
    "check of a policy": lambda _, odd: until.Accepted(1, odd),
    "score of a policy": lambda _, odd: until.MinScore(odd).identity,
    "joined policy": lambda _, odd: until.MaxResults(1) | odd,
    "answer of a check": lambda index, odd: ask(index, "fetch_until", until.Accepted(1, lambda _: odd)),
    "verdict": lambda index, odd: ask(index, "fetch_until", until.Accepted(1, lambda items: [odd] * len(items))),
    "key": lambda index, odd: ask(index, "fetch_until", until.DistinctBy(lambda _: odd, 1)),
    "tokens": lambda index, odd: ask(index, "fetch_until", until.TokenBudget(1, lambda _: odd)),
    "scores": lambda index, odd: ask(index, "fetch_until", until.RerankStable(1, lambda _: odd)),
}
READER: RowReader[Any] = RowReader(lambda match: match)


def ask(index: Index, method: str, *arguments: Any, **keywords: Any) -> None:
    """Call a method of a search that has pulled nothing yet, and stop the search."""
    with RetrievalSession(index, SearchQuery("sky", mode=RetrievalMode.DENSE), READER) as search:
        getattr(search, method)(*arguments, **keywords)


def cursor(index: Index) -> dict[str, Any]:
    """The cursor of a search."""
    return RetrievalSession(index, SearchQuery("x"), READER).cursor()


@pytest.mark.parametrize("name", SESSION)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::numpy.exceptions.ComplexWarning")
def test_sessions_and_policies(index: Index, name: str) -> None:
    """Each argument of sessions and policies, and each answer of a policy's function, may be any value."""
    check(lambda odd: SESSION[name](index, odd))


class Model:
    """A sparse model that returns what it was made with."""

    def __init__(self, vector: Any) -> None:
        self._vector = vector

    def embed_query(self, _text: str) -> Any:
        """Return the vector."""
        return self._vector


CHAIN: dict[str, Callable[[langchain.ResumableRetriever, Any], Any]] = {
    "question": lambda retriever, odd: retriever.invoke(odd),
    "k": lambda retriever, odd: retriever.invoke("sky", k=odd),
    "filter": lambda retriever, odd: retriever.invoke("sky", filter=odd),
    "namespace": lambda retriever, odd: retriever.invoke("sky", namespace=odd),
    "cursor": lambda retriever, odd: retriever.resume(odd),
    "texts": lambda retriever, odd: retriever.add_texts(odd),
    "text": lambda retriever, odd: retriever.add_texts(["a", odd]),
    "metadatas": lambda retriever, odd: retriever.add_texts(["a"], odd),
    "metadata": lambda retriever, odd: retriever.add_texts(["a"], [{"k": odd}]),
    "ids": lambda retriever, odd: retriever.add_texts(["a"], ids=odd),
    "batch size": lambda retriever, odd: retriever.add_texts(["a"], batch_size=odd),
    "documents": lambda retriever, odd: retriever.add_documents(odd),
    "document": lambda retriever, odd: retriever.add_documents([Document("a"), odd]),
    "deleted ids": lambda retriever, odd: retriever.delete(odd),
    "deleted by filter": lambda retriever, odd: retriever.delete(filter=odd),
    "index": lambda _, odd: langchain.ResumableRetriever(index=odd),
    "mode": lambda retriever, odd: langchain.ResumableRetriever(index=retriever.index, retrieval_mode=odd),
    "sparse model": lambda retriever, odd: langchain.ResumableRetriever(
        index=retriever.index, sparse_embedding=Model(odd)
    ).invoke("sky"),
    "number of a sparse model": lambda retriever, odd: langchain.ResumableRetriever(
        index=retriever.index, sparse_embedding=Model(SparseVector([odd], [1.0]))
    ).invoke("sky"),
}


@pytest.mark.parametrize("name", CHAIN)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::numpy.exceptions.ComplexWarning")
def test_langchain(name: str) -> None:
    """Each argument of LangChain's retriever may be any value; the fields are LangChain's to validate."""
    with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
        index.upsert([Data("sky", "the sky")])
        retriever = langchain.ResumableRetriever(index=index)
        allowed = (ValidationError,) if name in ("index", "mode") else ()
        check(lambda odd: CHAIN[name](retriever, odd), *allowed)


LLAMA: dict[str, Callable[[llama_index.ResumableRetriever, Any], Any]] = {
    "question": lambda retriever, odd: retriever.retrieve(odd),
    "text of a bundle": lambda retriever, odd: retriever.retrieve(QueryBundle(odd)),
    "texts of a bundle": lambda retriever, odd: retriever.retrieve(QueryBundle("a", custom_embedding_strs=odd)),
    "one of the texts": lambda retriever, odd: retriever.retrieve(QueryBundle("a", custom_embedding_strs=["b", odd])),
    "opened question": lambda retriever, odd: retriever.open(odd),
    "cursor": lambda retriever, odd: retriever.resume(odd),
    "nodes": lambda retriever, odd: retriever.insert_nodes(odd),
    "node": lambda retriever, odd: retriever.insert_nodes([TextNode(text="a"), odd]),
    "id of a document": lambda retriever, odd: retriever.delete_ref_doc(odd),
    "top_k": lambda retriever, odd: repr(llama_index.ResumableRetriever(retriever.index, similarity_top_k=odd)),
    "alpha": lambda retriever, odd: llama_index.ResumableRetriever(retriever.index, alpha=odd),
    "filters": lambda retriever, odd: llama_index.ResumableRetriever(retriever.index, filters=odd),
    "doc_ids": lambda retriever, odd: llama_index.ResumableRetriever(retriever.index, doc_ids=odd),
    "text_key": lambda retriever, odd: llama_index.ResumableRetriever(retriever.index, text_key=odd),
    "postprocessors": lambda retriever, odd: llama_index.ResumableRetriever(retriever.index, node_postprocessors=odd),
    "tool": lambda retriever, odd: llama_index.ResumableSearchToolSpec(retriever, search_tool=odd),
}


@pytest.mark.parametrize("name", LLAMA)
def test_llama_index(name: str) -> None:
    """Each argument of LlamaIndex's retriever may be any value."""
    with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
        retriever = llama_index.ResumableRetriever(index)
        retriever.insert_nodes([TextNode(text="the sky")])
        check(lambda odd: LLAMA[name](retriever, odd))


@pytest.mark.parametrize("keyword", ["type", "dimension", "similarity", "fusion_order", "weighting", "same_model"])
def test_embedded(keyword: str) -> None:
    """Each keyword of an embedded index may be any value."""
    given: Any = Index.embedded
    check(lambda odd: given(**{keyword: odd}).close())


async def test_questions_with_surrogates(index: Index) -> None:
    """A question that UTF-8 cannot express is refused before a model sees it, by both frameworks, in both colours."""
    chain, llama = langchain.ResumableRetriever(index=index), llama_index.ResumableRetriever(index)
    for call in (chain.invoke, llama.retrieve, lambda text: llama.open(text).fetch_next(1)):
        with pytest.raises(ClientError, match="lone surrogates"):
            call("a\ud800")
    for acall in (chain.ainvoke, llama.aretrieve):
        with pytest.raises(ClientError, match="lone surrogates"):
            await acall("a\ud800")


def test_written() -> None:
    """Any value can be written into an error: shortly, without lone surrogates, and even if its own text raises."""
    assert "'a\\ud800'" == written("a\ud800")
    assert "<int>" == written(10**5_000)
    assert "<list>" == written(nested(100_000, lambda value: [value]))
    assert 1_203 == len(written("x" * 5_000))
    assert all(written(make()).encode() for make in ODD.values())


def test_a_refusal_is_an_error_of_the_index(index: Index) -> None:
    """An index that refuses says by its status that the values, and not the index, are at fault."""
    with pytest.raises(RefusedError) as caught:
        index.query(data="x", top_k=0)
    assert 422 == caught.value.status
