"""The tool spec `ResumableSearchToolSpec` for LlamaIndex's agents; its memory is in the store of the context."""

import copy
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from llama_index.core.schema import NodeWithScore
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.core.tools.tool_spec.base import SPEC_FUNCTION_TYPE, BaseToolSpec
from llama_index.core.workflow import Context
from pydantic import BaseModel, Field, create_model

from nextk.agents import prompts
from nextk.agents.call import CallEffects, CallResult, SearchTools, arun_call
from nextk.agents.memory import (
    MAX_SEARCHES,
    MemoryView,
    Refusal,
    SearchMemory,
    ToolLimits,
    apply_update,
    forget_search,
    read_id,
    require_tool_name,
)
from nextk.arguments import shown
from nextk.errors import ClientError
from nextk.llama_index.agents import context
from nextk.llama_index.agents.excerpts import excerpts_by
from nextk.llama_index.retriever import ResumableRetriever
from nextk.loop_lock import LoopLock
from nextk.sessions import AsyncRetrievalSession, Cursor
from nextk.sessions.config import MAX_RESULTS
from nextk.sessions.pool import stop_parked

PAGE_SIZE = 5
"""How many nodes one call shows, unless the spec is made with another number."""

PerCall = Callable[[Context[Any]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""Takes the context of the run in which a call is made, and returns settings of the one search that the call makes."""


class ResumableSearchToolSpec(BaseToolSpec):
    """Gives an agent a search that can go on: the tools `search`, `more_results` and `close_search`.

    The model sees numbered results and a short id. If it calls `more_results` with that id, it sees the next results of
    the same search, and so it does if it puts the same query again. Within one context no node is shown twice, by
    whatever search, in whatever order calls come and however many are made at once; and the end of a search is said to
    be the end.

    The position of a search is plain data in the store of the context. Therefore a search survives `Context.to_dict`
    and `from_dict`, and goes on in another process, even from a context that was saved while a tool was at work (with
    llama-index-workflows 2.22.1 or later; earlier versions may skip a page then). Between calls the index holds at most
    what `AsyncRetrievalSession.detach` leaves open for the next call of this process.

    No tool shows a node that the retriever's own `until` does not keep, and the retriever's bounds hold for each call.
    A mistake that a model can put right, such as an id that is not known any more, is answered in words. If the index
    cannot be asked, or a function of yours raises, the tool raises `SearchFailed`, and LlamaIndex tells the model its
    text: that the search failed, and nothing of the error itself, which is in the log. No node is lost by an error.

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
        retriever: The retriever that is searched.
        page_size: How many nodes one call shows, 5 by default.
        max_results: How many nodes one search shows in all, 200 by default; `None` for no bound.
        max_searches: How many searches can be continued, 8 by default. The one that was not used for longest is
            forgotten first.
        search_tool: The name of the tool that begins a search, `"search"` by default. With another name a context can
            have a second spec.
        more_tool: The name of the tool that continues a search, `"more_results"` by default.
        close_tool: The name of the tool that ends a search, `"close_search"` by default.
        description: A sentence for the model that says what there is to be found.
        node_formatter: A function that returns the text that the model reads of a node; by default the node's content
            with the metadata that LlamaIndex shows to models, labelled with title, source and page if they are among
            these.
        per_call: A function that takes the context of a call and returns settings of this one search: `filter`,
            `namespace`, `until`. It may be asynchronous. Use it to search on behalf of the user whom the agent works
            for.

    Raises:
        ClientError: A number is not a whole number of at least 1, two tools have one name, or the retriever is not a
            `nextk.llama_index.ResumableRetriever`.
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
        description: str = prompts.DEFAULT_PURPOSE,
        node_formatter: Callable[[NodeWithScore], str] | None = None,
        per_call: PerCall | None = None,
    ) -> None:
        if not isinstance(retriever, ResumableRetriever):
            message = f"retriever={shown(retriever)} has to be a nextk.llama_index.ResumableRetriever"
            raise ClientError(message)
        for name, tool in (("search_tool", search_tool), ("more_tool", more_tool), ("close_tool", close_tool)):
            require_tool_name(tool, name)
        if len({search_tool, more_tool, close_tool}) < len(self.spec_functions):
            message = f"{search_tool!r}, {more_tool!r}, {close_tool!r}: a model could not tell tools of one name apart"
            raise ClientError(message)
        limits = ToolLimits(page_size, max_results, max_searches)
        id_of = attrgetter("node_id")  # of two records of one node, one is shown
        self._retriever = retriever
        self._tools = SearchTools(
            limits, search_tool, more_tool, excerpts_by(node_formatter), id_of, context.steering_errors()
        )
        self._close_tool = close_tool
        self._purpose = description
        self._per_call = per_call
        self._locks: weakref.WeakKeyDictionary[Any, LoopLock] = weakref.WeakKeyDictionary()
        self._left_open: dict[str, Cursor] | None = None  # by digest: the searches that a scope has to stop at its end

    def get_metadata_from_fn_name(
        self,
        fn_name: str,
        spec_functions: list[SPEC_FUNCTION_TYPE] | None = None,  # noqa: ARG002 - LlamaIndex's
    ) -> ToolMetadata:
        """Return the name, the description and the arguments of a tool, as the model is told of them.

        Args:
            fn_name: The name of the method: `"search"`, `"more_results"` or `"close_search"`.
            spec_functions: Not used.
        """
        names = {"search": self._tools.search_tool, "more": self._tools.more_tool}
        match fn_name:
            case "search":
                description = prompts.SEARCH_DESCRIPTION.format(purpose=self._purpose, **names)
                return _metadata(self._tools.search_tool, description, query=prompts.QUERY_DESCRIPTION)
            case "more_results":
                name, description = self._tools.more_tool, prompts.MORE_DESCRIPTION.format(**names)
            case _:
                name, description = self._close_tool, prompts.CLOSE_DESCRIPTION.format(**names)
        return _metadata(name, description, search_id=prompts.SEARCH_ID_DESCRIPTION)

    @asynccontextmanager
    async def run_scope(self) -> AsyncIterator[list[FunctionTool]]:
        """Give the tools for one run or several, and stop what they have left open in the index at the end.

        A search that was stopped can still be continued from the context: that costs a replay of its pages.
        """
        scoped, left_open = copy.copy(self), dict[str, Cursor]()
        scoped._left_open = left_open  # noqa: SLF001 - our own copy
        try:
            yield scoped.to_tool_list()
        finally:
            for cursor in left_open.values():
                await self._stop(cursor)

    async def collected(self, ctx: Context[Any]) -> list[str]:
        """Return the ids of all nodes that were shown in a context, in order: `[3]` in an answer is at index 2.

        Args:
            ctx: The context of the run.
        """
        return list((await self._read_state(ctx))["memory"]["shown"])

    async def search(self, ctx: Context[Any], query: str) -> str:
        """Return the best results of a query, or the next results if the same query was put before.

        Args:
            ctx: The context of the run.
            query: The query in the words of the model.

        Returns:
            The text that the model reads.
        """
        return await self._answer(ctx, lambda view: self._tools.search(view, query, partial(self._overrides, ctx)))

    async def more_results(self, ctx: Context[Any], search_id: str) -> str:
        """Return the next results of an earlier search.

        Args:
            ctx: The context of the run.
            search_id: The id of the search, as `search` has told the model.

        Returns:
            The text that the model reads.
        """
        return await self._answer(ctx, lambda view: self._tools.more(view, search_id, partial(self._overrides, ctx)))

    async def close_search(self, ctx: Context[Any], search_id: str) -> str:
        """End a search. The nodes that it has shown are not shown again.

        Args:
            ctx: The context of the run.
            search_id: The id of the search, as `search` has told the model.

        Returns:
            The text that the model reads.
        """
        async with self._lock(ctx):
            state = await self._read_state(ctx)
            memory, search_id = state["memory"], read_id(search_id)
            if search_id not in memory["searches"]:
                return self._tools.refuse(memory, Refusal.UNKNOWN).text
            await self._write_state(ctx, memory, forget_search(memory, search_id), state["answers"])
            return prompts.SEARCH_CLOSED

    async def _answer(
        self, ctx: Context[Any], effects_of: Callable[[MemoryView], CallEffects[CallResult[NodeWithScore]]]
    ) -> str:
        async with self._lock(ctx):
            state = await self._read_state(ctx)
            memory, answers = state["memory"], state["answers"]
            call = await context.current_call(ctx)
            if call is not None and (earlier := context.earlier_answer(answers, call)) is not None:
                await self._write_state(ctx, memory, memory, context.with_answer(answers, call, earlier))
                return earlier
            result = await arun_call(effects_of(MemoryView(memory)), self._retriever.aopen, self._resume)
            if self._left_open is not None and result.cursor is not None:
                self._left_open[result.cursor["digest"]] = result.cursor
            if result.update is not None:
                if call is not None:
                    answers = context.with_answer(answers, call, result.text)
                await self._write_state(ctx, memory, apply_update(memory, result.update), answers)
            return result.text

    def _resume(self, cursor: Cursor, **overrides: Any) -> AsyncRetrievalSession[NodeWithScore]:
        session = self._retriever.aresume(cursor, **overrides)
        if self._left_open is not None:
            self._left_open.pop(cursor["digest"], None)
        return session

    def _overrides(self, ctx: Context[Any]) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]:
        return {} if self._per_call is None else self._per_call(ctx)

    def _lock(self, ctx: Context[Any]) -> Any:
        """Return the lock under which the calls within one context run one after another: an agent may make several."""
        return self._locks.setdefault(ctx.store, LoopLock()).guard()

    async def _read_state(self, ctx: Context[Any]) -> context.ContextState:
        return await context.read(ctx, self._tools.search_tool)

    async def _write_state(
        self, ctx: Context[Any], before: SearchMemory, after: SearchMemory, answers: list[context.ToolAnswer]
    ) -> None:
        """Keep what a call has changed, and stop the searches that cannot be continued any more."""
        await context.write(ctx, self._tools.search_tool, after, answers)
        for id_ in before["searches"].keys() - after["searches"].keys():
            cursor = before["searches"][id_]["cursor"]
            if cursor is not None:
                await self._stop(cursor)

    async def _stop(self, cursor: Cursor) -> None:
        if self._retriever.source is None:  # a source keeps detached searches by itself, as many as it wants
            transport = self._retriever.index._transport  # noqa: SLF001 - the pool of open queries belongs to it
            await stop_parked(transport, cursor["digest"])


def _metadata(name: str, description: str, **described: str) -> ToolMetadata:
    fields: dict[str, Any] = {argument: (str, Field(description=words)) for argument, words in described.items()}
    schema: type[BaseModel] = create_model(name, **fields)
    return ToolMetadata(description=description, name=name, fn_schema=schema)
