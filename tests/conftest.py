"""What the tests share: the four transports, and a server for those that need one."""

from collections.abc import AsyncIterator, Iterator

import pytest

from nextk import Index
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from tests.support.local_server import LocalServer
from tests.support.sentence_index import TEXTS, open_queries, sentences
from tests.support.transports import TRANSPORTS, Opener, Wire


@pytest.fixture(scope="session")
def local_server() -> Iterator[LocalServer]:
    """A server in a thread of this process; tests put their engines behind it."""
    with LocalServer() as server:
        yield server


@pytest.fixture(params=TRANSPORTS)
async def open_index(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Opens indexes over each transport in turn; afterwards none of them may hold an open query."""
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
    if request.param == "http":
        server: LocalServer = request.getfixturevalue("local_server")
        server.engines["wire"] = engine
        yield Wire(engine, server.index_url("wire"), server.token)
        del server.engines["wire"]
    else:
        yield Wire(engine)
    assert 0 == engine.open_queries()
    engine.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """A hybrid index that embeds text."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture
def index(shared: Index) -> Iterator[Index]:
    """The same; afterwards it holds no open query."""
    yield shared
    assert 0 == open_queries(shared)
