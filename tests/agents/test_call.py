"""One call of a search tool, over a real index and in both calling styles."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from nextk import Index
from nextk.agents.call import CallEffects, CallResult, SearchTools, Unshown, arun_call, run_call
from nextk.agents.fence import Excerpt
from nextk.agents.memory import MemoryView, SearchMemory, ToolLimits, apply_update, empty_memory
from nextk.errors import (
    ClientError,
    LimitReached,
    PageUncertain,
    RefusedError,
    SearchFailed,
    TooManyQueries,
    TransportError,
)
from nextk.sessions import AsyncRetrievalSession, Limits, Report, RetrievalSession, RowReader, SearchConfig, SearchQuery
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
        """A query that is put again begins anew under the present rules, without what was shown, and the log warns."""
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


def nothing(matches: list[QueryResult]) -> list[bool]:
    """Permit no text."""
    return [False] * len(matches)


class TestShortPages:
    """A call that shows fewer results than it might says so."""

    @pytest.mark.parametrize("guards", [Limits(max_pulls=1), Limits(deadline=1e-9), Limits(max_results=3)], ids=str)
    def test_guards(self, run: Run, guards: Limits) -> None:
        """A page that a guard ends says that the search stopped at its limit, and how to go on; it counts nothing."""
        large = tools(ToolLimits(page_size=40, max_results=None, max_searches=8))
        overrides = settings_of(until=Accepted(40, even), guards=guards)
        first = run(large.search(MemoryView(empty_memory()), QUESTION, overrides))
        assert 0 < len(first.items) < 40
        assert first.text.endswith(
            "The search stopped at its limit before it found 40 results. "
            f'To look further call more_results with search_id="{first.search_id}".'
        )
        assert first.search_id is not None
        second = run(large.more(MemoryView(after(empty_memory(), first)), first.search_id, overrides))
        assert not set(ids_of(first)) & set(ids_of(second))
        assert second.items

    def test_nothing_within_a_guard(self, run: Run) -> None:
        """A call that a guard ends before anything was permitted is not taken for the end of the search."""
        overrides = settings_of(until=Accepted(4, nothing), guards=Limits(max_pulls=1))
        first = run(tools().search(MemoryView(empty_memory()), QUESTION, overrides))
        assert first.text.startswith("The search stopped at its limit before it found anything new to show.")
        assert first.cursor is not None

    def test_incomplete(self) -> None:
        """A search that the index had no room to finish is not said to be at its end."""
        effects = tools().search(MemoryView(empty_memory()), QUESTION, dict)
        report = Report(exhausted=True, complete=False)
        session = SimpleNamespace(report=report, fetch_until=list, detach=list)
        answers: list[Any] = [None, {}, session]
        for answer in answers:
            effects.send(answer)
        with pytest.raises(StopIteration) as returned:
            effects.send([QueryResult("a", 1.0, data="text")])
        assert "there may be results that are missing here" in returned.value.value.text

    def test_nothing_permitted(self, run: Run, order: list[str], caplog: pytest.LogCaptureFixture) -> None:
        """If a check denies all, the log says how many, and the model reads what it reads if nothing was found."""
        denied = run(tools().search(MemoryView(empty_memory()), QUESTION, settings_of(until=Accepted(4, nothing))))
        [record] = [record for record in caplog.records if record.name == "nextk.agents"]
        assert ("WARNING", True) == (record.levelname, f"{len(order)} dropped by accepted" in record.getMessage())
        caplog.clear()
        empty = run(tools().search(MemoryView(empty_memory()), QUESTION, settings_of(filter="place < 0")))
        assert empty.text == denied.text == "No results: this search found nothing that may be shown."
        assert [] == [record for record in caplog.records if record.name == "nextk.agents"]


SECRET = "payroll of Alice"
"""Words that no model may read."""


def raising(error: Exception) -> Callable[..., Any]:
    """Return a function that raises an error."""

    def fail(*_: Any) -> Any:
        raise error

    return fail


class Steering(Exception):
    """Stands for an exception by which a framework steers a run."""


class TestErrors:
    """A call that fails says so in words of our own."""

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (OSError(SECRET), "Searching again will not help"),
            (ClientError(SECRET), "Searching again will not help"),
            (RefusedError(SECRET, 422), "Searching again will not help"),
            (TransportError(SECRET), "Make the same call once more"),
            (PageUncertain(SECRET), "Make the same call once more"),
            (TooManyQueries(SECRET, 403), "Make the same call once more"),
            (LimitReached(SECRET), "reached its limit"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_words(self, run: Run, error: Exception, expected: str, caplog: pytest.LogCaptureFixture) -> None:
        """The text of an error is for the log alone; a model learns whether to try again."""
        overrides = settings_of(until=Accepted(4, raising(error)))
        with pytest.raises(SearchFailed, match=expected) as raised:
            run(tools().search(MemoryView(empty_memory()), QUESTION, overrides))
        assert SECRET not in repr(raised.value)
        assert error is raised.value.__cause__
        assert SECRET in caplog.text

    def test_every_function_of_the_user(self, index: Index, run: Run) -> None:
        """Whichever function of the user raises, its error is hidden and no query is left open, not even parked."""
        error = KeyError(SECRET)
        for failing, per_call in (
            (tools(), raising(error)),
            (tools(excerpt_of=raising(error)), dict),
            (tools(), settings_of(until=Accepted(4, raising(error)))),
        ):
            with pytest.raises(SearchFailed, match="failed") as raised:
                run(failing.search(MemoryView(empty_memory()), QUESTION, per_call))
            assert error is raised.value.__cause__
            assert 0 == open_queries(index)

    def test_exceptions_of_the_framework(self, run: Run) -> None:
        """An exception by which the framework steers a run is no failure, and is raised as it is."""
        with pytest.raises(Steering):
            run(tools(let_through=(Steering,)).search(MemoryView(empty_memory()), QUESTION, raising(Steering())))


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
