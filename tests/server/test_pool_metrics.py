"""`/metrics` of indexes on PostgreSQL: the connections of their pools."""

from prometheus_client.parser import text_string_to_metric_families

from nextk.engine.factory import open_engine
from nextk.server.metrics import Metrics
from tests.support.postgres_indexes import fill, postgres_index
from tests.support.postgres_server import PostgresServer

OPTIONS = {"max_open_queries": 3}
LABELS = ("pool", "state")


def figures(metrics: Metrics) -> dict[tuple[str | None, ...], float]:
    """The figures about connections, by the name of the metric and its the values of `LABELS`."""
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [sample for family in families for sample in family.samples if "postgres" in sample.name]
    return {
        (sample.name.removeprefix("nextk_postgres_"), *map(sample.labels.get, LABELS)): sample.value
        for sample in samples
    }


def test_open_queries_hold_connections(postgres_server: PostgresServer, postgres_schema: str) -> None:
    """The metrics tell how many connections of each pool are in use and idle, how many there may be, and who waits."""
    with postgres_index(postgres_server.dsn, postgres_schema, options=OPTIONS, type="dense") as index:
        fill(index)
        engine = index._transport._open().engine  # type: ignore[attr-defined]
        metrics = Metrics({"docs": engine}, lambda: None, dict)
        assert 0 == figures(metrics)["connections", "cursors", "in_use"]
        first, second = (index.resumable_query([1.0, 0.0], top_k=5)[1] for _ in range(2))
        with first:
            second.stop()
            found = figures(metrics)
        assert (1, 1) == (found["connections", "cursors", "in_use"], found["connections", "cursors", "idle"])
        assert (7, 8) == (found["max_connections", "cursors", None], found["max_connections", "workers", None])
        assert (0, 0) == (found["waiting_calls", "cursors", None], found["waiting_calls", "workers", None])
        assert found["connections", "workers", "idle"] > 0


def test_an_index_without_connections() -> None:
    """A server none of whose indexes is on PostgreSQL has no metrics of connections."""
    engine = open_engine(None, {"type": "dense", "dimension": 1})
    try:
        assert {} == figures(Metrics({"docs": engine}, lambda: None, dict))
    finally:
        engine.close()
