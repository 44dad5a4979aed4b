"""How large the body of a request may be, by its command.

Only records need large bodies. Any other command has a limit of its own, a little above the largest body that its
fields allow when each character is written as an escape. In memory the values of JSON take many times the room of their
text, so these are counted as well, before they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from starlette.requests import Request

from nextk.bodies import (
    MAX_DATA_BYTES,
    MAX_DIMENSION,
    MAX_ID_BYTES,
    MAX_METADATA_BYTES,
    MAX_NON_ZEROS,
    MAX_QUERIES,
    MAX_QUERY_BYTES,
    MAX_ROWS,
)
from nextk.engine.filter.syntax import MAX_BYTES as MAX_FILTER_BYTES
from nextk.errors import RefusedError

MAX_BODY = 64 * 2**20
"""How many bytes the body of an upsert may have by default."""

_KIB = 2**10
_PIECE = 2**18  # bytes that are looked at before another thread may have its turn
_DIGITS = 18  # of the longest Content-Length that is worth reading
_UPSERT = "send fewer records at a time; a server may be started with a higher --max-body"


class Sizes(NamedTuple):
    """The bytes that the body of an upsert, and the records of a reply, may have at most."""

    body: int
    reply: int


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The limits of the body of one command.

    Attributes:
        size: The number of bytes.
        advice: What to do about a body that is larger.
        values: The number of values: numbers, texts, lists and objects. Default 1,000,000.
        containers: The number of lists and objects among them, which take the most memory. Default 100,000.
    """

    size: int
    advice: str
    values: int = 1_000_000
    containers: int = 100_000

    def require_size(self, size: int) -> None:
        """Raise `RefusedError` with the status 413 for a body of more bytes than `size`."""
        if size > self.size:
            message = f"Request body is larger than {self.size} bytes: {self.advice}"
            raise RefusedError(message, 413)

    def require_few_values(self, body: bytes) -> None:
        """Raise `RefusedError` with the status 413 for a body that would take far more memory once it is read."""
        if len(body) <= self.containers or self._allows(_count(body)):  # a shorter one cannot hold so many
            return
        counts = _count_outside_texts(body)
        if not self._allows(counts):
            which = (
                f"{self.containers} lists and objects"
                if counts.containers > self.containers
                else f"{self.values} values"
            )
            message = f"Request body has more than {which}: {self.advice}"
            raise RefusedError(message, 413)

    def _allows(self, counts: "_Counts") -> bool:
        return counts.containers <= self.containers and counts.containers + counts.commas <= self.values


class _Counts(NamedTuple):
    """How many lists and objects begin in JSON, and how many commas there are, so that their sum bounds the values."""

    containers: int
    commas: int


def _count(body: bytes) -> _Counts:
    """Count by the characters alone, those in texts included, which takes no longer than to receive the body."""
    containers = commas = 0
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        containers += piece.count(b"[") + piece.count(b"{")
        commas += piece.count(b",")
    return _Counts(containers, commas)


def _count_outside_texts(body: bytes) -> _Counts:
    """Count only what stands outside of texts."""
    containers, commas, quotes, end = 0, 0, np.uint8(0), 0
    while end < len(body):
        start, end = end, end + _PIECE
        while body[end - 1 : end] == b"\\":  # no escape is cut in two
            end += 1
        # Without escapes, every quote begins or ends a text.
        piece = np.frombuffer(body[start:end].replace(rb"\\", b"__").replace(rb"\"", b"__"), np.uint8)
        inside = np.cumsum(piece == ord('"'), dtype=np.uint8) + quotes  # of which only the last bit counts
        quotes = inside[-1]
        outside = piece[inside % 2 == 0]
        commas += int(np.count_nonzero(outside == ord(",")))
        containers += int(np.count_nonzero((outside == ord("[")) | (outside == ord("{"))))
    return _Counts(containers, commas)


# The bytes of the largest fields, with one value on each line.
_ESCAPED = 6  # a character of one byte as \u0001
_NUMBER = len("        -1.7976931348623157e+308,\n")
_FIELDS = 4 * _KIB  # the names of the fields of an object, and all its short ones
_ID = _ESCAPED * MAX_ID_BYTES + len('        "",\n')
_VECTORS = _NUMBER * (MAX_DIMENSION + 2 * MAX_NON_ZEROS)
_FILTER = _ESCAPED * MAX_FILTER_BYTES
_VECTOR_QUERY = _VECTORS + _FILTER + _FIELDS
_TEXT_QUERY = _ESCAPED * MAX_QUERY_BYTES + _FILTER + _FIELDS
_UPDATE = _ID + _VECTORS + _ESCAPED * (MAX_DATA_BYTES + MAX_METADATA_BYTES) + _FIELDS

_PLAIN = BodyLimit(64 * _KIB, "this command needs less")
_IDS = BodyLimit(MAX_ROWS * _ID + _FIELDS, "divide the ids into several requests")

_LIMITS: Mapping[str, BodyLimit] = {
    "update": BodyLimit(_UPDATE, "shorten the text of the record"),
    "query": BodyLimit(MAX_QUERIES * _VECTOR_QUERY, "send fewer queries at a time"),
    "query-data": BodyLimit(MAX_QUERIES * _TEXT_QUERY, "send fewer queries at a time"),
    "resumable-query": BodyLimit(_VECTOR_QUERY, "shorten the query"),
    "resumable-query-data": BodyLimit(_TEXT_QUERY, "shorten the query"),
    "fetch": _IDS,
    "delete": _IDS,
}
"""The limits by command; upserts are not among them, and all others have `_PLAIN`."""


def body_limit(command: str, max_body: int) -> BodyLimit:
    """Return the limits of the body of a command.

    Args:
        command: The name of the command.
        max_body: How many bytes the body of an upsert may have. No other body may be larger.
    """
    if command in ("upsert", "upsert-data"):
        return BodyLimit(max_body, _UPSERT, values=8_000_000, containers=1_000_000)
    limit = _LIMITS.get(command, _PLAIN)
    return limit if limit.size <= max_body else replace(limit, size=max_body)


async def read_body(request: Request, limit: BodyLimit) -> bytes:
    """Read the body of a request, whatever its declared type. What is refused as too large is never held.

    Args:
        request: The request.
        limit: The limits of its body.

    Raises:
        RefusedError: It is larger than `limit.size`, or declares a length that is no number. The status is 413.
        ClientDisconnect: The client left before all of it was there.
    """
    declared = request.headers.get("content-length", "0")
    is_number = declared.isdecimal() and len(declared) <= _DIGITS
    limit.require_size(int(declared) if is_number else limit.size + 1)
    body = bytearray()
    async for chunk in request.stream():
        limit.require_size(len(body) + len(chunk))
        body += chunk
    return bytes(body)
