"""The two tools, as LangChain and LangGraph want them: state, commands, messages and artifacts."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

from langchain.tools import BaseTool, ToolRuntime
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.types import Command

from nextk.agents import prompts as text
from nextk.agents.memory import (
    CallPlan,
    MemoryUpdate,
    MemoryView,
    Refusal,
    SearchMemory,
    ToolLimits,
    digest_of,
    empty_memory,
    plan_more,
    plan_search,
    policy_for,
    update_after,
)
from nextk.arguments import require_count
from nextk.errors import ClientError, LimitReached
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents.state import MORE_TOOL, SEARCH_TOOL, STATE_KEY, SearchArtifact
from nextk.langchain.agents.steps import ToolStep, ToolSteps
from nextk.langchain.settings import DEFAULT_K
from nextk.sessions import AsyncRetrievalSession, Cursor, Report, RetrievalSession
from nextk.sessions.config import MAX_RESULTS

log = logging.getLogger("nextk.langchain.agents")

MAX_SEARCHES = 8
"""How many searches of one scope can be continued."""

_Query: TypeAlias = Annotated[str, text.QUERY]
_SearchId: TypeAlias = Annotated[str, text.SEARCH_ID]


def create_resumable_search_tools(
    retriever: ResumableRetriever,
    *,
    search_tool: str = SEARCH_TOOL,
    more_tool: str = MORE_TOOL,
    description: str = text.PURPOSE,
    page_size: int | None = None,
    max_results: int | None = MAX_RESULTS,
    max_searches: int = MAX_SEARCHES,
    document_formatter: Callable[[Document], str] | None = None,
    per_call: Callable[[ToolRuntime], Mapping[str, Any]] | None = None,
    messages_key: str = "messages",
) -> list[BaseTool]:
    """The tools `search` and `more_results`, for graphs of your own; agents take `ResumableSearchMiddleware`.

    Setup:
        ```bash
        pip install 'nextk[agents]'
        ```

    Key init args: those of `ResumableSearchMiddleware`, except `scope`: a graph begins a new one wherever a node
    returns `new_scope()`. Besides:
        messages_key: Where the state of the graph holds its messages.

    Instantiate:
        The state of the graph has to be a `ResumableSearchState`, which shows a whole graph, or to extend it.

        ```python
        from langgraph.prebuilt import ToolNode
        from nextk.langchain.agents import create_resumable_search_tools

        tools = create_resumable_search_tools(retriever)
        graph.add_node("tools", ToolNode(tools))
        ```

    Invoke:
        Without a graph there is no state, so nothing can be continued, but the first page comes all the same:

        ```python
        tools[0].invoke({"query": "Why is the sky blue?"})
        ```

    Returns:
        Both tools, `search` first; their artifact is a `SearchArtifact`.

    Raises:
        ClientError: A number is below 1, or both tools have one name.
    """
    rules = _rules(retriever, search_tool, more_tool, page_size, max_results, max_searches)
    show = document_formatter or (lambda document: document.page_content)
    return _Tools(retriever, rules, search_tool, more_tool, show, per_call, messages_key).tools(description)


def _rules(
    retriever: ResumableRetriever,
    search_tool: str,
    more_tool: str,
    page_size: int | None,
    max_results: int | None,
    max_searches: int,
) -> ToolLimits:
    if not isinstance(retriever, ResumableRetriever):
        message = f"retriever={retriever!r} has to be a nextk.langchain.ResumableRetriever"
        raise ClientError(message)
    if search_tool == more_tool:
        message = f"search_tool and more_tool are both {search_tool!r}: a model could not tell them apart"
        raise ClientError(message)
    page_size = (retriever.k or DEFAULT_K) if page_size is None else page_size
    require_count(page_size, "page_size")
    require_count(max_searches, "max_searches")
    if max_results is not None:
        require_count(max_results, "max_results")
    return ToolLimits(page_size, max_results, max_searches)


@dataclass(frozen=True)
class _SearchPage:
    """What a search has brought."""

    documents: list[Document]
    cursor: Cursor
    report: Report
    exhausted: bool


@dataclass(frozen=True)
class _Call:
    """One call of a tool, and what it may know."""

    tool: str
    runtime: "ToolRuntime[Any, Any] | None"
    id: str
    memory: SearchMemory  # as it was before the step
    step: ToolStep
    stateful: bool  # whether there is a state to write to

    @property
    def view(self) -> MemoryView:
        """What this call sees."""
        return self.step.view(self.id, self.memory)


class _Tools:
    def __init__(
        self,
        retriever: ResumableRetriever,
        rules: ToolLimits,
        search_tool: str,
        more_tool: str,
        show: Callable[[Document], str],
        per_call: Callable[[ToolRuntime], Mapping[str, Any]] | None,
        messages_key: str,
    ) -> None:
        self._retriever = retriever
        self._rules = rules
        self._search_tool = search_tool
        self._more_tool = more_tool
        self._show = show
        self._per_call = per_call
        self._messages_key = messages_key
        self._steps = ToolSteps()

    def tools(self, purpose: str) -> list[BaseTool]:
        names = {"search": self._search_tool, "more": self._more_tool}
        return [
            StructuredTool.from_function(
                func=self.search,
                coroutine=self.asearch,
                name=self._search_tool,
                description=text.SEARCH.format(purpose=purpose, **names),
                response_format="content_and_artifact",
            ),
            StructuredTool.from_function(
                func=self.more,
                coroutine=self.amore,
                name=self._more_tool,
                description=text.MORE.format(**names),
                response_format="content_and_artifact",
            ),
        ]

    # These signatures are the schemas of the tools: early versions of LangGraph look for the runtime nowhere else.
    # LangChain leaves it out of what the model sees. It may not be optional; without a graph there is none to pass.
    def search(self, query: _Query, runtime: ToolRuntime[Any, Any] = None) -> tuple[Any, Any]:  # type: ignore[assignment]
        call = self._call(self._search_tool, runtime)
        with call.step.lock:
            return self._run(call, plan_search(call.view, query, self._rules))

    async def asearch(self, query: _Query, runtime: ToolRuntime[Any, Any] = None) -> tuple[Any, Any]:  # type: ignore[assignment]
        call = self._call(self._search_tool, runtime)
        async with call.step.async_lock.guard():
            return await self._arun(call, plan_search(call.view, query, self._rules))

    def more(self, search_id: _SearchId, runtime: ToolRuntime[Any, Any] = None) -> tuple[Any, Any]:  # type: ignore[assignment]
        call = self._call(self._more_tool, runtime)
        with call.step.lock:
            return self._run(call, plan_more(call.view, search_id, self._rules))

    async def amore(self, search_id: _SearchId, runtime: ToolRuntime[Any, Any] = None) -> tuple[Any, Any]:  # type: ignore[assignment]
        call = self._call(self._more_tool, runtime)
        async with call.step.async_lock.guard():
            return await self._arun(call, plan_more(call.view, search_id, self._rules))

    def _run(self, call: _Call, plan: CallPlan | Refusal) -> tuple[Any, Any]:
        if isinstance(plan, Refusal):
            return self._refuse(call, plan)
        overrides = self._overrides(call.runtime)
        try:
            with self._session(plan, overrides) as search:
                return self._page(call, plan, self._pull(search, plan))
        except _Lost:
            with self._session(replace(plan, cursor=None), overrides) as search:
                return self._page(call, plan, self._pull(search, plan))

    async def _arun(self, call: _Call, plan: CallPlan | Refusal) -> tuple[Any, Any]:
        if isinstance(plan, Refusal):
            return self._refuse(call, plan)
        overrides = self._overrides(call.runtime)
        try:
            async with self._asession(plan, overrides) as search:
                return self._page(call, plan, await self._apull(search, plan))
        except _Lost:
            async with self._asession(replace(plan, cursor=None), overrides) as search:
                return self._page(call, plan, await self._apull(search, plan))

    def _session(self, plan: CallPlan, overrides: Mapping[str, Any]) -> RetrievalSession[Document]:
        if plan.cursor is None:
            return self._retriever.open(plan.query, **overrides)
        try:
            return self._retriever.resume(plan.cursor, **overrides)
        except ClientError as error:
            raise _Lost from error

    def _asession(self, plan: CallPlan, overrides: Mapping[str, Any]) -> AsyncRetrievalSession[Document]:
        if plan.cursor is None:
            return self._retriever.aopen(plan.query, **overrides)
        try:
            return self._retriever.aresume(plan.cursor, **overrides)
        except ClientError as error:
            raise _Lost from error

    def _pull(self, search: RetrievalSession[Document], plan: CallPlan) -> _SearchPage:
        try:
            documents = search.fetch_until(policy_for(plan))
        except LimitReached as error:
            if plan.cursor is None:
                raise
            raise _Lost from error
        cursor = search.detach()
        return _SearchPage(documents, cursor, search.report, search.exhausted)

    async def _apull(self, search: AsyncRetrievalSession[Document], plan: CallPlan) -> _SearchPage:
        try:
            documents = await search.fetch_until(policy_for(plan))
        except LimitReached as error:
            if plan.cursor is None:
                raise
            raise _Lost from error
        cursor = await search.detach()
        return _SearchPage(documents, cursor, search.report, search.exhausted)

    def _overrides(self, runtime: "ToolRuntime[Any, Any] | None") -> Mapping[str, Any]:
        """What is asked of this one search; an agent that cannot say for whom it searches does not search."""
        if self._per_call is None:
            return {}
        if runtime is None:
            message = "per_call= needs the runtime of a graph: invoke this tool from one"
            raise ClientError(message)
        return self._per_call(runtime)

    def _call(self, tool: str, runtime: "ToolRuntime[Any, Any] | None") -> _Call:
        if runtime is None or isinstance(runtime.state, list):
            return _Call(tool, runtime, "", empty_memory(), ToolStep(), stateful=False)
        memories = _read(runtime.state, STATE_KEY)
        if tool == self._more_tool and not memories:
            log.warning("no search is in the state: does the state of the graph extend ResumableSearchState?")
        memory: SearchMemory = (memories or {}).get(self._search_tool) or empty_memory()
        id_ = runtime.tool_call_id or ""
        return _Call(tool, runtime, id_, memory, self._steps.step(self._key(runtime, memory)), stateful=True)

    def _key(self, runtime: "ToolRuntime[Any, Any]", memory: SearchMemory) -> str | None:
        """What tells the calls of this step from all others: the thread, the message that calls, and the state."""
        for message in reversed(_read(runtime.state, self._messages_key) or []):
            calls = [call["id"] for call in getattr(message, "tool_calls", [])]
            if runtime.tool_call_id in calls:
                thread = runtime.config.get("configurable", {}).get("thread_id")
                parts = [str(thread), message.id, *calls, digest_of(memory)]
                return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return None

    def _page(self, call: _Call, plan: CallPlan, page: _SearchPage) -> tuple[Any, Any]:
        rules = self._rules
        ids = [document.id for document in page.documents if document.id is not None]
        shown = plan.count + len(page.documents)
        content = text.page(
            plan,
            [self._show(document) for document in page.documents],
            exhausted=page.exhausted,
            limit=rules.max_results is not None and shown >= rules.max_results,
            more=self._more_tool,
        )
        report = page.report
        artifact = SearchArtifact(
            documents=page.documents,
            search_id=plan.search_id,
            pulled=report.pulled,
            kept=report.kept,
            dropped=dict(report.dropped),
            stop_reason=report.stop_reason,
            exhausted=page.exhausted,
        )
        update = update_after(plan, ids, None if page.exhausted else page.cursor, rules)
        return self._answer(call, content, artifact, update)

    def _refuse(self, call: _Call, why: Refusal) -> tuple[Any, Any]:
        searches = call.view.memory["searches"].items()
        known = [(id_, entry["query"]) for id_, entry in searches if entry["cursor"] is not None]
        content = text.refusal(why, search=self._search_tool, known=known)
        artifact = SearchArtifact(
            documents=[],
            search_id=None,
            pulled=0,
            kept=0,
            dropped={},
            stop_reason=why.value,
            exhausted=why is Refusal.OVER,
        )
        return self._answer(call, content, artifact, None)

    def _answer(
        self, call: _Call, content: str, artifact: SearchArtifact, update: MemoryUpdate | None
    ) -> tuple[Any, Any]:
        """The content and the artifact; or, where there is a state to write to, the command that holds them."""
        if not call.stateful or update is None:
            return content, artifact
        call.step.record(call.id, update)
        message = ToolMessage(content, artifact=artifact, tool_call_id=call.id, name=call.tool)
        return Command(update={self._messages_key: [message], STATE_KEY: {self._search_tool: update}}), None


class _Lost(Exception):
    """A cursor that leads nowhere any more: the search has to be begun anew, without what was shown."""


def _read(state: Any, key: str) -> Any:
    """A part of a state, which may be a dict, a model or a dataclass."""
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)
