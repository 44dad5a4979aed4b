"""Batches of records: they are read, refused and stored as their records are one by one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Index
from nextk.bodies import MAX_ID_BYTES, MAX_NON_ZEROS, Range, Record
from nextk.dispatch import dispatch
from nextk.engine.values import Match
from nextk.errors import ClientError, RefusedError
from tests.support.bare_engine import Rig

FLOATS = st.floats(-4, 4, width=32)
VECTORS = st.lists(FLOATS, min_size=2, max_size=2)
METADATA = st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(-9, 9) | st.text("xyä", max_size=3))
RECORDS = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", "ab", "ä", "7"]), "vector": VECTORS},
    optional={"metadata": METADATA, "data": st.none() | st.text("xyä", max_size=3)},
)
BATCHES = st.lists(st.lists(RECORDS, min_size=1, max_size=6), min_size=1, max_size=4)

WRONG: dict[str, Any] = {
    "no object": 7,
    "no id": {"vector": [0.5, 1.0]},
    "an empty id": {"id": "", "vector": [0.5, 1.0]},
    "a long id": {"id": "x" * (MAX_ID_BYTES + 1), "vector": [0.5, 1.0]},
    "an id that is a boolean": {"id": True, "vector": [0.5, 1.0]},
    "a boolean in the vector": {"id": "a", "vector": [0.5, True]},
    "a text in the vector": {"id": "a", "vector": [0.5, "1"]},
    "a number beyond float32": {"id": "a", "vector": [0.5, 1e39]},
    "an array beyond float32": {"id": "a", "vector": np.array([0.5, -1e39])},
    "an array with NaN": {"id": "a", "vector": np.array([0.5, np.nan], np.float32)},
    "metadata that are a list": {"id": "a", "vector": [0.5, 1.0], "metadata": [1]},
    "data that are a number": {"id": "a", "vector": [0.5, 1.0], "data": 1},
    "a sparse vector of unequal lists": {"id": "a", "sparseVector": {"indices": [1, 2], "values": [1.0]}},
    "too many entries": {
        "id": "a",
        "sparseVector": {"indices": [*range(MAX_NON_ZEROS + 1)], "values": [1.0] * (MAX_NON_ZEROS + 1)},
    },
}


def stored(rig: Rig) -> list[tuple[Any, ...]]:
    """Return all that an index holds, in the order of the records' numbers, and the cursor after the first of them."""
    everything = {"includeVectors": True, "includeMetadata": True, "includeData": True}
    page = rig.engine.range("", Range.model_validate({**everything, "limit": 1_000}))
    first = rig.engine.range("", Range.model_validate({"limit": 1})).next_cursor
    return [("cursor", first), *(_values(match) for match in page.matches)]


def _values(match: Match) -> tuple[Any, ...]:
    assert match.vector is not None
    return match.id, match.vector.tolist(), match.metadata, match.data


@given(BATCHES)
def test_batches_equal_single_writes(batches: list[list[dict[str, Any]]]) -> None:
    """A batch stores what its records, written one by one, store: new ones, replaced ones, and ids given twice."""
    together, singly = Rig(dimension=2), Rig(dimension=2)
    for batch in batches:
        together.upsert(*batch)
        for record in batch:
            singly.upsert(record)
    assert stored(together) == stored(singly)
    best = [sorted(rig.query(vector=[1.0, 0.5], topK=1_000)) for rig in (together, singly)]
    assert best[0] == best[1]


@given(st.lists(st.one_of(RECORDS, st.sampled_from([*WRONG.values()])), min_size=1, max_size=5))
def test_first_wrong_record_is_named(records: list[Any]) -> None:
    """A batch is refused for its first record that is wrong, in the words in which that record is refused alone."""
    engine = Rig(dimension=2).engine
    refusals = [_refusal(engine, [record]) for record in records]
    expected = next((_at(position, text) for position, text in enumerate(refusals) if text), None)
    assert _refusal(engine, records) == expected


def _refusal(engine: Any, records: list[Any]) -> str | None:
    try:
        dispatch(engine, "upsert", records)
    except RefusedError as error:
        return f"{error.status}: {error}"
    return None


def _at(position: int, text: str) -> str:
    assert text.startswith("422: record 0")
    return text.replace("record 0", f"record {position}", 1)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_records(wrong: Any) -> None:
    """Each of the wrong records of the test above is refused, and nothing of its batch is stored."""
    rig = Rig(dimension=2)
    assert _refusal(rig.engine, [{"id": "b", "vector": [1.0, 1.0]}, wrong]) is not None
    assert [("cursor", "")] == stored(rig)


ELEMENTS = st.one_of(
    st.floats(),
    st.floats(width=32, allow_nan=False),
    st.sampled_from([0, 1, -3, 2**53 + 1, 10**400, True, None, "1", 3.5e38, -1e39, float("nan"), float("inf")]),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.lists(st.just(1.0), max_size=1),
)


@given(st.lists(ELEMENTS, min_size=1, max_size=4))
def test_lists_are_read_element_by_element(vector: list[Any]) -> None:
    """A list is stored as the float32 numbers of its elements, or refused because of one that is no such number."""
    with Index.embedded(type="dense", dimension=len(vector)) as index:
        if not all(map(_is_float32, vector)):
            with pytest.raises((ClientError, RefusedError), match=r"record 0 \(id 'a'\)"):
                index.upsert([{"id": "a", "vector": vector}])
        else:
            index.upsert([{"id": "a", "vector": vector}])
            (found,) = index.fetch("a", include_vectors=True)
            assert found is not None
            assert found.vector == [float(np.float32(float(each))) for each in vector]


NUMBERS = st.floats(width=32) | st.sampled_from([3.5e38, -1e39])
DENSE = st.one_of(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    st.lists(ELEMENTS, min_size=2, max_size=2),
    st.lists(NUMBERS, min_size=2, max_size=2).map(np.array),
    st.lists(st.floats(width=32), min_size=2, max_size=2).map(lambda numbers: np.array(numbers, np.float32)),
)


@given(st.lists(DENSE, min_size=1, max_size=4))
def test_vectors_are_read_together_as_alone(vectors: list[Any]) -> None:
    """Records of one call are stored with the vectors that each has alone, or refused as the first of them is."""
    with Index.embedded(type="dense", dimension=2) as together, Index.embedded(type="dense", dimension=2) as alone:
        records = [{"id": str(number), "vector": vector} for number, vector in enumerate(vectors)]
        refusals = [_refusal_of(alone, [record]) for record in records]
        ranked = sorted((kind is RefusedError, at, text) for at, (kind, text) in enumerate(refusals) if kind)
        refusal = _refusal_of(together, records)
        if ranked:  # values that are none of JSON are refused before any record reaches the index
            _, at, text = ranked[0]
            assert text.replace("record 0", f"record {at}", 1) == refusal[1]
        else:
            ids = [record["id"] for record in records]
            assert refusal == (None, "")
            assert together.fetch(ids, include_vectors=True) == alone.fetch(ids, include_vectors=True)


def _refusal_of(index: Index, records: list[Any]) -> tuple[type[Exception] | None, str]:
    try:
        index.upsert(records)
    except (ClientError, RefusedError) as error:
        return type(error), str(error)
    return None, ""


def _is_float32(value: Any) -> bool:
    """Return whether a value is a number that is finite, and stays so as float32."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        return False
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float32(float(value))))
    except OverflowError:
        return False


@pytest.mark.parametrize("kind", ["float32", "float64", ">f4", "strided", "list"])
def test_arrays_are_copied(kind: str) -> None:
    """Vectors may be reused for the next batch: what is stored is what they were when `upsert` was called."""
    numbers = np.array([[0.5, -1.0], [2.0, 0.25]])
    with Index.embedded(type="dense", dimension=2) as index:
        vectors: list[Any] = {"list": numbers.tolist(), "strided": [*numbers.T]}.get(kind) or [
            *numbers.astype("f4" if kind == "strided" else kind)
        ]
        expected = [[float(each) for each in vector] for vector in vectors]
        index.upsert([(str(position), vector) for position, vector in enumerate(vectors)])
        for vector in vectors:
            vector[:] = [9.0, 9.0]
        found = index.fetch(["0", "1"], include_vectors=True)
        assert [record and record.vector for record in found] == expected
        assert index.query([*expected[1]], 1)[0].id == "1"


def test_validated_records_are_not_changed() -> None:
    """The engine keeps nothing of the arrays of a record, and changes none of them."""
    rig, vector = Rig(dimension=2), np.array([0.5, 1.0], np.float32)
    rig.engine.upsert("", [Record.model_validate({"id": "a", "vector": vector})])
    vector[:] = 0
    assert [("cursor", ""), ("a", [0.5, 1.0], None, None)] == stored(rig)
