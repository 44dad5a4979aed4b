"""Agents whose model reads its lines from a script, for tests of the search tools."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph.state import CompiledStateGraph

from nextk import Index
from nextk.agents.memory import empty_memory, search_id_of
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents import ResumableSearchMiddleware
from nextk.sessions.pool import pool_of
from tests.support.sentence_index import QUESTION

OTHER = "where is the fire and the stone?"
"""Another question than `QUESTION`."""

ToolRequest: TypeAlias = tuple[str, dict[str, str]]
Line: TypeAlias = str | list[ToolRequest]
Agent: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]


def search(query: str = QUESTION, tool: str = "search") -> ToolRequest:
    """Return the request of a model that searches."""
    return tool, {"query": query}


def more(query: str = QUESTION, tool: str = "more_results") -> ToolRequest:
    """Return the request of a model that wants more results of an earlier search."""
    return tool, {"search_id": search_id_of(query, empty_memory())}


SEARCH_MORE_MORE: list[Line] = [[search()], [more()], [more()], "done"]


class ScriptedModel(BaseChatModel):
    """Says the line of its script that follows the last one in its messages. Like any model it needs no memory."""

    script: list[Line]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        """Return the model itself: its script names the tools already."""
        return self

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> ChatResult:
        number = sum(isinstance(message, AIMessage) for message in messages)
        line = self.script[number]
        calls = [] if isinstance(line, str) else line
        message = AIMessage(
            line if isinstance(line, str) else "",
            tool_calls=[
                ToolCall(name=name, args=args, id=f"call-{number}-{position}", type="tool_call")
                for position, (name, args) in enumerate(calls)
            ],
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def left_open(index: Index) -> int:
    """Return how many queries an embedded index holds besides the parked ones; stop the parked ones, too."""
    transport: Any = index._transport
    engine, pool = transport._shared_engine.engine, pool_of(transport)
    index.info()  # any request stops what was given up
    not_parked: int = engine.open_queries() - len(pool._parked)
    pool.clear()
    index.info()
    left: int = engine.open_queries()
    return max(not_parked, left)


def agent_of(
    script: Sequence[Line],
    retriever: ResumableRetriever,
    checkpointer: Any = None,
    interrupt_before: list[str] | None = None,
    **options: Any,
) -> Agent:
    """Return an agent with the middleware; further options are the middleware's."""
    return create_agent(
        ScriptedModel(script=list(script)),
        middleware=[ResumableSearchMiddleware(retriever, **options)],
        checkpointer=checkpointer,
        interrupt_before=interrupt_before,
    )


def thread(name: str = "1") -> Any:
    """Return the configuration of a thread."""
    return {"configurable": {"thread_id": name}}


def ask(text: str = "?") -> Any:
    """Return the input of a run: the words of a user."""
    return {"messages": [("user", text)]}


def replies(result: dict[str, Any]) -> list[ToolMessage]:
    """Return the messages of the tools, in order."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


def shown(reply: ToolMessage) -> list[str]:
    """Return the ids of the documents of one message; a checkpointer makes dicts of documents."""
    documents = reply.artifact["documents"]
    return [one["id"] if isinstance(one, dict) else one.id for one in documents]


def pages(result: dict[str, Any]) -> list[list[str]]:
    """Return the ids of the documents of every message of a tool."""
    return [shown(reply) for reply in replies(result)]


def flat(parts: Sequence[Sequence[str]]) -> list[str]:
    """Return the ids of all pages, one page after the other."""
    return list(itertools.chain.from_iterable(parts))


def ranking(retriever: ResumableRetriever, query: str = QUESTION, keep: Callable[[str], bool] = bool) -> list[str]:
    """Return the ids of everything that a search finds, best first."""
    with retriever.open(query) as everything:
        return [document.id for document in everything if document.id is not None and keep(document.id)]
