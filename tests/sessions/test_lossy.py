"""Sessions over connections that lose requests and replies by chance: all pages come, in order, at a bounded cost."""

import contextlib
from collections.abc import Iterator

import pytest

from nextk import Index
from nextk.testing import FaultPlan, ManualClock, RequestKind, faulty
from nextk.testing.server import FaultyServer
from tests.support.lossy import KINDS, LossyRun, losing, lossy_run, records, undisturbed
from tests.support.searches import COLOURS, SHAPES, Bench

SEEDS = (1, 2)
AT_MOST = {0.01: 70, 0.05: 90, 0.15: 100, 0.34: 200}
"""The requests that 60 pages may cost where pages are numbered, by the probability of each loss."""
AT_MOST_WITHOUT_NUMBERS = {0.01: 75, 0.05: 110, 0.15: 150}
"""The requests that they may cost elsewhere, if the order does not depend on the sizes of the pages."""


@pytest.fixture(scope="module", params=KINDS)
def searched(request: pytest.FixtureRequest) -> Iterator[tuple[str, Bench, list[str]]]:
    """An index for each kind of search, and the order without faults."""
    bench = Bench.build(SHAPES[KINDS[request.param]])
    bench.index.upsert(records(request.param))
    yield request.param, bench, undisturbed(bench.index, request.param)
    bench.index.close()


def check(run: LossyRun, expected: list[str], plan: FaultPlan) -> None:
    """All pages came, in order, without an error, and the report says what happened."""
    assert ("", expected) == (run.error, run.served)
    hits = [hit for hit in plan.injected if hit.at in (RequestKind.START, RequestKind.NEXT)]
    assert len(hits) == run.recovery.faults
    assert run.waited == pytest.approx(run.recovery.waited)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("probability", AT_MOST)
async def test_numbered_pages(searched: tuple[str, Bench, list[str]], probability: float, colour: str) -> None:
    """Where pages are numbered, each loss costs a request or two, nothing is started again, and nothing left open."""
    kind, bench, expected = searched
    for seed in SEEDS:
        plan = losing(seed, probability, bench.clock)
        run = await lossy_run(faulty(bench.index, plan), kind, plan, colour)
        check(run, expected, plan)
        assert run.requests <= AT_MOST[probability]
        assert (0, 0) == (run.recovery.replays, run.recovery.left_open)
        bench.index.info()
        assert 0 == bench.engine.open_queries()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("probability", AT_MOST_WITHOUT_NUMBERS)
async def test_without_numbers(searched: tuple[str, Bench, list[str]], probability: float, colour: str) -> None:
    """Elsewhere a loss costs one start for all pages, or a replay page by page; what may be left open is said."""
    kind, bench, expected = searched
    by_page = kind == "hybrid, batch"  # at 15 % it costs about a thousand requests
    for seed in SEEDS[:1] if by_page else SEEDS:
        plan = losing(seed, probability, bench.clock)
        run = await lossy_run(faulty(bench.index, plan, numbered_pages=False), kind, plan, colour)
        check(run, expected, plan)
        assert len(plan.lost) <= run.recovery.left_open
        if not by_page:
            assert run.requests <= AT_MOST_WITHOUT_NUMBERS[probability]
            assert run.recovery.merged == run.recovery.replays
        assert 0 == bench.open_queries_after_idling()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "not numbered"])
async def test_over_http(colour: str, *, numbered: bool) -> None:
    """Real connections that break bring all pages, too."""
    clock = ManualClock()
    shape = SHAPES["dense"]
    with contextlib.ExitStack() as stack:
        faulty_server = FaultyServer(FaultPlan(clock=clock), numbered_pages=numbered, **shape.schema)
        server = stack.enter_context(faulty_server)
        index = stack.enter_context(Index(server.url, server.token, retry_interval=0))
        index.upsert(records("dense"))
        expected = undisturbed(index, "dense")
        plan = server.app.plan = losing(3, 0.15, clock)
        run = await lossy_run(index, "dense", plan, colour)
        server.app.plan = FaultPlan(clock=clock)
        await index.to_async().close()
        assert ("", expected) == (run.error, run.served)
        assert run.requests <= 150
        index.info()
        assert not numbered or 0 == server.engine.open_queries()
