"""Connections: deadlines, bounds, clients that stop in the middle, with both parsers of HTTP alike."""

import contextlib
import dataclasses
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nextk.server.limits import ConnectionClock, ConnectionLimits, Overdue, Stage
from tests.support.raw_http import PARSERS, LimitedServer, PlainApp, RawClient, raw_client

HOST = b"Host: localhost\r\n"
REQUEST = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
HALF_BODY = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 400\r\n\r\nabcd"
LATE = (408, "The request did not arrive in time")

QUICK = ConnectionLimits(
    first_request=0.2, head=0.2, body=0.4, body_rate=200, reply=0.2, grace=0.2, half_closed=0.1, linger=0.2
)
"""Limits that end each test soon."""


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[LimitedServer]:
    """A server that waits for nobody."""
    with LimitedServer(PlainApp(), QUICK, request.param) as running:
        yield running


@pytest.fixture
def client(server: LimitedServer) -> Iterator[RawClient]:
    """A connection to the server."""
    with raw_client(server) as connected:
        yield connected


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


LIMITS = ConnectionLimits(
    first_request=5, keep_alive=100, head=3, body=30, body_rate=10, reply=8, reply_rate=10, grace=6, half_closed=1
)


@pytest.mark.parametrize(
    ("stage", "seconds", "outcome"),
    [
        (Stage.NEW, 5, Overdue.CLOSE),
        (Stage.HEAD, 3, Overdue.ANSWER),
        (Stage.BODY, 6, Overdue.ANSWER),
        (Stage.REPLY, None, None),
        (Stage.IDLE, 100, Overdue.CLOSE),
        (Stage.ENDING, 1, Overdue.ABORT),
    ],
)
def test_each_stage_has_its_time(stage: Stage, seconds: float | None, outcome: Overdue | None) -> None:
    """A client may take so long at each stage, and not longer; for the server's own work there is no limit here."""
    clock = Hand()
    connection = ConnectionClock(LIMITS, clock)
    clock.now += 1000
    connection.enter(stage)
    clock.now += 10_000 if seconds is None else seconds - 0.01
    assert connection.look(0) is None
    clock.now += 0.01
    assert connection.look(0) is outcome


@pytest.mark.parametrize(("step", "ends"), [(9, 6.0), (11, 30.0)], ids=["too slow", "fast enough"])
def test_a_body_has_a_least_rate_and_an_end(step: int, ends: float) -> None:
    """A body that comes too slowly ends when its grace does, and one that is fast enough at the deadline of bodies."""
    clock = Hand()
    connection = ConnectionClock(LIMITS, clock)
    connection.enter(Stage.BODY)
    for second in range(1, 31):
        clock.now += 1
        connection.received(step)
        if connection.look(0) is not None:
            assert second == ends
            return
    pytest.fail("it went on")


def test_time_in_which_nobody_reads_is_not_the_clients() -> None:
    """A client whose body is not being read for a while is not blamed for that."""
    clock = Hand()
    connection = ConnectionClock(LIMITS, clock)
    connection.enter(Stage.BODY)
    for _ in range(100):
        clock.now += 1
        assert connection.look(0, reading=False) is None
    clock.now += 6
    assert connection.look(0) is Overdue.ANSWER


@pytest.mark.parametrize(
    ("taken", "ends"), [(0, 6.0), (9, 6.0), (11, None)], ids=["nothing is taken", "too slow", "fast enough"]
)
def test_a_reply_must_be_taken(taken: int, ends: float | None) -> None:
    """A client that takes its reply too slowly is cut off; one that is fast enough may take any time."""
    clock = Hand()
    connection = ConnectionClock(LIMITS, clock)
    connection.enter(Stage.IDLE)
    assert connection.look(10_000) is None
    for second in range(1, 91):
        clock.now += 1
        outcome = connection.look(10_000 - second * taken)
        if outcome is not None:
            assert (outcome, second) == (Overdue.ABORT, ends)
            return
    assert ends is None


def test_a_reply_must_go_on_being_taken() -> None:
    """A client that has taken much and then takes nothing is cut off, and the time begins anew with the next reply."""
    clock = Hand()
    connection = ConnectionClock(LIMITS, clock)
    connection.enter(Stage.IDLE)
    for unsent in (10_000, 100):
        assert connection.look(unsent) is None
        clock.now += 1
    clock.now += 6.9
    assert connection.look(100) is None
    assert connection.look(0) is None
    clock.now += 50
    assert connection.look(100) is None
    clock.now += 8
    assert connection.look(100) is Overdue.ABORT


@pytest.mark.parametrize("field", ["first_request", "head", "body", "reply", "grace", "half_closed", "linger"])
def test_clocks_are_looked_at_often_enough(field: str) -> None:
    """No limit is exceeded by more than a quarter of it, or half a second."""
    changes: dict[str, Any] = {field: 0.2}
    assert ConnectionLimits().interval <= 0.5
    assert dataclasses.replace(ConnectionLimits(), **changes).interval == pytest.approx(0.05)


# With sockets


def test_a_silent_connection_is_closed(client: RawClient) -> None:
    """A client that sends nothing is owed no answer, and its connection ends."""
    assert client.is_closed()


@pytest.mark.parametrize(
    "data", [b"G", b"GET / HTTP/1.1\r\n", REQUEST[:-2], REQUEST[:-1]], ids=["letter", "line", "headers", "all but one"]
)
def test_half_a_head_is_answered_at_its_deadline(client: RawClient, data: bytes) -> None:
    """A head that does not end gets 408 in words, and its connection ends."""
    client.send(data)
    assert client.reply().error == LATE
    assert client.is_closed()


def test_half_a_head_is_answered_on_a_connection_in_use_too(client: RawClient) -> None:
    """The deadline of a head holds for every request of a connection."""
    client.send(REQUEST)
    assert client.reply().status == 200
    client.send(b"GET")
    assert client.reply().error == LATE


@pytest.mark.parametrize(
    "data",
    [
        HALF_BODY,
        HALF_BODY[:-4],
        HALF_BODY.replace(b"Content-Length: 400", b"Transfer-Encoding: chunked")[:-4] + b"4\r\na",
    ],
    ids=["half", "none", "chunk"],
)
def test_half_a_body_is_answered_at_its_deadline(client: RawClient, data: bytes) -> None:
    """A body that does not end gets 408 in words, and its connection ends."""
    client.send(data)
    assert client.reply().error == LATE
    assert client.is_closed()


def test_the_application_learns_that_a_body_does_not_come() -> None:
    """The application does not wait for a body whose client was told that it came too late."""
    app = PlainApp()
    with LimitedServer(app, QUICK) as server, raw_client(server) as client:
        client.send(HALF_BODY)
        assert client.reply().error == LATE
        assert app.left.wait(5)


def test_a_body_that_comes_byte_by_byte_ends(client: RawClient) -> None:
    """A client that is never silent, but never done, ends like one that is silent."""
    client.send(HALF_BODY)
    client.socket.settimeout(0.02)
    for _ in range(100):
        with contextlib.suppress(TimeoutError):
            assert client.socket.recv(16) == b"HTTP/1.1 408 Req"
            return
        client.send(b"a")
    pytest.fail("it went on")


def test_a_late_body_is_not_answered_twice(client: RawClient) -> None:
    """A client that had its answer before its body was complete gets no second one; the connection just ends."""
    client.send(HALF_BODY.replace(b"/", b"/early", 1))
    assert client.reply().status == 200
    assert client.is_closed()


def test_a_request_takes_the_time_it_takes() -> None:
    """No deadline of a client ends a request whose answer the server has not made yet."""
    app = PlainApp()
    with LimitedServer(app, QUICK) as server, raw_client(server) as client:
        client.send(REQUEST.replace(b"/", b"/wait", 1))
        time.sleep(0.5)
        app.go_on.set()
        assert client.reply().status == 200


def test_a_client_that_half_closes_is_answered(client: RawClient) -> None:
    """A client that says that it sends no more still gets its answers, to all that it has sent."""
    client.send(REQUEST * 2)
    client.socket.shutdown(socket.SHUT_WR)
    assert [200, 200] == [client.reply().status for _ in range(2)]
    assert client.is_closed()


@pytest.mark.parametrize("data", [REQUEST[:-1], HALF_BODY], ids=["head", "body"])
def test_a_client_that_half_closes_too_early_is_not(client: RawClient, data: bytes) -> None:
    """Half a request whose rest cannot come any more ends at once."""
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.is_closed()


def test_a_client_that_has_gone_is_noticed() -> None:
    """A request whose client has closed its half of the connection for longer than a moment is given up."""
    app = PlainApp()
    with LimitedServer(app, QUICK) as server, raw_client(server) as client:
        client.send(REQUEST.replace(b"/", b"/wait", 1))
        client.socket.shutdown(socket.SHUT_WR)
        assert app.left.wait(5)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("behind", [1, 400_000], ids=["one byte", "more than is read ahead"])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stays"])
def test_a_client_is_noticed_behind_what_it_has_sent_ahead(parser: str, behind: int, leaves: bool) -> None:
    """Whatever a client has sent behind its request, what it asked for does not run on when it leaves, or may have."""
    app = PlainApp()
    with LimitedServer(app, QUICK, parser) as server, raw_client(server) as client:
        client.send(REQUEST.replace(b"/", b"/wait", 1) + b"G" * behind)
        assert app.waiting.wait(5)
        if leaves:
            client.close()
        if leaves or behind > QUICK.head_bytes:
            assert app.left.wait(5)
        else:
            assert not app.left.wait(0.5)
            app.go_on.set()
            assert client.reply().status == 200


def test_much_may_be_sent_ahead_of_a_quick_reply(server: LimitedServer) -> None:
    """A large body behind another request is read when that is answered."""
    with raw_client(server) as client:
        large = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 400000\r\n\r\n" + b"a" * 400_000
        client.send(REQUEST + large + REQUEST)
        assert [b'{"bytes":%d}' % size for size in (0, 400_000, 0)] == [client.reply().body for _ in range(3)]


def test_a_client_that_stops_reading_is_cut_off(server: LimitedServer) -> None:
    """A client that does not take its reply loses its connection, and with it the rest of the reply."""
    with raw_client(server) as client:
        client.send(REQUEST.replace(b"/", b"/large", 1))
        time.sleep(0.6)
        with pytest.raises(ConnectionResetError):
            client.reply()


@pytest.mark.parametrize("parser", PARSERS)
def test_replies_that_nobody_takes_are_bounded(parser: str) -> None:
    """When replies that are not taken grow too large together, those that have waited longest are dropped."""
    limits = ConnectionLimits(unsent=20 * 2**20)
    with LimitedServer(PlainApp(), limits, parser) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw_client(server)) for _ in range(2)]
        for client in clients:
            client.send(REQUEST.replace(b"/", b"/large", 1))
            assert client.socket.recv(1, socket.MSG_PEEK)
        assert len(clients[1].reply().body) == 16 * 2**20
        with pytest.raises(ConnectionResetError):
            clients[0].reply()


@pytest.mark.parametrize("parser", PARSERS)
def test_a_silent_connection_makes_place(parser: str) -> None:
    """When there are too many connections, the one that is silent for longest goes, and whoever comes is answered."""
    with LimitedServer(PlainApp(), ConnectionLimits(connections=3), parser) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw_client(server)) for _ in range(3)]
        clients[0].send(HALF_BODY)
        clients[2].send(REQUEST)
        assert clients[2].reply().status == 200
        newest = stack.enter_context(raw_client(server))
        newest.send(REQUEST)
        assert newest.reply().status == 200
        assert clients[1].is_closed()
        for client in (clients[0], clients[2]):
            client.send(b"a" * 396 if client is clients[0] else REQUEST)
            assert client.reply().status == 200


@pytest.mark.parametrize("parser", PARSERS)
def test_a_server_that_is_full_says_so(parser: str) -> None:
    """When every connection has a request under way, a new one is refused in words, and told when to come again."""
    app = PlainApp()
    with LimitedServer(app, ConnectionLimits(connections=1), parser) as server, raw_client(server) as busy:
        busy.send(REQUEST.replace(b"/", b"/wait", 1) + REQUEST)
        assert app.waiting.wait(5)
        with raw_client(server) as refused:
            reply = refused.reply()
            assert reply.error == (503, "Too many connections; try again later")
            assert reply.headers["retry-after"] == "1"
        app.go_on.set()
        assert [200, 200] == [busy.reply().status for _ in range(2)]
