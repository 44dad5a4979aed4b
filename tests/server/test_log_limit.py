"""The log of a server that refuses much: so many lines of a kind, then how many there were."""

import logging
from collections.abc import Iterator

import pytest

from nextk.server.connections import log as connections_log
from nextk.server.limits import ConnectionLimits
from nextk.server.log_limit import limited_logs
from tests.support.local_server import LocalServer
from tests.support.raw_http import LimitedServer, PlainApp, raw_client


class Ticks:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Ticks:
    """A clock that is moved by hand."""
    return Ticks()


@pytest.fixture(autouse=True)
def lines(clock: Ticks, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The lines of the log of a server, of which each kind has two a second."""
    caplog.set_level(logging.INFO, "nextk.server")
    with limited_logs(2, clock):
        yield caplog.messages


def shown(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines so far."""
    found = list(caplog.messages)
    caplog.clear()
    return found


def test_so_many_lines_and_then_how_many(clock: Ticks, caplog: pytest.LogCaptureFixture) -> None:
    """Of one kind only the first lines of a second appear, then one that says how many were left out."""
    for number in range(5):
        connections_log.warning("refused %d", number)
    assert shown(caplog) == ["refused 0", "refused 1"]
    clock.now += 1
    connections_log.warning("refused %d", 5)
    assert shown(caplog) == ["left_out=3 kind='refused %d'", "refused 5"]
    clock.now += 1
    connections_log.warning("refused %d", 6)
    assert shown(caplog) == ["refused 6"]


def test_kinds_do_not_take_each_others_lines(clock: Ticks, caplog: pytest.LogCaptureFixture) -> None:
    """A flood of one kind hides no line of another, and the end of its second is told by any line."""
    for number in range(4):
        connections_log.warning("refused %d", number, extra={"kind": "late"})
        connections_log.info("answered %d", number)
    assert shown(caplog) == ["refused 0", "answered 0", "refused 1", "answered 1", "answered 2", "answered 3"]
    connections_log.warning("refused %d", 4, extra={"kind": "full"})
    assert shown(caplog) == ["refused 4"]
    clock.now += 1
    connections_log.info("answered %d", 5)
    assert shown(caplog) == ["left_out=2 kind='late'", "answered 5"]


def test_the_end_tells_what_was_left_out(clock: Ticks, caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many lines were left out when the server ends, and limits nothing from then on."""
    before = [handler.filters[:] for handler in logging.getLogger().handlers]
    with limited_logs(1, clock):
        for _ in range(2):
            connections_log.error("broken")
    assert shown(caplog) == ["broken", "left_out=1 kind='broken'"]
    assert before == [handler.filters for handler in logging.getLogger().handlers]


@pytest.mark.parametrize("name", ["nextk.dispatch", "nextk.engine", "uvicorn.error", "asyncio", "anything.else"])
def test_every_logger_is_limited(clock: Ticks, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """The lines of every logger are counted, those of each by themselves, and so are those with a traceback."""
    for number in range(4):
        logging.getLogger(name).error("broken %d", number, exc_info=ValueError("x"))
    connections_log.error("broken %d", 4)
    assert shown(caplog) == ["broken 0", "broken 1", "broken 4"]
    clock.now += 1
    connections_log.info("answered")
    assert shown(caplog) == ["left_out=2 kind='broken %d'", "answered"]


def test_refused_requests_are_limited_and_answered_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    """Any number of requests without a token makes few lines; each request that is answered has its line."""
    with LocalServer() as server, raw_client(server) as client:
        server.add("pairs", type="dense", dimension=2)
        for token in ["wrong", server.token] * 5:
            head = f"GET /info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
            client.send(head.encode())
            client.reply()
    found = " ".join(shown(caplog))
    assert (found.count("status=401"), found.count("status=200")) == (2, 5)


def test_refused_connections_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """Any number of malformed requests of one kind makes few lines."""
    with LimitedServer(PlainApp(), ConnectionLimits()) as server:
        for number in range(5):
            with raw_client(server) as client:
                client.send(b"GET /%d\r\n\r\n" % number)
                assert client.reply().status == 400
    assert " ".join(shown(caplog)).count("status=400") == 2
