"""One call of a search tool, over a real index and in both calling styles."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest

from nextk import Index
from nextk.agents.call import CallEffects, CallResult, SearchTools, Unshown, arun_call, run_call
from nextk.agents.fence import Excerpt
from nextk.agents.memory import MemoryView, SearchMemory, ToolLimits, apply_update, empty_memory
from nextk.errors import ClientError, LimitReached
from nextk.sessions import AsyncRetrievalSession, Limits, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.sessions.pool import pool_of
from nextk.types import QueryResult
from nextk.until import Accepted, Candidate
from tests.support.sentence_index import QUESTION, open_queries, sentences

LIMITS = ToolLimits(page_size=4, max_results=None, max_searches=8)
READER: RowReader[QueryResult] = RowReader(lambda match: match, lambda match: match.data or "")
Run: TypeAlias = Callable[[CallEffects[CallResult[QueryResult]]], CallResult[QueryResult]]


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """An index that embeds text."""
    with sentences() as index:
        yield index


@pytest.fixture
def index(shared: Index) -> Iterator[Index]:
    """The same index; afterwards it holds no query but those that are parked for a next call."""
    yield shared
    pool_of(shared._transport).clear()
    shared.info()  # any request stops what was given up
    assert 0 == open_queries(shared)


class Opener:
    """Opens sessions as a retriever does, in both calling styles."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def _options(self, query: str, filter: str, **config: Any) -> dict[str, Any]:
        search_config = SearchConfig(**config)
        return {
            "query": SearchQuery(data=query, filter=filter),
            "reader": READER,
            "texts": [query],
            "config": search_config,
        }

    def open(self, query: str, filter: str = "", **config: Any) -> RetrievalSession[QueryResult]:
        """Begin a search."""
        return RetrievalSession(self.index, **self._options(query, filter, **config))

    def resume(self, cursor: Any, filter: str = "", **config: Any) -> RetrievalSession[QueryResult]:
        """Go on with a search."""
        return RetrievalSession(self.index, **self._options(cursor["texts"][0], filter, **config), cursor=cursor)

    def aopen(self, query: str, filter: str = "", **config: Any) -> AsyncRetrievalSession[QueryResult]:
        """Begin a search in an event loop."""
        return AsyncRetrievalSession(self.index.to_async(), **self._options(query, filter, **config))

    def aresume(self, cursor: Any, filter: str = "", **config: Any) -> AsyncRetrievalSession[QueryResult]:
        """Go on with a search in an event loop."""
        options = self._options(cursor["texts"][0], filter, **config)
        return AsyncRetrievalSession(self.index.to_async(), **options, cursor=cursor)


@pytest.fixture(params=["blocking", "awaiting"])
def run(index: Index, request: pytest.FixtureRequest) -> Run:
    """Carries out a call in one of the calling styles."""
    opener = Opener(index)
    if request.param == "blocking":
        return lambda effects: run_call(effects, opener.open, opener.resume)
    return lambda effects: asyncio.run(arun_call(effects, opener.aopen, opener.aresume))


@pytest.fixture
def order(index: Index) -> list[str]:
    """The ids of everything that the question finds, best first."""
    with Opener(index).open(QUESTION) as session:
        return [match.id for match in session]


def tools(limits: ToolLimits = LIMITS, **options: Any) -> SearchTools[QueryResult]:
    """Return tools whose items are matches."""
    settings: dict[str, Any] = {
        "excerpt_of": lambda match: Excerpt(match.data),
        "id_of": lambda match: match.id,
        **options,
    }
    return SearchTools(limits, "search", "more_results", **settings)


def ids_of(result: CallResult[QueryResult]) -> list[str]:
    """Return the ids of the matches that a call shows."""
    return [match.id for match in result.items]


def after(memory: SearchMemory, result: CallResult[QueryResult]) -> SearchMemory:
    """Return the memory after a call."""
    assert result.update is not None
    return apply_update(memory, result.update)


def settings_of(**overrides: Any) -> Callable[[], dict[str, Any]]:
    """Return a function that returns the settings of a call."""
    return lambda: overrides


class TestCalls:
    """A tool call returns a page and the update of the memory."""

    def test_search_and_more(self, run: Run, order: list[str]) -> None:
        """Each call shows the next page, numbered through, and its update says where the search is."""
        memory = empty_memory()
        first = run(tools().search(MemoryView(memory), QUESTION, dict))
        memory = after(memory, first)
        assert first.search_id is not None
        second = run(tools().more(MemoryView(memory), first.search_id, dict))
        assert (order[:4], order[4:8]) == (ids_of(first), ids_of(second))
        assert "\n[5] " in second.text
        memory = after(memory, second)
        assert (2, 8) == (
            memory["searches"][first.search_id]["calls"],
            memory["searches"][first.search_id]["shown_count"],
        )

    def test_end(self, run: Run, order: list[str]) -> None:
        """At its end a search has no cursor, and is refused from then on."""
        everything = tools(ToolLimits(100, None, 8))
        first = run(everything.search(MemoryView(empty_memory()), QUESTION, dict))
        assert (order, None) == (ids_of(first), first.cursor)
        memory = after(empty_memory(), first)
        refused = run(everything.search(MemoryView(memory), QUESTION, dict))
        assert ([], None, "exhausted", True) == (
            refused.items,
            refused.update,
            refused.report.stop_reason,
            refused.report.exhausted,
        )

    @pytest.mark.parametrize(("size", "short"), [(3, False), (4, True)])
    def test_a_guard_ends_a_page(self, run: Run, caplog: pytest.LogCaptureFixture, size: int, *, short: bool) -> None:
        """If a guard ends a call before its page is full, its report says so, and the log warns once."""
        settings = settings_of(guards=Limits(max_results=3))
        result = run(tools(ToolLimits(size, None, 8)).search(MemoryView(empty_memory()), QUESTION, settings))
        assert (3, short) == (len(result.items), result.report.shortfall is not None)
        assert ([str(result.report.shortfall)] if short else []) == caplog.messages

    def test_refused_calls_read_no_settings(self, run: Run) -> None:
        """A call that is refused does not ask for the settings of a search."""

        def fail() -> dict[str, Any]:
            raise AssertionError

        refused = run(tools().more(MemoryView(empty_memory()), "bcdfg", fail))
        assert ("unknown", None) == (refused.report.stop_reason, refused.search_id)

    @pytest.mark.parametrize("settings", [{"filter": "place >= 0"}, {"max_recovery": 0}])
    def test_a_cursor_that_leads_nowhere(
        self,
        index: Index,
        run: Run,
        order: list[str],
        settings: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """If a search cannot be resumed, or only by too long a replay, it begins anew without what it has shown.

        The log says so, and why.
        """
        first = run(tools().search(MemoryView(empty_memory()), QUESTION, dict))
        pool_of(index._transport).clear()
        memory = after(empty_memory(), first)
        second = run(tools().search(MemoryView(memory), QUESTION, settings_of(**settings)))
        assert order[4:8] == ids_of(second)
        assert 4 == second.report.dropped["unshown"]
        assert "begins anew" in caplog.text
        assert next(iter(settings)) in caplog.text

    def test_errors_of_a_new_search(self, run: Run) -> None:
        """A search that cannot even begin raises what the session raises, and begins once only."""
        with pytest.raises(ClientError, match="fetch_until"):
            run(tools(around_fetch=refusing).search(MemoryView(empty_memory()), QUESTION, dict))
        with pytest.raises(LimitReached):
            run(tools(around_fetch=reaching).search(MemoryView(empty_memory()), QUESTION, dict))

    def test_errors_of_a_check(self, run: Run) -> None:
        """An error of a check reaches the caller through `around_fetch`, which may replace it."""

        def check(_: list[QueryResult]) -> list[bool]:
            message = "a secret"
            raise OSError(message)

        overrides = settings_of(until=Accepted(4, check))
        with pytest.raises(OSError, match="a secret"):
            run(tools().search(MemoryView(empty_memory()), QUESTION, overrides))
        with pytest.raises(RuntimeError, match="failed"):
            run(tools(around_fetch=hiding).search(MemoryView(empty_memory()), QUESTION, overrides))

    def test_a_text_that_cannot_be_made(self, index: Index, run: Run) -> None:
        """If the text of an item cannot be made, no query is left open, not even a parked one."""

        def fail(_: QueryResult) -> Excerpt:
            raise KeyError

        with pytest.raises(KeyError):
            run(tools(excerpt_of=fail).search(MemoryView(empty_memory()), QUESTION, dict))
        assert 0 == open_queries(index)

    async def test_awaited_settings(self, index: Index, order: list[str]) -> None:
        """In an event loop the settings of a search may have to be awaited."""

        async def read_settings() -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"filter": "place >= 0"}

        opener = Opener(index)
        effects = tools().search(MemoryView(empty_memory()), QUESTION, read_settings)
        assert order[:4] == ids_of(await arun_call(effects, opener.aopen, opener.aresume))


def even(matches: list[QueryResult]) -> list[bool]:
    """Permit every second text."""
    return [int(match.id[1:]) % 2 == 0 for match in matches]


def everything(matches: list[QueryResult]) -> list[bool]:
    """Permit every text."""
    return [True] * len(matches)


class TestChangedPolicies:
    """A search is not continued without the check that it began with."""

    @pytest.mark.parametrize("settings", [{}, {"until": Accepted(4, everything)}], ids=["none", "another"])
    def test_more_results(
        self, run: Run, settings: dict[str, Any], caplog: pytest.LogCaptureFixture, index: Index
    ) -> None:
        """`more_results` under other rules is refused in words and shows nothing, and the log says why."""
        first = run(tools().search(MemoryView(empty_memory()), QUESTION, settings_of(until=Accepted(4, even))))
        assert first.search_id is not None
        refused = run(tools().more(MemoryView(after(empty_memory(), first)), first.search_id, settings_of(**settings)))
        assert ([], None, "policies_changed") == (refused.items, refused.update, refused.report.stop_reason)
        assert "the rules for what it may show have changed" in refused.text
        [record] = [record for record in caplog.records if record.name == "nextk.agents"]
        assert ("WARNING", True) == (record.levelname, "the policy accepted" in record.getMessage())
        pool_of(index._transport).clear()

    @pytest.mark.parametrize("settings", [{}, {"until": Accepted(4, everything)}], ids=["none", "another"])
    def test_the_same_query(
        self, run: Run, order: list[str], settings: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The same query begins anew under the rules that hold now, without what was shown, and the log says why."""
        first = run(tools().search(MemoryView(empty_memory()), QUESTION, settings_of(until=Accepted(4, even))))
        memory = after(empty_memory(), first)
        second = run(tools().search(MemoryView(memory), QUESTION, settings_of(**settings)))
        assert [id_ for id_ in order if id_ not in ids_of(first)][:4] == ids_of(second)
        assert "begins anew" in caplog.text
        assert QUESTION not in caplog.text
        memory = after(memory, second)
        assert second.search_id is not None
        third = run(tools().more(MemoryView(memory), second.search_id, settings_of(**settings)))
        assert not set(ids_of(third)) & {*ids_of(first), *ids_of(second)}


@contextmanager
def hiding() -> Iterator[None]:
    """Replaces every error."""
    try:
        yield
    except OSError as error:
        message = "failed"
        raise RuntimeError(message) from error


@contextmanager
def refusing() -> Iterator[None]:
    """Raises before anything is fetched."""
    message = "fetch_until"
    raise ClientError(message)
    yield


@contextmanager
def reaching() -> Iterator[None]:
    """Raises as a bound does."""
    message = "max_pulls"
    raise LimitReached(message)
    yield


class TestUnshown:
    """The policy that leaves out what was shown."""

    def test_shown_before(self) -> None:
        """A call leaves out what was shown before."""
        state = Unshown(frozenset("a"), str).new_state({})
        assert [False, True] == [state.keeps(Candidate("record", 1.0, id_)) for id_ in "ab"]

    def test_shown_in_this_call(self) -> None:
        """Of several matches with one id a call shows the first."""
        state = Unshown(frozenset(), str).new_state({})
        state.add(Candidate("first record", 1.0, "a"))
        assert [False, True] == [state.keeps(Candidate("second record", 1.0, id_)) for id_ in "ab"]
