"""Indexes with pools in several processes and threads. None may hang or end, so each is tried in a process of its own.

A process that was forked hangs for ever as soon as OpenMP uses two threads in it, if it had done so in the process
before. So pools hold it to one, in every thread that searches or makes codes.
"""

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from nextk import Index
from nextk.engine.schema import Similarity
from tests.engine.pool.test_recall import clustered
from tests.support.pools import append, codes_of, columns_of
from tests.support.subprocesses import output

pytest.importorskip("faiss")

VECTORS = clustered(np.random.default_rng(0), 1_500)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


def make_index(path: Path | None = None) -> Index:
    """Return an index with pools and some records."""
    index = Index.embedded(path, type="dense", dimension=32, pool_from=1)
    index.upsert([(str(row), vector.tolist()) for row, vector in enumerate(VECTORS[:1_000])])
    return index


def search(index: Index, row: int = 7) -> None:
    """Require that a record is found by its vector, as soon as it is asked for and on the pages of a search."""
    assert str(row) == index.query(VECTORS[row], 1)[0].id
    page, handle = index.resumable_query(VECTORS[row], 10)
    with handle:
        found = [*page, *handle.fetch_next(200)]
    assert 210 == len({match.id for match in found})


def search_and_train(index: Index) -> None:
    """Search while codes are made, and once they are, and make codes in this thread and in another one."""
    search(index)
    wait(index)
    search(index)
    index.upsert([("new", VECTORS[1_200].tolist())])
    assert "new" == index.query(VECTORS[1_200], 1)[0].id
    threads = [threading.Thread(target=make_codes) for _ in range(2)]
    for thread in threads:
        thread.start()
    make_codes()
    for thread in threads:
        thread.join()


def wait(index: Index) -> None:
    """Wait until the codes of an index are made."""
    index._transport._open().engine._pools.wait()  # type: ignore[attr-defined]  # an index in this process


def make_codes() -> None:
    """Train a codebook, and append codes at once and one by one."""
    columns = columns_of(VECTORS[:1_000])
    codes = codes_of(columns.snapshot, Similarity.COSINE)
    for row in range(1_000, 1_040):
        append(columns, VECTORS[row : row + 1], row)
        codes.extend(columns.snapshot)
    assert 1_040 == len(codes)


def work(path: str) -> int:
    """Do all of that in a process of a pool of processes; `path` is that of an index in a file, or empty."""
    with make_index(Path(path) / str(os.getpid()) if path else None) as index:
        search_and_train(index)
    return os.getpid()


FORK = """
import os, sys, threading, warnings
from pathlib import Path
import numpy as np
from tests.engine.pool.test_processes import VECTORS, make_codes, make_index, search, search_and_train, wait

warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads from 3.12 on
moment, path = sys.argv[1:]
if moment == "others":  # use faiss, too, and numpy's linear algebra, with all the threads there are
    import faiss
    faiss.omp_set_num_threads(2)
    faiss.Kmeans(32, 20).train(VECTORS)
    VECTORS @ VECTORS.T
index = make_index(Path(path) if path else None)
ended = threading.Event()
threads = []
if moment != "train":
    search(index)
if moment == "others":
    wait(index)
    search(index)
if moment == "busy":
    def go_on(run):
        while not ended.is_set():
            run()
    threads = [threading.Thread(target=go_on, args=[run]) for run in (make_codes, lambda: search(index))]
    for thread in threads:
        thread.start()
if moment == "train":  # its thread trains while the process is forked
    index.query(VECTORS[0], 1)
children = []
for _ in range(2 if moment == "busy" else 1):
    child = os.fork()
    if not child:
        if path:
            index = make_index(Path(path + str(os.getpid())))
        search_and_train(index)
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
ended.set()
for thread in threads:
    thread.join()
search_and_train(index)
index.close()
print({*statuses})
"""


@forks
@pytest.mark.parametrize("moment", ["train", "others", "busy"])
def test_fork(moment: str) -> None:
    """A process that was forked searches and makes codes, whatever the process before it had done, or was doing."""
    assert "{0}" == output(FORK, moment, "")


@forks
def test_fork_with_a_file(tmp_path: Path) -> None:
    """So it does if the index is a file, in which codes may just be stored."""
    assert "{0}" == output(FORK, "busy", tmp_path / "index")


MULTIPROCESSING = """
import multiprocessing, sys, warnings
from tests.engine.pool import test_processes

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    test_processes.work("")
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        processes = pool.map(test_processes.work, [sys.argv[2]] * 2, chunksize=1)
        pool.close()
        pool.join()
    print(0 < len({*processes}) <= 2)
"""


@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & {*multiprocessing.get_all_start_methods()}))
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    """Processes of a pool of processes search indexes of their own, however they are started."""
    assert "True" == output(MULTIPROCESSING, method, tmp_path)


BESIDE = """
import threading, time
import faiss, numpy as np
from tests.engine.pool.test_processes import VECTORS, make_codes, make_index, search, wait

index = make_index()
search(index)
wait(index)
end = time.monotonic() + 1.0
failures = []

def go_on(run):
    try:
        while time.monotonic() < end:
            run()
    except BaseException as error:
        failures.append(repr(error))

def write():
    row = int(time.monotonic() * 1e6)
    index.upsert([(f"{row}-{n}", VECTORS[1_000 + (row + n) % 500].tolist()) for n in range(40)])

def use_faiss():  # with as many threads as it likes
    flat = faiss.IndexFlatIP(32)
    flat.add(VECTORS)
    flat.search(VECTORS[:100], 5)

runs = [lambda: VECTORS @ VECTORS.T, use_faiss, make_codes, write, lambda: search(index), lambda: search(index, 70)]
threads = [threading.Thread(target=go_on, args=[run]) for run in runs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
index.close()
print(failures)
"""


def test_threads() -> None:
    """Searches, writes, codes, numpy's linear algebra and other users of faiss run beside each other."""
    assert "[]" == output(BESIDE)
