"""The state of a graph: the memory of the search tools, and what the tools hand to the program."""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from langchain.agents.middleware.types import AgentState, PrivateStateAttr
from langchain_core.documents import Document

from nextk.agents.memory import MemoryUpdate, apply_update, empty_memory, require_tool_name

SEARCH_TOOL, MORE_TOOL = "search", "more_results"
STATE_KEY = "resumable_searches"
"""The key under which the state of a graph holds the memories of all search tools."""

Memories: TypeAlias = dict[str, Any]
"""The memories of a thread, by the name of the tool that searches."""


def merge(memories: Memories, updates: Mapping[str, MemoryUpdate | None]) -> Memories:
    """Apply updates to the memories of a thread: the reducer of the state. Neither argument is changed.

    Args:
        memories: The memories as they are.
        updates: An update for each memory that changes, by the name of the tool that searches; `None` to forget a
            memory.
    """
    merged = dict(memories or {})
    for name, update in updates.items():
        if update is None:
            merged.pop(name, None)
        else:
            merged[name] = apply_update(merged.get(name) or empty_memory(), update)
    return merged


class ResumableSearchState(AgentState[Any]):
    """The state that the search tools need: the messages, and the memory of the searches.

    Neither callers nor the model see the memory.

    In a graph of your own:
        ```python
        from langgraph.graph import START, StateGraph
        from langgraph.prebuilt import ToolNode, tools_condition
        from nextk.langchain.agents import ResumableSearchState, create_resumable_search_tools

        tools = create_resumable_search_tools(retriever)
        graph = StateGraph(ResumableSearchState)
        graph.add_node("model", lambda state: {"messages": [model.bind_tools(tools).invoke(state["messages"])]})
        graph.add_node("tools", ToolNode(tools))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        agent = graph.compile(checkpointer=checkpointer)
        ```

    Attributes:
        resumable_searches: The memories of all search tools, by the name of the tool. Plain data: queries, cursors, and
            the ids of documents that were shown, but none of their text.
    """

    # LangGraph takes the last annotation for the reducer, and LangChain looks for its marker among the others.
    resumable_searches: NotRequired[Annotated[Memories, PrivateStateAttr, merge]]


class SearchArtifact(TypedDict):
    """The artifact of a `ToolMessage`: the part of a tool call's result that the program gets and the model does not.

    A checkpointer that is read again gives dicts instead of `Document` objects.

    Attributes:
        documents: The documents that this call shows, best first.
        search_id: The id by which the model knows the search; `None` if the call was refused.
        pulled: How many matches the search has pulled from the index so far.
        kept: How many of them it has shown.
        dropped: How many matches will never be shown, by cause: the name of a policy, `"unshown"` for documents that
            another search has shown, or `"no_text"`.
        stop_reason: Why this call ended: `"max_results"` if the page is full, the name of a policy or of a bound of the
            retriever, `"exhausted"`, or the reason why the call did not search: `"blank"`, `"unknown"`,
            `"policies_changed"`.
        exhausted: Whether the search is at its end.
    """

    documents: list[Document]
    search_id: str | None
    pulled: int
    kept: int
    dropped: dict[str, int]
    stop_reason: str | None
    exhausted: bool


def new_scope(*, search_tool: str = SEARCH_TOOL) -> dict[str, Any]:
    """Return an update of the state that forgets every search; from then on documents may be shown again.

    It is meant for nodes of custom graphs. `ResumableSearchMiddleware(scope="run")` applies it at the start of every
    run.

    Args:
        search_tool: The name of the tool whose searches are forgotten.

    Raises:
        ClientError: It is no name.
    """
    require_tool_name(search_tool, "search_tool")
    return {STATE_KEY: {search_tool: None}}
