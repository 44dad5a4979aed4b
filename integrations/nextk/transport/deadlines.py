"""One deadline for all the steps of an attempt: connecting, sending, and every byte of the reply.

httpcore applies a timeout to each step by itself, and to each piece that arrives, so a server that sends a byte now and
then keeps a caller waiting without end. Here a `Deadline` is passed as the timeout of every step, and the network
backends below lower each wait to what is left of it. Not bounded are the blocking client's look-up of a name, which no
timeout of the system reaches, and the single reads of the blocking client where TLS runs inside of the TLS of a proxy.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

_TLS_RECORD = 16 * 1024  # bytes; what is sent at once over TLS is one record, and waits no longer than its timeout

_SocketOptions = Iterable[httpcore.SOCKET_OPTION] | None


class Deadline(float):
    """A timeout in seconds that begins to run when it is made. Everything that takes a timeout can take it.

    Attributes:
        end: When the time is up, by `time.monotonic`.
    """

    __slots__ = ("end",)

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds


def _left(timeout: float | None, late: type[httpcore.TimeoutException], share: int = 1) -> float | None:
    """Return the seconds that a step may take; `None` for no bound.

    Args:
        timeout: The timeout of the step.
        late: The error to raise if a deadline has passed.
        share: Among how many steps what is left of a deadline is divided. Default 1.
    """
    if not isinstance(timeout, Deadline):
        return timeout
    seconds = timeout.end - time.monotonic()
    if seconds <= 0:
        message = "the deadline has passed"
        raise late(message)
    return seconds / share


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections for the blocking client, each step of which respects a `Deadline`."""

    def __init__(self) -> None:
        self._backend: httpcore.NetworkBackend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: _SocketOptions = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a host that answers; those that are left share the time that is left."""
        addresses = _addresses(host, port)
        for position, address in enumerate(addresses, start=1):
            seconds = _left(timeout, httpcore.ConnectTimeout, len(addresses) - position + 1)
            try:
                stream = self._backend.connect_tcp(address, port, seconds, local_address, socket_options)
                return _Stream(stream, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses):
                    raise
        message = f"the name {host} has no address"
        raise httpcore.ConnectError(message)


def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    if len(found) == 1:
        return [host]
    return list(dict.fromkeys(_numeric(address) for *_, address in found))


def _numeric(address: tuple[Any, ...]) -> str:
    """Return the address of a socket as text, with the interface that an address of IPv6 may need."""
    scope = address[3] if len(address) > 3 else 0
    return f"{address[0]}%{scope}" if scope and "%" not in address[0] else str(address[0])


class _Stream(httpcore.NetworkStream):
    """A connection of the blocking client.

    Args:
        stream: The connection as httpcore made it.
        opened_by: The timeout of its opening, for the steps that httpcore bounds by none: greeting a SOCKS proxy.
        tls: Whether it is encrypted. Default `False`.
    """

    def __init__(self, stream: httpcore.NetworkStream, opened_by: float | None, *, tls: bool = False) -> None:
        self._stream = stream
        self._opened_by = opened_by
        self._tls = tls

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._bound(timeout), httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        timeout = self._bound(timeout)
        if buffer and not self._tls:
            self._write_all(buffer, timeout)
            return
        for start in range(0, len(buffer), _TLS_RECORD):
            self._stream.write(buffer[start : start + _TLS_RECORD], _left(timeout, httpcore.WriteTimeout))

    def _write_all(self, buffer: bytes, timeout: float | None) -> None:
        """Send bytes as they are. The timeout of `sendall` bounds the whole of it, not each piece that is taken."""
        connection: socket.socket = self._stream.get_extra_info("socket")
        seconds = _left(timeout, httpcore.WriteTimeout)
        try:
            connection.settimeout(seconds)
            connection.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = self._bound(timeout)
        seconds = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds), timeout, tls=True)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _bound(self, timeout: float | None) -> float | None:
        return self._opened_by if timeout is None else timeout


class AsyncDeadlineBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for the asynchronous client, each step of which respects a `Deadline`."""

    def __init__(self) -> None:
        self._backend: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: _SocketOptions = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers."""
        seconds = _left(timeout, httpcore.ConnectTimeout)
        stream = await self._backend.connect_tcp(host, port, seconds, local_address, socket_options)
        return _AsyncStream(stream, timeout)


class _AsyncStream(httpcore.AsyncNetworkStream):
    """A connection of the asynchronous client; see `_Stream`. Its backend bounds each step as a whole."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, opened_by: float | None) -> None:
        self._stream = stream
        self._opened_by = opened_by

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, _left(self._bound(timeout), httpcore.ReadTimeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, _left(self._bound(timeout), httpcore.WriteTimeout))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        timeout = self._bound(timeout)
        seconds = _left(timeout, httpcore.ConnectTimeout)
        return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, seconds), timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _bound(self, timeout: float | None) -> float | None:
        return self._opened_by if timeout is None else timeout
