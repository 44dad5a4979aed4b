"""The order of a dense search that goes on in PostgreSQL, by a scan that holds a connection until it has ended."""

import numpy as np

from nextk.engine.ranking import NO_ROWS, Ranked
from nextk.engine.schema import Similarity
from nextk.errors import QueryNotFound, RefusedError, TransportError
from nextk.postgres.database import Database, DatabaseConnection
from nextk.postgres.ranked_query import RankedQuery
from nextk.postgres.ranking import scores_of_distances
from nextk.postgres.scan import RankedScan, ScanOptions

__all__ = ["CursorOrder"]


class CursorOrder:
    """Ranked rows that are taken from a scan as they are needed.

    The scan sees the tables as they are at its first page. Its order is that of pgvector's index, repaired within a
    window: a few rows may come a page late, but none is lost or repeated, and the scores are those of the vectors.

    Args:
        database: The connections.
        query: The search, whose keys are rows.
        similarity: The function that scores two vectors.
        options: The settings of the scan.

    Raises:
        psycopg_pool.PoolTimeout: As many searches as are allowed hold a connection.
    """

    splits = True

    def __init__(self, database: Database, query: RankedQuery, similarity: Similarity, options: ScanOptions) -> None:
        self._database = database
        self._similarity = similarity
        self._ready = NO_ROWS
        self._begun = False
        self._scan: RankedScan | None = None
        self._connection: DatabaseConnection | None = database.take_cursor_connection()
        try:
            self._scan = RankedScan(self._connection, query, options=options)
        except BaseException:
            self.close()
            raise

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the order is nearly exhausted, none once it is.

        Raises:
            QueryNotFound: The connection was lost after a page had been read, or PostgreSQL has ended it because it was
                idle for too long, so the search cannot go on.
            RefusedError: The connection was lost before that (status 503), or PostgreSQL has refused the search.
        """
        missing = count - len(self._ready)
        if missing > 0 and self._connection is not None:
            self._ready = self._ready.followed_by(self._fetch(missing))
        taken, self._ready = self._ready.split(count)
        return taken

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front."""
        self._ready = rows.followed_by(self._ready)

    def close(self) -> None:
        """Let another search have the connection. Rows that were put back can still be taken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                if self._scan is not None:
                    self._scan.close()
            finally:
                self._database.return_cursor_connection(connection)

    def _fetch(self, count: int) -> Ranked:
        assert self._scan is not None, "it is made with the order"
        try:
            found = self._scan.fetch_next(count)
        except TransportError as error:
            self.close()
            raise self._lost(error) from error
        except QueryNotFound:
            self.close()
            raise
        self._begun = True
        if len(found) < count:
            self.close()
        rows = np.fromiter((int(row.key) for row in found), np.int64, len(found))
        distances = np.fromiter((row.distance for row in found), np.float64, len(found))
        return Ranked(rows, scores_of_distances(distances, self._similarity))

    def _lost(self, error: TransportError) -> RefusedError:
        if self._begun:
            return QueryNotFound(f"Resumable query has ended, because {error}. Start the search again", 404)
        return RefusedError(f"The search could not begin: {error}. Send it again", 503)
