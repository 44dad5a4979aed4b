"""One call of a search tool, from its plan to the page that the model reads: the same for every framework.

    plan ─┬─> refusal
          └─> open or resume a session ──> fetch a page ──> text for the model ──> detach, update the memory

If a cursor leads nowhere any more, the search begins anew, without what was shown. If the policies have changed since
the cursor was made, only a query that is put again does so: `more_results` is refused.

A call is a generator of effects, without any I/O. `run_call` carries out the effects in blocking code, and `arun_call`
in an event loop. An adapter adds what belongs to its framework: the schemas of the tools, the place of the memory,
locks, messages and artifacts.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, TypeAlias, TypeVar

from nextk.agents import prompts
from nextk.agents.fence import Excerpt, random_letter
from nextk.agents.memory import (
    CallPlan,
    MemoryUpdate,
    MemoryView,
    Refusal,
    SearchMemory,
    ToolLimits,
    continuable,
    plan_more,
    plan_search,
    update_after,
)
from nextk.agents.prompts import PageEnd
from nextk.errors import ClientError, LimitReached, PolicyMismatch, SearchFailed
from nextk.sessions import AsyncRetrievalSession, Cursor, Report, RetrievalSession
from nextk.sessions.shortfall import dropped_in_words
from nextk.until import Candidate, MaxResults, Policy, PolicyState
from nextk.until.decisions import NO_TEXT
from nextk.until.effects import adrive, drive

log = logging.getLogger("nextk.agents")

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

_NO_POLICIES = frozenset(["unshown", NO_TEXT])
"""The causes of dropped matches that are no policies of the user."""

AnySession: TypeAlias = RetrievalSession[Any] | AsyncRetrievalSession[Any]


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Effect: stop the session of this call, if there is one, and open another. Answered by that session.

    Attributes:
        query: The query of the search.
        cursor: The cursor at which the session resumes the search; `None` to begin it.
        overrides: The settings of this one search, as arguments for the retriever.
    """

    query: str
    cursor: Cursor | None
    overrides: Mapping[str, Any]

    def carry_out(self, open_session: Callable[..., S], resume_session: Callable[..., S]) -> S:
        """Return the session: from `open_session`, which takes a query, or from `resume_session`, which takes a cursor.

        Raises:
            PolicyMismatch: The cursor was made with a policy that the search does not have any more.
            CursorLostError: The cursor was made with another index, filter or namespace.
        """
        if self.cursor is None:
            return open_session(self.query, **self.overrides)
        try:
            return resume_session(self.cursor, **self.overrides)
        except PolicyMismatch:
            raise
        except ClientError as error:
            raise CursorLostError(str(error)) from error


CallEffect: TypeAlias = OpenSession | Callable[[], Any]
"""The next step of a call: to open a session, or to call a function whose answer may have to be awaited."""
CallEffects: TypeAlias = Generator[CallEffect, Any, T]
"""Yields the effects of a call; is sent the answer of each, or thrown its exception; returns the result of the call."""


class CursorLostError(Exception):
    """The cursor leads nowhere any more, so the search has to begin anew, without what was shown."""


@dataclass(frozen=True)
class CallResult(Generic[T]):
    """The result of a call.

    Attributes:
        text: The text that the model reads.
        items: The documents or nodes that the call shows, best first; empty if the call was refused.
        report: What the search has done so far. If the call was refused, the report holds nothing but the reason.
        search_id: The id by which the model knows the search; `None` if the call was refused.
        cursor: The position at which the search goes on; `None` at its end, or if the call was refused.
        update: The change of the memory; `None` if the call was refused.
    """

    text: str
    items: list[T]
    report: Report
    search_id: str | None = None
    cursor: Cursor | None = None
    update: MemoryUpdate | None = None


@dataclass(frozen=True)
class SearchTools(Generic[T]):
    """One set of search tools: what all of its calls have in common, and what each call does.

    Attributes:
        limits: The bounds of every search.
        search_tool: The name of the tool that begins a search.
        more_tool: The name of the tool that continues a search.
        excerpt_of: Returns what the model reads of an item.
        id_of: Returns the id by which an item counts as shown; `None` for an item without an id, as a mapper of the
            user's own may make them. Such an item is shown once in its search, and other searches may show it again.
        let_through: The exceptions with which the framework itself steers a run, such as one that waits for a human:
            a call raises them as they are.
        letter: Returns the letters of each call's fence one by one; by default nobody can guess them.
    """

    limits: ToolLimits
    search_tool: str
    more_tool: str
    excerpt_of: Callable[[T], Excerpt]
    id_of: Callable[[Any], str | None]
    let_through: tuple[type[Exception], ...] = ()
    letter: Callable[[], str] = random_letter

    def search(self, view: MemoryView, query: str, per_call: Callable[[], Any]) -> CallEffects[CallResult[T]]:
        """Begin a search and show its first page, or show the next page if the same query was put before.

        Args:
            view: The memory as the call sees it.
            query: The query in the words of the model.
            per_call: Returns the settings of this one search, by the names that the retriever's `open` has for them.

        Raises:
            SearchFailed: The index could not be asked, a bound of the retriever leaves nothing to show, or a function
                of the user raised. No document is lost: the next call shows it.
        """
        return self._show(view, plan_search(view, query, self.limits), per_call)

    def more(self, view: MemoryView, search_id: str, per_call: Callable[[], Any]) -> CallEffects[CallResult[T]]:
        """Show the next page of an earlier search.

        Args:
            view: The memory as the call sees it.
            search_id: The id of the search, as the model writes it.
            per_call: Returns the settings of this one search, by the names that the retriever's `resume` has for them.

        Raises:
            SearchFailed: As `search`.
        """
        return self._show(view, plan_more(view, search_id, self.limits), per_call)

    def refuse(self, memory: SearchMemory, reason: Refusal) -> CallResult[T]:
        """Return the result of a call that shows no documents.

        Args:
            memory: The memory as the call sees it.
            reason: Why it shows none.
        """
        text = prompts.refusal(reason, search_tool=self.search_tool, known=continuable(memory), letter=self.letter)
        report = Report(stop_reason=reason.value, exhausted=reason is Refusal.EXHAUSTED)
        return CallResult(text, [], report)

    def _show(
        self, view: MemoryView, plan: CallPlan | Refusal, per_call: Callable[[], Any]
    ) -> CallEffects[CallResult[T]]:
        if isinstance(plan, Refusal):
            return self.refuse(view.memory, plan)
        with self._hide_errors():
            overrides = yield per_call
            try:
                session, items = yield from self._fetch(plan, overrides)
            except PolicyMismatch as error:
                if not plan.repeated:
                    log.warning("the tool %s refuses to continue a search: %s", self.more_tool, error)
                    return self.refuse(view.memory, Refusal.POLICIES_CHANGED)
                session, items = yield from self._fetch_anew(plan, overrides, error)
            except CursorLostError as error:
                session, items = yield from self._fetch_anew(plan, overrides, error)
            return (yield from self._conclude(plan, session, items))

    def _conclude(self, plan: CallPlan, session: AnySession, items: list[T]) -> CallEffects[CallResult[T]]:
        report = session.report
        self._warn_of_nothing(plan, items, report)
        text = self._page_text(plan, items, report)  # may raise, so nothing is left open yet
        cursor: Cursor | None = None if report.exhausted else (yield session.detach)
        update = update_after(
            plan, [id_ for item in items if (id_ := self.id_of(item)) is not None], cursor, self.limits
        )
        return CallResult(text, items, session.report, plan.search_id, cursor, update)

    @contextmanager
    def _hide_errors(self) -> Iterator[None]:
        """Replace what is raised in the course of a call: a framework may give its words to the model."""
        try:
            yield
        except self.let_through:
            raise
        except Exception as error:
            log.exception("a call of the tool %s or %s failed", self.search_tool, self.more_tool)
            raise SearchFailed(prompts.failure(error)) from error

    def _fetch_anew(
        self, plan: CallPlan, overrides: Mapping[str, Any], reason: Exception
    ) -> CallEffects[tuple[AnySession, list[T]]]:
        log.warning("a search by the tool %s begins anew, without what it has shown: %s", self.search_tool, reason)
        return (yield from self._fetch(replace(plan, cursor=None), overrides))

    def _fetch(self, plan: CallPlan, overrides: Mapping[str, Any]) -> CallEffects[tuple[AnySession, list[T]]]:
        session: AnySession = yield OpenSession(plan.query, plan.cursor, overrides)
        policy = MaxResults(plan.page_size) | Unshown(plan.shown, self.id_of)
        try:
            items: list[T] = yield partial(session.fetch_until, policy)
        except LimitReached as error:
            if plan.cursor is None:
                raise
            # The replay would cost more than the retriever's max_recovery allows.
            raise CursorLostError(str(error)) from error
        return session, items

    def _page_text(self, plan: CallPlan, items: list[T], report: Report) -> str:
        excerpts = [self.excerpt_of(item) for item in items]
        end = self._end_of(plan, len(items), report)
        return prompts.results_page(plan, excerpts, end, more_tool=self.more_tool, letter=self.letter)

    def _end_of(self, plan: CallPlan, count: int, report: Report) -> PageEnd:
        max_results = self.limits.max_results
        if report.exhausted:
            return PageEnd.EXHAUSTED if report.complete else PageEnd.INCOMPLETE
        if max_results is not None and plan.shown_count + count >= max_results:
            return PageEnd.LIMIT_REACHED
        return PageEnd.STOPPED_SHORT if count < plan.page_size else PageEnd.MORE

    def _warn_of_nothing(self, plan: CallPlan, items: list[T], report: Report) -> None:
        """Warn of a search in which policies have dropped all there was. Sessions warn of one that a guard ends."""
        dropped = {cause: count for cause, count in report.dropped.items() if cause not in _NO_POLICIES}
        if report.exhausted and dropped and not items and not plan.shown_count:
            log.warning(
                "a search by the tool %s found nothing that may be shown: %d rows pulled, %s",
                self.search_tool,
                report.pulled,
                dropped_in_words(dropped),
            )


def run_call(
    effects: CallEffects[R],
    open_session: Callable[..., RetrievalSession[Any]],
    resume_session: Callable[..., RetrievalSession[Any]],
) -> R:
    """Carry out the effects of a call in blocking code.

    Args:
        effects: The call.
        open_session: Opens a session for a query, as a retriever's `open`.
        resume_session: Opens a session at a cursor, as a retriever's `resume`.

    Returns:
        The result of the call. Its session is stopped or detached, whatever happens.
    """
    with ExitStack() as sessions:

        def carry_out(effect: CallEffect) -> Any:
            if not isinstance(effect, OpenSession):
                return effect()
            sessions.close()
            return sessions.enter_context(effect.carry_out(open_session, resume_session))

        return drive(effects, carry_out)


async def arun_call(
    effects: CallEffects[R],
    open_session: Callable[..., AsyncRetrievalSession[Any]],
    resume_session: Callable[..., AsyncRetrievalSession[Any]],
) -> R:
    """Carry out the effects of a call without blocking the event loop.

    Args:
        effects: The call. Its `per_call` may return an awaitable.
        open_session: Opens a session for a query, as a retriever's `aopen`.
        resume_session: Opens a session at a cursor, as a retriever's `aresume`.

    Returns:
        The result of the call. Its session is stopped or detached, whatever happens.
    """
    async with AsyncExitStack() as sessions:

        async def carry_out(effect: CallEffect) -> Any:
            if not isinstance(effect, OpenSession):
                answer = effect()
                return await answer if isawaitable(answer) else answer
            await sessions.aclose()
            return await sessions.enter_async_context(effect.carry_out(open_session, resume_session))

        return await adrive(effects, carry_out)


@dataclass(frozen=True)
class Unshown(Policy):
    """Keep the matches that were not shown before, and of several with one id the first.

    Args:
        shown: The ids that were shown before.
        id_of: Returns the id of an item, that is of a LangChain `Document` or a LlamaIndex `NodeWithScore`; `None` if
            it has none, and then the id of its record counts.
    """

    shown: frozenset[str]
    id_of: Callable[[Any], str | None]

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Begin a call: no id has been kept in it yet."""
        return _UnshownState(self)


class _UnshownState(PolicyState):
    def __init__(self, policy: Unshown) -> None:
        super().__init__(policy)
        self._kept_ids: set[str] = set()

    def keeps(self, candidate: Candidate) -> bool:
        id_ = self._id_of(candidate)
        return id_ not in self.policy.shown and id_ not in self._kept_ids

    def add(self, candidate: Candidate) -> None:
        self._kept_ids.add(self._id_of(candidate))

    def _id_of(self, candidate: Candidate) -> str:
        id_: str | None = self.policy.id_of(candidate.item)
        return candidate.id if id_ is None else id_
