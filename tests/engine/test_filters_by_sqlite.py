"""Filters that SQLite evaluates: what they evaluate, when they make room for others, and what counts as their time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nextk.engine.filter import glob
from nextk.engine.filter.store import FieldBudget
from tests.support.bare_engine import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An index of ten records whose fields are too large for memory, so that SQLite evaluates filters."""
    with Rig(dimension=2) as rig:
        rig.upsert(*(record(number) for number in range(10)))
        rig.engine._field_budget = FieldBudget(0)
        rig.query(vector=[1.0, 0.0], filter="n >= 0 AND word GLOB 'a*'")
        yield rig


def record(number: int) -> dict[str, Any]:
    """A record with a number and a word."""
    return {"id": str(number), "vector": [1.0, number], "metadata": {"n": number, "word": f"a{number}"}}


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that are compared with a pattern."""
    compared: list[str] = []
    made = glob.matcher

    def matcher(pattern: str) -> Callable[[str], bool]:
        def matches(word: str) -> bool:
            compared.append(word)
            return made(pattern)(word)

        return matches

    monkeypatch.setattr(glob, "matcher", matcher)
    return compared


@pytest.mark.parametrize(
    ("filter", "compared", "passing"),
    [
        ("n < 2 AND word GLOB '*1'", ["a0", "a1"], {"1"}),
        ("n >= 2 OR word GLOB '*1'", ["a0", "a1"], {"1", *map(str, range(2, 10))}),
        ("(n < 5 AND word GLOB '*1') OR (n = 7 AND word GLOB '*7')", ["a0", "a1", "a2", "a3", "a4", "a7"], {"1", "7"}),
    ],
)
def test_nothing_is_evaluated_that_cannot_matter(
    rig: Rig, words: list[str], filter: str, compared: list[str], passing: set[str]
) -> None:
    """Where one side of AND or OR decides, the other side is not evaluated, be it for a search, a page or a delete."""
    search: dict[str, Any] = {"vector": [1.0, 0.0], "topK": 10, "filter": filter}
    assert passing == {id_ for id_, _ in rig.query(**search)}
    assert compared == sorted(words)

    uuid, _ = rig.start(**{**search, "topK": 1})
    rig.upsert(*(record(number) for number in range(10)))  # so that a page evaluates the filter anew
    words.clear()
    assert len(passing) - 1 == len(rig.fetch_next(uuid, 9))
    assert set(compared) >= set(words)
    rig.engine.stop(uuid)

    words.clear()
    assert len(passing) == rig.delete(filter=filter)
    assert compared == sorted(words)
