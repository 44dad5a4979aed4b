"""Values of every kind go in and come out alike in process, where no text is written, and over HTTP, where all is."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from typing import Any

import numpy as np
import pytest

from nextk import AsyncIndex, Vector
from nextk.errors import ClientError, RefusedError
from nextk.types import FetchResult, MetadataUpdateMode, SparseVector
from tests.support.transports import Opener

VECTOR = [0.125, -2.5]  # exact in float32, so that what comes back is equal over every transport
STORED = VECTOR


class Colour(enum.StrEnum):
    """A text that is an enum's member."""

    RED = "red"


class Size(enum.IntEnum):
    """A number that is an enum's member."""

    LARGE = 3


async def stored(index: AsyncIndex, id_: str = "a") -> FetchResult:
    """Return a record with everything that it has."""
    [found] = await index.fetch(id_, include_vectors=True, include_metadata=True, include_data=True)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "vector",
    [
        VECTOR,
        np.array(VECTOR),
        np.array(VECTOR, np.float32),
        np.array(VECTOR, ">f4"),
        np.array([0.125, 9.0, -2.5, 9.0])[::2],
        [np.float32(0.125), np.float32(-2.5)],
        [np.float64(0.125), -2.5],
        np.array([0.125, -2.5], object),
    ],
    ids=lambda vector: f"{type(vector).__name__} of {getattr(vector, 'dtype', type(vector[0]).__name__)}",
)
async def test_vectors(open_index: Opener, vector: Any) -> None:
    """A vector may be a list or an array of any floats: what is stored, found and returned is the same."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("a", vector)])
    assert STORED == (await stored(index)).vector
    assert await index.update("a", vector=vector)
    [match] = await index.query(vector, 1, include_vectors=True)
    assert ("a", 1.0, STORED) == (match.id, match.score, match.vector)


@pytest.mark.parametrize("vector", [[5, -6], [5, -6.0], np.array([5, -6]), np.array([5, -6], np.int8)], ids=repr)
async def test_whole_numbers_in_vectors(open_index: Opener, vector: Any) -> None:
    """Whole numbers are taken as floats, and come back as floats."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("a", vector)])
    found = (await stored(index)).vector
    assert found is not None
    assert [(float, 5.0), (float, -6.0)] == [(type(value), value) for value in found]


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        ([True, 0.5], "Invalid vector.0: Input should be a valid number"),
        (np.array([True, False]), "Invalid vector.0: Input should be a valid number"),
        ([0.5, "1"], "Invalid vector.1: Input should be a valid number"),
        ([0.5, None], "Invalid vector.1: Input should be a valid number"),
        ([0.5, [1.0]], "Invalid vector.1: Input should be a valid number"),
        ([0.5, (1.0,)], "Invalid vector.1: Input should be a valid number"),
        (np.zeros((2, 2)), "Invalid vector.0: Input should be a valid number"),
        (np.array([0.5, 1e39]), "Invalid vector: value 1e+39 at position 1 is out of the range of float32"),
        ([0.5, -1e300], "Invalid vector: value -1e+300 at position 1 is out of the range of float32"),
        ([0.5, 10**39], "Invalid vector: value 1e+39 at position 1 is out of the range of float32"),
        (np.array([0.5, 1.0, 2.0]), "Invalid vector dimension: 3, expected: 2"),
    ],
    ids=repr,
)
async def test_refused_vectors(open_index: Opener, vector: Any, text: str) -> None:
    """Each carrier refuses a value that is not a vector of the index, in the same words."""
    index = open_index("dense", dimension=2)
    for call in (index.upsert([Vector("b", VECTOR), Vector("a", vector)]), index.query(vector)):
        with pytest.raises(RefusedError) as caught:
            await call
        assert 422 == caught.value.status
        assert str(caught.value) in (text, f"record 1 (id 'a'): {text}")
    assert 0 == (await index.info()).vector_count


@pytest.mark.parametrize(
    "vector",
    [
        [0.5, math.nan],
        [1e308, 1e308, math.inf],
        [math.inf, -math.inf],
        np.array([0.5, np.nan]),
        np.array([0.5, -np.inf], np.float32),
        [0.5, np.float32("nan")],
        [0.5, 1j],
        [0.5, ...],
        [0.5, 10**400],
        [0.5, {1, 2}],
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_vectors_that_cannot_be_sent(open_index: Opener, vector: Any) -> None:
    """The client refuses a vector that JSON cannot express, and neither a server nor a local engine sees it."""
    index = open_index("dense", dimension=2)
    for call, place in (
        (index.upsert([Vector("b", VECTOR), Vector("a", vector)]), r"upsert: record 1 \(id 'a'\): vector\[\d\] is "),
        (index.query(vector), r"query: vector\[\d\] is "),
        (index.query_many(queries=[{"vector": VECTOR}, {"vector": vector}]), r"query: query 1: vector\[\d\] is "),
    ):
        with pytest.raises(ClientError, match=f"^{place}"):
            await call
    assert 0 == (await index.info()).vector_count


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"k": (1, 2)}, {"k": [1, 2]}),
        ({"k": Colour.RED, "n": Size.LARGE}, {"k": "red", "n": 3}),
        ({1: "a", 2.5: "b", None: "c", Colour.RED: "d"}, {"1": "a", "2.5": "b", "null": "c", "red": "d"}),
        ({True: "a", 1e22: "b", Size.LARGE: "c"}, {"true": "a", "1e+22": "b", "3": "c"}),
        ({1: "a", "1": "b"}, {"1": "b"}),
        ({"k": np.float32(0.5), "n": np.int64(3), "b": np.bool_(True)}, {"k": 0.5, "n": 3, "b": True}),
        ({"k": np.float32(0.1), "l": np.str_("x")}, {"k": 0.10000000149011612, "l": "x"}),
        ({"k": np.array([[1, 2], [3, 4]]), "f": np.array([0.5])}, {"k": [[1, 2], [3, 4]], "f": [0.5]}),
        ({"k": [np.float64(0.1), [np.int8(1)], {"m": np.array([])}]}, {"k": [0.1, [1], {"m": []}]}),
        ({"vector": np.array([0.5]), "data": [1.0, 2]}, {"vector": [0.5], "data": [1.0, 2]}),
        ({"k": 2**63 - 1, "l": -(2**63)}, {"k": 2**63 - 1, "l": -(2**63)}),
        ({"k": 2.0**64, "l": [-(2.0**70), 10**18]}, {"k": 2.0**64, "l": [-(2.0**70), 10**18]}),
        ({"k": -0.0, "l": 1e-320, "m": 1e22, "n": 0.1}, {"k": -0.0, "l": 1e-320, "m": 1e22, "n": 0.1}),
        ({"k": "ü\U0001f40d\n\"'", "": {"": []}}, {"k": "ü\U0001f40d\n\"'", "": {"": []}}),
        ({}, {}),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_metadata(open_index: Opener, metadata: Any, expected: dict[str, Any]) -> None:
    """Metadata is kept as JSON has it, whatever the types of Python that it came in."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("a", VECTOR, metadata), Vector("b", VECTOR)])
    await index.update("b", metadata=metadata, metadata_update_mode=MetadataUpdateMode.OVERWRITE)
    for id_ in "ab":
        assert repr(expected) == repr((await stored(index, id_)).metadata)
    [match] = await index.query(VECTOR, 1, include_metadata=True)
    assert repr(expected) == repr(match.metadata)


@dataclasses.dataclass
class Point:
    """An object of the caller's own."""

    x: int = 1


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"k": math.nan}, "metadata.k is nan, for which JSON has no word"),
        ({"j": 1, "k": [0.5, math.inf]}, "metadata.k[1] is inf, for which JSON has no word"),
        ({"k": np.float32("inf")}, "metadata.k is inf, "),
        ({"k": np.array([0.5, np.nan])}, "metadata.k[1] is nan, "),
        ({"a key": {"l": (0, -math.inf)}}, "metadata['a key'].l[1] is -inf, "),
        ({math.nan: 1}, "metadata has the key nan: keys have to be texts"),
        ({(1, 2): 1}, "metadata has the key (1, 2): "),
        ({b"k": 1}, "metadata has the key b'k': "),
        ({"a": {np.int64(1): 1}}, "metadata.a has the key "),
        ({"k": b"bytes"}, "metadata.k is bytes; give a text"),
        ({"k": {1, 2}}, "metadata.k is a set; give a list"),
        ({"k": frozenset()}, "metadata.k is a frozenset; give a list"),
        ({"k": 1j}, "metadata.k is a complex; give texts, numbers, "),
        ({"k": object()}, "metadata.k is an object; give texts, numbers, "),
        ({"k": dt.datetime(2026, 1, 1)}, "metadata.k is a datetime; give an ISO string or a number"),
        ({"k": [dt.date(2026, 1, 1)]}, "metadata.k[0] is a date; give an ISO string or a number"),
        ({"k": dt.timedelta(1)}, "metadata.k is a timedelta; give a number of seconds"),
        ({"k": np.datetime64("2026-01-01")}, "metadata.k is a date; "),
        ({"k": uuid.UUID(int=1)}, "metadata.k is a UUID; give its text"),
        ({"k": decimal.Decimal("1.5")}, "metadata.k is a Decimal; give a float or a text"),
        ({"k": Point()}, "metadata.k is a Point; give dataclasses.asdict(...)"),
        ({"k": "x\ud800y"}, "metadata.k is 'x\\ud800y', which has lone surrogates"),
        ({"x\ud800y": 1}, "metadata has the key 'x\\ud800y': "),
        ({"k": [{"l": "\udfff"}]}, "metadata.k[0].l is '\\udfff', "),
        ({"k": 10**400}, "metadata.k is a whole number beyond all floats"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_metadata_that_cannot_be_sent(open_index: Opener, metadata: Any, fault: str) -> None:
    """Metadata that JSON cannot express is refused by record and path, with a remedy, before anything is stored."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("b", VECTOR)])
    for call, place in (
        (index.upsert([Vector("c", VECTOR), Vector("a", VECTOR, metadata)]), "upsert: record 1 (id 'a'): "),
        (index.update("b", metadata=metadata), "update: "),
    ):
        with pytest.raises(ClientError) as caught:
            await call
        assert str(caught.value).startswith(place + fault)
    assert (1, None) == ((await index.info()).vector_count, (await stored(index, "b")).metadata)


@pytest.mark.parametrize("number", [2**63, 2**64, 10**19 + 1, -(2**63) - 1, -(2**70), 10**30])
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda number: {"k": number}, "metadata.k"),
        (lambda number: {"a": [0, 1, 2, {"b": number}]}, "metadata.a[3].b"),
        (lambda number: {"a b": {"": [[number]]}}, "metadata['a b'][''][0][0]"),
    ],
    ids=["flat", "nested", "deep"],
)
async def test_numbers_beyond_64_bits(open_index: Opener, number: int, make: Any, path: str) -> None:
    """A whole number that the index would round is refused by record and path, and the whole upsert with it."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("b", VECTOR, {"n": 2**63 - 1})])
    many = [Vector(str(position), VECTOR, {"n": position}) for position in range(6)]
    many[4].metadata = make(number)
    for call, place in (
        (index.upsert(many), "record 4 (id '4'): "),
        (index.update("b", metadata=make(number)), ""),
        (index.update("b", metadata=make(number), metadata_update_mode=MetadataUpdateMode.PATCH), ""),
    ):
        with pytest.raises(RefusedError) as caught:
            await call
        assert 422 == caught.value.status
        assert str(caught.value).startswith(f"{place}{path} is a whole number beyond 64 bits")
    assert (1, {"n": 2**63 - 1}) == ((await index.info()).vector_count, (await stored(index, "b")).metadata)


@pytest.mark.parametrize("number", ["9223372036854775809", "-9223372036854775809", str(10**30)])
async def test_numbers_beyond_64_bits_in_filters(open_index: Opener, number: str) -> None:
    """A whole number in a filter that would be rounded is refused; written as a float it is one."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector("b", VECTOR, {"n": 5})])
    for call in (index.query(VECTOR, filter=f"n < {number}"), index.delete(filter=f"n IN (1, {number})")):
        with pytest.raises(RefusedError, match="is a whole number beyond 64 bits"):
            await call
    assert (int(number) > 0) == bool(await index.query(VECTOR, filter=f"n < {number}.0"))


@pytest.mark.parametrize("metadata", [{"k": "x\0y"}, {"x\0y": 1}, {"k": [{"l": "\0"}]}], ids=repr)
async def test_nul_in_metadata(open_index: Opener, metadata: Any) -> None:
    """The NUL character is refused in metadata, in the same words."""
    index = open_index("dense", dimension=2)
    words = r"record 1 \(id 'a'\): Metadata must not contain the NUL character; metadata.* does"
    with pytest.raises(RefusedError, match=words) as caught:
        await index.upsert([Vector("b", VECTOR), Vector("a", VECTOR, metadata)])
    assert 422 == caught.value.status


@pytest.mark.parametrize("depth", [150, 220, 250, 251, 300])
async def test_deep_metadata(open_index: Opener, depth: int) -> None:
    """Metadata comes back from as deep as it can be stored, and is refused by the index from there on."""
    index = open_index("dense", dimension=2)
    metadata: Any = {}
    for _ in range(depth - 1):
        metadata = {"k": metadata}
    if depth <= 250:
        await index.upsert([Vector("a", VECTOR, metadata)])
        assert metadata == (await stored(index)).metadata
    else:
        with pytest.raises(RefusedError, match="Metadata is nested too deeply") as caught:
            await index.upsert([Vector("a", VECTOR, metadata)])
        assert 422 == caught.value.status


@pytest.mark.parametrize(
    ("given", "expected"), [(7, "7"), (Size.LARGE, "3"), (Colour.RED, "red"), (np.int64(5), "5"), (2**64 - 1, None)]
)
async def test_ids(open_index: Opener, given: Any, expected: str | None) -> None:
    """An id may be a number or a text of any kind; it is text from then on."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector(given, VECTOR)])
    assert [expected or str(given)] == [match.id for match in await index.query(VECTOR)]


@pytest.mark.parametrize("given", [1.5, True, None, [1], (1,), 2**64, np.float64(1)], ids=repr)
async def test_refused_ids(open_index: Opener, given: Any) -> None:
    """An id that is neither a text nor a whole number of 64 bits is refused."""
    index = open_index("dense", dimension=2)
    with pytest.raises(RefusedError) as caught:
        await index.upsert([Vector(given, VECTOR)])
    assert 422 == caught.value.status
    assert ": Invalid id: " in str(caught.value)


@pytest.mark.parametrize("ids", [0, np.int64(0), [0], (0,), range(1), np.arange(1), "0"], ids=repr)
async def test_the_id_zero(open_index: Opener, ids: Any) -> None:
    """The number 0 is an id like any other, wherever ids are given."""
    index = open_index("dense", dimension=2)
    await index.upsert([{"id": 0, "vector": VECTOR}, Vector(1, VECTOR)])
    assert await index.update(0, data="text")  # type: ignore[arg-type]
    [found] = await index.fetch(ids, include_data=True)
    assert found is not None
    assert ("0", "text") == (found.id, found.data)
    assert 1 == (await index.delete(ids)).deleted
    assert ["1"] == [match.id for match in await index.query(VECTOR)]


@pytest.mark.parametrize("ids", [b"ab", {"0": 1}, True, 1.5], ids=repr)
async def test_what_is_no_list_of_ids(open_index: Opener, ids: Any) -> None:
    """Bytes, dicts and other numbers are refused as ids before anything is sent."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector(97, VECTOR)])
    for call in (index.fetch(ids), index.delete(ids)):
        with pytest.raises(ClientError, match="must be an id or a list of ids"):
            await call
    assert 1 == (await index.info()).vector_count


async def test_numbers_of_numpy_as_parameters(open_index: Opener) -> None:
    """Numbers and flags may be numpy's."""
    index = open_index("dense", dimension=2)
    await index.upsert([Vector(str(number), VECTOR) for number in range(3)])
    flag: Any = np.bool_(True)
    [match] = await index.query(VECTOR, int(np.int64(1)), include_vectors=flag)
    assert STORED == match.vector
    page, handle = await index.resumable_query(VECTOR, np.int64(1))  # type: ignore[arg-type]
    async with handle:
        assert ["1", "2"] == [match.id for match in await handle.fetch_next(np.int32(2))]  # type: ignore[arg-type]
    assert ["0"] == [match.id for match in page]


async def test_changes_after_an_upsert_are_not_stored(open_index: Opener) -> None:
    """Whoever changes what was upserted changes nothing of what is stored or found."""
    index = open_index(dimension=2)
    list_, array = [1.0, 0.5], np.array([0.5, 1.0], np.float32)
    metadata: dict[str, Any] = {"k": [1, {"l": "x"}]}
    indices, values = [1, 2], np.array([0.5, 0.25])
    await index.upsert(
        [Vector("a", list_, metadata, "text", (indices, values)), Vector("b", array, metadata, None, ([1], [1.0]))]
    )
    before = [await stored(index, id_) for id_ in "ab"], await index.query([1.0, 1.0], include_vectors=True)
    page, handle = await index.resumable_query(array, 1, include_vectors=True)
    list_[0], array[:], indices[0], values[:] = 9.0, 9.0, 9, 9.0
    metadata["k"][1]["l"] = "changed"
    metadata["new"] = True
    async with handle:
        assert ["b", "a"] == [match.id for match in page + await handle.fetch_next(1)]
    assert before == ([await stored(index, id_) for id_ in "ab"], await index.query([1.0, 1.0], include_vectors=True))


@pytest.mark.parametrize("open_index", ["async-http"], indirect=True)
async def test_a_large_body_is_read_at_once(open_index: Opener) -> None:
    """Over HTTP whatever is stored was read before the event loop went on, however large the body is."""
    index = open_index("dense", dimension=64)
    metadatas = [{"k": "before"} for _ in range(500)]
    vectors = [[1.0] * 64 for _ in range(500)]
    rows = zip(vectors, metadatas, strict=True)
    storing = asyncio.create_task(index.upsert([Vector(str(n), vector, each) for n, (vector, each) in enumerate(rows)]))
    await asyncio.sleep(0)  # the task runs up to its first suspension
    for vector, metadata in zip(vectors, metadatas, strict=True):
        metadata.update({"k": "after", "new": "key"})
        vector[0] = 9.0
    await storing
    found = await index.range("", 500, include_metadata=True, include_vectors=True)
    assert [({"k": "before"}, 1.0)] * 500 == [(each.metadata, (each.vector or [0.0])[0]) for each in found.vectors]


async def test_changes_of_a_result_are_not_stored(open_index: Opener) -> None:
    """Whoever changes a match changes nothing of what another call returns, from the file or from memory."""
    index = open_index(dimension=2)
    await index.upsert([Vector("a", VECTOR, {"k": [1, {"l": "x"}]}, "text", ([1], [0.5]))])
    expected = FetchResult("a", STORED, {"k": [1, {"l": "x"}]}, "text", SparseVector([1], [0.5]))
    for _ in range(2):
        found = await stored(index)
        assert expected == found
        [short] = await index.query(VECTOR, include_metadata=True)
        assert expected.metadata == short.metadata
        assert short.metadata is not None
        short.metadata["k"][1]["l"] = "changed"
        [match] = await index.query(VECTOR, include_vectors=True, include_metadata=True)
        for result in (found, match):
            assert result.metadata is not None
            assert result.vector is not None
            assert result.sparse_vector is not None
            result.metadata["k"][1]["l"] = "changed"
            result.vector[0] = 9.0
            result.sparse_vector.indices.clear()  # type: ignore[union-attr]
    assert expected == await stored(index)


async def test_large_batches(open_index: Opener) -> None:
    """A thousand vectors go in and come out bit by bit, however they are given."""
    matrix = np.random.default_rng(7).standard_normal((1_000, 32)).astype(np.float32)
    matrix[:200] *= np.float32(1e-9)
    matrix[200:300] *= np.float32(1e12)
    matrix[300:320] = 0
    index = open_index("dense", dimension=32, similarity="euclidean")
    await index.upsert([Vector(str(n), row if n % 2 else row.tolist()) for n, row in enumerate(matrix)])
    found = await index.range("", 1_000, include_vectors=True)
    assert matrix.tobytes() == np.array([record.vector for record in found.vectors], np.float32).tobytes()
    matches = await index.query(matrix[0], 1_000, include_vectors=True)
    expected = sorted(row.tobytes() for row in matrix)
    assert expected == sorted(np.array(match.vector, np.float32).tobytes() for match in matches)
    assert all(match.score == float(str(np.float32(match.score))) for match in matches)
