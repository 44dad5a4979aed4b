"""The metrics of the shares of open queries: who holds how many, how large the largest share is, who had to go."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nextk.dispatch import FULL, READ_ONLY
from nextk.engine.protocol import Engine
from nextk.engine.shares import Share


class ShareMetrics(Collector):
    """The figures of the shares of each index, read when the metrics are collected.

    An index may have thousands of namespaces, whose names are for its clients only. So the default namespace stands by
    itself and all the others together, and the size of the largest single share tells how near anyone is to the limit.

    Args:
        engines: The engines by the names of their indexes.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def describe(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the metrics without values, so that registering reads no engine."""
        yield GaugeMetricFamily(
            "nextk_share_open_queries",
            "Resumable queries that are open, by what their clients may do, and by namespace: default or other.",
            labels=["index", "access", "namespace"],
        )
        yield GaugeMetricFamily(
            "nextk_largest_share_open_queries",
            "Resumable queries that the largest share has open: clients of one kind in one namespace.",
            labels=["index"],
        )
        yield CounterMetricFamily(
            "nextk_evicted_queries",
            "Idle resumable queries that were dropped to make room for others.",
            labels=["index"],
        )

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the metrics with their values."""
        by_share, largest, evicted = self.describe()
        for name, engine in list(self._engines.items()):
            shares = engine.query_shares()
            for access in (FULL, READ_ONLY):
                default, other = _sizes(shares.open_queries, access)
                by_share.add_metric([name, access, "default"], default)
                by_share.add_metric([name, access, "other"], other)
            largest.add_metric([name], max(shares.open_queries.values(), default=0))
            evicted.add_metric([name], shares.evicted)
        yield from (by_share, largest, evicted)


def _sizes(open_queries: Mapping[Share, int], access: str) -> tuple[int, int]:
    """Return the number of open queries in the default namespace, and in all others together."""
    default = open_queries.get(Share(access, ""), 0)
    return default, sum(size for share, size in open_queries.items() if share.owner == access) - default
