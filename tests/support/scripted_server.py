"""A server on a free port of this machine that does what a script says, however wrong."""

import contextlib
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nextk.transport.numbering import HEADER, VERSION

TOKEN = "s3cret-t0ken"

CERTIFICATE = Path(__file__).with_name("certificate.pem")
"""A certificate for 127.0.0.1 that signs itself, and its key; valid until 2126."""


@dataclass(frozen=True)
class Act:
    """What to do with one request.

    Attributes:
        reply: The bytes to answer with; `None` closes the connection instead.
        read: Whether to read the request first.
        wait: Seconds to let the client wait before that.
        more: What to send after the reply, piece by piece, until the client has left.
        pace: Seconds before each of these pieces.
    """

    reply: bytes | None
    read: bool = True
    wait: float = 0.0
    more: Iterable[bytes] = ()
    pace: float = 0.0


def answer(status: int, body: bytes, kind: str = "application/json", *, cut: int = 0) -> Act:
    """Answer with a status and a body, the last `cut` bytes of which never come."""
    lines = [
        f"HTTP/1.1 {status} Whatever",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return Act("\r\n".join([*lines, "", ""]).encode() + body[: len(body) - cut])


def result(value: Any) -> Act:
    """Succeed."""
    return answer(200, json.dumps({"result": value}).encode())


def error(status: int, text: str) -> Act:
    """Refuse."""
    return answer(status, json.dumps({"error": text, "status": status}).encode())


def headed(act: Act, name: str, value: str) -> Act:
    """Answer in the same way, with another header."""
    first, rest = (act.reply or b"").split(b"\r\n", 1)
    return replace(act, reply=b"\r\n".join([first, f"{name}: {value}".encode(), rest]))


def numbered(act: Act) -> Act:
    """Answer in the same way, and say that the server numbers pages."""
    return headed(act, HEADER, VERSION)


def late(act: Act, seconds: float = 0.25) -> Act:
    """The same, later."""
    return Act(act.reply, act.read, seconds)


def dripping(act: Act, *, at_once: int = 0, pace: float = 0.05) -> Act:
    """Send the same reply a byte at a time, after the first `at_once` bytes."""
    reply = act.reply or b""
    rest = (reply[position : position + 1] for position in range(at_once, len(reply)))
    return Act(reply[:at_once], act.read, more=rest, pace=pace)


def endless(head: bytes, piece: bytes, *, pace: float = 0.0) -> Act:
    """Send some bytes, then a piece again and again, for as long as the client listens."""
    return Act(head, more=itertools.repeat(piece), pace=pace)


HANG_UP = Act(None)
"""Read the request, then close the connection."""
SLAM = Act(None, read=False)
"""Close the connection at once."""


@dataclass(frozen=True)
class Seen:
    """A request that was read."""

    path: str
    body: Any
    headers: dict[str, str] = field(repr=False)


class ScriptedServer:
    """Plays a script, one act per connection, then answers `"Success"` to everything.

    Args:
        script: The acts.
        encrypted: Whether it speaks TLS, with `CERTIFICATE`. Default `False`.

    Attributes:
        url: The base URL.
        seen: The requests that were read.
        connections: How many connections came.
        pieces: How many pieces were sent after the beginnings of replies.
    """

    def __init__(self, *script: Act, encrypted: bool = False) -> None:
        self._script = list(script)
        self._tls = _server_side() if encrypted else None
        self.seen: list[Seen] = []
        self.connections = 0
        self.pieces = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if encrypted else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._players: list[threading.Thread] = []
        self.arrived = threading.Event()
        """Set once a request that is answered late has been read."""

    @property
    def commands(self) -> list[str]:
        """The commands that were read, in order."""
        return [seen.path.strip("/") for seen in self.seen]

    def expect(self, *script: Act) -> None:
        """Add to the script."""
        self._script += script

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave; stopping again does nothing."""
        if self._thread.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join()
        for player in self._players:
            player.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            act = self._script.pop(0) if self._script else result("Success")
            player = threading.Thread(target=self._play, args=(connection, act), daemon=True)
            self._players.append(player)
            player.start()

    def _play(self, connection: socket.socket, act: Act) -> None:
        connection.settimeout(5)
        with contextlib.suppress(OSError), self._encrypted(connection) as stream:  # an error: the client has left
            if act.read:
                self.seen.append(_read(stream))
            if act.wait:
                self.arrived.set()
                time.sleep(act.wait)
            if act.reply is not None:
                stream.sendall(act.reply)
            for piece in act.more:
                time.sleep(act.pace)
                stream.sendall(piece)
                self.pieces += 1

    def _encrypted(self, connection: socket.socket) -> socket.socket:
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)


def _read(connection: socket.socket) -> Seen:
    with connection.makefile("rb") as stream:
        request = stream.readline().decode()
        if not request:
            raise ConnectionResetError
        path = request.split(" ")[1]
        headers = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
    return Seen(path, json.loads(body) if body else None, headers)


def _server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def unused_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
