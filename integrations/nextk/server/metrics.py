"""The metrics of the server, in the format of Prometheus."""

import contextlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nextk.engine.protocol import Engine
from nextk.errors import RefusedError
from nextk.server.pool_metrics import PoolMetrics
from nextk.server.share_metrics import ShareMetrics


class Metrics:
    """The metrics of one application, in a registry of their own.

    The memory of the process, its CPU time and its open files are among them on Linux only, since `prometheus_client`
    reads them from `/proc`.

    Args:
        engines: The engines by the names of their indexes. Their sizes are read each time the metrics are rendered.
        root: Returns the name of the index at the root, or `None` if there is none.
        waiting: Returns the number of requests that wait for their turn, for each index that has any.
    """

    def __init__(
        self, engines: Mapping[str, Engine], root: Callable[[], str | None], waiting: Callable[[], Mapping[str, int]]
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nextk_requests", "Requests answered.", ["index", "command", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "nextk_request_seconds",
            "Seconds until a request was answered.",
            ["index", "command"],
            registry=self._registry,
        )
        self._refusals = Counter(
            "nextk_refusals", "Requests refused, by reason.", ["index", "reason"], registry=self._registry
        )
        build = Info("nextk_build", "The versions of nextk and Python.", registry=self._registry)
        build.info({"version": importlib.metadata.version("nextk"), "python": platform.python_version()})
        ProcessCollector(registry=self._registry)
        self._registry.register(_Indexes(engines, root, waiting))
        self._registry.register(ShareMetrics(engines))
        self._registry.register(PoolMetrics(engines))

    def answered(self, index: str, command: str, status: int, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            index: The name of the index, or `UNKNOWN`.
            command: The name of the command, or `UNKNOWN`.
            status: The HTTP status of the answer.
            seconds: The time until the answer.
        """
        self._requests.labels(index, command, str(status)).inc()
        self._seconds.labels(index, command).observe(seconds)

    def refused(self, index: str, reason: str) -> None:
        """Count a request that was refused.

        Args:
            index: The name of the index, or `UNKNOWN`.
            reason: The word of `nextk.server.refusals` for it.
        """
        self._refusals.labels(index, reason).inc()

    def render(self) -> bytes:
        """Return all metrics as text. The call blocks, since it reads the size of every engine."""
        return generate_latest(self._registry)


class _Indexes(Collector):
    """The figures of each engine, and which of them answers at the root, read when the metrics are collected."""

    def __init__(
        self, engines: Mapping[str, Engine], root: Callable[[], str | None], waiting: Callable[[], Mapping[str, int]]
    ) -> None:
        self._engines = engines
        self._root = root
        self._waiting = waiting

    def describe(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the metrics without values, so that registering reads no engine."""
        yield GaugeMetricFamily("nextk_open_queries", "Resumable queries that are open.", labels=["index"])
        yield GaugeMetricFamily("nextk_records", "Records stored.", labels=["index"])
        yield GaugeMetricFamily("nextk_at_root", "1 for the index that answers at the root.", labels=["index"])
        yield CounterMetricFamily("nextk_filter_seconds", "Seconds that filters have taken.", labels=["index"])
        yield GaugeMetricFamily(
            "nextk_waiting_requests", "Requests that wait for their turn to search or write.", labels=["index"]
        )

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the metrics with their values."""
        open_queries, records, at_root, filter_seconds, waiting = self.describe()
        waiting_now = self._waiting()
        for name, engine in list(self._engines.items()):
            open_queries.add_metric([name], engine.open_queries())
            at_root.add_metric([name], name == self._root())
            filter_seconds.add_metric([name], engine.filter_seconds())
            waiting.add_metric([name], waiting_now.get(name, 0))
            with contextlib.suppress(RefusedError):  # a file that cannot be read hides no other figure
                records.add_metric([name], sum(engine.stats().counts.values()))
        yield from (open_queries, records, at_root, filter_seconds, waiting)
