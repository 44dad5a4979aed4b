"""Receive the backup of a served index over HTTP, and notice if not all of it arrives, or anything else."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from typing import BinaryIO

import httpx

from nextk.errors import AuthenticationError, ClientError, RefusedError, TransportError
from nextk.transport.connections import Route, WayToServer

__all__ = ["download_backup"]

_CONNECT, _SILENCE = 10.0, 300.0  # seconds; the server first makes the copy, and says nothing meanwhile
_LONGEST_REFUSAL = 64 * 1024  # bytes
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]+=*):")


def download_backup(
    url: str,
    token: str | None,
    file: BinaryIO,
    on_progress: Callable[[int, int], None] = lambda _received, _size: None,
    *,
    route: WayToServer | None = None,
) -> None:
    """Receive the backup of an index that `nextk serve` serves.

    Args:
        url: The base URL of the index, as `nextk.transport.address.usable_url` returned it.
        token: The full token of the server; `None` if it has none.
        file: The file that the backup is written to. What is in it after an error is not whole.
        on_progress: Called with the number of bytes that have arrived, and of all. Default: nothing.
        route: The way to the server. Default `None`, for the one that the environment says.

    Raises:
        RefusedError: The server refused.
        TransportError: Not all of the backup has arrived, or something else than a backup.
        ClientError: The URL or what the environment says of proxies and certificates cannot be used.
        OSError: The file cannot be written.
    """
    headers = {"Accept-Encoding": "identity"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    timeouts = {"connect": _CONNECT, "pool": _CONNECT, "write": _CONNECT, "read": _SILENCE}
    with (Route(url) if route is None else route).open() as client:
        try:
            request = client.build_request("GET", f"{url}/backup", headers=headers, extensions={"timeout": timeouts})
            response = client.send(request, stream=True)
            try:
                _receive(response, url, file, on_progress)
            finally:
                response.close()
        except httpx.InvalidURL as error:
            message = f"{url!r} is not a usable URL: {error}"
            raise ClientError(message) from error
        except httpx.HTTPError as error:
            message = f"the backup of {url} has not arrived: {str(error) or type(error).__name__}. Nothing was kept"
            raise TransportError(message) from error


def _receive(response: httpx.Response, url: str, file: BinaryIO, on_progress: Callable[[int, int], None]) -> None:
    if response.status_code != httpx.codes.OK:
        raise _refusal(response, url)
    size, expected = _announced(response, url)
    digest, received = hashlib.sha256(), 0
    for chunk in response.iter_raw():
        file.write(chunk)
        digest.update(chunk)
        received += len(chunk)
        on_progress(received, size)
    if (received, digest.digest()) != (size, expected):
        message = f"the backup of {url} was changed or cut short on its way: {received} of {size} bytes arrived"
        raise TransportError(message)


def _announced(response: httpx.Response, url: str) -> tuple[int, bytes]:
    """Return the size and the digest that a server announces for a backup."""
    length = response.headers.get("Content-Length", "")
    digest = _DIGEST.fullmatch(response.headers.get("Content-Digest", ""))
    try:
        if digest is not None and length.isdecimal() and "Content-Encoding" not in response.headers:
            return int(length), base64.b64decode(digest[1])
    except (ValueError, binascii.Error):
        pass
    message = f"what answers at {url} sends no backup with its size and digest: is it `nextk serve`, without a proxy?"
    raise TransportError(message)


def _refusal(response: httpx.Response, url: str) -> RefusedError | TransportError:
    """Return the error for a reply that is no backup."""
    body, status = bytearray(), response.status_code
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > _LONGEST_REFUSAL:
            break
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return TransportError(f"{url} has answered with the status {status}, and not as `nextk serve` does")
    kind = AuthenticationError if status == 401 or text.startswith("Forbidden") else RefusedError
    return kind(text, status)
