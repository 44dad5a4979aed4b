"""Hazards: cases in which a search could lose a match, show a denied one, or report what is not so."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import nextk.until
from nextk import Index, Vector
from nextk.errors import ClientError, LimitReached, NextKError
from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.operations import Operation, Page
from nextk.sessions import AsyncRetrievalSession, Cursor, Limits, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.sessions.digest import digest_of
from nextk.sessions.evaluation import MAX_EMPTY_PULLS
from nextk.sessions.pool import MAX_OPEN, pool_of
from nextk.until import (
    Accepted,
    BatchCheck,
    BatchObserver,
    Candidate,
    DistinctBy,
    MaxResults,
    Policy,
    PolicyState,
    RelativeScore,
    ScoreGap,
    TokenBudget,
)
from nextk.until.counting import read_verdicts
from tests.support import searches
from tests.support.searches import COLOURS, ROWS, SHAPES, Bench, drained, ids, open_session
from tests.support.sentence_index import QUESTION, sentences
from tests.support.transports import Awaitable, Recording

DENSE = SHAPES["dense"].question


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """Either colour of a session."""
    return str(request.param)


@pytest.fixture
def dense() -> Iterator[Bench]:
    """A dense index; afterwards nothing is open, and every slot is back."""
    yield from benched()


@pytest.fixture
def crowded() -> Iterator[Bench]:
    """One of 400 rows, on a server with room for one query, which somebody else has."""
    for bench in benched(400, max_open_queries=1):
        _, other = bench.index.resumable_query(top_k=1, **DENSE.parameters())
        yield bench
        with suppress(NextKError):
            other.stop()


def benched(rows: int = ROWS, **options: Any) -> Iterator[Bench]:
    """An index of so many rows; at the end nothing may be open on it."""
    bench = Bench.build(SHAPES["dense"], **options)
    if rows > ROWS:
        bench.index.upsert([bench.shape.record(number) for number in range(rows)])
    yield bench
    bench.index.info()  # drops what was let go of
    assert (0, MAX_OPEN) == (bench.engine.open_queries(), free_slots(bench))
    bench.index.close()


@pytest.fixture
def full(dense: Bench) -> list[str]:
    """Every id, best first."""
    return order(dense)


def order(bench: Bench, **options: Any) -> list[str]:
    """The ids that a question finds, best first."""
    return ids(bench.index.query(top_k=1_000, **replace(DENSE, **options).parameters()))


def free_slots(bench: Bench) -> int:
    """How many searches may still be opened."""
    pool = pool_of(bench.index._transport)
    pool._process_returned()
    return pool._free


def search_of(index: Index, colour: str, question: SearchQuery = DENSE, **options: Any) -> Any:
    """The same, of the usual question."""
    return searches.search_of(index, question, colour, **options)


def reading_of(index: Index, colour: str, reading: RowReader[Any], **options: Any) -> Any:
    """The same with another reading."""
    if colour == "async":
        return AsyncRetrievalSession(index.to_async(), DENSE, reading, **options)
    return Awaitable(RetrievalSession(index, DENSE, reading, **options))


def cursor_of(search: Any) -> Cursor:
    """Where a session of either colour stands, as it comes back from JSON."""
    cursor: Cursor = json.loads(json.dumps(getattr(search, "inner", search).cursor()))
    return cursor


async def rows_of(search: Any) -> AsyncGenerator[str]:
    """A loop over a session of either colour."""
    if not isinstance(search, Awaitable):
        async with aclosing(aiter(search)) as rows:
            async for row in rows:
                yield row
        return
    loop = iter(search.inner)
    try:
        for row in loop:
            yield row
    finally:
        loop.close()


def sizes(cursor: Cursor) -> list[int]:
    """Of the pulls of the present phase."""
    return [size for size, _ in cursor["pulls"]]


def tokens(large: list[str]) -> Callable[[str], int]:
    """A counter to which some rows are too large for any budget here, and all others are small."""
    return lambda text: 10_000 if text in large else 10


class TestLoops:
    """A row counts as handed out when the loop gets it."""

    @pytest.mark.parametrize("place", [1, 3, 9, 10, 11, 29, 30])
    async def test_a_cursor_in_a_loop(self, dense: Bench, full: list[str], colour: str, place: int) -> None:
        """A cursor that is taken in a loop, and one of after it was left, go on behind the row that the loop has."""
        search = search_of(dense.index, colour)
        seen: list[str] = []
        async with aclosing(rows_of(search)) as rows:
            async for row in rows:
                seen.append(row)
                if len(seen) == place:
                    break
            cursor = cursor_of(search)
            assert (place, {10}) == (search.report.kept, set(sizes(cursor)))
        assert full[:place] == seen
        for taken in (cursor, cursor_of(search)):
            assert full[place:] == await drained(search_of(dense.index, colour, cursor=taken), 7)

    async def test_pages_of_ten(self, dense: Bench, full: list[str], colour: str) -> None:
        """A loop pulls pages of ten, not row by row."""
        search = search_of(dense.index, colour)
        assert full == [row async for row in rows_of(search)]
        assert [10] * 4 == sizes(cursor_of(search))

    async def test_a_page_within_a_loop(self, dense: Bench, full: list[str], colour: str) -> None:
        """A page that is fetched between two rows of a loop follows the first and is followed by the second."""
        async with search_of(dense.index, colour) as search:
            rows = rows_of(search)
            served = [await anext(rows), await anext(rows), *await search.fetch_next(12), await anext(rows)]
            assert (full[:15], 15) == (served, search.report.kept)
            await rows.aclose()

    async def test_a_bound_within_a_loop(self, dense: Bench, full: list[str], colour: str) -> None:
        """A bound that ends a loop has cost it no row before the bound."""
        seen: list[str] = []

        async def look_ahead() -> None:
            async for row in rows_of(search_of(dense.index, colour, limits=Limits(max_results=15))):
                seen.append(row)  # noqa: PERF401 - the rows of before the error

        with pytest.raises(LimitReached, match="max_results"):
            await look_ahead()
        assert full[:15] == seen


class TestSetAside:
    """Rows that did not fit, and wait."""

    async def test_a_later_leg_brings_them_again(self, dense: Bench, full: list[str], colour: str) -> None:
        """A row that was set aside stays in the cursor when a page of a later phase repeats it."""
        large = order(dense, filter="number < 15")[1:2]
        search = search_of(dense.index, colour, replace(DENSE, filter="number < 15"))
        served = await search.fetch_until(TokenBudget(30, count=tokens(large)))
        await search.widen(filter="")
        served += await search.fetch_until(TokenBudget(100, count=tokens(large)))
        cursor = cursor_of(search)
        assert large[0] in {id_ for _, ids_ in cursor["pulls"] for id_ in ids_}
        assert sorted(full) == sorted(served + await drained(search_of(dense.index, colour, cursor=cursor), 7))
        assert sorted(full) == sorted(served + await drained(search, 7))

    async def test_the_end_stays_the_end(self, dense: Bench, full: list[str], colour: str) -> None:
        """An exhausted search stays so where a later call hands out only some of the rows that were set aside."""
        policy = TokenBudget(1_000, count=tokens(full[:5]), patience=50)
        async with search_of(dense.index, colour) as search:
            assert full[5:] == await search.fetch_until(policy)
            assert [] == await search.fetch_until(policy)
            for left in (4, 3):
                assert (True, 1) == (search.exhausted, len(await search.fetch_next(1)))
                assert (True, left) == (search.exhausted, search.report.waiting)


class TestNoRoom:
    """A search that pages from a plain query, because the server has no room for another open one."""

    async def test_a_second_plain_query_serves_nothing_twice(self, crowded: Bench, colour: str) -> None:
        """Whatever is written before the plain query is asked again, for 1,000, no id comes twice; nor in a resume."""
        search = search_of(crowded.index, colour)
        served = await search.fetch_until(MaxResults(200))
        assert [200] == sizes(cursor_of(search))
        crowded.index.delete([served[0], served[7]])
        crowded.index.upsert([Vector(f"new{number}", DENSE.vector, {"number": 0}) for number in range(3)])
        served += await search.fetch_next(50)
        cursor = cursor_of(search)
        assert [1_000] == sizes(cursor)
        crowded.index.upsert([crowded.shape.record(int(id_[1:])) for id_ in (served[0], served[7])])
        for rest in (search, search_of(crowded.index, colour, cursor=cursor)):
            whole = served + await drained(rest, 7)
            assert len(whole) == len(set(whole))
            assert set(order(crowded)) == set(whole)

    async def test_resumed_while_there_is_no_room(self, crowded: Bench, colour: str) -> None:
        """A cursor of such a search goes on while the server is still full."""
        expected = order(crowded)
        search = search_of(crowded.index, colour)
        assert expected[:5] == await search.fetch_next(5)
        cursor = cursor_of(search)
        await search.stop()
        resumed = search_of(crowded.index, colour, cursor=cursor)
        assert expected[5:] == await drained(resumed, 7)
        assert not resumed.report.changed

    async def test_beyond_max_recovery(self, crowded: Bench, colour: str) -> None:
        """More rows than `max_recovery` are no reason to give such a search up: nothing of it was lost."""
        expected = order(crowded)
        search = search_of(crowded.index, colour, max_recovery=100)
        served = await search.fetch_until(MaxResults(200))
        assert expected == served + await drained(search, 7)

    async def test_it_holds_no_slot(self, crowded: Bench, colour: str) -> None:
        """It keeps nothing open, so it takes no slot from others, and gets one for the query that it opens later."""
        search = search_of(crowded.index, colour)
        await search.fetch_until(MaxResults(200))
        assert MAX_OPEN == free_slots(crowded)
        await search.stop()
        assert MAX_OPEN == free_slots(crowded)


class TestChecks:
    """What a check, a policy or an error may show."""

    @pytest.mark.parametrize(
        "answer",
        [
            lambda rows: rows,
            lambda rows: rows[:-1],
            lambda rows: rows[0],
            lambda rows: {row["text"]: True for row in rows},
            lambda rows: [row["text"] for row in rows],
            lambda rows: [None, *rows[1:]],
            lambda rows: (row for row in rows),
            lambda _: "SECRET",
        ],
    )
    async def test_errors_show_no_row(self, dense: Bench, colour: str, answer: Any) -> None:
        """An answer of a check that makes no sense is refused in words that hold nothing of a row."""
        search = reading_of(dense.index, colour, RowReader(lambda match: {"text": f"SECRET {match.id}"}))
        with pytest.raises(ClientError) as caught:
            await search.fetch_until(Accepted(3, answer))
        await search.stop()
        shown = f"{caught.value!r} {caught.value} {getattr(caught.value, '__notes__', '')}"
        assert "SECRET" not in shown
        assert not any(f"r{number}'" in shown for number in range(ROWS))

    @pytest.mark.parametrize("ours", [False, True])
    async def test_policies_of_scores_see_scores(
        self, dense: Bench, full: list[str], colour: str, *, ours: bool
    ) -> None:
        """A policy of scores alone is shown every row's score, and no id, item, text or metadata."""
        shown: list[Candidate] = []
        scores: list[float] = []

        class Looking(PolicyState):
            def keeps(self, candidate: Candidate) -> bool:
                scores.append(candidate.score)
                shown.append(candidate)
                return True

            def fits(self, candidate: Candidate) -> bool:
                shown.append(candidate)
                return True

            def add(self, candidate: Candidate) -> None:
                shown.append(candidate)

        class Scores(Policy):
            scores_only = True

            def new_state(self, memory: dict[str, Any]) -> PolicyState:
                return Looking(self)

        check = Accepted(3, lambda rows: [row in full[5:8] for row in rows])
        policy = check if ours else Scores() | check
        async with search_of(dense.index, colour, until=Scores() if ours else None) as search:
            assert full[5:8] == await search.fetch_until(policy)
        assert [match.score for match in dense.index.query(top_k=8, **DENSE.parameters())] == scores
        assert {("", None, ())} == {(one.id, one.item, tuple(one.metadata)) for one in shown}
        assert not {one.text for one in shown} & set(full)

    def test_verdicts(self) -> None:
        """Bools of numpy are verdicts; what is only named like them is not."""
        foreign = type("bool_", (), {})
        assert [True, False] == read_verdicts([np.bool_(True), np.bool_(False)], 2)
        assert [True, False, True] == read_verdicts([np.True_, False, True], 3)
        assert [False, True] == read_verdicts(np.array([False, True]), 2)
        for odd in (foreign(), 1, 0, np.int64(1), np.float64(1.0), "True", None, np.array([True])):
            with pytest.raises(ClientError, match="verdict"):
                read_verdicts([odd, True], 2)

    @pytest.mark.parametrize(
        "made", [None, PolicyState, object(), "text"], ids=["nothing", "a class", "an object", "text"]
    )
    async def test_no_state(self, dense: Bench, full: list[str], colour: str, made: Any) -> None:
        """A policy whose `new_state` returns no `PolicyState` is refused by its name, and nothing is lost."""

        class Careless(Policy):
            def new_state(self, memory: dict[str, Any]) -> PolicyState:
                state: PolicyState = made
                return state

        async with search_of(dense.index, colour) as search:
            with pytest.raises(ClientError, match="careless"):
                await search.fetch_until(Careless())
            assert full[:3] == await search.fetch_next(3)
        async with search_of(dense.index, colour, until=Careless()) as search:
            with pytest.raises(ClientError, match="careless"):
                await search.fetch_next(1)

    async def test_an_unfinished_state(self, dense: Bench, colour: str) -> None:
        """A policy whose state does not call `super().__init__` is refused by its name."""

        class Unfinished(PolicyState):
            def __init__(self) -> None:
                pass

        class Hasty(Policy):
            def new_state(self, memory: dict[str, Any]) -> PolicyState:
                return Unfinished()

        async with search_of(dense.index, colour) as search:
            with pytest.raises(ClientError, match=r"hasty.*super\(\)"):
                await search.fetch_until(Hasty())

    def test_what_states_derive_from(self) -> None:
        """The states that see many results at once can be imported from `nextk.until`."""
        assert (True, True) == (issubclass(BatchCheck, PolicyState), issubclass(BatchObserver, PolicyState))
        assert {"BatchCheck", "PolicyState", "BatchObserver", "Policy"} <= set(nextk.until.__all__)


@dataclass(frozen=True)
class Remembering(Policy):
    """Keeps everything, and remembers what it is told to."""

    what: Any

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Begin a call."""
        memory.update(self.what)
        return PolicyState(self)


def third(row: str) -> int:
    """A key of three values."""
    return int(row[1:]) % 3


class TestMemories:
    """What policies remember, in cursors."""

    async def test_it_is_the_leafs(self, dense: Bench, colour: str) -> None:
        """A search that is resumed with another policy besides its own keeps the memory of its own."""
        search = search_of(dense.index, colour, until=DistinctBy(third, 3))
        assert 3 == len(await search.fetch_until())
        cursor = cursor_of(search)
        await search.stop()
        for policy in (DistinctBy(third, 3) | MaxResults(9), MaxResults(9) | DistinctBy(third, 3)):
            async with search_of(dense.index, colour, until=policy, cursor=cursor) as search:
                assert [] == await search.fetch_until()
                assert {"distinct_by": ROWS - 3} == search.report.dropped
                distinct = [policy for policy in cursor_of(search)["policies"] if policy["name"] != "max_results"]
                assert cursor["policies"] == distinct

    async def test_two_functions(self, dense: Bench, colour: str) -> None:
        """Two functions do not share a memory, though both are called lambda."""
        first = DistinctBy(lambda row: int(row[1:]) % 3, 3)
        other = DistinctBy(lambda row: int(row[1:]) % 5, 5)
        search = search_of(dense.index, colour, until=first)
        await search.fetch_until()
        cursor = cursor_of(search)
        await search.stop()
        async with search_of(dense.index, colour, until=other, cursor=cursor, without_policies=True) as search:
            assert set(range(5)) == {int(row[1:]) % 5 for row in await search.fetch_until()}
        async with search_of(dense.index, colour, until=first, cursor=cursor) as search:
            assert [] == await search.fetch_until()

    @pytest.mark.parametrize(
        "what",
        [{"ids": {1}}, {"when": object()}, {1: 2}, {"pair": (1, 2)}, {"score": float("nan")}, {"row": b"r"}],
        ids=["a set", "an object", "a key", "a tuple", "no number", "bytes"],
    )
    async def test_what_is_no_json(self, dense: Bench, full: list[str], colour: str, what: Any) -> None:
        """A memory that is not JSON, or that JSON changes, makes no cursor; the error names the policy."""
        async with search_of(dense.index, colour, until=Remembering(what)) as search:
            served = await search.fetch_next(3)
            with pytest.raises(ClientError, match="policy remembering"):
                cursor_of(search)
            assert full == served + await search.fetch_next(ROWS)


class TestBounds:
    """Where a search ends before its end."""

    @pytest.mark.parametrize("deadline", range(1, 9))
    @pytest.mark.parametrize("policy", [ScoreGap(buffer=0, min_k=2), RelativeScore(0.01, patience=99), MaxResults(40)])
    async def test_a_deadline_in_between(self, dense: Bench, colour: str, policy: Policy, deadline: int) -> None:
        """A deadline that passes while rows are gathered ends the call after they are judged, not before."""
        now = [0.0]

        def clock() -> float:
            now[0] += 1  # it passes between any two looks at it
            return now[0]

        bounds = Limits(max_results=200, max_pulls=10, deadline=float(deadline))
        async with search_of(dense.index, colour, guards=bounds, clock=clock) as search:
            kept = await search.fetch_until(policy)
            report = search.report
            assert kept
            if report.stop_reason == "deadline":
                assert (0, len(kept)) == (report.waiting, report.pulled - sum(report.dropped.values()))

    async def test_no_more_than_may_be_handed_out(self, dense: Bench, full: list[str], colour: str) -> None:
        """A search that may hand out three rows pulls three, however many are asked for."""
        async with search_of(dense.index, colour, limits=Limits(max_results=3)) as search:
            assert (full[:3], 3) == (await search.fetch_next(300), search.report.pulled)

    async def test_a_cursor_beyond_max_recovery(self, dense: Bench, full: list[str], colour: str) -> None:
        """A search that would have to pull too much again says how to go on, and that way works."""
        search = search_of(dense.index, colour, max_recovery=10)
        await search.fetch_next(20)
        cursor = cursor_of(search)
        await search.stop()
        async with search_of(dense.index, colour, max_recovery=10, cursor=cursor) as search:
            with pytest.raises(LimitReached, match=r"20 rows.*max_recovery=10.*resume.*larger"):
                await search.fetch_next(1)
        assert full[20:] == await drained(search_of(dense.index, colour, max_recovery=20, cursor=cursor), 7)

    @pytest.mark.parametrize("deadline", [0, 0.0, -1, float("nan"), float("inf"), "1", True])
    def test_no_time_at_all(self, deadline: Any) -> None:
        """A deadline that leaves no time, or is no number of seconds, is refused, however it is given."""
        for build in (Limits, SearchConfig().with_overrides):
            with pytest.raises(ClientError, match="deadline"):
                build(deadline=deadline)

    @pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
    def test_no_time_in_an_adapter(self, dense: Bench, adapter: Any) -> None:
        """So it is where a retriever is asked for a search."""
        retriever = adapter(index=dense.index, embedding=True)
        for method in (retriever.open, retriever.aopen):
            with pytest.raises(ClientError, match="deadline"):
                method("anything", deadline=0)


class Stuck(Recording):
    """A transport to an index that answers every further pull with the first page."""

    page: Any = None
    stuck = True

    def _answer(self, operation: Operation[Any], result: Any) -> Any:
        if operation.starts:
            self.page = result[1]
        if operation.command == "resumable-query-next" and self.stuck:
            return Page(self.page, numbered=False)
        return result

    def send(self, operation: Operation[Any]) -> Any:
        """Carry, and answer with the first page."""
        return self._answer(operation, super().send(operation))

    async def asend(self, operation: Operation[Any]) -> Any:
        """The same in the other colour."""
        return self._answer(operation, await super().asend(operation))


class TestPulls:
    """What is asked of the index."""

    @pytest.mark.parametrize("until", [False, True])
    async def test_an_index_that_repeats_itself(self, dense: Bench, colour: str, *, until: bool) -> None:
        """A search that gets the same page for ever ends with an error after 100 of them, policy or not."""
        transport = Stuck(dense.index._transport)
        index: Any = Index._over(transport)
        search = search_of(index, colour, guards=Limits())
        assert 5 == len(await search.fetch_next(5))
        with pytest.raises(LimitReached, match="100 pages"):
            await (search.fetch_until(MaxResults(5)) if until else search.fetch_next(5))
        assert (100, 100) == (MAX_EMPTY_PULLS, transport.sent.count("resumable-query-next"))
        assert (5, False) == (search.report.kept, search.exhausted)
        await search.stop()

    async def test_behind_what_was_served(self, colour: str) -> None:
        """To get behind 375 rows that were served in small pages a widened search needs few pulls, not 75 more."""
        for bench in benched(400):
            search = search_of(bench.index, colour, replace(DENSE, filter="number < 399"))
            served = [row for _ in range(75) for row in await search.fetch_next(5)]
            await search.widen(filter="")
            served += await search.fetch_next(5)
            assert (380, 380) == (len(served), len(set(served)))
            assert search.report.phases[-1].pulls <= 10
            await search.stop()

    async def test_counts_never_go_down(self, dense: Bench, colour: str) -> None:
        """What a report counts does not get less when a recovery finds fewer rows than there were."""
        async with search_of(dense.index, colour) as search:
            for _ in range(6):
                await search.fetch_next(4)
            before = search.report
            dense.index.delete([f"r{number}" for number in range(26)])
            dense.clock.pass_max_idle()
            await search.fetch_next(4)
            after = search.report
        assert (True, 1) == (after.changed, after.recovered)
        for name in ("pulls", "pulled", "kept", "repeated"):
            assert getattr(before, name) <= getattr(after, name), name
        assert after.kept + after.waiting + sum(after.dropped.values()) <= after.pulled

    async def test_counts_when_rows_were_added(self, dense: Bench, colour: str) -> None:
        """Nor does what was handed out exceed what was pulled, when a recovery finds rows that are new."""
        async with search_of(dense.index, colour) as search:
            await search.fetch_next(5)
            before = search.report
            dense.index.upsert([Vector(f"new{number}", DENSE.vector, {"number": 5}) for number in range(5)])
            dense.clock.pass_max_idle()
            await search.fetch_next(5)
            report = search.report
        assert before.pulled <= report.pulled
        assert report.kept + report.waiting <= report.pulled


def _phase(**fields: Any) -> Callable[[Cursor], Any]:
    return lambda cursor: cursor["phases"][0].update(fields)


def _size(size: Any) -> Callable[[Cursor], Any]:
    return lambda cursor: cursor["pulls"][0].__setitem__(0, size)


def _field(**fields: Any) -> Callable[[Cursor], Any]:
    return lambda cursor: cursor.update(fields)


FORGERIES: dict[str, Callable[[Cursor], Any]] = {
    **{name: _phase(**{name: -1}) for name in ("began", "pulls", "pulled", "repeated", "kept")},
    "kept as text": _phase(kept="7"),
    "kept as a bool": _phase(kept=True),
    "a mode": _phase(mode="telepathic"),
    **{f"size {size}": _size(size) for size in (-3, 0, 1_001, 10**9, 2.5, "3", True, None)},
    "set aside": _field(set_aside=-1),
    "recovered": _field(recovered=-1),
    "dropped": _field(dropped={"accepted": -4}),
    "policies": _field(policies=[{"a": 1}]),
    "no phases": _field(phases=[]),
}


class TestForgedCursors:
    """Cursors that were edited, and whose digest was made anew."""

    @pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
    def test_numbers_that_cannot_be(self, dense: Bench, colour: str, forge: Callable[[Cursor], Any]) -> None:
        """A count below 0, a pull of a size that no index takes, and the like are refused before anything is sent."""
        with open_session(dense.index, DENSE) as search:
            search.fetch_next(3)
            cursor = cursor_of(search)
        recording = Recording(dense.index._transport)
        index: Any = Index._over(recording)
        for honest in (True, False):
            if not honest:
                forge(cursor)
            del cursor["digest"]
            cursor["digest"] = digest_of(cursor)
            if honest:
                search_of(index, colour, cursor=cursor)
        with pytest.raises(ClientError, match="edited"):
            search_of(index, colour, cursor=cursor)
        assert [] == recording.sent


class TestParked:
    """A query that was left open for whoever resumes the cursor."""

    async def test_resumed_and_left(self, dense: Bench, colour: str) -> None:
        """Who resumes a cursor and leaves without a pull ends the query that was parked for it."""
        search = search_of(dense.index, colour)
        await search.fetch_next(3)
        cursor = await search.detach()
        assert (1, MAX_OPEN - 1) == (dense.engine.open_queries(), free_slots(dense))
        async with search_of(dense.index, colour, cursor=cursor):
            pass
        dense.index.info()
        assert (0, MAX_OPEN) == (dense.engine.open_queries(), free_slots(dense))

    @pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
    def test_in_an_adapter(self, adapter: Any, colour: str) -> None:
        """So does who resumes it by a retriever."""
        with sentences() as index:
            retriever = adapter(index=index, embedding=True)
            search = retriever.open(QUESTION)
            search.fetch_next(3)
            cursor = search.detach()
            transport: Any = index._transport
            engine = transport._shared_engine.engine
            assert 1 == engine.open_queries()

            async def leave() -> None:
                async with retriever.aresume(cursor):
                    pass

            if colour == "async":
                asyncio.run(leave())
            else:
                with retriever.resume(cursor):
                    pass
            assert 0 == engine.open_queries()
