"""Fair turns: no index's slow calls keep another's from running, and a server that is stopped lets nobody wait."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.engine.abandonment import is_abandoned
from nextk.errors import RefusedError
from nextk.server.fair_turns import FairQueue
from nextk.server.turns import Turns
from tests.server.test_turns import Gate, stays

STEPS = st.lists(st.one_of(st.sampled_from("abc"), st.integers(0, 30)), max_size=60)
"""A call of an index, or the end of the call of a number, which may still wait."""


@given(count=st.integers(1, 4), steps=STEPS)
def test_any_sequence(count: int, steps: list[str | int]) -> None:
    """Only so many calls run, one more where its index has none, in order by index, and no turn is left unused."""
    queue = FairQueue[tuple[str, int]](count)
    waiting: list[tuple[str, int]] = []
    running: list[tuple[str, int]] = []
    for number, step in enumerate(steps):
        if isinstance(step, str):
            queue.add(step, (step, number))
            waiting.append((step, number))
        else:
            for calls in (waiting, running):
                for call in [call for call in calls if call[1] == step]:
                    calls.remove(call)
                    queue.remove(call[0], call)
        for call in queue.take():
            index = call[0]
            assert call == next(other for other in waiting if other[0] == index)
            assert len(running) < count or (len(running) == count and index not in [each for each, _ in running])
            waiting.remove(call)
            running.append(call)
        indexes = {index for index, _ in running}
        assert not waiting or len(running) >= count
        assert len(running) > count or not [call for call in waiting if call[0] not in indexes]
        assert Counter(index for index, _ in waiting) == queue.waiting()
        assert set(waiting) == set(queue.waiting_calls())


def test_indexes_take_turns() -> None:
    """An index with one call waits for one call of each other index, however many they have."""
    queue, order = FairQueue[str](1), list[str]()
    for index, calls in {"a": 4, "b": 1, "c": 2}.items():
        for number in range(calls):
            queue.add(index, f"{index}{number}")
    running = list(queue.take())
    while running:
        order.append(running.pop(0))
        queue.remove(order[-1][0], order[-1])
        running += queue.take()
    assert ["a0", "b0", "c0", "a1", "c1", "a2", "a3"] == order


class TestThreads:
    """The threads that make the calls."""

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """A gate that is open in the end."""
        gate = Gate()
        yield gate
        gate.open()

    @pytest.fixture
    def turns(self) -> Iterator[Turns]:
        """Two turns, and the spare one."""
        turns = Turns(2, "test")
        yield turns
        turns.close()

    async def test_slow_calls_of_one_index_leave_room_for_another(self, gate: Gate, turns: Turns) -> None:
        """While one index's calls take all turns and more of them wait, another's calls are made, one by one."""
        slow = [asyncio.create_task(turns.run("slow", lambda: gate.call("slow"), stays)) for _ in range(5)]
        await gate.until_running(2)
        for number in range(3):
            assert number == await turns.run("other", lambda number=number: number, stays)  # type: ignore[misc]
        assert ({"slow": 3}, 2) == (turns.waiting(), gate.running)
        gate.open()
        assert ["slow"] * 5 == await asyncio.gather(*slow)

    async def test_the_end(self, gate: Gate, turns: Turns) -> None:
        """At the end calls that wait and calls that come are refused in words, and those that run learn of it."""
        reasons: list[str] = []
        given_up = threading.Event()

        def patient() -> None:
            gate.call("patient")
            given_up.wait()
            try:
                is_abandoned()
            except RefusedError as error:
                reasons.append(str(error))
                raise

        tasks = [asyncio.create_task(turns.run("docs", patient, stays)) for _ in range(4)]
        await gate.until_running(2)
        turns.end()
        gate.open()
        given_up.set()
        for result in await asyncio.gather(*tasks, turns.run("docs", patient, stays), return_exceptions=True):
            assert isinstance(result, RefusedError)
            assert 503 == result.status
            assert str(result).startswith("The server is being stopped")
        assert (2, 2) == (len(reasons), len(gate.made))
        turns.close()
        assert "new" == await turns.run("docs", lambda: "new", stays)
