"""The body of a reply on its way in, whose size is bounded before and after it is decompressed."""

import zlib
from collections import deque
from collections.abc import Mapping

MAX_REPLY = 128 * 1024 * 1024
"""Bytes that a reply may have at most, as it comes over the wire and decompressed.

The largest page that a server has reason to send takes about 119 million: 1,000 records with vectors of 5,376
dimensions, of 13 characters each, and 48 KiB of metadata. Longer texts come in smaller pages.
"""

ACCEPTED_ENCODING = "gzip"
"""The value of `Accept-Encoding`: the one compression that is read, because its output can be bounded step by step."""

_STEP = 1024 * 1024  # bytes that are decompressed at once
_PIECE = 64 * 1024  # bytes from which on a piece is not added to any more; smaller ones would take more than they hold


class ReplyTooLarge(Exception):
    """A reply has more than `MAX_REPLY` bytes. What follows it on the connection was not read."""

    def __init__(self) -> None:
        super().__init__(
            f"the reply has more than {MAX_REPLY // 1024 // 1024} MiB. Ask for fewer records at a time, or leave out "
            "vectors, metadata or data"
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
            ReplyTooLarge: Decompressed it has too many bytes.
        """
        if self._encoding in ("gzip", "x-gzip"):
            return self._decompressed()
        if self._encoding != "identity":
            return None
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
