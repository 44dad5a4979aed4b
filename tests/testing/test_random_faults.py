"""Faults by chance are the same ones for the same seed, and as frequent as they were asked to be."""

import contextlib
import threading
from collections import Counter

import pytest

from nextk import Index
from nextk.errors import ClientError
from nextk.testing import Fault, RandomFaults, RequestKind, faulty
from nextk.testing.server import FaultyServer
from tests.support.searches import COLOURS, SHAPES, drained, search_of


def test_a_seed_decides() -> None:
    """Two plans with one seed hit the same requests by the same faults, and another seed hits others."""
    drawn = []
    for seed in (3, 3, 4):
        plan = RandomFaults(seed, drop_request=0.2, drop_reply=0.2, truncate=0.1, error_page=0.1, reset=0.1)
        drawn.append([plan.on_request(RequestKind.NEXT) for _ in range(100)])
        assert [fault for fault in drawn[-1] if fault] == [hit.fault for hit in plan.injected]
    assert drawn[0] == drawn[1] != drawn[2]


def test_certain_faults() -> None:
    """A fault of probability 1 hits every request. A request that is lost has no reply that could be lost."""
    plan = RandomFaults(0, drop_request=1, drop_reply=1)
    assert {Fault.DROP_REQUEST} == {plan.on_request(RequestKind.STOP) for _ in range(20)}
    assert 20 == plan.count(RequestKind.STOP)


@pytest.mark.parametrize("chances", [{"reset": -0.1}, {"drop_request": 1.5}, {"drop_reply": 0.6, "truncate": 0.6}])
def test_impossible_probabilities(chances: dict[str, float]) -> None:
    """A probability that is none is refused."""
    with pytest.raises(ClientError, match="probabilities"):
        RandomFaults(0, **chances)  # type: ignore[arg-type]


def test_how_many() -> None:
    """The faults of a seed are as many as their probabilities say, of each way counted by itself."""
    plan = RandomFaults(7, drop_request=0.15, drop_reply=0.15)
    drawn = Counter(plan.on_request(RequestKind.NEXT) for _ in range(10_000))
    assert 10_000 == plan.requests
    assert drawn == {None: 7_179, Fault.DROP_REQUEST: 1_504, Fault.DROP_REPLY: 1_317}


def test_some_kinds() -> None:
    """Requests of other kinds than those that were chosen are counted, and not hit."""
    plan = RandomFaults(0, drop_request=1, at=[RequestKind.PAGE])
    kinds = (RequestKind.START, RequestKind.NEXT, RequestKind.STOP, RequestKind.OTHER)
    lost = Fault.DROP_REQUEST
    assert [lost, lost, None, None] == [plan.on_request(kind) for kind in kinds]
    assert 4 == plan.requests


def test_threads() -> None:
    """Requests from several threads are each counted and noted once."""
    plan = RandomFaults(0, drop_request=0.5)

    def ask() -> None:
        for _ in range(500):
            plan.on_request(RequestKind.NEXT)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [hit.nth for hit in plan.injected]
    assert 2_000 == plan.requests
    assert sorted(set(numbers)) == numbers


@pytest.mark.parametrize("way", ["carrier", "http"])
@pytest.mark.parametrize("colour", COLOURS)
async def test_an_application_goes_on(way: str, colour: str) -> None:
    """Writes, reads and searches work out although their requests and replies are lost now and then."""
    shape = SHAPES["dense"]
    chances = {
        "drop_request": 0.08,
        "drop_reply": 0.08,
        "truncate": 0.04,
        "error_page": 0.04,
        "late": 0.04,
        "reset": 0.04,
    }
    plan = RandomFaults(5, delay=0, **chances)  # type: ignore[arg-type]
    with contextlib.ExitStack() as stack:
        if way == "http":
            server = stack.enter_context(FaultyServer(plan, **shape.schema))
            index = stack.enter_context(Index(server.url, server.token, retries=9, retry_interval=0))
        else:
            index = faulty(stack.enter_context(Index.embedded(**shape.schema)), plan)
        index.upsert(shape.records())
        assert 30 == index.info().vector_count
        assert "r7" == index.fetch("r7")[0].id  # type: ignore[union-attr]
        best = [match.id for match in index.query(top_k=30, **shape.question.parameters())]
        for _ in range(10):
            assert best == await drained(search_of(index, shape.question, colour), 4)
        await index.to_async().close()
    assert {hit.fault for hit in plan.injected} == set(Fault) - {Fault.EXPIRE, Fault.EVICT, Fault.RESTART}
