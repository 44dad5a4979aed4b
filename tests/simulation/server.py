"""The server: the real application over an index on disk, which can be restarted, and a book of what was written."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.server.app import create_app
from nextk.testing.unnumbered import UnnumberedApp
from tests.simulation.clock import InlineExecutor
from tests.simulation.fairness import Fairness
from tests.simulation.lifetimes import Lifetimes

TOKEN = "simulated-token"
READ_ONLY_TOKEN = "simulated-read-only-token"
QUIET = "quiet"
"""A namespace that nobody writes to. Its rows have ids of their own."""
NAME = "world"
_LONGEST_IDLE = 86_400.0  # seconds


@dataclass(frozen=True)
class Answer:
    """An answer of the server, as bytes."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Book:
    """The rows that the server holds, and the writes that it has executed.

    Attributes:
        rows: The version of each row that is there, by its id.
        changes: The ids that each write has changed, in order.
        marks: The marks of the writes that were executed; each write of a client has another one.
        ghosts: The ids of rows that were on a page although they were not there any more.
    """

    rows: dict[str, int] = field(default_factory=dict)
    changes: list[set[str]] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    ghosts: list[str] = field(default_factory=list)

    def note(self, command: str, body: Any) -> None:
        """Note a write that the server has executed.

        Args:
            command: The command.
            body: The values of its body.
        """
        if command == "upsert":
            written = {record["id"]: record["metadata"]["version"] for record in body}
            self.rows |= written
            self.changes.append(set(written))
            self.marks.update(f"{id_} {version}" for id_, version in written.items())
        elif command == "delete":
            for id_ in body["ids"]:
                self.rows.pop(id_, None)
            self.changes.append(set(body["ids"]))
            self.marks.update(f"{id_} deleted" for id_ in body["ids"])

    def check(self, result: Any) -> None:
        """Check that the rows of an answer are there.

        Args:
            result: The result of a command.
        """
        # The rows of the namespace that nobody writes to have other ids.
        page = result.get("scores", []) if isinstance(result, dict) else result if isinstance(result, list) else []
        self.ghosts += [match["id"] for match in page if match["id"] not in self.rows and match["id"][0] == "r"]

    def touched_since(self, count: int) -> set[str]:
        """Return the ids that writes have changed after the first `count` ones."""
        return set().union(*self.changes[count:])


class SimulatedServer:
    """The server of one index.

    Args:
        path: The file of the index.
        schema: The keywords of the index.
        clock: The time of the simulation.
        cap: The number of queries that may be open.
        numbered: Whether it numbers pages.

    Attributes:
        book: What it has executed.
        lifetimes: Whether queries were open for as long as they have to be.
        fairness: Whether it has shared its open queries fairly.
        running: Whether it can be reached.
        starts: How often it was started.
        skew: The seconds by which its clock is ahead of that of the clients.
    """

    def __init__(
        self,
        path: Path,
        schema: dict[str, Any],
        clock: Callable[[], float],
        cap: int,
        *,
        numbered: bool,
    ) -> None:
        self.book = Book()
        self.lifetimes = Lifetimes()
        self.fairness = Fairness(cap, self.lifetimes)
        self.starts = 0
        self.skew = 0.0
        self.running = False
        self._path = path
        self._schema = schema
        self._clock = clock
        self._frozen: float | None = None
        self._options: dict[str, Any] = {"max_open_queries": cap, "clock": self._now, "rests": False}
        self._engines: dict[str, Engine] = {}
        app: ASGIApp = create_app(self._engines, token=TOKEN, read_only_token=READ_ONLY_TOKEN, executor=InlineExecutor)
        self._app = app if numbered else UnnumberedApp(app)
        self.start()

    @property
    def engine(self) -> EmbeddedEngine:
        """The engine of the index."""
        engine = self._engines[NAME]
        assert isinstance(engine, EmbeddedEngine)
        return engine

    def start(self) -> None:
        """Open the index, and answer from now on."""
        self._engines[NAME] = open_engine(self._path, self._schema, **self._options)
        self.starts += 1
        self.running = True

    def stop(self) -> None:
        """End: no query is open any more, and nobody is answered."""
        self.running = False
        self._engines.pop(NAME).close()
        self.lifetimes.restart()

    async def answer(self, request: httpx.Request) -> Answer:
        """Answer a request, and note what it has written.

        Args:
            request: The request.
        """
        command = request.url.path.lstrip("/").partition("/")[0]
        with self.fairness.watching(self.engine) if command == "resumable-query" else contextlib.nullcontext():
            answer = await _answered(self._app, request)
            self.lifetimes.note(command, request.content, answer.status, answer.body, self._now())
        if answer.status == 200 and command in ("upsert", "delete"):
            self.book.note(command, json.loads(request.content))
        elif answer.status == 200 and self.book.changes:
            self.book.check(json.loads(answer.body)["result"])
        return answer

    def _now(self) -> float:
        return self._clock() + self.skew if self._frozen is None else self._frozen

    def let_nothing_expire(self) -> None:
        """Let the clock of the server stand still until `expire`."""
        self._frozen = self._now()

    def expire(self) -> None:
        """Let as much time pass as an open query can be idle."""
        self.skew += _LONGEST_IDLE
        self._frozen = None

    def evict(self, number: int) -> bool:
        """Stop one of the open queries, as somebody else may who knows its uuid.

        Args:
            number: A number that chooses it.

        Returns:
            Whether there was one.
        """
        uuids = list(self.engine._open_queries._open)
        if uuids:
            uuid = uuids[number % len(uuids)]
            self.engine.stop(uuid)
            self.lifetimes.end([uuid])
        return bool(uuids)

    def open_queries(self) -> int:
        """Return the number of open queries that have not expired."""
        self.engine.sweep()
        return self.engine.open_queries()


async def _answered(app: ASGIApp, request: httpx.Request) -> Answer:
    """Return the answer of an application of ASGI to a request."""
    scope = {
        "type": "http",
        "method": request.method,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
    status, headers, body = 0, [], b""

    async def receive() -> Message:
        return {"type": "http.request", "body": request.content, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers, body
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            body += message.get("body", b"")

    await app(scope, receive, send)
    return Answer(status, headers, body)
