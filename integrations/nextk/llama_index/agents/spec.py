"""The tools, as LlamaIndex's agents want them: a tool spec over the store of the context."""

import copy
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, ClassVar

from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.core.tools.tool_spec.base import SPEC_FUNCTION_TYPE, BaseToolSpec
from llama_index.core.workflow import Context
from pydantic import BaseModel, Field, create_model

from nextk.agents import prompts as text
from nextk.agents.memory import (
    CallPlan,
    MemoryView,
    Refusal,
    SearchMemory,
    ToolLimits,
    apply_update,
    forget,
    plan_more,
    plan_search,
    policy_for,
    read_id,
    update_after,
)
from nextk.arguments import require_count
from nextk.errors import ClientError, LimitReached, NextKError
from nextk.llama_index.agents import context
from nextk.llama_index.agents.stopping import stop_parked
from nextk.llama_index.retriever import ResumableRetriever
from nextk.loop_lock import LoopLock
from nextk.sessions import AsyncRetrievalSession, Cursor
from nextk.sessions.config import MAX_RESULTS
from nextk.until import Candidate

log = logging.getLogger("nextk.llama_index")

PAGE_SIZE, MAX_SEARCHES = 5, 8

PerCall = Callable[[Context[Any]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""What is asked of one search besides, from the context of the run that it is made in."""


@dataclass(frozen=True)
class _SearchPage:
    nodes: list[NodeWithScore]
    cursor: Cursor | None  # None at the end


class ResumableSearchToolSpec(BaseToolSpec):
    """Gives an agent a search that can go on: the tools `search`, `more_results` and `close_search`.

    The model sees numbered results and a short id. Calling `more_results` with it shows what comes next in the same
    search, and putting the same query again does so too. Within one context no node is shown twice, by whatever search,
    in whatever order calls come or however many at once; and the end is said to be the end.

    Where a search stands is plain data in the context's store. So it survives `Context.to_dict` and `from_dict`, and
    goes on in another process, even from a context that was saved while a tool was at work (with llama-index-workflows
    2.22.1 or later; before, a page may be skipped then). Between calls the index holds at most what
    `AsyncRetrievalSession.detach` leaves to the next call of this process.

    What the retriever's own `until` does not keep no tool shows, and its guards bound each call. What a model can put
    right, such as an id that is not known any more, is an answer to it. Everything else is raised, and LlamaIndex tells
    the model; of what a function of yours raises it learns only that the search failed. No node is lost by it.

    Examples:
        ```python
        from llama_index.core.agent.workflow import FunctionAgent
        from llama_index.core.workflow import Context

        spec = ResumableSearchToolSpec(retriever, description="Search the handbook of the company.")
        async with spec.run_scope() as tools:
            agent = FunctionAgent(tools=tools, llm=llm)
            context = Context(agent)
            answer = await agent.run("Which holidays are there?", ctx=context)
            sources = await spec.collected(context)  # [3] in the answer is sources[2]
        ```

    Args:
        retriever: What is searched.
        page_size: How many nodes one call shows.
        max_results: How many one search shows in all; `None`: no bound.
        max_searches: How many searches can be continued; the one not used for longest is forgotten first.
        search_tool: The name of a tool; another one makes room for a second spec in the same context.
        more_tool: Likewise.
        close_tool: Likewise.
        description: What there is to be found, for the model.
        node_formatter: Makes the text that the model reads of a node; absent: its content with the metadata that
            LlamaIndex shows to models.
        per_call: Takes the context of a call and returns what to ask of this search besides: `filter`, `namespace`,
            `until`. For whoever the agent works for.

    Raises:
        ClientError: A number is below 1, or two tools have one name.
    """

    spec_functions: ClassVar[list[SPEC_FUNCTION_TYPE]] = [  # type: ignore[misc]
        "search",
        "more_results",
        "close_search",
    ]

    def __init__(
        self,
        retriever: ResumableRetriever,
        *,
        page_size: int = PAGE_SIZE,
        max_results: int | None = MAX_RESULTS,
        max_searches: int = MAX_SEARCHES,
        search_tool: str = "search",
        more_tool: str = "more_results",
        close_tool: str = "close_search",
        description: str = text.PURPOSE,
        node_formatter: Callable[[NodeWithScore], str] | None = None,
        per_call: PerCall | None = None,
    ) -> None:
        if not isinstance(retriever, ResumableRetriever):
            message = f"retriever={retriever!r} has to be a nextk.llama_index.ResumableRetriever"
            raise ClientError(message)
        require_count(page_size, "page_size")
        require_count(max_searches, "max_searches")
        if max_results is not None:
            require_count(max_results, "max_results")
        if len({search_tool, more_tool, close_tool}) < len(self.spec_functions):
            message = f"{search_tool!r}, {more_tool!r}, {close_tool!r}: a model could not tell tools of one name apart"
            raise ClientError(message)
        self._retriever = retriever
        self._rules = ToolLimits(page_size, max_results, max_searches)
        self._names = {"search": search_tool, "more": more_tool, "close": close_tool}
        self._purpose = description
        self._show = node_formatter or _shown
        self._per_call = per_call
        self._locks: weakref.WeakKeyDictionary[Any, LoopLock] = weakref.WeakKeyDictionary()
        self._left: dict[str, Cursor] | None = None  # what a scope has left open, by digest

    def get_metadata_from_fn_name(
        self,
        fn_name: str,
        spec_functions: list[SPEC_FUNCTION_TYPE] | None = None,  # noqa: ARG002 - LlamaIndex's
    ) -> ToolMetadata:
        """What the model is told of a tool."""
        names = self._names
        search_id = text.SEARCH_ID
        match fn_name:
            case "search":
                description = text.SEARCH.format(purpose=self._purpose, **names)
                return _metadata(names["search"], description, query=text.QUERY)
            case "more_results":
                return _metadata(names["more"], text.MORE.format(**names), search_id=search_id)
            case _:
                return _metadata(names["close"], text.CLOSE.format(**names), search_id=search_id)

    @asynccontextmanager
    async def run_scope(self) -> AsyncIterator[list[FunctionTool]]:
        """The tools for one run, or for some; whatever search they have left open in the index is stopped at the end.

        It can be continued all the same, from the context: that only costs a replay.
        """
        scoped, left = copy.copy(self), dict[str, Cursor]()
        scoped._left = left  # noqa: SLF001 - our own copy
        try:
            yield scoped.to_tool_list()
        finally:
            for cursor in left.values():
                await stop_parked(self._retriever.index, cursor)

    async def collected(self, ctx: Context[Any]) -> list[str]:
        """The ids of all nodes that were shown in a context: the one numbered `[3]` is at place 2."""
        return list((await self._read_state(ctx))["memory"]["shown"])

    async def search(self, ctx: Context[Any], query: str) -> str:
        """The best results of a query, or more of them where it was put before.

        Args:
            ctx: The context of the run.
            query: What to look for.

        Returns:
            What the model reads.
        """
        return await self._call(ctx, lambda book: plan_search(MemoryView(book), query, self._rules))

    async def more_results(self, ctx: Context[Any], search_id: str) -> str:
        """The next results of an earlier search.

        Args:
            ctx: The context of the run.
            search_id: As `search` has told the model.

        Returns:
            What the model reads.
        """
        return await self._call(ctx, lambda book: plan_more(MemoryView(book), search_id, self._rules))

    async def close_search(self, ctx: Context[Any], search_id: str) -> str:
        """End a search; what it has shown is not shown again.

        Args:
            ctx: The context of the run.
            search_id: As `search` has told the model.

        Returns:
            What the model reads.
        """
        async with self._lock(ctx):
            state = await self._read_state(ctx)
            plan = plan_more(MemoryView(state["memory"]), search_id, self._rules)
            if plan is Refusal.UNKNOWN:
                return self._refuse(state["memory"], plan)
            book = forget(state["memory"], read_id(search_id))
            await self._write_state(ctx, state["memory"], book, state["answers"])
            return text.closed()

    async def _call(self, ctx: Context[Any], planning: Callable[[SearchMemory], CallPlan | Refusal]) -> str:
        async with self._lock(ctx):
            state = await self._read_state(ctx)
            book, answers = state["memory"], state["answers"]
            call = await context.current_call(ctx)
            if call is not None and (answer := context.earlier_answer(answers, call)) is not None:
                await self._write_state(ctx, book, book, context.with_answer(answers, call, answer))
                return answer
            plan = planning(book)
            if isinstance(plan, Refusal):
                return self._refuse(book, plan)
            page = await self._find(ctx, plan)
            answer = self._page(plan, page)
            after = apply_update(
                book, update_after(plan, [node.node_id for node in page.nodes], page.cursor, self._rules)
            )
            if call is not None:
                answers = context.with_answer(answers, call, answer)
            await self._write_state(ctx, book, after, answers)
            return answer

    async def _find(self, ctx: Context[Any], plan: CallPlan) -> _SearchPage:
        overrides: Any = {} if self._per_call is None else self._per_call(ctx)
        overrides = await overrides if isawaitable(overrides) else overrides
        try:
            return await self._pull(plan, overrides)
        except _LostError:
            return await self._pull(replace(plan, cursor=None), overrides)

    async def _pull(self, plan: CallPlan, overrides: Mapping[str, Any]) -> _SearchPage:
        async with self._session(plan, overrides) as search:
            try:
                nodes = await search.fetch_until(policy_for(plan, _node_id))
            except LimitReached as error:
                if plan.cursor is None:
                    raise
                raise _LostError from error
            except NextKError:
                raise
            except Exception as error:
                # LlamaIndex gives a tool's exception to the model, word for word: what a check says is not for it.
                log.exception("a search of an agent failed")
                raise SearchFailedError from error
            if search.exhausted:
                return _SearchPage(nodes, None)
            cursor = await search.detach()
            if self._left is not None:
                self._left[cursor["digest"]] = cursor
            return _SearchPage(nodes, cursor)

    def _session(self, plan: CallPlan, overrides: Mapping[str, Any]) -> AsyncRetrievalSession[NodeWithScore]:
        if plan.cursor is None:
            return self._retriever.aopen(plan.query, **overrides)
        try:
            search = self._retriever.aresume(plan.cursor, **overrides)
        except ClientError as error:
            raise _LostError from error
        if self._left is not None:
            self._left.pop(plan.cursor["digest"], None)
        return search

    def _page(self, plan: CallPlan, page: _SearchPage) -> str:
        most = self._rules.max_results
        return text.page(
            plan,
            [self._show(node) for node in page.nodes],
            exhausted=page.cursor is None,
            limit=most is not None and plan.count + len(page.nodes) >= most,
            more=self._names["more"],
        )

    def _refuse(self, book: SearchMemory, why: Refusal) -> str:
        known = [(id_, entry["query"]) for id_, entry in book["searches"].items() if entry["cursor"] is not None]
        return text.refusal(why, search=self._names["search"], known=known)

    def _lock(self, ctx: Context[Any]) -> Any:
        """The calls within one context take turns: an agent may make several at once."""
        return self._locks.setdefault(ctx.store, LoopLock()).guard()

    async def _read_state(self, ctx: Context[Any]) -> context.ContextState:
        return await context.read(ctx, self._names["search"])

    async def _write_state(
        self, ctx: Context[Any], before: SearchMemory, after: SearchMemory, answers: list[context.ToolAnswer]
    ) -> None:
        """Keep what a call has changed, and stop the searches that cannot be continued any more."""
        await context.write(ctx, self._names["search"], after, answers)
        for id_ in before["searches"].keys() - after["searches"].keys():
            cursor = before["searches"][id_]["cursor"]
            if cursor is not None:
                await stop_parked(self._retriever.index, cursor)


class SearchFailedError(RuntimeError):
    """A function of yours raised in the middle of a search, and this is all that the model is told of it."""

    def __init__(self) -> None:
        super().__init__("The search failed, so there are no results. Searching again will not help; say so.")


class _LostError(Exception):
    """A cursor that leads nowhere any more: the search has to be begun anew, without what was shown."""


def _node_id(candidate: Candidate) -> str:
    """Of two records that hold one node, one is enough."""
    return str(candidate.item.node_id)


def _shown(node: NodeWithScore) -> str:
    return node.node.get_content(MetadataMode.LLM)


def _metadata(name: str, description: str, **described: str) -> ToolMetadata:
    fields: dict[str, Any] = {argument: (str, Field(description=words)) for argument, words in described.items()}
    schema: type[BaseModel] = create_model(name, **fields)
    return ToolMetadata(description=description, name=name, fn_schema=schema)
