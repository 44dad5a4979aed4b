"""The tools `search` and `more_results` for LangChain and LangGraph; their memory is in the state of a graph."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

from langchain.tools import BaseTool, ToolRuntime
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from nextk.agents import prompts
from nextk.agents.call import CallEffects, CallResult, SearchTools, arun_call, run_call
from nextk.agents.fence import Excerpt
from nextk.agents.labels import labels_of
from nextk.agents.memory import (
    MAX_SEARCHES,
    MemoryView,
    SearchMemory,
    ToolLimits,
    empty_memory,
    memory_digest,
    require_tool_name,
)
from nextk.arguments import shown
from nextk.errors import ClientError
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents.state import MORE_TOOL, SEARCH_TOOL, STATE_KEY, SearchArtifact
from nextk.langchain.agents.steps import ToolStep, ToolSteps
from nextk.langchain.settings import DEFAULT_K
from nextk.sessions.config import MAX_RESULTS

log = logging.getLogger("nextk.langchain.agents")

_QueryArgument: TypeAlias = Annotated[str, prompts.QUERY_DESCRIPTION]
_SearchIdArgument: TypeAlias = Annotated[str, prompts.SEARCH_ID_DESCRIPTION]
_Output: TypeAlias = tuple[Any, Any]  # content and artifact


def create_resumable_search_tools(
    retriever: ResumableRetriever,
    *,
    search_tool: str = SEARCH_TOOL,
    more_tool: str = MORE_TOOL,
    description: str = prompts.DEFAULT_PURPOSE,
    page_size: int | None = None,
    max_results: int | None = MAX_RESULTS,
    max_searches: int = MAX_SEARCHES,
    document_formatter: Callable[[Document], str] | None = None,
    per_call: Callable[[ToolRuntime], Mapping[str, Any]] | None = None,
    messages_key: str = "messages",
) -> list[BaseTool]:
    """Make the tools `search` and `more_results` for a graph of your own. Agents take `ResumableSearchMiddleware`.

    Setup:
        ```bash
        pip install 'nextk[agents]'
        ```

    Key init args:
        retriever: The retriever that is searched; its `until`, `max_pulls` and `deadline` hold for every call.
        search_tool: The name of the tool that begins a search, `"search"` by default.
        more_tool: The name of the tool that continues a search, `"more_results"` by default.
        description: A sentence for the model that says what there is to be found.
        page_size: How many documents one call shows; by default the retriever's `k`, or 4 if that is unset.
        max_results: How many documents one search shows in all, 200 by default; `None` for no bound.
        max_searches: How many searches can be continued, 8 by default; the one not used for longest is forgotten first.
        document_formatter: Returns the text that the model reads of a document; by default its `page_content`, labelled
            with the title, source and page that its metadata have.
        per_call: Takes the `ToolRuntime` of a call; returns `filter`, `namespace` or `until` for this one search.
        messages_key: The key under which the state of the graph holds its messages, `"messages"` by default.

    Instantiate:
        The state of the graph has to be a `ResumableSearchState` (which shows a whole graph) or to extend it. A node of
        the graph forgets all searches by returning `new_scope()`.

        ```python
        from langgraph.prebuilt import ToolNode
        from nextk.langchain.agents import create_resumable_search_tools

        tools = create_resumable_search_tools(retriever)
        graph.add_node("tools", ToolNode(tools))
        ```

    Invoke:
        Without a graph there is no state, so nothing can be continued, but `search` returns the first page:

        ```python
        tools[0].invoke({"query": "Why is the sky blue?"})
        ```

    Returns:
        Both tools, `search` first. The artifact of each answer is a `SearchArtifact`. If the index cannot be asked, or
        a function of yours raises, they raise `SearchFailed`: its text is for the model, its `__cause__` for you.

    Raises:
        ClientError: A number is below 1, both tools have one name, or the retriever is not one of `nextk.langchain`.
    """
    limits = _limits(retriever, search_tool, more_tool, page_size, max_results, max_searches)
    excerpt_of = _excerpts_by(document_formatter)
    id_of = retriever._id_of  # noqa: SLF001 - of the same package
    tools = SearchTools[Document](limits, search_tool, more_tool, excerpt_of, id_of, (GraphBubbleUp,))
    return _GraphTools(retriever, tools, per_call, messages_key).tools(description)


def _excerpts_by(document_formatter: Callable[[Document], str] | None) -> Callable[[Document], Excerpt]:
    if document_formatter is None:
        return lambda document: Excerpt(document.page_content, labels_of(document.metadata))
    return lambda document: Excerpt(document_formatter(document))


def _limits(
    retriever: ResumableRetriever,
    search_tool: str,
    more_tool: str,
    page_size: int | None,
    max_results: int | None,
    max_searches: int,
) -> ToolLimits:
    if not isinstance(retriever, ResumableRetriever):
        message = f"retriever={shown(retriever)} has to be a nextk.langchain.ResumableRetriever"
        raise ClientError(message)
    for name, tool in (("search_tool", search_tool), ("more_tool", more_tool)):
        require_tool_name(tool, name)
    if search_tool == more_tool:
        message = f"search_tool and more_tool are both {search_tool!r}: a model could not tell them apart"
        raise ClientError(message)
    page_size = (retriever.k or DEFAULT_K) if page_size is None else page_size
    return ToolLimits(page_size, max_results, max_searches)


@dataclass(frozen=True)
class _GraphCall:
    """One call of a tool, and what it may know."""

    tool: str
    id: str
    memory: SearchMemory  # as it was before the step
    step: ToolStep
    stateful: bool  # whether there is a state to write to

    @property
    def view(self) -> MemoryView:
        """The memory as this call sees it."""
        return self.step.view(self.id, self.memory)


class _GraphTools:
    def __init__(
        self,
        retriever: ResumableRetriever,
        tools: SearchTools[Document],
        per_call: Callable[[ToolRuntime], Mapping[str, Any]] | None,
        messages_key: str,
    ) -> None:
        self._retriever = retriever
        self._tools = tools
        self._per_call = per_call
        self._messages_key = messages_key
        self._steps = ToolSteps()

    def tools(self, purpose: str) -> list[BaseTool]:
        names = {"search": self._tools.search_tool, "more": self._tools.more_tool}
        return [
            StructuredTool.from_function(
                func=self.search,
                coroutine=self.asearch,
                name=self._tools.search_tool,
                description=prompts.SEARCH_DESCRIPTION.format(purpose=purpose, **names),
                response_format="content_and_artifact",
            ),
            StructuredTool.from_function(
                func=self.more,
                coroutine=self.amore,
                name=self._tools.more_tool,
                description=prompts.MORE_DESCRIPTION.format(**names),
                response_format="content_and_artifact",
            ),
        ]

    # These signatures are the schemas of the tools: early versions of LangGraph look for the runtime nowhere else.
    # LangChain leaves it out of what the model sees. It may not be optional; without a graph there is none to pass.
    def search(self, query: _QueryArgument, runtime: ToolRuntime[Any, Any] = None) -> _Output:  # type: ignore[assignment]
        call = self._call(self._tools.search_tool, runtime)
        with call.step.lock:
            return self._run(call, self._tools.search(call.view, query, partial(self._overrides, runtime)))

    async def asearch(self, query: _QueryArgument, runtime: ToolRuntime[Any, Any] = None) -> _Output:  # type: ignore[assignment]
        call = self._call(self._tools.search_tool, runtime)
        async with call.step.async_lock.guard():
            return await self._arun(call, self._tools.search(call.view, query, partial(self._overrides, runtime)))

    def more(self, search_id: _SearchIdArgument, runtime: ToolRuntime[Any, Any] = None) -> _Output:  # type: ignore[assignment]
        call = self._call(self._tools.more_tool, runtime)
        with call.step.lock:
            return self._run(call, self._tools.more(call.view, search_id, partial(self._overrides, runtime)))

    async def amore(self, search_id: _SearchIdArgument, runtime: ToolRuntime[Any, Any] = None) -> _Output:  # type: ignore[assignment]
        call = self._call(self._tools.more_tool, runtime)
        async with call.step.async_lock.guard():
            return await self._arun(call, self._tools.more(call.view, search_id, partial(self._overrides, runtime)))

    def _run(self, call: _GraphCall, effects: CallEffects[CallResult[Document]]) -> _Output:
        return self._output(call, run_call(effects, self._retriever.open, self._retriever.resume))

    async def _arun(self, call: _GraphCall, effects: CallEffects[CallResult[Document]]) -> _Output:
        return self._output(call, await arun_call(effects, self._retriever.aopen, self._retriever.aresume))

    def _overrides(self, runtime: "ToolRuntime[Any, Any]") -> Mapping[str, Any]:
        return {} if self._per_call is None else self._per_call(runtime)

    def _call(self, tool: str, runtime: "ToolRuntime[Any, Any] | None") -> _GraphCall:
        """Return the call; an agent that cannot say for whom it searches does not search."""
        if runtime is None and self._per_call is not None:
            message = "per_call= needs the runtime of a graph: invoke this tool from one"
            raise ClientError(message)
        if runtime is None or isinstance(runtime.state, list):
            return _GraphCall(tool, "", empty_memory(), ToolStep(), stateful=False)
        memories = _read(runtime.state, STATE_KEY)
        if tool == self._tools.more_tool and not memories:
            log.warning("no search is in the state: does the state of the graph extend ResumableSearchState?")
        memory: SearchMemory = (memories or {}).get(self._tools.search_tool) or empty_memory()
        step = self._steps.step(self._step_key(runtime, memory))
        return _GraphCall(tool, runtime.tool_call_id or "", memory, step, stateful=True)

    def _step_key(self, runtime: "ToolRuntime[Any, Any]", memory: SearchMemory) -> str | None:
        """Return what the calls of one step have in common: the thread, the message that calls, and the memory."""
        for message in reversed(_read(runtime.state, self._messages_key) or []):
            calls = [call["id"] for call in getattr(message, "tool_calls", [])]
            if runtime.tool_call_id in calls:
                thread = runtime.config.get("configurable", {}).get("thread_id")
                parts = [str(thread), message.id, *calls, memory_digest(memory)]
                return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return None

    def _output(self, call: _GraphCall, result: CallResult[Document]) -> _Output:
        """Return the content and the artifact; or, if the state changes, the command that holds both and the change."""
        report = result.report
        artifact = SearchArtifact(
            documents=result.items,
            search_id=result.search_id,
            pulled=report.pulled,
            kept=report.kept,
            dropped=dict(report.dropped),
            stop_reason=report.stop_reason,
            exhausted=report.exhausted,
        )
        if not call.stateful or result.update is None:
            return result.text, artifact
        call.step.record(call.id, result.update)
        message = ToolMessage(result.text, artifact=artifact, tool_call_id=call.id, name=call.tool)
        update = {self._messages_key: [message], STATE_KEY: {self._tools.search_tool: result.update}}
        return Command(update=update), None


def _read(state: Any, key: str) -> Any:
    """Return a part of a state, which may be a dict, a model or a dataclass."""
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)
