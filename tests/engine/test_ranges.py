"""Ranges over the records of a namespace, against a model in plain Python."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.bodies import Range
from nextk.engine.protocol import RangePage
from tests.support.bare_engine import Rig

NAMESPACES = st.sampled_from(["", "x", "y"])
IDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aa", "c"]), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), NAMESPACES, IDS),
        st.tuples(st.just("delete"), NAMESPACES, IDS),
        st.tuples(st.just("range"), NAMESPACES, st.tuples(st.integers(1, 3), st.sampled_from(["", "a", "b"]))),
        st.tuples(st.just("reset"), NAMESPACES, st.none()),
        st.tuples(st.just("drop"), st.sampled_from(["x", "y"]), st.none()),
        st.tuples(st.just("rename"), st.just("x"), st.just("y")),
        st.tuples(st.just("reopen"), NAMESPACES, st.none()),
    ),
    max_size=25,
)


def page(rig: Rig, namespace: str, **request: Any) -> RangePage:
    """Read a page of a range."""
    return rig.engine.range(namespace, Range.model_validate(request))


@dataclass
class Numbered:
    """A namespace as its records' numbers by id, with the cursor at which a reader stands."""

    numbers: dict[str, int] = field(default_factory=dict)
    last: int = 0
    cursor: str = ""

    def upsert(self, ids: list[str]) -> None:
        """Give the next numbers to new ids."""
        for id_ in ids:
            if id_ not in self.numbers:
                self.last += 1
                self.numbers[id_] = self.last

    def page(self, limit: int, prefix: str) -> tuple[list[str], str]:
        """Return the ids of the next page, and the next cursor."""
        left = sorted(
            (number, id_)
            for id_, number in self.numbers.items()
            if number > int(self.cursor or 0) and id_.startswith(prefix)
        )
        return [id_ for _, id_ in left[:limit]], str(left[limit - 1][0]) if len(left) > limit else ""


def play(rig: Rig, model: dict[str, Numbered], step: str, namespace: str, argument: Any) -> None:
    """Take one step in the engine and in the model, and compare them."""
    known = model.get(namespace)
    if step == "upsert":
        model.setdefault(namespace, Numbered()).upsert(argument)
        rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in argument), namespace=namespace)
    elif known is None:
        assert RangePage("", []) == page(rig, namespace)
    elif step == "range":
        limit, prefix = argument
        found = page(rig, namespace, cursor=known.cursor, limit=limit, prefix=prefix)
        assert known.page(limit, prefix) == ([match.id for match in found.matches], found.next_cursor)
        known.cursor = found.next_cursor
    elif step == "delete":
        rig.delete(ids=argument, namespace=namespace)
        known.numbers = {id_: number for id_, number in known.numbers.items() if id_ not in argument}
    elif step == "reset":
        rig.engine.reset(namespace)
        model[namespace] = Numbered()
    elif step == "drop":
        rig.engine.delete_namespace(namespace)
        del model[namespace]
    elif step == "rename":
        rig.engine.rename_namespace(namespace, argument, replace=True)
        model[argument] = model.pop(namespace)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_ranges_follow_their_numbers(
    steps: list[tuple[str, str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any history, reopening included, every page is the one that follows its cursor in order of insertion."""
    path = tmp_path_factory.mktemp("ranges") / "index"
    model = {"": Numbered()}
    rig = Rig(path=path, dimension=1)
    try:
        for step, namespace, argument in steps:
            if step == "reopen":
                rig.engine.close()
                rig = Rig(path=path, dimension=1)
            else:
                play(rig, model, step, namespace, argument)
    finally:
        rig.engine.close()


def test_concurrent_writers() -> None:
    """Records that several threads store at once are numbered without gaps, and a range sees each one once."""
    with Rig(dimension=1) as rig, ThreadPoolExecutor(4) as pool:
        batches = [[f"{batch}-{number}" for number in range(5)] for batch in range(40)]
        list(pool.map(lambda ids: rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in ids)), batches))
        found: list[str] = []
        cursors = [""]
        while cursors[-1] or not found:
            following = page(rig, "", cursor=cursors[-1], limit=7)
            found += [match.id for match in following.matches]
            cursors.append(following.next_cursor)
    assert sorted(id_ for batch in batches for id_ in batch) == sorted(found)
    assert ["", *map(str, range(7, 200, 7)), ""] == cursors


@pytest.mark.parametrize("cursor", [3, "3", "4", "9" * 18, 10**18 - 1])
def test_beyond_the_end(cursor: str | int) -> None:
    """A cursor behind the last record is no error: nothing is left."""
    with Rig(dimension=1) as rig:
        rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abc"))
        assert RangePage("", []) == page(rig, "", cursor=cursor)


def test_large_numbers() -> None:
    """Numbers beyond 32 bits are exact."""
    with Rig(dimension=1) as rig:
        storage = rig.engine._storage
        with storage.transaction():
            storage._save_next_number(1, 2**53 + 1)
        rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abc"))
        following = page(rig, "", limit=1)
        assert (["a"], str(2**53 + 1)) == ([match.id for match in following.matches], following.next_cursor)
        assert ["b", "c"] == [match.id for match in page(rig, "", cursor=following.next_cursor).matches]
