"""Schemathesis over the description of a server, for longer than in the tests.

Run by hand: `python -m tests.benchmarks.openapi 200`, with the number of examples for each operation. Every path is
requested by every method, on indexes of each kind, with a token and without. A report is printed for each server whose
replies are not as described, and then the exit status is 1.
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.support.described_server import violations
from tests.support.local_server import TOKEN, LocalServer

KINDS: dict[str, dict[str, object]] = {
    "dense": {"type": "dense", "dimension": 2},
    "sparse": {"type": "sparse", "sparse_embedding": "bm25"},
    "hybrid": {"type": "hybrid", "embedding": "static", "sparse_embedding": "bm25"},
}


def run(kind: str, token: str | None, examples: int) -> bool:
    """Check a server with one index, and return whether all of its replies are as described."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, LocalServer(token=token, read_only_token=None) as server:
        server.add(kind, **KINDS[kind])
        phases = "coverage,fuzzing,stateful"
        report = violations(server.url, Path(folder), token=token, examples=examples, phases=phases)
    tokens = "no token" if token is None else "a token"
    print(f"{kind} with {tokens}: {report or 'as described'} ({time.perf_counter() - started:.0f} s)")
    return not report


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    outcomes = [run(kind, token, count) for kind in KINDS for token in (None, TOKEN)]
    sys.exit(0 if all(outcomes) else 1)
