"""Heads of requests: what is malformed, ambiguous or too large is refused, with both parsers of HTTP alike."""

import contextlib
import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.errors import RefusedError
from nextk.server.heads import BodyEnd, find_end, read_head
from nextk.server.limits import ConnectionLimits
from tests.support.raw_http import PARSERS, LimitedServer, PlainApp, RawClient, raw_client

LIMITS = ConnectionLimits(head_bytes=2000, headers=10, request_line=200)
HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[LimitedServer]:
    """A server with low limits for heads."""
    with LimitedServer(PlainApp(), LIMITS, request.param) as running:
        yield running


@pytest.fixture
def client(server: LimitedServer) -> Iterator[RawClient]:
    """A connection to the server."""
    with raw_client(server) as connected:
        yield connected


MALFORMED = {
    "both lengths": (HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400, "both Content-Length and"),
    "both lengths, chunks first": (HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400, "both Content"),
    "two lengths": (HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n", 400, "more than one Content-Length"),
    "one length twice": (HOST + b"Content-Length: 4\r\nContent-Length: 4\r\n", 400, "more than one Content-Length"),
    "list of lengths": (HOST + b"Content-Length: 4, 4\r\n", 400, "Content-Length is no number"),
    "negative length": (HOST + b"Content-Length: -4\r\n", 400, "Content-Length is no number"),
    "signed length": (HOST + b"Content-Length: +4\r\n", 400, "Content-Length is no number"),
    "no length": (HOST + b"Content-Length:\r\n", 400, "Content-Length is no number"),
    "huge length": (HOST + b"Content-Length: 9999999999999999999\r\n", 413, "larger than any"),
    "other encoding": (HOST + b"Transfer-Encoding: gzip\r\n", 501, "chunked"),
    "encodings": (HOST + b"Transfer-Encoding: gzip, chunked\r\n", 501, "chunked"),
    "encoding twice": (HOST + b"Transfer-Encoding: chunked\r\n" * 2, 400, "more than one Transfer-Encoding"),
    "folded": (HOST + b"A: b\r\n c\r\n", 400, "goes on in a second line"),
    "folded by a tab": (HOST + b"A: b\r\n\tc\r\n", 400, "goes on in a second line"),
    "folded first": (b" A: b\r\n" + HOST, 400, "goes on in a second line"),
    "bare LF": (HOST + b"A: b\nC: d\r\n", 400, "CR LF"),
    "bare CR": (HOST + b"A: b\rC: d\r\n", 400, "Name: value"),
    "space before the colon": (HOST + b"Content-Length : 4\r\n", 400, "Name: value"),
    "no colon": (HOST + b"Content-Length\r\n", 400, "Name: value"),
    "no name": (HOST + b": 4\r\n", 400, "Name: value"),
    "control character": (HOST + b"A: b\x00c\r\n", 400, "Name: value"),
    "no host": (b"A: b\r\n", 400, "no Host"),
    "two hosts": (HOST + HOST, 400, "more than one Host"),
    "two tokens": (HOST + b"Authorization: Bearer a\r\n" * 2, 401, "more than one Authorization"),
    "many headers": (HOST + b"A: b\r\n" * 10, 431, "more than 10 headers"),
    "large headers": (HOST + b"A: " + b"b" * 2000 + b"\r\n", 431, "larger than 2000 bytes"),
}


@pytest.mark.parametrize(("headers", "status", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers_are_refused(client: RawClient, headers: bytes, status: int, words: str) -> None:
    """A head that is malformed or could be read in two ways is refused in words, and the connection is closed."""
    client.send(b"POST /upsert HTTP/1.1\r\n" + headers + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n")
    reply = client.reply()
    assert (reply.error[0], words in reply.error[1]) == (status, True), reply.error
    assert reply.headers["connection"] == "close"
    assert reply.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert client.is_closed()


REQUEST_LINES = {
    "bare LF": (b"GET / HTTP/1.1\n", 400),
    "no version": (b"GET /\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\n", 400),
    "space in the path": (b"GET /a b HTTP/1.1\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\n", 400),
    "unescaped letter": ("GET /é HTTP/1.1\r\n".encode(), 400),
    "no slash": (b"GET a HTTP/1.1\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n", 400),
    "no path": (b"GET http:// HTTP/1.1\r\n", 400),
    "tunnel": (b"CONNECT localhost:80 HTTP/1.1\r\n", 405),
    "unknown method": (b"BREW / HTTP/1.1\r\n", 405),
    "lower case": (b"get / HTTP/1.1\r\n", 405),
    "version 2": (b"PRI * HTTP/2.0\r\n", 505),
    "version 1.2": (b"GET / HTTP/1.2\r\n", 505),
    "long": (b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n", 414),
    "long without end": (b"GET /" + b"a" * 300, 414),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


@pytest.mark.parametrize(("line", "status"), REQUEST_LINES.values(), ids=REQUEST_LINES)
def test_malformed_request_lines_are_refused(client: RawClient, line: bytes, status: int) -> None:
    """A request line that is malformed or too long is refused as soon as that is certain."""
    client.send(line + (HOST + b"\r\n" if line.endswith(b"\n") else b""))
    assert client.reply().error[0] == status
    assert client.is_closed()


def test_a_long_method_is_not_repeated_whole(client: RawClient) -> None:
    """A refusal, and with it the line in the log, has only the beginning of an unknown method."""
    client.send(b"A" * 150 + b" / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert client.reply().error == (405, "Method not allowed: " + "A" * 100 + "...")


CHUNKS = {
    "no size": b"\r\n",
    "no number": b"x\r\n",
    "sign": b"-1\r\n",
    "prefix": b"0x4\r\nabcd\r\n",
    "bare LF": b"4\nabcd\r\n",
    "too long": b"4\r\nabcde\r\n",
    "huge size": b"f" * 16 + b"\r\n",
    "quoted extension": b'4;a="b"\r\nabcd\r\n0\r\n\r\n',
    "blank before an extension": b"4 ;a=b\r\nabcd\r\n0\r\n\r\n",
    "endless line": b"4;" + b"a" * 2000,
    "trailer": b"0\r\nno header\r\n\r\n",
    "endless trailers": b"0\r\n" + b"a: b\r\n" * 2000,
}


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS)
def test_malformed_chunks_are_refused(client: RawClient, body: bytes) -> None:
    """A body in chunks whose end could be read in another way is refused, and the connection is closed."""
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert client.reply().status in (400, 431)
    assert client.is_closed()


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", 0),
        (b"GET http://elsewhere/?a HTTP/1.1\r\n" + HOST + b"\r\n", 0),
        (b"GET http://elsewhere HTTP/1.1\r\n" + HOST + b"\r\n", 0),
        (b"\r\nPOST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nabcd", 4),
        (b"GET /GET?HTTP HTTP/1.1\r\n" + HOST + b"\r\n", 0),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Proxy-Connection: close\r\n\r\n", 0),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\nContent-Length: 4\r\n\r\nabcd", 4),
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n",
            4,
        ),
    ],
    ids=[
        "bare",
        "whole URL",
        "URL without a path",
        "length",
        "words of the line",
        "to a proxy",
        "unknown expectation",
        "chunks",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_requests_are_read_however_they_are_cut(client: RawClient, request_: bytes, size: int, step: int) -> None:
    """Many requests on one connection are answered in order, whatever the parts in which their bytes arrive."""
    data = request_ * 3
    client.socket.setsockopt(6, 1, 1)  # no delay
    for position in range(0, len(data), step):
        client.send(data[position : position + step])
    for _ in range(3):
        assert client.reply().body == b'{"bytes":%d}' % size


def test_a_client_may_wait_with_its_body(client: RawClient) -> None:
    """A client that asks whether to send its body is told to go on, and then answered."""
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert client.reply().status == 100
    client.send(b"abcd")
    assert client.reply().body == b'{"bytes":4}'


def test_a_client_that_waits_in_vain_cannot_be_misread(client: RawClient) -> None:
    """A client that is answered instead of being told to go on gets no second answer on that connection."""
    client.send(b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert client.reply().status == 200
    assert client.is_closed()


def test_an_early_answer_leaves_the_connection_in_step(client: RawClient) -> None:
    """The rest of a body that nobody reads is dropped, and the next request is read from its first byte."""
    client.send(b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n")
    assert client.reply().body == b'{"bytes":0}'
    client.send(b"abcdPOST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nab")
    assert client.reply().body == b'{"bytes":2}'


def test_an_old_client_is_answered(client: RawClient) -> None:
    """A request of HTTP/1.0 needs no Host, and its connection ends with the answer."""
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.reply().body == b'{"bytes":0}'
    assert client.is_closed()


def damaged(count: int) -> Iterator[bytes]:
    """Requests with one or two bytes replaced, left out or put in; the same ones in every run."""
    chance = random.Random(16)  # noqa: S311 - nothing is secret here
    head = b"POST /a?b HTTP/1.1\r\n" + HOST + b"Connection: close\r\n"
    wholes = (
        head + b"Content-Length: 3\r\n\r\nabc",
        head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    )
    for _ in range(count):
        request = bytearray(chance.choice(wholes))
        for _ in range(chance.randint(1, 2)):
            position = chance.randrange(len(request))
            byte = chance.choice([*b"\r\n :;,\t0a\0", chance.randrange(256)])
            request[position : position + chance.randrange(2)] = bytes([byte]) * chance.randrange(2)
        yield bytes(request)


def test_both_parsers_give_the_same_answers() -> None:
    """Whatever is damaged in a request, both parsers see the same request, or both see none."""

    def exchange(server: LimitedServer, request: bytes) -> tuple[bytes, bytes]:
        with raw_client(server) as client:
            client.send(request)
            client.socket.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.socket.recv(65_536), b""))
            return received.partition(b"\r\n")[0], received.rpartition(b"\r\n")[2]

    with LimitedServer(PlainApp(), LIMITS, "h11") as one, LimitedServer(PlainApp(), LIMITS, "httptools") as other:
        for request in damaged(200):
            assert exchange(one, request) == exchange(other, request), request


@pytest.mark.parametrize("parser", PARSERS)
def test_a_head_may_be_as_large_as_the_limit(parser: str) -> None:
    """No parser has a lower limit of its own for the size of a head."""
    head = b"GET / HTTP/1.1\r\n" + HOST
    with LimitedServer(PlainApp(), ConnectionLimits(), parser) as server, raw_client(server) as client:
        for size in (64 * 2**10, 64 * 2**10 + 1):
            client.send(head + b"A: " + b"a" * (size - len(head) - 7) + b"\r\n\r\n")
            assert client.reply().status == (200 if size == 64 * 2**10 else 431)


@given(st.binary(max_size=300), st.integers(1, 300))
def test_any_bytes_are_a_request_or_are_refused(data: bytes, cut: int) -> None:
    """Whatever arrives, in whatever parts, is read or refused, and never anything else."""
    limits = ConnectionLimits(head_bytes=200, request_line=100)
    for head in (data, b"POST / HTTP/1.1\r\n" + HOST + data + b"\r\n\r\n"):
        with contextlib.suppress(RefusedError):
            find_end(head[:cut], limits)
            end = find_end(head, limits, min(cut, len(head)))
            if end is not None:
                taken = BodyEnd(read_head(head[:end], limits).length).take(head[end:])
                assert 0 <= taken <= len(head) - end


@given(st.lists(st.binary(min_size=1, max_size=20)), st.data())
def test_the_end_of_chunks_is_found(chunks: list[bytes], data: st.DataObject) -> None:
    """The end of a body in chunks is where it is, whatever the parts in which it arrives."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    sent, end, position = body + b"GET", BodyEnd(None), 0
    while not end.reached:
        stop = data.draw(st.integers(position + 1, len(sent)))
        position += end.take(sent[position:stop])
    assert position == len(body)
