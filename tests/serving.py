"""A server on a free port of this machine, run in a thread."""

import threading
from types import TracebackType
from typing import Any, Self

import uvicorn

from nextk.engine.opening import open_engine
from nextk.engine.protocol import Engine
from nextk.server.app import create_app
from nextk.server.listening import configure, listen, url_of

TOKEN = "test-token"
READ_ONLY_TOKEN = "test-read-only-token"


class LocalServer:
    """Serves whatever is in `engines`, from entering the block until leaving it; then closes them all.

    Attributes:
        url: The base URL; the first index answers there, each one at `index_url(name)`.
        token: What clients have to send.
        read_only_token: What clients that only read may send.
        engines: The indexes by name; add to it at any time.
    """

    def __init__(self, **options: Any) -> None:
        self.token, self.read_only_token = TOKEN, READ_ONLY_TOKEN
        self.engines: dict[str, Engine] = {}
        app = create_app(self.engines, **{"token": TOKEN, "read_only_token": READ_ONLY_TOKEN, **options})
        self._listener = listen("127.0.0.1", 0, protected=True)
        self.url = url_of(self._listener)
        self._server = uvicorn.Server(configure(app, graceful_seconds=1))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)

    def add(self, name: str, **keywords: Any) -> str:
        """Serve a new index in memory, with the keywords of `Index.embedded`; returns its base URL."""
        self.engines[name] = open_engine(None, keywords, name=name)
        return self.index_url(name)

    def index_url(self, name: str) -> str:
        """The base URL of one index."""
        return f"{self.url}/indexes/{name}"

    def __enter__(self) -> Self:
        self._thread.start()  # the socket listens already: whoever connects now is answered as soon as all is up
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
        for engine in self.engines.values():
            engine.close()
