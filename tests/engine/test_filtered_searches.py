"""Filtered searches of an engine while others write, and how one ends that takes too long."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from nextk.engine.filter.columns import Cells, Field
from nextk.engine.filter.store import FieldBudget
from nextk.engine.filter.timer import FilterTimer
from nextk.errors import RefusedError
from tests.support.bare_engine import Rig
from tests.support.small_arrays import small_arrays

COUNT = 60


def record(number: int, group: int) -> dict[str, Any]:
    """A record of a group."""
    return {"id": f"r{number}", "vector": [1.0, number], "metadata": {"group": group, "tags": [f"t{group}"]}}


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An index whose filters read four slots at once, and whose slots are soon numbered anew."""
    with small_arrays(), Rig(dimension=2) as opened:
        opened.upsert(*(record(number, number % 3) for number in range(COUNT)))
        yield opened


def between_parts(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something in another thread, and wait for it, whenever a search checks whether its filter may go on."""

    def check(timer: FilterTimer) -> None:
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()

    monkeypatch.setattr(FilterTimer, "check", check)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("filter", ["group = 1", "tags NOT CONTAINS 't2'", "HAS FIELD tags[0] AND group < 2"])
def test_a_search_sees_one_moment(rig: Rig, monkeypatch: pytest.MonkeyPatch, filter: str, seed: int) -> None:
    """A filter lets through what passes when its last field was read, whatever was written while it was read.

    The lock is free meanwhile, since the search would wait for the writer for ever otherwise.
    """
    chance, groups = random.Random(seed), {f"r{number}": number % 3 for number in range(COUNT)}  # noqa: S311
    numbers = iter(chance.choices(range(COUNT + 9), k=8))

    def write() -> None:
        number = next(numbers, None)
        if number is None:
            return
        batch = [number, *chance.sample(range(COUNT), 5)]
        if chance.random() < 0.5:
            rig.delete(ids=[f"r{each}" for each in batch])
            for each in batch:
                groups.pop(f"r{each}", None)
        else:
            group = chance.randrange(4)
            rig.upsert(*(record(each, group) for each in batch))
            groups.update((f"r{each}", group) for each in batch)

    between_parts(monkeypatch, write)
    passes: Callable[[int], bool] = {
        "group = 1": lambda group: group == 1,
        "tags NOT CONTAINS 't2'": lambda group: group != 2,
    }.get(filter, lambda group: group < 2)
    found = rig.query(vector=[1.0, 1.0], topK=1_000, filter=filter)
    assert next(numbers, None) is None, "all writes came while the fields were read"
    assert {id_ for id_, group in groups.items() if passes(group)} == {id_ for id_, _ in found}


def test_two_searches_fill_the_same_columns(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches that need the same fields at the same time find the same rows."""
    query: dict[str, Any] = {"vector": [1.0, 1.0], "topK": 1_000, "filter": "group = 1"}
    others: list[Any] = []

    def search() -> None:
        monkeypatch.undo()
        others.append(rig.query(**query))

    between_parts(monkeypatch, lambda: search() if not others else None)
    assert [rig.query(**query)] == others
    assert 20 == len(others[0])


def test_an_update_of_the_metadata_is_seen_at_once(rig: Rig) -> None:
    """Metadata that were changed, by themselves or with a vector, count for the next search."""
    query: dict[str, Any] = {"vector": [1.0, 1.0], "topK": 1_000, "filter": "group = 7"}
    assert [] == rig.query(**query)
    rig.update(id="r3", metadata={"group": 7})
    rig.update(id="r4", metadata={"group": 7}, vector=[2.0, 2.0])
    rig.upsert(record(99, 7))
    assert ["r3", "r4", "r99"] == sorted(id_ for id_, _ in rig.query(**query))
    rig.update(id="r3", metadata={"group": 8})
    rig.delete(ids=["r99"])
    assert ["r4"] == [id_ for id_, _ in rig.query(**query)]


def test_what_a_filter_has_read_is_not_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further search by the same fields reads the metadata of new records alone."""
    rig.query(vector=[1.0, 1.0], topK=1, filter="group = 1")
    read: list[int] = []
    cells = rig.engine._storage.cells

    def counted(fields: Sequence[Field], rows: Sequence[int]) -> list[Cells]:
        read.extend(rows)
        return cells(fields, rows)

    monkeypatch.setattr(rig.engine._storage, "cells", counted)
    rig.query(vector=[1.0, 1.0], topK=1, filter="group = 2 OR group > 5")
    assert [] == read
    rig.upsert(record(99, 7))
    rig.query(vector=[1.0, 1.0], topK=1, filter="group = 2")
    assert 1 == len(read)


def test_a_filter_that_takes_too_long_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search ends when the time of its filter is over, and says what to do; without a filter it has all the time."""
    monkeypatch.setattr(rig.engine, "_filter_timeout", 0)
    assert 1 == len(rig.query(vector=[1.0, 1.0], topK=1))
    with pytest.raises(RefusedError, match="The filter took longer than 0 seconds") as caught:
        rig.query(vector=[1.0, 1.0], topK=1, filter="group = 1")
    assert 503 == caught.value.status


@pytest.mark.parametrize("filter", ["group = 1", "tags NOT CONTAINS 't2'", "group < 2 AND tags[0] GLOB 't*'"])
def test_a_field_that_is_too_large_for_memory_stays_in_the_file(rig: Rig, filter: str) -> None:
    """A filter lets through the same records, and the memory is what is allowed, whatever is written meanwhile."""
    query: dict[str, Any] = {"vector": [1.0, 1.0], "topK": 1_000, "filter": filter}
    found = rig.query(**query)
    rig.engine._field_budget = FieldBudget(0)
    rig.upsert(record(COUNT, 1))
    assert len(found) + 1 == len(rig.query(**query))
    rig.delete(ids=[f"r{COUNT}"])
    assert found == rig.query(**query)
    assert 0 == rig.engine._cache.columns(1).fields.nbytes
