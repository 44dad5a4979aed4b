"""Fair shares of open queries: nobody has too many, and nobody's is dropped who was there a moment ago."""

from collections.abc import Iterator
from contextlib import contextmanager

from nextk.engine.engine import EmbeddedEngine
from tests.simulation.lifetimes import Lifetimes

_EVICTABLE_AFTER = 60  # seconds, as promised to clients


class Fairness:
    """Watches the open queries of an engine while requests are answered.

    Args:
        cap: The number of queries that may be open.
        lifetimes: When each query was read last.

    Attributes:
        unfair: What was not fair, in words.
        evicted: The number of queries that were dropped to make room for others.
    """

    def __init__(self, cap: int, lifetimes: Lifetimes) -> None:
        self.unfair: list[str] = []
        self.evicted = 0
        self._cap = cap
        self._half = (cap + 1) // 2
        self._lifetimes = lifetimes

    @contextmanager
    def watching(self, engine: EmbeddedEngine) -> Iterator[None]:
        """Watch a request that opens a query while it is answered in the block.

        Args:
            engine: The engine that answers.
        """
        queries = engine._open_queries
        queries.sweep()
        now, before, evicted = queries._clock(), list(queries._open), queries.evicted
        yield
        if queries.evicted > evicted:
            gone = [name for name in before if name not in queries._open]
            idle = [round(self._lifetimes.idle_seconds(name, now)) for name in gone]
            self._lifetimes.end(gone, stopped=False)
            self.evicted += len(gone)
            if len(gone) > 1 or min(idle) < _EVICTABLE_AFTER:
                self.unfair.append(f"queries that were idle for {idle} s were dropped for a single other one")
        largest = max(queries.shares().values(), default=0)
        if len(queries) > self._cap or (largest > self._half and self._cap > 1):
            self.unfair.append(f"{len(queries)} queries are open, {largest} of one share, where {self._cap} may be")
