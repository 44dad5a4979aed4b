"""A process of its own that asks a server for its health again and again, beside whatever else happens.

python -m tests.benchmarks.load.probe PORT     # until its standard input ends; then prints a JSON list of seconds
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.subprocesses import REPOSITORY_PATH

PAUSE = 0.02
"""Seconds between two questions."""


@contextmanager
def probing(port: int) -> Iterator[list[float]]:
    """Ask for the health of a server while the block runs. The list is filled with seconds when the block is left."""
    seconds: list[float] = []
    with subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-m", __name__, str(port)],
        env=REPOSITORY_PATH,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield seconds
        finally:
            output, _ = process.communicate("")
            seconds += json.loads(output)


def main() -> None:
    """Ask until standard input ends."""
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    taken = []
    while not ended.wait(PAUSE):
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
        began = time.perf_counter()
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        assert b"ok" in connection.getresponse().read(), "the server is healthy"
        taken.append(time.perf_counter() - began)
        connection.close()
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
