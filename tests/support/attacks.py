"""Requests for too much: what is sent to `nextk serve`, and the status and the words that come back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from nextk import Index

MIB = 2**20
READER = {"Authorization": "Bearer reader"}
WRITER = {"Authorization": "Bearer writer"}

TOKENS = ("--token", "writer", "--read-only-token", "reader")
"""The arguments of a server whose tokens these are."""


Body: TypeAlias = bytes | Callable[[], bytes]
"""The body of a request, or a function that makes one that is large."""

_Row: TypeAlias = tuple[str, str, Body, int, str]


@dataclass(frozen=True)
class Attack:
    """A request for too much.

    Attributes:
        name: What is too much of it.
        command: The path.
        body: The body.
        status: The status of the reply.
        words: A part of what the reply says.
        headers: The headers with the token.
    """

    name: str
    command: str
    body: Body
    status: int
    words: str
    headers: dict[str, str]

    def __str__(self) -> str:
        return f"{self.command}: {self.name}"

    def content(self) -> bytes:
        """Return the body."""
        return self.body if isinstance(self.body, bytes) else self.body()


IDS = "Request body is larger than 6016096 bytes: divide the ids into several requests"
ENTRIES = "has 20000 entries; at most 1000 are allowed: divide them into several requests"
TEXT = "bytes of UTF-8, and at most 65536 are allowed: shorten it, or search by parts of it"
FEWER = "send fewer queries at a time"


def listed(item: bytes, size: int) -> bytes:
    """JSON of about so many bytes: a list of one item over and over."""
    return b"[" + (item + b",") * (size // (len(item) + 1) - 1) + item + b"]"


def text(characters: str) -> bytes:
    """A query by text."""
    return json.dumps({"data": characters}).encode()


_READS: list[_Row] = [
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
    ("7 MiB of objects as ids", "fetch", lambda: b'{"ids":%s}' % listed(b"{}", 7 * MIB), 413, IDS),
    ("a long prefix", "fetch", json.dumps({"prefix": "é" * 501}).encode(), 422, "it has 1002 bytes of UTF-8"),
    ("a long prefix of a range", "range", json.dumps({"prefix": "x" * 1_001}).encode(), 422, "Invalid prefix"),
    ("a large range", "range", b"{}".ljust(MIB), 413, "larger than 65536 bytes: this command needs less"),
    ("a long text", "query-data", text("x" * 65_537), 422, f"Invalid data: it has 65537 {TEXT}"),
    ("a long text in UTF-8", "query-data", text("é" * 32_769), 422, f"Invalid data: it has 65538 {TEXT}"),
    ("a long text in a batch", "query-data", listed(text("x" * 65_537), 200_000), 422, TEXT),
    ("a long text to start with", "resumable-query-data", text("x" * 65_537), 422, TEXT),
    ("a very long text", "resumable-query-data", text("x" * MIB), 413, "bytes: shorten the query"),
    ("many texts", "query-data", lambda: listed(text("x" * 65_000), 44 * MIB), 413, FEWER),
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
"""By the token that may only read, of a small index."""

RECORDS = "The reply would be larger than 67108864 bytes: request fewer records at a time"
ALL = {"vector": [1.0] * 1_536, "topK": 1_000, "includeData": True, "includeVectors": True, "includeMetadata": True}
VECTORS = {"vector": [1.0] * 1_536, "topK": 1_000, "includeVectors": True}
_LARGE: list[_Row] = [
    ("all records", "query", json.dumps(ALL).encode(), 422, RECORDS),
    ("all records 100 times", "query", json.dumps([ALL] * 100).encode(), 422, RECORDS),
    ("all vectors 100 times", "query", json.dumps([VECTORS] * 100).encode(), 422, RECORDS),
    ("a few records 100 times", "query", json.dumps([{**ALL, "topK": 10}] * 100).encode(), 422, RECORDS),
    ("all records to start with", "resumable-query", json.dumps(ALL).encode(), 422, RECORDS),
    ("all records in a range", "range", json.dumps({**ALL, "limit": 1_000}).encode(), 422, RECORDS),
    ("all records by prefix", "fetch", json.dumps({**ALL, "prefix": ""}).encode(), 422, RECORDS),
    ("all records by id", "fetch", json.dumps({**ALL, "ids": list(range(700))}).encode(), 422, RECORDS),
    ("one id 1,000 times", "fetch", json.dumps({**ALL, "ids": ["1"] * 1_000}).encode(), 422, RECORDS),
]
"""By the token that may only read, of the large index."""

_WRITES: list[_Row] = [
    ("one id 20,000 times", "delete", listed(b'"1"', 80_000), 422, f"Invalid ids: {ENTRIES}"),
    ("objects as ids", "delete", b'{"ids":%s}' % listed(b"{}", 200_000), 422, "Invalid ids: has"),
    ("a long prefix", "delete", json.dumps({"prefix": "x" * 1_001}).encode(), 422, "no id is longer"),
    (
        "32 MiB of objects",
        "upsert",
        lambda: listed(b"{}", 32 * MIB),
        413,
        "1000000 lists and objects: send fewer records",
    ),
    (
        "32 MiB of numbers",
        "upsert",
        lambda: b'{"id":1,"vector":%s}' % listed(b"0", 32 * MIB),
        413,
        "8000000 values",
    ),
    ("more than 64 MiB", "upsert", lambda: bytes(65 * MIB), 413, "may be started with a higher --max-body"),
    ("1,001 records", "upsert", listed(b'{"id":1,"vector":[1,0]}', 24 * 1_001), 422, "Expected 1 to 1000 items"),
    ("a large update", "update", lambda: b"{}".ljust(9 * MIB), 413, "bytes: shorten the text of the record"),
]
"""By the token that may write."""

ATTACKS = [
    *(Attack(*row, READER) for row in _READS),
    *(
        Attack(name, f"indexes/large/{command}", body, status, words, READER)
        for name, command, body, status, words in _LARGE
    ),
    *(Attack(*row, WRITER) for row in _WRITES),
]
"""All of them."""


def make_indexes(folder: Path) -> None:
    """Make a small dense index, `docs`, and a large one, of 700 records of 1,536 dimensions and 100 kB of text."""
    with Index.embedded(Path(folder, "docs.nextk"), type="dense", dimension=2) as index:
        index.upsert([(str(number), [1.0, number]) for number in range(10)])
    with Index.embedded(Path(folder, "large.nextk"), type="dense", dimension=1_536) as index:
        index.upsert([(str(number), [float(number)] * 1_536, {"n": number}, "x" * 100_000) for number in range(700)])
