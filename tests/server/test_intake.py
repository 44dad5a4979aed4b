"""Bounds over all requests: how many are under way, what their bodies hold, and the descriptors of the process."""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from nextk.cli.main import main
from nextk.errors import RefusedError
from nextk.server import listening
from nextk.server.body_room import ArrivingBody, BodyRoom, body_to_refuse
from nextk.server.descriptors import fit_connections
from nextk.server.intake import Intake
from nextk.server.limits import ConnectionLimits
from tests.support.local_server import TOKEN, LocalServer
from tests.support.raw_http import RawClient, raw_client

LARGE = 100_000
BUSY = "The server is busy: too many {} are under way; try again later"


class Caller:
    """A request whose body a test delivers part by part, to an application that waits to be told to answer.

    Attributes:
        sent: What the application has sent.
    """

    def __init__(self, intake: Intake) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        scope: Scope = {"type": "http", "method": "POST", "headers": [], "caller": self}
        self.may_answer = asyncio.Event()
        self.task = asyncio.create_task(intake(scope, self._messages.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def deliver(self, size: int = 0, *, more: bool = False) -> None:
        """Let a part of the body arrive."""
        self._messages.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})

    def leave(self) -> None:
        """Close the connection."""
        self._messages.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int | None:
        """Let everything go on that can, and return the status that was sent, if any."""
        for _ in range(10):
            await asyncio.sleep(0)
        return self.sent[0]["status"] if self.sent else None

    async def answered(self) -> int:
        """Let the application answer, and return the status."""
        self.may_answer.set()
        await self.task
        return int(self.sent[0]["status"])


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, wait for the test, and answer."""
    status = 200
    try:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if message["type"] == "http.disconnect":
            return
        await scope["caller"].may_answer.wait()
    except RefusedError as error:
        status = error.status
    await Response(b"", status)(scope, receive, send)


@pytest.fixture
def make() -> Callable[..., Intake]:
    """Make an intake, of two requests and room for three large bodies unless told otherwise."""

    def make(max_requests: int = 2, room: int = 3 * LARGE, patience: float = 5) -> Intake:
        return Intake(application, max_requests, BodyRoom(room, patience))

    return make


async def test_only_so_many_requests_are_under_way(make: Callable[..., Intake]) -> None:
    """A request beyond the limit is refused at once and told when to come again; the end of one makes room."""
    intake = make()
    callers = [Caller(intake) for _ in range(3)]
    for caller in callers:
        caller.deliver()
    assert [None, None, 503] == [await caller.status() for caller in callers]
    assert (b"retry-after", b"1") in callers[2].sent[0]["headers"]
    assert await callers[0].answered() == 200
    assert (b"retry-after", b"1") not in callers[0].sent[0]["headers"]
    late = Caller(intake)
    late.deliver()
    assert [200, 200] == [await caller.answered() for caller in (late, callers[1])]


async def test_a_body_that_does_not_come_takes_no_turn(make: Callable[..., Intake]) -> None:
    """Any number of requests whose bodies are not complete keep nobody else out."""
    intake = make()
    slow = [Caller(intake) for _ in range(20)]
    for caller in slow:
        caller.deliver(5, more=True)
    quick = Caller(intake)
    quick.deliver()
    assert await quick.answered() == 200
    for caller in slow:
        caller.leave()
        await caller.task


async def test_large_bodies_wait_for_room(make: Callable[..., Intake]) -> None:
    """A large body that finds no room is read when those before it are done with, and a small one never waits."""
    intake = make(max_requests=10)
    first, second, small = (Caller(intake) for _ in range(3))
    for caller, size in ((first, 2 * LARGE), (second, 2 * LARGE), (small, 1000)):
        caller.deliver(size)
        await caller.status()
    second.may_answer.set()
    assert await second.status() is None
    assert await small.answered() == 200
    assert [200, 200] == [await caller.answered() for caller in (first, second)]


async def test_a_large_body_overtakes_none(make: Callable[..., Intake]) -> None:
    """A body that would fit still waits behind an older one, which would never find room otherwise."""
    intake = make(max_requests=10)
    first, second, third = callers = [Caller(intake) for _ in range(3)]
    for caller, size in zip(callers, (2, 2, 1), strict=True):
        caller.deliver(size * LARGE)
        await caller.status()
    third.may_answer.set()
    assert await third.status() is None
    assert await first.answered() == 200
    assert [200, 200] == [await caller.answered() for caller in (second, third)]


async def test_a_client_holds_only_what_it_has_sent(make: Callable[..., Intake]) -> None:
    """Whoever declares much and sends little keeps nobody out, in whatever form the body comes."""
    intake = make(max_requests=10, patience=60)
    callers = [Caller(intake) for _ in range(20)]
    for caller in callers:
        caller.deliver(20_000, more=True)
        await caller.status()
    honest = Caller(intake)
    honest.deliver(3 * LARGE)
    assert await honest.answered() == 200
    for caller in callers:
        caller.leave()
        await caller.task


async def test_a_body_does_not_wait_for_ever(make: Callable[..., Intake]) -> None:
    """Where requests hold all room until they are answered, a body is refused in time; then there is room again."""
    intake = make(max_requests=10, patience=0.01)
    first, second = Caller(intake), Caller(intake)
    first.deliver(2 * LARGE)
    await first.status()
    second.deliver(2 * LARGE)
    assert await second.answered() == 503
    assert await first.answered() == 200
    all_room = Caller(intake)
    all_room.deliver(9 * LARGE)
    assert await all_room.answered() == 200


async def test_a_body_that_hardly_arrives_gives_way(make: Callable[..., Intake]) -> None:
    """A client that has sent much and then hardly goes on is refused when another one needs the room."""
    intake = make(max_requests=10, patience=0.01)
    slow, honest = Caller(intake), Caller(intake)
    slow.deliver(2 * LARGE, more=True)
    await slow.status()
    honest.deliver(2 * LARGE)
    assert await slow.answered() == 503
    assert (b"retry-after", b"1") in slow.sent[0]["headers"]
    assert await honest.answered() == 200


@pytest.mark.parametrize("count", [2, 3, 8])
async def test_bodies_that_wait_for_each_other_come_to_an_end(make: Callable[..., Intake], count: int) -> None:
    """When all room is taken by parts of bodies, those that began last are refused until the others are complete."""
    intake = make(max_requests=10, room=8 * LARGE, patience=0.01)
    callers = [Caller(intake) for _ in range(count)]
    for caller in callers:
        caller.may_answer.set()
        caller.deliver(8 * LARGE // count, more=True)
        await caller.status()
    for caller in callers:
        caller.deliver(7 * LARGE - 8 * LARGE // count)
    statuses = [await caller.answered() for caller in callers]
    assert statuses[0] == 200
    assert statuses == sorted(statuses)


async def test_a_request_that_is_cancelled_gives_its_room_back(make: Callable[..., Intake]) -> None:
    """Neither a request that has room nor one that waits for it keeps any when its task is cancelled."""
    intake = make()
    callers = [Caller(intake) for _ in range(3)]
    for caller in callers:
        caller.deliver(3 * LARGE)
        await caller.status()
    for caller in callers:
        caller.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await caller.task
    late = Caller(intake)
    late.deliver(3 * LARGE)
    assert await late.answered() == 200


async def test_a_reply_frees_the_room_of_the_body() -> None:
    """All room is back after every kind of end."""
    room = BodyRoom(3 * LARGE, 0.01)
    intake = Intake(application, 1, room)
    for leaves in (False, True):
        caller = Caller(intake)
        caller.deliver(2 * LARGE, more=leaves)
        if leaves:
            await caller.status()
            caller.leave()
        caller.may_answer.set()
        await caller.task
    assert (room._free, dict(room._bodies)) == (3 * LARGE, {})


MIB = 2**20


@pytest.mark.parametrize(
    ("bodies", "refused"),
    [
        ([ArrivingBody(held=9 * MIB), ArrivingBody(held=2 * MIB, wanted=1)], 0),
        ([ArrivingBody(held=9 * MIB, is_complete=True), ArrivingBody(held=2 * MIB, wanted=1)], 1),
        ([ArrivingBody(held=9 * MIB, read_since=6), ArrivingBody(held=2 * MIB, wanted=1)], 1),
        ([ArrivingBody(held=11 * MIB), ArrivingBody(held=2 * MIB, wanted=1)], 1),
        ([ArrivingBody(held=2 * MIB), ArrivingBody(held=9 * MIB), ArrivingBody(wanted=1)], 1),
        ([ArrivingBody(held=2 * MIB, wanted=1), ArrivingBody(wanted=1)], 1),
        ([ArrivingBody(held=9 * MIB, is_complete=True)], None),
    ],
    ids=["slow", "complete", "just given room", "fast", "largest of the slow", "youngest", "none waits"],
)
def test_the_body_that_gives_way(bodies: list[ArrivingBody], refused: int | None) -> None:
    """A body gives way that has hardly arrived meanwhile, the largest first; otherwise the youngest that waits."""
    before = {body: min(body.held, 9 * MIB) for body in bodies}
    assert body_to_refuse(bodies, before, 5) is (None if refused is None else bodies[refused])


# With a server


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server with little room for bodies, and an index `pairs` of two dimensions."""
    with LocalServer(max_bodies=2**20) as running:
        running.add("pairs", type="dense", dimension=2)
        yield running


def post(path: str, length: int, body: bytes = b"") -> bytes:
    """Return the bytes of a request, or of the beginning of one."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode() + body


def test_a_server_at_its_limit_still_says_that_it_is_up() -> None:
    """At the limit of requests, a further one is refused in the envelope with 503, and `/healthz` is answered."""
    with LocalServer(max_requests=0) as server, raw_client(server) as client:
        server.add("pairs", type="dense", dimension=2)
        client.send(post("/info", 0))
        assert client.reply().error == (503, BUSY.format("requests"))
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.reply().status == 200


def test_whoever_has_no_token_takes_no_room(server: LocalServer) -> None:
    """A large body without a token is refused before it is read, and one with a token finds all room."""
    with contextlib.ExitStack() as stack:
        clients: list[RawClient] = [stack.enter_context(raw_client(server)) for _ in range(3)]
        for client in clients:
            client.send(post("/upsert", 2**20).replace(TOKEN.encode(), b"wrong"))
            assert client.reply().status == 401
        with raw_client(server) as honest:
            body = b'{"id": "a", "vector": [1, 0]}'.ljust(2**20)
            honest.send(post("/upsert", len(body), body))
            assert honest.reply().status == 200


def test_what_is_only_declared_takes_no_room(server: LocalServer) -> None:
    """Clients that declare large bodies and send little of them do not keep another index's upsert out."""
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(raw_client(server)).send(post("/upsert", 2**20, b" " * 20_000))
        server.add("others", type="dense", dimension=2)
        honest = stack.enter_context(raw_client(server))
        body = b'{"id": "a", "vector": [1, 0]}'.ljust(2**20)
        honest.send(post("/indexes/others/upsert", len(body), body))
        assert honest.reply().status == 200


def test_the_options_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nextk serve` takes the number of connections, the number of requests, and the size of bodies."""
    found: list[object] = []

    def note(app: Starlette, _listener: object, limits: ConnectionLimits) -> None:
        intake = app.router.default
        assert isinstance(intake, Intake)
        found.extend([limits.connections, intake._places._count, intake._room._free])

    monkeypatch.setattr(listening, "run", note)
    options = ["--max-connections", "7", "--max-requests", "8", "--max-bodies", "9"]
    assert main(["serve", "--port", "0", *options]) == 0
    assert found == [7, 8, 9 * 2**20]


# Descriptors


def system(soft: int, hard: int, *, allowed: bool = True) -> Any:
    """A system with limits of its own, as the module `resource` shows it."""
    limits = [soft, hard]

    def setrlimit(_kind: int, wanted: tuple[int, int]) -> None:
        if not allowed:
            raise OSError(errno.EPERM, "not permitted")
        limits[:] = wanted

    return SimpleNamespace(
        RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda _kind: tuple(limits), setrlimit=setrlimit
    )


@pytest.mark.parametrize(
    ("resource", "soft", "connections"),
    [
        (system(4096, 4096), 4096, 1000),
        (system(256, 4096), 1160, 1000),
        (system(256, -1), 1160, 1000),
        (system(-1, -1), -1, 1000),
        (system(256, 500), 500, 340),
        (system(256, 4096, allowed=False), 256, 96),
        (system(100, 100), 100, 1),
    ],
    ids=["enough", "raised", "raised without end", "no limit", "raised too little", "not permitted", "hardly any"],
)
def test_connections_fit_the_descriptors(
    resource: Any, soft: int, connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit of the process is raised to what is needed; where that is too little, fewer connections are let in."""
    with caplog.at_level(logging.WARNING, "nextk.server"):
        assert fit_connections(1000, 2, lambda: resource) == connections
    assert resource.getrlimit(7)[0] == soft
    assert bool(caplog.messages) == (connections < 1000)
    assert all("--max-connections" in message for message in caplog.messages)


def test_a_system_without_such_limits_is_not_asked() -> None:
    """Where there is no limit to look at, the number of connections is what was wanted."""
    assert fit_connections(1000, 2, lambda: None) == 1000
