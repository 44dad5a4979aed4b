"""Any number of records or ids in one call: they go request by request, and an error says how far storing has come."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from nextk import AsyncIndex, batches
from nextk.errors import ClientError, MissingExtraError, NextKError, RefusedError, TransportError
from nextk.types import Data, DeleteResult, Vector
from tests.support.transports import Opener, Wire

FORMS: dict[str, Callable[[list[Any]], Iterable[Any]]] = {
    "list": lambda records: records,
    "tuple": tuple,
    "generator": lambda records: (record for record in records),
    "values of a dict": lambda records: {record[0]: record for record in records}.values(),
}
WRONG: dict[str, tuple[Any, type[NextKError], str]] = {
    "dimension": ({"id": "x", "vector": [1.0, 2.0]}, RefusedError, "Invalid vector dimension: 2, expected: 1"),
    "metadata": ({"id": "x", "vector": [1.0], "metadata": {"a": {1}}}, ClientError, "metadata.a is a set"),
    "number": ({"id": "x", "vector": [float("nan")]}, ClientError, r"vector\[0\] is nan"),
    "form": ({"id": "x", "vectors": [1.0]}, ClientError, "did you mean vector?"),
    "text": (Data("x", "a text"), ClientError, "this record has a text to embed, and those before it have vectors"),
}


def records(count: int) -> list[Any]:
    """Make records with vectors of one dimension, and ids that count from 0."""
    return [(str(number), [float(number)]) for number in range(count)]


async def count_of(index: AsyncIndex) -> int:
    """Return the number of records in an index."""
    return (await index.info()).vector_count


@pytest.mark.parametrize(("count", "requests"), [(1, 1), (1_000, 1), (1_001, 2), (2_345, 3)])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_any_number(open_index: Opener, form: Callable[[list[Any]], Any], count: int, requests: int) -> None:
    """Any iterable of records is stored, at most 1,000 of them in one request."""
    index = open_index("dense")
    sent = open_index.record(index).sent
    assert "Success" == await index.upsert(form(records(count)))
    assert ["upsert"] * requests == sent
    assert count == await count_of(index)
    assert [str(count - 1)] == [match.id for match in (await index.range(str(count - 1), 10)).vectors]


async def test_last_of_equal_ids_stays(open_index: Opener) -> None:
    """Of several records with one id, the last one stays, also if they are stored in different requests."""
    index = open_index("dense")
    await index.upsert([*records(1_500), ("3", [0.25])])
    (found,) = await index.fetch("3", include_vectors=True)
    assert found is not None
    assert [0.25] == found.vector
    assert 1_500 == await count_of(index)


@pytest.mark.parametrize(("wrong", "kind", "reason"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("position", [7, 1_000, 2_100])
async def test_error_names_position_and_what_is_stored(
    open_index: Opener, wrong: Any, kind: type[NextKError], reason: str, position: int
) -> None:
    """An error names a record by its position in the whole call, and says how many records are stored: those before."""
    index = open_index("dense", dimension=1)
    given = records(2_500)
    given[position] = wrong
    with pytest.raises(kind, match=rf"^(upsert: )?record {position} \(id 'x'\): .*{reason}") as caught:
        await index.upsert(given)
    stored = position // 1_000 * 1_000
    assert stored == caught.value.stored == copy.copy(caught.value).stored
    assert stored == await count_of(index)
    notes = getattr(caught.value, "__notes__", [])
    assert [f"the first {stored:,} records are stored"] * bool(stored) == [
        note.partition(", those")[0] for note in notes
    ]


async def test_lost_request(open_index: Opener) -> None:
    """If a request is lost, the error says how many records were stored before it, and all can be stored again."""
    index = open_index("dense")
    recording = open_index.record(index)

    def given() -> Iterator[Any]:
        yield from records(1_800)
        recording.failures["upsert"] = TransportError("no reply")
        yield from records(2_500)[1_800:]

    with pytest.raises(TransportError, match=r"^no reply") as caught:
        await index.upsert(given())
    assert (1_000, 1_000) == (caught.value.stored, await count_of(index))
    recording.failures.clear()
    await index.upsert(records(2_500))
    assert 2_500 == await count_of(index)


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
async def test_failing_iterable(open_index: Opener, kind: type[BaseException]) -> None:
    """An exception of the caller's iterable reaches the caller unchanged, with a note of how many are stored."""
    index, error = open_index("dense"), kind("no such file")

    def given() -> Iterator[Any]:
        yield from records(1_800)
        raise error

    with pytest.raises(kind) as caught:
        await index.upsert(given())
    assert caught.value is error
    [note] = error.__notes__
    assert note.startswith("the first 1,000 records are stored, those of the next request all or none; ")
    assert 1_000 == await count_of(index)


async def test_records_are_read_as_they_are_stored(open_index: Opener) -> None:
    """An iterable is read at most 1,000 records ahead, so that all of its records need not fit into memory."""
    index = open_index("dense")
    sent, ahead = open_index.record(index).sent, []

    def given() -> Iterator[Any]:
        for number, record in enumerate(records(3_000)):
            ahead.append(number - 1_000 * len(sent))
            yield record

    await index.upsert(given())
    assert 999 == max(ahead)


@pytest.mark.parametrize("given", [[], (), iter(())], ids=["list", "tuple", "iterator"])
async def test_no_records(open_index: Opener, given: Any) -> None:
    """A call without records is refused, and nothing is sent."""
    index = open_index("dense")
    sent = open_index.record(index).sent
    with pytest.raises(ClientError, match=r"^upsert needs at least one record$"):
        await index.upsert(given)
    assert [] == sent


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vector", [0.5] * 50),
        ("vector", np.ones(50)),
        ("data", "x" * 1_000),
        ("data", "ü" * 250),
        ("metadata", {"a": [{"b": "x" * 1_000}]}),
    ],
    ids=["list", "array", "text", "umlauts", "metadata"],
)
async def test_large_records(open_index: Opener, monkeypatch: pytest.MonkeyPatch, field: str, value: Any) -> None:
    """A request is at most so large, as far as its texts and numbers tell; a record larger than that goes alone."""
    monkeypatch.setattr(batches, "MAX_REQUEST_SIZE", 3_500)
    index = open_index("dense")
    sent = open_index.record(index).sent
    given: list[dict[str, Any]] = [{"id": str(number), "vector": [0.5] * 50, field: value} for number in range(7)]
    if field != "vector":
        given = [{**record, "vector": [0.5]} for record in given]
    await index.upsert(given)
    assert ["upsert"] * 3 == sent
    assert 7 == await count_of(index)
    monkeypatch.setattr(batches, "MAX_REQUEST_SIZE", 10)
    await index.upsert(given)
    assert ["upsert"] * 10 == [command for command in sent if command == "upsert"]


async def test_position_among_large_records(open_index: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is named by its position in the whole call, also where requests are small because records are large."""
    monkeypatch.setattr(batches, "MAX_REQUEST_SIZE", 100)
    index = open_index("dense")
    given = [*records(10), ("x", [1.0, 2.0]), *records(3)]
    with pytest.raises(RefusedError, match=r"^record 10 \(id 'x'\)") as caught:
        await index.upsert(given)
    assert caught.value.stored == await count_of(index) > 0


@pytest.mark.parametrize("form", [list, iter], ids=["list", "iterator"])
async def test_progress_bar(open_index: Opener, form: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A progress bar is shown on stderr if it is asked for; of an iterator nobody knows how many there will be."""
    index = open_index("dense")
    await index.upsert(records(1_200))
    assert ("", "") == capsys.readouterr()
    await index.upsert(form(records(1_200)), show_progress=True)
    shown = capsys.readouterr()
    assert "" == shown.out
    assert ("1200/1200" if form is list else "1200/?") in shown.err


async def test_progress_bar_needs_rich(open_index: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library for the bar the command that installs it is named, and nothing is stored."""
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    index = open_index("dense")
    with pytest.raises(MissingExtraError, match=r"pip install 'nextk\[local\]'"):
        await index.upsert(records(1), show_progress=True)
    assert 0 == await count_of(index)


async def test_progress_flag(open_index: Opener) -> None:
    """Whether to show the bar is a boolean, and only by its name: the third argument of nobody else is one."""
    index: Any = open_index("dense")
    with pytest.raises(ClientError, match=r"^show_progress='yes' has to be of the type bool$"):
        await index.upsert(records(1), show_progress="yes")
    with pytest.raises(TypeError):
        await index.upsert(records(1), "", True)


async def test_forms_of_one_call(open_index: Opener) -> None:
    """All forms of records with vectors may be in one call, and in different requests of it."""
    index = open_index("dense")
    given = [*records(1_000), Vector("v", [0.5]), {"id": "d", "vector": np.array([0.25])}, ("n", np.array([2.0]))]
    await index.upsert(given)
    assert 1_003 == await count_of(index)


def test_one_request_takes_a_thousand(wire: Wire) -> None:
    """The wire takes at most 1,000 records in one request."""
    refusal = wire.error("upsert", [{"id": str(number), "vector": [1.0]} for number in range(1_001)])
    assert (422, "Expected 1 to 1000 items in one request, got 1001") == refusal


async def test_any_number_of_ids(open_index: Opener) -> None:
    """`fetch` and `delete` take any number of ids, in requests of up to 1,000, and answer as if they were one."""
    index = open_index("dense")
    await index.upsert(records(2_500))
    sent = open_index.record(index).sent
    ids = [str(number) for number in range(2_500)]
    asked = ["absent", *ids, *ids[:10]]
    found = await index.fetch(asked)
    assert [None, *asked[1:]] == [record and record.id for record in found]
    assert DeleteResult(2_001) == await index.delete(ids[:2_001])
    assert 499 == await count_of(index)
    assert ["fetch"] * 3 + ["delete"] * 3 == [command for command in sent if command in ("fetch", "delete")]
    assert [] == await index.fetch([])
    assert DeleteResult(0) == await index.delete([])


async def test_ids_that_are_divided_up_to_a_refusal(open_index: Opener) -> None:
    """The requests of a delete are sent in order, and an error says what those before it have removed."""
    index = open_index("dense")
    await index.upsert(records(1_500))
    ids, odd = [str(number) for number in range(1_500)], cast("str", 1.5)
    with pytest.raises(RefusedError, match="Invalid ids") as refused:
        await index.delete(["absent", *ids[:1_200], odd, *ids[1_200:]])
    note = "999 records of the first 1,000 ids are removed, those of the next request all or none; "
    assert (999, None) == (refused.value.deleted, refused.value.stored)
    assert [note + "removing everything again is safe"] == refused.value.__notes__
    assert 501 == await count_of(index)
    assert DeleteResult(501) == await index.delete(ids)
    with pytest.raises(RefusedError, match="Invalid ids") as refused:
        await index.delete([odd, *ids])
    assert (0, False) == (refused.value.deleted, hasattr(refused.value, "__notes__"))


async def test_ids_that_are_read_up_to_a_refusal(open_index: Opener) -> None:
    """The error of a fetch says how many ids were read before, and nothing if none was."""
    index = open_index("dense")
    ids, odd = [str(number) for number in range(2_500)], cast("str", 1.5)
    for position, notes in ((0, []), (2_100, ["the first 2,000 ids were read; reading everything again is safe"])):
        with pytest.raises(RefusedError, match="Invalid ids") as refused:
            await index.fetch([*ids[:position], odd, *ids[position:]])
        assert notes == getattr(refused.value, "__notes__", [])
        assert refused.value.deleted is None
