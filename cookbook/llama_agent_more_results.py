"""An agent that asks for more results of the same search. It is saved, and later goes on where its searches were.

Run it with `python cookbook/llama_agent_more_results.py`, after `pip install "nextk[local,llama-index]"`.
"""

import asyncio
import json
import re
import warnings
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.schema import TextNode
from llama_index.core.workflow import Context
from pydantic.warnings import PydanticDeprecationWarning

from nextk.llama_index import ResumableRetriever, ResumableSearchToolSpec

# Warnings of LlamaIndex with a new pydantic: its agents use deprecated names, and their chat memory is not saved.
warnings.filterwarnings("ignore", category=PydanticDeprecationWarning)
warnings.filterwarnings("ignore", "Skipping serialization of known unserializable key: memory")

HOLIDAYS = ["New Year", "Easter", "May Day", "Midsummer", "Harvest", "Reformation Day", "Christmas", "Boxing Day"]
NODES = [
    TextNode(id_=f"holiday-{number}", text=f"{name} is a holiday.", metadata={"file_name": f"{name.lower()}.md"})
    for number, name in enumerate(HOLIDAYS)
]
QUESTION = "which holidays are there?"


def speak(messages: list[ChatMessage], **_: Any) -> ChatMessage:
    """Say what a model might say: search, and if the user wants all, ask for more until there is no more.

    Use your LLM instead.
    """
    question = next(str(message.content) for message in reversed(messages) if message.role == MessageRole.USER)
    if messages[-1].role != MessageRole.TOOL:
        return called("search", query=QUESTION)
    told = str(messages[-1].content)
    found = re.search(r'search_id="(\w+)"', told)
    if found is not None and "all" in question:
        return called("more_results", search_id=found[1])
    numbers = re.findall(r"^\[(\d+)\]", told, re.MULTILINE)
    return ChatMessage(role="assistant", content=f"Holidays, up to [{numbers[-1]}].")


def called(tool: str, **arguments: str) -> ChatMessage:
    calls = [ToolCallBlock(tool_call_id=f"{tool}-1", tool_name=tool, tool_kwargs=arguments)]
    return ChatMessage(role="assistant", blocks=calls)


async def answer(agent: FunctionAgent, context: Context[Any], question: str) -> None:
    print("\nThe user:", question)
    handler = agent.run(question, ctx=context)
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            print(f"\n{event.tool_name}({event.tool_kwargs})\n{event.tool_output}")
    print("\nThe agent:", await handler)


async def converse(retriever: ResumableRetriever) -> None:
    spec = ResumableSearchToolSpec(retriever, page_size=3, description="Search the holidays of the company.")
    async with spec.run_scope() as tools:  # at its end no search is left open in the index
        agent = FunctionAgent(tools=[*tools], llm=MockFunctionCallingLLM(response_generator=speak), streaming=False)
        context: Context[Any] = Context(agent)
        await answer(agent, context, "Name some holidays.")
        saved = json.dumps(context.to_dict())  # plain data: where each search stands, and what was shown

    # Later, in this process or in another one. The same query goes on where it was, even if the model has forgotten.
    async with spec.run_scope() as tools:
        agent = FunctionAgent(tools=[*tools], llm=MockFunctionCallingLLM(response_generator=speak), streaming=False)
        context = Context.from_dict(agent, json.loads(saved))
        await answer(agent, context, "Name all others.")
        sources = await spec.collected(context)
    print("[4] in the answers is", sources[3])
    assert len(set(sources)) == len(sources) == len(HOLIDAYS)


def main() -> None:
    with ResumableRetriever.from_nodes(NODES) as retriever:
        asyncio.run(converse(retriever))


if __name__ == "__main__":
    main()
