"""Coming from a `VectorStoreIndex`: the index that you have, over whichever store, searched until enough is found.

Run it with `python cookbook/coming_from_vector_store_index.py`, after `pip install "nextk[llama-index]"`.
"""

import asyncio
import hashlib
import re
import warnings
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.workflow import Context
from pydantic.warnings import PydanticDeprecationWarning

from nextk.llama_index import ResumableRetriever, ResumableSearchToolSpec
from nextk.until import Accepted

# Warnings of LlamaIndex with a new pydantic: its agents use deprecated names.
warnings.filterwarnings("ignore", category=PydanticDeprecationWarning)

TOWNS = ["Oslo", "Bergen", "Stavanger", "Trondheim", "Bodø", "Narvik"]
NODES = [
    TextNode(id_=f"note-{number}", text=f"Note {number} on {town}: {weather}.", metadata={"weather": weather})
    for number, (town, weather) in enumerate((town, weather) for weather in ("rain", "wind", "sun") for town in TOWNS)
]


class Words(BaseEmbedding):
    """A model that knows which words are in a text. Use your embedding model instead."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * 256
        for word in re.findall(r"\w+", text.lower()):
            vector[hashlib.sha256(word.encode()).digest()[0]] += 1.0
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def sunny(nodes: list[NodeWithScore]) -> list[bool]:
    """Check the nodes in one batch, for example by an LLM, or by what a user may see."""
    return [node.metadata["weather"] == "sun" for node in nodes]


def speak(messages: list[ChatMessage], **_: Any) -> ChatMessage:
    """Say what a model might say: search, and ask for more until there is no more. Use your LLM instead."""
    if messages[-1].role != MessageRole.TOOL:
        return called("search", query="weather in Bergen")
    told = str(messages[-1].content)
    if found := re.search(r'search_id="(\w+)"', told):
        return called("more_results", search_id=found[1])
    return ChatMessage(role="assistant", content="I have read all notes.")


def called(tool: str, **arguments: str) -> ChatMessage:
    calls = [ToolCallBlock(tool_call_id=f"{tool}-1", tool_name=tool, tool_kwargs=arguments)]
    return ChatMessage(role="assistant", blocks=calls)


async def ask_agent(index: VectorStoreIndex) -> None:
    spec = ResumableSearchToolSpec(ResumableRetriever.from_index(index), page_size=6)
    async with spec.run_scope() as tools:
        agent = FunctionAgent(tools=[*tools], llm=MockFunctionCallingLLM(response_generator=speak), streaming=False)
        context: Context[Any] = Context(agent)
        print(await agent.run("What is the weather in Bergen?", ctx=context))
        shown = await spec.collected(context)
    print("The agent was shown", len(shown), "notes, none twice.")
    assert len(set(shown)) == len(shown) == len(NODES)


def main() -> None:
    index = VectorStoreIndex(NODES, embed_model=Words())  # the index that you have: FAISS, Chroma, Qdrant, ...

    # The two lines: as many nodes as the check accepts, however deep they are in the ranking.
    retriever = ResumableRetriever.from_index(index, until=Accepted(5, sunny))
    nodes = retriever.retrieve("Is there sun in Bergen?")
    print([node.text for node in nodes])
    assert len(nodes) == 5

    # Or page by page. The report says how the search went on, and what that cost.
    with ResumableRetriever.from_index(index).open("rain in Oslo") as search:
        print([node.node_id for node in search.fetch_next(3)], [node.node_id for node in search.fetch_next(3)])
        print(f"{search.report.pulled} rows came by {search.report.continuation}")

    asyncio.run(ask_agent(index))


if __name__ == "__main__":
    main()
