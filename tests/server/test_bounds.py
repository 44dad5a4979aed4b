"""The bounds of `nextk serve`: what is sent, the status and the words that come back, and the memory that it takes."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Index
from nextk.dispatch import COMMANDS
from nextk.errors import RefusedError
from nextk.server.body_limits import MAX_BODY, BodyLimit, body_limit
from tests.support.server_process import ServerProcess, serving

MIB = 2**20
READER = {"Authorization": "Bearer reader"}
WRITER = {"Authorization": "Bearer writer"}

Body = bytes | Callable[[], bytes]  # the large ones are made when they are sent
Attack = tuple[str, str, Body, int, str]

IDS = "Request body is larger than 4194304 bytes: divide the ids into several requests"
ENTRIES = "has 20000 entries; at most 1000 are allowed: divide them into several requests"
TEXT = "bytes of UTF-8, and at most 65536 are allowed: shorten it, or search by parts of it"
FEWER = "send fewer queries at a time"


def listed(item: bytes, size: int) -> bytes:
    """JSON of about so many bytes: a list of one item over and over."""
    return b"[" + (item + b",") * (size // (len(item) + 1) - 1) + item + b"]"


def text(characters: str) -> bytes:
    """A query by text."""
    return json.dumps({"data": characters}).encode()


READS: list[Attack] = [
    ("one id 20,000 times", "fetch", b'{"ids":%s}' % listed(b'"1"', 80_000), 422, f"Invalid ids: {ENTRIES}"),
    ("1,001 ids", "fetch", json.dumps({"ids": list(range(1_001))}).encode(), 422, "Invalid ids: has 1001 entries"),
    ("objects as ids", "fetch", b'{"ids":%s}' % listed(b"{}", 200_000), 422, "Invalid ids: has"),
    (
        "3 MiB of objects as ids",
        "fetch",
        lambda: b'{"ids":%s}' % listed(b"{}", 3 * MIB),
        413,
        "100000 lists and objects",
    ),
    ("5 MiB of objects as ids", "fetch", lambda: b'{"ids":%s}' % listed(b"{}", 5 * MIB), 413, IDS),
    ("a long prefix", "fetch", json.dumps({"prefix": "é" * 501}).encode(), 422, "it has 1002 bytes of UTF-8"),
    ("a long prefix of a range", "range", json.dumps({"prefix": "x" * 1_001}).encode(), 422, "Invalid prefix"),
    ("a large range", "range", b"{}".ljust(MIB), 413, "larger than 65536 bytes: this command needs less"),
    ("a long text", "query-data", text("x" * 65_537), 422, f"Invalid data: it has 65537 {TEXT}"),
    ("a long text in UTF-8", "query-data", text("é" * 32_769), 422, f"Invalid data: it has 65538 {TEXT}"),
    ("a long text in a batch", "query-data", listed(text("x" * 65_537), 200_000), 422, TEXT),
    ("a long text to start with", "resumable-query-data", text("x" * 65_537), 422, TEXT),
    ("a very long text", "resumable-query-data", text("x" * MIB), 413, "1048576 bytes: shorten the query"),
    ("texts of 16 MiB", "query-data", lambda: listed(text("x" * 65_000), 17 * MIB), 413, FEWER),
    ("objects as a vector", "query", b'{"vector":%s}' % listed(b"{}", 290_000), 422, "Invalid vector: has"),
    ("texts as a vector", "query", b'{"vector":%s}' % listed(b'""', 15_000), 422, "Invalid vector.0: "),
    ("a long vector", "query", b'{"vector":%s}' % listed(b"1", 10_754), 422, "5377 entries; at most 5376 are allowed"),
    (
        "a long sparse vector",
        "query",
        json.dumps({"sparseVector": {"indices": list(range(1_001)), "values": []}}).encode(),
        422,
        "Invalid sparseVector.indices: has 1001 entries; at most 1000 are allowed",
    ),
    ("a batch of objects", "query", listed(b"{}", 290_000), 422, "Expected 1 to 100 items in one request, got"),
    ("a batch of many objects", "query", lambda: listed(b"{}", 16 * MIB), 413, f"100000 lists and objects: {FEWER}"),
    (
        "numbers without end",
        "query",
        lambda: b'{"vector":%s}' % listed(b"0.1", 15 * MIB),
        413,
        f"1000000 values: {FEWER}",
    ),
    ("deep JSON", "query", b"[" * 100_000, 400, "Invalid JSON: "),
    ("deeper JSON", "query", b"[" * MIB, 413, "100000 lists and objects"),
    ("deep metadata", "query", b'{"metadata":%s}' % (b'{"a":' * 99_000), 400, "Invalid JSON: "),
    (
        "a long filter",
        "query",
        json.dumps({"vector": [1.0, 0.0], "filter": "a = 1 OR " * 50_000}).encode(),
        422,
        "Invalid filter. ",
    ),
    ("a large page", "resumable-query-next", b"{}".ljust(65_537), 413, "larger than 65536 bytes"),
    ("a large body that is ignored", "info", b"x" * 65_537, 413, "larger than 65536 bytes: this command needs less"),
    ("a body that may not be written", "upsert", b"[]".ljust(MIB), 403, "read-only token cannot perform write"),
    ("a body for nothing", "nothing", b"[]".ljust(MIB), 404, "Not found: /nothing"),
]
"""By the token that may only read: a name, the command, the body, the status, and a part of the words."""

RECORDS = "The reply would be larger than 67108864 bytes: request fewer records at a time"
ALL = {"vector": [1.0, 0.0], "topK": 1_000, "includeData": True, "includeVectors": True, "includeMetadata": True}
LARGE: list[Attack] = [
    ("all records", "query", json.dumps(ALL).encode(), 422, RECORDS),
    ("all records 100 times", "query", json.dumps([ALL] * 100).encode(), 422, RECORDS),
    ("a few records 100 times", "query", json.dumps([{**ALL, "topK": 10}] * 100).encode(), 422, RECORDS),
    ("all records to start with", "resumable-query", json.dumps(ALL).encode(), 422, RECORDS),
    ("all records in a range", "range", json.dumps({**ALL, "limit": 1_000}).encode(), 422, RECORDS),
    ("all records by prefix", "fetch", json.dumps({**ALL, "prefix": ""}).encode(), 422, RECORDS),
    ("all records by id", "fetch", json.dumps({**ALL, "ids": list(range(700))}).encode(), 422, RECORDS),
    ("one id 1,000 times", "fetch", json.dumps({**ALL, "ids": ["1"] * 1_000}).encode(), 422, RECORDS),
]
"""By the token that may only read, of an index of 700 records, each with 100 kB of text."""

WRITES: list[Attack] = [
    ("one id 20,000 times", "delete", listed(b'"1"', 80_000), 422, f"Invalid ids: {ENTRIES}"),
    ("objects as ids", "delete", b'{"ids":%s}' % listed(b"{}", 200_000), 422, "Invalid ids: has"),
    ("a long prefix", "delete", json.dumps({"prefix": "x" * 1_001}).encode(), 422, "no id is longer"),
    (
        "64 MiB of objects",
        "upsert",
        lambda: listed(b"{}", 64 * MIB),
        413,
        "1000000 lists and objects: send fewer records",
    ),
    (
        "64 MiB of numbers",
        "upsert",
        lambda: b'{"id":1,"vector":%s}' % listed(b"0", 64 * MIB - 99),
        413,
        "8000000 values",
    ),
    ("more than 64 MiB", "upsert", lambda: bytes(65 * MIB), 413, "may be started with a higher --max-body"),
    ("1,001 records", "upsert", listed(b'{"id":1,"vector":[1,0]}', 24 * 1_001), 422, "Expected 1 to 1000 items"),
    ("a large update", "update", lambda: b"{}".ljust(9 * MIB), 413, "8388608 bytes: shorten the text of the record"),
]
"""By the token that may write."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read as Linux tells it")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """`nextk serve` in a process of its own, with a small and a large dense index, and a client of it."""
    folder = tmp_path_factory.mktemp("data")
    with Index.embedded(Path(folder, "docs.nextk"), type="dense", dimension=2) as index:
        index.upsert([(str(number), [1.0, number]) for number in range(10)])
    with Index.embedded(Path(folder, "large.nextk"), type="dense", dimension=2) as index:
        index.upsert([(str(number), [1.0, number], {"n": number}, "x" * 100_000) for number in range(700)])
    with serving(folder, "--root", "docs", "--token", "writer", "--read-only-token", "reader") as process:
        url = f"http://127.0.0.1:{process.port}"
        with httpx.Client(base_url=url, timeout=60, verify=False) as client:  # noqa: S501 - certificates take long to load
            yield process, client


@pytest.mark.parametrize(
    ("headers", "command", "body", "status", "words"),
    [pytest.param(READER, command, *rest, id=f"{command}: {name}") for name, command, *rest in READS]
    + [
        pytest.param(READER, f"indexes/large/{command}", *rest, id=f"{command}: {name}")
        for name, command, *rest in LARGE
    ]
    + [pytest.param(WRITER, command, *rest, id=f"{command}: {name}") for name, command, *rest in WRITES],
)
def test_what_is_too_much_is_refused_in_words(
    server: tuple[ServerProcess, httpx.Client],
    headers: dict[str, str],
    command: str,
    body: Body,
    status: int,
    words: str,
) -> None:
    """What passes a bound is refused with words that say what to do, and takes little memory meanwhile."""
    process, client = server
    process.forget_peak()
    before = process.memory()
    content = body if isinstance(body, bytes) else body()
    reply = client.post(f"/{command}", content=content, headers=headers)
    assert status == reply.status_code, reply.text
    assert words in reply.json()["error"]
    assert len(reply.content) < 1_000
    allowed = 400 if command == "upsert" else 150
    assert process.peak_memory() - before < allowed


FITTING: list[tuple[str, Any]] = [
    ("query", [{"vector": [-0.12345678901234567] * 5_376, "topK": 1}] * 100),
    ("query-data", [{"data": "\x00" * 20_000}] * 100),
    ("resumable-query-data", {"data": "é" * 32_768, "filter": "a = 'é'"}),
    ("fetch", {"ids": [str(number).ljust(500, "é") for number in range(1_000)]}),
    ("upsert", [{"id": number, "vector": [0.1234567890123456] * 2_000} for number in range(1_000)]),
    ("upsert-data", [{"id": number, "data": "[1,2],{" * 4_000} for number in range(1_000)]),
    ("update", {"id": 1, "data": "\x00" * 1_000_000}),
    ("rename-namespace", {"namespace": "\x00" * 1_000, "newNamespace": "\x00" * 1_000}),
]


@pytest.mark.parametrize(("command", "body"), FITTING, ids=[command for command, _ in FITTING])
def test_what_fits_the_fields_fits_the_body(command: str, body: object) -> None:
    """A body as large as the fields of a command allow is not refused as too large."""
    limit, content = body_limit(command, MAX_BODY), json.dumps(body).encode()
    limit.require_size(len(content))
    limit.require_few_values(content)


def test_no_limit_is_above_that_of_upserts() -> None:
    """Whoever lowers the limit of upserts lowers that of every command."""
    assert {2_000} == {body_limit(command, 2_000).size for command in COMMANDS}
    assert [] == [
        command for command in COMMANDS if "upsert" not in command and body_limit(command, MAX_BODY).size > 2**24
    ]


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a,[{"\\é')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from(',["\\'), max_size=2), inner),
)


@given(json_values)
def test_values_are_counted_without_those_in_texts(value: object) -> None:
    """A text may hold any number of commas and brackets: only values count, an empty list or object once or twice."""
    containers, values = counts(value)
    body = json.dumps(value, ensure_ascii=False).encode()
    BodyLimit(0, "", values=values + containers, containers=containers).require_few_values(body)
    if containers:
        with pytest.raises(RefusedError):
            BodyLimit(0, "", values=10**9, containers=containers - 1).require_few_values(body)


def counts(value: object) -> tuple[int, int]:
    """The number of lists and objects of a value, and that of all values in it, itself included."""
    if not isinstance(value, dict | list):
        return 0, 1
    inner = [counts(each) for each in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(containers for containers, _ in inner), 1 + sum(values for _, values in inner)
