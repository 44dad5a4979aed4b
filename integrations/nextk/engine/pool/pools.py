"""The codes of the namespaces of an engine: when they are made, kept up with writes, stored, and made anew.

All of that happens in a thread beside the searches. As long as a namespace has no codes, its searches scan all rows.
Rows that were written since are found all the same: a search scores those that have no code yet.

Codes of an index on disk are stored in its file, by the same thread: after a codebook was trained, and whenever more
than one in sixteen is not stored yet. So the cost of storing is a part of that of writing the vectors, and at most so
many are made again by the process that opens the file next.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from nextk.engine import dense
from nextk.engine.columns import Columns, Snapshot
from nextk.engine.pool.codes import VectorCodes, can_be_coded
from nextk.engine.pool.kept_codes import Codebook, CodedRows, coded_rows, restored
from nextk.engine.pool.protocol import PoolCodes
from nextk.engine.pool.ranking import UNCODED_PART, PoolRanking, pool_ranking
from nextk.engine.pool.signs import SignCodes
from nextk.engine.pool.threshold import default_pool_from
from nextk.engine.ranking import LazyRanking
from nextk.engine.schema import Similarity
from nextk.errors import MissingExtraError
from nextk.extras import require

log = logging.getLogger("nextk.engine")

_UNCODED = 64  # rows; a search scores so many in less time than it takes to find the others
_DRIFTED_PART = 8  # a codebook that finds too little is not the fault of the rows if one in so many of them is new
_UNKEPT_PART = 16  # codes are stored once more than one in so many is not, so that not every write stores them all

_WITHOUT_FAISS = (
    "an index of %d vectors is searched by %s, because %s. To search it several times faster, run: pip install "
    "'nextk[scale]'. To have it scanned always, open it with exact=True"
)


class KeepsCodes(Protocol):
    """Keeps the codes of namespaces beyond the end of the process. It raises nothing of its own."""

    def read(self, columns: Columns) -> tuple[Codebook, CodedRows] | None:
        """Return the codes that are kept for a namespace; `None` if there are none."""
        ...

    def write(self, columns: Columns, codebook: Codebook, parts: Iterable[CodedRows], size: int) -> None:
        """Keep the codes of a namespace, in the place of those that it had.

        Args:
            columns: The columns of the namespace.
            codebook: The codebook.
            parts: The rows and their codes.
            size: About how many bytes they have in all.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Coded:
    """The codes of a namespace.

    Attributes:
        codes: The codes; `None` if they cannot be made.
        layout: The layout of the slots that they are of.
        trained: The number of slots when the codebook was trained.
        since: The number of slots behind which those stand that were written since then. Negative if some of these were
            written before the slots got their numbers.
        kept: The number of codes that are kept in the file; -1 if the codebook is not.
    """

    codes: PoolCodes | None
    layout: object
    trained: int
    since: int
    kept: int = -1

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Return whether the codes should be made anew for the slots of a snapshot."""
        if self.layout is not snapshot.layout:
            return True
        written = len(snapshot.rows) - self.since
        if self.codes is not None and self.codes.finds_too_little and written * _DRIFTED_PART > self.trained:
            return True
        return written >= self.trained

    def lags_behind(self, snapshot: Snapshot) -> bool:
        """Return whether too many slots of a snapshot have no codes."""
        total = len(snapshot.rows)
        return self.codes is not None and total - len(self.codes) > min(_UNCODED, total // UNCODED_PART)


class Pools:
    """The codes of the namespaces of an engine, by which large dense searches are ranked.

    Args:
        pool_from: The number of records from which the searches of a namespace have a pool; `None` (the default) for
            the number from which it takes less time, see `nextk.engine.pool.threshold`.
        keeper: Keeps codes beyond the end of the process. Default `None`: they are made by every process.
        exact: Whether no namespace has a pool. Default `False`.

    Attributes:
        pool_from: The number of records that was given.
        exact: Whether no namespace has a pool; `True` from then on if there turn out to be no codes for the similarity,
            because faiss is not installed.
    """

    def __init__(self, pool_from: int | None = None, keeper: KeepsCodes | None = None, *, exact: bool = False) -> None:
        self.pool_from = pool_from
        self.exact = exact
        self._keeper = keeper
        self._closed = False
        self._has_faiss: bool | None = None  # unknown
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._coded: WeakKeyDictionary[Columns, _Coded] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._due: deque[tuple[ref[Columns], Similarity]] = deque()
        self._thread: threading.Thread | None = None

    def ranking(
        self, snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity
    ) -> PoolRanking | LazyRanking:
        """Rank all visible rows by their similarity to the query, by a pool if the namespace is large and has codes.

        Args:
            snapshot: The rows to search.
            query: The dense vector of the query, float32 (dimension,).
            similarity: The function that scores two vectors.

        Returns:
            The rows, best first, sorted only as far as they are read.
        """
        columns = snapshot.owner()
        if columns is None or snapshot.matrix is None or not self.serve(len(columns), len(query)):
            return dense.ranking(snapshot, query, similarity)
        if self._process != os.getpid():  # it was forked: whatever another thread was doing here will not be finished
            self._begin()
        coded = self._coded.get(columns)
        if coded is None or coded.is_stale(snapshot) or coded.lags_behind(snapshot):
            self._renew_soon(columns, similarity)
        if coded is None or coded.codes is None or coded.layout is not snapshot.layout:
            return dense.ranking(snapshot, query, similarity)
        return pool_ranking(snapshot, query, similarity, coded.codes)

    def serve(self, count: int, dimension: int) -> bool:
        """Return whether the dense searches of a namespace have a pool, or will have one once its codes are made.

        Args:
            count: The number of its records.
            dimension: The length of its dense vectors.
        """
        least = default_pool_from(dimension) if self.pool_from is None else self.pool_from
        return not self.exact and count >= least

    def wait(self) -> None:
        """Wait until all codes that are due were made."""
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join()

    def close(self) -> None:
        """Make no more codes, and wait for those that are being made."""
        self._closed = True
        self.wait()

    def _renew_soon(self, columns: Columns, similarity: Similarity) -> None:
        """Let the thread make the codes of a namespace, unless it is about to do so."""
        if not self._can_code(columns, similarity):
            return
        with self._lock:
            if self._closed or any(waiting() is columns for waiting, _ in self._due):
                return
            self._due.append((ref(columns), similarity))
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="nextk-pool", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread can be started, as at the end of a process
                    self._due.clear()
                    return
                self._thread = thread

    def _can_code(self, columns: Columns, similarity: Similarity) -> bool:
        """Return whether there are codes for a similarity. Without faiss, one warning says how to install it.

        It is imported here, because a process that was forked while another thread imports it could not do so.
        """
        if self._has_faiss is None:
            try:
                require("faiss", "scale")
                self._has_faiss = True
            except MissingExtraError:
                self._do_without_faiss(columns, similarity, "faiss-cpu is not installed")
            except Exception as error:  # it is installed, but not for this machine
                self._do_without_faiss(columns, similarity, f"faiss cannot be loaded ({error})")
        return not self.exact

    def _do_without_faiss(self, columns: Columns, similarity: Similarity, reason: str) -> None:
        self._has_faiss = False
        self.exact = similarity is not Similarity.COSINE
        way = "scanning all of them" if self.exact else "the signs of their numbers"
        log.warning(_WITHOUT_FAISS, len(columns), way, reason)

    def _work(self) -> None:
        """Make all codes that are due, one namespace after the other."""
        while True:
            with self._lock:
                if self._closed or not self._due:
                    self._due.clear()
                    self._thread = None
                    return
                reference, similarity = self._due[0]
            columns = reference()
            if columns is not None:
                self._renew(columns, similarity)
                del columns
            with self._lock:
                self._due.popleft()

    def _renew(self, columns: Columns, similarity: Similarity) -> None:
        """Make the codes of a namespace anew, or append those that are missing."""
        snapshot, coded = columns.snapshot, self._coded.get(columns)
        try:
            if coded is None or coded.is_stale(snapshot):
                coded = self._made(columns, snapshot, similarity)
            if coded.codes is not None:
                coded.codes.extend(snapshot, self._is_open)
            self._coded[columns] = coded
            self._coded[columns] = self._kept(columns, snapshot, coded)
        except Exception:  # of faiss, or because there is no memory
            log.exception("no codes could be made of the vectors of a namespace: all of them are scanned")
            self._coded[columns] = _Coded(None, snapshot.layout, len(snapshot.rows), len(snapshot.rows))

    def _made(self, columns: Columns, snapshot: Snapshot, similarity: Similarity) -> _Coded:
        """Return codes that were kept, or that are trained on a snapshot, but empty; none if it cannot be coded."""
        assert snapshot.matrix is not None
        total = len(snapshot.rows)
        if not can_be_coded(snapshot, similarity):
            return _Coded(None, snapshot.layout, total, total)
        former = self._coded.get(columns)
        fits = self._has_faiss and (former is None or former.layout is not snapshot.layout)
        if fits and (coded := self._restored(columns, snapshot, similarity)) is not None:
            return coded
        dimension = snapshot.matrix.blocks[0].shape[1]
        codes: PoolCodes = VectorCodes(dimension, similarity) if self._has_faiss else SignCodes(dimension)
        codes.train(snapshot)
        return _Coded(codes, snapshot.layout, total, total)

    def _restored(self, columns: Columns, snapshot: Snapshot, similarity: Similarity) -> _Coded | None:
        """Return the codes that were kept, unless there are none, or they are too old."""
        kept = None if self._keeper is None else self._keeper.read(columns)
        found = None if kept is None else restored(*kept, snapshot, similarity)
        if kept is None or found is None:
            return None
        since = len(snapshot.rows) - found.written
        coded = _Coded(found.codes, snapshot.layout, kept[0].trained, since, found.found)
        return None if coded.is_stale(snapshot) else coded

    def _kept(self, columns: Columns, snapshot: Snapshot, coded: _Coded) -> _Coded:
        """Keep codes, if many of them are not kept yet."""
        codes = coded.codes
        if self._keeper is None or self._closed or not isinstance(codes, VectorCodes):
            return coded
        if (len(codes) - coded.kept) * _UNKEPT_PART <= len(codes):
            return coded
        written = len(snapshot.rows) - coded.since
        codebook = Codebook(codes.kind, codes.centroids(), coded.trained, written, snapshot.count)
        count = len(codes)
        self._keeper.write(columns, codebook, coded_rows(codes, snapshot), count * codes.code_size)
        return replace(coded, kept=count)

    def _is_open(self) -> bool:
        return not self._closed
