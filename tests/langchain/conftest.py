"""A LangChain vector store of nextk for tests of what takes a store, in each colour."""

from collections.abc import AsyncIterator

import pytest

from nextk.langchain import ResumableVectorStore
from tests.support.local_server import LocalServer
from tests.support.transports import Opener
from tests.support.vector_stores import Colour, colour_of, store_over


@pytest.fixture(
    params=[
        ("sync-in-process", "hybrid-index"),
        ("sync-in-process", "dense-models"),
        ("async-in-process", "hybrid-index"),
        ("async-in-process", "dense-models"),
        ("sync-http", "hybrid-models"),
        ("async-http", "dense-models"),
    ],
    ids="-".join,
)
async def consumed(
    request: pytest.FixtureRequest, local_server: LocalServer
) -> AsyncIterator[tuple[ResumableVectorStore, Colour]]:
    """An empty store, and what calls its consumers in the colour of its index; no open query may be left behind."""
    way, kind = request.param
    opener = Opener(way, local_server if way.endswith("http") else None)
    yield store_over(opener, kind), colour_of(opener)
    assert 0 == await opener.close()


@pytest.fixture
def store(consumed: tuple[ResumableVectorStore, Colour]) -> ResumableVectorStore:
    """An empty store: over an index that embeds, or with models of the caller's."""
    return consumed[0]


@pytest.fixture
def run(consumed: tuple[ResumableVectorStore, Colour]) -> Colour:
    """Calls a method of a consumer in the colour of the store's index."""
    return consumed[1]
