"""Open the socket of a server, and run an application on it until a signal arrives."""

import ipaddress
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from nextk.errors import ClientError, RefusedError
from nextk.server.connections import ConnectionTable
from nextk.server.limits import DEFAULT_LIMITS, ConnectionLimits
from nextk.server.stopping import GRACE, StoppingServer

_LAST_PORT = 65_535
_BACKLOG = 2048  # as uvicorn has it, for clients that come before it listens
# Seconds for which a thread keeps the interpreter while others want it. With the usual 5 ms, the event loop waits for
# so long behind each thread that evaluates a filter, and again for every step of a request.
_SWITCH_INTERVAL = 0.001


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server on `host`; of all names, only `localhost` counts as such."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, *, protected: bool) -> socket.socket:
    """Open a listening socket.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        protected: Whether the server requires a token.

    Returns:
        The socket.

    Raises:
        ClientError: Other machines can reach the address and the server requires no token, the port is not a valid
            one, or the address cannot be listened on.
    """
    if not protected and not is_loopback(host):
        message = f"refusing to listen on {host or 'every address'} without a token: set NEXTK_TOKEN, or pass --token"
        raise ClientError(message)
    if not 0 <= port <= _LAST_PORT:
        message = f"port {port} is not in 0..{_LAST_PORT}"
        raise ClientError(message)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise ClientError(message) from error
    # asyncio sends small replies at once only on sockets that say they are TCP; on others each waits 40 ms for an ACK.
    return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, fileno=listener.detach())


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: Starlette, listener: socket.socket, limits: ConnectionLimits = DEFAULT_LIMITS) -> None:
    """Serve until SIGINT or SIGTERM arrives. Running requests then have 10 seconds to finish.

    Args:
        app: The application, from `create_app`.
        listener: The listening socket, from `listen`.
        limits: The limits for connections. Default `DEFAULT_LIMITS`.

    Raises:
        KeyboardInterrupt: SIGINT arrived, and the server has shut down.
        SystemExit: SIGTERM arrived, and the server has shut down.
    """
    # uvicorn shuts down by itself and then raises the signal again: it must end the block here, not the process.
    previous = signal.signal(signal.SIGTERM, _leave)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        configuration = configure(app, graceful_seconds=GRACE, limits=limits, on_refusal=app.state.count_refusal)
        StoppingServer(configuration, app.state.give_up).run(sockets=[listener])
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGTERM, previous)


def configure(
    app: ASGIApp,
    *,
    graceful_seconds: int,
    limits: ConnectionLimits = DEFAULT_LIMITS,
    on_refusal: Callable[[RefusedError], None] = lambda _error: None,
    parser: str = "auto",
) -> uvicorn.Config:
    """Return the configuration with which uvicorn runs the application. uvicorn itself logs no requests.

    Args:
        app: The ASGI application.
        graceful_seconds: The seconds that running requests have to finish when the server shuts down.
        limits: The limits for connections. Default `DEFAULT_LIMITS`.
        on_refusal: Called with the error of each request that is refused before the application sees it. Default:
            nothing.
        parser: The parser of HTTP: `h11`, `httptools`, or `auto`, which is the faster one that is installed. Default
            `auto`.
    """
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        http=ConnectionTable(limits, on_refusal).protocol(parser),  # type: ignore[arg-type]  # it is only called
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=graceful_seconds,
    )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
