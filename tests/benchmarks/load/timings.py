"""The times of requests by kind, and the faults that clients have found."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Collects how long each request took, and what was wrong.

    Attributes:
        faults: A sentence for each fault: a refusal, a lost, repeated or misplaced id, a lost write.
        replies: The bytes of the last reply of each kind, which a peer may return as well.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.replies: dict[str, bytes] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, kind: str) -> Iterator[None]:
        """Count the block as a request of a kind."""
        began = time.perf_counter()
        yield
        self._seconds[kind].append(time.perf_counter() - began)

    @property
    def count(self) -> int:
        """The number of requests."""
        return sum(map(len, self._seconds.values()))

    def counts(self) -> dict[str, int]:
        """Return the number of requests of each kind."""
        return {kind: len(seconds) for kind, seconds in sorted(self._seconds.items())}

    def lines(self, of: str) -> Iterator[str]:
        """Yield a row of a table for each kind: number, median and 99th percentile in milliseconds, bytes."""
        for kind, seconds in sorted(self._seconds.items()):
            size = len(self.replies.get(kind, b""))
            yield (
                f"| {of} | {kind} | {len(seconds):,} | {1e3 * statistics.median(seconds):.1f} "
                f"| {1e3 * percentile(seconds, 0.99):.1f} | {size:,} |"
            )


def percentile(values: list[float], part: float) -> float:
    """Return the value below which a part of the values lies."""
    return sorted(values)[int(part * (len(values) - 1))]
