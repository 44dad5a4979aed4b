"""Plain values, and the paths of values that are none."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.plain import FAULTS, fault_of, path_to, plain, record_name

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["a", "b c", "", "0"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | KEYS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


class Marked(float):
    """A value that is looked for: JSON has no word for it."""


@st.composite
def planted(draw: st.DrawFn, value: Any) -> tuple[Any, str]:
    """Return a value that holds one marked value, and the path of that."""
    made: Any = value
    path = ""
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            before = draw(st.lists(VALUES, max_size=2))
            made, path = [*before, made, *draw(st.lists(VALUES, max_size=2))], f"[{len(before)}]{path}"
        else:
            key = draw(KEYS)
            others = draw(st.dictionaries(KEYS, VALUES, max_size=2))
            made = {**{other: part for other, part in others.items() if other != key}, key: made}
            path = (f".{key}" if key.isidentifier() else f"[{key!r}]") + path
    return made, f"metadata{path}"


@given(VALUES)
def test_json_stays_as_it_is(value: Any) -> None:
    """A value that JSON knows is returned as an equal one, which shares no list and no dict with it."""
    made = plain(value)
    assert json.dumps(value) == json.dumps(made)
    assert not isinstance(value, list | dict) or made is not value


@given(planted(math.nan))
def test_the_path_of_a_fault(case: tuple[Any, str]) -> None:
    """However deep a value stands that JSON cannot express, it is named by its path."""
    value, path = case
    with pytest.raises(FAULTS) as caught:
        plain(value)
    assert isinstance(caught.value, Exception)
    assert f"{path} is nan, for which JSON has no word: give None, or leave it out" == fault_of(
        value, "metadata", caught.value
    )


@given(planted(Marked(1)))
def test_the_path_of_a_value(case: tuple[Any, str]) -> None:
    """The first value that is looked for is found by its path, however deep it stands."""
    value, path = case
    assert path == path_to(value, "metadata", lambda part: isinstance(part, Marked))
    assert path_to(value, "metadata", lambda part: isinstance(part, bytes)) is None


def test_a_key_is_found() -> None:
    """A key that is looked for is found as a value is."""
    assert "m.a[1]['x y']" == path_to({"a": [0, {"x y": 1}]}, "m", lambda part: part == "x y")


def test_nesting_without_end() -> None:
    """A value that holds itself is said to, and does not end in a crash."""
    value: dict[str, Any] = {}
    value["k"] = value
    with pytest.raises(RecursionError) as caught:
        plain(value)
    assert "metadata is nested too deeply for JSON, or holds itself" == fault_of(value, "metadata", caught.value)


@pytest.mark.parametrize(
    ("id_", "name"),
    [("x", "record 4 (id 'x')"), (0, "record 4 (id '0')"), (None, "record 4"), (True, "record 4"), ([], "record 4")],
)
def test_the_name_of_a_record(id_: object, name: str) -> None:
    """A record is named by its position and, if it has a readable one, by its id."""
    assert name == record_name(4, id_)


def test_arrays_of_objects() -> None:
    """The fault of an array is named by its place in the array."""
    value = {"k": np.array([[1, 2], [3, {4}]], object)}
    with pytest.raises(FAULTS) as caught:
        plain(value)
    assert isinstance(caught.value, Exception)
    assert fault_of(value, "metadata", caught.value).startswith("metadata.k[1][1] is a set; give a list")
