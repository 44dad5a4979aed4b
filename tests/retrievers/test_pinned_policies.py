"""A permission check is not lost on the way through a cursor, in either framework and either colour."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.postprocessor import KeywordNodePostprocessor, SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters
from pydantic import Field, PrivateAttr

from nextk import Index, langchain, llama_index
from nextk.errors import ClientError, PolicyMismatch
from nextk.until import Accepted, MaxResults
from tests.support.sentence_index import QUESTION, open_queries, sentences
from tests.support.transports import Awaitable

FRAMEWORKS = {"langchain": langchain.ResumableRetriever, "llama_index": llama_index.ResumableRetriever}
COLOURS = ["sync", "async"]


def place_of(result: Any) -> int:
    """Return the place of a document or of a node."""
    metadata = result.metadata if hasattr(result, "metadata") else result.node.metadata
    return int(metadata["place"])


def permitted(results: list[Any]) -> list[bool]:
    """Permit every third text."""
    return [place_of(result) % 3 == 0 for result in results]


def everything(results: list[Any]) -> list[bool]:
    """Permit every text."""
    return [True for _ in results]


class Permitted(BaseNodePostprocessor):
    """A postprocessor that checks for a user, counts, and keeps a cache."""

    calls: int = 0
    cache: dict[str, bool] = Field(default_factory=dict)
    _user: str = PrivateAttr()

    def __init__(self, user: str) -> None:
        super().__init__()
        self._user = user

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        self.calls += 1
        self.cache.update({node.node_id: True for node in nodes})
        return nodes


class Without(BaseNodePostprocessor):
    """A postprocessor that leaves out nodes with certain words."""

    words: list[str]

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [node for node in nodes if not any(word in node.text for word in self.words)]


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An index of sentences, which holds no open query in the end."""
    with sentences() as index:
        yield index
        assert 0 == open_queries(index)


@pytest.fixture(params=FRAMEWORKS)
def retriever_of(request: pytest.FixtureRequest, index: Index) -> Callable[..., Any]:
    """Return a function that makes a retriever of the framework."""
    return lambda **fields: FRAMEWORKS[request.param](index=index, embedding=True, **fields)


def session(retriever: Any, colour: str, method: str, *args: Any, **options: Any) -> Any:
    """Open or resume a session of either colour, whose methods are awaited."""
    if colour == "async":
        return getattr(retriever, f"a{method}")(*args, **options)
    return Awaitable(getattr(retriever, method)(*args, **options))


async def cursor_after(retriever: Any, colour: str, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the first five results of a search, and its cursor."""
    async with session(retriever, colour, "open", QUESTION, **options) as search:
        results = await search.fetch_next(5)
        cursor = (search.inner if isinstance(search, Awaitable) else search).cursor()
        return results, cursor


@pytest.mark.parametrize("colour", COLOURS)
class TestAnyRetriever:
    """The policies of a search and of its retriever."""

    async def test_of_the_search(self, retriever_of: Callable[..., Any], colour: str) -> None:
        """A search that was opened with a check is resumed with the same one only."""
        retriever = retriever_of()
        results, cursor = await cursor_after(retriever, colour, until=Accepted(10, permitted))
        for until in (None, Accepted(10, everything), MaxResults(10)):
            with pytest.raises(PolicyMismatch, match=r"policy accepted.*until="):
                session(retriever, colour, "resume", cursor, until=until)
        async with session(retriever, colour, "resume", cursor, until=Accepted(10, permitted)) as search:
            results += await search.fetch_next(50)
        assert set(range(0, 66, 3)) == {place_of(result) for result in results}
        async with session(retriever, colour, "resume", cursor, without_policies=True) as search:
            assert not all(permitted(await search.fetch_next(50)))

    async def test_of_the_retriever(self, retriever_of: Callable[..., Any], colour: str) -> None:
        """A policy of the retriever is pinned too, and applies again without a word at `resume`."""
        results, cursor = await cursor_after(retriever_of(until=Accepted(10, permitted)), colour)
        with pytest.raises(PolicyMismatch, match="policy accepted"):
            session(retriever_of(), colour, "resume", cursor)
        async with session(retriever_of(until=Accepted(10, permitted)), colour, "resume", cursor) as search:
            results += await search.fetch_next(50)
        assert all(permitted(results))
        assert 22 == len(results)

    async def test_the_waiver_leaves_the_retrievers_own(self, retriever_of: Callable[..., Any], colour: str) -> None:
        """`without_policies=True` gives up the policy of the search, and not that of the retriever."""
        _, cursor = await cursor_after(retriever_of(), colour, until=Accepted(10, everything))
        retriever = retriever_of(until=Accepted(10, permitted))
        async with session(retriever, colour, "resume", cursor, without_policies=True) as search:
            assert all(permitted(await search.fetch_next(50)))

    async def test_signed(self, retriever_of: Callable[..., Any], colour: str) -> None:
        """A retriever with a key signs its cursors, resumes them, and refuses those of other keys and of none."""
        signing, other, unsigned = (retriever_of(cursor_key=key) for key in ("first", "second", None))
        _, cursor = await cursor_after(signing, colour)
        async with session(signing, colour, "resume", cursor) as search:
            assert 3 == len(await search.fetch_next(3))
        for retriever in (other, unsigned):
            with pytest.raises(ClientError, match="signed"):
                session(retriever, colour, "resume", cursor)
        with pytest.raises(ClientError, match="not signed"):
            session(signing, colour, "resume", (await cursor_after(unsigned, colour))[1])


def test_a_key_is_not_shown(retriever_of: Callable[..., Any]) -> None:
    """The text of a retriever does not show the key."""
    assert "a secret text" not in repr(retriever_of(cursor_key="a secret text"))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("restriction", "other"),
    [
        (
            {"filters": MetadataFilters(filters=[MetadataFilter(key="place", value=7, operator=FilterOperator.NE)])},
            {"filters": MetadataFilters(filters=[MetadataFilter(key="place", value=8, operator=FilterOperator.NE)])},
        ),
        ({"node_ids": [f"t{place}" for place in range(30)]}, {"node_ids": ["t1", "t2"]}),
        (
            {"node_postprocessors": [SimilarityPostprocessor(similarity_cutoff=0.01)]},
            {"node_postprocessors": [SimilarityPostprocessor(similarity_cutoff=0.0)]},
        ),
        (
            {"node_postprocessors": [SimilarityPostprocessor(similarity_cutoff=0.0)]},
            {"node_postprocessors": [KeywordNodePostprocessor(exclude_keywords=["sky"])]},
        ),
        (
            {"node_postprocessors": [Without(words=["never"])]},
            {"node_postprocessors": [Without(words=["sky"])]},
        ),
        ({"node_postprocessors": [Permitted("ann")]}, {"node_postprocessors": [Permitted("bob")]}),
    ],
    ids=["filters", "node_ids", "a cutoff", "another postprocessor", "other keywords", "another user"],
)
async def test_restrictions_of_llama_index(
    index: Index, colour: str, restriction: dict[str, Any], other: dict[str, Any]
) -> None:
    """A cursor pins the checks of a LlamaIndex retriever: filters that the index cannot apply, and postprocessors."""

    def retriever(**fields: Any) -> Any:
        return llama_index.ResumableRetriever(index=index, embedding=True, **fields)

    results, cursor = await cursor_after(retriever(**restriction), colour)
    for fields in ({}, other):
        with pytest.raises(ClientError, match=r"this cursor was made with (the policy|another filter)"):
            session(retriever(**fields), colour, "resume", cursor)
    async with session(retriever(**restriction), colour, "resume", cursor) as search:
        results += await search.fetch_next(5)
    assert 10 == len({place_of(result) for result in results})


async def test_a_search_goes_on_in_the_other_colour(index: Index) -> None:
    """Postprocessors that were called blocking in one session may be awaited in the next."""
    fields: Any = {"node_postprocessors": [SimilarityPostprocessor(similarity_cutoff=0.0)]}
    retriever = llama_index.ResumableRetriever(index=index, embedding=True, **fields)
    _, cursor = await cursor_after(retriever, "sync")
    async with session(retriever, "async", "resume", cursor) as search:
        assert 5 == len(await search.fetch_next(5))
