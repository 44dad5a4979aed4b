"""The contract of an index holds over each transport to the embedded engine, and on PostgreSQL."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.postgres.database import DatabaseAddress
from nextk.postgres.factory import open_engine as open_postgres
from tests.support.transports import POSTGRES, TRANSPORTS, Opener, Wire, wired

_numbers = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let the tests of a module go in every way, or in its `WAYS` if it is about one engine, or as a test says."""
    chosen = any("open_index" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "open_index" in metafunc.fixturenames and not chosen:
        ways = getattr(metafunc.module, "WAYS", [*TRANSPORTS, *POSTGRES])
        metafunc.parametrize("open_index", ways, indirect=True)


@pytest.fixture
async def open_index(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Open indexes in one way; afterwards none of them may hold an open query."""
    way: str = request.param
    opener = Opener(way)
    if way.endswith("http"):
        opener.server = request.getfixturevalue("local_server")
    if way in POSTGRES:
        opener.database = request.getfixturevalue("shared_schema")
    yield opener
    assert opener.leaves_open == await opener.close()


@pytest.fixture(params=["dispatch", "http", "postgres"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """The raw protocol of a dense index of one dimension; afterwards it may hold no open query."""
    keywords = {"type": "dense", "dimension": 1}
    if request.param == "postgres":
        dsn, schema = request.getfixturevalue("shared_schema")
        engine: Engine = open_postgres(DatabaseAddress(dsn, schema, f"wire-{next(_numbers)}"), keywords)
    else:
        engine = open_engine(None, keywords, name="wire")
    with wired(engine, request.getfixturevalue("local_server") if request.param == "http" else None) as wire:
        yield wire
