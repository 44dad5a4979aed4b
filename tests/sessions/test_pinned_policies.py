"""A cursor pins the policies of its search: nothing that decides who sees what is lost between two sessions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from nextk.errors import ClientError, PolicyMismatch
from nextk.sessions.digest import digest_of
from nextk.until import Accepted, DistinctBy, MaxResults, MinScore, Policy, PolicyState, RerankStable, TokenBudget
from tests.support.searches import COLOURS, ROWS, SHAPES, Bench, search_of
from tests.support.transports import Awaitable


def even(rows: list[str]) -> list[bool]:
    """Permit the even rows."""
    return [int(row[1:]) % 2 == 0 for row in rows]


def every(rows: list[str]) -> list[bool]:
    """Permit every row."""
    return [True for _ in rows]


async def even_awaited(rows: list[str]) -> list[bool]:
    """Permit the even rows, in a coroutine function."""
    return even(rows)


def divisible_by(number: int) -> Callable[[list[str]], list[bool]]:
    """Return a check that permits the rows divisible by a number."""
    return lambda rows: [int(row[1:]) % number == 0 for row in rows]


def scores(rows: list[str]) -> list[float]:
    """Return the same score for every row."""
    return [0.5 for _ in rows]


def row_key(row: str) -> str:
    """Return a key that every row has for itself."""
    return row


@dataclass(frozen=True)
class Odd(Policy):
    """A policy of an application that keeps the odd rows."""

    drops: ClassVar[bool] = True

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state."""
        return _OddState(self)


class _OddState(PolicyState):
    def keeps(self, candidate: Any) -> bool:
        return int(candidate.id[1:]) % 2 == 1


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """A dense index."""
    bench = Bench.build(SHAPES["dense"])
    yield bench
    assert 0 == bench.open_queries_after_idling()
    bench.index.close()


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """Both colours of a session."""
    return str(request.param)


@pytest.fixture
def open_(bench: Bench, colour: str) -> Callable[..., Any]:
    """Return a function that opens a session of the colour."""
    return lambda **options: search_of(bench.index, bench.shape.question, colour, **options)


async def _cursor(search: Any) -> dict[str, Any]:
    cursor: dict[str, Any] = (search.inner if isinstance(search, Awaitable) else search).cursor()
    await search.stop()
    return cursor


async def _detached(search: Any) -> dict[str, Any]:
    cursor: dict[str, Any] = await search.detach()
    return cursor


async def _widened(search: Any) -> dict[str, Any]:
    await search.widen(filter="number < 1000")
    await search.fetch_next(2)
    return await _cursor(search)


WAYS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "cursor": (_cursor, {}),
    "detach": (_detached, {}),
    "widen": (_widened, {"filter": "number < 1000"}),
}
OTHERS = {
    "no policy": None,
    "another check": Accepted(10, every),
    "a check of the same name": Accepted(10, divisible_by(2)),
    "another number": Accepted(11, even),
    "another policy": MaxResults(10),
    "an awaited check": Accepted(10, even_awaited),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other", OTHERS)
async def test_another_policy_is_refused(bench: Bench, colour: str, way: str, other: str) -> None:
    """A search with a check is not resumed without it, nor with another one; the message names it and says what to do.

    The refusal costs nothing: with the same check the search goes on where it stood.
    """
    get_cursor, options = WAYS[way]
    question = bench.shape.question.within(**options)
    search = search_of(bench.index, bench.shape.question, colour, until=Accepted(10, even))
    first = await search.fetch_next(5)
    cursor = await get_cursor(search)
    with pytest.raises(PolicyMismatch, match=r"the policy accepted, .* without_policies=True"):
        search_of(bench.index, question, colour, until=OTHERS[other], cursor=cursor)
    async with search_of(bench.index, question, colour, until=Accepted(10, even), cursor=cursor) as search:
        rest = await search.fetch_next(ROWS)
    assert {f"r{number}" for number in range(0, ROWS, 2)} >= {*first, *rest}
    assert all(even(rest))
    assert not set(first) & set(rest)


async def test_the_waiver_has_to_be_written_down(open_: Callable[..., Any]) -> None:
    """With `without_policies=True` a search goes on without its check, and its next cursor does not ask for it."""
    search = open_(until=Accepted(10, even))
    first = await search.fetch_next(5)
    cursor = await _cursor(search)
    async with open_(cursor=cursor, without_policies=True) as search:
        second = await search.fetch_next(3)
        cursor = await _cursor(search)
    async with open_(cursor=cursor) as search:
        third = await search.fetch_next(ROWS)
    assert len({*first, *second, *third}) == len(first) + len(second) + len(third)
    assert not all(even(third))


@pytest.mark.parametrize(
    "until",
    [
        Accepted(10, even) | Odd(),
        Odd() | Accepted(10, even),
        Accepted(10, even) & MaxResults(3),
        Accepted(10, even) | Accepted(10, every),
    ],
    ids=lambda policy: policy.name if isinstance(policy, Policy) else None,
)
async def test_further_policies_may_join(open_: Callable[..., Any], until: Policy) -> None:
    """A search may be resumed with more policies than before, in any order and joined in any way."""
    search = open_(until=Accepted(10, even))
    await search.fetch_next(2)
    cursor = await _cursor(search)
    async with open_(cursor=cursor, until=until) as search:
        assert all(even(await search.fetch_next(3)))


async def test_each_of_two_equal_policies_counts(open_: Callable[..., Any]) -> None:
    """A search with two equal policies is not resumed with one of them."""
    search = open_(until=Odd() | Odd())
    cursor = await _cursor(search)
    with pytest.raises(PolicyMismatch, match="the policy odd"):
        open_(cursor=cursor, until=Odd())
    async with open_(cursor=cursor, until=Odd() & Odd()) as search:
        assert ["r1"] == [row for row in await search.fetch_next(ROWS) if row == "r1"]


@pytest.mark.parametrize(
    ("until", "pinned"),
    [
        (MaxResults(3), False),
        (TokenBudget(100), False),
        (RerankStable(3, scores), False),
        (MinScore(-2), True),
        (DistinctBy(row_key, 3), True),
        (Odd(), True),
        (MaxResults(3) | (Odd() & MaxResults(9)), True),
    ],
    ids=lambda policy: policy.name if isinstance(policy, Policy) else None,
)
async def test_policies_that_drop_nothing_are_not_pinned(
    open_: Callable[..., Any], until: Policy, *, pinned: bool
) -> None:
    """A search may go on without a policy that only says when to stop, but not without one that may drop matches."""
    cursor = await _cursor(open_(until=until))
    if pinned:
        with pytest.raises(PolicyMismatch, match="without_policies=True"):
            open_(cursor=cursor)
    else:
        async with open_(cursor=cursor) as search:
            assert 5 == len(await search.fetch_next(5))


async def test_the_policy_of_one_call_is_not_pinned(open_: Callable[..., Any]) -> None:
    """The policy of a single `fetch_until` belongs to that call: the cursor does not ask for it."""
    search = open_()
    await search.fetch_until(Accepted(2, even))
    cursor = await _cursor(search)
    async with open_(cursor=cursor) as search:
        assert await search.fetch_next(3)


async def test_the_check_that_always_applies_is_pinned(open_: Callable[..., Any]) -> None:
    """A further check of a retriever is pinned as the policy of the search is."""
    search = open_(always=Odd(), until=MaxResults(3))
    assert 3 == len(await search.fetch_until())
    cursor = await _cursor(search)
    with pytest.raises(PolicyMismatch, match="the policy odd"):
        open_(cursor=cursor, until=MaxResults(3))
    async with open_(cursor=cursor, always=Odd()) as search:
        assert not any(even(await search.fetch_next(ROWS)))


async def test_a_cursor_shows_no_value_of_a_policy(open_: Callable[..., Any]) -> None:
    """A cursor holds fingerprints of its policies: neither the names of functions nor the values that they hold."""
    cursor = await _cursor(open_(until=Accepted(10, divisible_by(4711))))
    assert "4711" not in str(cursor)
    assert "divisible_by" not in str(cursor)


class TestSigned:
    """Cursors that are signed with a key, so that one which was edited on purpose is refused."""

    KEY = "a secret of the application"

    async def test_it_goes_on(self, open_: Callable[..., Any]) -> None:
        """A signed cursor is resumed with its key, whether the query was left open for it or not."""
        search = open_(cursor_key=self.KEY)
        served = await search.fetch_next(5)
        for get_cursor in (_detached, _cursor):
            cursor = await get_cursor(search)
            search = open_(cursor=cursor, cursor_key=self.KEY)
            served += await search.fetch_next(5)
        await search.stop()
        assert 15 == len(set(served))
        assert self.KEY not in str(cursor)

    @pytest.mark.parametrize(
        ("made_with", "read_with", "message"),
        [
            (KEY, None, "signed: resume it with the cursor_key="),
            (None, KEY, "not signed"),
            (KEY, "another secret", "signed with another cursor_key"),
        ],
    )
    async def test_another_key(
        self, open_: Callable[..., Any], made_with: str | None, read_with: str | None, message: str
    ) -> None:
        """A cursor with another signature than the key makes is refused, and the message shows no key."""
        cursor = await _cursor(open_(cursor_key=made_with))
        with pytest.raises(ClientError, match=message) as caught:
            open_(cursor=cursor, cursor_key=read_with)
        assert "secret" not in str(caught.value).replace("another secret", "secret")

    async def test_an_edited_one(self, open_: Callable[..., Any]) -> None:
        """Whoever edits a signed cursor and makes its digest anew without the key is refused; unsigned, it passes."""
        for key in (self.KEY, None):
            cursor = await _cursor(open_(until=Accepted(10, even), cursor_key=key))
            cursor["policies"] = []
            del cursor["digest"]
            digest = digest_of(cursor)
            for forged in (digest, f"hmac-sha256:{digest}", digest_of(cursor, "a guess")):
                if key is None and forged == digest:
                    await open_(cursor={**cursor, "digest": forged}).stop()
                else:
                    with pytest.raises(ClientError, match="this cursor is"):
                        open_(cursor={**cursor, "digest": forged}, cursor_key=key)

    @pytest.mark.parametrize("key", ["", " ", "\ud800", b"bytes", 5])
    async def test_what_is_no_key(self, open_: Callable[..., Any], key: Any) -> None:
        """A key that is empty or no text is refused at once, by the name of the argument."""
        with pytest.raises(ClientError, match="cursor_key="):
            open_(cursor_key=key)
