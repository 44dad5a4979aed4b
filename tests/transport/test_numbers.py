"""Replies whose numbers are none: no caller is handed a score or a vector that is not what the protocol says."""

from collections.abc import Callable
from typing import Any

import pytest

from nextk import AsyncIndex, operations
from nextk.errors import PageUncertain, TransportError
from tests.support.scripted_server import ScriptedServer, answer, result

Client = Callable[..., AsyncIndex]

STARTED = result({"uuid": "u", "scores": []})

NO_NUMBERS = {
    "NaN": b"NaN",
    "infinity": b"Infinity",
    "minus infinity": b"-Infinity",
    "too large for a float": b"1e999",
    "an integer too large for a float": b"1" + b"0" * 400,
    "text": b'"0.5"',
    "a boolean": b"true",
    "null": b"null",
    "a list": b"[0.5]",
}

PLACES = {
    "score": b'{"id": "b", "score": %s}',
    "vector": b'{"id": "b", "score": 0.5, "vector": [0.25, %s]}',
    "sparse value": b'{"id": "b", "score": 0.5, "sparseVector": {"indices": [1], "values": [%s]}}',
}


@pytest.mark.parametrize("number", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("row", PLACES.values(), ids=PLACES)
async def test_no_numbers(client: Client, row: bytes, number: bytes) -> None:
    """A score, an element of a vector or a sparse value that is no finite number makes a reply no answer."""
    act = answer(200, b'{"result": [' + row % number + b"]}")
    with ScriptedServer(STARTED, act, result("Success"), act) as server:
        async with client(server) as index:
            async with (await index.resumable_query([1.0], 1))[1] as handle:
                with pytest.raises(PageUncertain):
                    await handle.fetch_next(1)
            with pytest.raises(TransportError) as caught:
                await index.query([1.0])
        assert (TransportError, 4) == (type(caught.value), server.connections)


@pytest.mark.parametrize("id_", [b"1", b"null", b"true", b'["b"]'], ids=["number", "null", "boolean", "list"])
async def test_no_id(client: Client, id_: bytes) -> None:
    """An id that is no text makes a reply no answer, since the protocol stores and returns ids as texts."""
    with ScriptedServer(answer(200, b'{"result": [{"id": %s, "score": 0.5}]}' % id_)) as server:
        async with client(server) as index:
            with pytest.raises(TransportError, match="not of the documented shape"):
                await index.query([1.0])


async def test_whole_numbers(client: Client) -> None:
    """A whole number is a number: JSON may leave out the fraction of a score or of an element of a vector."""
    with ScriptedServer(result([{"id": "b", "score": 1, "vector": [0, 2]}])) as server:
        async with client(server) as index:
            [match] = await index.query([1.0])
    assert (1.0, [0.0, 2.0]) == (match.score, match.vector)
    assert [float] * 3 == [type(number) for number in (match.score, *(match.vector or []))]


MANY_FAULTS: dict[str, tuple[operations.Operation[Any], Any]] = {
    "matches": (operations.query(None, vector=[1.0]), [None] * 10_000),
    "a vector": (operations.query(None, vector=[1.0]), [{"id": "a", "score": 1.0, "vector": [None] * 10_000}]),
    "batches": (operations.query_many([{"vector": [1.0]}] * 2, None), [None] * 10_000),
    "names": (operations.list_namespaces(), [None] * 10_000),
}


@pytest.mark.parametrize(("operation", "faulty"), MANY_FAULTS.values(), ids=MANY_FAULTS)
def test_many_faults(operation: operations.Operation[Any], faulty: Any) -> None:
    """A list is read up to its first fault, so that the error is no longer than the reply."""
    with pytest.raises(ValueError, match="1 validation error") as caught:
        operation.parse(faulty)
    assert len(str(caught.value)) < 1_000
