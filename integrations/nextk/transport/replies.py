"""The body of a reply on its way in, whose size is bounded before and after it is decompressed."""

import zlib
from collections import deque
from collections.abc import Mapping

from nextk.transport.numbering import HEADER

MAX_REPLY = 128 * 1024 * 1024
"""Bytes that a reply may have at most, as it comes over the wire and decompressed.

The largest page that a server has reason to send takes about 119 million: 1,000 records with vectors of 5,376
dimensions, of 13 characters each, and 48 KiB of metadata. Longer texts come in smaller pages.
"""

MAX_VALUES = 8_000_000
"""Values that a reply may hold at most: numbers, texts and so on, counted by commas and brackets.

A value takes up to fifty times as many bytes in memory as in JSON. The page above has 5.4 million numbers.
"""

MAX_CONTAINERS = 2_000_000
"""Lists and objects that a reply may hold at most; each takes more memory than any other value."""

ACCEPTED_ENCODING = "gzip"
"""The value of `Accept-Encoding`: the one compression that is read, because its output can be bounded step by step."""

_STEP = 1024 * 1024  # bytes that are decompressed at once
_PIECE = 64 * 1024  # bytes from which on a piece is not added to any more; smaller ones would take more than they hold


class ReplyTooLarge(Exception):
    """A reply has more bytes or values than it may have. What follows it on the connection was not read.

    Args:
        bound: What it may have at most, in words. Default `""`, for the number of bytes.
    """

    def __init__(self, bound: str = "") -> None:
        bound = bound or f"{MAX_REPLY // 1024 // 1024} MiB"
        super().__init__(
            f"the reply has more than {bound}. Ask for fewer records at a time, or leave out vectors, metadata or data"
        )


class HttpReply:
    """A reply while it is received, and afterwards.

    Args:
        status: Its HTTP status.
        headers: Its headers, whose names may be looked up in any case.

    Attributes:
        status: Its HTTP status.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self._headers = headers
        self._encoding = headers.get("Content-Encoding", "").strip().lower() or "identity"
        self._pieces: deque[bytearray] = deque()
        self._size = 0

    @property
    def retry_after(self) -> str | None:
        """Its header `Retry-After`; `None` if it has none."""
        return self._headers.get("Retry-After")

    @property
    def numbered_pages(self) -> str | None:
        """Its header by which a server says that it numbers pages; `None` if it has none."""
        return self._headers.get(HEADER)

    def add(self, chunk: bytes) -> None:
        """Add the next bytes of the body, as they came over the wire.

        Args:
            chunk: The bytes.

        Raises:
            ReplyTooLarge: There are too many.
        """
        self._size += len(chunk)
        if self._size > MAX_REPLY:
            raise ReplyTooLarge
        if self._pieces and len(self._pieces[-1]) < _PIECE:
            self._pieces[-1] += chunk
        else:
            self._pieces.append(bytearray(chunk))

    def takes_longer_than(self, size: int) -> bool:
        """Return whether the body may take longer to read than one of some bytes that is not compressed.

        Args:
            size: The bytes.
        """
        return self._size > (size if self._encoding == "identity" else size // 16)

    def take_content(self) -> bytearray | None:
        """Return the body, decompressed; `None` if it is compressed in a way that was not asked for, or damaged.

        The bytes that came over the wire are released on the way, so this works once.

        Raises:
            ReplyTooLarge: Decompressed it has too many bytes, or it has too many values.
        """
        if self._encoding in ("gzip", "x-gzip"):
            content = self._decompressed()
        elif self._encoding == "identity":
            content = self._joined()
        else:
            content = None
        if content is not None and len(content) > MAX_CONTAINERS:  # else it cannot hold so many
            _require_few_values(content)
        return content

    def _joined(self) -> bytearray:
        content = self._pieces.popleft() if self._pieces else bytearray()
        while self._pieces:
            content += self._pieces.popleft()
        return content

    def _decompressed(self) -> bytearray | None:
        content, decompressor = bytearray(), zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            while self._pieces and not decompressor.eof:
                rest: bytes | bytearray = self._pieces.popleft()
                while rest:
                    content += decompressor.decompress(rest, _STEP)
                    rest = decompressor.unconsumed_tail
                    if len(content) > MAX_REPLY:
                        raise ReplyTooLarge
            content += decompressor.flush()  # the few bytes that the last step left
        except zlib.error:
            return None
        whole = decompressor.eof and not decompressor.unused_data and not self._pieces
        return content if whole else None


def _require_few_values(content: bytearray) -> None:
    """Raise `ReplyTooLarge` for a body that would take far more memory once it is read as JSON."""
    containers = content.count(b"[") + content.count(b"{")
    if containers > MAX_CONTAINERS:
        raise ReplyTooLarge(f"{MAX_CONTAINERS:,} lists and objects")
    if containers + content.count(b",") > MAX_VALUES:
        raise ReplyTooLarge(f"{MAX_VALUES:,} values")
