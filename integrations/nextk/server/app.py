"""The ASGI application: requests in, envelopes out; everything in between is `nextk.server.codec`."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from nextk.arguments import require_count
from nextk.dispatch import COMMANDS, find_command
from nextk.engine.protocol import Engine
from nextk.errors import RefusedError
from nextk.plain import shortened
from nextk.server import docs_page, openapi
from nextk.server.auth import Access, Tokens
from nextk.server.backups import BackupReply, Backups
from nextk.server.body_limits import MAX_BODY, Sizes, body_limit, read_body
from nextk.server.body_room import BodyRoom
from nextk.server.codec import MAX_REPLY, Reply, answer, refusal
from nextk.server.fair_places import Claim
from nextk.server.intake import MAX_BODIES, MAX_REQUESTS, Intake, set_claim
from nextk.server.metrics import Metrics
from nextk.server.refusals import reason_of
from nextk.server.routing import METHODS, UNKNOWN, RequestTarget
from nextk.server.turns import ClientLeft, Turns, usable_cores
from nextk.transport import numbering

log = logging.getLogger("nextk.server")

__all__ = ["create_app"]

SWEEP_SECONDS = 5.0
"""Seconds between two searches for resumable queries that have expired."""

_FEWEST_TURNS = 2  # so that no search holds up all others, even on a single core
_OTHER_THREADS = 16  # for calls that are short, unless they wait for a lock

_METRICS = "text/plain; version=0.0.4"  # the format of Prometheus
_ASCII = "".join(map(chr, range(128)))
_GONE = 499  # the client left before it was answered; nobody sees this status, but logs and metrics do


def create_app(
    engines: Mapping[str, Engine],
    *,
    token: str | None = None,
    read_only_token: str | None = None,
    allow_hosts: Sequence[str] = (),
    root: str | None = None,
    max_body: int = MAX_BODY,
    max_reply_bytes: int = MAX_REPLY,
    max_requests: int = MAX_REQUESTS,
    max_bodies: int = MAX_BODIES,
    search_threads: int | None = None,
    backup_folder: Path | None = None,
    executor: Callable[[int, str], Executor] = ThreadPoolExecutor,
) -> Starlette:
    """Put engines behind HTTP.

    Every index answers below `/indexes/NAME/`, and one of them at `/` too: a base URL is all that a client needs.
    `/healthz`, `/metrics` (Prometheus), `/openapi.json` and `/docs` are the server's own, and `backup` below an index
    sends a copy of it. Without a token, requests that a web page may have made a browser send are refused, except to
    `/healthz`, which only tells that the server is up.

    Whoever stops the server calls `app.state.give_up()` when the running requests have had their time to finish, and
    whoever refuses a request before the application sees it calls `app.state.count_refusal(error)`.

    Args:
        engines: The indexes by name. The mapping is read anew for every request. The caller closes the engines.
        token: The token that clients have to send as `Authorization: Bearer`. Default `None`, which lets everyone in.
        read_only_token: The token of clients that may only read. Default `None`, for no such clients.
        allow_hosts: The names by which clients may call a server without a token, besides `localhost` and the loopback
            addresses. A name on it is trusted: whoever decides where it leads can let web pages in. Default: none.
        root: The name of the index that answers at `/`; if it is not served, none does. Default `None`, for the first
            one.
        max_body: How many bytes the body of an upsert may have; other commands have lower limits of their own. Default
            64 MiB.
        max_reply_bytes: How many bytes the records of a reply may take, over all queries of a batch; a request for more
            is refused. Default 64 MiB.
        max_requests: How many requests may be under way at the same time; further ones are refused with the status 503.
            Searches and writes take at most 7 of 8 of them, and those for one index by one kind of token at most half
            of these, unless there are no others. Default 256.
        max_bodies: How many bytes of the bodies of all requests may have arrived together. A body for which there is no
            room waits for it, for 5 seconds; then one is refused with the status 503: one that hardly arrives, or else
            the one that began last. Default 256 MiB.
        search_threads: How many requests may search or write at the same time, besides one of an index of which none
            does. Further ones wait; the indexes take turns. Fetching from an open query, stopping it, and everything
            else never waits for them. Default `None`, for the number of cores, at least 2.
        backup_folder: The folder in which an index is copied before the copy is sent. Default `None`, for that of the
            system's temporary files.
        executor: Makes that which runs calls of the engines, of the number of calls at a time and a name. Default:
            threads.

    Raises:
        ClientError: A token is empty, or both are the same; `allow_hosts` has what is no name; or `search_threads` is
            no whole number of at least 1.
    """
    threads = max(_FEWEST_TURNS, usable_cores()) if search_threads is None else search_threads
    require_count(threads, "search_threads")
    access = Access(Tokens(token, read_only_token), allow_hosts)
    require_count(max_reply_bytes, "max_reply_bytes")
    service = _Service(engines, access, root, Sizes(max_body, max_reply_bytes), threads, executor, backup_folder)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep_forever(engines))
        try:
            yield
        finally:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping
            service.close()

    app = Starlette(
        routes=[
            Route("/healthz", _health),
            Route("/metrics", service.metrics),
            Route(openapi.PATH, service.openapi),
            Route(docs_page.PATH, service.docs),
        ],
        exception_handlers={HTTPException: _routing_failed, Exception: _failed},
        lifespan=lifespan,
    )
    app.state.give_up = service.give_up
    app.state.count_refusal = service.count_refusal
    app.router.redirect_slashes = False
    bounded = Intake(service, max_requests, BodyRoom(max_bodies))
    app.router.default = bounded  # a namespace may hold any character; a route's pattern would stop at a newline
    return app


async def sweep(engines: Mapping[str, Engine]) -> None:
    """Drop the resumable queries that have been idle for too long, in every engine.

    Args:
        engines: The engines by the names of their indexes.
    """
    for name, engine in list(engines.items()):
        try:
            await run_in_threadpool(engine.sweep)
        except Exception:
            log.exception("index=%s sweeping failed", name)


async def _sweep_forever(engines: Mapping[str, Engine]) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await sweep(engines)


class _Service:
    """The ASGI application for all paths of the indexes."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        access: Access,
        root: str | None,
        sizes: Sizes,
        search_threads: int,
        executor: Callable[[int, str], Executor],
        backup_folder: Path | None,
    ) -> None:
        self._engines = engines
        self._access = access
        self._root = root
        self._sizes = sizes
        self._searches = Turns(search_threads, "nextk-search", executor)  # and writes
        self._others = Turns(_OTHER_THREADS, "nextk-other", executor)
        self._backups = Backups(backup_folder, executor)
        self._metrics = Metrics(engines, self._root_name, self._searches.waiting)

    def count_refusal(self, error: RefusedError) -> None:
        """Count a refusal in the metrics that is not one of an index."""
        self._metrics.refused(UNKNOWN, reason_of(error))

    def give_up(self) -> None:
        """Give up all requests, which are answered with the status 503: the server is being stopped."""
        self._searches.end()
        self._others.end()
        self._backups.end()

    def close(self) -> None:
        """End the threads. An application that is started again has new ones."""
        self._searches.close()
        self._others.close()
        self._backups.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope, receive)
        target = RequestTarget.parse(_raw_target(scope))
        name = self._index_name(target)
        try:
            reply = await self._reply(request, target, name)
        except (ClientDisconnect, ClientLeft):
            reply = None
        status = _GONE if reply is None else reply.status
        self._note(name, target.command, status, time.perf_counter() - started)
        if reply is not None and reply.reason:
            self._metrics.refused(self._known(name), reply.reason)
        if reply is not None:
            respond = reply if isinstance(reply, BackupReply) else _response(reply, target.methods)
            await respond(scope, receive, send)

    async def metrics(self, request: Request) -> Response:
        """Return the metrics as text, to clients that may read."""
        refused = self._refused(request)
        return refused or Response(await run_in_threadpool(self._metrics.render), media_type=_METRICS)

    async def openapi(self, request: Request) -> Response:
        """Return the description of the server, to clients that may read."""
        return self._refused(request) or JSONResponse(self._description())

    async def docs(self, request: Request) -> Response:
        """Return the description of the server as a page, to clients that may read."""
        return self._refused(request) or HTMLResponse(docs_page.render(self._description()), headers=docs_page.HEADERS)

    def _description(self) -> dict[str, Any]:
        names, protected = list(self._engines), self._access.protected
        return openapi.describe(names, self._root_name(), protected=protected, max_body=self._sizes.body)

    def _refused(self, request: Request) -> Response | None:
        """Return the reply to a client that may not read; `None` for one that may."""
        try:
            self._access.read_only_for(request.scope)
        except RefusedError as error:
            self.count_refusal(error)
            return _response(refusal(str(error), error.status))
        return None

    async def _reply(self, request: Request, target: RequestTarget, name: str | None) -> Reply | BackupReply:
        try:
            read_only = self._access.read_only_for(request.scope)
            if request.method not in target.methods:
                message = f"Method not allowed: {shortened(request.method)}"
                raise RefusedError(message, 405)
            engine = self._engine(target, name)
            if not target.is_backup:
                find_command(target.rest, read_only=read_only)  # before a large body is read in vain
            elif read_only:
                message = "Forbidden: a backup has every record of an index, so it needs the full token"
                raise RefusedError(message, 403)
            set_claim(request.scope, self._claim(target, (name, read_only)))
            limit = body_limit(target.command, self._sizes.body)
            body = await read_body(request, limit)
            if target.is_backup:
                return await self._backups.reply(str(name), engine, functools.partial(_has_left, request))
            call = functools.partial(
                answer, engine, target.rest, body, read_only=read_only, limit=limit, max_reply=self._sizes.reply
            )
            return await self._turns(target).run(name or "", call, functools.partial(_has_left, request))
        except RefusedError as error:
            return refusal(str(error), error.status, reason_of(error))

    def _turns(self, target: RequestTarget) -> Turns:
        """Return the threads that answer a command: those of the commands that keep a core busy, or the others."""
        return self._searches if _keeps_a_core_busy(target) else self._others

    def _claim(self, target: RequestTarget, share: tuple[str | None, bool]) -> Claim:
        """Return what a request counts as. An index and a kind of token are a share."""
        alone = len(self._engines) == 1 and not self._access.has_both_tokens
        return Claim(share, target.is_backup or _keeps_a_core_busy(target), alone)

    def _index_name(self, target: RequestTarget) -> str | None:
        return self._root_name() if target.index is None else target.index

    def _root_name(self) -> str | None:
        return next(iter(self._engines), None) if self._root is None else self._root

    def _engine(self, target: RequestTarget, name: str | None) -> Engine:
        engine = None if name is None else self._engines.get(name)
        if engine is None:
            if name is not None and not _is_unicode(name):
                message = "Invalid name of an index: its percent-encoded bytes are not UTF-8"
                raise RefusedError(message, 422)
            raise RefusedError(_no_index(target, name), 404)
        return engine

    def _known(self, name: str | None) -> str:
        return name if name is not None and name in self._engines else UNKNOWN

    def _note(self, name: str | None, command: str, status: int, seconds: float) -> None:
        index = self._known(name)
        self._metrics.answered(index, command, status, seconds)
        kind = {"kind": f"status={status}"} if status >= 400 else None
        log.info("index=%s command=%s status=%d ms=%.1f", index, command, status, 1000 * seconds, extra=kind)


def _keeps_a_core_busy(target: RequestTarget) -> bool:
    command = COMMANDS.get(target.command)
    return command is not None and (command.searches or command.writes)


async def _has_left(request: Request) -> bool:
    """Wait for what comes after the whole request of a client. Returns whether it is the news that the client left."""
    message = await request.receive()
    return bool(message["type"] == "http.disconnect")


def _raw_target(scope: Scope) -> str:
    """Path and query string as they came: decoding first would lose which slashes belong to a namespace.

    Bytes beyond ASCII, which a client should have escaped, are escaped here and not replaced.
    """
    raw = scope.get("raw_path")
    path = quote(scope["path"].encode(errors="surrogatepass")) if raw is None else quote(raw, _ASCII)
    flags = quote(scope["query_string"], _ASCII)
    return f"{path}?{flags}" if flags else path


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _no_index(target: RequestTarget, name: str | None) -> str:
    if target.index is not None:
        return f"Not found: there is no index {shortened(target.index)}"
    if name is None:
        return "Not found: there is no index at the root"
    return f"Not found: the index at the root is {name}, which is not served; others are below /indexes/NAME"


def _response(reply: Reply, methods: Sequence[str] = METHODS) -> Response:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": ", ".join(methods)}}.get(reply.status, {})
    return Response(reply.body, reply.status, headers | {numbering.HEADER: numbering.VERSION}, "application/json")


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _routing_failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it alone"
    reply = refusal(error.detail, error.status_code)
    return Response(reply.body, reply.status, error.headers, "application/json")


async def _failed(_request: Request, _error: Exception) -> Response:
    return _response(refusal("Internal server error", 500))
