"""Replies that are too large, or no HTTP at all: what a caller is told, and how little of them is read.

The servers here go on sending for as long as the client listens, so a test ends only because the client hangs up.
"""

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nextk import AsyncIndex, Index
from nextk.errors import NextKError, PageUncertain, TransportError
from nextk.transport import replies
from nextk.transport.encoding import decode
from nextk.transport.replies import HttpReply, ReplyTooLarge
from tests.support.scripted_server import TOKEN, Act, ScriptedServer, answer, endless, error, result

Client = Callable[..., AsyncIndex]

MIB = 1024 * 1024
STARTED = result({"uuid": "u", "scores": []})
NEXT = result([{"id": "b", "score": 0.25}])
STOPPED = result("Success")
OPEN_ENDED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply may have 1 MiB at most, so that the tests need not send more than that."""
    monkeypatch.setattr(replies, "MAX_REPLY", MIB)


def compressed(body: bytes, encoding: str = "gzip") -> Act:
    """Answer with a body that is said to be compressed."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return Act(head.encode() + body)


TOO_LARGE: dict[str, Callable[[], Act]] = {
    "without end": lambda: endless(OPEN_ENDED + b"\r\n", b" " * 65_536),
    "in chunks without end": lambda: endless(
        OPEN_ENDED + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n"
    ),
    "compressed a thousandfold": lambda: compressed(gzip.compress(b" " * 16 * MIB)),
    "a refusal without end": lambda: endless(OPEN_ENDED.replace(b"200 OK", b"422 No") + b"\r\n", b" " * 65_536),
}


class TestSize:
    """How large a reply may be."""

    @pytest.mark.usefixtures("small_bound")
    @pytest.mark.parametrize("act", TOO_LARGE.values(), ids=TOO_LARGE)
    async def test_too_large(self, client: Client, act: Callable[[], Act]) -> None:
        """A reply that is too large is not read to its end and not asked for again, and a page is uncertain."""
        with ScriptedServer(STARTED, act(), STOPPED, act()) as server:
            async with client(server) as index:
                async with (await index.resumable_query([1.0], 1))[1] as handle:
                    with pytest.raises(PageUncertain, match="more than 1 MiB"):
                        await handle.fetch_next(1)
                with pytest.raises(TransportError, match="Ask for fewer records") as caught:
                    await index.query([1.0])
            assert (TransportError, 4) == (type(caught.value), server.connections)
        assert server.pieces < 1_000

    @pytest.mark.usefixtures("small_bound")
    @pytest.mark.parametrize("act", [answer, lambda _, body: compressed(gzip.compress(body))], ids=["plain", "gzip"])
    async def test_as_large_as_may_be(self, client: Client, act: Callable[[int, bytes], Act]) -> None:
        """A reply of just the size that is permitted is read."""
        body = b'{"result": ["' + b"x" * (MIB - 16) + b'"]}'
        assert MIB == len(body)
        with ScriptedServer(act(200, body), act(200, body + b" ")) as server:
            async with client(server) as index:
                assert ["x" * (MIB - 16)] == await index.list_namespaces()
                with pytest.raises(TransportError, match="more than 1 MiB"):
                    await index.list_namespaces()

    @pytest.mark.usefixtures("small_bound")
    def test_memory(self) -> None:
        """Decompressing holds little more than the bound in memory, however much a reply expands."""
        bomb = gzip.compress(b" " * 32 * MIB)
        reply = HttpReply(200, {"Content-Encoding": "gzip"})
        for start in range(0, len(bomb), 65_536):
            reply.add(bomb[start : start + 65_536])
        tracemalloc.start()
        try:
            with pytest.raises(ReplyTooLarge):
                reply.take_content()
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()

    def test_memory_of_small_pieces(self) -> None:
        """A body that comes in pieces of two bytes takes no more memory than one that comes at once."""
        reply = HttpReply(200, {})
        tracemalloc.start()
        try:
            for _ in range(100_000):
                reply.add(b"xy")
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()
        assert bytearray(b"xy" * 100_000) == reply.take_content()


BODY = b'{"result": []}'
UNREADABLE = {
    "not compressed": compressed(BODY),
    "cut": compressed(gzip.compress(BODY)[:-9]),
    "damaged": compressed(gzip.compress(BODY)[:-8] + bytes(8)),
    "bytes behind it": compressed(gzip.compress(BODY) + b"x"),
    "two members": compressed(gzip.compress(BODY) + gzip.compress(b" ")),
    "deflate": compressed(zlib.compress(BODY), "deflate"),
    "brotli": compressed(BODY, "br"),
    "twice": compressed(gzip.compress(gzip.compress(BODY)), "gzip, gzip"),
    "an unknown way": compressed(BODY, "x-other"),
}


class TestValues:
    """The number of values in a reply."""

    @pytest.mark.parametrize(("value", "bound"), [(b"[],", "lists and objects"), (b"{},", "lists"), (b"7,", "values")])
    def test_many_values(self, value: bytes, bound: str) -> None:
        """A body that would take far more memory as values than as text is refused before it is read as JSON."""
        content = b'{"result":[' + value * (replies.MAX_VALUES + 1) + b"0]}"
        reply = HttpReply(200, {"Content-Encoding": "gzip"})
        reply.add(gzip.compress(content, 1))
        with pytest.raises(replies.ReplyTooLarge, match=bound):
            reply.take_content()

    def test_as_many_values_as_may_be(self) -> None:
        """The numbers of the largest page are not too many."""
        content = b'{"result":[' + b"7," * (1_000 * 5_376) + b"0]}"
        reply = HttpReply(200, {})
        reply.add(content)
        assert content == bytes(reply.take_content() or b"")


class TestCompression:
    """Which compressed replies are read."""

    @given(body=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=5))
    def test_any_pieces(self, body: bytes, cuts: list[int]) -> None:
        """A compressed body is read whatever pieces it comes in."""
        whole, reply = gzip.compress(body), HttpReply(200, {"Content-Encoding": "GZip"})
        bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        for start, end in pairwise(bounds):
            reply.add(whole[start:end])
        assert bytearray(body) == reply.take_content()

    @pytest.mark.parametrize("step", [1, 2, 3, 255, 256, 257])
    def test_any_step(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        """Nothing is lost between the steps of decompression."""
        monkeypatch.setattr(replies, "_STEP", step)
        for size in range(250, 275):
            reply = HttpReply(200, {"Content-Encoding": "gzip"})
            reply.add(gzip.compress(b"x" * size))
            assert bytearray(b"x" * size) == reply.take_content()

    @pytest.mark.parametrize("act", UNREADABLE.values(), ids=UNREADABLE)
    async def test_unreadable(self, client: Client, act: Act) -> None:
        """A reply that is compressed otherwise than was asked for, or damaged, is no answer."""
        with ScriptedServer(act, act) as server:
            async with client(server, 0) as index:
                with pytest.raises(PageUncertain):
                    await index.resumable_query([1.0])
                with pytest.raises(TransportError):
                    await index.query([1.0])
            assert ["gzip"] * 2 == [seen.headers["accept-encoding"] for seen in server.seen]


RAW = {
    "nothing of HTTP": b"\x00\xff" * 100,
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 No\r\n\r\n",
    "a status beyond all": b"HTTP/1.1 999 No\r\nContent-Length: 14\r\n\r\n" + b'{"result": []}',
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
    "two lengths": b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 14\r\n\r\n{"result": []}',
    "a negative length": b'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{"result": []}',
    "too great a length": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"result": []}',
    "too small a length": b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"result": []}',
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "switched protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "only a notice": b"HTTP/1.1 100 Continue\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "a result under a redirect": b'HTTP/1.1 302 Found\r\nContent-Length: 14\r\n\r\n{"result": []}',
}


class TestNoHttp:
    """Whatever comes over the wire, only errors of nextk come of it."""

    @pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
    async def test_raw(self, client: Client, raw: bytes) -> None:
        """A reply that is no HTTP, or that contradicts itself, is no answer."""
        with ScriptedServer(Act(raw), Act(raw)) as server:
            async with client(server, 0) as index:
                with pytest.raises(PageUncertain):
                    await index.resumable_query([1.0])
                with pytest.raises(TransportError):
                    await index.query([1.0])

    async def test_trailers_and_notices(self, client: Client) -> None:
        """Notices before a reply and trailers behind its chunks are passed over."""
        head = b"HTTP/1.1 103 Early Hints\r\n\r\n" + OPEN_ENDED + b"Transfer-Encoding: chunked\r\n\r\n"
        with ScriptedServer(Act(head + b'e\r\n{"result": []}\r\n0\r\nX-Trailer: x\r\n\r\n')) as server:
            async with client(server) as index:
                assert [] == await index.query([1.0])

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example(b"HTTP/1.1 200 OK\r\nContent-Encoding: \xff\r\n\r\n{}")
    @example(b"HTTP/1.1 429 No\r\nRetry-After: 9\xc2\xb2\r\nContent-Length: 0\r\n\r\n")
    @given(
        st.binary(max_size=60)
        | st.tuples(
            st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 307 No", b"HTTP/1.0 422 No", b"HTTP/1.1 429 No"]),
            st.sampled_from([b"Content-Length", b"Location", b"Retry-After", b"Content-Encoding", b"Set-Cookie", b"X"]),
            st.binary(max_size=20),
            st.binary(max_size=30) | st.sampled_from([b'{"result": {}}', b'{"error": []}', b'{"message": 1}']),
        ).map(lambda parts: b"%s\r\n%s: %s\r\n\r\n%s" % parts)
    )
    def test_anything(self, raw: bytes) -> None:
        """Whatever a server says, the caller gets an answer or an error of nextk."""
        suppressed = contextlib.suppress(NextKError)
        with ScriptedServer(Act(raw)) as server, Index(server.url, TOKEN, 0, 0.0) as index, suppressed:
            index.query([1.0])


class TestJson:
    """What the body of a reply may be."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff\xfe",
            b'{"result": [',
            b'{"result": []} x',
            b"[" * 100_000,
            b'{"result": ' * 100_000,
            b'{"result": 1' + b"0" * 5_000 + b"}",
            b'"result"',
            b"null",
        ],
        ids=["empty", "no text", "cut", "text behind", "deep list", "deep object", "long number", "string", "null"],
    )
    async def test_no_answer(self, client: Client, body: bytes) -> None:
        """A body that is no JSON object with a result of the documented shape is no answer."""
        with ScriptedServer(answer(200, body)) as server:
            async with client(server, 0) as index:
                with pytest.raises(TransportError):
                    await index.query([1.0])

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_encodings(self, encoding: str) -> None:
        """A byte order mark is passed over, and JSON of another encoding of Unicode is read as what it says."""
        assert {"result": "\u00fc"} == decode('{"result": "\u00fc"}'.encode(encoding))

    @pytest.mark.parametrize("reason", ["x" * 3 * MIB, ["x" * 3 * MIB]], ids=["text", "list"])
    async def test_long_reasons(self, client: Client, reason: Any) -> None:
        """A refusal's reason is cut where it is longer than anybody reads."""
        with ScriptedServer(error(422, reason)) as server:
            async with client(server, 0) as index:
                with pytest.raises(NextKError) as caught:
                    await index.query([1.0])
        assert len(str(caught.value)) < 20_000
