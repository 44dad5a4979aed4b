"""Fixtures of all tests: the four transports, and a server for those that need one. Hooks that keep the suite fast."""

import ast
import functools
import gc
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from nextk import Index
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from tests.support.local_server import LocalServer
from tests.support.sentence_index import TEXTS, open_queries, sentences
from tests.support.transports import TRANSPORTS, Opener, Wire, wired

if TYPE_CHECKING:
    # The tests of the adapters run without psycopg, too: it is imported where a test wants a server.
    from tests.support.postgres_server import PostgresServer

# An example may take as long as the machine is busy: the other workers are.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}|object at ")


def pytest_configure() -> None:
    """Let one thread at a time build a syntax tree, on Pythons in which two at a time make each other fail.

    pytest, Hypothesis and LangChain all do so. The error would be a `SystemError`: "AST constructor recursion depth
    mismatch"; see https://github.com/python/cpython/issues/106905.
    """
    if sys.version_info < (3, 11, 8) or (3, 12) <= sys.version_info < (3, 12, 2):
        parse, lock = ast.parse, threading.RLock()

        @functools.wraps(parse)
        def parse_alone(*arguments: object, **options: object) -> object:
            with lock:
                return parse(*arguments, **options)  # type: ignore[call-overload]

        vars(ast)["parse"] = parse_alone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse ids that differ from process to process, because the workers have to agree on what there is to run."""
    if unstable := [item.nodeid for item in items if _ADDRESS.search(item.nodeid)]:
        message = f"these ids hold the address of an object; give the parameters ids: {unstable}"
        raise pytest.UsageError(message)


def pytest_collection_finish() -> None:
    """Spare the collector whatever the imports have made: tests that collect garbage look at their own alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def local_server() -> Iterator[LocalServer]:
    """A server in a thread of this process; tests put their engines behind it."""
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["PostgresServer"]:
    """A PostgreSQL server with pgvector, which each process of the tests starts once, if a test needs it."""
    from tests.support.postgres_server import postgres_running

    with postgres_running() as server:
        yield server


@pytest.fixture
def postgres_schema(postgres_server: "PostgresServer") -> Iterator[str]:
    """The name of a database schema on the server that does not exist yet; it is dropped after the test."""
    from tests.support.postgres_server import fresh_schema

    with fresh_schema(postgres_server) as name:
        yield name


@pytest.fixture(scope="session")
def shared_schema(postgres_server: "PostgresServer") -> Iterator[tuple[str, str]]:
    """The connection string, and a database schema for indexes of many tests, which have names of their own."""
    from tests.support.postgres_server import fresh_schema

    with fresh_schema(postgres_server) as name:
        yield postgres_server.dsn, name


@pytest.fixture(params=TRANSPORTS)
async def open_index(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Open indexes over each transport in turn; afterwards none of them may hold an open query."""
    way: str = request.param
    server: LocalServer | None = request.getfixturevalue("local_server") if way.endswith("http") else None
    opener = Opener(way, server)
    yield opener
    assert opener.leaves_open == await opener.close()


@pytest.fixture(params=["dispatch", "http"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """The raw protocol of a dense index of one dimension; afterwards it may hold no open query."""
    engine = open_engine(None, {"type": "dense", "dimension": 1}, name="wire")
    assert isinstance(engine, EmbeddedEngine)
    with wired(engine, request.getfixturevalue("local_server") if request.param == "http" else None) as wire:
        yield wire


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """A hybrid index that embeds text."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture
def index(shared: Index) -> Iterator[Index]:
    """A hybrid index that embeds text; afterwards it holds no open query."""
    yield shared
    assert 0 == open_queries(shared)
