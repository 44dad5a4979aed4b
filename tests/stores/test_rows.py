"""The ids of rows: a row's own, that of a key, or a hash of its content that every process makes alike."""

import dataclasses
import datetime as dt
import decimal
import uuid
from typing import Any

import numpy as np
import pytest

from nextk.errors import ClientError
from nextk.stores import RowKey, StoreRow, content_id, row_id
from tests.support.subprocesses import python


@dataclasses.dataclass
class Author:
    """A value that JSON does not know."""

    name: str
    languages: set[str]


class Plain:
    """A value without a representation of its own."""


def odd_metadata() -> dict[Any, Any]:
    """Return metadata, made anew, of values that JSON cannot express."""
    endless: list[Any] = [1]
    endless.append(endless)
    return {
        "set": {"sky", "sea", "sun", "soil"},
        "date": dt.date(2026, 11, 29),
        "number": decimal.Decimal("1.10"),
        "array": np.arange(3, dtype=np.float32),
        "nothing": float("nan"),
        "bytes": b"\x00\xff",
        "author": Author("Ada", {"en", "fr", "de"}),
        "object": Plain(),
        "function": odd_metadata,
        "surrogate": "\ud800",
        "endless": endless,
        (1, "a"): {2: "x", "b": "y"},
    }


class TestIds:
    """The id of a row."""

    @pytest.mark.parametrize(
        ("own", "key", "expected"),
        [
            ("own", "source", "own"),
            (7, None, "7"),
            (0, None, "0"),
            (uuid.UUID(int=1), None, "00000000-0000-0000-0000-000000000001"),
            (None, "source", "a.txt"),
            ("", "source", "a.txt"),
            (None, "page", "0"),
            (None, str.upper, "ITEM"),
            (None, None, content_id("text", {"source": "a.txt", "page": 0, "pages": [1], "empty": ""})),
        ],
        ids=str,
    )
    def test_order(self, own: object, key: RowKey | None, expected: str) -> None:
        """The own id of a row comes first, then the one that the key gives, then the hash of its content."""
        metadata = {"source": "a.txt", "page": 0, "pages": [1], "empty": ""}
        assert expected == row_id(own, key, "item", "text", metadata)

    @pytest.mark.parametrize(
        "key",
        ["missing", "empty", "pages", "flag", lambda _: None, lambda _: 1.5],
        ids=["missing", "empty", "list", "bool", "none", "float"],
    )
    def test_a_key_without_an_id(self, key: RowKey) -> None:
        """A key that gives no id is refused in words that say what to do."""
        with pytest.raises(ClientError, match="give a key that every row has, or leave key= out"):
            row_id(None, key, "item", "text", {"empty": "", "pages": [1], "flag": True})

    def test_no_metadata(self) -> None:
        """A row without metadata is told from the others by its text, and a key finds nothing in it."""
        assert content_id("text", {}) == row_id(None, None, None, "text", None)
        with pytest.raises(ClientError, match="'source'"):
            row_id(None, "source", None, "text", None)


class TestContent:
    """Hashes of content."""

    def test_every_process_makes_the_same(self) -> None:
        """Metadata that JSON cannot express have the same hash in another process, whatever seed its sets have."""
        code = "from tests.stores.test_rows import *; print(content_id('text', odd_metadata()))"
        found, errors = python(code).communicate(timeout=60)
        assert not errors
        assert content_id("text", odd_metadata()) == found.strip()

    @pytest.mark.parametrize("name", [name for name in odd_metadata() if isinstance(name, str)])
    def test_each_value_counts(self, name: str) -> None:
        """Rows of which one value of the metadata differs have different ids."""
        metadata = odd_metadata()
        before = content_id("text", metadata)
        metadata[name] = "another"
        assert before != content_id("text", metadata)

    def test_deep_metadata(self) -> None:
        """Metadata that are nested too deeply for JSON have an id, too."""
        deep: dict[str, Any] = {}
        for _ in range(100_000):
            deep = {"deeper": deep}
        assert content_id("text", deep) == content_id("text", deep) != content_id("text", {})


def test_rows_hold_the_item() -> None:
    """A row holds the store's own object as it is; without one it holds none."""
    item = object()
    assert StoreRow("a", 0.5, item=item).item is item
    assert StoreRow("a", 0.5).item is None
