"""The end of a process: which queries it leaves open on a server, and how long it takes."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nextk import Index
from tests.support.local_server import LocalServer
from tests.support.scripted_server import ScriptedServer, late, result, unused_url
from tests.support.subprocesses import output, python

PRELUDE = """
import weakref
weakref.finalize(weakref, id, 0)  # finalisers that are there before nextk run at the very end, after nextk's own end
import asyncio, atexit, gc, os, sys, threading, time, warnings
warnings.filterwarnings("ignore", "unclosed", ResourceWarning)  # the connections of the indexes
from nextk import AsyncIndex, Index
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchQuery

url, token = sys.argv[1:3]
index, async_index = Index(url, token), AsyncIndex(url, token)
query, reader = SearchQuery(vector=[1.0]), RowReader(lambda match: match.id)

def handle():
    return index.resumable_query([1.0], top_k=1)[1]

async def async_handle():
    return (await async_index.resumable_query([1.0], top_k=1))[1]

def session():
    search = RetrievalSession(index, query, reader)
    search.fetch_next(1)
    return search

async def async_session():
    search = AsyncRetrievalSession(async_index, query, reader)
    await search.fetch_next(1)
    return search
"""
"""What each script begins with: functions that open queries in each of the four ways."""

ALL_FOUR = """
async def both():
    return [await async_handle(), await async_session()]

kept = [handle(), session(), *asyncio.run(both())]
print(len(kept), flush=True)
"""


@pytest.fixture
def served(local_server: LocalServer) -> Iterator[tuple[Any, str]]:
    """An index of three records behind a server: its engine, and its URL."""
    url = local_server.add("exit", type="dense", dimension=1)
    with Index(url, local_server.token) as index:
        index.upsert([(name, [1.0]) for name in "abc"])
    engine = local_server.engines["exit"]
    yield engine, url
    del local_server.engines["exit"]
    engine.close()


def run(code: str, url: str, token: str, *arguments: object) -> tuple[int, str, str]:
    """Run a script, and return its exit code and what it has printed on stdout and stderr."""
    with python(PRELUDE + code, url, token, *arguments) as process:
        printed, complaints = process.communicate(timeout=60)
    return process.returncode, printed.strip(), complaints


ENDINGS = {
    "the end": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "exception": ("raise ValueError('as it may happen')", 1, "ValueError: as it may happen"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -2, "KeyboardInterrupt"),
    "sys.exit in a loop": ("async def leave():\n    sys.exit(3)\nasyncio.run(leave())", 3, ""),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_global_variables(ending: str, served: tuple[Any, str], local_server: LocalServer) -> None:
    """Handles and sessions of both colours that are left in global variables are stopped however a script ends."""
    engine, url = served
    code, expected, complaint = ENDINGS[ending]
    returned, printed, complaints = run(ALL_FOUR + code, url, local_server.token)
    assert (expected, "4") == (returned, printed)
    assert complaints.strip().endswith(complaint)
    assert complaint or not complaints, "an orderly end says nothing"
    assert 0 == engine.open_queries()


HOLDERS = {
    "index dropped before its handles": """
del index, async_index
gc.collect()
""",
    "index closed before its handles": """
index.close()
asyncio.run(async_index.close())
""",
    "reference cycle": """
ring = [kept]
ring.append(ring)
gc.disable()
del kept, ring
""",
    "daemon thread": """
def hold(held):
    ready.set()
    time.sleep(60)

ready = threading.Event()
threading.Thread(target=hold, args=(kept,), daemon=True).start()
ready.wait()
del kept
""",
    "thread": """
def use(held):
    time.sleep(0.3)
    print(held[0].fetch_next(1)[0].id)

threading.Thread(target=use, args=(kept,)).start()
""",
    "parked": """
async def detach():
    await kept[3].detach()

kept[1].detach()
asyncio.run(detach())
""",
    "lost page": """
from nextk.handle import HandleStatus
kept[0]._state.status = HandleStatus.UNCERTAIN
""",
    "stopped": """
kept[0].stop()
kept[1].stop()
""",
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_whoever_holds_them(holder: str, served: tuple[Any, str], local_server: LocalServer) -> None:
    """Queries are stopped at the end wherever their handles are, and whatever happened to them before."""
    engine, url = served
    code = ALL_FOUR + HOLDERS[holder]
    returned, printed, complaints = run(code, url, local_server.token)
    assert (0, "") == (returned, complaints)
    assert printed == ("4\nb" if holder == "thread" else "4")
    assert 0 == engine.open_queries()


FORK = """
child = os.fork()
if child == 0:
    own = handle()
    session().detach()
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print([match.id for match in kept[0].fetch_next(1)], kept[1].fetch_next(1))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_fork(served: tuple[Any, str], local_server: LocalServer) -> None:
    """A forked child that ends stops what it opened itself, and leaves the queries of its parent alone."""
    engine, url = served
    returned, printed, complaints = run(ALL_FOUR + FORK, url, local_server.token)
    assert (0, "") == (returned, complaints)
    assert ["4", "5", "['b'] ['b']"] == printed.splitlines()
    assert 0 == engine.open_queries()


WORKERS = """
import multiprocessing
import nextk

def work(url, token, inherited=None):
    own = (inherited or nextk.Index(url, token)).resumable_query([1.0], top_k=1)[1]
    own.fetch_next(1)
    work.kept = own

if __name__ == "__main__":
    import sys
    index = nextk.Index(*sys.argv[1:3])
    kept = index.resumable_query([1.0], top_k=1)[1]
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        extra = (index,) if method == "fork" else ()
        worker = context.Process(target=work, args=(*sys.argv[1:3], *extra))
        worker.start()
        worker.join()
        print(worker.exitcode)
    print(kept.fetch_next(1)[0].id)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_workers(served: tuple[Any, str], local_server: LocalServer, tmp_path: Path) -> None:
    """A process of `multiprocessing`, forked or spawned, stops what it opened, though it calls nothing of `atexit`."""
    engine, url = served
    (tmp_path / "script.py").write_text(WORKERS)
    code = (
        "import runpy, sys\nsys.argv = [sys.argv[3], *sys.argv[1:3]]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    returned, printed, complaints = run(code, url, local_server.token, tmp_path / "script.py")
    assert (0, ["0", "0", "b"]) == (returned, printed.splitlines()), complaints
    assert 0 == engine.open_queries()


HELD = """
import atexit, sys, time
from nextk import Index
from nextk.handle import ResumableQueryHandle
kept = [ResumableQueryHandle(Index(url, "t")._transport, uuid) for url in sys.argv[1:] for uuid in "abcdefgh"]
"""


def silent(stack: ExitStack) -> tuple[socket.socket, str]:
    """A server that accepts connections and never answers, and its URL."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_one_deadline() -> None:
    """Silent servers take no time from a slow one: all of its queries are stopped, as it is asked for several at once.

    One after the other, the eight stops would take longer than the deadline allows.
    """
    with ExitStack() as stack:
        urls = [silent(stack)[1] for _ in range(3)]
        slow = stack.enter_context(ScriptedServer(*[late(result("Success"), 0.3)] * 8))
        assert "" == output(HELD, *urls, slow.url, unused_url())
        assert list("abcdefgh") == sorted(seen.body["uuid"] for seen in slow.seen)


def test_a_name_that_has_to_be_looked_up() -> None:
    """A server that is named, and not given by its number, is asked as well, though the process starts no thread."""
    with ScriptedServer() as server:
        assert "" == output(HELD, server.url.replace("127.0.0.1", "localhost"))
        assert list("abcdefgh") == sorted(seen.body["uuid"] for seen in server.seen)


def test_an_interruption() -> None:
    """Whoever presses Ctrl-C while the process stops its queries ends it at once, and sees no traceback."""
    with ExitStack() as stack:
        listener, url = silent(stack)
        with python(HELD, url) as process:
            stack.enter_context(listener.accept()[0])
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=60)
        assert (0, "") == (process.returncode, complaints)


def test_nothing_is_kept_alive() -> None:
    """What is registered for the end of the process keeps no handle, no pool and no index alive."""
    code = """
import gc, weakref
from nextk import Index
from nextk.handle import ResumableQueryHandle
from nextk.sessions.pool import pool_of
from nextk.transport import orphans

index = Index("http://127.0.0.1:1", "t")
handle = ResumableQueryHandle(index._transport, "u")
handle._state.detach_uuid()
watched = [weakref.ref(each) for each in (handle, pool_of(index._transport), index._transport)]
assert 2 == len(orphans._at_exit)
del handle, index
gc.collect()
print([each() for each in watched], len(orphans._at_exit))
"""
    assert "[None, None, None] 0" == output(code)


EMBEDDED = """
import atexit
def late():
    for use in (lambda: index.query([1.0]), lambda: index.upsert([("b", [1.0])])):
        try:
            use()
        except ClientError as error:
            print(error)
atexit.register(late)  # what is registered first is called last

import sys, threading, time
from nextk import Index
from nextk.errors import ClientError

def hold(held):
    ready.set()
    time.sleep(60)

index = Index.embedded(sys.argv[1], type="dense", dimension=1)
index.upsert([("a", [1.0])])
kept = index.resumable_query([1.0], top_k=1)
ready = threading.Event()
threading.Thread(target=hold, args=(index,), daemon=True).start()
ready.wait()
"""


def test_a_file(tmp_path: Path) -> None:
    """The file of an index is closed at the end, even if a thread holds the index: nothing is left beside it.

    Whoever uses the index even later is told so.
    """
    with python(EMBEDDED, tmp_path / "i") as process:
        printed, complaints = process.communicate(timeout=60)
    assert (0, "this index is closed\n" * 2, "") == (process.returncode, printed, complaints)
    assert ["i"] == [path.name for path in tmp_path.iterdir()]
    with Index.embedded(tmp_path / "i") as index:
        assert 1 == index.info().vector_count


OF_PARENT = """
import os, sys
from nextk import Index

index = Index.embedded(sys.argv[1], type="dense", dimension=1)
index.upsert([("a", [1.0])])
child = os.fork()
if child == 0:
    sys.exit(5)
assert 5 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
index.upsert([("b", [1.0])])
print(len(index.query([1.0], top_k=5)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_file_of_the_parent(tmp_path: Path) -> None:
    """A forked child that ends does not close the file of its parent."""
    assert "2" == output(OF_PARENT, tmp_path / "i")
