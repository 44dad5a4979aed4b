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
from nextk.agents.memory import empty_memory, id_of
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents import ResumableSearchMiddleware
from nextk.sessions.pool import pool_of
from tests.support.sentence_index import QUESTION

OTHER = "where is the fire and the stone?"
"""Another question than `QUESTION`."""

Wish: TypeAlias = tuple[str, dict[str, str]]
Line: TypeAlias = str | list[Wish]
Agent: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]


def search(query: str = QUESTION, tool: str = "search") -> Wish:
    """The model wants to search."""
    return tool, {"query": query}


def more(query: str = QUESTION, tool: str = "more_results") -> Wish:
    """The model wants more of what it has searched."""
    return tool, {"search_id": id_of(query, empty_memory())}


SEARCH_MORE_MORE: list[Line] = [[search()], [more()], [more()], "done"]


class ScriptedModel(BaseChatModel):
    """Says the line that follows the last one in its messages; so it needs no memory, like any model."""

    script: list[Line]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        """The script knows the tools already."""
        return self

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> ChatResult:
        place = sum(isinstance(message, AIMessage) for message in messages)
        line = self.script[place]
        calls = [] if isinstance(line, str) else line
        message = AIMessage(
            line if isinstance(line, str) else "",
            tool_calls=[
                ToolCall(name=name, args=args, id=f"call-{place}-{number}", type="tool_call")
                for number, (name, args) in enumerate(calls)
            ],
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def left_open(index: Index) -> int:
    """How many queries an embedded index holds, besides those left for a next call, which are stopped now."""
    transport: Any = index._transport
    engine, budget = transport._shared_engine.engine, pool_of(transport)
    index.info()  # sends away what was dropped
    besides: int = engine.open_queries() - len(budget._parked)
    budget.clear()
    index.info()
    left: int = engine.open_queries()
    return max(besides, left)


def agent_of(
    script: Sequence[Line],
    retriever: ResumableRetriever,
    checkpointer: Any = None,
    interrupt_before: list[str] | None = None,
    **options: Any,
) -> Agent:
    """An agent with the middleware, whose options these are."""
    return create_agent(
        ScriptedModel(script=list(script)),
        middleware=[ResumableSearchMiddleware(retriever, **options)],
        checkpointer=checkpointer,
        interrupt_before=interrupt_before,
    )


def thread(name: str = "1") -> Any:
    """The configuration of a thread."""
    return {"configurable": {"thread_id": name}}


def ask(text: str = "?") -> Any:
    """What a user says."""
    return {"messages": [("user", text)]}


def replies(result: dict[str, Any]) -> list[ToolMessage]:
    """What the tools said, in order."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


def shown(reply: ToolMessage) -> list[str]:
    """The ids of the documents of one reply; a checkpointer makes dicts of documents."""
    documents = reply.artifact["documents"]
    return [one["id"] if isinstance(one, dict) else one.id for one in documents]


def pages(result: dict[str, Any]) -> list[list[str]]:
    """The ids of the documents of every reply."""
    return [shown(reply) for reply in replies(result)]


def flat(parts: Sequence[Sequence[str]]) -> list[str]:
    """Pages, one after the other."""
    return list(itertools.chain.from_iterable(parts))


def ranking(retriever: ResumableRetriever, query: str = QUESTION, keep: Callable[[str], bool] = bool) -> list[str]:
    """The ids of everything that a search finds, best first."""
    with retriever.open(query) as everything:
        return [document.id for document in everything if document.id is not None and keep(document.id)]
