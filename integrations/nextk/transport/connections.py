"""How a server is reached: directly or by a proxy, with which certificates. Makes the clients of httpx that do so.

Everything that could fail by the environment fails in `Route`, once, when an index is made, and says which variable is
at fault. Without it httpx would read the environment anew for each client, and show proxies' passwords in its errors.
"""

import functools
import importlib.util
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Protocol

import httpcore
import httpx

from nextk.errors import ClientError
from nextk.transport.address import is_resolvable
from nextk.transport.deadlines import AsyncDeadlineBackend, DeadlineBackend
from nextk.transport.proxies import proxy_for, setting_name
from nextk.transport.replies import ACCEPTED_ENCODING

_LIMITS = {"max_connections": 100, "max_keepalive_connections": 20, "keepalive_expiry": 5.0}


class WayToServer(Protocol):
    """The way in which requests reach a server."""

    def open(self) -> httpx.Client:
        """Return a client for blocking calls."""
        ...

    def aopen(self) -> httpx.AsyncClient:
        """Return a client for one event loop."""
        ...


class Route:
    """The way to a server, as the environment says at the time that it is made.

    Args:
        url: The base URL of the server.

    Raises:
        ClientError: The URL has no host that could be looked up, or the environment names a proxy or certificates that
            cannot be used.
    """

    def __init__(self, url: str) -> None:
        server = _parsed(url)
        self._proxy = _Proxy.to(server)
        encrypted = server.scheme == "https" or (self._proxy is not None and self._proxy.encrypted)
        self._certificates = trusted_certificates() if encrypted else None

    def open(self) -> httpx.Client:
        """Return a client for blocking calls. It connects when it is used first."""
        kinds: dict[str, type[httpcore.ConnectionPool]] = {"http": httpcore.HTTPProxy, "socks": httpcore.SOCKSProxy}
        pool = kinds.get(self._kind, httpcore.ConnectionPool)
        return httpx.Client(transport=_HttpcoreTransport(pool(**self._options(DeadlineBackend()))), **_client_options())

    def aopen(self) -> httpx.AsyncClient:
        """Return a client for one event loop. It connects when it is used first."""
        kinds: dict[str, type[httpcore.AsyncConnectionPool]] = {
            "http": httpcore.AsyncHTTPProxy,
            "socks": httpcore.AsyncSOCKSProxy,
        }
        pool = kinds.get(self._kind, httpcore.AsyncConnectionPool)
        transport = _AsyncHttpcoreTransport(pool(**self._options(AsyncDeadlineBackend())))
        return httpx.AsyncClient(transport=transport, **_client_options())

    @property
    def _kind(self) -> str:
        if self._proxy is None:
            return "direct"
        return "socks" if self._proxy.socks else "http"

    def _options(self, backend: object) -> dict[str, Any]:
        proxy = {} if self._proxy is None else self._proxy.options(self._certificates)
        return {"ssl_context": self._certificates, "network_backend": backend, **proxy, **_LIMITS}


def trusted_certificates() -> ssl.SSLContext:
    """Return the certificates that are trusted: those of `SSL_CERT_FILE`, else of `SSL_CERT_DIR`, else of certifi.

    They are loaded once for each value of these variables, since that takes longer than all the rest of a connection.

    Raises:
        ClientError: They cannot be loaded, or the file of `SSLKEYLOGFILE` cannot be written.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
    return _load_certificates(*(os.environ.get(name, "") for name in names))


@functools.lru_cache(maxsize=8)
def _load_certificates(file: str, folder: str, key_log: str) -> ssl.SSLContext:
    if file:
        _require_certificates(file)
    elif folder and not Path(folder).is_dir():
        message = f"SSL_CERT_DIR={folder!r} is not a folder. Name a folder of certificates, or unset it"
        raise ClientError(message)
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        message = f"the certificates that are trusted cannot be loaded: {error}"
        if key_log:
            message = f"SSLKEYLOGFILE={key_log!r} cannot be written: {error}. Name another file, or unset it"
        raise ClientError(message) from error


def _require_certificates(file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ValueError) as error:
        message = f"SSL_CERT_FILE={file!r} cannot be used: {error}. Name a file of certificates (PEM), or unset it"
        raise ClientError(message) from error


def _parsed(url: str) -> httpx.URL:
    """Return a URL that holds no secret as httpx reads it."""
    try:
        server = httpx.URL(url)
    except httpx.InvalidURL as error:
        message = f"{url!r} is not the URL of an index: {error}"
        raise ClientError(message) from error
    if not is_resolvable(server.raw_host.decode()):
        message = f"{url!r} is not the URL of an index: a part of the host's name is empty or too long"
        raise ClientError(message)
    return server


class _Secret(bytes):
    """Bytes that no representation shows, since httpcore logs what it greets a SOCKS proxy with."""

    def __repr__(self) -> str:
        return "'***'"


class _Proxy:
    """A proxy that the environment names.

    Args:
        url: Its URL.

    Attributes:
        socks: Whether it is a SOCKS proxy.
        encrypted: Whether it is spoken to over TLS.
    """

    def __init__(self, url: httpx.URL) -> None:
        self.socks = url.scheme in ("socks5", "socks5h")
        self.encrypted = url.scheme == "https"
        self._address = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/")
        self._login: tuple[bytes, bytes] | None = None
        if url.username or url.password:
            self._login = _Secret(url.username.encode()), _Secret(url.password.encode())

    @classmethod
    def to(cls, server: httpx.URL) -> "_Proxy | None":
        """Return the proxy that leads to a server; `None` for none.

        Raises:
            ClientError: The proxy cannot be used. The message does not show its URL, which may hold a password.
        """
        port = server.port or {"http": 80, "https": 443}[server.scheme]
        setting = proxy_for(server.scheme, server.host, port, urllib.request.getproxies())
        if setting is None:
            return None
        name = setting_name(setting[0], os.environ)
        way_out = f"Correct or unset it, or add {server.host} to NO_PROXY"
        url = _proxy_url(setting[1].strip())
        if url is None:
            message = (
                f"{name} is not the URL of a proxy: it begins with http://, https://, socks5:// or socks5h://, and a "
                f"host and a port follow, as in http://proxy.example:3128. {way_out}"
            )
            raise ClientError(message)
        proxy = cls(url)
        if proxy.socks and importlib.util.find_spec("socksio") is None:
            message = f"{name} names a SOCKS proxy, which needs pip install 'httpx[socks]'. {way_out}"
            raise ClientError(message)
        return proxy

    def options(self, certificates: ssl.SSLContext | None) -> dict[str, Any]:
        """Return what a pool of httpcore has to know of the proxy.

        Args:
            certificates: The certificates that are trusted.
        """
        own = {"proxy_ssl_context": certificates} if self.encrypted else {}
        return {"proxy_url": self._address, "proxy_auth": self._login, **own}


def _proxy_url(value: str) -> httpx.URL | None:
    """Return the URL of a proxy, whose scheme may be missing; `None` if it cannot be used."""
    try:
        url = httpx.URL(value if "://" in value else f"http://{value}")
    except (httpx.InvalidURL, UnicodeError):
        return None
    known = url.scheme in ("http", "https", "socks5", "socks5h") and (url.port is None or 0 < url.port < 65_536)
    return url if known and url.host and is_resolvable(url.raw_host.decode()) else None


class _NoCookies(CookieJar):
    """A jar that keeps and sends no cookies: the protocol has none, and looking for them costs CPU time per request."""

    def extract_cookies(self, response: object, request: object) -> None: ...

    def add_cookie_header(self, request: object) -> None: ...


def _client_options() -> dict[str, Any]:
    return {"cookies": _NoCookies(), "trust_env": False, "headers": {"Accept-Encoding": ACCEPTED_ENCODING}}


class _HttpcoreTransport(httpx.BaseTransport):
    """Sends the requests of httpx over connections of httpcore, which unlike httpx lets us pass a network backend."""

    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _translated():
            response = self._pool.handle_request(_to_httpcore(request))
        return _from_httpcore(response, _ReplyStream(response))

    def close(self) -> None:
        self._pool.close()


class _ReplyStream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _AsyncHttpcoreTransport(httpx.AsyncBaseTransport):
    """Does what `_HttpcoreTransport` does for asynchronous calls."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _translated():
            response = await self._pool.handle_async_request(_to_httpcore(request))
        return _from_httpcore(response, _AsyncReplyStream(response))

    async def aclose(self) -> None:
        await self._pool.aclose()


class _AsyncReplyStream(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def _to_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _from_httpcore(response: httpcore.Response, body: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.Response:
    headers = response.headers
    if 300 <= response.status < 400:
        # httpx would read where a redirect leads, and fail if that is no URL, although none is followed.
        headers = [(name, value) for name, value in headers if name.lower() != b"location"]
    return httpx.Response(response.status, headers=headers, stream=body, extensions=response.extensions)


_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise an error of httpcore as the error of httpx that has its name."""
    try:
        yield
    except _FAILURES as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise kind(str(error)) from error
