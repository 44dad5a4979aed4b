"""The documented protocol for everything but searching, in both colours over both transports."""

from typing import Any

import numpy as np
import pytest

from nextk import Vector
from nextk.errors import RefusedError
from nextk.types import (
    DeleteResult,
    DenseIndexInfo,
    FetchResult,
    MetadataUpdateMode,
    NamespaceInfo,
    SparseIndexInfo,
    SparseVector,
)
from tests.support.query_results import ids, seen
from tests.support.transports import Opener

PAIR = [("p", [1.0, 0.0]), ("q", [0.0, 1.0])]


class TestRecords:
    """What goes in comes out."""

    @pytest.mark.parametrize(
        "record",
        [
            ("id", [0.125, 2.0]),
            ("id", [0.125, 2.0], {"k": None}),
            ("id", [0.125, 2.0], {"k": [1, {"x": "ü"}]}, "text"),
            Vector("id", [0.125, 2.0], data="text"),
            Vector("id", np.array([0.125, 2.0], np.float32)),
            {"id": "id", "vector": [0.125, 2.0], "metadata": {}},
        ],
        ids=repr,
    )
    async def test_dense_forms(self, open_index: Opener, record: Any) -> None:
        """Every documented form of a dense record is stored and read back as it was."""
        index = open_index("dense", dimension=2)
        assert "Success" == await index.upsert([record])
        if isinstance(record, tuple):
            metadata, data = (*record[2:], None, None)[:2]
        else:
            fields = record if isinstance(record, dict) else vars(record)
            metadata, data = fields.get("metadata"), fields.get("data")
        everything = await index.fetch("id", include_vectors=True, include_metadata=True, include_data=True)
        assert [FetchResult("id", [0.125, 2.0], metadata, data)] == everything

    @pytest.mark.parametrize(
        "record",
        [
            ("id", [0.5], ([3, -1], [0.1, 1.0])),
            ("id", [0.5], SparseVector([3, -1], [0.1, 1.0]), None, "text"),
            Vector("id", [0.5], {"k": 1}, sparse_vector=(np.array([3, -1]), np.array([0.1, 1.0], np.float32))),
            {"id": "id", "vector": [0.5], "sparse_vector": ([3, -1], [0.1, 1.0])},
        ],
        ids=repr,
    )
    async def test_hybrid_forms(self, open_index: Opener, record: Any) -> None:
        """Every documented form of a hybrid record is stored, its sparse indices in the order given."""
        index = open_index(dimension=1)
        await index.upsert([record])
        [found] = await index.fetch(["id"], include_vectors=True)
        assert FetchResult("id", [0.5], sparse_vector=SparseVector([3, -1], [0.1, 1.0])) == found

    async def test_upsert_replaces_the_whole_record(self, open_index: Opener) -> None:
        """What a later upsert leaves out is gone, and of one batch the last of an id wins."""
        index = open_index("dense", dimension=1)
        await index.upsert([("a", [1.0], {"k": 1}, "text"), ("a", [2.0], {"k": 2})])
        await index.upsert([Vector(5, [5.0])])
        found = await index.fetch(["a", "5"], include_vectors=True, include_metadata=True, include_data=True)
        assert [FetchResult("a", [2.0], {"k": 2}), FetchResult("5", [5.0])] == found
        await index.upsert([("a", [3.0])])
        [record] = await index.fetch("a", include_vectors=True, include_metadata=True, include_data=True)
        assert FetchResult("a", [3.0]) == record

    async def test_fetch(self, open_index: Opener) -> None:
        """Ids get one slot each, in order; a prefix gets the records that exist."""
        index = open_index("dense", dimension=2)
        await index.upsert([*PAIR, ("p%_*", [1.0, 1.0]), ("7", [1.0, 1.0])])
        numbers: Any = ["q", 7, "missing", "q"]
        assert ["q", "7", None, "q"] == ids(await index.fetch(numbers))
        assert [] == await index.fetch([])
        assert ["p", "p%_*"] == sorted(map(str, ids(await index.fetch(prefix="p"))))
        assert ["p%_*"] == ids(await index.fetch(prefix="p%"))
        assert 4 == len(await index.fetch(prefix=""))
        assert [None, None] == await index.fetch(["p", "q"], namespace="nowhere")
        assert [] == await index.fetch(prefix="p", namespace="nowhere")

    async def test_fetch_by_prefix_is_bounded(self, open_index: Opener) -> None:
        """A prefix returns at most 1,000 records."""
        index = open_index("dense", dimension=1)
        await index.upsert([(f"a{number}", [1.0]) for number in range(1_000)])
        await index.upsert([(f"a-{number}", [1.0]) for number in range(5)])
        assert 1_000 == len(await index.fetch(prefix="a"))

    async def test_range(self, open_index: Opener) -> None:
        """Every spelling of the beginning is one; a re-upserted id keeps its place; a cursor beyond is the end."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0], {"of": name}, name) for name in "cab"])
        await index.upsert([("c", [2.0], {"of": "c"}, "new")])
        start: Any
        for start in ("", "0", 0):
            assert ["c"] == ids((await index.range(start)).vectors)
        stretch = await index.range("", 3, include_vectors=True, include_metadata=True, include_data=True)
        assert FetchResult("c", [2.0], {"of": "c"}, "new") == stretch.vectors[0]
        assert (["c", "a", "b"], "") == (ids(stretch.vectors), stretch.next_cursor)
        beyond = await index.range("123456", 3)
        nowhere = await index.range("", 3, namespace="nowhere")
        assert [("", []), ("", [])] == [(end.next_cursor, end.vectors) for end in (beyond, nowhere)]

    async def test_range_looks_ahead_within_its_prefix(self, open_index: Opener) -> None:
        """Records of other prefixes behind a full page do not make it look like more is left."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0]) for name in ["x1", "y1", "x2", "y2", "y3"]])
        first = await index.range("", 1, prefix="x")
        assert (["x1"], True) == (ids(first.vectors), bool(first.next_cursor))
        second = await index.range(first.next_cursor, 1, prefix="x")
        assert (["x2"], "") == (ids(second.vectors), second.next_cursor)

    async def test_range_survives_deletes(self, open_index: Opener) -> None:
        """A cursor stays good when the record that it was made at is deleted."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0]) for name in "abcd"])
        first = await index.range("", 2)
        await index.delete(["b", "c"])
        assert ["d"] == ids((await index.range(first.next_cursor, 5)).vectors)

    async def test_range_counts_within_its_namespace(self, open_index: Opener) -> None:
        """A cursor is the number of records up to there, whatever was written to other namespaces meanwhile."""
        index = open_index("dense", dimension=1)
        for number in range(20):
            for namespace in ("", "x", "y"):
                await index.upsert([(f"id-{number}", [1.0])], namespace=namespace)
        for namespace in ("", "x", "y"):
            page = await index.range("", 5, namespace=namespace)
            assert ("5", "id-4") == (page.next_cursor, page.vectors[-1].id)
            page = await index.range("5", 1, namespace=namespace, prefix="id-1")
            assert ("11", "id-10") == (page.next_cursor, page.vectors[-1].id)

    @pytest.mark.parametrize(("way", "emptied"), [("reset", ["x"]), ("reset all", ["", "x"]), ("delete", ["x"])])
    async def test_range_begins_anew(self, open_index: Opener, way: str, emptied: list[str]) -> None:
        """After a reset, or in a namespace that was deleted and made again, records are counted from 1."""
        index = open_index("dense", dimension=1)
        for namespace in ("", "x"):
            await index.upsert([(name, [1.0]) for name in "abc"], namespace=namespace)
        if way == "delete":
            await index.delete_namespace("x")
        else:
            await index.reset("x", all=way == "reset all")
        for namespace in ("", "x"):
            await index.upsert([(name, [1.0]) for name in "def"], namespace=namespace)
            page = await index.range("1" if namespace in emptied else "3", 1, namespace=namespace)
            expected = ("e", "2") if namespace in emptied else ("d", "4")
            assert expected == (page.vectors[0].id, page.next_cursor)

    async def test_range_after_the_newest_records_are_gone(self, open_index: Opener) -> None:
        """Numbers of deleted records are not given again, so a range goes on with what was stored since."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0]) for name in "abcd"])
        page = await index.range("", 3)
        await index.delete(["c", "d"])
        await index.upsert([("e", [1.0]), ("c", [1.0])])
        rest = await index.range(page.next_cursor, 9)
        assert (["e", "c"], "") == (ids(rest.vectors), rest.next_cursor)
        assert "5" == (await index.range("", 3)).next_cursor

    async def test_random_is_not_part_of_the_client(self, open_index: Opener) -> None:
        """The client's surface is the documented one."""
        assert not hasattr(open_index("dense", dimension=1), "random")

    async def test_delete(self, open_index: Opener) -> None:
        """By ids, by prefix or by filter; the count is of those that were there."""
        index = open_index("dense", dimension=1)
        await index.upsert([(name, [1.0], {"n": place}) for place, name in enumerate(["a", "b", "x1", "x2", "y", "z"])])
        assert DeleteResult(2) == await index.delete(["a", "b", "b", "missing"])
        assert DeleteResult(2) == await index.delete(prefix="x")
        assert DeleteResult(1) == await index.delete(filter="n >= 5")
        assert DeleteResult(0) == await index.delete("y", namespace="nowhere")
        assert DeleteResult(1) == await index.delete("y")
        assert DeleteResult(0) == await index.delete([])
        assert [[], []] == [await index.query([1.0]), (await index.range("", 9)).vectors]

    @pytest.mark.parametrize("type", ["dense", "sparse", "hybrid"])
    async def test_info(self, open_index: Opener, type: str) -> None:
        """`info` has every documented field on every index type."""
        index = open_index(type, dimension=None if type == "sparse" else 2, similarity="euclidean")
        part = ([1], [1.0])
        record: Any = {"dense": ("a", [1.0, 2.0]), "sparse": ("a", part), "hybrid": ("a", [1.0, 2.0], part)}[type]
        await index.upsert([record])
        await index.upsert([record], namespace="de")
        info = await index.info()
        dense = type != "sparse"
        assert (2, 0) == (info.vector_count, info.pending_vector_count)
        assert info.index_size > 0
        assert ((2, "EUCLIDEAN") if dense else (0, "")) == (info.dimension, info.similarity_function)
        assert (DenseIndexInfo(2, "EUCLIDEAN", "") if dense else None) == info.dense_index
        assert (SparseIndexInfo("") if type != "dense" else None) == info.sparse_index
        assert {"": NamespaceInfo(1, 0), "de": NamespaceInfo(1, 0)} == info.namespaces


class TestUpdate:
    """Changing parts of a record."""

    @pytest.mark.parametrize(
        ("stored", "patch", "expected"),
        [  # RFC 7396, appendix A, where both sides are objects
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
            (None, {"a": 1, "b": None}, {"a": 1}),
        ],
    )
    async def test_patch(
        self, open_index: Opener, stored: Any, patch: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        """A patch merges into the metadata as RFC 7396 says; one of a record without metadata merges into nothing."""
        index = open_index("dense", dimension=1)
        await index.upsert([Vector("a", [1.0], stored)])
        assert await index.update("a", metadata=patch, metadata_update_mode=MetadataUpdateMode.PATCH)
        assert [FetchResult("a", metadata=expected)] == await index.fetch("a", include_metadata=True)

    async def test_overwrite_is_the_default(self, open_index: Opener) -> None:
        """Metadata is replaced unless it is to be patched, and nothing else changes with it."""
        index = open_index("dense", dimension=1)
        await index.upsert([("a", [1.0], {"k": 1, "l": 2}, "text")])
        assert await index.update("a", metadata={"l": 3})
        found = await index.fetch("a", include_vectors=True, include_metadata=True, include_data=True)
        assert [FetchResult("a", [1.0], {"l": 3}, "text")] == found

    async def test_parts(self, open_index: Opener) -> None:
        """Vectors and data change by themselves; an updated vector is searched at once."""
        index = open_index(dimension=2)
        await index.upsert([("a", [1.0, 0.0], ([1], [1.0]), {"k": 1}, "text"), ("b", [0.6, 0.8], ([1], [9.0]))])
        assert await index.update("a", data="other")
        assert await index.update("a", vector=[0.0, 1.0], sparse_vector=([2], [2.0]))
        found = await index.fetch("a", include_vectors=True, include_metadata=True, include_data=True)
        assert [FetchResult("a", [0.0, 1.0], {"k": 1}, "other", SparseVector([2], [2.0]))] == found
        assert [("a", 1.0)] == seen(await index.query([0.0, 1.0], 1))
        assert [("a", 2.0)] == seen(await index.query(sparse_vector=([2], [1.0])))
        assert ["b"] == ids(await index.query(sparse_vector=([1], [1.0])))

    async def test_missing_record(self, open_index: Opener) -> None:
        """An id or a namespace that does not exist is not an error, and is not made."""
        index = open_index("dense", dimension=1)
        assert not await index.update("a", metadata={"k": 1})
        assert not await index.update("a", metadata={"k": 1}, namespace="nowhere")
        assert ([None], [""]) == (await index.fetch("a"), await index.list_namespaces())


class TestNamespaces:
    """Namespaces come with their first record and go when they are deleted."""

    @pytest.mark.parametrize("name", ["de", "a b", "Grüße/日本", "50%", "a?b#c", "..", "a/../b", "%2F", "+"])
    async def test_any_name(self, open_index: Opener, name: str) -> None:
        """Whatever its characters, a namespace is found again under its own name."""
        index = open_index("dense", dimension=1)
        await index.upsert([("a", [1.0])], namespace=name)
        assert ["", name] == await index.list_namespaces()
        page, handle = await index.resumable_query([1.0], namespace=name)
        await handle.stop()
        assert ["a"] == ids(page)
        assert DeleteResult(1) == await index.delete("a", namespace=name)
        await index.delete_namespace(name)
        assert [""] == await index.list_namespaces()

    async def test_none_is_the_default_one(self, open_index: Opener) -> None:
        """`None` behaves as the default namespace."""
        index = open_index("dense", dimension=1)
        none: Any = None
        await index.upsert([("a", [1.0])], namespace=none)
        assert ["a"] == ids(await index.query([1.0], namespace=none))
        assert [""] == await index.list_namespaces()

    async def test_reset(self, open_index: Opener) -> None:
        """A reset empties one namespace, or all, and keeps them; a missing one is not made."""
        index = open_index("dense", dimension=1)
        for name in ("", "x", "y"):
            await index.upsert([("a", [1.0])], namespace=name)
        assert "Success" == await index.reset("x")
        assert "Success" == await index.reset("nowhere")
        counts = {name: len(await index.query([1.0], namespace=name)) for name in ("", "x", "y")}
        assert {"": 1, "x": 0, "y": 1} == counts
        assert "Success" == await index.reset(all=True)
        assert 0 == (await index.info()).vector_count
        assert ["", "x", "y"] == await index.list_namespaces()
        await index.upsert([("b", [1.0])], namespace="x")
        assert ["b"] == ids(await index.query([1.0], namespace="x"))

    async def test_delete(self, open_index: Opener) -> None:
        """A deleted namespace is missing afterwards; deleting a missing one is refused in the documented words."""
        index = open_index("dense", dimension=1, name="shop")
        await index.upsert([("a", [1.0])], namespace="x")
        await index.delete_namespace("x")
        assert [] == await index.query([1.0], namespace="x")
        with pytest.raises(RefusedError) as caught:
            await index.delete_namespace("x")
        expected = ("Namespace x for the index shop does not exist", 404)
        assert expected == (str(caught.value), caught.value.status)

    async def test_made_again_it_is_empty(self, open_index: Opener) -> None:
        """A namespace made again under an old name holds nothing of the old one."""
        index = open_index("dense", dimension=1)
        await index.upsert([("a", [1.0])], namespace="x")
        await index.delete_namespace("x")
        await index.upsert([("b", [1.0])], namespace="x")
        assert ["b"] == ids(await index.query([1.0], namespace="x"))


class TestNumbers:
    """Numbers come back as they went in."""

    async def test_shortest_float32(self, open_index: Opener) -> None:
        """A vector comes back as its float32s, bit by bit; over HTTP as the shortest decimals that name them."""
        index = open_index("dense", dimension=8)
        row = [0.1, 0.2, 1 / 3, 1e-8, 123456.789, -0.0, 5.0, 3.4028234e38]
        await index.upsert([("a", row)])
        [found] = await index.fetch("a", include_vectors=True)
        assert found is not None
        assert np.array(row, np.float32).tobytes() == np.array(found.vector, np.float32).tobytes()
        assert not open_index.way.endswith("http") or [float(str(np.float32(one))) for one in row] == found.vector

    async def test_whole_numbers_may_be_posted(self, open_index: Opener) -> None:
        """Whole numbers are taken as floats, and come back as floats."""
        index = open_index("dense", dimension=3)
        await index.upsert([("a", [5, 6, 7])])
        [found] = await index.fetch("a", include_vectors=True)
        assert found is not None
        assert found.vector is not None
        assert [(float, 5.0), (float, 6.0), (float, 7.0)] == [(type(value), value) for value in found.vector]
