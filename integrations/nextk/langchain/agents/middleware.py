"""The middleware that gives an agent of `create_agent` both search tools and their state."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware
from langchain.tools import ToolRuntime
from langchain_core.documents import Document
from langgraph.runtime import Runtime

from nextk.agents import prompts
from nextk.agents.memory import MAX_SEARCHES
from nextk.arguments import written
from nextk.errors import ClientError
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents.state import MORE_TOOL, SEARCH_TOOL, ResumableSearchState, new_scope
from nextk.langchain.agents.tools import create_resumable_search_tools
from nextk.sessions.config import MAX_RESULTS


class ResumableSearchMiddleware(AgentMiddleware[Any, Any]):
    """Gives an agent a search that can go on: the tools `search` and `more_results`.

    The model sees results and a short id. If it calls `more_results` with that id, it sees the next results of the same
    search, and so it does if it puts the same query again. Within the scope no document is shown twice, by whatever
    search, and the end of a search is said to be the end.

    The position of a search is plain data in the private state of the thread. Therefore a search goes on after an
    interrupt, after a restart, or on another machine, as far as the checkpointer reaches. A fork and an earlier
    checkpoint go on from where they were. Between calls the index holds at most what `RetrievalSession.detach` leaves
    open for the next call of this process.

    Setup:
        ```bash
        pip install 'nextk[agents]'
        ```

    Key init args — the search:
        retriever: The retriever that is searched. Its own `until` decides for every call which documents may be shown
            (`Accepted` checks permissions), and its `max_pulls` and `deadline` bound each call.
        page_size: How many documents one call shows; by default the retriever's `k`, or 4 if that is unset.
        max_results: How many documents one search shows in all, 200 by default; `None` for no bound.
        per_call: A function that takes the `ToolRuntime` of a call and returns settings of this one search: `filter`,
            `namespace`, `until`. Use it to search on behalf of the user whom the agent works for, as shown below.

    Key init args — the memory:
        scope: `"thread"`, the default: searches go on from one run to the next. `"run"`: every run begins without any.
        max_searches: How many searches can be continued, 8 by default. The one that was not used for longest is
            forgotten first.

    Key init args — the tools:
        search_tool: The name of the tool that begins a search, `"search"` by default. With another name an agent can
            have a second middleware.
        more_tool: The name of the tool that continues a search, `"more_results"` by default.
        description: A sentence for the model that says what there is to be found, such as "Search the handbook of the
            company."
        document_formatter: A function that returns the text that the model reads of a document; by default its
            `page_content`, labelled with the title, source and page that its metadata have.

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

    Permissions of the user:
        ```python
        from nextk.until import Accepted

        def for_user(runtime):
            return {"until": Accepted(5, lambda documents: may_read(runtime.context.user, documents))}

        ResumableSearchMiddleware(retriever, per_call=for_user)
        ```

        A document that is denied reaches neither the model nor the state nor an artifact. If the check raises, the call
        shows nothing and raises `SearchFailed`, whose `__cause__` is the error. Its text is written for the model, and
        tells no more than that the search failed.

    Artifact:
        Each `ToolMessage` carries a `SearchArtifact`: the documents, and what the search has done so far.

        ```python
        message.artifact["documents"], message.artifact["pulled"], message.artifact["stop_reason"]
        ```

    Parallel calls:
        The calls of one step run one after another, so that no two show one document. There is one exception: if the
        process dies when some calls of a step are done, and another process makes the others, those may repeat what was
        shown.

    Errors:
        A mistake that a model can put right, such as an id that is not known any more, is answered in words. Every
        other error is raised, so that `ToolRetryMiddleware` can try again. No document is lost by it, and none comes
        twice.

    Raises:
        ClientError: `scope` is neither of both words, a number is not a whole number of at least 1, both tools have one
            name, or the retriever is not a `nextk.langchain.ResumableRetriever`.
    """

    state_schema = ResumableSearchState

    def __init__(
        self,
        retriever: ResumableRetriever,
        *,
        scope: Literal["thread", "run"] = "thread",
        search_tool: str = SEARCH_TOOL,
        more_tool: str = MORE_TOOL,
        description: str = prompts.DEFAULT_PURPOSE,
        page_size: int | None = None,
        max_results: int | None = MAX_RESULTS,
        max_searches: int = MAX_SEARCHES,
        document_formatter: Callable[[Document], str] | None = None,
        per_call: Callable[[ToolRuntime], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        given: object = scope
        if not isinstance(given, str) or given not in ("thread", "run"):
            message = f"scope={written(scope)} is neither 'thread' nor 'run'"
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
        """Return the name of the middleware, which differs for each `search_tool`: an agent refuses two of one name."""
        own = super().name
        return own if self._search_tool == SEARCH_TOOL else f"{own}[{self._search_tool}]"

    def before_agent(self, state: ResumableSearchState, runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Begin a new scope, if each run is one. A run that goes on after an interrupt does not come here again."""
        return new_scope(search_tool=self._search_tool) if self._scope == "run" else None

    async def abefore_agent(self, state: ResumableSearchState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Begin a new scope, if each run is one, without blocking the event loop; see `before_agent`."""
        return self.before_agent(state, runtime)
