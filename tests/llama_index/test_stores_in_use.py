"""The query engine and the agents' tools over the vector stores that people have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import MockLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters
from llama_index.core.workflow import Context

from nextk.llama_index import RefillingQueryEngine, ResumableRetriever, ResumableSearchToolSpec
from tests.support.llama_index_stores import NODES, STORES, index_over
from tests.support.sentence_index import QUESTION

# LlamaIndex's own: its agents read pydantic's old attributes, and its memory does not serialise with new pydantic.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key. memory"),
]

SEARCH_ID = re.compile(r'search_id="(\w+)"')


class Sixth(BaseNodePostprocessor):
    """Lets every sixth sentence pass."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [node for node in nodes if node.metadata["place"] % 6 == 0]


@pytest.fixture(scope="module", params=STORES)
def over(request: pytest.FixtureRequest) -> Iterator[VectorStoreIndex]:
    """A `VectorStoreIndex` over each kind of store."""
    with index_over(request.param) as index:
        yield index


def ids(nodes: list[NodeWithScore]) -> list[str]:
    """The ids of nodes."""
    return [node.node_id for node in nodes]


async def test_query_engine(over: VectorStoreIndex) -> None:
    """The engine goes on until enough nodes have passed, and leaves the nodes that LlamaIndex's leaves of all."""
    synthesizer = get_response_synthesizer(llm=MockLLM())
    everything = over.as_retriever(similarity_top_k=len(NODES))
    expected = ids(RetrieverQueryEngine(everything, synthesizer, [Sixth()]).retrieve(QueryBundle(QUESTION)))
    retriever = ResumableRetriever.from_index(over, similarity_top_k=4)
    engine = RefillingQueryEngine(retriever, synthesizer, [Sixth()], min_nodes=7)
    for found in (engine.retrieve(QueryBundle(QUESTION)), await engine.aretrieve(QueryBundle(QUESTION))):
        assert 7 <= len(found)
        assert expected[: len(found)] == ids(found)
    assert str(engine.query(QUESTION))
    assert str(await engine.aquery(QUESTION))


async def test_tools(over: VectorStoreIndex) -> None:
    """Page after page of a search is shown once, in order; a saved context goes on in another retriever."""
    expected = ids(ResumableRetriever.from_index(over, similarity_top_k=12).retrieve(QUESTION))
    agent = FunctionAgent(tools=[], llm=MockFunctionCallingLLM(), streaming=False)
    ctx: Context[Any] = Context(agent)
    spec = ResumableSearchToolSpec(ResumableRetriever.from_index(over), page_size=4)
    (search_id,) = set(SEARCH_ID.findall(await spec.search(ctx, QUESTION)))
    await spec.more_results(ctx, search_id)
    ctx = Context.from_dict(agent, json.loads(json.dumps(ctx.to_dict())))
    spec = ResumableSearchToolSpec(ResumableRetriever.from_index(over), page_size=4)
    await spec.more_results(ctx, search_id)
    assert expected == await spec.collected(ctx)
    assert "closed" in (await spec.close_search(ctx, search_id)).lower()


async def test_the_end_of_tools(over: VectorStoreIndex) -> None:
    """A run scope shows every node once, says the end to be the end, and leaves nothing open."""
    spec = ResumableSearchToolSpec(ResumableRetriever.from_index(over), page_size=40)
    ctx: Context[Any] = Context(FunctionAgent(tools=[], llm=MockFunctionCallingLLM(), streaming=False))
    async with spec.run_scope() as tools:
        search, more = tools[0].async_fn, tools[1].async_fn
        text = await search(ctx=ctx, query=QUESTION)
        (search_id,) = set(SEARCH_ID.findall(text))
        text = await more(ctx=ctx, search_id=search_id)
        shown = await spec.collected(ctx)
    assert {node.node_id for node in NODES} == set(shown)
    assert len(NODES) == len(shown)
    assert not SEARCH_ID.search(text)


async def test_tools_on_behalf_of_a_user(over: VectorStoreIndex) -> None:
    """`per_call` narrows a search to what the user may see, and no page shows anything else."""
    allowed = MetadataFilters(filters=[MetadataFilter(key="even", value="yes")])
    spec = ResumableSearchToolSpec(
        ResumableRetriever.from_index(over), page_size=10, per_call=lambda _: {"filter": allowed}
    )
    ctx: Context[Any] = Context(FunctionAgent(tools=[], llm=MockFunctionCallingLLM(), streaming=False))
    (search_id,) = set(SEARCH_ID.findall(await spec.search(ctx, QUESTION)))
    for _ in range(4):
        await spec.more_results(ctx, search_id)
    assert {node.node_id for node in NODES[::2]} == set(await spec.collected(ctx))
