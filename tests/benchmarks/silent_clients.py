"""Attack `nextk serve` by silent and slow clients and by clients that do not read, and measure who is answered.

Run by hand on Linux: `python -m tests.benchmarks.silent_clients [attack ...]`. The server runs in a process of its own
with its default limits. Each attack opens its connections at once and goes on until the server has ended them all,
while an honest client searches and another process asks `/healthz` on a new connection each time.
"""

import contextlib
import http.client
import json
import multiprocessing
import resource
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from nextk import Index, Vector
from tests.support.server_process import ServerProcess, serving

TOKEN = "benchmark"
CLIENTS = 1_100
RECORDS, DIMENSION = 2_000, 256
PAUSE = 0.02
LONGEST = 120
"""Seconds after which an attack counts as one that does not end."""

AUTHORIZED = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Attack:
    """The bytes that each connection of an attack sends.

    Attributes:
        clients: The number of connections.
        opening: The bytes that each connection sends at first.
        more: The bytes that it sends again and again, a second apart. Default: none.
        read: Whether it reads the replies. Default `True`.
    """

    clients: int
    opening: bytes
    more: bytes = b""
    read: bool = True


def _body(token: bool) -> bytes:
    head = b"POST /upsert HTTP/1.1\r\nContent-Length: 1000000\r\n" + (AUTHORIZED if token else b"Host: localhost\r\n")
    return head + b'\r\n[{"id":'


_LARGE = b'{"vector":[' + b",".join([b"1"] * DIMENSION) + b'],"topK":1000,"includeVectors":true}'
_LARGE = b"[" + b",".join([_LARGE] * 8) + b"]"
_QUERY = b"POST /query HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (AUTHORIZED, len(_LARGE), _LARGE)

ATTACKS: Mapping[str, Attack] = {
    "nobody": Attack(0, b""),
    "silent": Attack(CLIENTS, b""),
    "half a head": Attack(CLIENTS, b"GET /info HTTP/1.1\r\nHost: loc"),
    "head byte by byte": Attack(CLIENTS, b"GET /info HTTP/1.1\r\nX: ", b"x"),
    "half a body": Attack(CLIENTS, _body(token=True)),
    "half a body, no token": Attack(CLIENTS, _body(token=False)),
    "body byte by byte": Attack(CLIENTS, _body(token=True), b" "),
    "half 60 MiB bodies": Attack(200, _body(token=True).replace(b"1000000", b"60000000")),
    "no reading": Attack(100, _QUERY, read=False),
}


class Crowd:
    """The connections of an attack.

    Attributes:
        first_words: The status lines that came back, with their numbers.
    """

    def __init__(self, server: ServerProcess, attack: Attack) -> None:
        self._attack = attack
        self._open: dict[int, socket.socket] = {}
        self.first_words: dict[str, int] = {}
        self._poll = select.poll()
        for _ in range(attack.clients):
            connection = socket.socket()
            if not attack.read:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.connect(("127.0.0.1", server.port))
            self._open[connection.fileno()] = connection
            self._poll.register(connection, select.POLLIN if attack.read else select.POLLRDHUP)
            self._send(connection, attack.opening)
        self._sent = time.perf_counter()

    def __len__(self) -> int:
        return len(self._open)

    def step(self) -> None:
        """Read, send what is to be sent again, and forget the connections that have ended."""
        for descriptor, events in self._poll.poll(100):
            self._read(descriptor, ended=bool(events & (select.POLLHUP | select.POLLERR | select.POLLRDHUP)))
        if self._attack.more and time.perf_counter() > self._sent + 1:
            self._sent = time.perf_counter()
            for connection in list(self._open.values()):
                self._send(connection, self._attack.more)

    def _read(self, descriptor: int, *, ended: bool) -> None:
        connection = self._open[descriptor]
        try:
            data = b"" if ended and not self._attack.read else connection.recv(65_536)
        except OSError:
            data = b""
        if data:
            words = data.split(b"\r\n")[0].decode() if data.startswith(b"HTTP/1.1 ") else ""
            if words:
                self.first_words[words] = self.first_words.get(words, 0) + 1
        else:
            self._poll.unregister(connection)
            connection.close()
            del self._open[descriptor]

    def _send(self, connection: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it is noticed when it is read
            connection.send(data)

    def close(self) -> None:
        """Close what is still open."""
        for connection in self._open.values():
            connection.close()


def watch(port: int, call: Callable[[int], int], pipe: Connection) -> None:
    """Call the server over and over until something arrives, and send the times that it took."""
    times = []
    while not pipe.poll(PAUSE):
        began = time.perf_counter()
        try:
            status: object = call(port)
        except (OSError, http.client.HTTPException) as error:
            status = repr(error)
        if status != 200:
            print(f"    an honest client failed: {status}", flush=True)
        times.append(time.perf_counter() - began if status == 200 else float("inf"))
    pipe.send(times)


def request(port: int, method: str, path: str, body: str = "") -> int:
    """Send a request on a new connection, and return the status of the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
        reply = connection.getresponse()
        reply.read()
        return reply.status


def ask_health(port: int) -> int:
    """Ask whether the server is up."""
    return request(port, "GET", "/healthz")


def search(port: int) -> int:
    """Search."""
    return request(port, "POST", "/query", json.dumps({"vector": [1.0] * DIMENSION, "topK": 10}))


def milliseconds(times: list[float]) -> str:
    """Show the 99th percentile and the longest of some times."""
    ranked = sorted(times)
    return f"{1000 * ranked[int(0.99 * (len(ranked) - 1))]:6.0f}{1000 * ranked[-1]:7.0f}"


def measure(name: str, attack: Attack, folder: Path) -> None:
    """Serve, attack, and print what happened."""
    with serving(folder, "--token", TOKEN) as server:
        search(server.port)
        memory = server.memory()
        watchers = []
        for call in (ask_health, search):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=watch, args=(server.port, call, theirs))
            process.start()
            watchers.append((process, ours))
        time.sleep(1)
        server.forget_peak()
        began = time.perf_counter()
        crowd = Crowd(server, attack)
        while len(crowd) and time.perf_counter() < began + LONGEST:
            crowd.step()
        seconds = time.perf_counter() - began
        left = len(crowd)
        time.sleep(5 if not attack.clients else 1)
        results = []
        for process, pipe in watchers:
            pipe.send(None)
            results.append(pipe.recv())
            process.join()
        crowd.close()
        health, searches = results
        answers = ", ".join(
            f"{count} x {words.removeprefix('HTTP/1.1 ')}" for words, count in crowd.first_words.items()
        )
        print(
            f"{name:22}{attack.clients:6}{seconds:7.1f} s{left:5} left  /healthz{milliseconds(health)}  "
            f"search{milliseconds(searches)} ms of {len(searches):5}   {memory:4.0f} -> {server.peak_memory():4.0f} -> "
            f"{server.memory():4.0f} MiB   {answers}",
            flush=True,
        )


def main() -> None:
    """Make an index, and attack it in each way."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    vectors = np.random.default_rng(1).normal(size=(RECORDS, DIMENSION))
    with tempfile.TemporaryDirectory() as folder:
        with Index.embedded(Path(folder) / "notes.nextk") as index:
            index.upsert([Vector(str(number), vector.tolist()) for number, vector in enumerate(vectors)])
        print("attack, clients, seconds until all are gone; p99 and longest; memory before, at the peak, and after")
        for name, attack in ATTACKS.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                measure(name, attack, Path(folder))


if __name__ == "__main__":
    main()
