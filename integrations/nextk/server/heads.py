"""Decide on the head of a request, and find where its body ends, from the bytes alone.

uvicorn's two parsers do not agree on what they let pass. What is refused here reaches neither, so that both give the
same answers, and neither can be led to see two requests where a proxy in front saw one.
"""

import http
import re
from dataclasses import dataclass

from nextk.errors import AuthenticationError, RefusedError
from nextk.plain import shortened
from nextk.server.limits import ConnectionLimits

_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIRST = re.compile(_TOKEN[:-1])
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])")
_WHOLE_URL = re.compile(rb"(?i:https?)://[^/?]+(.*)")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r[^\n]")
# Quoted values and blanks are legal here too, but proxies and parsers do not agree on where such a line ends, which is
# how requests are smuggled; and no client in use sends any extension.
_EXTENSION = rb";" + _TOKEN + rb"(?:=" + _TOKEN + rb")?"
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*\r\n")

_METHODS = {method.encode() for method in http.HTTPMethod if method is not http.HTTPMethod.CONNECT}
_DIGITS = 18  # of the longest Content-Length that is worth reading
_CHUNK_LINE = 1024
_TRAILERS = 8 * 2**10
_LEFT_OUT = (b"upgrade", b"proxy-connection")  # one of the parsers takes the latter for `Connection`
_SINGLE = (b"authorization", b"content-length", b"host", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request, and what it says about the body.

    Attributes:
        data: The bytes of the head for the parser, without needless blanks. The request line has the path alone, also
            if the client sent a whole URL, and wishes that are not granted are left out: for another protocol, for
            the connection to a proxy, and expectations of other kinds.
        length: The length of the body, or `None` if it comes in chunks.
        waits: Whether the client waits with its body until it is told to go on.
    """

    data: bytes
    length: int | None
    waits: bool


def find_end(received: bytes | bytearray, limits: ConnectionLimits, start: int = 0) -> int | None:
    """Find the end of a head, and refuse early what cannot become one.

    Args:
        received: The bytes from the beginning of the head.
        limits: The limits for sizes.
        start: The number of bytes that were looked at before. Default 0.

    Returns:
        The position behind the empty line that ends the head, or `None` if it has not arrived yet.

    Raises:
        RefusedError: The bytes are not the beginning of a request, or the request line or the head is too long.
    """
    if received and not _FIRST.match(received):
        raise _malformed("a request begins with its method")
    line = received.find(b"\n", 0, limits.request_line + 1)
    if line < 0 and len(received) > limits.request_line:
        message = f"The request line is longer than {limits.request_line} bytes"
        raise RefusedError(message, 414)
    found = received.find(_END, max(0, start - len(_END) + 1))
    end = len(received) if found < 0 else found + len(_END)
    if end > limits.head_bytes:
        message = f"The headers are larger than {limits.head_bytes} bytes"
        raise RefusedError(message, 431)
    if _BARE_LF.search(received, max(0, start - 1), end):
        raise _malformed("a line of its head does not end in CR LF")
    return None if found < 0 else end


def read_head(head: bytes, limits: ConnectionLimits) -> RequestHead:
    """Read a complete head.

    Args:
        head: The bytes up to and with the empty line.
        limits: The limits for the number of headers.

    Raises:
        RefusedError: The head is malformed or ambiguous, or it has too many headers.
    """
    first, *lines = head.removesuffix(_END).split(b"\r\n")
    method, path, version = _request_line(first)
    if len(lines) > limits.headers:
        message = f"The request has more than {limits.headers} headers"
        raise RefusedError(message, 431)
    headers = [_header(line) for line in lines]
    single = _single_headers(headers)
    if version == b"HTTP/1.1" and b"host" not in single:
        raise _malformed("it has no Host")
    waits = version == b"HTTP/1.1" and any(
        name == b"expect" and value.lower() == b"100-continue" for name, value in headers
    )
    left_out = _LEFT_OUT if waits else (*_LEFT_OUT, b"expect")
    kept = [name + b": " + value for name, value in headers if name not in left_out]
    data = b"\r\n".join([b" ".join([method, path, version]), *kept]) + _END
    encoding, length = single.get(b"transfer-encoding"), single.get(b"content-length")
    if encoding is None:
        return RequestHead(data, _length(length), waits)
    if length is not None:
        raise _malformed("it has both Content-Length and Transfer-Encoding")
    if version != b"HTTP/1.1":
        raise _malformed("Transfer-Encoding needs HTTP/1.1")
    if encoding.lower() != b"chunked":
        message = "The only Transfer-Encoding that is understood is chunked"
        raise RefusedError(message, 501)
    return RequestHead(data, None, waits)


class BodyEnd:
    """Finds where the body of a request ends.

    Args:
        length: The length of the body, or `None` if it comes in chunks.

    Attributes:
        reached: Whether the end has been reached.
    """

    def __init__(self, length: int | None) -> None:
        self._left = length or 0
        self._expected = _NEXT_CHUNK if length is None else _NOTHING
        self._line = bytearray()
        self._trailers = 0
        self.reached = length == 0

    def take(self, received: bytes | bytearray) -> int:
        """Take what belongs to the body.

        Args:
            received: The next bytes of the connection.

        Returns:
            The number of bytes at the beginning that belong to the body.

        Raises:
            RefusedError: The body comes in chunks, and one of them is malformed.
        """
        position = 0
        while position < len(received) and not self.reached:
            if self._left:
                step = min(self._left, len(received) - position)
                self._left -= step
                self.reached = not self._left and self._expected is _NOTHING
                position += step
            else:
                position = self._take_line(received, position)
        return position

    def _take_line(self, received: bytes | bytearray, position: int) -> int:
        end = received.find(b"\n", position, position + _CHUNK_LINE)
        stop = end + 1 if end >= 0 else min(len(received), position + _CHUNK_LINE)
        self._line += received[position:stop]
        if len(self._line) > _CHUNK_LINE or (end < 0 and len(self._line) == _CHUNK_LINE):
            raise _malformed("a line between the chunks of its body is too long")
        if _BARE_CR.search(self._line):
            raise _malformed("a line between the chunks of its body does not end in CR LF")
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._end_line(line)
        return stop

    def _end_line(self, line: bytes) -> None:
        if self._expected is _NEXT_CHUNK:
            found = _CHUNK.fullmatch(line)
            if not found:
                raise _malformed("a chunk of its body does not begin with its size")
            self._left = int(found[1], 16)
            self._expected = _END_OF_CHUNK if self._left else _TRAILER
        elif self._expected is _END_OF_CHUNK:
            if line != b"\r\n":
                raise _malformed("a chunk of its body is longer than its size")
            self._expected = _NEXT_CHUNK
        else:
            self._end_trailer(line)

    def _end_trailer(self, line: bytes) -> None:
        self.reached = line == b"\r\n"
        self._trailers += len(line)
        if not self.reached and not (line.endswith(b"\r\n") and _HEADER.fullmatch(line[:-2])):
            raise _malformed("a header behind its body is none")
        if self._trailers > _TRAILERS:
            message = f"The headers behind the body are larger than {_TRAILERS} bytes"
            raise RefusedError(message, 431)


_NOTHING, _NEXT_CHUNK, _END_OF_CHUNK, _TRAILER = range(4)


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the method, the path with the query, and the version of HTTP that a request line names."""
    found = _REQUEST_LINE.fullmatch(line)
    if not found:
        raise _malformed("the request line is not `METHOD /path HTTP/1.1`")
    method, target, major, minor = found.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        message = "The only versions of HTTP that are understood are 1.1 and 1.0"
        raise RefusedError(message, 505)
    if method not in _METHODS:
        message = f"Method not allowed: {shortened(method.decode())}"
        raise RefusedError(message, 405)
    return method, _path(target), b"HTTP/" + major + b"." + minor


def _path(target: bytes) -> bytes:
    """Return the path of a target, with the query. Only the `Host` header decides which host is meant."""
    if target.startswith(b"/"):
        return target
    found = _WHOLE_URL.fullmatch(target)
    if not found:
        raise _malformed("the path does not begin with a slash")
    path = found[1]
    return path if path.startswith(b"/") else b"/" + path


def _header(line: bytes) -> tuple[bytes, bytes]:
    """Return the name of a header, in lower case, and its value without the blanks around it."""
    if line[:1] in (b" ", b"\t"):
        raise _malformed("a header goes on in a second line")
    found = _HEADER.fullmatch(line)
    if not found:
        raise _malformed("a header is not `Name: value`")
    return found[1].lower(), found[2]


def _single_headers(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers that may come only once."""
    single: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in single and name == b"authorization":
            message = "Unauthorized: the request has more than one Authorization header"
            raise AuthenticationError(message, 401)
        if name in single:
            raise _malformed(f"it has more than one {name.decode().title()}")
        if name in _SINGLE:
            single[name] = value
    return single


def _length(value: bytes | None) -> int:
    if value is None:
        return 0
    if not value.isdigit():
        raise _malformed("its Content-Length is no number")
    if len(value) > _DIGITS:
        message = "Request body is larger than any that is accepted"
        raise RefusedError(message, 413)
    return int(value)


def _malformed(reason: str) -> RefusedError:
    message = f"Malformed request: {reason}"
    return RefusedError(message, 400)
