"""The number of records from which a namespace has a pool."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Index
from nextk.engine.pool.threshold import POOLED_BYTES, default_pool_from, require_pool_keywords
from nextk.errors import ClientError


@pytest.mark.parametrize(("dimension", "records"), [(384, 32_768), (256, 49_152), (128, 98_304), (1_536, 8_192)])
def test_usual_dimensions(dimension: int, records: int) -> None:
    """It is 48 MiB of vectors, whatever their length is."""
    assert records == default_pool_from(dimension)


@given(dimension=st.integers(1, 100_000))
def test_any_dimension(dimension: int) -> None:
    """It is the smallest number of records whose vectors take that many bytes, and never none at all."""
    records = default_pool_from(dimension)
    assert 4 * dimension * (records - 1) < POOLED_BYTES <= 4 * dimension * records


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, (None, False)),
        ({"pool_from": None, "exact": None}, (None, False)),
        ({"pool_from": 5, "exact": False}, (5, False)),
        ({"exact": True}, (None, True)),
    ],
    ids=["left out", "none", "a number", "exact"],
)
def test_keywords(keywords: dict[str, Any], expected: tuple[int | None, bool]) -> None:
    """The keywords of an opening say from which number on, or that there are no pools."""
    assert expected == require_pool_keywords(keywords)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"exact": 1}, "exact"),
        ({"exact": "true"}, "exact"),
        ({"pool_from": 0}, "pool_from"),
        ({"pool_from": 5, "exact": True}, "exact=True has no pools, and pool_from=5 asks for them"),
    ],
    ids=["a number", "a text", "no number", "both"],
)
def test_wrong_keywords(keywords: dict[str, Any], named: str) -> None:
    """Values that are not allowed, and both keywords at once, are refused by name."""
    with pytest.raises(ClientError, match=named):
        require_pool_keywords(keywords)


def test_a_refused_opening_makes_no_file(tmp_path: Path) -> None:
    """An opening that is refused for these keywords leaves no new index behind."""
    path = tmp_path / "index"
    with pytest.raises(ClientError):
        Index.embedded(path, type="dense", dimension=4, exact=True, pool_from=3)
    assert not path.exists()
