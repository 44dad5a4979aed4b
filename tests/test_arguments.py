"""Checks of arguments: enums, whole numbers, other numbers, and sparse vectors of other libraries."""

import math
from collections import UserDict
from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from nextk.arguments import (
    choose,
    did_you_mean,
    id_list,
    nearest,
    require_count,
    require_id,
    require_number,
    sparse_parts,
)
from nextk.engine.schema import IndexType, Similarity
from nextk.errors import ClientError
from nextk.types import FusionAlgorithm, QueryMode, SparseVector, WeightingStrategy

HUGE = 10**400  # beyond all floats


class Foreign(Enum):
    """An enum of another library, whose members have the same values."""

    DENSE = "dense"
    OTHER = "other"


class ForeignText(str, Enum):  # noqa: UP042 - as other libraries write it
    """An enum of another library, whose members are texts."""

    DENSE = "dense"


class TestChoose:
    """Enum arguments."""

    @pytest.mark.parametrize("given", ["dense", "DENSE", "Dense", IndexType.DENSE, Foreign.DENSE, ForeignText.DENSE])
    def test_any_spelling(self, given: Any) -> None:
        """A member is recognised by itself and by its value, in any letter case and from any enum."""
        assert choose(IndexType, given, "type") is IndexType.DENSE

    @pytest.mark.parametrize("kind", [IndexType, Similarity, FusionAlgorithm, QueryMode, WeightingStrategy])
    def test_every_member(self, kind: type[StrEnum]) -> None:
        """Every member of every enum can be given by its value, in lower case and in upper case."""
        for member in kind:
            assert [member] * 2 == [choose(kind, member.value.lower(), "x"), choose(kind, member.value.upper(), "x")]

    def test_left_out(self) -> None:
        """`None` stands for an argument that was left out, and stays `None`."""
        assert choose(IndexType, None, "type") is None

    @pytest.mark.parametrize("given", ["", " dense", "max", 3, True, Foreign.OTHER, b"dense", ["dense"]])
    def test_unknown(self, given: Any) -> None:
        """An unknown word is refused; the message names the argument, the word and all words that are known."""
        with pytest.raises(ClientError) as refusal:
            choose(IndexType, given, "type")
        assert f"type={given!r} is not one of 'dense', 'sparse', 'hybrid'" == str(refusal.value)


class TestRequireCount:
    """Whole numbers."""

    @pytest.mark.parametrize(("value", "least"), [(1, 1), (HUGE, 1), (0, 0), (-1, -1)])
    def test_whole_numbers(self, value: int, least: int) -> None:
        """A whole number of at least the smallest one is accepted, however large it is."""
        require_count(value, "n", least)

    @pytest.mark.parametrize("value", [True, False, 0, -1, -HUGE, 1.0, math.nan, math.inf, "1", None, np.int64(1)])
    def test_everything_else(self, value: object) -> None:
        """A bool, a float, a text, an integer of numpy's and a number that is too small are refused by name."""
        with pytest.raises(ClientError) as refusal:
            require_count(value, "top_k")
        assert f"top_k={value!r} must be a whole number, at least 1" == str(refusal.value)

    def test_the_smallest_is_named(self) -> None:
        """The message tells the smallest number that is allowed."""
        with pytest.raises(ClientError, match=r"^n=4 must be a whole number, at least 5$"):
            require_count(4, "n", 5)

    @pytest.mark.parametrize("value", [0, 6, HUGE, True, 2.0], ids=["low", "high", "huge", "bool", "float"])
    def test_a_range(self, value: object) -> None:
        """Where there is a largest number, it is accepted, and whatever is out of the range is refused with both."""
        require_count(5, "n", 1, 5)
        with pytest.raises(ClientError, match=r" must be a whole number, from 1 to 5$"):
            require_count(value, "n", 1, 5)


class TestDidYouMean:
    """Names that nobody knows."""

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("topK", "top_k"),
            ("TOP_K", "top_k"),
            ("filters", "filter"),
            ("include_meta", "include_metadata"),
            ("zz", None),
        ],
    )
    def test_nearest(self, name: str, near: str | None) -> None:
        """The name that is most like the unknown one is found, whatever its case and underscores."""
        known = ["top_k", "filter", "include_metadata"]
        assert near == nearest(name, known)
        expected = f" (did you mean {near}?)" if near else ": give one of top_k, filter, include_metadata"
        assert expected == did_you_mean(name, known)

    def test_hints(self) -> None:
        """For a name that others use, the message gives its hint instead of the nearest known name."""
        assert " (give k=)" == did_you_mean("topK", ["top_k"], {"top_k": "give k="})


class TestIds:
    """Ids."""

    @pytest.mark.parametrize(
        ("value", "text"), [("a", "a"), (0, "0"), (-7, "-7"), (np.int8(0), "0"), (2**70, str(2**70)), ("0", "0")]
    )
    def test_ids(self, value: object, text: str) -> None:
        """A text is an id as it is, and a whole number of any library by its digits."""
        assert text == require_id(value)
        assert [value] == id_list(value)

    @pytest.mark.parametrize("value", ["", True, False, np.bool_(False), 1.0, None, b"a", ["a"], ("a",)])
    def test_no_ids(self, value: object) -> None:
        """An empty text, a bool, and everything that is neither a text nor a whole number is refused by name."""
        with pytest.raises(ClientError) as refusal:
            require_id(value, "ids[3]")
        assert f"ids[3]={value!r} is no id: give a text that is not empty, or a whole number" == str(refusal.value)

    @pytest.mark.parametrize("ids", [[0, "a"], (0, "a"), range(2), iter("ab"), {"a": 1}.keys(), []])
    def test_lists(self, ids: Any) -> None:
        """Any iterable of ids is read once, into a list."""
        assert isinstance(id_list(ids), list)

    @pytest.mark.parametrize("ids", [b"ab", {"a": 1}, 1.5, True, None, object])
    def test_no_lists(self, ids: Any) -> None:
        """Bytes and mappings are iterable, and still no list of ids."""
        with pytest.raises(ClientError, match="must be an id or a list of ids"):
            id_list(ids)


class TestRequireNumber:
    """Finite numbers within a range."""

    @pytest.mark.parametrize("value", [0, 1, 0.5, 1.0, -0.0, np.float64(0.5)])
    def test_numbers(self, value: float) -> None:
        """A number of the range is accepted, and so are both ends of the range."""
        require_number(value, "score", 0, 1)

    @pytest.mark.parametrize("value", [10**300, -1e308, 5e-324])
    def test_without_a_range(self, value: float) -> None:
        """Without a range, every finite number is accepted."""
        require_number(value, "score")

    @pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, HUGE, -HUGE, "1", None, np.int64(1), 1j])
    def test_no_finite_numbers(self, value: object) -> None:
        """A bool, NaN, an infinity, an int beyond all floats and everything else are refused by name."""
        with pytest.raises(ClientError) as refusal:
            require_number(value, "score")
        assert f"score={value!r} must be a number, finite" == str(refusal.value)

    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, HUGE])
    def test_outside_of_the_range(self, value: float) -> None:
        """A number outside of the range is refused, and the message tells the range."""
        with pytest.raises(ClientError, match=r"^score=.* must be a number, from 0 to 1$"):
            require_number(value, "score", 0, 1)


class Pair(NamedTuple):
    """A tuple whose parts have the names of a sparse vector's, in the other order."""

    values: list[float]
    indices: list[int]


class MappingWithIndices(UserDict[int, float]):
    """A mapping that has an attribute `indices`, as well as `values` like any mapping."""

    indices = "not the indices"


class TestSparseParts:
    """Sparse vectors of other libraries."""

    @pytest.mark.parametrize(
        "given",
        [
            SparseVector([7, 2], [0.5, 1.5]),
            SimpleNamespace(indices=[7, 2], values=[0.5, 1.5]),
            ([7, 2], [0.5, 1.5]),
            Pair([0.5, 1.5], [7, 2]),
            {7: 0.5, 2: 1.5},
            MappingProxyType({7: 0.5, 2: 1.5}),
            MappingWithIndices({7: 0.5, 2: 1.5}),
        ],
    )
    def test_every_form(self, given: object) -> None:
        """An object, a pair and a mapping give the indices and the values, in the order in which they were given."""
        assert ([7, 2], [0.5, 1.5]) == sparse_parts(given)

    def test_the_parts_are_not_copied_or_checked(self) -> None:
        """Arrays and texts are passed on as they are: whoever needs the vector checks its parts."""
        indices, values = np.array([1]), object()
        parts = sparse_parts((indices, values))
        assert parts is not None
        assert parts[0] is indices
        assert parts[1] is values

    @pytest.mark.parametrize(
        "given", [None, 3, "ab", b"ab", [[1], [1.0]], ([1],), ([1], [1.0], [2.0]), SimpleNamespace(indices=[1])]
    )
    def test_everything_else(self, given: object) -> None:
        """Everything else is no sparse vector: a list, a tuple of another length, an object without one of the two."""
        assert sparse_parts(given) is None

    def test_an_empty_mapping_is_an_empty_vector(self) -> None:
        """A mapping without entries is a sparse vector without entries."""
        empty: Mapping[int, float] = {}
        assert ([], []) == sparse_parts(empty)
