"""`nextk serve` in a process of its own, whose CPU time and memory can be read, and raw requests to it. Linux only."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from tests.support.subprocesses import ROOT

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server.

    Attributes:
        pid: The id of its process.
        port: The port on 127.0.0.1 that it listens on.
    """

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> float:
        """Return the resident memory of the process in MiB."""
        return self._memory("VmRSS")

    def peak_memory(self) -> float:
        """Return the largest resident memory since the start of the process, or since `forget_peak`, in MiB."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak of the memory begin at what the process uses now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="utf-8")

    def _memory(self, kind: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        found = re.search(rf"^{kind}:\s+(\d+) kB", status, re.MULTILINE)
        assert found, "every process has a resident size"
        return int(found[1]) / 1024


@contextmanager
def serving(data: Path, *options: str, program: Sequence[str] = ("-m", "nextk")) -> Iterator[ServerProcess]:
    """Serve the indexes of a folder while the block runs.

    Args:
        data: The folder of the indexes.
        options: Further arguments of `nextk serve`.
        program: The arguments of the interpreter before those of the command line. Default: the installed command.
    """
    command = [*program, "serve", "--quiet", "--port", "0", "--data", str(data), *options]
    with started(command, {**os.environ, "PYTHONPATH": ROOT}) as server:
        yield server


@contextmanager
def started(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    """Run a server while the block runs.

    Args:
        arguments: The arguments of the interpreter. The server has to print a line that ends in `_URL=` and its URL.
        environment: The environment of the process.
    """
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout, "it is a pipe"
            port = next(int(found[1]) for line in process.stdout if (found := re.search(r"_URL=http.*:(\d+)", line)))
            yield ServerProcess(process.pid, port)
        finally:
            process.terminate()


class RawConnection:
    """A connection that sends one request of HTTP/1.1 after the other, and costs little itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: ServerProcess) -> Self:
        """Connect to a server."""
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def post(self, command: str, body: object) -> Any:
        """Send a command of the protocol, and return its result. Every refusal is an error."""
        status, reply = await self.send(command, json.dumps(body).encode())
        assert status == HTTPStatus.OK, reply
        return json.loads(reply)["result"]

    async def send(self, path: str, content: bytes) -> tuple[int, bytes]:
        """Send a body to a path, and return the status and the body of the reply."""
        head = f"POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self._writer.write(head.encode() + content)
        headers = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", headers)
        assert length, headers
        return int(headers.split(b" ", 2)[1]), await self._reader.readexactly(int(length[1]))

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()
