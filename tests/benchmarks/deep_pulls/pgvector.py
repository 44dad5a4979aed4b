"""pgvector on a PostgreSQL server of its own: a table with an HNSW graph, asked again or read by a cursor.

The CPU times are those of the server process that answers, and of this one.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import psycopg
from pgvector.psycopg import register_vector

from tests.benchmarks.deep_pulls.corpora import Corpus, Question
from tests.benchmarks.deep_pulls.ways import AskingAgain, Pull, Way
from tests.support.postgres_server import postgres_running

_MOST_EXPLORED = 1_000  # the largest value of hnsw.ef_search
_SETTINGS = (
    "SET maintenance_work_mem = '2GB'",
    "SET max_parallel_maintenance_workers = 0",
    "SET max_parallel_workers_per_gather = 0",
    "SET jit = off",
    "SET enable_seqscan = off",
    "SET hnsw.iterative_scan = strict_order",
    "SET hnsw.max_scan_tuples = 1000000",
)
_NEAREST = "SELECT id FROM passages ORDER BY embedding <#> %s"


class PgvectorTable:
    """A table of all rows on a server that is stopped at the end.

    Args:
        corpus: The rows.
        stack: What stops the server.
    """

    def __init__(self, corpus: Corpus, stack: ExitStack) -> None:
        server = stack.enter_context(postgres_running(shared_buffers="1GB"))
        self._connection = stack.enter_context(psycopg.connect(server.dsn, autocommit=True))
        register_vector(self._connection)
        for statement in _SETTINGS:
            self._connection.execute(statement)
        self._clock = ~self._connection.info.backend_pid << 3 | 2  # as clock_getcpuclockid makes it of a process
        self._count = len(corpus)
        self._numbers = count(1)  # of cursors
        self._began = self.cpu()
        self._fill(corpus)
        self._executor = stack.enter_context(ThreadPoolExecutor(1))
        self._built = self._executor.submit(self._build)

    def cpu(self) -> float:
        """Return the CPU seconds that the server process of the connection has spent."""
        return time.clock_gettime(self._clock)

    def _fill(self, corpus: Corpus) -> None:
        connection, dimension = self._connection, corpus.vectors.shape[1]
        connection.execute(f"CREATE TABLE passages (id integer, embedding vector({dimension}))")
        copying = "COPY passages (id, embedding) FROM STDIN WITH (FORMAT BINARY)"
        with connection.cursor() as cursor, cursor.copy(copying) as copy:
            copy.set_types(["int4", "vector"])
            for row, vector in enumerate(corpus.vectors):
                copy.write_row([row, vector])

    def _build(self) -> float:
        """Build the graph, and return the CPU seconds that the server has spent since it began to fill the table."""
        self._connection.execute("CREATE INDEX ON passages USING hnsw (embedding vector_ip_ops)")
        self._connection.execute("VACUUM ANALYZE passages")
        return self.cpu() - self._began

    def ways(self) -> Iterator[Way]:
        """Yield both ways to go on with a search, once the graph is built."""
        seconds = self._built.result()
        yield Way("pgvector asked again", self._asked_again, seconds, other_cpu=self.cpu)
        yield Way("pgvector cursor", self._cursor, seconds, other_cpu=self.cpu)

    def _asked_again(self, question: Question) -> AskingAgain:
        return AskingAgain(lambda wanted: self._ask(question, wanted), self._count)

    def _ask(self, question: Question, wanted: int) -> list[Any]:
        explored = min(max(100, round(1.3 * wanted)), _MOST_EXPLORED)
        self._connection.execute(f"SET hnsw.ef_search = {explored}")
        found = self._connection.execute(f"{_NEAREST} LIMIT {wanted}", [question.vector], binary=True)
        return [row for (row,) in found]

    @contextmanager
    def _cursor(self, question: Question) -> Iterator[Pull]:
        connection = self._connection
        connection.execute("SET hnsw.ef_search = 100")
        with connection.transaction(), connection.cursor(f"pulls_{next(self._numbers)}", binary=True) as cursor:
            cursor.execute(_NEAREST, [question.vector])
            yield lambda wanted: [row for (row,) in cursor.fetchmany(wanted)]
