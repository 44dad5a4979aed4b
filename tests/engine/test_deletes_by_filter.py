"""Deletes by a filter: which records are deleted if others write in the pauses, and that there is an end."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nextk.engine import passing
from tests.support.bare_engine import Rig
from tests.support.pauses import act_in_pauses

PART = 5


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """An index of ten records in two parts, the last seven of which pass `n >= 3`."""
    monkeypatch.setattr(passing, "_ROWS_AT_ONCE", PART)
    with Rig(dimension=2) as rig:
        rig.upsert(*(record(number) for number in range(10)), namespace="docs")
        yield rig


def record(number: int, **metadata: Any) -> dict[str, Any]:
    """A record whose metadata is its number, unless it is given."""
    return {"id": str(number), "vector": [1.0, number], "metadata": metadata or {"n": number}}


def ids(rig: Rig, namespace: str = "docs") -> set[str]:
    """The ids of the records of a namespace."""
    return {id_ for id_, _ in rig.query(vector=[1.0, 0.0], topK=1_000, namespace=namespace)}


def rename_away(rig: Rig) -> None:
    """Give the name of the namespace to a new one."""
    rig.engine.rename_namespace("docs", "old", replace=False)
    rig.upsert(record(0), record(9), namespace="docs")


def passes_no_more(rig: Rig) -> None:
    """Change a record that has passed already, and one that has not been looked at."""
    for id_ in ("4", "8"):
        rig.update(id=id_, metadata={"n": 0}, namespace="docs")


def passes_now(rig: Rig) -> None:
    """Write a new record that passes, and delete another one."""
    rig.upsert(record(20), namespace="docs")
    rig.delete(ids=["3", "0"], namespace="docs")


def refill(rig: Rig) -> None:
    """Delete everything, and write records of the same ids and numbers, all of which pass, at once."""
    rig.engine.reset("docs")
    rig.upsert(*(record(number, n=9) for number in range(10)), namespace="docs")


def made_anew(rig: Rig) -> None:
    """Delete the namespace, and make another one of the same name."""
    rig.engine.delete_namespace("docs")
    rig.upsert(*(record(number, n=9) for number in range(10)), namespace="docs")


@pytest.mark.parametrize(
    ("write", "deleted", "left"),
    [
        (lambda _rig: None, 7, {"0", "1", "2"}),
        (passes_no_more, 5, {"0", "1", "2", "4", "8"}),
        (passes_now, 6, {"1", "2", "20"}),
        (refill, 0, set(map(str, range(10)))),
        (rename_away, 0, {"0", "9"}),
        (made_anew, 0, set(map(str, range(10)))),
        (lambda rig: rig.engine.delete_namespace("docs"), 0, set()),
    ],
    ids=["nothing", "passes no more", "passes now", "refilled", "renamed", "made anew", "dropped"],
)
def test_writes_meanwhile(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, write: Callable[[Rig], object], deleted: int, left: set[str]
) -> None:
    """Of the records that there were at the beginning, those are deleted that passed and still pass in the end."""
    writes = iter([write])
    act_in_pauses(monkeypatch, lambda: next(writes, lambda _rig: None)(rig))
    assert deleted == rig.delete(filter="n >= 3", namespace="docs")
    assert left == ids(rig)


def test_another_namespace_of_the_name(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an older namespace is given the name meanwhile, what passes in that one is deleted, and in no other one."""
    rig.upsert(*(record(number) for number in range(1, 7)), namespace="next")

    def swap() -> None:
        names = rig.engine.list_namespaces()
        if "next" in names:
            rig.engine.rename_namespace("docs", "old", replace=False)
            rig.engine.rename_namespace("next", "docs", replace=False)

    act_in_pauses(monkeypatch, swap)
    assert 4 == rig.delete(filter="n >= 3", namespace="docs")
    assert {"1", "2"} == ids(rig)
    assert set(map(str, range(10))) == ids(rig, "old")


@pytest.mark.parametrize("count", [4, 5, 9, 10, 13])
def test_a_writer_in_every_pause(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A delete ends after as many parts as there were at the beginning, however much is inserted in its pauses."""
    monkeypatch.setattr(passing, "_ROWS_AT_ONCE", PART)
    numbers = itertools.count(100)
    pauses: list[int] = []
    with Rig(dimension=2) as rig:
        rig.upsert(*(record(number) for number in range(count)))

        def write() -> None:
            pauses.append(len(pauses))
            assert len(pauses) < 10
            rig.upsert(*(record(next(numbers)) for _ in range(2 * PART)))

        act_in_pauses(monkeypatch, write)
        assert count - 3 == rig.delete(filter="n >= 3")
        assert len(pauses) == count // PART
        assert {"0", "1", "2"} == {id_ for id_ in ids(rig, "") if int(id_) < 100}
        assert 3 + 2 * PART * len(pauses) == len(ids(rig, ""))


def test_names_that_are_swapped_in_every_pause(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delete ends although its name is given to another namespace in every pause, since it looks at no row twice."""
    rig.upsert(*(record(number) for number in range(10)), namespace="next")
    pauses: list[int] = []

    def swap() -> None:
        pauses.append(len(pauses))
        assert len(pauses) < 10
        for name, new in (("docs", "old"), ("next", "docs"), ("old", "next")):
            rig.engine.rename_namespace(name, new, replace=False)

    act_in_pauses(monkeypatch, swap)
    assert 7 == rig.delete(filter="n >= 3", namespace="docs")
    assert 13 == len(ids(rig)) + len(ids(rig, "next"))
