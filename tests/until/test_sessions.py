"""Stopping policies inside blocking and asynchronous sessions, over indexes in this process."""

import asyncio
import functools
import json
import math
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from nextk import Index, Vector
from nextk.errors import ClientError, LimitReached, PageUncertain
from nextk.sessions import (
    AsyncRetrievalSession,
    Limits,
    RetrievalMode,
    RetrievalSession,
    RowReader,
    SearchConfig,
    SearchQuery,
)
from nextk.testing import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind, faulty
from nextk.types import QueryResult
from nextk.until import (
    Accepted,
    Candidate,
    DistinctBy,
    MaxResults,
    MinScore,
    Policy,
    PolicyState,
    RelativeScore,
    ScoreGap,
    TokenBudget,
)
from tests.support.searches import SHAPES, Bench, Shape
from tests.support.sentence_index import QUESTION, TEXTS, sentences
from tests.support.transports import Awaitable, Recording

QUERY = SearchQuery(vector=[1.0, 0.0])
"""The query of every fan: `r0` is its nearest record, then `r1`, and so on."""
WHOLE: RowReader[QueryResult] = RowReader(lambda match: match, lambda match: "x" * int((match.metadata or {})["size"]))


@dataclass(frozen=True)
class Fan(Shape):
    """Records at growing distance from the query, in the order of their numbers."""

    rows: int = 40

    def records(self) -> list[Vector]:
        """Return all records: four of each source, and with a size."""
        return [self._at(number) for number in range(self.rows)]

    def _at(self, number: int) -> Vector:
        angle = 3 * number / self.rows
        metadata = {"number": number, "source": f"s{number // 4}", "size": 1 + number * 7 % 5}
        return Vector(f"r{number}", [math.cos(angle), math.sin(angle)], metadata)


def fan(rows: int = 40) -> Bench:
    """Build an index of `matches` records."""
    return Bench.build(Fan({"type": "dense", "dimension": 2}, rows=rows))


@pytest.fixture(scope="module")
def small() -> Bench:
    """An index of forty records."""
    return fan()


@pytest.fixture(scope="module")
def large() -> Bench:
    """An index of a thousand records."""
    return fan(1_000)


@pytest.fixture(scope="module")
def text() -> Iterator[Index]:
    """A hybrid index of sentences that embeds text."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture(autouse=True)
def nothing_left_open(small: Bench, large: Bench, text: Index) -> Iterator[None]:
    """Check after every test that the indexes hold no open query."""
    yield
    transport: Any = text._transport
    assert [0, 0, 0] == [
        engine.open_queries() for engine in (small.engine, large.engine, transport._shared_engine.engine)
    ]


@dataclass(frozen=True)
class Colour:
    """Opens blocking or asynchronous sessions, whose methods are awaited in either case."""

    native: bool

    def open(
        self,
        index: Index,
        question: SearchQuery = QUERY,
        *,
        cursor: Any = None,
        without_policies: bool = False,
        **config: Any,
    ) -> Any:
        """Open a session of matches. Bounds in `config` are overrides, as the caller of `open` gives them."""
        overrides = {name: config.pop(name) for name in ("max_results", "max_pulls", "deadline") if name in config}
        bounds = SearchConfig(**config).with_overrides(**overrides)
        options: dict[str, Any] = {"config": bounds, "cursor": cursor, "without_policies": without_policies}
        if self.native:
            return AsyncRetrievalSession(index.to_async(), question, WHOLE, **options)
        return Awaitable(RetrievalSession(index, question, WHOLE, **options))

    def over(self, transport: Any, question: SearchQuery = QUERY, **config: Any) -> Any:
        """Open a session over a transport."""
        return self.open(Index._over(transport), question, **config)


@pytest.fixture(params=["blocking", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """The blocking and the asynchronous colour, one after the other."""
    return Colour(request.param == "async")


def cursor_of(search: Any) -> Any:
    """Return the cursor of a session of either colour, after a way through JSON."""
    return json.loads(json.dumps(getattr(search, "inner", search).cursor()))


def sizes_of(search: Any) -> list[int]:
    """Return the sizes of a session's pulls."""
    return [size for size, _ in cursor_of(search)["pulls"]]


async def every(search: Any) -> list[QueryResult]:
    """Return all matches that a loop over a session sees."""
    if isinstance(search, Awaitable):
        return list(search.inner)
    return [match async for match in search]


def numbers(matches: list[QueryResult]) -> list[int]:
    """Return the numbers of records."""
    return [int(match.id[1:]) for match in matches]


def odd(items: list[Any]) -> list[bool]:
    """Permit every second record."""
    return [item.metadata["number"] % 2 == 1 for item in items]


def everything(items: list[Any]) -> list[bool]:
    """Permit every record."""
    return [True] * len(items)


def nothing(items: list[Any]) -> list[bool]:
    """Deny every record."""
    return [False] * len(items)


SCORES: list[Policy] = [MinScore(0.2), RelativeScore(0.5), ScoreGap()]


class TestCalls:
    """Calls one after another."""

    @pytest.mark.parametrize("ours", [False, True])
    @pytest.mark.parametrize(
        ("policy", "expected", "reason"),
        [
            (MaxResults(3), [0, 1, 2], "max_results"),
            (Accepted(3, odd), [1, 3, 5], "accepted"),
            (DistinctBy("source", 3), [0, 4, 8], "distinct_by"),
            (TokenBudget(7, count=len), [0, 1, 3, 5], "token_budget"),
            (MinScore(0.99), [0, 1, 2], "min_score"),
            (RelativeScore(0.99), [0, 1, 2], "relative_score"),
            (ScoreGap(buffer=1, window=9), [0, 1, 2, 3, 4, 5, 6, 7, 8], "score_gap"),
            (MaxResults(3) | Accepted(9, odd), [1, 3, 5], "max_results"),
            (MaxResults(1) & Accepted(2, odd), [1, 3], "max_results & accepted"),
            (Accepted(99, lambda items: [item.id in ("r7", "r39") for item in items]), [7, 39], "exhausted"),
        ],
    )
    async def test_reasons(
        self, colour: Colour, small: Bench, ours: bool, policy: Policy, expected: list[int], reason: str
    ) -> None:
        """A session returns what its policy keeps, and its report says why it stopped."""
        async with colour.open(small.index, until=policy if ours else None) as search:
            assert expected == numbers(await search.fetch_until(*[] if ours else [policy]))
            assert (reason, len(expected)) == (search.report.stop_reason, search.report.kept)

    @pytest.mark.parametrize("seed", range(10))
    async def test_every_row_once(self, colour: Colour, small: Bench, seed: int) -> None:
        """Whatever the order of calls, with faults or without, every match is returned, dropped or waits."""
        dice = random.Random(seed)  # noqa: S311 - no secret depends on it
        policies: list[Callable[[], Policy]] = [
            lambda: MaxResults(dice.randint(1, 6)),
            lambda: Accepted(dice.randint(1, 3), odd),
            lambda: TokenBudget(dice.randint(1, 12), count=len, patience=dice.randint(1, 4)),
            lambda: DistinctBy("source", dice.randint(1, 3)) | TokenBudget(9, count=len),
        ]
        plan = FaultPlan(*[PlannedFault(Fault.DROP_REPLY, RequestKind.NEXT, nth) for nth in (2, 4)] if seed % 2 else [])
        served: list[int] = []
        async with colour.open(faulty(small.index, plan)) as search:
            while not search.exhausted or search.report.waiting:
                if dice.random() < 0.4 or search.exhausted:
                    page = numbers(await search.fetch_next(dice.randint(1, 5)))
                else:
                    page = numbers(await search.fetch_until(dice.choice(policies)()))
                assert sorted(page) == page
                served += page
            report = search.report
        small.clock.pass_max_idle()  # what a lost reply left behind
        small.engine.sweep()
        assert len(served) == len(set(served)) == report.kept
        assert (40, 40 - len(served), 0) == (report.pulled, sum(report.dropped.values()), report.waiting)

    async def test_tasks_get_disjoint_rows(self, small: Bench) -> None:
        """Tasks that call `fetch_until` at the same time wait for each other, and get disjoint matches."""
        async with Colour(True).open(small.index) as search:
            pages = await asyncio.gather(*[search.fetch_until(Accepted(4, odd)) for _ in range(4)])
        assert [number for number in range(32) if number % 2] == sorted(n for page in pages for n in numbers(page))

    async def test_the_own_policy_always_applies(self, colour: Colour, small: Bench) -> None:
        """A match that the search's own policy denies comes by no call: bare, with another policy, or in a loop."""
        async with colour.open(small.index, until=Accepted(2, odd)) as search:
            assert [1, 3, 5] == numbers(await search.fetch_next(3))
            assert [7, 9] == numbers(await search.fetch_until(MaxResults(2)))
            assert [11] == numbers(await search.fetch_until(Accepted(1, everything)))
            assert [13, 15] == numbers(await search.fetch_until())
            assert list(range(17, 40, 2)) == numbers(await every(search))
            assert {"accepted": 20} == search.report.dropped

    async def test_checks_see_what_is_handed_out(self, colour: Colour, small: Bench) -> None:
        """A check is given what the retriever returns, and no other policy sees what it denied."""
        seen: list[str] = []

        def key(item: Any) -> Any:
            seen.append(item.id)
            return item.id

        async with colour.open(small.index, until=DistinctBy(key, 9)) as search:
            await search.fetch_until(TokenBudget(9, count=len) & Accepted(9, odd))
        assert seen
        assert all(int(id_[1:]) % 2 for id_ in seen)

    async def test_a_stopped_session(self, colour: Colour, small: Bench) -> None:
        """A session that was stopped refuses `fetch_until`."""
        search = colour.open(small.index)
        await search.stop()
        with pytest.raises(ClientError, match="open a new one"):
            await search.fetch_until(MaxResults(1))

    async def test_policies_are_refused_before_anything_is_sent(self, colour: Colour, small: Bench) -> None:
        """Without a policy, or with something else in its stead, the call is refused before anything is sent."""
        recording = Recording(small.index._transport)
        async with colour.over(recording) as search:
            with pytest.raises(ClientError, match="needs a policy"):
                await search.fetch_until()
            with pytest.raises(ClientError, match="policy=3 is not a policy"):
                await search.fetch_until(3)
        assert [] == recording.sent


class TestBounds:
    """Guards of a call, and bounds that the caller sets."""

    async def test_20_permitted_of_2_percent(self, colour: Colour, large: Bench) -> None:
        """Twenty permitted matches of a thousand come in one call, whose pulls double up to 200."""
        recording = Recording(large.index._transport)
        async with colour.over(recording) as search:
            policy = Accepted(20, lambda items: [item.metadata["number"] % 50 == 49 for item in items])
            assert list(range(49, 1_000, 50)) == numbers(await search.fetch_until(policy))
            assert [20, 40, 80, 160, 200, 200, 200, 200] == sizes_of(search)
            assert (8, 1_000) == (search.report.pulls, search.report.pulled)
        assert ["resumable-query", *["resumable-query-next"] * 7, "resumable-query-end"] == recording.sent

    async def test_max_results(self, colour: Colour, large: Bench) -> None:
        """Without another bound, a call that a policy ends returns at most 200 matches."""
        async with colour.open(large.index) as search:
            assert list(range(200)) == numbers(await search.fetch_until(Accepted(500, everything)))
            assert "max_results" == search.report.stop_reason
            assert list(range(200, 400)) == numbers(await search.fetch_until(MaxResults(500)))

    async def test_max_pulls(self, colour: Colour, large: Bench) -> None:
        """A call that a policy ends fetches at most ten pages."""
        async with colour.open(large.index) as search:
            last = Accepted(1, lambda items: [item.metadata["number"] == 999 for item in items])
            assert [] == await search.fetch_until(last)
            assert ("max_pulls", 10) == (search.report.stop_reason, search.report.pulls)

    async def test_deadline(self, colour: Colour, large: Bench) -> None:
        """A call that a policy ends begins no pull after ten seconds by its clock."""
        clock = ManualClock()

        def slow(items: list[Any]) -> list[bool]:
            clock.advance(4)
            return nothing(items)

        async with colour.open(large.index, clock=clock) as search:
            assert [] == await search.fetch_until(Accepted(20, slow))
            assert ("deadline", 3) == (search.report.stop_reason, search.report.pulls)

    async def test_guards_end_no_bare_call(self, colour: Colour, large: Bench) -> None:
        """A bare call and a loop have no guards, and go on to the end."""
        until = Accepted(1, lambda items: [item.metadata["number"] == 999 for item in items])
        async with colour.open(large.index, until=until, guards=Limits(1, 1, 1)) as search:
            assert [999] == numbers(await search.fetch_next(1))
        assert 1_000 == len(await every(colour.open(large.index)))

    @pytest.mark.parametrize(
        ("bound", "served"), [({"max_results": 7}, 7), ({"max_pulls": 2}, 10), ({"deadline": 5}, 10)]
    )
    async def test_limits(self, colour: Colour, small: Bench, bound: dict[str, Any], served: int) -> None:
        """A bound that the caller set is reported by `LimitReached`, never by an empty page, and it lasts."""
        clock = ManualClock()
        async with colour.open(small.index, clock=clock, **bound) as search:
            rows = await search.fetch_next(5)
            clock.advance(3)
            rows += await search.fetch_next(5)
            clock.advance(3)
            for _ in range(2):
                with pytest.raises(LimitReached, match=next(iter(bound))):
                    await search.fetch_next(5)
            assert list(range(served)) == numbers(rows)
            assert not search.exhausted

    @pytest.mark.parametrize("bound", [{"max_results": 5}, {"max_pulls": 1}])
    async def test_limits_of_calls_until(self, colour: Colour, small: Bench, bound: dict[str, Any]) -> None:
        """A bound that the caller set ends `fetch_until` by `LimitReached`, too."""
        async with colour.open(small.index, **bound) as search:
            assert 5 == len(await search.fetch_until(MaxResults(5)))
            with pytest.raises(LimitReached, match=next(iter(bound))):
                await search.fetch_until(MaxResults(5))

    @pytest.mark.parametrize("until", [None, Accepted(3, odd)])
    async def test_a_loop_is_told(self, colour: Colour, small: Bench, until: Policy | None) -> None:
        """A bound that the caller set ends a loop by `LimitReached`, too."""
        with pytest.raises(LimitReached, match="max_results"):
            await every(colour.open(small.index, until=until, max_results=12))

    async def test_limits_are_the_search_s(self, colour: Colour, small: Bench) -> None:
        """A bound counts what was done before the search was resumed or widened."""
        async with colour.open(small.index, max_results=7) as search:
            await search.fetch_next(5)
            cursor = cursor_of(search)
        async with colour.open(small.index, cursor=cursor, max_results=7) as search:
            assert [5, 6] == numbers(await search.fetch_next(5))
            with pytest.raises(LimitReached):
                await search.fetch_next(5)
        narrow = replace(QUERY, filter="number < 6")
        async with colour.open(small.index, narrow, max_results=7) as search:
            assert 6 == len(await search.fetch_next(9))
            await search.widen(filter="")
            assert [6] == numbers(await search.fetch_next(5))
            with pytest.raises(LimitReached):
                await search.fetch_next(5)


class TestContinuing:
    """What policies leave for the next call survives a cursor, a detached session and a widening."""

    @staticmethod
    async def elsewhere(colour: Colour, bench: Bench, search: Any, how: str, **config: Any) -> Any:
        """Continue the search in this session, after detaching it, or from a cursor."""
        if how == "here":
            return search
        cursor = await search.detach() if how == "detached" else cursor_of(search)
        await search.stop()
        return colour.open(bench.index, cursor=cursor, **config)

    @pytest.mark.parametrize("how", ["here", "detached", "resumed"])
    async def test_what_was_skipped_comes_first(self, colour: Colour, small: Bench, how: str) -> None:
        """Matches that a budget skipped are offered first, in their order, wherever the search goes on."""
        search = colour.open(small.index)  # sizes 1, 3, 5, 2, 4, 1, 3, 5, 2, 4, ...
        assert [0, 1, 3, 5] == numbers(await search.fetch_until(TokenBudget(7, count=len)))
        search = await self.elsewhere(colour, small, search, how)
        async with search:
            assert [2, 4] == numbers(await search.fetch_until(TokenBudget(9, count=len)))
            assert list(range(6, 40)) == numbers(await search.fetch_next(99))
            assert [] == await search.fetch_next(1)

    @pytest.mark.parametrize("seed", range(6))
    async def test_detours(self, colour: Colour, small: Bench, seed: int) -> None:
        """A search that is continued elsewhere after every call returns and drops the same as one that is not."""
        dice = random.Random(seed)  # noqa: S311 - no secret depends on it
        until = [None, Accepted(2, odd), DistinctBy("source", 2, per_key=3)][seed % 3]
        policies = [TokenBudget(6, count=len, patience=99), Accepted(2, odd), MaxResults(3), RelativeScore(0.5)]
        calls: list[Any] = [dice.choice([*policies, 1, 3]) for _ in range(9)]
        runs: dict[str, Any] = {}
        for how in ("here", "detached", "resumed"):
            search = colour.open(small.index, until=until)
            pages = []
            for position, call in enumerate(calls):
                if position:
                    search = await self.elsewhere(colour, small, search, how, until=until)
                page = await (search.fetch_next(call) if isinstance(call, int) else search.fetch_until(call))
                pages.append((numbers(page), search.report.stop_reason, search.report.dropped))
            await search.stop()
            runs[how] = pages
        assert runs["here"] == runs["detached"] == runs["resumed"]

    @pytest.mark.parametrize("how", ["here", "detached", "resumed"])
    async def test_own_distinct_by_remembers(self, colour: Colour, small: Bench, how: str) -> None:
        """The keys that a search's own policy has returned are remembered wherever the search goes on."""
        until = DistinctBy("source", 3)
        search = colour.open(small.index, until=until)
        assert [0, 4, 8] == numbers(await search.fetch_until())
        search = await self.elsewhere(colour, small, search, how, until=until)
        async with search:
            assert [12] == numbers(await search.fetch_next(1))
            assert [16, 20, 24] == numbers(await search.fetch_until())
            assert [28, 32, 36] == numbers(await search.fetch_next(9))

    async def test_own_distinct_by_remembers_when_widened(self, colour: Colour, small: Bench) -> None:
        """The keys that a search's own policy has returned are remembered after a widening."""
        async with colour.open(
            small.index, replace(QUERY, filter="number IN (1, 5)"), until=DistinctBy("source", 9)
        ) as search:
            assert [1, 5] == numbers(await search.fetch_until())
            await search.widen(filter="number < 16")
            assert [8, 12] == numbers(await search.fetch_until())

    @pytest.mark.parametrize("how", ["here", "detached", "resumed"])
    async def test_a_replay_is_no_pull(self, colour: Colour, small: Bench, how: str) -> None:
        """Pulling waiting matches again for a cursor does not count as one of the pulls that a guard allows."""
        guards = Limits(max_pulls=1)
        search = colour.open(small.index, guards=guards)
        assert [0, 1] == numbers(await search.fetch_until(TokenBudget(4, count=len)))
        waiting = search.report.waiting
        search = await self.elsewhere(colour, small, search, how, guards=guards)
        async with search:
            assert waiting < len(await search.fetch_until(MaxResults(20)))

    @pytest.mark.parametrize("how", ["here", "detached", "resumed"])
    async def test_rows_that_wait_are_within_bounds(self, colour: Colour, small: Bench, how: str) -> None:
        """Waiting matches are returned even if the bounds of the caller allow no further pull."""
        search = colour.open(small.index, max_pulls=1)
        assert [0, 1] == numbers(await search.fetch_until(TokenBudget(4, count=len)))
        search = await self.elsewhere(colour, small, search, how, max_pulls=1)
        async with search:
            assert list(range(2, 10)) == numbers(await search.fetch_next(20))
            with pytest.raises(LimitReached, match="max_pulls"):
                await search.fetch_next(1)

    async def test_memory_is_the_policy_s(self, colour: Colour, small: Bench) -> None:
        """The memory of one policy is not given to another one with which the search is resumed."""
        async with colour.open(small.index, until=DistinctBy("source", 2)) as search:
            await search.fetch_until()
            cursor = cursor_of(search)
        async with colour.open(
            small.index, until=DistinctBy(lambda _: "s1", 1), cursor=cursor, without_policies=True
        ) as search:
            assert 1 == len(await search.fetch_until())

    @pytest.mark.parametrize("how", ["here", "detached", "resumed"])
    async def test_the_best_score_stays(self, colour: Colour, small: Bench, how: str) -> None:
        """The best score is that of the first match of the search, wherever the search goes on."""
        search = colour.open(small.index)
        expected = [match.id for match in await search.fetch_next(40) if match.score >= 0.5][20:]
        await search.stop()
        search = colour.open(small.index)
        await search.fetch_next(20)
        search = await self.elsewhere(colour, small, search, how)
        async with search:
            assert expected == [match.id for match in await search.fetch_until(RelativeScore(0.5))]

    async def test_the_best_score_of_a_wider_search(self, colour: Colour, small: Bench) -> None:
        """The best score of a widened search is that of its own first match, even if it was returned before."""
        async with colour.open(small.index, replace(QUERY, filter="number < 10")) as search:
            await search.fetch_next(20)
            await search.widen(filter="")
            kept = await search.fetch_until(RelativeScore(0.9))
            best = (await every(colour.open(small.index)))[0].score
            assert all(match.score >= 0.9 * best for match in kept)

    async def test_a_threshold_meets_rows_that_wait(self, colour: Colour, small: Bench) -> None:
        """Waiting matches of an earlier call are held to the threshold like new ones."""
        async with colour.open(small.index) as search:
            await search.fetch_until(TokenBudget(1, count=len, patience=1))
            waiting = search.report.waiting
            assert waiting
            kept = await search.fetch_until(MinScore(0.9))
            assert list(range(1, 1 + len(kept))) == numbers(kept)


class Calling:
    """A check that is an object with an asynchronous `__call__`."""

    async def __call__(self, items: list[Any]) -> list[bool]:
        """Permit every second record."""
        return odd(items)


async def later(items: list[Any]) -> list[bool]:
    """Permit every second record, as a coroutine."""
    await asyncio.sleep(0)
    return odd(items)


async def broken_later(items: list[Any]) -> list[bool]:
    """Raise an exception, as a coroutine."""
    await asyncio.sleep(0)
    raise KeyError


def broken(items: list[Any]) -> list[bool]:
    """Raise an exception."""
    raise KeyError


def uncertain(items: list[Any]) -> list[bool]:
    """Raise the error of an index that does not answer, as from the check's own index."""
    message = "of the check"
    raise PageUncertain(message)


def out_of_verdicts(items: list[Any]) -> list[bool]:
    """Raise `StopIteration`, which generators take for their end."""
    return [next(iter([])) for _ in items]


BAD: dict[str, tuple[Any, type[Exception]]] = {
    "raises": (broken, KeyError),
    "stops": (out_of_verdicts, Exception),
    "uncertain": (uncertain, PageUncertain),
    "none": (lambda _: None, ClientError),
    "too few": (lambda _: [True], ClientError),
    "too many": (lambda _: [True] * 999, ClientError),
    "numbers": (lambda items: [1] * len(items), ClientError),
    "texts": (lambda items: ["no"] * len(items), ClientError),
    "a bool": (lambda _: True, ClientError),
    "numpy numbers": (lambda items: np.ones(len(items)), ClientError),
}
LATE: dict[str, tuple[Any, type[Exception]]] = {
    "raises later": (broken_later, KeyError),
    "answers wrongly later": (lambda _: asyncio.sleep(0, [True]), ClientError),
    "answers by a function later": (lambda _: asyncio.sleep(0, odd), ClientError),
}


class TestAccepted:
    """A check fails closed in blocking and asynchronous sessions."""

    @staticmethod
    async def refuse(search: Any, policy: Policy | None, error: type[Exception]) -> None:
        """Make a call that fails, and assert that it has returned and lost nothing."""
        before = search.report
        async with asyncio.timeout(2):  # a check whose answer is lost would never end
            with pytest.raises(error):
                await search.fetch_until(*[] if policy is None else [policy])
        after = search.report
        assert (before.kept, before.dropped) == (after.kept, after.dropped)

    @pytest.mark.parametrize("bad", BAD)
    async def test_it_fails_closed(self, colour: Colour, small: Bench, bad: str) -> None:
        """A check that raises, or does not return one bool for each match, ends the call; no match is lost."""
        check, error = BAD[bad]
        async with colour.open(small.index) as search:
            assert [0, 1] == numbers(await search.fetch_next(2))
            await self.refuse(search, Accepted(3, check), error)
            await self.refuse(search, MaxResults(4) & Accepted(3, check), error)
            assert [3, 5] == numbers(await search.fetch_until(Accepted(2, odd)))
            assert list(range(6, 40)) == numbers(await search.fetch_next(99))

    @pytest.mark.parametrize("late", LATE)
    async def test_it_fails_closed_later(self, small: Bench, late: str) -> None:
        """An awaited check that raises, or does not return one bool for each match, ends the call; no match is lost."""
        check, error = LATE[late]
        async with Colour(True).open(small.index) as search:
            await self.refuse(search, Accepted(3, check), error)
            assert list(range(40)) == numbers(await search.fetch_next(99))

    @pytest.mark.parametrize("check", [later, Calling(), functools.partial(later), lambda items: later(items)])
    async def test_checks_that_are_awaited(self, small: Bench, check: Any) -> None:
        """An asynchronous search takes a coroutine function of any kind as a check; a blocking search refuses it."""
        async with Colour(True).open(small.index) as search:
            assert [1, 3, 5] == numbers(await search.fetch_until(Accepted(3, check)))
            assert [6, 7] == numbers(await search.fetch_next(2))
        async with Colour(False).open(small.index) as search:
            with pytest.raises(ClientError, match="the check has to be awaited"):
                await search.fetch_until(Accepted(3, check))
            assert (0, {}) == (search.report.kept, search.report.dropped)
            assert [0, 1, 2] == numbers(await search.fetch_next(3))

    async def test_a_future_is_no_answer(self, small: Bench) -> None:
        """A blocking search refuses a check that returns a future."""
        future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        async with Colour(False).open(small.index) as search:
            await self.refuse(search, Accepted(3, lambda _: future), ClientError)
            assert [0, 1, 2] == numbers(await search.fetch_next(3))

    async def test_arrays_of_bools(self, colour: Colour, small: Bench) -> None:
        """The bools of numpy are valid answers."""
        async with colour.open(small.index) as search:
            check: Any = lambda items: np.array(odd(items))  # noqa: E731 - no Sequence, as far as types go
            assert [1, 3, 5] == numbers(await search.fetch_until(Accepted(3, check)))

    @pytest.mark.parametrize("blocking", [False, True])
    async def test_cancelled(self, small: Bench, blocking: bool) -> None:
        """A task that is cancelled while a check runs returns nothing and loses nothing."""
        called, answered = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        async def thinking(items: list[Any]) -> list[bool]:
            called.set()
            await asyncio.Event().wait()
            return everything(items)

        def working(items: list[Any]) -> list[bool]:
            loop.call_soon_threadsafe(called.set)
            answered.wait()
            return everything(items)

        async with Colour(True).open(small.index) as search:
            assert [0, 1] == numbers(await search.fetch_next(2))
            task = asyncio.create_task(search.fetch_until(Accepted(3, working if blocking else thinking)))
            await called.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            answered.set()
            assert (2, {}, 3) == (search.report.kept, search.report.dropped, search.report.waiting)
            assert [3, 5] == numbers(await search.fetch_until(Accepted(2, odd)))
            assert list(range(6, 40)) == numbers(await search.fetch_next(99))

    async def test_an_interrupt(self, small: Bench) -> None:
        """A blocking search that the user interrupts while a check runs returns nothing and loses nothing."""

        def interrupted(items: list[Any]) -> list[bool]:
            raise KeyboardInterrupt

        with RetrievalSession(small.index, QUERY, WHOLE) as search:
            with pytest.raises(KeyboardInterrupt):
                search.fetch_until(Accepted(3, interrupted))
            assert list(range(40)) == numbers(search.fetch_next(99))

    async def test_an_own_check_fails_closed_for_every_call(self, colour: Colour, small: Bench) -> None:
        """While the check of the search's own policy fails, no call returns anything."""
        permits: list[Callable[[list[Any]], Any]] = [broken]
        async with colour.open(small.index, until=Accepted(2, lambda items: permits[0](items))) as search:
            await self.refuse(search, None, KeyError)
            await self.refuse(search, MaxResults(2), KeyError)
            with pytest.raises(KeyError):
                await search.fetch_next(2)
            permits[0] = odd
            assert [1, 3, 5] == numbers(await search.fetch_next(3))


BOTH = SHAPES["hybrid"].question


class Picky(Policy):
    """Sets every second match aside."""

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that counts the matches it was shown."""
        return PickyState(self)


class PickyState(PolicyState):
    """Counts the matches that it was shown."""

    seen = 0

    def fits(self, candidate: Candidate) -> bool:
        """Return whether this is a second match."""
        self.seen += 1
        return self.seen % 2 == 0


class TestFused:
    """Policies of scores refuse fused scores, which are made of ranks and do not measure nearness."""

    @pytest.fixture(params=["hybrid", "hybrid-batch"])
    def hybrid(self, request: pytest.FixtureRequest) -> Iterator[Bench]:
        """A hybrid index, for each way of fusing its components."""
        bench = Bench.build(SHAPES[request.param])
        yield bench
        assert 0 == bench.engine.open_queries()

    @staticmethod
    async def refuse(colour: Colour, index: Index, question: SearchQuery, policy: Policy) -> None:
        """Assert that every call with a policy of scores is refused before anything is pulled."""
        recording = Recording(index._transport)
        name = next(leaf.name for leaf in policy.leaves() if leaf.scores_only)
        async with colour.over(recording, question) as search:
            with pytest.raises(ClientError, match=f"{name} compares scores"):
                await search.fetch_until(policy)
            assert {"info"} >= set(recording.sent)
            assert 3 == len(await search.fetch_until(MaxResults(3)))
        async with colour.over(recording, question, until=policy) as search:
            for call in (search.fetch_until, lambda: search.fetch_next(1), lambda: search.fetch_until(MaxResults(1))):
                with pytest.raises(ClientError, match=f"{name} compares scores"):
                    await call()
            assert ({}, 0) == (search.report.dropped, search.report.pulls)

    @pytest.mark.parametrize(
        "policy", [*SCORES, MaxResults(3) | MinScore(0.1), MaxResults(3) & (ScoreGap() | MaxResults(9))]
    )
    @pytest.mark.parametrize("mode", [None, RetrievalMode.HYBRID])
    async def test_by_vectors(self, colour: Colour, hybrid: Bench, policy: Policy, mode: RetrievalMode | None) -> None:
        """Policies of scores refuse a search by both vectors, whether its mode is given or not."""
        await self.refuse(colour, hybrid.index, replace(BOTH, mode=mode), policy)

    @pytest.mark.parametrize("policy", SCORES)
    @pytest.mark.parametrize("mode", [None, RetrievalMode.HYBRID])
    async def test_by_text(self, colour: Colour, text: Index, policy: Policy, mode: RetrievalMode | None) -> None:
        """Policies of scores refuse a search by text that the index fuses, by request or by default."""
        await self.refuse(colour, text, SearchQuery(data=QUESTION, mode=mode), policy)

    @pytest.mark.parametrize("policy", SCORES)
    @pytest.mark.parametrize(
        "question",
        [
            SearchQuery(vector=BOTH.vector),
            SearchQuery(sparse_vector=BOTH.sparse_vector),
            replace(BOTH, mode=RetrievalMode.DENSE),
            replace(BOTH, mode=RetrievalMode.SPARSE),
        ],
    )
    async def test_one_component_of_a_hybrid_index(
        self, colour: Colour, hybrid: Bench, policy: Policy, question: SearchQuery
    ) -> None:
        """Policies of scores accept a search by one of the vectors, also over a hybrid index."""
        async with colour.open(hybrid.index, question) as search:
            assert await search.fetch_until(policy)

    @pytest.mark.parametrize("mode", [RetrievalMode.DENSE, RetrievalMode.SPARSE])
    async def test_one_component_by_text(self, colour: Colour, text: Index, mode: RetrievalMode) -> None:
        """Policies of scores accept a search by text in one component."""
        async with colour.open(text, SearchQuery(data=QUESTION, mode=mode), guards=Limits()) as search:
            every_one = await search.fetch_next(99)
        least = every_one[0].score * 0.75
        expected = [match.id for match in every_one if match.score >= least]
        async with colour.open(text, SearchQuery(data=QUESTION, mode=mode), guards=Limits()) as search:
            assert expected == [match.id for match in await search.fetch_until(MinScore(least))]

    async def test_an_index_of_one_component_that_chooses(self, colour: Colour) -> None:
        """Policies of scores accept a search by text that leaves its mode to an index of one component."""
        with Index.embedded(type="sparse", sparse_embedding="bm25") as index:
            index.upsert([("a", "the blue sky"), ("b", "the blue sea")])
            async with colour.open(index, SearchQuery(data="blue"), until=RelativeScore(0.5)) as search:
                assert 2 == len(await search.fetch_next(3))

    async def test_widened_into_ranks(self, colour: Colour, text: Index) -> None:
        """A search with a policy of scores is refused from the moment that it is widened to both components."""
        question = SearchQuery(data=QUESTION, mode=RetrievalMode.DENSE)
        async with colour.open(text, question, until=MinScore(0)) as search:
            assert 3 == len(await search.fetch_next(3))
            await search.widen(retrieval_mode="hybrid")
            with pytest.raises(ClientError, match="min_score compares scores"):
                await search.fetch_next(3)
            await search.widen(retrieval_mode="sparse")
            assert await search.fetch_next(3)

    async def test_rows_of_ranks_that_wait(self, colour: Colour, text: Index) -> None:
        """Waiting matches of a fused search are refused by a policy of scores even after the search was widened."""
        async with colour.open(text, SearchQuery(data=QUESTION, mode=RetrievalMode.HYBRID)) as search:
            assert await search.fetch_until(Picky() | MaxResults(2))
            await search.widen(retrieval_mode="dense")
            assert search.report.waiting
            with pytest.raises(ClientError, match="min_score compares scores"):
                await search.fetch_until(MinScore(0))
            assert await search.fetch_next(search.report.waiting)
            assert await search.fetch_until(MinScore(0) | MaxResults(3))
