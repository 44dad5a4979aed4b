"""The four ways to an index: two colours of the client over two transports.

A test is written once, with `await`. The blocking client takes part through `Awaitable`, which turns each of its calls
into one that is awaited.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

import httpx

from nextk import AsyncIndex, Index
from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.operations import Operation
from nextk.server.codec import answer
from nextk.transport.in_process import InProcessTransport, SharedEngine
from tests.support.local_server import LocalServer

TRANSPORTS = ["sync-in-process", "sync-http", "async-in-process", "async-http"]
"""The ids of the four ways to an embedded index."""

POSTGRES = ["sync-postgres"]
"""The id of the way to an index on PostgreSQL. The colours differ above the engine only."""

_numbers = itertools.count()


class Awaitable:
    """A blocking object whose methods are awaited; what they return is wrapped where it has methods of its own."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name.startswith("_") or not callable(found):
            return found

        async def call(*args: Any, **keywords: Any) -> Any:
            result = found(*args, **keywords)
            return (result[0], Awaitable(result[1])) if isinstance(result, tuple) else result

        return call

    def __repr__(self) -> str:
        return repr(self.inner)

    async def __aenter__(self) -> Any:
        self.inner.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        return self.inner.__exit__(kind, error, traceback)


class Recording:
    """A transport that notes the commands it carries, and fails on those it is told to fail on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.orphans = inner.orphans
        self.closing_hooks = inner.closing_hooks
        self.numbering = inner.numbering
        self.sent: list[str] = []
        self.failures: dict[str, BaseException] = {}

    def _note(self, operation: Operation[Any]) -> None:
        self.sent.append(operation.command)
        if operation.command in self.failures:
            raise self.failures[operation.command]

    @property
    def identity(self) -> str:
        """That of the index inside."""
        return str(self.inner.identity)

    def send(self, operation: Operation[Any]) -> Any:
        """Note, then carry or fail."""
        self._note(operation)
        return self.inner.send(operation)

    async def asend(self, operation: Operation[Any]) -> Any:
        """Note, then carry or fail."""
        self._note(operation)
        return await self.inner.asend(operation)

    def backup(self, path: Any, *, overwrite: bool) -> None:
        """Back up what is inside."""
        self.inner.backup(path, overwrite=overwrite)

    async def abackup(self, path: Any, *, overwrite: bool) -> None:
        """Back up what is inside."""
        await self.inner.abackup(path, overwrite=overwrite)

    def close(self) -> None:
        """Close what is inside."""
        self.inner.close()

    async def aclose(self) -> None:
        """Close what is inside."""
        await self.inner.aclose()


@dataclass
class Opener:
    """Opens indexes over one of the transports, each on an engine of its own, and closes them.

    Attributes:
        way: One of `TRANSPORTS`.
        server: Where the engines of the HTTP transports are served; `None` in process.
        database: Where the engines of the ways to PostgreSQL keep their indexes: a connection string and a database
            schema. `None` for the others.
        leaves_open: How many resumable queries the test leaves open on purpose.
    """

    way: str
    server: LocalServer | None = None
    leaves_open: int = 0
    database: tuple[str, str] | None = None
    _opened: list[tuple[AsyncIndex, Any]] = field(default_factory=list)

    def __call__(
        self,
        type: str | None = "hybrid",
        *,
        clock: Callable[[], float] = time.monotonic,
        max_open_queries: int = 100,
        max_namespaces: int = 10_000,
        name: str | None = None,
        **keywords: Any,
    ) -> AsyncIndex:
        """A client of a new, empty index; the keywords are those of `Index.embedded` and of the engine."""
        name = name or f"index-{next(_numbers)}"
        options = {"clock": clock, "max_open_queries": max_open_queries, "max_namespaces": max_namespaces}
        engine = self._engine(name, {"type": type, **keywords}, options)
        index = self._client(name, engine)
        self._opened.append((index, engine))
        return index

    def _engine(self, name: str, keywords: dict[str, Any], options: dict[str, Any]) -> Engine:
        if self.database is None:
            return open_engine(None, keywords, name=name, **options)
        # Imported here, because the tests of the adapters run without psycopg, too.
        from nextk.postgres.database import DatabaseAddress
        from nextk.postgres.factory import open_engine as open_postgres

        return open_postgres(DatabaseAddress(*self.database, name), keywords, **options)

    def _client(self, name: str, engine: Engine) -> AsyncIndex:
        blocking = self.way.startswith("sync")
        if self.server is not None:
            self.server.engines[name] = engine
            where, access = self.server.index_url(name), self.server.token
            if not blocking:
                return AsyncIndex(where, access, retries=0)
            return cast("AsyncIndex", Awaitable(Index(where, access, retries=0)))
        hold = SharedEngine(None, engine)
        transport = InProcessTransport(hold, lambda: hold)
        if not blocking:
            return AsyncIndex._over(transport)
        return cast("AsyncIndex", Awaitable(Index._over(transport)))

    def engine(self, index: AsyncIndex) -> Any:
        """The engine behind an index that was opened here."""
        return next(engine for known, engine in self._opened if known is index)

    def record(self, index: AsyncIndex) -> Recording:
        """From now on, note what an index sends."""
        client = index.inner if isinstance(index, Awaitable) else index
        recording = Recording(client._transport)
        client._transport = recording
        return recording

    async def close(self) -> int:
        """Close every index and engine; how many resumable queries were still open."""
        left = 0
        for index, engine in self._opened:
            left += engine.open_queries()
            await index.close()
            engine.close()
            if self.server is not None:
                self.server.engines.pop(engine.name)
        return left


@dataclass(frozen=True)
class Wire:
    """The raw protocol: bytes in, bytes out, by HTTP or straight into what the server does with them.

    Attributes:
        engine: Of the index that is spoken to.
        url: Its base URL, or `None` to go without HTTP.
        token: What the server wants to see.
    """

    engine: Any
    url: str | None = None
    token: str = ""

    def send(self, path: str, body: Any) -> tuple[int, bytes]:
        """Send a body, as it is if it is bytes, as JSON otherwise; the status and the body of the reply."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if self.url is None:
            reply = answer(self.engine, path, content)
            return reply.status, reply.body
        headers = {"Authorization": f"Bearer {self.token}"}
        # Certificates take longer to load than all the rest.
        response = httpx.post(f"{self.url}/{path}", content=content, headers=headers, verify=False)  # noqa: S501
        assert response.headers["Content-Type"] == "application/json"
        return response.status_code, response.content

    def result(self, path: str, body: Any) -> Any:
        """Send what is to succeed; its result."""
        status, reply = self.send(path, body)
        envelope = json.loads(reply)
        assert (200, ["result"]) == (status, list(envelope)), envelope
        return envelope["result"]

    def error(self, path: str, body: Any) -> tuple[int, str]:
        """Send what is to be refused; the status and the text."""
        status, reply = self.send(path, body)
        envelope = json.loads(reply)
        assert (["error", "status"], status) == (sorted(envelope), envelope["status"])
        return status, envelope["error"]


@contextlib.contextmanager
def wired(engine: Engine, server: LocalServer | None) -> Iterator[Wire]:
    """Speak to an engine, by HTTP if there is a server; afterwards it may hold no open query, and is closed."""
    if server is None:
        yield Wire(engine)
    else:
        server.engines["wire"] = engine
        yield Wire(engine, server.index_url("wire"), server.token)
        del server.engines["wire"]
    assert 0 == engine.open_queries()
    engine.close()
