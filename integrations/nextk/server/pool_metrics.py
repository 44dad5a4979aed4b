"""The metrics of the connections that indexes on PostgreSQL have."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nextk.engine.protocol import Engine
from nextk.postgres.pool_use import PooledEngine


class PoolMetrics(Collector):
    """The figures of the pools of each index on PostgreSQL, read when the metrics are collected.

    An index has three pools: `workers` for short statements, `writers` for what may wait for a lock, and `cursors` with
    one connection for each open query that goes on in PostgreSQL. Indexes that are not on PostgreSQL have none, and no
    figures here.

    Args:
        engines: The engines by the names of their indexes.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without values."""
        yield GaugeMetricFamily(
            "nextk_postgres_connections",
            "Connections to PostgreSQL, in use or idle.",
            labels=["index", "pool", "state"],
        )
        yield GaugeMetricFamily(
            "nextk_postgres_waiting_calls", "Calls that wait for a connection.", labels=["index", "pool"]
        )
        yield GaugeMetricFamily(
            "nextk_postgres_max_connections", "The largest number of connections.", labels=["index", "pool"]
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics with their values; none if no index is on PostgreSQL."""
        connections, waiting, limit = families = tuple(self.describe())
        for name, engine in list(self._engines.items()):
            if not isinstance(engine, PooledEngine):
                continue
            for pool, use in engine.connection_pools().items():
                connections.add_metric([name, pool, "in_use"], use.in_use)
                connections.add_metric([name, pool, "idle"], use.idle)
                waiting.add_metric([name, pool], use.waiting)
                limit.add_metric([name, pool], use.limit)
        yield from (family for family in families if family.samples)
