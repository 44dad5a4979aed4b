"""Cursors: a search that is resumed from one goes on as if it had not been interrupted."""

import asyncio
import contextlib
import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk import Index
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.errors import ClientError, LimitReached, NextKError, TransportError
from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.sessions import Cursor, Limits, Report, RetrievalMode, SearchQuery
from nextk.sessions.digest import digest_of
from nextk.testing import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind, faulty
from nextk.types import FusionAlgorithm, WeightingStrategy
from nextk.until import DistinctBy, MaxResults, Policy, TokenBudget
from tests.support.local_server import LocalServer
from tests.support.searches import (
    COLOURS,
    DRAIN,
    ROWS,
    SHAPES,
    SIZES,
    Bench,
    Shape,
    Some,
    arun,
    drained,
    ids,
    open_async_session,
    open_session,
    run,
    search_of,
)
from tests.support.sentence_index import QUESTION, TEXTS, sentences
from tests.support.subprocesses import output
from tests.support.transports import Awaitable, Recording


def cursor_of(search: Any) -> Cursor:
    """Where a session of either colour stands."""
    cursor: Cursor = (search.inner if isinstance(search, Awaitable) else search).cursor()
    return cursor


async def _nothing(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    return []


async def _one_page(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    return list(await search.fetch_next(4))


async def _some_pages(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    return [row for size in SIZES for row in await search.fetch_next(size)]


async def _rows_wait(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    rows = [*await search.fetch_next(2), *await search.fetch_until(Some(1))]
    assert 3 == len(rows)
    assert search.report.waiting
    return rows


async def _all_have_come(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    """Every row is pulled, and most of them wait."""
    rows = [*await search.fetch_until(TokenBudget(3, count=lambda text: 1 if text.endswith("1") else 100))]
    assert search.report.waiting
    return rows


async def _exhausted(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    rows = list(await search.fetch_next(1_000))
    assert search.exhausted
    return rows


async def _stopped(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    rows = await _some_pages(search, bench, plan)
    await search.stop()
    return rows


async def _stopped_with_rows(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    rows = await _rows_wait(search, bench, plan)
    await search.stop()
    return rows


async def _recovered(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    rows = await _one_page(search, bench, plan)
    plan.inject(Fault.EVICT, RequestKind.NEXT)
    rows += await search.fetch_next(5)
    assert 1 == search.report.recovered
    return rows


async def _failed(search: Any, bench: Bench, plan: FaultPlan) -> list[str]:
    """The last pull came to nothing."""
    rows = await _one_page(search, bench, plan)
    for _ in range(20):
        plan.inject(Fault.DROP_REQUEST)
    with pytest.raises(TransportError):
        await search.fetch_next(DRAIN)
    return rows


Moments = Callable[[Any, Bench, FaultPlan], Any]
MOMENTS: dict[str, Moments] = {
    "before the first pull": _nothing,
    "after one page": _one_page,
    "mid-way": _some_pages,
    "rows wait": _rows_wait,
    "rows are set aside": _all_have_come,
    "exhausted": _exhausted,
    "after stop": _stopped,
    "after stop, rows wait": _stopped_with_rows,
    "after a recovery": _recovered,
    "after a failure": _failed,
}
AT = pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)


@pytest.fixture(params=SHAPES)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An index of each shape in turn; afterwards nothing is open, or only what is parked or lost its start."""
    bench = Bench.build(SHAPES[request.param])
    yield bench
    bench.index.info()  # drops what was let go of
    assert 0 == bench.engine.open_queries()
    bench.index.close()


@pytest.fixture
def dense() -> Iterator[Bench]:
    """A dense index; afterwards nothing is open."""
    bench = Bench.build(SHAPES["dense"])
    yield bench
    bench.index.info()
    assert 0 == bench.engine.open_queries()
    bench.index.close()


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """Either colour of a session."""
    return str(request.param)


async def cursor_at(moment: Moments, bench: Bench, colour: str, **options: Any) -> tuple[list[str], Cursor, Report]:
    """What a search served up to a moment, its cursor there, and its report."""
    plan = FaultPlan(clock=bench.clock, delay=0)
    search = search_of(faulty(bench.index, plan), bench.shape.question, colour, **options)
    served = await moment(search, bench, plan)
    cursor, report = cursor_of(search), search.report
    await search.stop()
    return served, cursor, report


async def rest_at(moment: Moments, bench: Bench, colour: str, sizes: tuple[int, ...] = (DRAIN,)) -> list[str]:
    """What the same search brings after that moment, if nobody interrupts it there."""
    plan = FaultPlan(clock=bench.clock, delay=0)
    search = search_of(faulty(bench.index, plan), bench.shape.question, colour)
    await moment(search, bench, plan)
    if moment in (_stopped, _stopped_with_rows):  # the same without the stop
        search = search_of(faulty(bench.index, plan), bench.shape.question, colour)
        await (_some_pages if moment is _stopped else _rows_wait)(search, bench, plan)
    rows = [row for size in sizes for row in await search.fetch_next(size)]
    return rows + await drained(search)


class TestPlainData:
    """What a cursor is made of."""

    @AT
    async def test_it_survives_the_wire(self, bench: Bench, moment: Moments) -> None:
        """A cursor goes through JSON and msgpack unchanged, and still resumes."""
        served, cursor, _ = await cursor_at(moment, bench, "sync")
        assert cursor == json.loads(json.dumps(cursor, allow_nan=False))
        packed = ormsgpack.unpackb(ormsgpack.packb(cursor))
        assert cursor == packed
        rest = await drained(search_of(bench.index, bench.shape.question, "sync", cursor=packed))
        assert len(served + rest) == len(set(served + rest))

    @AT
    async def test_it_is_nobody_elses_data(self, bench: Bench, moment: Moments) -> None:
        """What is done to a cursor, or to the search that it came from, does not change the other."""
        _, cursor, _ = await cursor_at(moment, bench, "sync")
        before = copy.deepcopy(cursor)
        first = await drained(search_of(bench.index, bench.shape.question, "sync", cursor=cursor))
        assert before == cursor
        search = open_session(bench.index, bench.shape.question, cursor=cursor)
        cursor["pulls"].clear()
        cursor["phases"].clear()
        assert first == await drained(Awaitable(search))

    async def test_it_holds_no_secret(self, local_server: LocalServer) -> None:
        """No uuid, token, URL, filter, namespace or function can be read from it, however it was made."""
        shape = SHAPES["filtered"]
        engine = open_engine(None, shape.schema, name="secrets")
        assert isinstance(engine, EmbeddedEngine)
        local_server.engines["secrets"] = engine
        with Index(local_server.index_url("secrets"), local_server.token) as index:
            index.upsert(shape.records(), "my-namespace")
            question = shape.question.within(namespace="my-namespace")
            cursors: list[Cursor] = []
            search = open_session(index, question)
            search.fetch_next(3)
            uuids = list(engine._open_queries._open)
            cursors.append(search.cursor())
            cursors.append(search.detach())
        assert 1 == len(uuids)
        secrets = [*uuids, local_server.token, local_server.url, "127.0.0.1", "number", "AND", "my-namespace", "lambda"]
        for cursor in cursors:
            assert [] == [secret for secret in (*secrets, " object at ", "<function") if secret in repr(cursor)]
        assert 0 == engine.open_queries()
        del local_server.engines["secrets"]
        engine.close()


class TestAnyMoment:
    """A search that goes on elsewhere is the search that nobody interrupted."""

    @AT
    async def test_the_whole_is_undisturbed(self, bench: Bench, moment: Moments, colour: str) -> None:
        """Taken at any moment, a cursor brings what the search itself would have brought, in every colour."""
        other = COLOURS[COLOURS.index(colour) - 1]
        expected = await rest_at(moment, bench, colour)
        served, cursor, _ = await cursor_at(moment, bench, colour)
        for way in (colour, other):
            search = search_of(bench.index, bench.shape.question, way, cursor=cursor)
            first = await search.fetch_next(DRAIN)
            assert expected == first + await drained(search)
        assert len(served + expected) == len(set(served + expected))
        assert set(ids(bench.index.query(top_k=1_000, **bench.shape.question.parameters()))) == {*served, *expected}

    @pytest.mark.parametrize("place", [1, 2, 4, 6, 8])
    async def test_the_pages_are_the_same(self, bench: Bench, place: int, colour: str) -> None:
        """Interrupted after any page, the pages that follow are those of the undisturbed search."""
        expected = run(open_session(bench.index, bench.shape.question)).pages
        search = search_of(bench.index, bench.shape.question, colour)
        pages = []
        for number in range(place):
            if search.exhausted:
                break
            pages.append(await search.fetch_next(SIZES[number] if number < len(SIZES) else DRAIN))
        cursor = cursor_of(search)
        await search.stop()
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor)
        async with search:
            while not search.exhausted:
                pages.append(await search.fetch_next(SIZES[len(pages)] if len(pages) < len(SIZES) else DRAIN))
        assert expected == pages

    async def test_a_cursor_for_every_page(self, bench: Bench, colour: str) -> None:
        """A search that is interrupted after each of its pages is still the same search, and counts it."""
        expected = run(open_session(bench.index, bench.shape.question))
        cursor: Cursor | None = None
        pages: list[list[str]] = []
        exhausted = False
        while not exhausted:
            search = search_of(bench.index, bench.shape.question, colour, cursor=cursor)
            async with search:
                pages.append(await search.fetch_next(SIZES[len(pages)] if len(pages) < len(SIZES) else DRAIN))
                exhausted, cursor = search.exhausted, json.loads(json.dumps(cursor_of(search)))
        assert expected.pages == pages
        assert (len(pages) - 1, expected.report.pulls) == (search.report.recovered, search.report.pulls)

    @pytest.mark.parametrize("place", [1, 2, 3])
    async def test_in_the_middle_of_a_pull(self, bench: Bench, place: int) -> None:
        """Taken while a task is pulling, a cursor stands where the search stood before that call, and loses no row."""
        expected = run(open_session(bench.index, bench.shape.question)).ids
        plan = FaultPlan(PlannedFault(Fault.DELAY, RequestKind.PAGE, place), clock=bench.clock, delay=60)
        native = open_async_session(faulty(bench.index, plan).to_async(), bench.shape.question)
        served: list[str] = []
        for size in SIZES[: place - 1]:
            served += await native.fetch_next(size)
        pulling = asyncio.create_task(native.fetch_next(SIZES[place - 1]))
        while not plan.injected:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        cursor = native.cursor()
        pulling.cancel()
        await asyncio.gather(pulling, return_exceptions=True)
        await native.stop()
        bench.open_queries_after_idling()  # a lost start
        with open_session(bench.index, bench.shape.question, cursor=cursor) as search:
            for size in (*SIZES[place - 1 :], DRAIN):
                served += search.fetch_next(size)
            served += search.fetch_next(100)
        if bench.shape is SHAPES["hybrid-batch"]:  # the last sizes are others
            assert (set(expected), len(expected)) == (set(served), len(served))
        else:
            assert expected == served

    @AT
    async def test_the_report_goes_on(self, bench: Bench, moment: Moments, colour: str) -> None:
        """A resumed search reports what was done before it, and its own cursor is the one it was made from."""
        _, cursor, report = await cursor_at(moment, bench, colour)
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor)
        assert cursor == cursor_of(search)
        again: Report = search.report
        for name in ("pulls", "pulled", "kept", "dropped", "repeated", "recovered", "changed", "complete", "phases"):
            assert getattr(report, name) == getattr(again, name), name
        await search.stop()

    @AT
    async def test_the_report_of_what_waits(self, dense: Bench, moment: Moments) -> None:
        """A resumed search knows what waits: every row that was pulled is kept, dropped, repeated or waits."""
        _, cursor, report = await cursor_at(moment, dense, "sync")
        again = open_session(dense.index, dense.shape.question, cursor=cursor).report
        assert report.waiting == again.waiting
        assert again.pulled == again.kept + sum(again.dropped.values()) + again.repeated + again.waiting

    async def test_recoveries_are_counted(self, dense: Bench, colour: str) -> None:
        """Resuming where rows had come counts as one recovery, and where none had as none."""
        for moment, expected in ((_nothing, 0), (_one_page, 1), (_recovered, 2)):
            _, cursor, _ = await cursor_at(moment, dense, colour)
            search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
            await search.fetch_next(1)
            assert expected == search.report.recovered
            await search.stop()

    @pytest.mark.parametrize("moment", [_one_page, _rows_wait])
    @pytest.mark.parametrize(
        "policy",
        [MaxResults(6), MaxResults(14), Some(1), Some(12), DistinctBy(lambda row: row[-1], 4)],
        ids=["6", "14", "some 1", "some 12", "distinct"],
    )
    async def test_policies_go_on(self, bench: Bench, moment: Moments, policy: Policy, colour: str) -> None:
        """A call with a policy keeps the same rows whether or not the search was interrupted before it."""
        search = search_of(bench.index, bench.shape.question, colour)
        await moment(search, bench, FaultPlan())
        cursor = cursor_of(search)
        expected = [await search.fetch_until(policy), await search.fetch_until(policy), await search.fetch_next(3)]
        await search.stop()
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor)
        assert expected == [
            await search.fetch_until(policy),
            await search.fetch_until(policy),
            await search.fetch_next(3),
        ]
        await search.stop()

    @pytest.mark.parametrize("detached", [False, True])
    async def test_guards_go_on(self, dense: Bench, colour: str, *, detached: bool) -> None:
        """A guard of pulls counts no replay: a call that waits for a bound ends at the same row."""
        guards = Limits(max_pulls=1)
        search = search_of(dense.index, dense.shape.question, colour, guards=guards)
        await search.fetch_until(Some(1))
        cursor = cursor_of(search)
        expected = await search.fetch_until(Some(100))
        assert (19, "max_pulls") == (len(expected), search.report.stop_reason)
        await search.stop()
        if detached:
            search = search_of(dense.index, dense.shape.question, colour, guards=guards)
            await search.fetch_until(Some(1))
            assert cursor == await search.detach()
        search = search_of(dense.index, dense.shape.question, colour, guards=guards, cursor=cursor)
        assert (expected, "max_pulls") == (await search.fetch_until(Some(100)), search.report.stop_reason)
        await search.stop()

    async def test_rows_that_wait_cost_no_pull(self, bench: Bench, colour: str) -> None:
        """Where a bound of the search is reached, rows that waited are still handed out after a resume."""
        search = search_of(bench.index, bench.shape.question, colour)
        await _rows_wait(search, bench, FaultPlan())
        cursor = cursor_of(search)
        expected = await search.fetch_next(4)
        await search.stop()
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor, limits=Limits(max_pulls=2))
        async with search:
            assert expected == await search.fetch_next(4)

    async def test_limits_go_on(self, bench: Bench, colour: str) -> None:
        """Rows and pages of before count for the bounds of a search as a whole."""
        search = search_of(bench.index, bench.shape.question, colour)
        await search.fetch_next(4)
        cursor = cursor_of(search)
        expected = await search.fetch_next(2)
        await search.stop()
        for limits in (Limits(max_results=6), Limits(max_pulls=2)):
            search = search_of(bench.index, bench.shape.question, colour, cursor=cursor, limits=limits)
            assert expected == await search.fetch_next(2)
            with pytest.raises(LimitReached, match=search.report.stop_reason or "max_"):
                await search.fetch_next(1)
            await search.stop()

    async def test_a_policy_remembers(self, bench: Bench, colour: str) -> None:
        """What a search's own policy remembers is in the cursor: no key is counted anew."""
        policy = DistinctBy(lambda row: row[-1], 4)
        search = search_of(bench.index, bench.shape.question, colour, until=policy)
        served = await search.fetch_until()
        cursor = json.loads(json.dumps(cursor_of(search)))
        expected = await search.fetch_next(100)
        await search.stop()
        search = search_of(bench.index, bench.shape.question, colour, until=policy, cursor=cursor)
        assert expected == await search.fetch_next(100)
        assert len(served + expected) == len({row[-1] for row in served + expected})
        await search.stop()


GO_ON = """
import json, sys
from nextk import Index
from tests.support.searches import DRAIN, SHAPES, open_session
url, token, name, cursor = sys.argv[1:]
with Index(url, token) as index:
    with open_session(index, SHAPES[name].question, cursor=json.loads(cursor)) as search:
        rows = search.fetch_next(DRAIN)
        while page := search.fetch_next(DRAIN):
            rows += page
    print(json.dumps(rows))
"""

PARK = """
import sys
from nextk import Index
from tests.support.searches import SHAPES, open_session
url, token, name, keep = sys.argv[1:]
index = Index(url, token)
search = open_session(index, SHAPES[name].question)
search.fetch_next(3)
search.detach()
if keep != "kept":
    del search, index
print("parked")
"""


class TestElsewhere:
    """In another process, and after the index was closed."""

    @pytest.fixture
    def away(self, local_server: LocalServer) -> Iterator[tuple[EmbeddedEngine, Shape, tuple[str, str]]]:
        """A served index: its engine, its shape, its address."""
        shape = SHAPES["hybrid-batch"]
        engine = open_engine(None, shape.schema, name="away")
        assert isinstance(engine, EmbeddedEngine)
        local_server.engines["away"] = engine
        address = local_server.index_url("away"), local_server.token
        with Index(*address) as index:
            index.upsert(shape.records())
        yield engine, shape, address
        assert 0 == engine.open_queries()
        del local_server.engines["away"]
        engine.close()

    async def test_another_process(self, away: tuple[EmbeddedEngine, Shape, tuple[str, str]]) -> None:
        """A cursor goes on in another process over HTTP, rows that wait included."""
        engine, shape, address = away
        with Index(*address) as index:
            search = Awaitable(open_session(index, shape.question))
            await _rows_wait(search, Bench(shape, index, engine, ManualClock()), FaultPlan())
            cursor = cursor_of(search)
            expected = await drained(search)
            assert expected == json.loads(output(GO_ON, *address, "hybrid-batch", json.dumps(cursor)))
        assert 0 == engine.open_queries()

    @pytest.mark.parametrize("index", ["kept", "dropped"])
    def test_the_end_of_a_process(self, away: tuple[EmbeddedEngine, Shape, tuple[str, str]], index: str) -> None:
        """What a process has parked is stopped when it ends, whether or not it still holds the index."""
        engine, _, address = away
        assert "parked" == output(PARK, *address, "hybrid-batch", index)
        left = engine.open_queries()
        engine._open_queries._open.clear()
        assert 0 == left

    @pytest.mark.parametrize("moment", [_nothing, _some_pages, _rows_wait, _exhausted])
    @pytest.mark.parametrize("name", SHAPES)
    async def test_a_reopened_file(self, tmp_path: Path, name: str, moment: Moments) -> None:
        """A cursor goes on after the file of its index was closed and opened again."""
        shape, path = SHAPES[name], tmp_path / "index"
        with Index.embedded(path, **shape.schema) as index:
            index.upsert(shape.records())
            search = Awaitable(open_session(index, shape.question))
            await moment(search, Bench.build(shape), FaultPlan())
            cursor = cursor_of(search)
            expected = await drained(search)
        with Index.embedded(path) as index:
            assert expected == await drained(search_of(index, shape.question, "sync", cursor=cursor))

    async def test_it_is_parked_in_the_file_before(self, tmp_path: Path) -> None:
        """A detached search of an index that was closed is replayed from the one that was opened after it."""
        shape, path = SHAPES["hybrid"], tmp_path / "index"
        with Index.embedded(path, **shape.schema) as index:
            index.upsert(shape.records())
            expected = run(open_session(index, shape.question)).ids
            search = open_session(index, shape.question)
            served, cursor = search.fetch_next(4), search.detach()
        with Index.embedded(path) as index, open_session(index, shape.question, cursor=cursor) as search:
            assert (expected, 1) == (served + search.fetch_next(100), search.report.recovered)


class TestAgain:
    """One cursor, several searches."""

    @AT
    async def test_twice(self, bench: Bench, moment: Moments, colour: str) -> None:
        """Every resume of one cursor brings the same next page, also when the first one has gone on."""
        _, cursor, _ = await cursor_at(moment, bench, colour)
        pages = []
        searches = []
        for _ in range(3):
            searches.append(search_of(bench.index, bench.shape.question, colour, cursor=cursor))
            pages.append([*await searches[-1].fetch_next(3), *await searches[-1].fetch_next(2)])
        assert pages[0] == pages[1] == pages[2]
        for search in searches:
            await search.stop()

    @pytest.mark.parametrize("detached", [False, True])
    def test_in_parallel(self, bench: Bench, *, detached: bool) -> None:
        """Threads that resume one cursor at once each get the same next page; only one takes the parked query."""
        search = open_session(bench.index, bench.shape.question)
        search.fetch_next(4)
        cursor = search.cursor()
        expected = search.fetch_next(5)
        search.stop()
        if detached:
            search = open_session(bench.index, bench.shape.question)
            search.fetch_next(4)
            assert cursor == search.detach()
        barrier = threading.Barrier(6)
        outcomes: list[tuple[list[str], int]] = []

        def resume() -> None:
            with open_session(bench.index, bench.shape.question, cursor=cursor) as search:
                barrier.wait()
                outcomes.append((search.fetch_next(5), search.report.recovered))

        threads = [threading.Thread(target=resume) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [expected] * 6 == [rows for rows, _ in outcomes]
        assert 6 - detached == sum(recovered for _, recovered in outcomes)


class TestDetached:
    """A search that is left open for whoever takes it up."""

    @pytest.mark.parametrize("moment", [_one_page, _some_pages, _rows_wait, _all_have_come, _recovered])
    async def test_it_is_claimed_once(self, bench: Bench, moment: Moments, colour: str) -> None:
        """The first one to resume saves the replay, the second one replays, and both get the same rows."""
        expected = await rest_at(moment, bench, colour)
        plan = FaultPlan(clock=bench.clock, delay=0)
        index = faulty(bench.index, plan)
        search = search_of(index, bench.shape.question, colour)
        await moment(search, bench, plan)
        before = search.report.recovered
        over = not bench.engine.open_queries()
        cursor = json.loads(json.dumps(await search.detach()))
        with pytest.raises(ClientError, match="open a new one"):
            await search.fetch_next(1)
        assert int(not over) == bench.engine.open_queries()
        starts = plan.count(RequestKind.START)
        for more in (int(over), 1):
            search = search_of(index, bench.shape.question, COLOURS[COLOURS.index(colour) - 1], cursor=cursor)
            first = await search.fetch_next(DRAIN)
            assert (before + more, starts + more) == (search.report.recovered, plan.count(RequestKind.START))
            starts += more
            assert expected == first + await drained(search)

    @pytest.mark.parametrize("moment", [_nothing, _exhausted])
    async def test_nothing_to_park(self, bench: Bench, moment: Moments, colour: str) -> None:
        """Detaching a search that has no query open returns a good cursor, and leaves nothing open."""
        expected = await rest_at(moment, bench, colour)
        search = search_of(bench.index, bench.shape.question, colour)
        await moment(search, bench, FaultPlan())
        cursor = await search.detach()
        assert 0 == bench.engine.open_queries()
        assert expected == await drained(search_of(bench.index, bench.shape.question, colour, cursor=cursor))

    async def test_twice_at_one_place(self, dense: Bench, colour: str) -> None:
        """Of two searches that are detached at the same place one is kept, and both cursors go on."""
        expected = run(open_session(dense.index, dense.shape.question)).ids
        cursors = []
        for _ in range(2):
            search = search_of(dense.index, dense.shape.question, colour)
            await search.fetch_next(4)
            cursors.append(await search.detach())
        dense.index.info()
        assert 1 == dense.engine.open_queries()
        for cursor in cursors:
            search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
            assert expected[4:] == await drained(search)

    async def test_it_is_handed_on(self, dense: Bench, colour: str) -> None:
        """A search that is detached and taken up again and again never has to be asked anew."""
        expected = run(open_session(dense.index, dense.shape.question)).ids
        cursor: Cursor | None = None
        served: list[str] = []
        for size in SIZES:
            search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
            served += await search.fetch_next(size)
            assert 0 == search.report.recovered
            cursor = await search.detach()
        search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
        assert expected == served + await drained(search)
        assert 0 == search.report.recovered

    async def test_a_resumed_search_is_detached_unpulled(self, dense: Bench, colour: str) -> None:
        """Who resumes and detaches without a pull has the same cursor, and the parked query is still there for it."""
        search = search_of(dense.index, dense.shape.question, colour)
        await search.fetch_next(4)
        cursor = await search.detach()
        assert cursor == await search_of(dense.index, dense.shape.question, colour, cursor=cursor).detach()
        search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
        await search.fetch_next(4)
        assert 0 == search.report.recovered
        await search.stop()

    async def test_it_costs_nothing(self, dense: Bench, colour: str) -> None:
        """Taking up what is parked pulls nothing again, so no `max_recovery` is too small for it."""
        expected = run(open_session(dense.index, dense.shape.question)).ids
        search = search_of(dense.index, dense.shape.question, colour)
        served = [*await search.fetch_next(4), *await search.fetch_until(Some(2))]
        cursor = await search.detach()
        search = search_of(dense.index, dense.shape.question, colour, cursor=cursor, max_recovery=0)
        assert expected == served + await drained(search)

    async def test_expired(self, bench: Bench, colour: str) -> None:
        """A parked query that the index has dropped is recovered."""
        expected = run(open_session(bench.index, bench.shape.question))
        search = search_of(bench.index, bench.shape.question, colour)
        served = [row for size in SIZES for row in await search.fetch_next(size)]
        cursor = await search.detach()
        bench.clock.pass_max_idle()
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor)
        assert expected.ids == served + await drained(search)
        assert 1 == search.report.recovered

    async def test_closing_the_index(self, tmp_path: Path, colour: str) -> None:
        """Closing an index stops what is parked on it."""
        shape, path = SHAPES["dense"], tmp_path / "index"
        with Index.embedded(path, **shape.schema) as other:
            engine: Any = other._transport._shared_engine.engine  # type: ignore[attr-defined]
            other.upsert(shape.records())
            for _ in range(2):  # closing twice does no harm
                index = Index.embedded(path)
                search = search_of(index, shape.question, colour)
                await search.fetch_next(3)
                await search.detach()
                assert 1 == engine.open_queries()
                index.close()
                index.close()
                assert 0 == engine.open_queries()

    async def test_it_belongs_to_its_index(self, tmp_path: Path) -> None:
        """Another client of the same index replays: a parked query is its own client's."""
        shape, path = SHAPES["dense"], tmp_path / "index"
        with Index.embedded(path, **shape.schema) as one, Index.embedded(path) as two:
            one.upsert(shape.records())
            search = open_session(one, shape.question)
            search.fetch_next(3)
            cursor = search.detach()
            with open_session(two, shape.question, cursor=cursor) as search:
                search.fetch_next(1)
                assert 1 == search.report.recovered


class TestCost:
    """What a resume may cost."""

    async def test_max_recovery(self, bench: Bench, colour: str) -> None:
        """A replay beyond `max_recovery` rows is refused, a larger bound does, and the refused search loses nothing."""
        expected = run(open_session(bench.index, bench.shape.question)).ids
        search = search_of(bench.index, bench.shape.question, colour)
        served = [row for size in SIZES for row in await search.fetch_next(size)]
        cursor = cursor_of(search)
        await search.stop()
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor, max_recovery=len(served) - 1)
        for _ in range(2):
            with pytest.raises(LimitReached, match="max_recovery"):
                await search.fetch_next(1)
        assert cursor == cursor_of(search)
        await search.stop()
        search = search_of(bench.index, bench.shape.question, colour, cursor=cursor, max_recovery=len(served))
        assert expected == served + await drained(search)

    @pytest.mark.parametrize("pulls", [[[1, []]] * 1_400, [[1_000, []]] * 2, [[999, ["r1"]], [2, []]]])
    async def test_pulls_without_ids(self, dense: Bench, colour: str, pulls: list[Any]) -> None:
        """A cursor whose pulls brought few ids costs what they requested, so it is refused before a request is sent."""
        cursor = open_session(dense.index, dense.shape.question).cursor()
        cursor["pulls"] = pulls
        del cursor["digest"]
        cursor["digest"] = digest_of(cursor)
        transport = Recording(dense.index._transport)
        async with search_of(Index._over(transport), dense.shape.question, colour, cursor=cursor) as search:
            with pytest.raises(LimitReached, match=f"by {len(pulls)} pulls, .* max_recovery=1000"):
                await search.fetch_next(1)
        assert [] == transport.sent

    @pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
    def test_in_an_adapter(self, texts: Index, adapter: Any) -> None:
        """A retriever with a larger `max_recovery` resumes what one with a smaller refuses."""
        with adapter(index=texts, embedding=True).open(QUESTION) as search:
            search.fetch_next(20)
            cursor = search.cursor()
            expected = search.fetch_next(5)
        search = adapter(index=texts, embedding=True, max_recovery=19).resume(cursor)
        with search, pytest.raises(LimitReached, match="max_recovery"):
            search.fetch_next(5)
        with adapter(index=texts, embedding=True, max_recovery=20).resume(cursor) as search:
            assert expected == search.fetch_next(5)


@pytest.fixture(scope="module")
def texts() -> Iterator[Index]:
    """An index of sentences that embeds its text."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture(scope="module")
def rich() -> tuple[Bench, Cursor]:
    """A cursor with something in each of its fields, and its index."""
    bench = Bench.build(SHAPES["hybrid"])
    search = open_session(
        bench.index, bench.shape.question, texts=["why?", "wherefore?"], until=DistinctBy(lambda row: row[-1], 3)
    )
    search.fetch_next(2)
    search.widen(filter="number < 25")
    search.fetch_until()
    search.fetch_until(Some(1))
    cursor = search.cursor()
    search.stop()
    return bench, cursor


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of plain data, containers included."""
    yield place
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*place, key))


def part_at(value: Any, place: tuple[Any, ...]) -> Any:
    """What stands at a place."""
    for key in place:
        value = value[key]
    return value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@st.composite
def edits(draw: st.DrawFn, cursor: Cursor) -> Cursor:
    """A cursor of which one part was replaced, left out or added."""
    edited = copy.deepcopy(cursor)
    place = draw(st.sampled_from([place for place in places(cursor) if place]))
    holder, key = part_at(edited, place[:-1]), place[-1]
    kind = draw(st.sampled_from(["replace", "leave out", "add"]))
    if kind == "leave out":
        del holder[key]
    elif kind == "replace":
        old = json.dumps(holder[key], sort_keys=True)
        holder[key] = draw(JSON.filter(lambda new: json.dumps(new, sort_keys=True) != old))
    elif isinstance(holder, dict):
        holder[draw(st.text(max_size=6).filter(lambda name: name not in holder))] = draw(JSON)
    else:
        holder.insert(key, draw(JSON))
    return edited


NOT_CURSORS = [None, "", "{}", 1, [], b"{}", {}, {"version": 1}, {"digest": "x"}, [("version", 1)], {1: 2}]


class TestRefused:
    """What is no cursor, or not for this search."""

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_any_edit(self, rich: tuple[Bench, Cursor], data: st.DataObject) -> None:
        """A cursor that differs anywhere from what `cursor()` returned is refused before anything is sent."""
        bench, cursor = rich
        edited = data.draw(edits(cursor))
        with pytest.raises(ClientError, match="cursor"):
            open_session(bench.index, bench.shape.question.within(filter="number < 25"), cursor=edited)

    @pytest.mark.parametrize("version", [0, 2, 4, 6, None, True, "1", 1.5, -1, [1], {}, 10**30])
    @pytest.mark.parametrize("honest", [False, True], ids=["digest left", "digest renewed"])
    def test_another_version(self, dense: Bench, version: Any, *, honest: bool) -> None:
        """A cursor of another version is refused, and the message says which one it is."""
        cursor = open_session(dense.index, dense.shape.question).cursor()
        cursor["version"] = version
        if honest:
            del cursor["digest"]
            cursor["digest"] = digest_of(cursor)
        with pytest.raises(ClientError, match="version"):
            open_session(dense.index, dense.shape.question, cursor=cursor)

    @pytest.mark.parametrize("given", NOT_CURSORS, ids=repr)
    def test_no_cursor(self, dense: Bench, given: Any) -> None:
        """Whatever else is given is refused; but `None`, which a session takes for no cursor at all."""
        if given is None:
            open_session(dense.index, dense.shape.question, cursor=given)
            return
        with pytest.raises(ClientError, match="cursor"):
            open_session(dense.index, dense.shape.question, cursor=given)

    @pytest.mark.parametrize("given", NOT_CURSORS, ids=repr)
    @pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
    @pytest.mark.parametrize("method", ["resume", "aresume"])
    def test_no_cursor_of_a_retriever(self, texts: Index, adapter: Any, method: str, given: Any) -> None:
        """A retriever refuses what is no cursor, in both colours."""
        with pytest.raises(ClientError, match="cursor"):
            getattr(adapter(index=texts, embedding=True), method)(given)

    def test_json_text(self, dense: Bench) -> None:
        """The JSON text of a cursor, whole or cut short, is not the cursor; read back it is."""
        cursor = open_session(dense.index, dense.shape.question).cursor()
        text = json.dumps(cursor)
        for wrong in (text, text[:-1], text.encode()):
            with pytest.raises(ClientError, match="is the dict that"):
                open_session(dense.index, dense.shape.question, cursor=wrong)
        open_session(dense.index, dense.shape.question, cursor=json.loads(text))

    @pytest.mark.parametrize("method", ["resume", "aresume"])
    @pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
    def test_another_view_through_a_retriever(self, texts: Index, adapter: Any, method: str) -> None:
        """A retriever refuses cursors of another index, filter, namespace, fusion or weighting, and edited ones."""
        retriever = adapter(index=texts, embedding=True, filter="place < 50", weighting="idf")
        cursor = retriever.open(QUESTION).cursor()
        getattr(retriever, method)(cursor)
        bare = adapter(index=texts, embedding=True, weighting="idf")
        getattr(bare, method)(cursor, filter="place < 50")
        refusals: list[Callable[[], Any]] = [
            lambda: getattr(retriever, method)(cursor, filter=""),
            lambda: getattr(retriever, method)(cursor, filter="place < 51"),
            lambda: getattr(retriever, method)(cursor, namespace="other"),
            lambda: getattr(bare, method)(cursor),
            lambda: getattr(adapter(index=texts, embedding=True, filter="place < 50", weighting="none"), method)(
                cursor
            ),
            lambda: getattr(
                adapter(index=texts, embedding=True, filter="place < 50", weighting="idf", fusion="dbsf"), method
            )(cursor),
            lambda: getattr(retriever, method)({**cursor, "recovered": 1}),
            lambda: getattr(retriever, method)({key: cursor[key] for key in cursor if key != "phases"}),
        ]
        for refused in refusals:
            with pytest.raises(ClientError, match="cursor"):
                refused()
        with sentences(TEXTS) as twin, pytest.raises(ClientError, match="another index"):
            getattr(adapter(index=twin, embedding=True, filter="place < 50", weighting="idf"), method)(cursor)

    @pytest.mark.parametrize("colour", COLOURS)
    async def test_another_index(self, dense: Bench, colour: str) -> None:
        """A cursor is of one index, also if another one holds the same."""
        twin = Bench.build(dense.shape)
        _, cursor, _ = await cursor_at(_one_page, dense, colour)
        with pytest.raises(ClientError, match="another index"):
            search_of(twin.index, dense.shape.question, colour, cursor=cursor)
        twin.index.close()

    @pytest.mark.parametrize(
        "change",
        [
            {"filter": "number < 29"},
            {"filter": "number >= 2 AND number < 28 "},
            {"namespace": "other"},
            {"fusion": FusionAlgorithm.DBSF},
            {"weighting": WeightingStrategy.IDF},
        ],
        ids=lambda change: next(iter(change)),
    )
    @pytest.mark.parametrize("colour", COLOURS)
    async def test_another_view(self, dense: Bench, change: dict[str, Any], colour: str) -> None:
        """A cursor is of one view of its index: namespace, filter, fusion and weighting."""
        question: SearchQuery = SHAPES["filtered"].question
        search = search_of(dense.index, question, colour)
        await search.fetch_next(3)
        cursor = cursor_of(search)
        await search.stop()
        fields = {name: getattr(question, name) for name in SearchQuery.__dataclass_fields__}
        with pytest.raises(ClientError, match=f"made with another {next(iter(change))}"):
            search_of(dense.index, SearchQuery(**{**fields, **change}), colour, cursor=cursor)

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_a_forged_cursor_shows_nothing_more(self, rich: tuple[Bench, Cursor], data: st.DataObject) -> None:
        """Who edits a cursor and renews its digest gets an error of ours, or rows of the retriever's own view."""
        bench, cursor = rich
        bench.index.upsert([bench.shape.record(99)], "other")
        forged = data.draw(edits(cursor))
        forged.pop("digest", None)
        forged["digest"] = digest_of(forged)
        question = bench.shape.question.within(filter="number < 25")
        try:
            with open_session(bench.index, question, cursor=forged) as search:
                rows = search.fetch_next(50)
        except NextKError:
            rows = []
        assert set(rows) <= {f"r{number}" for number in range(25)}
        bench.index.info()
        assert 0 == bench.engine.open_queries()

    @pytest.mark.parametrize(
        "forge",
        [
            lambda cursor: cursor["phases"][-1].update(mode="bogus"),
            lambda cursor: cursor["phases"][0].update(mode=""),
            lambda cursor: cursor["phases"][-1].update(kept=-1),
            lambda cursor: cursor.update(pulls=[[0, []]]),
            lambda cursor: cursor.update(pulls=[[10**20, ["r1"]]]),
            lambda cursor: cursor.update(pulls=[[2, []], [3, ["r1"]]]),
            lambda cursor: cursor.update(vector=[]),
            lambda cursor: cursor.update(vector=[1e308] * 4),
            lambda cursor: cursor.update(sparse=[[1], []]),
            lambda cursor: cursor.update(vector=None, sparse=None, data=None),
            lambda cursor: cursor.update(data="\ud800"),
            lambda cursor: cursor.update(waiting=["nobody"]),
            lambda cursor: cursor.update(policies=[{"a": {}}] * 5),
        ],
        ids=range(13),
    )
    def test_a_forged_field(self, rich: tuple[Bench, Cursor], forge: Callable[[Cursor], None]) -> None:
        """A forged field that makes no sense is an error of ours, not one of Python's, or does no harm."""
        bench, cursor = rich
        forged = copy.deepcopy(cursor)
        forge(forged)
        del forged["digest"]
        forged["digest"] = digest_of(forged)
        question = bench.shape.question.within(filter="number < 25")
        with contextlib.suppress(NextKError), open_session(bench.index, question, cursor=forged) as search:
            rows = search.fetch_next(50)
            assert len(rows) == len(set(rows))

    def test_a_forged_scope(self, dense: Bench) -> None:
        """A fingerprint of a wider view in the cursor does not widen the view: it only fits a retriever that has it."""
        narrow, wide = dense.shape.question.within(filter="number < 5"), dense.shape.question
        cursor, wider = (open_session(dense.index, question).cursor() for question in (narrow, wide))
        cursor["scope"] = wider["scope"]
        del cursor["digest"]
        cursor["digest"] = digest_of(cursor)
        with pytest.raises(ClientError, match="filter"):
            open_session(dense.index, narrow, cursor=cursor)

    @pytest.mark.parametrize("mode", [RetrievalMode.SPARSE, RetrievalMode.DENSE])
    def test_the_mode_is_the_cursors(self, mode: RetrievalMode) -> None:
        """The mode is no part of the view: a search that was widened goes on in the mode it was widened to."""
        bench = Bench.build(SHAPES["hybrid"])
        search = open_session(bench.index, bench.shape.question)
        served = search.fetch_next(3)
        search.widen(retrieval_mode=mode)
        cursor = search.cursor()
        expected = search.fetch_next(100)
        search.stop()
        with open_session(bench.index, bench.shape.question, cursor=cursor) as search:
            assert expected == search.fetch_next(100)
            assert mode is search.report.phases[-1].retrieval_mode
        assert not set(served) & set(expected)
        bench.index.close()


class TestFaults:
    """Things go wrong while a search is taken up again."""

    @pytest.mark.parametrize("fault", Fault)
    async def test_at_every_page(self, bench: Bench, fault: Fault, colour: str) -> None:
        """Any fault at any page of the replay, or after it, changes nothing."""
        _, cursor, _ = await cursor_at(_some_pages, bench, colour)
        quiet = FaultPlan(clock=bench.clock)
        expected = await drained(search_of(faulty(bench.index, quiet), bench.shape.question, colour, cursor=cursor))
        for place in range(1, quiet.count(RequestKind.PAGE) + 1):
            plan = FaultPlan(PlannedFault(fault, RequestKind.PAGE, place), clock=bench.clock, delay=0)
            index = faulty(bench.index, plan)
            search = search_of(index, bench.shape.question, colour, cursor=cursor)
            assert expected == await drained(search), place
            assert [fault] == [strike.fault for strike in plan.injected]
            assert not search.report.changed
            assert plan.open == plan.lost
        bench.open_queries_after_idling()  # lost starts

    @pytest.mark.parametrize("fault", Fault)
    async def test_with_rows_that_wait(self, bench: Bench, fault: Fault, colour: str) -> None:
        """Rows that waited are served as well, whatever goes wrong."""
        _, cursor, _ = await cursor_at(_rows_wait, bench, colour)
        expected = await drained(search_of(bench.index, bench.shape.question, colour, cursor=cursor))
        for place in range(1, 5):
            plan = FaultPlan(PlannedFault(fault, RequestKind.PAGE, place), clock=bench.clock, delay=0)
            search = search_of(faulty(bench.index, plan), bench.shape.question, colour, cursor=cursor)
            assert expected == await drained(search), place
        bench.open_queries_after_idling()

    async def test_a_parked_query_goes_wrong(self, bench: Bench, colour: str) -> None:
        """Any fault at the first pull from a parked query, rows waiting or not, changes nothing."""
        for moment in (_some_pages, _rows_wait):
            expected = await rest_at(moment, bench, colour)
            for fault in Fault:
                plan = FaultPlan(clock=bench.clock, delay=0)
                index = faulty(bench.index, plan)
                search = search_of(index, bench.shape.question, colour)
                await moment(search, bench, plan)
                cursor = await search.detach()
                plan.inject(fault)
                search = search_of(index, bench.shape.question, colour, cursor=cursor)
                assert expected == await drained(search), fault

    @pytest.mark.parametrize("widened", [False, True])
    async def test_after_a_recovery_that_found_other_rows(self, dense: Bench, colour: str, *, widened: bool) -> None:
        """What was served before a recovery that brought other rows is not served again after a resume."""
        question = dense.shape.question.within(filter="number < 100")
        search = search_of(dense.index, question, colour)
        served = [*await search.fetch_next(1), *await search.fetch_next(3)]
        dense.clock.pass_max_idle()
        dense.index.upsert([replace(dense.shape.record(0), vector=[0.5, -0.2, 0.8, 0.1])])  # now the best one
        served += await search.fetch_next(1)
        assert ("r0", True) == (served[-1], search.report.changed)
        if widened:
            await search.widen(filter="")
            question = dense.shape.question
        cursor = cursor_of(search)
        await search.stop()
        served += await drained(search_of(dense.index, question, colour, cursor=cursor))
        assert (ROWS, ROWS) == (len(served), len(set(served)))

    @pytest.mark.parametrize("name", SHAPES)
    @settings(max_examples=15, deadline=None)
    @given(
        writes=st.lists(st.tuples(st.booleans(), st.integers(0, ROWS + 9)), max_size=6),
        pulls=st.lists(st.integers(1, 8), max_size=4),
        waiting=st.booleans(),
        detached=st.booleans(),
    )
    def test_writes_in_between(
        self, name: str, writes: list[tuple[bool, int]], pulls: list[int], *, waiting: bool, detached: bool
    ) -> None:
        """With writes before a resume no id comes twice, and every id that was there throughout is served."""
        bench = Bench.build(SHAPES[name])
        expected = set(ids(bench.index.query(top_k=1_000, **bench.shape.question.parameters())))
        search = open_session(bench.index, bench.shape.question)
        served = [row for size in pulls for row in search.fetch_next(size)]
        if waiting:
            served += search.fetch_until(Some(1))
        cursor = search.detach() if detached else search.cursor()
        search.stop()
        for upsert, number in writes:
            if upsert:
                bench.index.upsert([bench.shape.record(number, seed=1)])
            else:
                bench.index.delete(f"r{number}")
        with open_session(bench.index, bench.shape.question, cursor=cursor) as search:
            served += search.fetch_next(DRAIN)
            while page := search.fetch_next(DRAIN):
                served += page
        assert len(served) == len(set(served)) == search.report.kept
        assert expected - {f"r{number}" for _, number in writes} <= set(served)
        assert 0 == bench.engine.open_queries()
        bench.index.close()


@pytest.mark.parametrize("method", ["resume", "aresume"])
@pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
def test_an_adapter_checks_a_cursor_once(adapter: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor that a retriever resumes is read and hashed once, not by the retriever and by the session."""
    with sentences() as index:
        retriever = adapter(index=index, embedding=True)
        with retriever.open(QUESTION) as search:
            search.fetch_next(3)
            cursor = search.cursor()
        digests: list[str] = []

        def counted(fields: Mapping[str, Any], key: str | None = None) -> str:
            digests.append(digest_of(fields, key))
            return digests[-1]

        monkeypatch.setattr("nextk.sessions.cursor.digest_of", counted)
        getattr(retriever, method)(cursor)
        assert [cursor["digest"]] == digests


async def test_both_colours_write_the_same_cursor(bench: Bench) -> None:
    """Blocking and asynchronous searches at the same place have equal cursors."""
    blocking, native = (
        open_session(bench.index, bench.shape.question),
        open_async_session(bench.index.to_async(), bench.shape.question),
    )
    for size in SIZES:
        assert blocking.fetch_next(size) == await native.fetch_next(size)
        assert blocking.cursor() == native.cursor()
    blocking.stop()
    await native.stop()
    assert (await arun(native_of(bench, blocking.cursor()))).ids == run(resumed(bench, native.cursor())).ids


def native_of(bench: Bench, cursor: Mapping[str, Any]) -> Any:
    """The asynchronous search of a cursor."""
    return open_async_session(bench.index.to_async(), bench.shape.question, cursor=cursor)


def resumed(bench: Bench, cursor: Mapping[str, Any]) -> Any:
    """The blocking search of a cursor."""
    return open_session(bench.index, bench.shape.question, cursor=cursor)
