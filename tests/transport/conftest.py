"""Fixtures of the tests of the transports: a client of either colour."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from nextk import AsyncIndex, Index
from tests.support.scripted_server import TOKEN, ScriptedServer
from tests.support.transports import Awaitable


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    """Both colours of the client."""
    return str(request.param)


@pytest.fixture
def client(colour: str) -> Callable[..., AsyncIndex]:
    """Makes a client of either colour that does not wait between attempts."""

    def make(server: ScriptedServer | str, retries: int = 2, **options: Any) -> AsyncIndex:
        url = server if isinstance(server, str) else server.url
        if colour == "async":
            return AsyncIndex(url, TOKEN, retries, 0.0, **options)
        return cast("AsyncIndex", Awaitable(Index(url, TOKEN, retries, 0.0, **options)))

    return make
