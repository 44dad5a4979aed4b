"""The network: it carries the bytes of clients to the server and back, by a route of its own under the HTTP transport.

To whom a message belongs is read from a context variable, which each client sets in the task that runs it.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from nextk.testing.faults import ERROR_PAGE, ERROR_STATUS
from tests.simulation.clock import SimulatedLoop, wait
from tests.simulation.server import Answer, SimulatedServer
from tests.simulation.trace import Trace
from tests.simulation.weather import Fate, Mishap, Weather

actor: ContextVar[str] = ContextVar("actor")
"""The name of the client whose task is running."""


@dataclass(frozen=True)
class _Message:
    """A request on its way.

    Attributes:
        name: Its name: the client, and how many requests it has sent before.
        client: The name of the client.
        request: The request as the transport has written it.
        fate: Its fate.
        reply: The future that brings the answer to the client.
    """

    name: str
    client: str
    request: httpx.Request
    fate: Fate
    reply: "asyncio.Future[httpx.Response]"


class Network:
    """Carries messages between the clients and the server.

    Args:
        loop: The event loop, whose time it is.
        server: The server.
        weather: The faults.
        trace: The trace of the run.
        numbered: Whether the server numbers pages. If it does not, no request for a page arrives twice, since the
            second one would take a page that nobody gets.

    Attributes:
        excused: The number of queries that may be left open until they expire, because something has happened to their
            start or their stop. A start counts if the client has made no uuid for it, by which it can stop the query,
            or if a second copy of it was accepted although the first was refused, which the client takes for the end.
    """

    def __init__(
        self, loop: SimulatedLoop, server: SimulatedServer, weather: Weather, trace: Trace, *, numbered: bool
    ) -> None:
        self._loop = loop
        self._server = server
        self._weather = weather
        self._trace = trace
        self._numbered = numbered
        self._sent: Counter[str] = Counter()
        self._latest: Counter[str] = Counter()  # the number of the last message of each client that has arrived
        self._queried: set[str] = set()
        self.excused = 0
        self._refused: set[str] = set()  # the names of the messages of which a client hears that they were refused
        self._tasks: set[asyncio.Task[None]] = set()

    def has_queried(self, client: str) -> bool:
        """Return whether a client has made a plain query.

        Args:
            client: The name of the client.
        """
        return client in self._queried

    def open(self) -> httpx.Client:
        """Return a client of httpx for blocking calls; see `nextk.transport.connections.WayToServer`."""
        return httpx.Client(transport=_Blocking(self), trust_env=False)

    def aopen(self) -> httpx.AsyncClient:
        """Return a client of httpx for one event loop."""
        return httpx.AsyncClient(transport=_Asynchronous(self), trust_env=False)

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Carry a request to the server, and its reply back.

        Args:
            request: The request, with the timeout of the transport.

        Raises:
            httpx.HTTPError: The connection was not made, it broke, or the time was up.
        """
        timeout = float(request.extensions["timeout"]["read"])
        message = self._send(request, timeout)
        fate = message.fate
        failure: httpx.HTTPError = httpx.ReadTimeout("the time is up", request=request)
        if fate.breaks is not None and fate.breaks < timeout:
            timeout = fate.breaks
            kind = httpx.ConnectError if fate.mishap is Mishap.REFUSED else httpx.ReadError
            failure = kind("the connection broke", request=request)
        try:
            async with asyncio.timeout(timeout):
                return await message.reply
        except TimeoutError:
            self._note(message, f"sees: {failure}")
            raise failure from None
        except asyncio.CancelledError:
            self.excused += _excused(request)
            raise

    def _send(self, request: httpx.Request, timeout: float) -> _Message:
        client = actor.get()
        self._sent[client] += 1
        number = self._sent[client]
        command = _command(request)
        if command == "query":
            self._queried.add(client)
        repeatable = self._numbered or not command.startswith("resumable-query")
        fate = self._weather.fate(f"{client}:{number}", timeout, repeatable=repeatable)
        message = _Message(f"{client}:{number}", client, request, fate, self._loop.create_future())
        struck = "" if fate.mishap is None else fate.mishap.value
        self._note(message, f"#{number} sends {command} {_shown(request.content)}", "messages")
        if struck:
            self.excused += _excused(request)
            self._note(message, f"#{number} {struck}", struck)
        for copy, seconds in enumerate(fate.arrivals):
            self._loop.call_later(seconds, self._arrive, message, number, copy)
        return message

    def _arrive(self, message: _Message, number: int, copy: int) -> None:
        if number < self._latest[message.client]:
            self._note(message, f"#{number} arrives after newer ones", "reordered")
        self._latest[message.client] = max(number, self._latest[message.client])
        if not self._server.running:
            self._note(message, f"#{number} finds no server", "no server")
            if not message.reply.done():
                message.reply.set_exception(httpx.ConnectError("nobody listens", request=message.request))
            return
        self._run(self._answer(message, number, copy))

    async def _answer(self, message: _Message, number: int, copy: int) -> None:
        answer = await self._server.answer(message.request)
        self._note(message, f"#{number} is answered: {answer.status} {_shown(answer.body)}")
        fate = message.fate
        is_refused = answer.status != HTTPStatus.OK
        if copy == 0 and is_refused:
            self._refused.add(message.name)
        elif message.name in self._refused and not is_refused:
            self.excused += _command(message.request) == "resumable-query"
        if copy == 0 and fate.reply is not None:
            self._loop.call_later(fate.reply, self._bring_back, message, answer, self._server.starts)

    def _bring_back(self, message: _Message, answer: Answer, starts: int) -> None:
        """Bring a reply to its client, unless the client has left, or the server was restarted meanwhile."""
        if message.reply.done():
            return
        if starts != self._server.starts or not self._server.running:
            self._note(message, "the reply is lost, since the server ends", "reply lost by restart")
            message.reply.set_exception(httpx.ReadError("the connection broke", request=message.request))
        else:
            message.reply.set_result(_response(answer, message.fate.mishap))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, message: _Message, text: str, kind: str = "") -> None:
        self._trace.note(self._loop.time(), message.client, text, kind)


class _Blocking(httpx.BaseTransport):
    def __init__(self, network: Network) -> None:
        self._network = network

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return wait(self._network.exchange(request))


class _Asynchronous(httpx.AsyncBaseTransport):
    def __init__(self, network: Network) -> None:
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._network.exchange(request)


def _response(answer: Answer, mishap: Mishap | None) -> httpx.Response:
    body = answer.body
    if mishap is Mishap.GATEWAY:
        return httpx.Response(ERROR_STATUS, stream=httpx.ByteStream(ERROR_PAGE))
    if mishap is Mishap.CUT:
        body = body[: len(body) // 2]
    return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(body))


def _command(request: httpx.Request) -> str:
    return request.url.path.lstrip("/").partition("/")[0]


def _excused(request: httpx.Request) -> int:
    """Return how many queries may be left open because something has happened to a request."""
    if _command(request) == "resumable-query-end":
        return 1_000  # a lost stop ends the attempts to stop others, too
    starts_unnamed = _command(request) == "resumable-query" and b'"uuid"' not in request.content
    return 2 if starts_unnamed else 0  # it may arrive twice


def _shown(body: bytes) -> str:
    """Return the beginning of a body as text, for the trace."""
    text = body.decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 160  # characters
