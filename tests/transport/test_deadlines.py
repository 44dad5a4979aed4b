"""How long an attempt may take, over plain connections and over TLS.

The servers here go on sending for as long as the client listens, so a test ends only because the client hangs up.
"""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import pytest

from nextk import AsyncIndex
from nextk.errors import PageUncertain, TransportError
from nextk.transport import deadlines
from nextk.transport.deadlines import AsyncDeadlineBackend, Deadline, DeadlineBackend
from nextk.transport.http import HttpTransport
from tests.support.scripted_server import CERTIFICATE, Act, ScriptedServer, answer, dripping, endless, result

Client = Callable[..., AsyncIndex]

MIB = 1024 * 1024
STARTED = result({"uuid": "u", "scores": []})
STOPPED = result("Success")
OPEN_ENDED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"

LATE: dict[str, Callable[[], Act]] = {
    "slow headers": lambda: dripping(answer(200, b'{"result": []}' + b" " * 10_000)),
    "a slow body": lambda: dripping(answer(200, b'{"result": []}' + b" " * 10_000), at_once=90),
    "one notice after the other": lambda: endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", pace=0.05),
    "one chunk after the other": lambda: endless(
        OPEN_ENDED + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", pace=0.05
    ),
}


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def encrypted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the server speaks TLS, with a certificate that the environment names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    return bool(request.param)


@contextmanager
def hurried(index: AsyncIndex) -> Iterator[None]:
    """An index whose calls have little time; the others may take as long as the machine is busy."""
    transport = getattr(index, "inner", index)._transport
    assert isinstance(transport, HttpTransport)
    usual, transport._timeout = transport._timeout, 0.3
    yield
    transport._timeout = usual


class TestTime:
    """How long an attempt may take."""

    @pytest.mark.parametrize("act", LATE.values(), ids=LATE)
    async def test_too_late(self, client: Client, encrypted: bool, act: Callable[[], Act]) -> None:
        """A reply that comes byte by byte is late after the timeout, as one of which no byte comes is."""
        with ScriptedServer(STARTED, act(), STOPPED, act(), act(), encrypted=encrypted) as server:
            async with client(server, 1) as index:
                async with (await index.resumable_query([1.0], 1))[1] as handle:
                    with hurried(index), pytest.raises(PageUncertain, match=r"no whole reply within 0\.3 seconds"):
                        await handle.fetch_next(1)
                with hurried(index), pytest.raises(TransportError) as caught:
                    await index.query([1.0])
            assert (TransportError, 5) == (type(caught.value), server.connections)
        assert server.pieces < 1_000

    async def test_slow_but_in_time(self, client: Client, encrypted: bool) -> None:
        """A reply that comes in pieces is read, as long as the whole of it is in time."""
        with ScriptedServer(dripping(answer(200, b'{"result": []}'), pace=0.001), encrypted=encrypted) as server:
            async with client(server) as index:
                assert [] == await index.query([1.0])

    async def test_a_server_that_takes_nothing(self, client: Client, encrypted: bool) -> None:
        """A request that the server does not take off the line is late, too."""
        with ScriptedServer(*[Act(None, read=False, wait=1.0)] * 2, encrypted=encrypted) as server:
            async with client(server, 1, timeout=0.2) as index:
                with pytest.raises(TransportError, match="no whole reply within"):
                    await index.upsert([("a", [1.0], {}, "x" * 20 * MIB)])
            assert 2 == server.connections

    async def test_a_large_request(self, client: Client, encrypted: bool) -> None:
        """A large request arrives as it was sent."""
        text = "x" * 3 * MIB
        with ScriptedServer(result("Success"), encrypted=encrypted) as server:
            async with client(server) as index:
                await index.upsert([("a", [1.0], {}, text)])
        assert [[{"id": "a", "vector": [1.0], "metadata": {}, "data": text}]] == [seen.body for seen in server.seen]


class Dial(httpcore.MockBackend):
    """Notes the addresses and the seconds with which it is asked to connect; only one of the addresses answers."""

    def __init__(self, answers: str) -> None:
        super().__init__([])
        self.answers = answers
        self.asked: list[tuple[str, float | None]] = []

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect if the address is the one that answers."""
        self.asked.append((host, timeout))
        if host != self.answers:
            raise httpcore.ConnectTimeout
        return super().connect_tcp(host, port)


class TestAddresses:
    """A host with several addresses."""

    ADDRESSES = ("192.0.2.1", "192.0.2.2", "fe80::1")

    @pytest.fixture(autouse=True)
    def addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every host has the same three addresses."""
        found = [(0, 0, 0, "", (address, 80, 0, 7 if ":" in address else 0)) for address in self.ADDRESSES]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    def test_they_share_the_time(self) -> None:
        """Each address gets its part of the time that is left, so that a silent one leaves time for the next."""
        backend, dial = DeadlineBackend(), Dial("192.0.2.2")
        backend._backend = dial
        backend.connect_tcp("index.example", 80, Deadline(60.0))
        assert ["192.0.2.1", "192.0.2.2"] == [address for address, _ in dial.asked]
        assert all(
            seconds is not None and 0 < seconds <= most for (_, seconds), most in zip(dial.asked, (20, 30), strict=True)
        )

    def test_none_answers(self) -> None:
        """If none answers, the connection was not made; an address that is valid on one interface names it."""
        backend, dial = DeadlineBackend(), Dial("")
        backend._backend = dial
        with pytest.raises(httpcore.ConnectTimeout):
            backend.connect_tcp("index.example", 80, 60.0)
        assert ["192.0.2.1", "192.0.2.2", "fe80::1%7"] == [address for address, _ in dial.asked]


class Listening(httpcore.MockStream):
    """Notes the seconds that reads may take."""

    def __init__(self) -> None:
        super().__init__([b"x"])
        self.seconds: list[float | None] = []

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read."""
        self.seconds.append(timeout)
        return super().read(max_bytes, timeout)


def test_reads_without_a_timeout() -> None:
    """What httpcore reads without a timeout, the greeting of a SOCKS proxy, is bounded by that of the connection."""
    listening = Listening()
    deadlines._Stream(listening, Deadline(60.0)).read(10)
    [seconds] = listening.seconds
    assert seconds is not None
    assert 0 < seconds <= 60


def test_a_deadline_that_has_passed() -> None:
    """Once the deadline has passed, nothing is begun any more."""
    with pytest.raises(httpcore.ConnectTimeout):
        DeadlineBackend().connect_tcp("127.0.0.1", 1, Deadline(0.0))


async def test_an_asynchronous_deadline_that_has_passed() -> None:
    """Nor does the asynchronous client begin anything."""
    with pytest.raises(httpcore.ConnectTimeout):
        await AsyncDeadlineBackend().connect_tcp("127.0.0.1", 1, Deadline(0.0))


def test_deadlines_are_timeouts() -> None:
    """A deadline passes for the seconds that it was made of, so that whatever takes a timeout takes it."""
    assert (2.5, 5.0) == (Deadline(2.5), Deadline(2.5) * 2)
