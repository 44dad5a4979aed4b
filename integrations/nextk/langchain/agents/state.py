"""What the tools keep in the state of a graph, and what they hand to the program."""

from typing import Annotated, Any, NotRequired, TypedDict

from langchain.agents.middleware.types import AgentState, PrivateStateAttr
from langchain_core.documents import Document

from nextk.langchain.agents.reducer import Memories, merge

SEARCH_TOOL, MORE_TOOL = "search", "more_results"
STATE_KEY = "resumable_searches"
"""Where the state of a graph holds the searches."""


class ResumableSearchState(AgentState[Any]):
    """The state that the tools need: messages, and the searches, which are kept from callers and from the model.

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
        resumable_searches: Plain data: queries, cursors, and the ids of documents that were shown. No text of theirs.
    """

    # LangGraph takes the last annotation for the reducer, and LangChain looks for its marker among the others.
    resumable_searches: NotRequired[Annotated[Memories, PrivateStateAttr, merge]]


class SearchArtifact(TypedDict):
    """What a call of a tool hands to the program, and not to the model: the artifact of its `ToolMessage`.

    Read back from a checkpointer, a `Document` has become a dict.

    Attributes:
        documents: Those that this call shows.
        search_id: What the model calls the search; `None` where there is none.
        pulled: How many rows the search has brought so far.
        kept: How many of them it has handed out.
        dropped: Rows that never will be, by cause: the name of a policy, `"unshown"` for documents that another search
            has shown, or `"no_text"`.
        stop_reason: Why this call ended: `"max_results"` where the page is full, a policy or a bound of the retriever,
            `"exhausted"`, or what kept it from searching: `"blank"`, `"unknown"`.
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
    """An update of the state that forgets every search: from here on documents may be shown again.

    For nodes of custom graphs. `ResumableSearchMiddleware(scope="run")` does it at the start of every run.

    Args:
        search_tool: The tool whose searches are forgotten.
    """
    return {STATE_KEY: {search_tool: None}}
