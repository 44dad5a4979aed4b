"""Whole worlds, by seeds: whatever happens to messages, server and clock, each search gets each row once, in order.

The choices come from a generator of each seed, and not from Hypothesis: a run makes hundreds of choices, most of them
about messages that exist only because of the choices before. Hypothesis would take minutes to make one failing run
smaller, where leaving out one named fault after the other takes seconds (`tests.simulation.shrink`); and a seed is all
that is needed to run a world again.
"""

from collections import Counter

import pytest

from tests.simulation.trace import Trace
from tests.simulation.weather import Mishap
from tests.simulation.world import command_of, run

SEEDS = 200
CHUNK = 50
EVENTS = {mishap.value for mishap in Mishap} | {
    "acknowledged writes",
    "calls given up",
    "errors told",
    "evictions",
    "evictions to make room",
    "jumps",
    "limits reached",
    "no server",
    "recoveries",
    "reordered",
    "repeats",
    "restarts",
    "resumes",
}
"""The kinds of events that have to happen, or the worlds would prove little."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_worlds(first: int) -> None:
    """Searches bring each row once and in order, acknowledged writes are there, and in the end nothing is left open."""
    counts: Counter[str] = Counter()
    failed = {}
    for seed in range(first, first + CHUNK):
        world = run(seed)
        counts += world.trace.counts
        if world.failures:
            failed[command_of(seed)] = world.failures
    assert {} == failed
    assert set() == EVENTS - counts.keys()


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_a_seed_decides_everything(seed: int) -> None:
    """Two runs of a seed have the same trace, to the last byte and the last microsecond."""
    first, second = run(seed), run(seed)
    assert first.trace.lines() == second.trace.lines()
    assert 20 < len(first.trace.lines())


def test_no_uuid_is_in_a_trace() -> None:
    """A trace names queries in the order of their first appearance, so that two runs can be compared."""
    trace = Trace()
    for number in (1, 2, 1):
        trace.note(0.5, "one", f"stops 00000000-0000-0000-0000-00000000000{number}")
    assert ["q1", "q2", "q1"] == [line.split()[-1] for line in trace.lines()]
