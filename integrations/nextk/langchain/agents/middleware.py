"""The middleware: both tools and their state, for `create_agent`."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware
from langchain.tools import ToolRuntime
from langchain_core.documents import Document
from langgraph.runtime import Runtime

from nextk.agents import prompts as text
from nextk.errors import ClientError
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents.state import MORE_TOOL, SEARCH_TOOL, ResumableSearchState, new_scope
from nextk.langchain.agents.tools import MAX_SEARCHES, create_resumable_search_tools
from nextk.sessions.config import MAX_RESULTS


class ResumableSearchMiddleware(AgentMiddleware[Any, Any]):
    """Gives an agent a search that can go on: the tools `search` and `more_results`.

    The model sees results and a short id. Calling `more_results` with it shows what comes next in the same search, and
    putting the same query again does so too. Within the scope no document is shown twice, by whatever search, and the
    end is said to be the end.

    Where a search stands is plain data in the private state of the thread. So it goes on after an interrupt, a restart
    or on another machine, as far as the checkpointer reaches; a fork and an earlier checkpoint go on from where they
    were. Between calls the index holds at most what `RetrievalSession.detach` leaves to the next call of this process.

    Setup:
        ```bash
        pip install 'nextk[agents]'
        ```

    Key init args — the search:
        retriever: What is searched. Its own `until` decides for every call which documents may be shown (`Accepted`:
            permissions); its `max_pulls` and `deadline` bound each call.
        page_size: How many documents one call shows; unset: the retriever's `k`, else 4.
        max_results: How many documents one search shows in all; `None`: no bound.
        per_call: Takes the `ToolRuntime` of a call and returns what to ask of this search besides: `filter`,
            `namespace`, `until`. For whoever the agent works for; see below.

    Key init args — the memory:
        scope: `"thread"`: searches go on from turn to turn. `"run"`: every run begins without any.
        max_searches: How many searches can be continued; the one not used for longest is forgotten first.

    Key init args — the tools:
        search_tool, more_tool: Their names. Another `search_tool` makes room for a second middleware.
        description: What there is to be found, for the model: "Search the handbook of the company."
        document_formatter: Makes the text that the model reads of a document; unset: its `page_content`.

    Instantiate:
        ```python
        from langchain.agents import create_agent
        from nextk.langchain.agents import ResumableSearchMiddleware
        from nextk.langchain import ResumableRetriever

        retriever = ResumableRetriever(embedding=True, k=5)
        agent = create_agent(
            "openai:gpt-5",
            middleware=[ResumableSearchMiddleware(retriever, description="Search the handbook of the company.")],
            checkpointer=checkpointer,
        )
        ```

    Invoke:
        ```python
        agent.invoke(
            {"messages": [{"role": "user", "content": "Which holidays are there?"}]},
            {"configurable": {"thread_id": "1"}},
        )
        ```

    Async:
        ```python
        await agent.ainvoke(...)
        ```

    Permissions of whoever asks:
        ```python
        from nextk.until import Accepted

        def for_user(runtime):
            return {"until": Accepted(5, lambda documents: may_read(runtime.context.user, documents))}

        ResumableSearchMiddleware(retriever, per_call=for_user)
        ```

        What is denied reaches neither the model nor the state nor an artifact. An exception of the check ends the call
        with nothing.

    Artifact:
        Each `ToolMessage` carries a `SearchArtifact`: the documents, and how the search is doing.

        ```python
        message.artifact["documents"], message.artifact["pulled"], message.artifact["stop_reason"]
        ```

    Parallel calls:
        They take turns, so that no two show one document. The one exception: of a step with several calls some were
        done, the process died, and another process makes the rest; those may repeat what the others have shown.

    Errors:
        What a model can put right, such as an id that is not known any more, is an answer to it. Everything else is
        raised, so that `ToolRetryMiddleware` can try again: no document is lost by it, and none comes twice.

    Raises:
        ClientError: `scope` is neither, a number is below 1, or both tools have one name.
    """

    state_schema = ResumableSearchState

    def __init__(
        self,
        retriever: ResumableRetriever,
        *,
        scope: Literal["thread", "run"] = "thread",
        search_tool: str = SEARCH_TOOL,
        more_tool: str = MORE_TOOL,
        description: str = text.PURPOSE,
        page_size: int | None = None,
        max_results: int | None = MAX_RESULTS,
        max_searches: int = MAX_SEARCHES,
        document_formatter: Callable[[Document], str] | None = None,
        per_call: Callable[[ToolRuntime], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if scope not in ("thread", "run"):
            message = f"scope={scope!r} is neither 'thread' nor 'run'"
            raise ClientError(message)
        self._scope = scope
        self._search_tool = search_tool
        self.tools = create_resumable_search_tools(
            retriever,
            search_tool=search_tool,
            more_tool=more_tool,
            description=description,
            page_size=page_size,
            max_results=max_results,
            max_searches=max_searches,
            document_formatter=document_formatter,
            per_call=per_call,
        )

    @property
    def name(self) -> str:
        """Different for each `search_tool`, because an agent refuses two of one name."""
        own = super().name
        return own if self._search_tool == SEARCH_TOOL else f"{own}[{self._search_tool}]"

    def before_agent(self, state: ResumableSearchState, runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Begin a new scope, where each run is one. A run that was interrupted and goes on does not come here again."""
        return new_scope(search_tool=self._search_tool) if self._scope == "run" else None

    async def abefore_agent(self, state: ResumableSearchState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """The same."""
        return self.before_agent(state, runtime)
