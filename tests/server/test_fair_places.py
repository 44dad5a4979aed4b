"""Fair places: one index's requests, however many wait, keep neither another index nor a short command out."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.engine.factory import open_engine
from nextk.server.app import create_app
from nextk.server.fair_places import Claim, FairPlaces
from nextk.server.intake import Intake
from nextk.testing.server import ServerThread
from tests.support.local_server import READ_ONLY_TOKEN, TOKEN
from tests.support.raw_http import RawClient, raw_client

SEARCH = Claim("a", is_costly=True, alone=False)
PLACES = 256


def filled(claim: Claim, count: int = PLACES) -> tuple[FairPlaces, int]:
    """Places of which one claim has taken as many as it may, and how many these are."""
    places = FairPlaces(count)
    return places, next(number for number in range(count + 1) if not places.take(claim))


@pytest.mark.parametrize(
    ("claim", "count"),
    [
        (SEARCH, 112),
        (Claim("a", is_costly=True, alone=True), 224),
        (Claim("a", is_costly=False, alone=False), 128),
        (Claim("a", is_costly=False, alone=True), 256),
    ],
    ids=["search", "search of the only index", "next", "next of the only index"],
)
def test_one_share_takes_only_so_much(claim: Claim, count: int) -> None:
    """A share takes half of the places at most, the only one takes all, and searches leave some to the others."""
    assert filled(claim)[1] == count


@pytest.mark.parametrize("count", [2, 3, 7, 8, 256])
def test_searches_always_leave_a_place_to_short_commands(count: int) -> None:
    """However few places there are, searches do not take the last one."""
    places, taken = filled(Claim("a", is_costly=True), count)
    assert taken >= 1
    assert places.take(Claim("a", is_costly=False))


def test_each_share_leaves_a_place_to_the_next() -> None:
    """When one index has what it may have, others still find places, and so does whoever reads with another token."""
    places, taken = filled(SEARCH)
    for share in ("b", "c", ("a", "read-only")):
        assert places.take(Claim(share, is_costly=True, alone=False))
    for _ in range(taken):
        places.give_back(SEARCH)
    assert places.take(SEARCH)


claims = st.builds(Claim, st.sampled_from("abc"), st.booleans(), st.just(False))


@given(st.lists(claims | st.integers(0, 50), max_size=200), st.integers(0, 40))
def test_places_are_counted(steps: list[Claim | int], count: int) -> None:
    """Whatever comes and goes, no more places are taken than there are, and all of them are given back."""
    places = FairPlaces(count)
    held: list[Claim] = []
    for step in steps:
        if isinstance(step, int):
            if held:
                places.give_back(held.pop(step % len(held)))
        elif places.take(step):
            held.append(step)
        assert len(held) <= count
        assert Counter(claim.is_costly for claim in held)[True] <= max(1, count - 1)
    for claim in held:
        places.give_back(claim)
    assert filled(SEARCH, count)[1] == next(n for n in range(count + 1) if not places.take(SEARCH))


# With a server


@contextmanager
def served(*names: str, read_only_token: str | None = READ_ONLY_TOKEN) -> Iterator[tuple[FairPlaces, RawClient]]:
    """Serve indexes with 16 places, and return the places and a connection."""
    with contextlib.ExitStack() as stack:
        engines = {name: open_engine(None, {"type": "dense", "dimension": 2}, name=name) for name in names}
        for engine in engines.values():
            stack.callback(engine.close)
        app = create_app(engines, token=TOKEN, read_only_token=read_only_token, max_requests=16)
        intake = app.router.default
        assert isinstance(intake, Intake)
        server = stack.enter_context(ServerThread(app))
        yield intake._places, stack.enter_context(raw_client(server))


def ask(client: RawClient, path: str, body: bytes = b"{}", token: str = TOKEN) -> int:
    """Send a request, and return the status of the reply."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    client.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return client.reply().status


QUERY = b'{"vector": [1, 0], "topK": 1}'


@pytest.mark.parametrize("token", [TOKEN, READ_ONLY_TOKEN], ids=["full", "read-only"])
def test_a_full_share_shuts_nobody_out(token: str) -> None:
    """With as many searches of one index as may wait, another index is searched, and an open query goes on."""
    with served("pairs", "others") as (places, client):
        waiting = Claim(("pairs", token == READ_ONLY_TOKEN), is_costly=True, alone=False)
        assert [True] * 7 == [places.take(waiting) for _ in range(7)]
        for path in ("/indexes/pairs/query", "/query", "/indexes/pairs/resumable-query"):
            assert ask(client, path, QUERY, token) == 503
        assert ask(client, "/indexes/others/query", QUERY, token) == 200
        assert ask(client, "/indexes/pairs/info", token=token) == 200
        assert ask(client, "/indexes/pairs/resumable-query-next", b'{"uuid": "x", "additionalK": 1}', token) == 404


def test_the_only_index_may_take_all_but_the_places_of_short_commands() -> None:
    """A server with one index and one token keeps no places for others."""
    with served("pairs", read_only_token=None) as (places, client):
        waiting = Claim(("pairs", False), is_costly=True, alone=True)
        assert [True] * 13 == [places.take(waiting) for _ in range(13)]
        assert ask(client, "/query", QUERY) == 200
        assert places.take(waiting)
        assert ask(client, "/query", QUERY) == 503
        assert ask(client, "/info") == 200
